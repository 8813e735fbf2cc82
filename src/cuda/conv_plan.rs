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
    fn tiles(self, task: &Task) -> &'static [u32] {
        let product = task.product();
        let mma = self == Algorithm::TensorCore;
        let has_large = mma || (self == Algorithm::Simt && task.dtype == DType::F32);
        if !has_large || product.rows <= 64 || product.columns <= 64 {
            return &[64];
        }
        let can_split = match task.pass {
            Pass::Fprop | Pass::Dgrad => 1,
            Pass::Wgrad => task.steps().div_ceil(LEAST_SPLIT),
        };
        match product.is_large(can_split) {
            true => &[128, 64],
            false => &[64, 128],
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
    let mut plans = Vec::new();
    visit(task, traits, |plan| {
        plans.push(plan);
        false
    })?;
    Ok(plans)
}

/// The first of [`plans`], without the others: every convolution asks for it.
pub(super) fn plan(task: &Task, traits: &Traits) -> Result<Plan> {
    visit(task, traits, |_| true)?.ok_or_else(|| Error::Unsupported {
        what: format!("{} without an algorithm", task.pass.name()),
    })
}

/// Goes through [`plans`] up to the one that is `enough`.
fn visit(
    task: &Task,
    traits: &Traits,
    mut enough: impl FnMut(Plan) -> bool,
) -> Result<Option<Plan>> {
    let limit = traits.workspace_limit.unwrap_or(usize::MAX);
    for algorithm in algorithms(task, traits) {
        for &tile in algorithm.tiles(task) {
            for split in splits(task, algorithm, tile)? {
                let plan = Plan::new(task, algorithm, tile, split);
                if plan.workspace_bytes <= limit && enough(plan) {
                    return Ok(Some(plan));
                }
            }
        }
    }
    Ok(None)
}

/// The preferred algorithm, then all that apply and pay, the most special one first; the last is
/// SIMT, which applies to everything.
fn algorithms(task: &Task, traits: &Traits) -> impl Iterator<Item = Algorithm> {
    let applies = |a: &Algorithm| a.applies(task, traits);
    let preferred = traits.preferred.filter(applies);
    let all = Algorithm::ALL.into_iter().rev().filter(applies);
    let others = all.filter(move |&a| a.pays(task) && Some(a) != preferred);
    preferred.into_iter().chain(others)
}

/// How to cut the sum of a pass: as the number of blocks asks for, then coarser down to not at all,
/// which takes less memory, then finer.
fn splits(task: &Task, algorithm: Algorithm, tile: u32) -> Result<impl Iterator<Item = Split>> {
    let mut all = [Split::NONE; 6];
    if task.pass == Pass::Wgrad {
        let steps = task.steps();
        let unit = match algorithm {
            Algorithm::TensorCore => 4 * task.chunk(),
            Algorithm::Simt | Algorithm::Direct => 1,
        };
        let best = Split::new(steps, task.product().blocks(tile), LEAST_SPLIT)?;
        let n = best.splits as usize;
        let finer = (2 * n).min(steps.div_ceil(LEAST_SPLIT).max(n));
        all[0] = best.in_units(steps, unit);
        for (split, splits) in all[1..].iter_mut().zip([n / 2, n / 4, n / 16, 1, finer]) {
            *split = Split::of(steps, splits)?.in_units(steps, unit);
        }
    }
    let first = move |i: &usize| !all[..*i].contains(&all[*i]);
    Ok((0..all.len()).filter(first).map(move |i| all[i]))
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
mod tests;
