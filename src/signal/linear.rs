//! Linear convolution of batches: what every method computes, and the adjoints that follow from it.
//!
//! ```text
//! full[m] = sum over j of a[m - j] * b[j]        kept: m in start..start + len, per axis
//! da[i] = sum over j of dz[i - start + j] * conj(b[j])
//! db[j] = sum over i of dz[j - start + i] * conj(a[i])
//! ```
//!
//! Either gradient is again a part of a full convolution, with the other operand reversed and
//! conjugated. So every method has its gradients as soon as it can keep any part.

use super::align::Region;
use super::boundary::{Boundary, Margin, extend};
use super::cost::Method;
use super::scalar::Scalar;
use super::{direct, spectral};
use crate::error::{Error, Result};
use crate::shape::check_elements;

/// Which operand has one item for the whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shared {
    Neither,
    Signal,
    Kernel,
}

/// A batch of convolutions: of `n` elements with `k` elements, both per axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linear {
    pub batch: usize,
    pub shared: Shared,
    pub n: Vec<usize>,
    pub k: Vec<usize>,
    pub region: Vec<Region>,
}

impl Linear {
    pub fn rank(&self) -> usize {
        self.n.len()
    }
    /// Elements of one item of the first operand, the second, the result.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let out = self.region.iter().map(|r| r.len).product();
        (self.n.iter().product(), self.k.iter().product(), out)
    }
    /// Positions of the full result.
    pub fn full(&self) -> impl Iterator<Item = usize> + '_ {
        self.n.iter().zip(&self.k).map(|(n, k)| n + k - 1)
    }

    /// Without what lies outside of the full result, where all is zero.
    pub fn inside(&self) -> Linear {
        let parts = self.region.iter().zip(self.full());
        Linear {
            region: parts.map(|(region, full)| region.inside(full)).collect(),
            ..self.clone()
        }
    }

    /// The same with the operands in each other's place; convolution commutes.
    pub fn swapped(&self) -> Linear {
        Linear {
            n: self.k.clone(),
            k: self.n.clone(),
            shared: match self.shared {
                Shared::Neither => Shared::Neither,
                Shared::Signal => Shared::Kernel,
                Shared::Kernel => Shared::Signal,
            },
            ..self.clone()
        }
    }

    /// `(batch, region)` of the convolution of `a` with `b`.
    pub fn compute<S: Scalar>(&self, method: Method, a: &[S], b: &[S]) -> Result<Vec<S>> {
        let shape: Vec<usize> = self.region.iter().map(|r| r.len).collect();
        let elements = check_elements("the result", &[&[self.batch][..], &shape].concat())?;
        let kept = self.inside();
        if kept.sizes().2 == 0 {
            return zeros(elements);
        }
        let result = match method {
            Method::Direct => direct::compute(&kept, a, b)?,
            Method::OverlapAdd => spectral::overlap(&kept, a, b)?,
            Method::Fft | Method::Auto => spectral::whole(&kept, a, b)?,
        };
        if kept == *self {
            return Ok(result);
        }
        let margins: Vec<Margin> = self.region.iter().zip(&kept.region).map(beyond).collect();
        let dims: Vec<usize> = kept.region.iter().map(|r| r.len).collect();
        Ok(extend(&result, &dims, &margins, Boundary::ZERO)?.0)
    }

    /// The gradients in `a` and `b` for the gradient `dz` of the result; an operand that is shared
    /// has one gradient, the sum over the batch.
    pub fn gradients<S: Scalar>(
        &self,
        method: Method,
        a: &[S],
        b: &[S],
        dz: &[S],
    ) -> Result<(Vec<S>, Vec<S>)> {
        if self.sizes().2 == 0 {
            return Ok((zeros(a.len())?, zeros(b.len())?));
        }
        let kept = self.inside();
        if kept != *self {
            // what lies outside of the full result is a constant zero
            let margins: Vec<Margin> = kept.region.iter().zip(&self.region).map(beyond).collect();
            let dims: Vec<usize> = self.region.iter().map(|r| r.len).collect();
            let (dz, _) = extend(dz, &dims, &margins, Boundary::ZERO)?;
            return kept.gradients(method, a, b, &dz);
        }
        if method == Method::Direct {
            return direct::gradients(self, a, b, dz);
        }
        let (n, k, _) = self.sizes();
        let out: Vec<usize> = self.region.iter().map(|r| r.len).collect();
        let part = |kernel: &[usize], target: &[usize], shared| Linear {
            batch: self.batch,
            shared,
            n: out.clone(),
            k: kernel.to_vec(),
            region: std::iter::zip(&self.region, kernel.iter().zip(target))
                .map(|(region, (&k, &len))| Region {
                    start: k as isize - 1 - region.start,
                    len,
                })
                .collect(),
        };
        let only = |one, shared| {
            if self.shared == one {
                shared
            } else {
                Shared::Neither
            }
        };
        let in_a = part(&self.k, &self.n, only(Shared::Kernel, Shared::Kernel));
        let in_b = part(&self.n, &self.k, only(Shared::Signal, Shared::Kernel));
        let mut da = in_a.compute(method, dz, &reversed_conj(b, k))?;
        // the kernel of this one is as long as the signal: nothing to cut into blocks
        let mut db = in_b.compute(Method::Fft, dz, &reversed_conj(a, n))?;
        match self.shared {
            Shared::Neither => {}
            Shared::Signal => da = sum(&da, n),
            Shared::Kernel => db = sum(&db, k),
        }
        Ok((da, db))
    }
}

fn zeros<S: Scalar>(elements: usize) -> Result<Vec<S>> {
    let mut zeros = Vec::new();
    zeros
        .try_reserve_exact(elements)
        .map_err(|_| Error::OutOfMemory {
            what: "the result".into(),
            requested: elements.saturating_mul(size_of::<S>()),
        })?;
    zeros.resize(elements, S::zero());
    Ok(zeros)
}

/// How far a region reaches beyond the part of it that was computed.
fn beyond((wanted, kept): (&Region, &Region)) -> Margin {
    let before = kept.start - wanted.start;
    Margin {
        before,
        after: wanted.len as isize - kept.len as isize - before,
    }
}

/// Every item of `size` elements, all axes reversed.
pub(crate) fn reversed<S: Scalar>(x: &[S], size: usize) -> Vec<S> {
    x.chunks(size.max(1))
        .flat_map(|item| item.iter().rev().copied())
        .collect()
}

/// Every item of `size` elements, all axes reversed, conjugated.
pub(crate) fn reversed_conj<S: Scalar>(x: &[S], size: usize) -> Vec<S> {
    let mut reversed = reversed(x, size);
    if S::COMPLEX {
        reversed.iter_mut().for_each(|v| *v = v.conj());
    }
    reversed
}

/// The sum of items of `size` elements.
fn sum<S: Scalar>(x: &[S], size: usize) -> Vec<S> {
    let mut sum = vec![S::zero(); size];
    for item in x.chunks(size.max(1)) {
        sum.iter_mut().zip(item).for_each(|(s, &v)| *s += v);
    }
    sum
}
