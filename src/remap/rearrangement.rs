//! A change of an array's axes as a value: which element of the source stands where.

mod boxes;
mod gather;

use std::ops::Range;

use ndarray::{ArrayD, IxDyn};

use crate::error::{Error, Result};
use crate::shape::check_elements;
pub(crate) use boxes::{Boxes, Part};

/// A stretch of memory positions, `stride` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    size: usize,
    stride: isize,
}

/// Where each element of a rearranged array comes from: axes permuted, reversed, split and
/// merged, in any order and number, without touching an element.
///
/// It is applied to an array, or to the bytes of one whose element type does not matter.
///
/// ```
/// use ndarray::ArrayD;
/// use ndconv::remap::Rearrangement;
/// let rows: ArrayD<i32> = ArrayD::from_shape_vec(vec![2, 3], (0..6).collect()).unwrap();
/// let columns = Rearrangement::new(&[2, 3])?.permute(&[1, 0])?.reverse(0)?;
/// assert_eq!(columns.apply(&rows)?.into_raw_vec_and_offset().0, [2, 5, 1, 4, 0, 3]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rearrangement {
    /// Every axis is a row-major nest of pieces.
    axes: Vec<Vec<Piece>>,
    offset: usize,
    source: Vec<usize>,
    reach: usize,
}

impl Rearrangement {
    /// The array of this shape as it is.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more elements than can be addressed.
    pub fn new(shape: &[usize]) -> Result<Self> {
        let reach = check_elements("array", shape)?;
        let mut axes = vec![Vec::new(); shape.len()];
        let mut stride = 1isize;
        for (axis, &size) in axes.iter_mut().zip(shape).rev() {
            axis.push(Piece { size, stride });
            stride *= size.max(1) as isize;
        }
        Ok(Rearrangement {
            axes,
            offset: 0,
            source: shape.to_vec(),
            reach,
        })
    }

    /// A view of `source` elements by strides, as PyTorch stores its tensors; `None` where it
    /// reaches outside.
    pub(crate) fn strided(
        source: usize,
        offset: usize,
        shape: &[usize],
        strides: &[usize],
    ) -> Option<Self> {
        check_elements("view", shape).ok()?;
        if shape.len() != strides.len() {
            return None;
        }
        let mut last = Some(offset);
        if !shape.contains(&0) {
            for (&size, &stride) in shape.iter().zip(strides) {
                last = last.and_then(|l| (size - 1).checked_mul(stride)?.checked_add(l));
            }
            if last? >= source {
                return None;
            }
        }
        let axes = shape.iter().zip(strides).map(|(&size, &stride)| {
            let stride = isize::try_from(stride).ok();
            // a stride that leads nowhere may be anything
            let stride = stride.or((size < 2).then_some(0))?;
            Some(vec![Piece { size, stride }])
        });
        Some(Rearrangement {
            axes: axes.collect::<Option<_>>()?,
            offset: if shape.contains(&0) { 0 } else { offset },
            source: vec![source],
            reach: source,
        })
    }

    /// The same elements of the part of a flat source that they come from, and where it begins.
    pub(crate) fn trimmed(mut self) -> (usize, Self) {
        let elements: usize = self.shape().iter().product();
        let reach = |p: &Piece| (p.size.max(1) - 1) * p.stride.unsigned_abs();
        let last: usize = self.axes.iter().flatten().map(reach).sum();
        let begin = std::mem::take(&mut self.offset);
        self.reach = if elements == 0 { 0 } else { last + 1 };
        self.source = vec![self.reach];
        (begin, self)
    }

    /// The shape that it is applied to.
    pub fn source_shape(&self) -> &[usize] {
        &self.source
    }

    /// The shape that comes out.
    pub fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| size(axis)).collect()
    }

    /// Axis `a` becomes what axis `order[a]` was.
    ///
    /// # Errors
    /// [`Error::Argument`] unless `order` names every axis once.
    pub fn permute(mut self, order: &[usize]) -> Result<Self> {
        let mut seen = vec![false; self.axes.len()];
        order
            .iter()
            .for_each(|&a| seen.iter_mut().skip(a).take(1).for_each(|s| *s = true));
        if order.len() != seen.len() || seen.contains(&false) {
            let expected = format!("each of the {} axes once", seen.len());
            return Err(Error::argument("order", expected, format!("{order:?}")));
        }
        self.axes = order.iter().map(|&a| self.axes[a].clone()).collect();
        Ok(self)
    }

    /// An axis from its end to its beginning.
    ///
    /// # Errors
    /// [`Error::Argument`] for an axis that is not there.
    pub fn reverse(mut self, axis: usize) -> Result<Self> {
        let axes = self.axes.len();
        let Some(pieces) = self.axes.get_mut(axis) else {
            return Err(no_axis(axis, axes));
        };
        if size(pieces) > 0 {
            for piece in pieces.iter_mut() {
                let last = (piece.size - 1) as isize * piece.stride;
                self.offset = self.offset.wrapping_add_signed(last); // the last element's place
                piece.stride = -piece.stride;
            }
        }
        Ok(self)
    }

    /// One axis as several, row-major.
    ///
    /// # Errors
    /// [`Error::Shape`] when the sizes do not multiply to the axis' own;
    /// [`Error::Unsupported`] when the axis was merged from others in a way that crosses them.
    pub fn split(mut self, axis: usize, sizes: &[usize]) -> Result<Self> {
        let Some(pieces) = self.axes.get(axis) else {
            return Err(no_axis(axis, self.axes.len()));
        };
        let whole = size(pieces);
        if check_elements("split", sizes)? != whole {
            let expected = format!("sizes whose product is {whole}");
            return Err(Error::shape(format!("axis {axis}"), expected, sizes));
        }
        let crossed = || Error::Unsupported {
            what: format!("splitting merged axis {axis} across its parts into {sizes:?}"),
        };
        let parts = cut(pieces, sizes).ok_or_else(crossed)?;
        self.axes.splice(axis..=axis, parts);
        Ok(self)
    }

    /// Neighbouring axes as one, row-major.
    ///
    /// # Errors
    /// [`Error::Argument`] for axes that are not there.
    pub fn merge(mut self, axes: Range<usize>) -> Result<Self> {
        if axes.start > axes.end || axes.end > self.axes.len() {
            return Err(no_axis(axes.end.saturating_sub(1), self.axes.len()));
        }
        let merged = self.axes[axes.clone()].concat();
        self.axes.splice(axes, [merged]);
        Ok(self)
    }

    /// Whether every element stays where it is in memory, so that only the shape changes.
    pub fn is_reshape(&self) -> bool {
        let moves = self.coalesced();
        let elements: usize = moves.iter().map(|p| p.size).product();
        let plain = match moves.as_slice() {
            [] => true,
            [one] => one.stride == 1,
            _ => false,
        };
        elements == 0 || (plain && self.offset == 0 && elements == self.reach)
    }

    /// The array rearranged.
    ///
    /// # Errors
    /// [`Error::Shape`] for an array of another shape; [`Error::OutOfMemory`].
    pub fn apply<A: Clone>(&self, array: &ArrayD<A>) -> Result<ArrayD<A>> {
        if array.shape() != self.source {
            let expected = format!("{:?}", self.source);
            return Err(Error::shape("array", expected, array.shape()));
        }
        let source = array.as_standard_layout();
        let source = source.as_slice().unwrap_or_default();
        let shape = self.shape();
        let elements = check_elements("array", &shape)?;
        let mut moved = Vec::new();
        moved
            .try_reserve_exact(elements)
            .map_err(|_| Error::OutOfMemory {
                what: format!("an array of shape {shape:?}"),
                requested: elements.saturating_mul(size_of::<A>()),
            })?;
        self.runs(0..elements, &mut |start, step, count| {
            let at = |i: usize| start.wrapping_add_signed(i as isize * step);
            moved.extend((0..count).map(|i| source[at(i)].clone()));
        });
        ArrayD::from_shape_vec(IxDyn(&shape), moved)
            .map_err(|e| Error::shape("array", "a shape that ndarray can hold", e.to_string()))
    }

    /// Calls `run(start, step, count)` for every stretch of result elements `range`: they are the
    /// source elements `start + i * step`.
    fn runs(&self, range: Range<usize>, run: &mut impl FnMut(usize, isize, usize)) {
        if range.is_empty() {
            return;
        }
        let moves = self.coalesced();
        let Some(&row) = moves.last() else {
            return run(self.offset, 1, 1);
        };
        // an odometer over the rows; the first one may begin inside
        let outer = &moves[..moves.len() - 1];
        let mut place: Vec<usize> = vec![0; outer.len()];
        let mut index = range.start / row.size;
        for (place, piece) in place.iter_mut().zip(outer).rev() {
            (*place, index) = (index % piece.size, index / piece.size);
        }
        let mut start = gather::walk(self.offset, outer, range.start / row.size);
        let (mut next, mut within) = (range.start, range.start % row.size);
        while next < range.end {
            let count = (row.size - within).min(range.end - next);
            let first = start.wrapping_add_signed(within as isize * row.stride);
            run(first, row.stride, count);
            (next, within) = (next + count, 0);
            for (place, piece) in place.iter_mut().zip(outer).rev() {
                *place += 1;
                start = start.wrapping_add_signed(piece.stride);
                if *place < piece.size {
                    break;
                }
                start = start.wrapping_add_signed(-(piece.size as isize) * piece.stride);
                *place = 0;
            }
        }
    }

    /// Where result element `index` lies in the source.
    fn start(&self, moves: &[Piece], index: usize) -> usize {
        gather::walk(self.offset, moves, index)
    }

    /// The result's axes as few pieces as possible, slowest first; none of size 1.
    fn coalesced(&self) -> Vec<Piece> {
        let mut moves: Vec<Piece> = Vec::new();
        for &piece in self.axes.iter().flatten().filter(|p| p.size != 1) {
            match moves.last_mut() {
                Some(last) if last.stride == piece.stride * piece.size as isize => {
                    last.size *= piece.size;
                    last.stride = piece.stride;
                }
                _ => moves.push(piece),
            }
        }
        moves
    }
}

fn size(axis: &[Piece]) -> usize {
    axis.iter().map(|p| p.size).product()
}

/// A row-major nest of pieces cut into axes of these sizes.
fn cut(pieces: &[Piece], sizes: &[usize]) -> Option<Vec<Vec<Piece>>> {
    if sizes.contains(&0) {
        let axis = |&size: &usize| vec![Piece { size, stride: 1 }];
        return Some(sizes.iter().map(axis).collect());
    }
    let mut rest: Vec<Piece> = pieces.to_vec();
    let mut parts = vec![Vec::new(); sizes.len()];
    for (part, &size) in parts.iter_mut().zip(sizes).rev() {
        let mut needed = size;
        while needed > 1 {
            let piece = rest.pop()?;
            if piece.size <= needed && needed.is_multiple_of(piece.size) {
                needed /= piece.size;
                part.insert(0, piece);
            } else if piece.size.is_multiple_of(needed) {
                let stride = piece.stride;
                part.insert(
                    0,
                    Piece {
                        size: needed,
                        stride,
                    },
                );
                rest.push(Piece {
                    size: piece.size / needed,
                    stride: stride * needed as isize,
                });
                needed = 1;
            } else {
                return None;
            }
        }
    }
    Some(parts)
}

fn no_axis(axis: usize, axes: usize) -> Error {
    Error::argument("axis", format!("less than {axes}"), axis)
}
