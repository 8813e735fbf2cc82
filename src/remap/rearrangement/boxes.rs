//! A rearrangement in boxes: a part of every axis at a time.

use super::{Piece, Rearrangement};
use crate::error::Result;

/// A rearrangement that takes each element of its source once, cut along its axes into boxes.
///
/// A box comes from runs of the source and becomes runs of the result, which are both long where
/// the box reaches far along the axes that are fastest in the one and in the other.
pub(crate) struct Boxes {
    /// The axes in the result's order, slowest first.
    moves: Vec<Piece>,
    /// The same axes in the source's order, fastest first.
    by_source: Vec<usize>,
    /// A box's size along each axis, but for the last box.
    lens: Vec<usize>,
    offset: usize,
}

/// A box: its elements' places in the source in the source's order, how they are rearranged, and
/// their places in the result in the result's order.
pub(crate) struct Part {
    pub source: Rearrangement,
    pub plan: Rearrangement,
    pub result: Rearrangement,
}

#[derive(Clone, Copy)]
enum Side {
    Source,
    Result,
}

impl Boxes {
    /// Boxes of `most` elements or fewer. Each is a run of the result, or else any number of them,
    /// and `apart` is the length of the source's runs that comes before that of the result's.
    ///
    /// `None` where elements are left out or taken twice.
    pub fn new(plan: &Rearrangement, most: usize, apart: Option<usize>) -> Option<Self> {
        let moves = plan.coalesced();
        let mut by_source: Vec<usize> = (0..moves.len()).collect();
        by_source.sort_by_key(|&a| moves[a].stride.unsigned_abs());
        let (mut stride, mut offset) = (1, 0);
        for piece in by_source.iter().map(|&a| moves[a]) {
            if piece.stride.unsigned_abs() != stride {
                return None;
            }
            if piece.stride < 0 {
                offset += (piece.size - 1) * stride;
            }
            stride *= piece.size;
        }
        if stride != plan.reach || stride == 0 || offset != plan.offset {
            return None;
        }
        let mut boxes = Boxes {
            lens: vec![1; moves.len()],
            moves,
            by_source,
            offset,
        };
        if let Some(run) = apart {
            boxes.grow(Side::Source, run.min(most));
        }
        boxes.grow(Side::Result, most);
        for (len, piece) in boxes.lens.iter_mut().zip(&boxes.moves) {
            *len = piece.size.div_ceil(piece.size.div_ceil(*len)); // no small one at the end
        }
        Some(boxes)
    }

    /// Lengthens a box's runs on one side until it has `most` elements.
    fn grow(&mut self, side: Side, most: usize) {
        for axis in self.fastest_first(side) {
            let (size, len) = (self.moves[axis].size, self.lens[axis]);
            let others = self.size() / len;
            self.lens[axis] = (most / others).clamp(len, size);
            if self.lens[axis] < size {
                break;
            }
        }
    }

    fn fastest_first(&self, side: Side) -> Vec<usize> {
        match side {
            Side::Source => self.by_source.clone(),
            Side::Result => (0..self.moves.len()).rev().collect(),
        }
    }

    fn run(&self, side: Side) -> usize {
        let mut run = 1;
        for axis in self.fastest_first(side) {
            run *= self.lens[axis];
            if self.lens[axis] < self.moves[axis].size {
                break;
            }
        }
        run
    }

    /// Elements of the largest box.
    pub fn size(&self) -> usize {
        self.lens.iter().product()
    }

    /// Elements of a box that are neighbours in the source.
    pub fn source_run(&self) -> usize {
        self.run(Side::Source)
    }

    /// Elements of a box that are neighbours in the result.
    pub fn result_run(&self) -> usize {
        self.run(Side::Result)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        let along = |(piece, &len): (&Piece, &usize)| piece.size.div_ceil(len);
        self.moves.iter().zip(&self.lens).map(along).product()
    }

    /// Box `number`, in the result's order.
    pub fn part(&self, mut number: usize) -> Part {
        let axes = self.moves.len();
        let (mut begin, mut place, mut stride) = (0, self.offset, 1);
        let mut result = self.moves.clone();
        for axis in (0..axes).rev() {
            let (Piece { size, stride: step }, len) = (self.moves[axis], self.lens[axis]);
            let count = size.div_ceil(len);
            let first = number % count * len;
            number /= count;
            result[axis] = Piece {
                size: len.min(size - first),
                stride,
            };
            begin += first * stride as usize;
            place = place.wrapping_add_signed(first as isize * step);
            stride *= size as isize;
        }
        // in the box, the source's axes lie as in the source; a reversed one begins at its end
        let mut source = Vec::with_capacity(axes);
        let mut plan = result.clone();
        let (mut stride, mut offset) = (1, 0);
        for &axis in &self.by_source {
            let (size, step) = (result[axis].size, self.moves[axis].stride);
            if step < 0 {
                place = place.wrapping_add_signed((size - 1) as isize * step);
                offset += (size - 1) * stride as usize;
            }
            plan[axis].stride = stride * step.signum();
            stride *= size as isize;
            source.insert(
                0,
                Piece {
                    size,
                    stride: step.abs(),
                },
            );
        }
        let view = |pieces: Vec<Piece>, offset, reach| Rearrangement {
            axes: pieces.into_iter().map(|p| vec![p]).collect(),
            offset,
            source: vec![reach],
            reach,
        };
        let elements = stride as usize;
        let all = self.moves.iter().map(|p| p.size).product();
        Part {
            source: view(source, place, all),
            plan: view(plan, offset, elements),
            result: view(result, begin, all),
        }
    }
}

impl Part {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.plan.reach
    }
}

impl Rearrangement {
    /// Calls `run(start, count)` for every stretch of source elements that are neighbours in the
    /// result as well, up to the first error.
    pub(crate) fn neighbours(&self, run: &mut dyn FnMut(usize, usize) -> Result<()>) -> Result<()> {
        let elements: usize = self.coalesced().iter().map(|p| p.size).product();
        let mut result = Ok(());
        self.runs(0..elements, &mut |start, step, count| {
            let (runs, count) = if step == 1 { (1, count) } else { (count, 1) };
            for i in 0..runs {
                if result.is_ok() {
                    result = run(start.wrapping_add_signed(i as isize * step), count);
                }
            }
        });
        result
    }
}
