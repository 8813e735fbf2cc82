//! Which algorithm runs a pass of a convolution, and with what constants: arithmetic on the problem
//! alone, without a device.

use std::fmt;

use super::conv_task::Task;
use super::launch::Grid;
use super::plan::{Product, Split};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::problem::Pass;

/// How the passes of a convolution are computed on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Implicit matrix products on CUDA cores: every problem and every element type.
    Simt,
    /// Implicit matrix products on tensor cores (sm_80 and newer): f16 and bf16 with sums in f32,
    /// and f32 where [`MathMode::Tf32`] allows it.
    TensorCore,
    /// A thread per element of the result, for groups of few channels: depthwise fprop and dgrad.
    Direct,
}

/// What may stand in for arithmetic in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MathMode {
    /// Nothing: f32 is f32.
    #[default]
    Strict,
    /// Factors of an f32 convolution may be rounded to TF32, of 10 fraction bits, on their way into
    /// tensor cores; sums stay in f32.
    Tf32,
}

/// What the planner knows of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Traits {
    /// Compute capability, ten times: 80, 86, 90.
    pub compute: u32,
    pub math: MathMode,
    /// Taken wherever it applies.
    pub preferred: Option<Algorithm>,
    /// Bytes that no plan may pass.
    pub workspace_limit: Option<usize>,
}

/// How a pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub algorithm: Algorithm,
    pub product: Product,
    /// Side of the square tile of a block.
    pub tile: u32,
    /// How the sum of a weight gradient is cut; of other passes, not at all.
    pub split: Split,
    /// Shared memory of a block.
    pub shared_bytes: usize,
    /// fprop and dgrad on tensor cores: channels of a group with those that pad the packed weight.
    pub padded_channels: usize,
    /// Elements that one asynchronous copy of the gathered activation takes.
    pub gathered_width: usize,
    /// The same of the other operand.
    pub other_width: usize,
    /// Memory that it takes beside the operands.
    pub workspace_bytes: usize,
}

/// Steps of a weight gradient's sum below which cutting it does not pay.
const LEAST_SPLIT: usize = 256;

/// Elements that the kernels count in 32 bits: `args::index`.
const COUNTABLE: usize = 1 << 30;

impl Algorithm {
    /// Every algorithm, the most general one first.
    pub const ALL: [Algorithm; 3] = [Algorithm::Simt, Algorithm::TensorCore, Algorithm::Direct];

    /// `simt`, `tensor_core` or `direct`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Simt => "simt",
            Algorithm::TensorCore => "tensor_core",
            Algorithm::Direct => "direct",
        }
    }

    /// Whether it can run this.
    pub(super) fn applies(self, task: &Task, traits: &Traits) -> bool {
        match self {
            Algorithm::Simt => true,
            Algorithm::Direct => task.pass != Pass::Wgrad,
            Algorithm::TensorCore => {
                let element = match task.dtype {
                    DType::F16 | DType::BF16 => true,
                    DType::F32 => traits.math == MathMode::Tf32,
                    DType::F64 => false,
                };
                element && traits.compute >= 80 && task.packed_length() < COUNTABLE
            }
        }
    }

    /// Sides of the square tiles of a block that there are and that a task can fill, the better one
    /// first.
    fn tiles(self, task: &Task) -> Vec<u32> {
        let product = task.product();
        let mma = self == Algorithm::TensorCore;
        let has_large = mma || (self == Algorithm::Simt && task.dtype == DType::F32);
        if !has_large || product.rows <= 64 || product.columns <= 64 {
            return vec![64];
        }
        let can_split = match task.pass {
            Pass::Fprop | Pass::Dgrad => 1,
            Pass::Wgrad => task.steps().div_ceil(LEAST_SPLIT),
        };
        match product.is_large(can_split) {
            true => vec![128, 64],
            false => vec![64, 128],
        }
    }

    /// Whether it is likely the faster one where it applies.
    fn pays(self, task: &Task) -> bool {
        let product = task.product();
        match self {
            Algorithm::Simt => true,
            // Tiles of 64 that stay mostly empty still win: tensor cores are 8 to 16 times as fast.
            Algorithm::TensorCore => {
                product.rows >= 16 && product.columns >= 8 && task.depth() >= 16
            }
            // A tile would be empty but for these columns.
            Algorithm::Direct => product.columns <= 4 && task.gathered_channels() <= 4,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Every sensible plan within the limit, the most promising one first. One that needs no workspace
/// is always there.
pub(super) fn plans(task: &Task, traits: &Traits) -> Result<Vec<Plan>> {
    let limit = traits.workspace_limit.unwrap_or(usize::MAX);
    let mut plans = Vec::new();
    for algorithm in algorithms(task, traits) {
        for tile in algorithm.tiles(task) {
            for split in splits(task, algorithm, tile)? {
                plans.push(Plan::new(task, algorithm, tile, split));
            }
        }
    }
    plans.retain(|plan: &Plan| plan.workspace_bytes <= limit);
    Ok(plans)
}

/// The first of [`plans`].
pub(super) fn plan(task: &Task, traits: &Traits) -> Result<Plan> {
    let first = plans(task, traits)?.into_iter().next();
    first.ok_or_else(|| Error::Unsupported {
        what: format!("{} without an algorithm", task.pass.name()),
    })
}

/// The preferred algorithm, then all that apply and pay, the most special one first; the last is
/// SIMT, which applies to everything.
fn algorithms(task: &Task, traits: &Traits) -> Vec<Algorithm> {
    let applies = |a: &Algorithm| a.applies(task, traits);
    let preferred = traits.preferred.filter(applies);
    let all = Algorithm::ALL.into_iter().rev().filter(applies);
    let others = all.filter(|&a| a.pays(task) && Some(a) != preferred);
    preferred.into_iter().chain(others).collect()
}

/// How to cut the sum of a pass: as the number of blocks asks for, then coarser down to not at all,
/// which takes less memory, then finer.
fn splits(task: &Task, algorithm: Algorithm, tile: u32) -> Result<Vec<Split>> {
    if task.pass != Pass::Wgrad {
        return Ok(vec![Split::NONE]);
    }
    let steps = task.steps();
    let unit = match algorithm {
        Algorithm::TensorCore => 4 * task.chunk(),
        Algorithm::Simt | Algorithm::Direct => 1,
    };
    let best = Split::new(steps, task.product().blocks(tile), LEAST_SPLIT)?;
    let n = best.splits as usize;
    let finer = (2 * n).min(steps.div_ceil(LEAST_SPLIT).max(n));
    let mut all = vec![best.in_units(steps, unit)];
    for splits in [n / 2, n / 4, n / 16, 1, finer] {
        let split = Split::of(steps, splits)?.in_units(steps, unit);
        if !all.contains(&split) {
            all.push(split);
        }
    }
    Ok(all)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            algorithm,
            tile,
            split,
            ..
        } = self;
        write!(f, "{algorithm}, tile {tile}, {} splits", split.splits)
    }
}

impl Plan {
    /// With the constants that follow from the choices.
    fn new(task: &Task, algorithm: Algorithm, tile: u32, split: Split) -> Self {
        let side = tile as usize;
        let mma = algorithm == Algorithm::TensorCore;
        let (gathered_width, other_width) = if mma { task.widths() } else { (1, 1) };
        Plan {
            algorithm,
            product: task.product(),
            tile,
            split,
            shared_bytes: match mma {
                true => mma_shared_bytes(side, task.chunk()),
                false => simt_shared_bytes(side, task.accumulator_bytes()),
            },
            padded_channels: if mma { task.padded_channels() } else { 0 },
            gathered_width,
            other_width,
            workspace_bytes: workspace_bytes(task, algorithm, split),
        }
    }

    /// A block per tile and split.
    pub fn grid(&self) -> Result<Grid> {
        let Plan { tile, split, .. } = *self;
        self.product.grid(tile, split.splits, self.shared_bytes)
    }
}

/// Memory beside the operands: copies of a weight gradient that is summed in stretches, or the
/// packed weight of tensor cores.
fn workspace_bytes(task: &Task, algorithm: Algorithm, split: Split) -> usize {
    match (task.pass, algorithm) {
        (Pass::Wgrad, _) if split.splits > 1 => task
            .weight_length()
            .saturating_mul(split.splits as usize)
            .saturating_mul(task.accumulator_bytes()),
        (Pass::Fprop | Pass::Dgrad, Algorithm::TensorCore) if !task.weight_is_packed() => {
            task.packed_length().saturating_mul(task.dtype.size())
        }
        _ => 0,
    }
}

/// What `contract` in `kernels/conv.cuh` cuts its shared memory into.
fn simt_shared_bytes(tile: usize, accumulator: usize) -> usize {
    let steps = 2 * (1024 / tile);
    let tiles = 2 * steps * (tile + 4) * accumulator;
    PHASES + places(tile, steps) + tiles
}

/// What `contract_mma` in `kernels/mma.cuh` cuts its shared memory into.
fn mma_shared_bytes(tile: usize, chunk: usize) -> usize {
    let stages = 3;
    PHASES + places(tile, 2 * 4 * chunk) + stages * 2 * tile * 64
}

const PHASES: usize = 4 * 48;

fn places(tile: usize, steps: usize) -> usize {
    tile * (8 + 8 + 16 + 8) + steps * (8 + 8 + 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::conv_task::tests::{problem, task};
    use crate::ops::Layouts;
    use crate::problem::{ConvParams, ConvProblem};
    use crate::shape::Layout;

    const AMPERE: Traits = Traits {
        compute: 80,
        math: MathMode::Strict,
        preferred: None,
        workspace_limit: None,
    };

    #[test]
    fn tensor_cores_take_16_bits_and_tf32_when_asked_for() {
        let p = problem(8, [64, 64], 28, 3);
        let chosen = |dtype, traits: Traits| {
            let of = |pass| {
                let task = task(&p, pass, dtype, Layout::ChannelsLast);
                plan(&task, &traits).unwrap().algorithm
            };
            let [fprop, dgrad, wgrad] = Pass::ALL.map(of);
            assert!(fprop == dgrad && dgrad == wgrad);
            fprop
        };
        let tf32 = Traits {
            math: MathMode::Tf32,
            ..AMPERE
        };
        let turing = Traits {
            compute: 75,
            ..tf32
        };
        for dtype in [DType::F16, DType::BF16] {
            assert_eq!(chosen(dtype, AMPERE), Algorithm::TensorCore);
            assert_eq!(chosen(dtype, turing), Algorithm::Simt);
        }
        assert_eq!(chosen(DType::F32, AMPERE), Algorithm::Simt);
        assert_eq!(chosen(DType::F32, tf32), Algorithm::TensorCore);
        assert_eq!(chosen(DType::F64, tf32), Algorithm::Simt);
    }

    #[test]
    fn a_preference_counts_where_it_applies() {
        let p = problem(1, [1, 2], 5, 3);
        let task_of = |dtype| task(&p, Pass::Fprop, dtype, Layout::ChannelsFirst);
        let with = |preferred| Traits {
            preferred,
            ..AMPERE
        };
        let chosen = |dtype, preferred| {
            let plan = plan(&task_of(dtype), &with(preferred)).unwrap();
            plan.algorithm
        };
        let mma = Some(Algorithm::TensorCore);
        assert_eq!(chosen(DType::F16, None), Algorithm::Direct);
        assert_eq!(chosen(DType::F16, Some(Algorithm::Simt)), Algorithm::Simt);
        assert_eq!(chosen(DType::F16, mma), Algorithm::TensorCore);
        assert_eq!(chosen(DType::F32, mma), Algorithm::Direct);
    }

    #[test]
    fn the_tile_grows_with_the_problem() {
        let tile = |p: &ConvProblem<4>, pass, dtype| {
            let task = task(p, pass, dtype, Layout::ChannelsLast);
            plan(&task, &AMPERE).unwrap().tile
        };
        let (small, large) = (problem(1, [64, 64], 14, 3), problem(32, [256, 256], 28, 3));
        for pass in Pass::ALL {
            assert_eq!(tile(&small, pass, DType::F16), 64);
            assert_eq!(tile(&large, pass, DType::F16), 128);
            assert_eq!(tile(&large, pass, DType::F32), 128);
            assert_eq!(tile(&large, pass, DType::F64), 64);
        }
    }

    /// Of every pass, element type and layout of dense, grouped and depthwise problems.
    fn each_task(check: impl Fn(&Task)) {
        let grouped = ConvParams::<2> {
            groups: 4,
            stride: [2, 1],
            ..ConvParams::default()
        };
        let grouped = ConvProblem::new(&[3, 32, 20, 9], &[16, 8, 3, 2], &grouped).unwrap();
        let problems = [
            problem(1, [1, 1], 1, 1),
            problem(32, [256, 256], 28, 3),
            problem(8, [64, 96], 40, 1),
            grouped.lift(),
        ];
        for p in &problems {
            for pass in Pass::ALL {
                for dtype in DType::ALL {
                    for activation in Layout::ALL {
                        for weight in Layout::ALL {
                            let layouts = Layouts { activation, weight };
                            let task = task(p, pass, dtype, activation);
                            check(&Task { layouts, ..task });
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn plans_are_different_and_one_needs_no_workspace() {
        each_task(|task| {
            for preferred in Algorithm::ALL.map(Some).into_iter().chain([None]) {
                let traits = Traits {
                    preferred,
                    ..AMPERE
                };
                let plans = plans(task, &traits).unwrap();
                assert!(plans.iter().any(|p| p.workspace_bytes == 0));
                for (i, plan) in plans.iter().enumerate() {
                    assert!(!plans[..i].contains(plan), "{plan:?} twice");
                    assert!(plan.algorithm.applies(task, &traits));
                    let steps = plan.split.splits as usize * plan.split.length as usize;
                    assert!(task.pass != Pass::Wgrad || steps >= task.steps());
                }
                let wish = preferred.filter(|a| a.applies(task, &traits));
                assert!(wish.is_none_or(|a| plans[0].algorithm == a));
            }
        });
    }

    #[test]
    fn a_workspace_is_as_large_as_what_it_holds() {
        let p = problem(32, [256, 200], 28, 3);
        let bytes = |pass, dtype| {
            let task = task(&p, pass, dtype, Layout::ChannelsLast);
            let plans = plans(&task, &AMPERE).unwrap();
            (plans[0].workspace_bytes, plans[0].split.splits as usize)
        };
        // 200 channels are whole chunks of 8, 256 as well
        let packed = 2 * 9 * 256 * 200;
        assert_eq!(bytes(Pass::Fprop, DType::F16), (packed, 1));
        assert_eq!(bytes(Pass::Dgrad, DType::BF16), (packed, 1));
        assert_eq!(bytes(Pass::Fprop, DType::F32), (0, 1));
        for (dtype, sum) in [(DType::F16, 4), (DType::F32, 4), (DType::F64, 8)] {
            let (bytes, splits) = bytes(Pass::Wgrad, dtype);
            assert!(splits > 1);
            assert_eq!(bytes, 9 * 256 * 200 * splits * sum);
        }
    }

    #[test]
    fn a_limit_takes_the_first_plan_within_it() {
        each_task(|task| {
            let all = plans(task, &AMPERE).unwrap();
            for limit in all.iter().map(|p| p.workspace_bytes).chain([0, 1000]) {
                let traits = Traits {
                    workspace_limit: Some(limit),
                    ..AMPERE
                };
                let first = all.iter().find(|p| p.workspace_bytes <= limit);
                assert_eq!(Some(&plan(task, &traits).unwrap()), first);
            }
        });
    }

    #[test]
    fn shared_memory_fits() {
        for (tile, accumulator) in [(64, 4), (64, 8), (128, 4)] {
            assert!(simt_shared_bytes(tile, accumulator) <= 48 << 10);
        }
        // 100 KiB of a multiprocessor of sm_86 and sm_89, one of it for the system
        assert!(mma_shared_bytes(128, 8) <= 99 << 10);
        assert!(3 * (mma_shared_bytes(64, 8) + 1024) <= 100 << 10);
    }
}
