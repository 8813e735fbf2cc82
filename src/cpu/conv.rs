//! The three contractions of a convolution on the CPU.
//!
//! `fprop` and `dgrad` are [`stencil`]s computed as implicit matrix products ([`gemm`]), `wgrad` is
//! a sum of outer products over images and positions ([`outer`]), and convolutions of one channel a
//! group have kernels without a reduction over channels ([`depthwise`], [`channelwise`]).
//!
//! Every result element is a fixed sequence of operations: neither the number of threads nor the
//! order in which they finish can change a bit.

mod channelwise;
mod depthwise;
mod direct;
mod direct_wgrad;
mod flat;
mod gemm;
mod lines;
#[cfg(test)]
mod naive;
mod outer;
mod pack;
mod pairs;
mod pixels;
mod planes;
mod planes_wgrad;
mod ring;
mod scratch;
mod spectral;
mod split;
mod stencil;
#[cfg(test)]
mod tests;
mod tiling;
mod wgrad;
mod widened;
mod window;

pub use super::simd::{Dispatch, MicroKernel};
pub use scratch::Scratch;

use std::borrow::Cow;

use super::output::Output;
use super::simd::Level;
use super::strides::Strides;
use crate::element::Element;
use crate::error::Result;
use crate::host::Kept;
use crate::ops::{Layouts, Write};
use crate::problem::ConvProblem;
use crate::shape::Layout;
use stencil::Roles;

/// The elements of a weight, and what is kept of them from one call to the next.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Weight<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) kept: Option<&'a Kept>,
}

impl<'a, T> From<&'a [T]> for Weight<'a, T> {
    fn from(values: &'a [T]) -> Self {
        Weight { values, kept: None }
    }
}

/// fprop or dgrad: the problem, the layouts, source, weight and bias, the target.
type Forward<T> =
    fn(&ConvProblem<4>, Layouts, &[T], Weight<T>, Option<&[T]>, &mut [T], Write) -> Result<()>;

/// wgrad: the problem, the layouts, `x` and `dy`, the target.
type Backward<T> = fn(&ConvProblem<4>, Layouts, &[T], &[T], &mut [T], Write) -> Result<()>;

/// The passes of one element type. [`Element`] hands them out from functions without generics, so
/// that the engine is compiled once, here, and not again in every program that uses it.
#[doc(hidden)]
pub struct Passes<T> {
    pub(crate) fprop: Forward<T>,
    pub(crate) dgrad: Forward<T>,
    pub(crate) wgrad: Backward<T>,
}

impl<T: Element> Passes<T> {
    pub(crate) fn new() -> Self {
        Passes {
            fprop,
            dgrad,
            wgrad,
        }
    }
}

/// `y` from `x` and `w`, and the bias of the output channels.
fn fprop<T: Element>(
    p: &ConvProblem<4>,
    layouts: Layouts,
    x: &[T],
    w: Weight<T>,
    bias: Option<&[T]>,
    y: &mut [T],
    write: Write,
) -> Result<()> {
    fprop_at(Level::best(), p, layouts, (x, w, bias), y, write)
}

/// `dx` from `dy` and `w`, and a bias of the input channels.
fn dgrad<T: Element>(
    p: &ConvProblem<4>,
    layouts: Layouts,
    dy: &[T],
    w: Weight<T>,
    bias: Option<&[T]>,
    dx: &mut [T],
    write: Write,
) -> Result<()> {
    dgrad_at(Level::best(), p, layouts, (dy, w, bias), dx, write)
}

/// `dw` from `x` and `dy`.
fn wgrad<T: Element>(
    p: &ConvProblem<4>,
    layouts: Layouts,
    x: &[T],
    dy: &[T],
    dw: &mut [T],
    write: Write,
) -> Result<()> {
    wgrad_at(Level::best(), p, layouts, (x, dy), dw, write)
}

fn fprop_at<T: Element>(
    level: Level,
    p: &ConvProblem<4>,
    layouts: Layouts,
    (x, w, bias): (&[T], Weight<T>, Option<&[T]>),
    y: &mut [T],
    write: Write,
) -> Result<()> {
    let (p, layouts) = simplest(p, layouts);
    let [_, ws, _] = strides(&p, layouts);
    let job = gemm::Job {
        level,
        roles: forward_roles(&p, layouts),
        stencils: stencil::fprop(&p, &ws),
        source: x,
        weight: w.values,
        kept: w.kept,
        bias,
        target: Output::new(y),
        write,
        layout: layouts.activation,
        apart: None,
    };
    job.run()
}

fn dgrad_at<T: Element>(
    level: Level,
    p: &ConvProblem<4>,
    layouts: Layouts,
    (dy, w, bias): (&[T], Weight<T>, Option<&[T]>),
    dx: &mut [T],
    write: Write,
) -> Result<()> {
    let (all, activation) = (p.in_channels(), layouts.activation);
    let (p, layouts) = simplest(p, layouts);
    // channels may be those of all positions
    let bias = bias.map(|bias| repeated(bias, p.in_channels() / all, activation));
    let [_, ws, _] = strides(&p, layouts);
    let job = gemm::Job {
        level,
        roles: forward_roles(&p, layouts).backward(),
        stencils: stencil::dgrad(&p, &ws),
        source: dy,
        weight: w.values,
        kept: w.kept,
        bias: bias.as_deref(),
        target: Output::new(dx),
        write,
        layout: layouts.activation,
        apart: None,
    };
    job.run()
}

fn wgrad_at<T: Element>(
    level: Level,
    p: &ConvProblem<4>,
    layouts: Layouts,
    (x, dy): (&[T], &[T]),
    dw: &mut [T],
    write: Write,
) -> Result<()> {
    let (p, layouts) = simplest(p, layouts);
    let [.., ws, _] = strides(&p, layouts);
    let job = wgrad::Job {
        level,
        roles: forward_roles(&p, layouts),
        stencil: stencil::wgrad(&p, &ws),
        layouts,
        x,
        dy,
    };
    job.run(dw, write)
}

/// The same numbers as those of fewer axes, and their layouts.
fn simplest(p: &ConvProblem<4>, layouts: Layouts) -> (ConvProblem<4>, Layouts) {
    match p.dense(layouts.activation == layouts.weight) {
        // of one position, whose channels follow one another in either layout
        Some(dense) => {
            let last = Layouts {
                activation: Layout::ChannelsLast,
                weight: Layout::ChannelsLast,
            };
            (dense.joined(last.activation), last)
        }
        None => {
            let last = [layouts.activation, layouts.weight] == [Layout::ChannelsLast; 2];
            let p = if last { p.patches() } else { *p };
            (p.joined(layouts.activation), layouts)
        }
    }
}

/// The bias of so many positions.
fn repeated<T: Element>(bias: &[T], positions: usize, layout: Layout) -> Cow<'_, [T]> {
    match layout {
        _ if positions == 1 => Cow::Borrowed(bias),
        Layout::ChannelsFirst => bias
            .iter()
            .flat_map(|&bias| std::iter::repeat_n(bias, positions))
            .collect(),
        Layout::ChannelsLast => Cow::Owned(bias.repeat(positions)),
    }
}

/// What fprop reads and writes.
fn forward_roles(p: &ConvProblem<4>, layouts: Layouts) -> Roles {
    let [xs, ws, ys] = strides(p, layouts);
    Roles {
        batch: p.batch(),
        groups: p.groups(),
        source_channels: p.in_channels() / p.groups(),
        target_channels: p.out_channels() / p.groups(),
        weight_channels: p.in_channels() / p.groups(),
        source: xs,
        target: ys,
        source_size: p.input(),
        target_size: p.output(),
        weight_group: p.out_channels() / p.groups() * ws.outer,
        weight_target: ws.outer,
        weight_source: ws.channel,
        taps_contiguous: layouts.weight == Layout::ChannelsFirst,
    }
}

/// Of `x`, `w` and `y`.
fn strides(p: &ConvProblem<4>, layouts: Layouts) -> [Strides; 3] {
    let channels = p.in_channels() / p.groups();
    [
        Strides::new(layouts.activation, p.in_channels(), p.input()),
        Strides::new(layouts.weight, channels, p.kernel_size()),
        Strides::new(layouts.activation, p.out_channels(), p.output()),
    ]
}
