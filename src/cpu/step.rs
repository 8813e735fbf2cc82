//! Optimiser steps, on the master copy of a weight where there is one.

use num_traits::{Float, One};

use super::crew::each;
use super::pointwise::CHUNK;
use crate::element::Element;
use crate::ops::{AdamStep, SgdStep};

/// `v = momentum * v + g`, `w -= learning_rate * v`; with Nesterov `w -= learning_rate * (g +
/// momentum * v)`.
pub(crate) fn sgd_step<T: Element>(
    step: SgdStep,
    gradient: &[T],
    velocity: &mut [T::Acc],
    master: Option<&mut [T::Acc]>,
    weight: &mut [T],
) {
    let of = T::Acc::from_f64;
    let rate = of(step.learning_rate);
    let momentum = of(step.momentum);
    let decay = of(step.weight_decay);
    let tasks = tasks(gradient, master, weight);
    each(tasks.zip(velocity.chunks_mut(CHUNK)), |(task, velocity)| {
        task.update(|i, w, g| {
            let g = g + decay * w;
            let v = momentum * velocity[i] + g;
            velocity[i] = v;
            w - rate * if step.nesterov { g + momentum * v } else { v }
        });
    });
}

/// Kingma and Ba (2015), with weight decay in the gradient, or apart from it as Loshchilov and
/// Hutter (2019) have it.
pub(crate) fn adam_step<T: Element>(
    step: AdamStep,
    gradient: &[T],
    first: &mut [T::Acc],
    second: &mut [T::Acc],
    master: Option<&mut [T::Acc]>,
    weight: &mut [T],
) {
    let of = T::Acc::from_f64;
    let one = T::Acc::one();
    let [beta1, beta2] = step.betas.map(of);
    let [correction1, correction2] = step.correction.map(of);
    let rate = of(step.learning_rate);
    let epsilon = of(step.epsilon);
    let decay = of(step.weight_decay);
    let tasks = tasks(gradient, master, weight).zip(first.chunks_mut(CHUNK));
    each(
        tasks.zip(second.chunks_mut(CHUNK)),
        |((task, first), second)| {
            task.update(|i, w, g| {
                let (w, g) = if step.decoupled {
                    (w - rate * decay * w, g)
                } else {
                    (w, g + decay * w)
                };
                let m = beta1 * first[i] + (one - beta1) * g;
                let v = beta2 * second[i] + (one - beta2) * g * g;
                (first[i], second[i]) = (m, v);
                w - rate * (m / correction1) / ((v / correction2).sqrt() + epsilon)
            });
        },
    );
}

/// A stretch of one parameter.
struct Task<'a, T: Element> {
    gradient: &'a [T],
    master: Option<&'a mut [T::Acc]>,
    weight: &'a mut [T],
}

impl<T: Element> Task<'_, T> {
    /// Replaces every weight by `f(index, weight, gradient)`.
    fn update(self, mut f: impl FnMut(usize, T::Acc, T::Acc) -> T::Acc) {
        let mut master = self.master;
        for (i, (w, g)) in self.weight.iter_mut().zip(self.gradient).enumerate() {
            // A weight that somebody else has written since the last step wins over its copy.
            let old = match &master {
                Some(master) if T::from_acc(master[i]) == *w => master[i],
                _ => w.to_acc(),
            };
            let new = f(i, old, g.to_acc());
            if let Some(master) = &mut master {
                master[i] = new;
            }
            *w = T::from_acc(new);
        }
    }
}

fn tasks<'a, T: Element>(
    gradient: &'a [T],
    master: Option<&'a mut [T::Acc]>,
    weight: &'a mut [T],
) -> impl ExactSizeIterator<Item = Task<'a, T>> + Send {
    let mut master = master.map(|m| m.chunks_mut(CHUNK));
    weight
        .chunks_mut(CHUNK)
        .zip(gradient.chunks(CHUNK))
        .map(move |(weight, gradient)| Task {
            gradient,
            master: master.as_mut().and_then(Iterator::next),
            weight,
        })
}
