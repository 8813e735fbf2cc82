//! Max and average pooling and their gradients.

use super::crew::each;
use super::strides::{Strides, unravel};
use crate::axis::Axis;
use crate::element::{Accumulator, Element};
use crate::pool_problem::PoolProblem;
use crate::shape::Layout;

/// The maximum of every window; NaN wins, and a window without input gives minus infinity.
pub(crate) fn max_pool<T: Element>(p: &PoolProblem<4>, layout: Layout, x: &[T], y: &mut [T]) {
    forward(p, layout, x, y, |window, x| {
        let winner = window.winner(x);
        winner.map_or_else(|| T::from_f64(f64::NEG_INFINITY), |i| x[i])
    });
}

/// The gradient of [`max_pool`]: all of it goes to the first maximum.
pub(crate) fn max_pool_backward<T: Element>(
    p: &PoolProblem<4>,
    layout: Layout,
    x: &[T],
    dy: &[T],
    dx: &mut [T],
) {
    backward(p, layout, x, dy, dx, |window, x, dy, sums| {
        if let Some(winner) = window.winner(x) {
            sums[winner] += dy;
        }
    });
}

/// The mean of every window.
pub(crate) fn avg_pool<T: Element>(p: &PoolProblem<4>, layout: Layout, x: &[T], y: &mut [T]) {
    forward(p, layout, x, y, |window, x| {
        let sum: T::Acc = window.inputs().map(|i| x[i].to_acc()).sum();
        T::from_acc(window.share(sum))
    });
}

/// The gradient of [`avg_pool`]: an equal share to every input of the window.
pub(crate) fn avg_pool_backward<T: Element>(
    p: &PoolProblem<4>,
    layout: Layout,
    dy: &[T],
    dx: &mut [T],
) {
    backward(p, layout, dy, dy, dx, |window, _, dy, sums| {
        let share = window.share(dy);
        window.inputs().for_each(|i| sums[i] += share);
    });
}

/// One window over one channel of one image: offsets of its inputs along each axis.
struct Window<'a> {
    /// Per axis the memory offsets of the taps that lie on the input.
    taps: [&'a [usize]; 4],
    /// Offset of the channel.
    base: usize,
    /// Positions that an average divides by.
    count: usize,
}

impl Window<'_> {
    fn inputs(&self) -> impl Iterator<Item = usize> {
        let [a, b, c, d] = self.taps;
        let base = self.base;
        a.iter().flat_map(move |a| {
            b.iter().flat_map(move |b| {
                c.iter()
                    .flat_map(move |c| d.iter().map(move |d| base + a + b + c + d))
            })
        })
    }

    fn winner<T: Element>(&self, x: &[T]) -> Option<usize> {
        #[expect(clippy::eq_op, reason = "only NaN differs from itself")]
        self.inputs().reduce(|best, i| {
            let best_is_nan = x[best] != x[best];
            if !best_is_nan && (x[i] > x[best] || x[i] != x[i]) {
                i
            } else {
                best
            }
        })
    }

    /// `total / count`; a window without input shares nothing.
    fn share<A: Accumulator>(&self, total: A) -> A {
        if self.count == 0 {
            A::zero()
        } else {
            total / A::from_f64(self.count as f64)
        }
    }
}

/// Per output position of one axis: the memory offsets of its taps and what it counts for.
struct AxisWindows {
    taps: Vec<Vec<usize>>,
    count: Vec<usize>,
}

impl AxisWindows {
    fn new(axis: &Axis, step: usize, count_include_pad: bool) -> Self {
        let end = axis.input as isize + axis.padding.1;
        let inputs = |o| (0..axis.kernel_size).filter_map(move |t| axis.input_index(o, t));
        let in_padded = |o| {
            (0..axis.kernel_size)
                .filter(|&t| axis.position(o, t) < end)
                .count()
        };
        AxisWindows {
            taps: (0..axis.output)
                .map(|o| inputs(o).map(|i| i * step).collect())
                .collect(),
            count: (0..axis.output)
                .map(|o| {
                    if count_include_pad {
                        in_padded(o)
                    } else {
                        inputs(o).count()
                    }
                })
                .collect(),
        }
    }
}

fn windows(p: &PoolProblem<4>, strides: &Strides) -> [AxisWindows; 4] {
    [0, 1, 2, 3].map(|a| AxisWindows::new(&p.axes()[a], strides.spatial[a], p.count_include_pad()))
}

fn window<'a>(windows: &'a [AxisWindows; 4], position: [usize; 4], base: usize) -> Window<'a> {
    Window {
        taps: [0, 1, 2, 3].map(|a| &windows[a].taps[position[a]][..]),
        base,
        count: (0..4).map(|a| windows[a].count[position[a]]).product(),
    }
}

fn forward<T: Element>(
    p: &PoolProblem<4>,
    layout: Layout,
    x: &[T],
    y: &mut [T],
    value: impl Fn(&Window, &[T]) -> T + Sync,
) {
    let from = Strides::new(layout, p.channels(), p.axes().map(|a| a.input));
    let output = p.axes().map(|a| a.output);
    let to = Strides::new(layout, p.channels(), output);
    let windows = windows(p, &from);
    let pixels: usize = output.iter().product();
    let images = y.chunks_mut(to.outer).zip(x.chunks(from.outer));
    each(images, |(y, x)| {
        for pixel in 0..pixels {
            let position = unravel(pixel, output);
            let at = to.at(position);
            for channel in 0..p.channels() {
                let window = window(&windows, position, channel * from.channel);
                y[at + channel * to.channel] = value(&window, x);
            }
        }
    });
}

fn backward<T: Element>(
    p: &PoolProblem<4>,
    layout: Layout,
    x: &[T],
    dy: &[T],
    dx: &mut [T],
    scatter: impl Fn(&Window, &[T], T::Acc, &mut [T::Acc]) + Sync,
) {
    let from = Strides::new(layout, p.channels(), p.axes().map(|a| a.input));
    let output = p.axes().map(|a| a.output);
    let to = Strides::new(layout, p.channels(), output);
    let windows = windows(p, &from);
    let pixels: usize = output.iter().product();
    let image = x.len() / p.batch();
    let images = dx.chunks_mut(from.outer).zip(x.chunks(image));
    each(images.zip(dy.chunks(to.outer)), |((dx, x), dy)| {
        let mut sums = vec![T::Acc::default(); dx.len()];
        for pixel in 0..pixels {
            let position = unravel(pixel, output);
            let at = to.at(position);
            for channel in 0..p.channels() {
                let window = window(&windows, position, channel * from.channel);
                scatter(
                    &window,
                    x,
                    dy[at + channel * to.channel].to_acc(),
                    &mut sums,
                );
            }
        }
        T::narrow(&sums, dx);
    });
}
