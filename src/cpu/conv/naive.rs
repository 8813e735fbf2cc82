//! The definition, term by term: what every other algorithm is compared with.

use crate::cpu::strides::{Strides, unravel};
use crate::element::Element;
use crate::ops::{Layouts, Write};
use crate::problem::ConvProblem;

type Position = [usize; 4];

/// Calls `f(image, out channel, channel of the group, in channel, output, tap, input)` for every term.
fn walk(
    p: &ConvProblem<4>,
    mut f: impl FnMut(usize, usize, usize, usize, Position, Position, Position),
) {
    let (pix, taps): (usize, usize) = (
        p.output().iter().product(),
        p.kernel_size().iter().product(),
    );
    let (cg, kg) = (p.in_channels() / p.groups(), p.out_channels() / p.groups());
    for n in 0..p.batch() {
        for k in 0..p.out_channels() {
            for o in 0..pix {
                for c in 0..cg {
                    for t in 0..taps {
                        let (op, tp) = (unravel(o, p.output()), unravel(t, p.kernel_size()));
                        let mut i = [0; 4];
                        if (0..4).all(|a| {
                            p.axes()[a]
                                .input_index(op[a], tp[a])
                                .map(|v| i[a] = v)
                                .is_some()
                        }) {
                            f(n, k, c, k / kg * cg + c, op, tp, i);
                        }
                    }
                }
            }
        }
    }
}
fn strides(p: &ConvProblem<4>, l: Layouts) -> (Strides, Strides, Strides) {
    (
        Strides::new(l.activation, p.in_channels(), p.input()),
        Strides::new(l.weight, p.in_channels() / p.groups(), p.kernel_size()),
        Strides::new(l.activation, p.out_channels(), p.output()),
    )
}
fn finish<T: Element>(acc: Vec<T::Acc>, out: &mut [T], write: Write) {
    for (o, a) in out.iter_mut().zip(acc) {
        *o = T::from_acc(match write {
            Write::Overwrite => a,
            Write::Accumulate => a + o.to_acc(),
        });
    }
}
pub fn fprop<T: Element>(
    p: &ConvProblem<4>,
    l: Layouts,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    y: &mut [T],
    write: Write,
) {
    let (xs, ws, ys) = strides(p, l);
    let mut acc = vec![T::Acc::default(); y.len()];
    walk(p, |n, k, c, ch, o, t, i| {
        acc[n * ys.outer + k * ys.channel + ys.at(o)] +=
            x[n * xs.outer + ch * xs.channel + xs.at(i)].to_acc()
                * w[k * ws.outer + c * ws.channel + ws.at(t)].to_acc()
    });
    if let Some(b) = bias {
        for (j, a) in acc.iter_mut().enumerate() {
            *a += b[j / ys.channel % p.out_channels()].to_acc();
        }
    }
    finish(acc, y, write);
}
pub fn dgrad<T: Element>(
    p: &ConvProblem<4>,
    l: Layouts,
    dy: &[T],
    w: &[T],
    bias: Option<&[T]>,
    dx: &mut [T],
    write: Write,
) {
    let (xs, ws, ys) = strides(p, l);
    let mut acc = vec![T::Acc::default(); dx.len()];
    walk(p, |n, k, c, ch, o, t, i| {
        acc[n * xs.outer + ch * xs.channel + xs.at(i)] +=
            dy[n * ys.outer + k * ys.channel + ys.at(o)].to_acc()
                * w[k * ws.outer + c * ws.channel + ws.at(t)].to_acc()
    });
    if let Some(b) = bias {
        for (j, a) in acc.iter_mut().enumerate() {
            *a += b[j / xs.channel % p.in_channels()].to_acc();
        }
    }
    finish(acc, dx, write);
}
pub fn wgrad<T: Element>(
    p: &ConvProblem<4>,
    l: Layouts,
    x: &[T],
    dy: &[T],
    dw: &mut [T],
    write: Write,
) {
    let (xs, ws, ys) = strides(p, l);
    let mut acc = vec![T::Acc::default(); dw.len()];
    walk(p, |n, k, c, ch, o, t, i| {
        acc[k * ws.outer + c * ws.channel + ws.at(t)] +=
            dy[n * ys.outer + k * ys.channel + ys.at(o)].to_acc()
                * x[n * xs.outer + ch * xs.channel + xs.at(i)].to_acc()
    });
    finish(acc, dw, write);
}
