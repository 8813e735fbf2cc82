//! Which algorithm runs a pass of a convolution, and with what constants: arithmetic on the problem
//! alone, without a device.

use std::fmt;
use std::str::FromStr;

use super::args::index;
use super::conv_task::{Copies, Task};
use super::launch::Grid;
use super::plan::{Product, Split, THREADS, Tile};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::problem::Pass;
use crate::shape::Layout;

/// How the passes of a convolution are computed on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Implicit matrix products on CUDA cores: every problem and every element type.
    Simt,
    /// Implicit matrix products on tensor cores (sm_80 and newer): f16 and bf16 with sums in f32,
    /// f64, and f32 where [`MathMode::Tf32`] allows it.
    TensorCore,
    /// No matrix product, a sum for every element of the result: for groups of few channels,
    /// depthwise above all.
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
    /// Which of the plans is taken, counted around: 0 but in tests, which want to run them all.
    pub nth: usize,
    /// Bytes that no plan may pass.
    pub workspace_limit: Option<usize>,
}

/// How a pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub algorithm: Algorithm,
    pub product: Product,
    pub tile: Tile,
    /// How the sum of a weight gradient is cut; of other passes, not at all.
    pub split: Split,
    /// Shared memory of a block.
    pub shared_bytes: usize,
    /// What tensor cores read, the result's layout apart: with other than the task's, activations
    /// are rearranged first.
    pub activation: Layout,
    pub copies: Copies,
    pub workspace: Workspace,
}

/// Bytes of the memory that a plan takes beside the operands, by what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Workspace {
    /// The weight as tensor cores take it.
    pub packed: usize,
    /// A copy of a weight gradient for every split of its sum.
    pub partial: usize,
    /// The gathered activation, rearranged.
    pub gathered: usize,
    /// `dy` of wgrad, rearranged.
    pub other: usize,
}

impl Workspace {
    pub fn total(&self) -> usize {
        let parts = [self.packed, self.partial, self.gathered, self.other];
        parts.into_iter().fold(0, usize::saturating_add)
    }
}

/// Steps of a weight gradient's sum below which cutting it does not pay.
const LEAST_SPLIT: usize = 256;
/// The same where every thread of a block walks steps of its own.
const LEAST_DIRECT_SPLIT: usize = 2048;

/// Elements on the last axis that a thread of `conv_direct_rows` owns.
pub(super) const DIRECT_RUN: usize = 4;
/// (tap, channel) that a block of `conv_direct_wgrad` sums at once.
const DIRECT_CELLS: usize = 9;

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
            Algorithm::Direct => true,
            Algorithm::TensorCore => {
                let element = match task.dtype {
                    DType::F16 | DType::BF16 | DType::F64 => true,
                    DType::F32 => traits.math == MathMode::Tf32,
                };
                element && traits.compute >= 80 && task.packed_length() < COUNTABLE
            }
        }
    }

    /// Tiles of a block that there are and that a task can fill, the better one first.
    fn tiles(self, task: &Task) -> &'static [Tile] {
        let product = task.product();
        let all = match self {
            Algorithm::Direct => false,
            Algorithm::Simt => task.dtype == DType::F32,
            Algorithm::TensorCore => task.dtype != DType::F64,
        };
        if !all {
            return &[Tile::SMALL];
        }
        if product.columns <= 32 {
            return match product.rows {
                0..=64 => &[Tile::SMALL, Tile::NARROW],
                _ => &[Tile::NARROW, Tile::SMALL],
            };
        }
        if product.rows <= 64 || product.columns <= 64 {
            return &[Tile::SMALL];
        }
        let can_split = match task.pass {
            Pass::Fprop | Pass::Dgrad => 1,
            Pass::Wgrad => task.steps().div_ceil(LEAST_SPLIT),
        };
        match product.is_large(can_split) {
            true => &[Tile::LARGE, Tile::SMALL],
            false => &[Tile::SMALL, Tile::LARGE],
        }
    }

    /// Layouts of the activations that it may read, the better one first. Pixels that do not lie
    /// side by side under every tap are brought one by one; once the activation is rearranged to
    /// channels last they come in whole chunks, which is worth it when every element is used often.
    fn activations(self, task: &Task, tile: Tile) -> impl Iterator<Item = Layout> {
        let (own, last) = (task.layouts.activation, Layout::ChannelsLast);
        let others = Copies::of(task, tile, last);
        let gains = others.gathered > Copies::of(task, tile, own).gathered;
        let other = (self == Algorithm::TensorCore && own != last && gains).then_some(last);
        let (cg, kg) = task.channels();
        let uses = match task.pass {
            Pass::Fprop | Pass::Dgrad => task.taps().saturating_mul(task.product().columns),
            Pass::Wgrad => task.taps().saturating_mul(cg.min(kg)),
        };
        let worth = uses >= 512 && cg >= 32 && kg >= 32;
        let (first, second) = match other {
            Some(last) if worth => (last, Some(own)),
            _ => (own, other),
        };
        [first].into_iter().chain(second)
    }

    /// Whether it is likely the faster one where it applies.
    fn pays(self, task: &Task, traits: &Traits) -> bool {
        let product = task.product();
        let few = product.columns <= 4 && task.gathered_channels() <= 4;
        let fills = product.rows >= 16 && task.depth() >= 16;
        match self {
            Algorithm::Simt => true,
            // Tiles that stay mostly empty still win: tensor cores are 8 to 16 times as fast as
            // others, in f64 twice, and that only in chips for data centres.
            Algorithm::TensorCore => match task.dtype {
                DType::F64 => {
                    fills && product.columns >= 32 && matches!(traits.compute, 80 | 90 | 100)
                }
                _ => fills && product.columns >= 2,
            },
            // A tile would be empty but for these columns.
            Algorithm::Direct => few,
        }
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let expected = "simt, tensor_core or direct";
        let found = Algorithm::ALL.into_iter().find(|a| a.name() == s);
        found.ok_or_else(|| Error::argument("algorithm", expected, s))
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
    let plan = match traits.nth {
        0 => visit(task, traits, |_| true)?,
        nth => {
            let all = plans(task, traits)?;
            all.get(nth % all.len().max(1)).copied()
        }
    };
    plan.ok_or_else(|| Error::Unsupported {
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
            for activation in algorithm.activations(task, tile) {
                for split in splits(task, algorithm, tile)? {
                    let plan = Plan::new(task, algorithm, tile, activation, split);
                    if plan.workspace.total() <= limit && enough(plan) {
                        return Ok(Some(plan));
                    }
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
    let others = all.filter(move |&a| a.pays(task, traits) && Some(a) != preferred);
    preferred.into_iter().chain(others)
}

/// How to cut the sum of a pass: as the number of blocks asks for, then coarser down to not at all,
/// which takes less memory, then finer.
fn splits(task: &Task, algorithm: Algorithm, tile: Tile) -> Result<impl Iterator<Item = Split>> {
    let mut all = [Split::NONE; 6];
    if task.pass == Pass::Wgrad {
        let steps = task.steps();
        let (unit, blocks, least) = match algorithm {
            Algorithm::TensorCore => (4 * task.chunk(), task.product().blocks(tile), LEAST_SPLIT),
            Algorithm::Simt => (1, task.product().blocks(tile), LEAST_SPLIT),
            Algorithm::Direct => (1, direct_wgrad_blocks(task), LEAST_DIRECT_SPLIT),
        };
        let best = Split::new(steps, blocks, least)?;
        let n = best.splits as usize;
        let finer = (2 * n).min(steps.div_ceil(least).max(n));
        all[0] = best.in_units(steps, unit);
        for (split, splits) in all[1..].iter_mut().zip([n / 2, n / 4, n / 16, 1, finer]) {
            *split = Split::of(steps, splits)?.in_units(steps, unit);
        }
    }
    let first = move |i: &usize| !all[..*i].contains(&all[*i]);
    Ok((0..all.len()).filter(first).map(move |i| all[i]))
}

/// What tells a plan from the others of its task.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            algorithm,
            tile,
            split,
            activation,
            ..
        } = self;
        write!(
            f,
            "{algorithm}, tile {tile}, {activation}, {} splits",
            split.splits
        )
    }
}

impl Plan {
    /// With the constants that follow from the choices.
    fn new(
        task: &Task,
        algorithm: Algorithm,
        tile: Tile,
        activation: Layout,
        split: Split,
    ) -> Self {
        let accumulator = task.accumulator_bytes();
        Plan {
            algorithm,
            product: task.product(),
            tile,
            split,
            shared_bytes: match (algorithm, task.pass) {
                (Algorithm::TensorCore, _) => mma_shared_bytes(tile, task.chunk()),
                (Algorithm::Simt, _) => simt_shared_bytes(tile, accumulator),
                (Algorithm::Direct, Pass::Wgrad) => direct_shared_bytes(accumulator),
                (Algorithm::Direct, Pass::Fprop | Pass::Dgrad) => 0,
            },
            activation,
            copies: Copies::of(task, tile, activation),
            workspace: workspace(task, algorithm, activation, split),
        }
    }

    /// A block per tile and split.
    pub fn grid(&self) -> Result<Grid> {
        let Plan { tile, split, .. } = *self;
        self.product.grid(tile, split.splits, self.shared_bytes)
    }

    /// The grid of `conv_direct_wgrad`.
    pub fn direct_wgrad_grid(&self, task: &Task) -> Result<Grid> {
        let blocks = direct_wgrad_blocks(task).saturating_mul(self.split.splits as usize);
        let mut grid = Grid::new(index("blocks", blocks)? as u32, THREADS);
        grid.shared_bytes = self.shared_bytes;
        Ok(grid)
    }
}

impl Copies {
    /// What a tile has kernels for: narrow ones have none along pixels.
    fn of(task: &Task, tile: Tile, activation: Layout) -> Self {
        let copies = task.copies(activation);
        let rows = task.pass != Pass::Wgrad;
        match rows && tile == Tile::NARROW && copies.along_rows {
            true => Copies {
                gathered: 1,
                along_rows: false,
                ..copies
            },
            false => copies,
        }
    }
}

/// Blocks of `conv_direct_wgrad` for one split.
fn direct_wgrad_blocks(task: &Task) -> usize {
    let channels = task.problem.out_channels().div_ceil(task.direct_lanes());
    let cells = task.product().rows.div_ceil(DIRECT_CELLS);
    channels.saturating_mul(cells)
}

fn workspace(task: &Task, algorithm: Algorithm, activation: Layout, split: Split) -> Workspace {
    let p = task.problem;
    let length = |channels: usize, positions: [usize; 4]| {
        let sizes = [p.batch(), channels].into_iter().chain(positions);
        let bytes = sizes.fold(task.dtype.size(), usize::saturating_mul);
        if activation == task.layouts.activation {
            0
        } else {
            bytes
        }
    };
    let x = length(p.in_channels(), p.input());
    let dy = length(p.out_channels(), p.output());
    let packs = algorithm == Algorithm::TensorCore && !task.weight_is_packed();
    let packed = if packs {
        task.packed_length().saturating_mul(task.dtype.size())
    } else {
        0
    };
    let partial = task
        .weight_length()
        .saturating_mul(split.splits as usize)
        .saturating_mul(task.accumulator_bytes());
    let none = Workspace::default();
    match task.pass {
        Pass::Fprop => Workspace {
            packed,
            gathered: x,
            ..none
        },
        Pass::Dgrad => Workspace {
            packed,
            gathered: dy,
            ..none
        },
        Pass::Wgrad => Workspace {
            partial: if split.splits > 1 { partial } else { 0 },
            gathered: x,
            other: dy,
            ..none
        },
    }
}

/// What `contract` in `kernels/conv.cuh` cuts its shared memory into.
fn simt_shared_bytes(tile: Tile, accumulator: usize) -> usize {
    let (rows, columns) = (tile.rows as usize, tile.columns as usize);
    let steps = 2 * (1024 / rows);
    let tiles = steps * (rows + 4 + columns + 4) * accumulator;
    PHASES + places(tile, steps) + tiles
}

/// What `contract_mma` in `kernels/mma.cuh` cuts its shared memory into.
fn mma_shared_bytes(tile: Tile, chunk: usize) -> usize {
    let (stages, rows) = (3, (tile.rows + tile.columns) as usize);
    PHASES + places(tile, 2 * 4 * chunk) + stages * rows * 64
}

/// What `wgrad` in `kernels/conv_direct.cu` cuts its shared memory into.
fn direct_shared_bytes(accumulator: usize) -> usize {
    let words = (DIRECT_CELLS * 8).next_multiple_of(16);
    2 * words + DIRECT_CELLS * (16 + THREADS as usize * accumulator)
}

const PHASES: usize = 4 * 48;

fn places(tile: Tile, steps: usize) -> usize {
    let (rows, columns) = (tile.rows as usize, tile.columns as usize);
    rows * (8 + 8 + 16) + columns * 8 + steps * (8 + 8 + 16)
}

#[cfg(test)]
mod tests;
