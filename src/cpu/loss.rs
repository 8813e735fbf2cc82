//! Losses and their gradients; the losses themselves are summed in `f64`.

use super::crew::each_chunk;
use super::pointwise::{sigmoid, softmax_row, zip};
use super::reduce;
use crate::element::Element;

/// Mean loss; `dx = (softmax(x) - onehot) / batch`.
pub(crate) fn cross_entropy<T: Element>(
    classes: usize,
    x: &[T],
    targets: &[usize],
    dx: &mut [T],
) -> f64 {
    let batch = targets.len() as f64;
    each_chunk(dx, classes, |i, dx| {
        let x = &x[i * classes..][..classes];
        let mut row: Vec<f64> = x.iter().map(|v| v.to_f64()).collect();
        softmax_row(&mut row);
        row[targets[i]] -= 1.0;
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
