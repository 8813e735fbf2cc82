//! The direct method: one [`ConvProblem`] for the convolution engine, whatever rank and batch.
//!
//! A convolution is a correlation with the taps reversed; a complex one is real with two channels,
//! `(re, im) -> ((w.re, -w.im), (w.im, w.re))`. The shorter operand is the one that slides.

use std::borrow::Cow;

use super::align::Region;
use super::boundary::{Boundary, Margin, extend, extend_adjoint};
use super::line::Line;
use super::linear::{Linear, Shared, reversed};
use super::scalar::Scalar;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::ops::{Layouts, Write};
use crate::problem::{ConvParams, ConvProblem, Padding};
use crate::shape::Layout;

const LAYOUTS: Layouts = Layouts {
    activation: Layout::ChannelsFirst,
    weight: Layout::ChannelsFirst,
};

/// The convolution engine's problem, and what the signal loses before.
struct Plan {
    problem: ConvProblem<4>,
    /// Never positive: positions that no kept output sees.
    cut: Vec<Margin>,
}

impl Plan {
    /// Real channels of one item.
    fn planes<S: Scalar>() -> usize {
        if S::COMPLEX { 2 } else { 1 }
    }

    fn new<S: Scalar>(p: &Linear) -> Result<Self> {
        if p.rank() > 4 {
            return Err(Error::Unsupported {
                what: format!(
                    "direct convolution along {} axes: at most 4, or method fft",
                    p.rank()
                ),
            });
        }
        let margins = p.n.iter().zip(&p.k).zip(&p.region).map(margin);
        let margins: Vec<Margin> = margins.collect();
        let cut: Vec<Margin> = margins
            .iter()
            .map(|m| Margin {
                before: m.before.min(0),
                after: m.after.min(0),
            })
            .collect();
        let planes = Self::planes::<S>();
        let (images, signals, kernels, groups) = match p.shared {
            Shared::Kernel => (p.batch, 1, 1, 1),
            Shared::Signal => (1, 1, p.batch, 1),
            Shared::Neither => (1, p.batch, p.batch, p.batch),
        };
        let mut x = [1; 6];
        let mut w = [1; 6];
        (x[0], x[1]) = (images, signals * planes);
        (w[0], w[1]) = (kernels * planes, planes);
        let mut padding = [(0, 0); 4];
        for axis in 0..p.rank() {
            let at = 4 - p.rank() + axis;
            x[2 + at] = cut[axis].of(p.n[axis]);
            w[2 + at] = p.k[axis];
            let Margin { before, after } = margins[axis];
            padding[at] = (before.max(0) as usize, after.max(0) as usize);
        }
        let params = ConvParams {
            padding: Padding::Explicit(padding),
            groups,
            ..ConvParams::default()
        };
        let problem = ConvProblem::new(&x, &w, &params)?;
        Ok(Plan { problem, cut })
    }

    /// The signal as real planes, without what no output sees.
    fn signal<'a, S: Scalar>(&self, p: &Linear, a: &'a [S]) -> Result<Cow<'a, [S::Real]>> {
        if self.cut.iter().all(|&m| m == Margin::NONE) {
            return Ok(S::planes(a, p.sizes().0));
        }
        let (a, dims) = extend(a, &p.n, &self.cut, Boundary::ZERO)?;
        Ok(Cow::Owned(
            S::planes(&a, dims.iter().product()).into_owned(),
        ))
    }

    fn result<S: Scalar>(&self, planes: Vec<S::Real>, p: &Linear) -> Vec<S> {
        S::from_planes(planes, p.sizes().2)
    }
}

/// What the sliding window needs around the signal so that it computes the region alone.
fn margin(((&n, &k), region): ((&usize, &usize), &Region)) -> Margin {
    Margin {
        before: k as isize - 1 - region.start,
        after: region.start + region.len as isize - n as isize,
    }
}

/// The taps as the engine correlates with them, `(items * planes, planes, *k)`.
fn taps<S: Scalar>(b: &[S], size: usize) -> Vec<S::Real> {
    let reversed = reversed(b, size);
    if !S::COMPLEX {
        return S::planes(&reversed, size).into_owned();
    }
    let mut taps = Vec::with_capacity(4 * reversed.len());
    for item in reversed.chunks(size) {
        taps.extend(item.iter().map(|v| v.re()));
        taps.extend(item.iter().map(|v| -v.im()));
        taps.extend(item.iter().map(|v| v.im()));
        taps.extend(item.iter().map(|v| v.re()));
    }
    taps
}

/// The adjoint of [`taps`].
fn taps_adjoint<S: Scalar>(dw: Vec<S::Real>, size: usize) -> Vec<S> {
    let db = if S::COMPLEX {
        let mut db = Vec::with_capacity(dw.len() / 4);
        for item in dw.chunks(4 * size) {
            let (re, im) = item.split_at(2 * size);
            db.extend((0..size).map(|t| S::from_parts(re[t] + im[size + t], im[t] - re[size + t])));
        }
        db
    } else {
        S::from_planes(dw, size)
    };
    reversed(&db, size)
}

/// `(batch, region)`.
pub(crate) fn compute<S: Scalar>(p: &Linear, a: &[S], b: &[S]) -> Result<Vec<S>> {
    let (n, k, _) = p.sizes();
    if k > n {
        return compute(&p.swapped(), b, a);
    }
    if !S::COMPLEX
        && let Some(line) = Line::new(p, &S::planes(b, k))
    {
        return Ok(S::from_planes(line.convolve(&S::planes(a, n)), n));
    }
    let plan = Plan::new::<S>(p)?;
    let (x, w) = (plan.signal(p, a)?, taps(b, k));
    let mut y = vec![<S::Real as Default>::default(); plan.problem.y_shape().iter().product()];
    (S::Real::passes().fprop)(
        &plan.problem,
        LAYOUTS,
        &x,
        w[..].into(),
        None,
        &mut y,
        Write::Overwrite,
    )?;
    Ok(plan.result(y, p))
}

/// `da` and `db`, summed over the batch where shared.
pub(crate) fn gradients<S: Scalar>(
    p: &Linear,
    a: &[S],
    b: &[S],
    dz: &[S],
) -> Result<(Vec<S>, Vec<S>)> {
    let (n, k, out) = p.sizes();
    if k > n {
        let (db, da) = gradients(&p.swapped(), b, a, dz)?;
        return Ok((da, db));
    }
    let plan = Plan::new::<S>(p)?;
    let zero = <S::Real as Default>::default;
    let (x, w) = (plan.signal(p, a)?, taps(b, k));
    let dy = S::planes(dz, out);
    let (mut dx, mut dw) = (vec![zero(); x.len()], vec![zero(); w.len()]);
    (S::Real::passes().dgrad)(
        &plan.problem,
        LAYOUTS,
        &dy,
        w[..].into(),
        None,
        &mut dx,
        Write::Overwrite,
    )?;
    (S::Real::passes().wgrad)(&plan.problem, LAYOUTS, &x, &dy, &mut dw, Write::Overwrite)?;
    let cut: usize = p.n.iter().zip(&plan.cut).map(|(&n, m)| m.of(n)).product();
    let mut da = S::from_planes(dx, cut);
    if cut != n {
        da = extend_adjoint(&da, &p.n, &plan.cut, Boundary::ZERO);
    }
    Ok((da, taps_adjoint(dw, k)))
}
