//! Which algorithm runs a pass of a convolution, and with what constants: arithmetic on the problem
//! alone, without a device.

use std::fmt;

use super::launch::Grid;
use super::plan::{Product, Split};
use crate::element::DType;
use crate::error::Result;
use crate::ops::Layouts;
use crate::problem::{ConvProblem, Pass};
use crate::shape::Layout;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traits {
    /// Compute capability, ten times: 80, 86, 90.
    pub compute: u32,
    pub math: MathMode,
    /// Taken wherever it applies.
    pub preferred: Option<Algorithm>,
}

/// One pass to plan for.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub problem: &'a ConvProblem<4>,
    pub pass: Pass,
    pub dtype: DType,
    pub layouts: Layouts,
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

/// The algorithm for a task and its constants.
pub(super) fn plan(task: &Task, traits: &Traits) -> Result<Plan> {
    let algorithm = choose(task, traits);
    let product = task.product();
    let steps = task.steps();
    let can_split = match task.pass {
        Pass::Fprop | Pass::Dgrad => 1,
        Pass::Wgrad => steps.div_ceil(LEAST_SPLIT),
    };
    let large = product.is_large(can_split) && (task.dtype == DType::F32 || algorithm.is_mma());
    let tile = if large { 128 } else { 64 };
    let mut split = Split {
        splits: 1,
        length: 0,
    };
    if task.pass == Pass::Wgrad {
        split = Split::new(steps, product.blocks(tile), LEAST_SPLIT)?;
    }
    let side = tile as usize;
    let mut plan = Plan {
        algorithm,
        product,
        tile,
        split,
        shared_bytes: simt_shared_bytes(side, if task.dtype == DType::F64 { 8 } else { 4 }),
        padded_channels: 0,
        gathered_width: 1,
        other_width: 1,
    };
    if algorithm.is_mma() {
        let (gathered_width, other_width) = task.widths();
        if task.pass == Pass::Wgrad {
            plan.split = split.in_units(steps, 4 * task.chunk());
        }
        plan.shared_bytes = mma_shared_bytes(side, task.chunk());
        plan.padded_channels = task.padded_channels();
        plan.gathered_width = gathered_width;
        plan.other_width = other_width;
    }
    Ok(plan)
}

/// The preferred algorithm, or else the last of all that apply and pay.
fn choose(task: &Task, traits: &Traits) -> Algorithm {
    let fits = |a: &Algorithm| a.applies(task, traits);
    let last = || {
        let all = Algorithm::ALL.into_iter().rev();
        all.filter(fits).find(|a| a.pays(task))
    };
    let preferred = traits.preferred.filter(fits);
    preferred.or_else(last).unwrap_or(Algorithm::Simt)
}

impl Plan {
    /// A block per tile and split.
    pub fn grid(&self) -> Result<Grid> {
        let Plan { tile, split, .. } = *self;
        self.product.grid(tile, split.splits, self.shared_bytes)
    }
}

impl Algorithm {
    fn is_mma(self) -> bool {
        self == Algorithm::TensorCore
    }
}

impl Task<'_> {
    fn channels(&self) -> (usize, usize) {
        let p = self.problem;
        (p.in_channels() / p.groups(), p.out_channels() / p.groups())
    }

    fn taps(&self) -> usize {
        self.problem.kernel_size().iter().product()
    }

    /// Positions of the result that one phase of a pass computes, per axis; of wgrad: that are
    /// summed.
    pub fn pixels(&self) -> [usize; 4] {
        let p = self.problem;
        match self.pass {
            Pass::Fprop | Pass::Wgrad => p.output(),
            Pass::Dgrad => {
                let (input, stride) = (p.input(), p.stride());
                [0, 1, 2, 3].map(|a| input[a].div_ceil(stride[a]))
            }
        }
    }

    /// Phases of a strided dgrad.
    pub fn phases(&self) -> usize {
        match self.pass {
            Pass::Fprop | Pass::Wgrad => 1,
            Pass::Dgrad => {
                let stride = self.problem.stride();
                stride.iter().fold(1, |n, &s| n.saturating_mul(s))
            }
        }
    }

    /// batch * pixels.
    pub fn steps(&self) -> usize {
        let pixels: usize = self.pixels().iter().product();
        self.problem.batch().saturating_mul(pixels)
    }

    pub fn product(&self) -> Product {
        let (cg, kg) = self.channels();
        let groups = self.problem.groups();
        let (rows, columns) = match self.pass {
            Pass::Fprop => (self.steps(), kg),
            Pass::Dgrad => (self.steps(), cg),
            Pass::Wgrad => (cg.saturating_mul(self.taps()), kg),
        };
        let copies = groups.saturating_mul(self.phases());
        Product {
            rows,
            columns,
            copies,
        }
    }

    /// Length of the sum behind an element of the result.
    fn depth(&self) -> usize {
        let (cg, kg) = self.channels();
        match self.pass {
            Pass::Fprop => cg * self.taps(),
            Pass::Dgrad => kg * self.taps() / self.phases().min(self.taps()),
            Pass::Wgrad => self.steps(),
        }
    }

    /// Elements in 16 bytes.
    fn chunk(&self) -> usize {
        16 / self.dtype.size()
    }

    /// Channels of a group of the activation that fprop and dgrad gather.
    fn gathered_channels(&self) -> usize {
        let (cg, kg) = self.channels();
        if self.pass == Pass::Dgrad { kg } else { cg }
    }

    pub fn padded_channels(&self) -> usize {
        self.gathered_channels().next_multiple_of(self.chunk())
    }

    /// Elements of the weight as fprop and dgrad on tensor cores take it.
    fn packed_length(&self) -> usize {
        let (cg, kg) = self.channels();
        let columns = if self.pass == Pass::Dgrad { cg } else { kg };
        let row = self.padded_channels().saturating_mul(self.taps());
        row.saturating_mul(columns)
            .saturating_mul(self.problem.groups())
    }

    /// How many elements of the gathered activation and of the other operand lie side by side along
    /// the sum, in runs that are aligned to their size.
    fn widths(&self) -> (usize, usize) {
        let p = self.problem;
        let last = self.layouts.activation == Layout::ChannelsLast;
        let width = |run: usize| 1usize << run.trailing_zeros().min(self.chunk().ilog2());
        match self.pass {
            Pass::Fprop | Pass::Dgrad => {
                let gathered = if last { self.gathered_channels() } else { 1 };
                (width(gathered), self.chunk())
            }
            Pass::Wgrad => {
                let pixels = if last { 1 } else { p.output().iter().product() };
                // every tap at every output position is that position of the input
                let flat = p.input() == p.output()
                    && self.taps() == 1
                    && p.stride() == [1; 4]
                    && p.padding() == [(0, 0); 4];
                (width(if flat { pixels } else { 1 }), width(pixels))
            }
        }
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
    use crate::problem::{ConvParams, Padding};

    const AMPERE: Traits = Traits {
        compute: 80,
        math: MathMode::Strict,
        preferred: None,
    };

    fn problem(batch: usize, channels: [usize; 2], size: usize, taps: usize) -> ConvProblem<4> {
        let params = ConvParams::<2> {
            padding: Padding::Same,
            ..ConvParams::default()
        };
        let [c, k] = channels;
        let p = ConvProblem::<2>::new(&[batch, c, size, size], &[k, c, taps, taps], &params);
        p.unwrap().lift()
    }

    fn task(problem: &ConvProblem<4>, pass: Pass, dtype: DType, activation: Layout) -> Task<'_> {
        let weight = Layout::ChannelsFirst;
        Task {
            problem,
            pass,
            dtype,
            layouts: Layouts { activation, weight },
        }
    }

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
    fn copies_are_as_wide_as_their_alignment() {
        for (channels, width) in [(64, 8), (12, 4), (6, 2), (7, 1)] {
            let p = problem(2, [channels, 16], 6, 3);
            let last = task(&p, Pass::Fprop, DType::F16, Layout::ChannelsLast);
            assert_eq!(last.widths(), (width, 8));
            let first = task(&p, Pass::Fprop, DType::F16, Layout::ChannelsFirst);
            assert_eq!(first.widths(), (1, 8));
            let wgrad = task(&p, Pass::Wgrad, DType::F16, Layout::ChannelsFirst);
            assert_eq!(wgrad.widths(), (1, 4), "36 positions");
        }
        let pointwise = problem(2, [5, 7], 6, 1);
        let wgrad = task(&pointwise, Pass::Wgrad, DType::F32, Layout::ChannelsFirst);
        assert_eq!(wgrad.widths(), (4, 4));
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
