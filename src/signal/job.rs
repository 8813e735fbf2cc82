//! From arrays to batches and back: which axes are convolved, which are paired, which are shared.

use std::borrow::Cow;

use ndarray::{Array, ArrayBase, ArrayD, Data, Dimension, IxDyn};

use super::align::{Align, Mode, Op, Region, region};
use super::boundary::{Boundary, Margin, extend, extend_adjoint};
use super::convolution::{Convolution, ConvolutionGradients};
use super::cost::resolve;
use super::linear::{Linear, Shared, reversed_conj};
use super::scalar::Scalar;
use crate::error::{Error, Result};
use crate::shape::check_elements;

/// One call of [`Convolution`], with its shapes resolved.
pub(crate) struct Job {
    op: Op,
    method: super::cost::Method,
    boundary: Boundary,
    /// Batch axes first, then the convolved ones: positions in `a`, and in `b` padded to its rank.
    order: Vec<usize>,
    /// Sizes of the batch axes: of `a`, `b`, the result.
    batch: [Vec<usize>; 3],
    /// Around `a`, from the boundary; the problem is then of the extended `a`.
    margins: Vec<Margin>,
    n: Vec<usize>,
    pub linear: Linear,
}

impl Job {
    pub fn new<S: Scalar>(c: &Convolution, op: Op, a: &[usize], b: &[usize]) -> Result<Self> {
        if b.len() > a.len() {
            let expected = format!("at most {} axes, those of the first operand", a.len());
            return Err(Error::shape("the second operand", expected, b));
        }
        if a.contains(&0) || b.contains(&0) || a.is_empty() || b.is_empty() {
            let expected = "operands with an axis, and no empty one";
            return Err(Error::shape("convolution", expected, (a, b)));
        }
        let axes = convolved_axes(c.axes.as_deref(), a.len(), b.len())?;
        let b = [&vec![1; a.len() - b.len()][..], b].concat();
        let others: Vec<usize> = (0..a.len()).filter(|axis| !axes.contains(axis)).collect();
        let pick = |shape: &[usize], axes: &[usize]| axes.iter().map(|&i| shape[i]).collect();
        let (batch_a, batch_b): (Vec<usize>, Vec<usize>) = (pick(a, &others), pick(&b, &others));
        let (n, k): (Vec<usize>, Vec<usize>) = (pick(a, &axes), pick(&b, &axes));
        let batch_z = broadcast(&batch_a, &batch_b)?;
        let product = |sizes: &[usize]| check_elements("the batch", sizes);
        let batch = product(&batch_z)?;
        let shared = match (product(&batch_a)? == batch, product(&batch_b)? == 1) {
            (_, true) => Shared::Kernel,
            (false, _) if batch_a.iter().all(|&s| s == 1) => Shared::Signal,
            _ => Shared::Neither,
        };
        let mut regions = regions(c, op, &n, &k)?;
        let mut margins = vec![Margin::NONE; n.len()];
        let mut extended = n.clone();
        if c.boundary != Boundary::ZERO && c.mode != Mode::Valid {
            for axis in 0..n.len() {
                let Region { start, len } = regions[axis];
                let before = (k[axis] as isize - 1 - start).max(0);
                let after = (start + len as isize - n[axis] as isize).max(0);
                margins[axis] = Margin { before, after };
                extended[axis] = margins[axis].of(n[axis]);
                regions[axis].start += before;
            }
        }
        let kept: Vec<usize> = regions.iter().map(|r| r.len).collect();
        check_elements("the result", &[&batch_z[..], &kept].concat())?;
        check_elements("the signal", &[&batch_z[..], &extended].concat())?;
        check_elements("the kernel", &[&batch_z[..], &k].concat())?;
        let linear = Linear {
            batch,
            shared,
            n: extended,
            k,
            region: regions,
        };
        Ok(Job {
            op,
            method: resolve::<S>(c.method, &linear)?,
            boundary: c.boundary,
            order: others.into_iter().chain(axes).collect(),
            batch: [batch_a, batch_b, batch_z],
            margins,
            n,
            linear,
        })
    }

    pub fn run<S, A, B, D, E>(
        &self,
        a: &ArrayBase<A, D>,
        b: &ArrayBase<B, E>,
    ) -> Result<Array<S, D>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        let (signal, kernel) = (self.signal(a)?, self.kernel(b)?);
        let z = self.linear.compute(self.method, &signal, &kernel)?;
        self.array(z, &self.batch[2], self.linear.region.iter().map(|r| r.len))
    }

    pub fn gradients<S, A, B, C, D, E>(
        &self,
        a: &ArrayBase<A, D>,
        b: &ArrayBase<B, E>,
        dz: &ArrayBase<C, D>,
    ) -> Result<ConvolutionGradients<Array<S, D>, Array<S, E>>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        B: Data<Elem = S>,
        C: Data<Elem = S>,
        D: Dimension,
        E: Dimension,
    {
        let mut shape = vec![0; self.order.len()];
        let kept = self.linear.region.iter().map(|r| r.len);
        for (&axis, size) in self
            .order
            .iter()
            .zip(self.batch[2].iter().copied().chain(kept))
        {
            shape[axis] = size;
        }
        if dz.shape() != shape {
            let expected = format!("the shape of the result, {shape:?}");
            return Err(Error::shape("dz", expected, dz.shape()));
        }
        let (signal, kernel) = (self.signal(a)?, self.kernel(b)?);
        let dz = rows(dz, &self.order);
        let (mut da, db) = self.linear.gradients(self.method, &signal, &kernel, &dz)?;
        if self.extends() {
            da = extend_adjoint(&da, &self.n, &self.margins, self.boundary);
        }
        // an operand that was used for several results has the sum
        let (n, k) = (self.n.iter().product(), self.linear.sizes().1);
        let da = self.reduce(da, &self.batch[0], n);
        let mut db = self.reduce(db, &self.batch[1], k);
        if self.op == Op::Correlate {
            db = reversed_conj(&db, k);
        }
        let a = self.array(da, &self.batch[0], self.n.iter().copied())?;
        let b_full: ArrayD<S> = self.array(db, &self.batch[1], self.linear.k.iter().copied())?;
        let b = b_full
            .into_shape_with_order(IxDyn(b.shape()))
            .ok()
            .and_then(|b| b.into_dimensionality().ok())
            .ok_or_else(|| Error::shape("db", "the shape of b", b.shape()))?;
        Ok(ConvolutionGradients { a, b })
    }

    fn extends(&self) -> bool {
        self.margins.iter().any(|&m| m != Margin::NONE)
    }

    /// The first operand: batch first, extended, and repeated where pairs need it.
    fn signal<'a, S, A, D>(&self, a: &'a ArrayBase<A, D>) -> Result<Cow<'a, [S]>>
    where
        S: Scalar,
        A: Data<Elem = S>,
        D: Dimension,
    {
        let mut signal = rows(a, &self.order);
        if self.extends() {
            signal = Cow::Owned(extend(&signal, &self.n, &self.margins, self.boundary)?.0);
        }
        let size = self.linear.sizes().0;
        Ok(match self.linear.shared {
            Shared::Signal => signal,
            _ => self.repeat(signal, &self.batch[0], size),
        })
    }

    /// The second operand as the kernel of a convolution.
    fn kernel<'b, S, B, E>(&self, b: &'b ArrayBase<B, E>) -> Result<Cow<'b, [S]>>
    where
        S: Scalar,
        B: Data<Elem = S>,
        E: Dimension,
    {
        let missing = self.order.len() - b.ndim();
        let order: Vec<usize> = self
            .order
            .iter()
            .filter(|&&axis| axis >= missing)
            .map(|axis| axis - missing)
            .collect();
        let mut kernel = rows(b, &order);
        let size = self.linear.sizes().1;
        if self.op == Op::Correlate {
            kernel = Cow::Owned(reversed_conj(&kernel, size));
        }
        Ok(match self.linear.shared {
            Shared::Kernel => kernel,
            _ => self.repeat(kernel, &self.batch[1], size),
        })
    }

    /// One item of `size` elements for every item of the result.
    fn repeat<'x, S: Scalar>(&self, x: Cow<'x, [S]>, batch: &[usize], size: usize) -> Cow<'x, [S]> {
        if batch == self.batch[2] {
            return x;
        }
        let items = (0..self.linear.batch).map(|i| self.item(i, batch));
        Cow::Owned(
            items
                .flat_map(|i| x[i * size..(i + 1) * size].iter().copied())
                .collect(),
        )
    }

    /// The adjoint of [`Job::repeat`].
    fn reduce<S: Scalar>(&self, x: Vec<S>, batch: &[usize], size: usize) -> Vec<S> {
        let items: usize = batch.iter().product();
        if x.len() == items * size {
            return x;
        }
        let mut sum = vec![S::zero(); items * size];
        for (index, x) in x.chunks(size).enumerate() {
            let item = self.item(index, batch);
            let sum = &mut sum[item * size..(item + 1) * size];
            sum.iter_mut().zip(x).for_each(|(s, &v)| *s += v);
        }
        sum
    }

    /// The item of a batch that result `index` uses.
    fn item(&self, mut index: usize, batch: &[usize]) -> usize {
        let (mut item, mut pitch) = (0, 1);
        for (&size, &all) in batch.iter().zip(&self.batch[2]).rev() {
            if size > 1 {
                item += index % all * pitch;
            }
            pitch *= size;
            index /= all;
        }
        item
    }

    /// Rows as an array with its axes in the caller's order.
    fn array<S: Scalar, D: Dimension>(
        &self,
        rows: Vec<S>,
        batch: &[usize],
        sizes: impl Iterator<Item = usize>,
    ) -> Result<Array<S, D>> {
        let shape: Vec<usize> = batch.iter().copied().chain(sizes).collect();
        let mut back = vec![0; self.order.len()];
        for (to, &from) in self.order.iter().enumerate() {
            back[from] = to;
        }
        let wrong = |got: &dyn std::fmt::Debug| Error::shape("result", format!("{shape:?}"), got);
        let moved = ArrayD::from_shape_vec(IxDyn(&shape), rows).map_err(|e| wrong(&e))?;
        let array = moved.permuted_axes(back);
        let array = match array.is_standard_layout() {
            true => array,
            false => array.as_standard_layout().into_owned(),
        };
        array.into_dimensionality().map_err(|e| wrong(&e))
    }
}

/// The elements of `x` with its axes in this order; borrowed where they stand that way.
fn rows<'x, S, A, D>(x: &'x ArrayBase<A, D>, order: &[usize]) -> Cow<'x, [S]>
where
    S: Scalar,
    A: Data<Elem = S>,
    D: Dimension,
{
    match x.as_slice() {
        Some(slice) if order.is_sorted() => Cow::Borrowed(slice),
        _ => {
            let moved = x.view().into_dyn().permuted_axes(order.to_vec());
            Cow::Owned(moved.iter().copied().collect())
        }
    }
}

/// The axes of `a` that are convolved, in increasing order.
fn convolved_axes(axes: Option<&[usize]>, a: usize, b: usize) -> Result<Vec<usize>> {
    let Some(axes) = axes else {
        return Ok((a - b..a).collect());
    };
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let fit = sorted.last().is_some_and(|&last| last < a);
    if !fit || sorted.len() != axes.len() {
        let expected = format!("different axes below {a}, at least one");
        return Err(Error::argument("axes", expected, format!("{axes:?}")));
    }
    Ok(sorted)
}

/// The sizes that two batches have together.
fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let pairs = a.iter().zip(b).map(|(&a, &b)| match (a, b) {
        (a, b) if a == b || b == 1 => Some(a),
        (1, b) => Some(b),
        _ => None,
    });
    pairs.collect::<Option<_>>().ok_or_else(|| {
        let expected = "batch axes of equal sizes, or of size 1 in one operand";
        Error::shape("convolution", expected, (a, b))
    })
}

/// What is kept along every convolved axis.
fn regions(c: &Convolution, op: Op, n: &[usize], k: &[usize]) -> Result<Vec<Region>> {
    let covers = |a: &[usize], b: &[usize]| a.iter().zip(b).all(|(a, b)| a >= b);
    let swaps = !matches!(c.align, Align::Matlab | Align::Torch | Align::Causal);
    if c.mode == Mode::Valid && swaps && !covers(n, k) && !covers(k, n) {
        let expected = "one operand at least as large as the other along every axis";
        return Err(Error::shape("valid", expected, (n, k)));
    }
    let origins = origins(c, n.len())?;
    let axis = |i: usize| {
        let mut region = region(op, c.mode, c.align, n[i], k[i]).map_err(|e| e.at(i))?;
        let (least, most) = (-(k[i] as isize / 2), (k[i] as isize - 1) / 2);
        if !(least..=most).contains(&origins[i]) {
            let expected = format!("{least} to {most} for {} taps", k[i]);
            return Err(Error::argument("origin", expected, origins[i]));
        }
        region.start += match op {
            Op::Convolve => origins[i],
            Op::Correlate => -origins[i],
        };
        Ok(region)
    };
    (0..n.len()).map(axis).collect()
}

fn origins(c: &Convolution, rank: usize) -> Result<Vec<isize>> {
    let origins = match c.origin[..] {
        [] => return Ok(vec![0; rank]),
        [origin] => vec![origin; rank],
        _ => c.origin.clone(),
    };
    if origins.len() != rank {
        let expected = format!("one number, or {rank}");
        return Err(Error::argument("origin", expected, format!("{origins:?}")));
    }
    let none = origins.iter().all(|&o| o == 0);
    if !none && (c.mode != Mode::Same || c.align != Align::Ndimage) {
        return Err(Error::Unsupported {
            what: "an origin without mode same and alignment ndimage".into(),
        });
    }
    Ok(origins)
}
