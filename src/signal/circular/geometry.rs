//! Which boxes of two arrays meet: circular axes, batch axes and broadcasting.

use std::borrow::Cow;

use ndarray::{ArrayBase, ArrayD, Data, Dimension, IxDyn};

use crate::error::{Error, Result};
use crate::shape::check_elements;

/// One of the three arrays of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operand {
    X,
    Y,
    Z,
}

/// For every output box the pairs of input boxes whose results are added up in it.
pub(crate) struct Pairing {
    pairs: Vec<(usize, usize)>,
    starts: Vec<usize>,
}

impl Pairing {
    /// The pairs of one output box.
    pub fn of(&self, output: usize) -> &[(usize, usize)] {
        &self.pairs[self.starts[output]..self.starts[output + 1]]
    }

    pub fn outputs(&self) -> usize {
        self.starts.len() - 1
    }

    /// The number of all pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }
}

/// Two arrays whose circular axes agree and whose batch axes broadcast.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    /// The circular axes of the broadcast shape, ascending.
    axes: Vec<usize>,
    /// Sizes of the circular axes.
    dims: Vec<usize>,
    /// Sizes of the batch axes of x, y and z, of one rank.
    batches: [Vec<usize>; 3],
}

impl Geometry {
    /// `axes` count from the front of the broadcast shape or, negative, from its end.
    pub fn new(x: &[usize], y: &[usize], axes: &[isize]) -> Result<Self> {
        let rank = x.len().max(y.len());
        let axes = natural_axes(axes, rank)?;
        let widen = |shape: &[usize]| -> Vec<usize> {
            let ones = std::iter::repeat_n(1, rank - shape.len());
            ones.chain(shape.iter().copied()).collect()
        };
        let missing = |shape: &[usize]| axes.iter().any(|&a| a < rank - shape.len());
        let (wide_x, wide_y) = (widen(x), widen(y));
        let dims: Vec<usize> = axes.iter().map(|&a| wide_x[a]).collect();
        let other: Vec<usize> = axes.iter().map(|&a| wide_y[a]).collect();
        if missing(x) || missing(y) || dims != other || dims.contains(&0) {
            let expected = format!("the same sizes, at least 1, on the circular axes {axes:?}");
            let got = format!("x {x:?} and y {y:?}");
            return Err(Error::shape("circular operands", expected, got));
        }
        let batch = |wide: Vec<usize>| -> Vec<usize> {
            let free = (0..rank).filter(|a| !axes.contains(a));
            free.map(|a| wide[a]).collect()
        };
        let (x_batch, y_batch) = (batch(wide_x), batch(wide_y));
        let z_batch = x_batch
            .iter()
            .zip(&y_batch)
            .map(|sizes| match sizes {
                (1, &size) | (&size, 1) => Ok(size),
                (a, b) if a == b => Ok(*a),
                _ => {
                    let expected = "batch axes that are equal or 1";
                    let got = format!("x {x:?} and y {y:?}");
                    Err(Error::shape("circular operands", expected, got))
                }
            })
            .collect::<Result<Vec<usize>>>()?;
        let geometry = Geometry {
            axes,
            dims,
            batches: [x_batch, y_batch, z_batch],
        };
        check_elements("the circular result", &geometry.shape(Operand::Z))?;
        Ok(geometry)
    }

    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The shape of an operand with the circular axes in their places.
    pub fn shape(&self, operand: Operand) -> Vec<usize> {
        let mut batch = self.batches[operand as usize].iter();
        let mut dims = self.dims.iter();
        (0..self.axes.len() + self.batches[0].len())
            .map(|a| {
                let sizes = if self.axes.contains(&a) {
                    &mut dims
                } else {
                    &mut batch
                };
                sizes.next().copied().unwrap_or(1)
            })
            .collect()
    }

    /// What is added up where: boxes of `output` from boxes of `a` and `b`.
    pub fn pairing(&self, output: Operand, a: Operand, b: Operand) -> Pairing {
        let [_, _, result] = &self.batches;
        let boxes: usize = result.iter().product();
        let numbers = [Operand::X, Operand::Y, Operand::Z].map(|operand| {
            let mut step = 1;
            let sizes = self.batches[operand as usize].iter().rev();
            let mut steps: Vec<usize> = sizes
                .map(|&size| {
                    let own = if size == 1 { 0 } else { step };
                    step *= size;
                    own
                })
                .collect();
            steps.reverse();
            steps
        });
        let outputs = self.batches[output as usize].iter().product();
        let mut triples = Vec::with_capacity(boxes);
        let mut position = vec![0; result.len()];
        for _ in 0..boxes {
            let number = |operand: Operand| -> usize {
                let steps = &numbers[operand as usize];
                position.iter().zip(steps).map(|(p, s)| p * s).sum()
            };
            triples.push((number(output), (number(a), number(b))));
            for (p, &size) in position.iter_mut().zip(result).rev() {
                *p += 1;
                if *p < size {
                    break;
                }
                *p = 0;
            }
        }
        triples.sort_by_key(|&(output, _)| output); // stable: the order of sums is fixed
        let mut starts = vec![0; outputs + 1];
        triples.iter().for_each(|&(o, _)| starts[o + 1] += 1);
        for o in 0..outputs {
            starts[o + 1] += starts[o];
        }
        Pairing {
            pairs: triples.into_iter().map(|(_, pair)| pair).collect(),
            starts,
        }
    }

    /// The elements of an array as `(batch, circular axes)`, row-major.
    pub fn boxes<'a, S, A, D>(&self, array: &'a ArrayBase<A, D>) -> Cow<'a, [S]>
    where
        S: Copy,
        A: Data<Elem = S>,
        D: Dimension,
    {
        // axes that the array lacks are in front and not circular
        let lacking = self.axes.len() + self.batches[0].len() - array.ndim();
        let order = self
            .order()
            .into_iter()
            .filter_map(|a| a.checked_sub(lacking));
        let order: Vec<usize> = order.collect();
        if order.iter().enumerate().all(|(i, &a)| i == a)
            && let Some(elements) = array.as_slice()
        {
            return Cow::Borrowed(elements);
        }
        let moved = array.view().into_dyn().permuted_axes(order);
        Cow::Owned(moved.iter().copied().collect())
    }

    /// The array of `operand` with these elements, in the shape it came with.
    pub fn array<S: Copy>(
        &self,
        operand: Operand,
        shape: &[usize],
        elements: Vec<S>,
    ) -> Result<ArrayD<S>> {
        let wrong = |e: ndarray::ShapeError| Error::shape("circular result", "a shape", e);
        let order = self.order();
        if order.is_sorted() {
            return ArrayD::from_shape_vec(IxDyn(shape), elements).map_err(wrong);
        }
        let natural = self.shape(operand);
        let moved: Vec<usize> = order.iter().map(|&a| natural[a]).collect();
        let mut back = vec![0; order.len()];
        for (to, &from) in order.iter().enumerate() {
            back[from] = to;
        }
        let array = ArrayD::from_shape_vec(IxDyn(&moved), elements).map_err(wrong)?;
        let array = array.permuted_axes(back);
        let array = array.as_standard_layout().into_owned();
        array.into_shape_with_order(IxDyn(shape)).map_err(wrong)
    }

    /// Batch axes, then circular ones.
    fn order(&self) -> Vec<usize> {
        let rank = self.axes.len() + self.batches[0].len();
        let batch = (0..rank).filter(|a| !self.axes.contains(a));
        batch.chain(self.axes.iter().copied()).collect()
    }
}

/// Axis numbers from the front, ascending and each once.
fn natural_axes(axes: &[isize], rank: usize) -> Result<Vec<usize>> {
    let expected = || format!("different axes of {rank}, from -{rank} on");
    let mut natural = Vec::with_capacity(axes.len());
    for &axis in axes {
        let from_front = if axis < 0 {
            rank.checked_sub(axis.unsigned_abs())
        } else {
            Some(axis.unsigned_abs()).filter(|&a| a < rank)
        };
        match from_front {
            Some(a) if !natural.contains(&a) => natural.push(a),
            _ => return Err(Error::argument("circular axis", expected(), axis)),
        }
    }
    if natural.is_empty() {
        return Err(Error::argument("circular axes", "at least one", "none"));
    }
    natural.sort_unstable();
    Ok(natural)
}
