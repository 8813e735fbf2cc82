//! Element by element: activations, softmax, dropout, losses and optimiser steps.

use num_traits::{Float, One, Zero};
use rayon::prelude::*;

use super::reduce;
use crate::element::{Accumulator, Element};
use crate::ops::{Activation, AdamStep, Lanes, SgdStep};

/// Elements that one task works on.
const CHUNK: usize = 1 << 14;

/// `y[i] = f(x[i])`.
fn map<T: Element, U: Element>(x: &[T], y: &mut [U], f: impl Fn(T) -> U + Sync) {
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x)));
}

/// `z[i] = f(x[i], y[i])`.
fn zip<T: Element>(x: &[T], y: &[T], z: &mut [T], f: impl Fn(T::Acc, T::Acc) -> T::Acc + Sync) {
    z.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .zip(y.par_chunks(CHUNK))
        .for_each(|((z, x), y)| {
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
        Activation::Relu => zip(x, dy, dx, |x, dy| if x > zero { dy } else { x * zero }),
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
fn sigmoid<A: Accumulator>(x: A) -> A {
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
    y.par_chunks_mut(block).enumerate().for_each(|(b, y)| {
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

fn softmax_row<A: Accumulator>(row: &mut [A]) {
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
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .enumerate()
        .for_each(|(chunk, (y, x))| {
            for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
                let keep = unit(seed, (chunk * CHUNK + i) as u64) >= p;
                *y = if keep {
                    T::from_acc(x.to_acc() * scale)
                } else {
                    T::default()
                };
            }
        });
}

/// A number in [0, 1) that depends on `seed` and `index` alone: the finaliser of SplitMix64
/// (Steele, Lea and Flood, 2014) over a counter.
fn unit(seed: u64, index: u64) -> f64 {
    (crate::init::mix(seed, index) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// Mean loss; `dx = (softmax(x) - onehot) / batch`.
pub(crate) fn softmax_cross_entropy<T: Element>(
    classes: usize,
    x: &[T],
    targets: &[usize],
    dx: &mut [T],
) -> f64 {
    let batch = targets.len() as f64;
    dx.par_chunks_mut(classes)
        .zip(x.par_chunks(classes))
        .zip(targets)
        .for_each(|((dx, x), &target)| {
            let mut row: Vec<f64> = x.iter().map(|v| v.to_f64()).collect();
            softmax_row(&mut row);
            row[target] -= 1.0;
            for (dx, v) in dx.iter_mut().zip(row) {
                *dx = T::from_f64(v / batch);
            }
        });
    let total = reduce::sum(targets.len(), |i| {
        let row = &x[i * classes..(i + 1) * classes];
        let max = row.iter().fold(f64::NEG_INFINITY, |m, v| m.max(v.to_f64()));
        let sum: f64 = row.iter().map(|v| (v.to_f64() - max).exp()).sum();
        sum.ln() + max - row[targets[i]].to_f64()
    });
    total / batch
}

/// Mean of `max(x, 0) - x t + ln(1 + exp(-|x|))`; `dx = (sigmoid(x) - t) / len`.
pub(crate) fn binary_cross_entropy<T: Element>(x: &[T], targets: &[T], dx: &mut [T]) -> f64 {
    let len = x.len() as f64;
    let scale = T::Acc::from_f64(1.0 / len);
    zip(x, targets, dx, |x, t| (sigmoid(x) - t) * scale);
    let total = reduce::sum(x.len(), |i| {
        let (x, t) = (x[i].to_f64(), targets[i].to_f64());
        x.max(0.0) - x * t + (-x.abs()).exp().ln_1p()
    });
    total / len
}

pub(crate) fn mean_squared_error<T: Element>(x: &[T], targets: &[T], dx: &mut [T]) -> f64 {
    let len = x.len() as f64;
    let scale = T::Acc::from_f64(2.0 / len);
    zip(x, targets, dx, |x, t| (x - t) * scale);
    let total = reduce::sum(x.len(), |i| (x[i].to_f64() - targets[i].to_f64()).powi(2));
    total / len
}

pub(crate) fn sgd_step<T: Element>(
    step: SgdStep,
    gradient: &[T],
    velocity: &mut [T::Acc],
    master: &mut [T::Acc],
    weight: &mut [T],
) {
    let of = T::Acc::from_f64;
    let (rate, momentum, decay) = (
        of(step.learning_rate),
        of(step.momentum),
        of(step.weight_decay),
    );
    weight
        .par_chunks_mut(CHUNK)
        .zip(master.par_chunks_mut(CHUNK))
        .zip(velocity.par_chunks_mut(CHUNK))
        .zip(gradient.par_chunks(CHUNK))
        .for_each(|(((weight, master), velocity), gradient)| {
            for (((w, m), v), g) in weight.iter_mut().zip(master).zip(velocity).zip(gradient) {
                let g = g.to_acc() + decay * *m;
                *v = momentum * *v + g;
                let direction = if step.nesterov { g + momentum * *v } else { *v };
                *m -= rate * direction;
                *w = T::from_acc(*m);
            }
        });
}

pub(crate) fn adam_step<T: Element>(
    step: AdamStep,
    gradient: &[T],
    first: &mut [T::Acc],
    second: &mut [T::Acc],
    master: &mut [T::Acc],
    weight: &mut [T],
) {
    let of = T::Acc::from_f64;
    let one = T::Acc::one();
    let [beta1, beta2] = step.betas.map(of);
    let [correct1, correct2] = step.correction.map(of);
    let (rate, epsilon, decay) = (
        of(step.learning_rate),
        of(step.epsilon),
        of(step.weight_decay),
    );
    weight
        .par_chunks_mut(CHUNK)
        .zip(master.par_chunks_mut(CHUNK))
        .zip(first.par_chunks_mut(CHUNK))
        .zip(second.par_chunks_mut(CHUNK))
        .zip(gradient.par_chunks(CHUNK))
        .for_each(|((((weight, master), first), second), gradient)| {
            let state = weight.iter_mut().zip(master).zip(first).zip(second);
            for ((((w, master), m), v), g) in state.zip(gradient) {
                let mut g = g.to_acc();
                if step.decoupled {
                    *master -= rate * decay * *master;
                } else {
                    g += decay * *master;
                }
                *m = beta1 * *m + (one - beta1) * g;
                *v = beta2 * *v + (one - beta2) * g * g;
                *master -= rate * (*m / correct1) / ((*v / correct2).sqrt() + epsilon);
                *w = T::from_acc(*master);
            }
        });
}
