//! How the rows of a stencil read their source: the geometry of the kernels that compute straight
//! from it, without a packed copy.
//!
//! A row is a run of target positions along the last axis. Which taps it has depends on where it
//! lies along the outer axes, and rows that have the same ones share a [`Class`]. Along the last
//! axis a row is cut into [`Block`]s of vectors, and a mask says which lanes of a tap's vector lie
//! inside the source.

use std::ops::Range;

/// One tap of the rows of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    /// What a row's start is moved by, to where its first position reads.
    pub offset: isize,
    pub tap: usize,
    /// Number of the tap's offset along the last axis.
    pub column: usize,
}

/// The taps that lie inside the source for some rows.
#[derive(Debug)]
pub(crate) struct Class {
    pub reads: Vec<Read>,
    /// Whether those are all.
    pub whole: bool,
    /// Per tap, whether it is one of them.
    pub active: Vec<bool>,
    /// What the rows read, from their start on.
    reach: Range<isize>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Where position 0 of the row reads with an offset of 0.
    pub start: isize,
    pub class: usize,
}

/// Some vectors of every row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// First position.
    pub first: usize,
    pub vectors: usize,
    /// Where the masks begin, one a column and vector; `None` where all lanes are inside.
    pub masks: Option<usize>,
}

/// The rows of one stencil.
pub(crate) struct Lines {
    pub rows: Vec<Row>,
    pub classes: Vec<Class>,
    pub blocks: Vec<Block>,
    pub masks: Vec<u32>,
    /// Per tap, as [`Read`] has it.
    pub taps: Vec<Read>,
    /// Per column, its offset, in positions of the source.
    pub columns: Vec<isize>,
    /// Per column, the positions that read inside the source.
    pub inside: Vec<Range<usize>>,
    /// The positions that do so for every column.
    pub interior: Range<usize>,
    /// Positions of the source along the last axis.
    pub size: usize,
    /// Positions of a row.
    pub width: usize,
    /// Steps in memory from one position of a row to the next.
    pub step: usize,
    pub lanes: usize,
}

/// One tap as [`Lines::new`] wants it.
pub(crate) struct LineTap {
    /// Offset in memory, all axes.
    pub offset: isize,
    /// Offset along the last axis, in positions of the source.
    pub column: isize,
}

/// The last axis of [`Lines::new`].
pub(crate) struct LastAxis {
    pub width: usize,
    /// Source positions from one target position to the next, and steps in memory of each.
    pub pace: usize,
    pub pixel: usize,
    /// Positions of the source.
    pub size: usize,
}

impl Lines {
    /// `rows` gives the start of every row and the number of its set of taps, `sets` for each set
    /// whether a tap is in it. Blocks have at most `most` vectors of `lanes`.
    pub fn new(
        rows: Vec<Row>,
        sets: Vec<Vec<bool>>,
        taps: &[LineTap],
        axis: LastAxis,
        (lanes, most): (usize, usize),
    ) -> Self {
        let mut offsets: Vec<isize> = taps.iter().map(|tap| tap.column).collect();
        offsets.sort_unstable();
        offsets.dedup();
        let width = axis.width;
        let inside: Vec<Range<usize>> = offsets
            .iter()
            .map(|&offset| inside_range(offset, axis.pace, width, axis.size))
            .map(|(lo, hi)| if lo < hi { lo..hi } else { 0..0 })
            .collect();
        let interior = inside.iter().fold(0..width, |all, one| {
            all.start.max(one.start)..all.end.min(one.end)
        });
        let interior = interior.start.min(interior.end)..interior.end;
        let step = axis.pace * axis.pixel;
        let taps: Vec<Read> = (0..)
            .zip(taps)
            .map(|(tap, from)| Read {
                offset: from.offset,
                tap,
                column: offsets.binary_search(&from.column).unwrap_or(0),
            })
            .collect();
        let classes = sets
            .into_iter()
            .map(|active| Class::new(active, &taps, &inside, step))
            .collect();
        let mut lines = Lines {
            rows,
            classes,
            blocks: Vec::new(),
            masks: Vec::new(),
            taps,
            columns: offsets,
            size: axis.size,
            inside,
            interior,
            width,
            step,
            lanes,
        };
        lines.cut(most);
        lines
    }

    fn cut(&mut self, most: usize) {
        let lanes = self.lanes;
        let total = self.width.div_ceil(lanes);
        let mut vector = 0;
        while vector < total {
            let vectors = [4, 2, 1]
                .into_iter()
                .find(|&n| n <= most && n <= total - vector)
                .unwrap_or(1);
            let (first, end) = (vector * lanes, (vector + vectors) * lanes);
            let full = self.interior.start <= first && end <= self.interior.end;
            let masks = (!full).then_some(self.masks.len());
            if !full {
                for inside in &self.inside {
                    for v in vector..vector + vectors {
                        self.masks.push(mask(inside, v * lanes, lanes));
                    }
                }
            }
            self.blocks.push(Block {
                first,
                vectors,
                masks,
            });
            vector += vectors;
        }
    }

    /// The blocks that cover whole columns `from..to`, both on a boundary of blocks.
    pub fn blocks_in(&self, columns: &Range<usize>) -> &[Block] {
        let from = self.blocks.partition_point(|b| b.first < columns.start);
        let to = self.blocks.partition_point(|b| b.first < columns.end);
        &self.blocks[from..to]
    }

    /// Checks that `rows` read inside a source of `len` elements, `last` elements further for the
    /// last of their channels.
    pub fn assert_inside(&self, rows: &[Row], last: usize, len: usize) {
        for row in rows {
            let reach = &self.classes[row.class].reach;
            if !reach.is_empty() {
                assert!(row.start + reach.start >= 0);
                assert!((row.start + reach.end) as usize + last <= len);
            }
        }
    }
}

impl Class {
    fn new(active: Vec<bool>, taps: &[Read], inside: &[Range<usize>], step: usize) -> Self {
        let reads: Vec<Read> = taps.iter().filter(|t| active[t.tap]).copied().collect();
        let mut reach = 0..0;
        for read in &reads {
            let inside = &inside[read.column];
            if inside.is_empty() {
                continue;
            }
            let first = read.offset + (inside.start * step) as isize;
            let end = read.offset + ((inside.end - 1) * step) as isize + 1;
            reach = match reach.is_empty() {
                true => first..end,
                false => reach.start.min(first)..reach.end.max(end),
            };
        }
        Class {
            whole: reads.len() == taps.len(),
            reads,
            active,
            reach,
        }
    }
}

/// The lanes of the vector at `first` that lie in `range`.
pub(crate) fn mask(range: &Range<usize>, first: usize, lanes: usize) -> u32 {
    let below = |edge: usize| {
        let bits = edge.saturating_sub(first).min(lanes);
        ((1u64 << bits) - 1) as u32
    };
    below(range.end) & !below(range.start)
}

/// The `i` in `0..len` for which `first + i * pace` is in `0..size`, as a half-open range.
pub(crate) fn inside_range(first: isize, pace: usize, len: usize, size: usize) -> (usize, usize) {
    // most rows are inside, and divisions are slow
    let past = first + (len.saturating_sub(1) * pace) as isize;
    if first >= 0 && past < size as isize {
        return (0, len);
    }
    let lo = if first < 0 {
        first.unsigned_abs().div_ceil(pace)
    } else {
        0
    };
    let room = size as isize - first; // i * pace < room
    let hi = if room <= 0 {
        0
    } else {
        (room as usize).div_ceil(pace)
    };
    (lo.min(len), hi.min(len))
}
