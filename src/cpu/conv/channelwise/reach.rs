//! The taps of a stencil, in the order in which rows of the source are read.
//!
//! Where products are of pairs, a pair is two numbers of the same column of two rows: rows that two
//! taps of the same column read. The last one of an odd number of rows is read from a pair of which
//! only the first half is kept: the same pair serves a later row of the target whole.

use super::super::stencil::{Roles, Stencil};
use crate::cpu::simd::{RUN, Run};

/// The halves of a pair.
const FIRST: u32 = 0xffff;
const SECOND: u32 = !FIRST;

/// A [`Run`] before a row is chosen: the offset of its first tap, and of a second row.
#[derive(Clone)]
struct Reach {
    offset: [isize; 4],
    second: Option<[isize; 3]>,
    run: Run,
}

impl Reach {
    fn outer(&self) -> [isize; 3] {
        [0, 1, 2].map(|a| self.offset[a])
    }
}

/// The taps of a stencil in runs.
pub(super) struct Reaches {
    all: Vec<Reach>,
    /// What a packed weight is: that of a tap, or those of two.
    pub places: Vec<(usize, Option<usize>)>,
    /// Rows of the source that a row of the target reads.
    pub depth: usize,
    /// The least and the greatest column.
    pub columns: (isize, isize),
}

/// The runs of one row of the target.
#[derive(Default)]
pub(super) struct Runs {
    pub runs: Vec<Run>,
    /// For each, where its row of the source begins; and a second one, whose numbers are the second
    /// ones of pairs. At least one of them lies inside of the source.
    pub rows: Vec<Rows>,
}

pub(super) type Rows = [Option<usize>; 2];

impl Runs {
    /// Where the rows begin that lie behind the last one that was asked for, of which this keeps count.
    pub fn new_rows(&self, last: &mut Option<usize>) -> impl Iterator<Item = usize> {
        self.rows
            .iter()
            .flatten()
            .flatten()
            .copied()
            .filter(|&row| {
                let new = last.is_none_or(|last| row > last);
                if new {
                    *last = Some(row);
                }
                new
            })
    }
}

/// Whether the same columns of neighbouring rows are read, in the same runs.
fn alike(a: &[Reach], b: &[Reach]) -> bool {
    let shape = |reach: &Reach| (reach.offset[3], reach.run.count);
    a[0].offset[..2] == b[0].offset[..2] && a.iter().map(shape).eq(b.iter().map(shape))
}

impl Reaches {
    pub fn new(stencil: &Stencil) -> Self {
        let pace = stencil.pace[3] as isize;
        let offset = |tap: usize| stencil.taps[tap].offset;
        let mut order: Vec<usize> = (0..stencil.taps.len()).collect();
        order.sort_by_key(|&tap| {
            let [a, b, c, d] = offset(tap);
            (a, b, c, d.rem_euclid(pace), d)
        });
        let mut all: Vec<Reach> = Vec::new();
        for (place, &tap) in order.iter().enumerate() {
            let offset = offset(tap);
            if let Some(Reach {
                offset: first, run, ..
            }) = all.last_mut()
            {
                let next = first[3] + run.count as isize * pace;
                if run.count < RUN && offset[..3] == first[..3] && offset[3] == next {
                    run.count += 1;
                    continue;
                }
            }
            all.push(Reach {
                offset,
                second: None,
                run: Run::new(offset[3], place),
            });
        }
        let last = |reach: &Reach| reach.offset[3] + (reach.run.count as isize - 1) * pace;
        Reaches {
            places: order.iter().map(|&tap| (tap, None)).collect(),
            depth: all.chunk_by(|a, b| a.outer() == b.outer()).count(),
            columns: (
                all.iter().map(|reach| reach.offset[3]).min().unwrap_or(0),
                all.iter().map(last).max().unwrap_or(0),
            ),
            all,
        }
    }

    /// Taps of the longest run.
    pub fn longest(&self) -> usize {
        let counts = self.all.iter().map(|reach| reach.run.count);
        counts.max().unwrap_or(0)
    }

    /// The runs of each row of the source.
    fn rows(&self) -> Vec<&[Reach]> {
        let rows = self.all.chunk_by(|a, b| a.outer() == b.outer());
        rows.collect()
    }

    /// Whether there are two rows whose columns are read alike.
    pub fn has_pairs(&self) -> bool {
        self.rows().windows(2).any(|rows| alike(rows[0], rows[1]))
    }

    /// The same of pairs of rows.
    pub fn of_pairs(&self) -> Self {
        let rows = self.rows();
        let mut paired = Reaches {
            all: Vec::with_capacity(self.all.len()),
            places: Vec::with_capacity(self.places.len()),
            ..*self
        };
        let mut apart = None;
        let mut rest = &rows[..];
        while let [first, more @ ..] = rest {
            let second = more.first().filter(|second| alike(first, second));
            rest = &more[usize::from(second.is_some())..];
            if let Some(second) = second {
                apart = Some(second[0].offset[2] - first[0].offset[2]);
            }
            for (i, reach) in first.iter().enumerate() {
                let mut reach = reach.clone();
                let [a, b, c] = reach.outer();
                reach.second = apart.map(|apart| [a, b, c + apart]);
                if second.is_none() {
                    reach.run.keep = FIRST;
                }
                let first = std::mem::replace(&mut reach.run.place, paired.places.len());
                for q in 0..reach.run.count {
                    let tap = |place: usize| self.places[place + q].0;
                    let second = second.map(|row| tap(row[i].run.place));
                    paired.places.push((tap(first), second));
                }
                paired.all.push(reach);
            }
        }
        paired
    }

    /// The runs that the row of target position `j` has, without those whose rows lie outside of the
    /// source; if there is a position of the next row of the target, its rows are the second ones.
    pub fn choose(
        &self,
        (roles, stencil): (&Roles, &Stencil),
        j: [usize; 4],
        next: Option<[usize; 4]>,
        to: &mut Runs,
    ) {
        let row = |j: [usize; 4], offset: [isize; 3]| {
            let mut row = 0;
            for (a, offset) in offset.into_iter().enumerate() {
                let at = usize::try_from((j[a] * stencil.pace[a]) as isize + offset).ok()?;
                row += (at < roles.source_size[a]).then_some(at)? * roles.source.spatial[a];
            }
            Some(row)
        };
        to.runs.clear();
        to.rows.clear();
        for reach in &self.all {
            let second = match next {
                Some(next) => row(next, reach.outer()),
                None => reach.second.and_then(|offset| row(j, offset)),
            };
            let rows = [row(j, reach.outer()), second];
            let used = match reach.run.keep {
                FIRST => &rows[..1],
                _ => &rows[..],
            };
            if used.iter().any(Option::is_some) {
                let mut run = reach.run;
                // the other half has no product, lest 0 * NaN reach a sum
                run.keep = match (next, rows) {
                    (Some(_), [Some(_), None]) => FIRST,
                    (Some(_), [None, Some(_)]) => SECOND,
                    _ => run.keep,
                };
                to.runs.push(run);
                to.rows.push(rows);
            }
        }
    }
}
