//! Which part of the full result a mode keeps: one rule per library, nowhere else.

use crate::error::{Error, GeometryError, Result};

/// How much of the full result is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Every position where the operands overlap: `n + k - 1` per axis.
    #[default]
    Full,
    /// As many positions as the first operand has; where they begin is the [`Align`]ment.
    Same,
    /// The positions where one operand lies inside the other.
    Valid,
}

/// Which library's rule says where `Same` begins and what `Valid` does with a long kernel.
///
/// With `n` the length of the first operand, `k` of the second, `full` the result of
/// [`Mode::Full`] and floor division:
///
/// | preset | `same` of a convolution | `same` of a correlation | length | `valid`, `k > n` |
/// | --- | --- | --- | --- | --- |
/// | `Numpy` | `(min(n, k) - 1) / 2` | `(k - 1) / 2`, if `n < k` then `n / 2` | `max(n, k)` | `k - n + 1` |
/// | `Scipy` | `(k - 1) / 2` | `(k - 1) / 2` | `n` | `k - n + 1` |
/// | `Scipy2d` | `(k - 1) / 2` | `k / 2` | `n` | `k - n + 1` |
/// | `Ndimage` | `k / 2` | `(k - 1) / 2` | `n` | `k - n + 1` |
/// | `Matlab` | `k / 2` | `k / 2` | `n` | nothing |
/// | `Torch` | `k / 2` | `k / 2` | `n` | an error |
/// | `Causal` | `0` | `0` | `n` | an error |
///
/// For odd `k <= n` the centred ones agree; for even `k` a wrong choice shifts the result by one.
///
/// ```
/// use ndarray::arr1;
/// use ndconv::signal::{Align, Convolution, Mode};
/// let (a, b) = (arr1(&[1.0, 2.0, 3.0]), arr1(&[1.0, 10.0]));
/// let same = |align| Convolution::new(Mode::Same).align(align).convolve(&a, &b);
/// assert_eq!(same(Align::Scipy)?, arr1(&[1.0, 12.0, 23.0]));
/// assert_eq!(same(Align::Matlab)?, arr1(&[12.0, 23.0, 30.0]));
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Align {
    /// `numpy.convolve` and `numpy.correlate`, along every axis.
    Numpy,
    /// `scipy.signal.convolve`, `correlate`, `fftconvolve`, `oaconvolve`, `convolve2d`.
    #[default]
    Scipy,
    /// `scipy.signal.convolve2d` and `correlate2d`; the latter is not aligned like `correlate`.
    Scipy2d,
    /// `scipy.ndimage.convolve` and `correlate`.
    Ndimage,
    /// MATLAB's and Octave's `conv`, `conv2`, `convn`; a correlation is `filter2`.
    Matlab,
    /// PyTorch's `padding="same"`, which puts the odd position of padding at the end.
    Torch,
    /// Output `i` sees nothing after input `i`: `full[0..n]`.
    Causal,
}

macro_rules! names {
    ($type:ident, $what:literal: $($variant:ident $name:literal),*) => {
        impl $type {
            /// All of them.
            pub const ALL: &[$type] = &[$($type::$variant),*];

            /// The name in lower case.
            pub fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name),*
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = Error;

            fn from_str(s: &str) -> Result<Self> {
                $type::ALL.iter().copied().find(|v| v.name() == s).ok_or_else(|| {
                    Error::argument($what, [$($name),*].join(", "), s)
                })
            }
        }
    };
}
pub(crate) use names;

names!(Mode, "mode": Full "full", Same "same", Valid "valid");
names!(Align, "align": Numpy "numpy", Scipy "scipy", Scipy2d "scipy2d", Ndimage "ndimage",
    Matlab "matlab", Torch "torch", Causal "causal");

/// Whether the second operand is reversed (convolution) or conjugated (correlation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Convolve,
    Correlate,
}

/// The positions `start..start + len` of a full result along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub start: isize,
    pub len: usize,
}

impl Region {
    /// The part of this region that lies in a full result of `full` positions.
    pub fn inside(self, full: usize) -> Region {
        let end = (self.start + self.len as isize).min(full as isize);
        let start = self.start.clamp(0, full as isize);
        Region {
            start,
            len: (end - start).max(0) as usize,
        }
    }
}

/// What `mode` and `align` keep of the full result along one axis; `n` and `k` are at least 1.
pub(crate) fn region(
    op: Op,
    mode: Mode,
    align: Align,
    n: usize,
    k: usize,
) -> Result<Region, GeometryError> {
    let full = n
        .checked_add(k)
        .filter(|&f| f <= isize::MAX as usize / 8)
        .ok_or(GeometryError::Overflow)?
        - 1;
    let (start, len) = match mode {
        Mode::Full => (0, full),
        Mode::Same => same(op, align, n, k),
        Mode::Valid if n >= k => (k - 1, n - k + 1),
        Mode::Valid => match align {
            Align::Matlab => (0, 0),
            Align::Torch | Align::Causal => {
                return Err(GeometryError::KernelTooLarge {
                    extent: k,
                    padded: n as isize,
                });
            }
            _ => (n - 1, k - n + 1),
        },
    };
    Ok(Region {
        start: start as isize,
        len,
    })
}

fn same(op: Op, align: Align, n: usize, k: usize) -> (usize, usize) {
    match (align, op) {
        (Align::Numpy, Op::Convolve) => ((n.min(k) - 1) / 2, n.max(k)),
        (Align::Numpy, Op::Correlate) if n < k => (n / 2, k),
        (Align::Numpy | Align::Scipy, _) => ((k - 1) / 2, n),
        (Align::Scipy2d, Op::Convolve) | (Align::Ndimage, Op::Correlate) => ((k - 1) / 2, n),
        (Align::Scipy2d, Op::Correlate) | (Align::Ndimage, Op::Convolve) => (k / 2, n),
        (Align::Matlab | Align::Torch, _) => (k / 2, n),
        (Align::Causal, _) => (0, n),
    }
}

/// The lag of every element of a correlation of `n` with `k` elements: element `i` of the result is
/// `sum over j of a[j + lag] * conj(b[j])`.
///
/// They are the lags of the values that [`correlate`](super::correlate) gives. (SciPy's function
/// of this name is off by one for `same`, an even `k` and an odd `n`.)
///
/// # Errors
/// [`Error::Argument`] for an empty operand, [`Error::Geometry`] as the correlation itself.
///
/// ```
/// use ndconv::signal::{Align, Mode, correlation_lags};
/// assert_eq!(correlation_lags(3, 2, Mode::Full, Align::Scipy)?, [-1, 0, 1, 2]);
/// assert_eq!(correlation_lags(2, 3, Mode::Valid, Align::Scipy)?, [-1, 0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn correlation_lags(n: usize, k: usize, mode: Mode, align: Align) -> Result<Vec<isize>> {
    if n == 0 || k == 0 {
        return Err(Error::argument("the length", "at least 1", 0));
    }
    let region = region(Op::Correlate, mode, align, n, k).map_err(|e| e.at(0))?;
    crate::shape::check_elements("the lags", &[region.len])?;
    let first = region.start - (k as isize - 1);
    Ok((first..first + region.len as isize).collect())
}
