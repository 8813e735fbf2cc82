//! Element by element: activations, softmax, dropout.

use num_traits::{Float, One, Zero};

use super::crew::{each, each_chunk};
use crate::element::{Accumulator, Element};
use crate::init::{mix, unit};
use crate::ops::{Activation, Lanes};

/// Elements that one task works on.
pub(super) const CHUNK: usize = 1 << 14;

/// `y[i] = f(x[i])`.
fn map<T: Element, U: Element>(x: &[T], y: &mut [U], f: impl Fn(T) -> U + Sync) {
    let chunks = y.chunks_mut(CHUNK).zip(x.chunks(CHUNK));
    each(chunks, |(y, x)| {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x));
    });
}

/// `z[i] = f(x[i], y[i])`.
pub(super) fn zip<T: Element>(
    x: &[T],
    y: &[T],
    z: &mut [T],
    f: impl Fn(T::Acc, T::Acc) -> T::Acc + Sync,
) {
    let chunks = z.chunks_mut(CHUNK).zip(x.chunks(CHUNK));
    each(chunks.zip(y.chunks(CHUNK)), |((z, x), y)| {
        for ((z, x), y) in z.iter_mut().zip(x).zip(y) {
            *z = T::from_acc(f(x.to_acc(), y.to_acc()));
        }
    });
}

/// Rounds through `f64`, which holds every element type exactly: one rounding.
pub(crate) fn cast<T: Element, U: Element>(x: &[T], y: &mut [U]) {
    map(x, y, |v| U::from_f64(v.to_f64()));
}

pub(crate) fn activate<T: Element>(activation: Activation, x: &[T], y: &mut [T]) {
    let zero = T::Acc::zero();
    let on = |f: &(dyn Fn(T::Acc) -> T::Acc + Sync), y: &mut [T]| {
        map(x, y, |v| T::from_acc(f(v.to_acc())));
    };
    match activation {
        // written so that NaN stays NaN
        Activation::Relu => on(&|v| if v < zero { zero } else { v }, y),
        Activation::LeakyRelu { slope } => {
            let slope = T::Acc::from_f64(slope);
            on(&|v| if v < zero { slope * v } else { v }, y);
        }
        Activation::Sigmoid => on(&sigmoid, y),
        Activation::Tanh => on(&Float::tanh, y),
    }
}

pub(crate) fn activate_backward<T: Element>(
    activation: Activation,
    x: &[T],
    dy: &[T],
    dx: &mut [T],
) {
    let (zero, one) = (T::Acc::zero(), T::Acc::one());
    match activation {
        Activation::Relu => zip(x, dy, dx, |x, dy| if x <= zero { zero } else { dy }),
        Activation::LeakyRelu { slope } => {
            let slope = T::Acc::from_f64(slope);
            zip(x, dy, dx, |x, dy| if x > zero { dy } else { slope * dy });
        }
        Activation::Sigmoid => zip(x, dy, dx, |x, dy| {
            let y = sigmoid(x);
            dy * y * (one - y)
        }),
        Activation::Tanh => zip(x, dy, dx, |x, dy| {
            let y = x.tanh();
            dy * (one - y * y)
        }),
    }
}

/// `1 / (1 + exp(-x))` without an overflow on either side.
pub(super) fn sigmoid<A: Accumulator>(x: A) -> A {
    let e = (-x.abs()).exp();
    let small = e / (A::one() + e);
    if x < A::zero() {
        small
    } else {
        A::one() / (A::one() + e)
    }
}

/// Runs `f(row of channels)` for every position; rows are gathered, so `f` sees them side by side.
fn rows<T: Element>(
    lanes: Lanes,
    inputs: &[&[T]],
    y: &mut [T],
    f: impl Fn(&mut [Vec<T::Acc>]) + Sync,
) {
    let block = lanes.len * lanes.step;
    if block == 0 {
        return;
    }
    each_chunk(y, block, |b, y| {
        let mut row = vec![vec![T::Acc::zero(); lanes.len]; inputs.len()];
        for offset in 0..lanes.step {
            for (row, input) in row.iter_mut().zip(inputs) {
                let input = &input[b * block + offset..];
                for (v, x) in row.iter_mut().zip(input.iter().step_by(lanes.step)) {
                    *v = x.to_acc();
                }
            }
            f(&mut row);
            for (y, v) in y[offset..].iter_mut().step_by(lanes.step).zip(&row[0]) {
                *y = T::from_acc(*v);
            }
        }
    });
}

pub(super) fn softmax_row<A: Accumulator>(row: &mut [A]) {
    let max = row.iter().fold(A::neg_infinity(), |m, &v| m.max(v));
    let mut sum = A::zero();
    for v in row.iter_mut() {
        *v = (*v - max).exp();
        sum += *v;
    }
    row.iter_mut().for_each(|v| *v /= sum);
}

pub(crate) fn softmax<T: Element>(lanes: Lanes, x: &[T], y: &mut [T]) {
    rows(lanes, &[x], y, |row| softmax_row(&mut row[0]));
}

/// `dx = y * (dy - <y, dy>)`.
pub(crate) fn softmax_backward<T: Element>(lanes: Lanes, x: &[T], dy: &[T], dx: &mut [T]) {
    rows(lanes, &[x, dy], dx, |row| {
        let [y, dy] = row else { return };
        softmax_row(y);
        let inner: T::Acc = y.iter().zip(&*dy).map(|(&y, &dy)| y * dy).sum();
        for (y, &dy) in y.iter_mut().zip(&*dy) {
            *y *= dy - inner;
        }
    });
}

pub(crate) fn dropout<T: Element>(p: f64, seed: u64, x: &[T], y: &mut [T]) {
    let scale = T::Acc::from_f64(1.0 / (1.0 - p));
    let chunks = y.chunks_mut(CHUNK).zip(x.chunks(CHUNK));
    each(chunks.enumerate(), |(chunk, (y, x))| {
        for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
            let keep = unit(mix(seed, (chunk * CHUNK + i) as u64)) >= p;
            *y = if keep {
                T::from_acc(x.to_acc() * scale)
            } else {
                T::default()
            };
        }
    });
}
