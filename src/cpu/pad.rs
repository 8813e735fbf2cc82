//! Padding modes, their adjoint, and layout changes: every value moves, none is computed.

use super::crew::each;
use super::strides::{Strides, unravel};
use crate::element::Element;
use crate::ops::Write;
use crate::problem::ConvProblem;
use crate::shape::Layout;

/// The input of `p` with its padding made up by the padding mode.
pub(crate) fn pad<T: Element>(p: &ConvProblem<4>, layout: Layout, x: &[T], padded: &mut [T]) {
    let from = Strides::new(layout, p.in_channels(), p.input());
    let folded = p.folded();
    let to = Strides::new(layout, p.in_channels(), folded.input());
    let source = sources(p);
    let pixels: usize = folded.input().iter().product();
    let images = padded.chunks_mut(to.outer).zip(x.chunks(from.outer));
    each(images, |(padded, x)| {
        for pixel in 0..pixels {
            let position = unravel(pixel, folded.input());
            let origin = [0, 1, 2, 3].map(|axis| source[axis][position[axis]]);
            let (i, o) = (from.at(origin), to.at(position));
            for channel in 0..p.in_channels() {
                padded[o + channel * to.channel] = x[i + channel * from.channel];
            }
        }
    });
}

/// The adjoint of [`pad`]: sums every padded position into the input it was copied from.
pub(crate) fn pad_adjoint<T: Element>(
    p: &ConvProblem<4>,
    layout: Layout,
    padded: &[T::Acc],
    dx: &mut [T],
    write: Write,
) {
    let to = Strides::new(layout, p.in_channels(), p.input());
    let folded = p.folded();
    let from = Strides::new(layout, p.in_channels(), folded.input());
    let source = sources(p);
    let pixels: usize = folded.input().iter().product();
    let images = dx.chunks_mut(to.outer).zip(padded.chunks(from.outer));
    each(images, |(dx, padded)| {
        let mut sums: Vec<T::Acc> = match write {
            Write::Overwrite => vec![T::Acc::default(); dx.len()],
            Write::Accumulate => dx.iter().map(|v| v.to_acc()).collect(),
        };
        for pixel in 0..pixels {
            let position = unravel(pixel, folded.input());
            let origin = [0, 1, 2, 3].map(|axis| source[axis][position[axis]]);
            let (i, o) = (from.at(position), to.at(origin));
            for channel in 0..p.in_channels() {
                sums[o + channel * to.channel] += padded[i + channel * from.channel];
            }
        }
        T::narrow(&sums, dx);
    });
}

/// Per axis: the input position that each padded position is copied from.
fn sources(p: &ConvProblem<4>) -> [Vec<usize>; 4] {
    p.axes().map(|axis| {
        (0..axis.padded())
            .filter_map(|i| p.padding_mode().source(i - axis.padding.0, axis.input))
            .collect()
    })
}

/// Moves a tensor of this channels-first shape to layout `to` from the other one.
pub(crate) fn change_layout<T: Element>(shape: &[usize], to: Layout, x: &[T], y: &mut [T]) {
    // an empty tensor's other sizes can be anything: multiply none of them
    if x.is_empty() {
        return;
    }
    let pixels: usize = shape[2..].iter().product();
    let channels = shape[1];
    let (rows, columns) = match to {
        Layout::ChannelsFirst => (pixels, channels),
        Layout::ChannelsLast => (channels, pixels),
    };
    let image = rows * columns;
    let images = y.chunks_mut(image).zip(x.chunks(image));
    each(images, |(y, x)| transpose(rows, columns, x, y));
}

/// `y[column][row] = x[row][column]`, in blocks that stay in the cache.
fn transpose<T: Copy>(rows: usize, columns: usize, x: &[T], y: &mut [T]) {
    const BLOCK: usize = 32;
    for r0 in (0..rows).step_by(BLOCK) {
        for c0 in (0..columns).step_by(BLOCK) {
            for r in r0..rows.min(r0 + BLOCK) {
                for c in c0..columns.min(c0 + BLOCK) {
                    y[c * rows + r] = x[r * columns + c];
                }
            }
        }
    }
}
