//! What stands beyond the ends of a signal, for any distance, and the adjoint of putting it there.

use super::scalar::Scalar;
use crate::cpu::output::by_parts;
use crate::error::Result;
use crate::shape::check_elements;

/// The values beyond the ends of a signal `a b c d`.
///
/// | here | `scipy.ndimage` | `convolve2d` | signal |
/// | --- | --- | --- | --- |
/// | `Constant(v)` | `constant`, `cval` | `fill`, `fillvalue` | `v v v v | a b c d | v v v v` |
/// | `Reflect` | `reflect` | `symm` | `d c b a | a b c d | d c b a` |
/// | `Mirror` | `mirror` | | `. d c b | a b c d | c b a .` |
/// | `Nearest` | `nearest` | | `a a a a | a b c d | d d d d` |
/// | `Wrap` | `wrap` | `wrap` | `a b c d | a b c d | a b c d` |
///
/// ```
/// use ndconv::signal::Boundary;
/// let at = |b: Boundary| [-2, -1, 4, 5].map(|i| b.source(i, 4));
/// assert_eq!(at(Boundary::Reflect), [Some(1), Some(0), Some(3), Some(2)]);
/// assert_eq!(at(Boundary::Mirror), [Some(2), Some(1), Some(2), Some(1)]);
/// assert_eq!(at(Boundary::ZERO), [None; 4]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Boundary {
    /// One value everywhere.
    Constant(f64),
    /// Reflected about the edge of the last element, which is repeated.
    Reflect,
    /// Reflected about the middle of the last element, which is not repeated.
    Mirror,
    /// The last element.
    Nearest,
    /// The other end.
    Wrap,
}

impl Default for Boundary {
    fn default() -> Self {
        Boundary::ZERO
    }
}

impl Boundary {
    /// Zeros.
    pub const ZERO: Boundary = Boundary::Constant(0.0);

    /// The position in `0..n` whose value stands at `position`, however far away; `None` is the
    /// constant (and every position of an empty signal).
    pub fn source(self, position: isize, n: usize) -> Option<usize> {
        if n == 0 {
            return None;
        }
        let size = n as i128;
        let position = position as i128;
        if (0..size).contains(&position) {
            return Some(position as usize);
        }
        let folded = match self {
            Boundary::Constant(_) => return None,
            Boundary::Nearest => position.clamp(0, size - 1),
            Boundary::Wrap => position.rem_euclid(size),
            Boundary::Reflect => {
                let p = position.rem_euclid(2 * size);
                p.min(2 * size - 1 - p)
            }
            Boundary::Mirror if n == 1 => 0,
            Boundary::Mirror => {
                let p = position.rem_euclid(2 * size - 2);
                p.min(2 * size - 2 - p)
            }
        };
        Some(folded as usize)
    }

    fn constant<S: Scalar>(self) -> S {
        match self {
            Boundary::Constant(value) => S::of(value),
            _ => S::zero(),
        }
    }
}

/// Elements that one thread copies at a time.
const PART: usize = 1 << 13;

/// How one axis of a signal becomes longer, or shorter where a number is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Margin {
    pub before: isize,
    pub after: isize,
}

impl Margin {
    pub const NONE: Margin = Margin {
        before: 0,
        after: 0,
    };

    /// The length that `n` becomes; at least 0.
    pub fn of(self, n: usize) -> usize {
        (n as isize + self.before + self.after).max(0) as usize
    }
}

/// Where every position of the extended signal comes from, row by row.
struct Sources {
    dims: Vec<usize>,
    /// Of all axes but the last.
    outer: Vec<Vec<Option<usize>>>,
    boundary: Boundary,
    /// Of the last axis.
    margin: Margin,
}

impl Sources {
    fn new(dims: &[usize], margins: &[Margin], boundary: Boundary) -> Self {
        let last = dims.len() - 1;
        let outer = dims[..last].iter().zip(margins).map(|(&n, &margin)| {
            let at = |i| boundary.source(i as isize - margin.before, n);
            (0..margin.of(n)).map(at).collect()
        });
        Sources {
            dims: dims.to_vec(),
            outer: outer.collect(),
            boundary,
            margin: margins[last],
        }
    }

    fn rows(&self) -> usize {
        self.outer.iter().map(Vec::len).product()
    }

    fn row(&self) -> usize {
        self.margin.of(self.dims[self.dims.len() - 1])
    }

    fn column(&self, i: usize) -> Option<usize> {
        let n = self.dims[self.dims.len() - 1];
        self.boundary.source(i as isize - self.margin.before, n)
    }

    /// First element of the source row behind row `index` of the extended signal.
    fn source_row(&self, mut index: usize) -> Option<usize> {
        let last = self.dims.len() - 1;
        let (mut offset, mut pitch) = (0, self.dims[last]);
        for axis in (0..last).rev() {
            let positions = &self.outer[axis];
            offset += positions[index % positions.len()]? * pitch;
            index /= positions.len();
            pitch *= self.dims[axis];
        }
        Some(offset)
    }

    /// The run of a row that is the source row as it stands: where, from where, how long.
    fn run(&self) -> (usize, usize, usize) {
        let last = self.dims.len() - 1;
        let Margin { before, .. } = self.margin;
        let (to, from) = (before.max(0) as usize, (-before).max(0) as usize);
        let room = self.row().saturating_sub(to);
        let len = self.dims[last].saturating_sub(from).min(room);
        (to.min(self.row()), from.min(self.dims[last]), len)
    }

    /// Row `index` of the extended signal.
    fn extend<S: Scalar>(&self, x: &[S], index: usize, row: &mut [S]) {
        let constant = self.boundary.constant();
        let Some(start) = self.source_row(index) else {
            row.fill(constant);
            return;
        };
        let (to, from, len) = self.run();
        row[to..to + len].copy_from_slice(&x[start + from..start + from + len]);
        for i in (0..to).chain(to + len..row.len()) {
            row[i] = self.column(i).map_or(constant, |column| x[start + column]);
        }
    }
}

/// The signal with its margins, one per axis, into `target`, which has the right length.
pub(crate) fn extend_into<S: Scalar>(
    x: &[S],
    dims: &[usize],
    margins: &[Margin],
    boundary: Boundary,
    target: &mut [S],
) {
    let sources = Sources::new(dims, margins, boundary);
    let rows = target.chunks_mut(sources.row().max(1)).enumerate();
    rows.for_each(|(index, row)| sources.extend(x, index, row));
}

/// Every signal of a batch with its margins, in parallel.
///
/// # Errors
/// A result that memory cannot hold.
pub(crate) fn extend<S: Scalar>(
    x: &[S],
    dims: &[usize],
    margins: &[Margin],
    boundary: Boundary,
) -> Result<(Vec<S>, Vec<usize>)> {
    let extended: Vec<usize> = dims.iter().zip(margins).map(|(&n, m)| m.of(n)).collect();
    let from: usize = dims.iter().product();
    let batch = x.len().checked_div(from).unwrap_or(0);
    let shape = [&[batch][..], &extended].concat();
    let elements = check_elements("the extended signal", &shape)?;
    if elements == 0 {
        return Ok((Vec::new(), extended));
    }
    let sources = Sources::new(dims, margins, boundary);
    let (rows, row) = (sources.rows(), sources.row());
    let together = (PART / row).max(1);
    let [y] = by_parts(
        elements,
        together * row,
        2,
        || (),
        |(), part, [y]| {
            for (i, y) in y.chunks_mut(row).enumerate() {
                let number = part * together + i;
                let x = &x[number / rows * from..][..from];
                sources.extend(x, number % rows, y);
            }
        },
    );
    Ok((y, extended))
}

/// The adjoint of [`extend`]: every value goes back to where it was copied from.
pub(crate) fn extend_adjoint<S: Scalar>(
    dy: &[S],
    dims: &[usize],
    margins: &[Margin],
    boundary: Boundary,
) -> Vec<S> {
    let sources = Sources::new(dims, margins, boundary);
    let size: usize = dims.iter().product();
    let extended = sources.rows() * sources.row();
    let batch = dy.len().checked_div(extended).unwrap_or(0);
    let mut dx = vec![S::zero(); batch * size];
    for (dy, dx) in dy.chunks(extended.max(1)).zip(dx.chunks_mut(size.max(1))) {
        for (index, row) in dy.chunks(sources.row()).enumerate() {
            let Some(start) = sources.source_row(index) else {
                continue;
            };
            for (i, &value) in row.iter().enumerate() {
                if let Some(column) = sources.column(i) {
                    dx[start + column] += value;
                }
            }
        }
    }
    dx
}
