//! How long each method would take, and so which one to use.

use std::fmt;

use super::align::names;
use super::linear::Linear;
use super::scalar::Scalar;
use super::spectral::transform_len;
use crate::element::Element;
use crate::error::{Error, Result};

/// How a convolution is computed.
///
/// `Direct` sums products: whole numbers stay exact, and an infinity stays where it is. The other
/// two go through the spectrum: fast for long kernels, with an error of a few rounding units of
/// the largest result, everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// The one that the cost model expects to be fastest.
    #[default]
    Auto,
    /// Sums of products, by the convolution engine; at most 4 axes.
    Direct,
    /// One transform of each operand.
    Fft,
    /// Transforms of blocks of the longer operand, for kernels much shorter than the signal.
    OverlapAdd,
}

names!(Method, "method": Auto "auto", Direct "direct", Fft "fft", OverlapAdd "overlap-add");

/// What [`Method::Auto`] would do, and why.
///
/// ```
/// use ndarray::Array1;
/// use ndconv::signal::{Convolution, Method, Mode};
/// let (a, b) = (Array1::<f64>::zeros(100_000), Array1::<f64>::zeros(5_000));
/// let choice = Convolution::new(Mode::Full).choose_method(&a, &b)?;
/// assert_ne!(choice.method, Method::Direct);
/// assert!(choice.to_string().contains("direct"));
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// The fastest by the model.
    pub method: Method,
    /// Expected seconds of [`Method::Direct`]; infinite for more than 4 axes.
    pub direct: f64,
    /// Expected seconds of [`Method::Fft`].
    pub fft: f64,
    /// Expected seconds of [`Method::OverlapAdd`].
    pub overlap_add: f64,
    /// Multiplications of the direct method.
    pub products: f64,
    /// Elements of the transform of the FFT method.
    pub transform: f64,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |seconds: f64| seconds * 1e6;
        write!(
            f,
            "{}: direct {:.1} us for {:.3e} products, fft {:.1} us for a transform of {:.0} \
             elements, overlap-add {:.1} us",
            self.method,
            us(self.direct),
            self.products,
            us(self.fft),
            self.transform,
            us(self.overlap_add),
        )
    }
}

/// Products up to which [`Method::Auto`] always adds them up.
const SMALL: f64 = 4096.0;

/// Seconds, measured on two cores of a server processor with AVX-512, single precision.
mod measured {
    /// A call of the engine.
    pub const DIRECT: f64 = 4.0e-6;
    /// A product of the engine, one thread.
    pub const PRODUCT: f64 = 6.0e-11;
    /// A result of the engine, whatever the taps.
    pub const RESULT: f64 = 1.0e-9;
    /// A call of a transform.
    pub const TRANSFORM: f64 = 1.0e-6;
    /// A real element of a transform, per doubling of its length, one thread.
    pub const ELEMENT: f64 = 1.5e-10;
    /// Handing work to a second thread.
    pub const THREADS: f64 = 6.0e-6;
}
use measured::*;

/// Seconds of `work` seconds on one thread, with `tasks` independent pieces.
fn shared_out(work: f64, tasks: f64) -> f64 {
    let threads = (rayon::current_num_threads() as f64).min(tasks.max(1.0));
    work.min(THREADS + work / threads)
}

/// Real numbers a complex product, and a complex element, count for; double precision likewise.
fn weights<S: Scalar>() -> (f64, f64) {
    let wide = if <S::Real as Element>::DTYPE.size() == 8 {
        2.0
    } else {
        1.0
    };
    let (product, element) = if S::COMPLEX { (4.0, 2.0) } else { (1.0, 1.0) };
    (
        product * wide,
        element * if wide == 2.0 { 1.6 } else { 1.0 },
    )
}

/// Seconds of the two or three transforms of a convolution of a signal of `elements`.
fn transforms(elements: f64, count: f64, element: f64) -> f64 {
    count * (TRANSFORM + ELEMENT * element * elements * elements.max(2.0).log2())
}

/// What each method would cost.
pub(crate) fn choose<S: Scalar>(p: &Linear) -> Choice {
    let p = &p.inside();
    let (product, element) = weights::<S>();
    let batch = p.batch as f64;
    let size = |len: &dyn Fn(usize) -> usize| (0..p.rank()).map(|i| len(i) as f64).product::<f64>();
    let out = size(&|i| p.region[i].len);
    let products = batch * out * size(&|i| p.n[i]).min(size(&|i| p.k[i]));
    let direct = match p.rank() {
        0..=4 => {
            let work = products * product * PRODUCT + batch * out * RESULT;
            DIRECT + shared_out(work, out / 4096.0 * batch)
        }
        _ => f64::INFINITY,
    };
    let transform = size(&|i| match p.region[i].len {
        0 => 1,
        _ => transform_len(p.n[i], p.k[i], p.region[i]),
    });
    let several = if p.rank() > 1 || batch > 1.0 {
        f64::INFINITY
    } else {
        2.0
    };
    let fft = match batch > 1.0 {
        true => shared_out(transforms(transform, 2.0 * batch, element), batch),
        // the transforms of the two operands side by side, then the inverse
        false => {
            shared_out(transforms(transform, 2.0, element), 2.0)
                + shared_out(transforms(transform, 1.0, element), several / 2.0)
        }
    };
    let short = |i: usize| p.n[i].min(p.k[i]);
    let block = size(&|i| block_len(short(i), p.region[i].len, p.rank()));
    let blocks = size(&|i| {
        let step = block_len(short(i), p.region[i].len, p.rank()) + 1 - short(i);
        p.region[i].len.div_ceil(step)
    });
    let (n, k) = (size(&|i| p.n[i]), size(&|i| p.k[i]));
    let nested = (0..p.rank()).all(|i| p.k[i] <= p.n[i]) || (0..p.rank()).all(|i| p.n[i] <= p.k[i]);
    let overlap_add = match nested && n > 0.0 && k > 0.0 {
        true => {
            let pieces = batch * blocks;
            transforms(block, 1.0, element)
                + shared_out(transforms(block, 2.0 * pieces, element), pieces)
        }
        false => f64::INFINITY,
    };
    let mut method = Method::Direct;
    // so small that exact sums are worth more than a microsecond
    let mut best = if products <= SMALL && p.rank() <= 4 {
        0.0
    } else {
        direct
    };
    // one block is the plain method with a longer way round
    for (other, seconds) in [(Method::Fft, fft), (Method::OverlapAdd, overlap_add)] {
        if seconds < best && !(other == Method::OverlapAdd && blocks <= 1.0) {
            (method, best) = (other, seconds);
        }
    }
    Choice {
        method,
        direct,
        fft,
        overlap_add,
        products,
        transform,
    }
}

/// The block length along one of `rank` axes for a kernel of `k` and a region of `len`: least work
/// per result, in the cache, and no longer than one block needs.
pub(crate) fn block_len(k: usize, len: usize, rank: usize) -> usize {
    let cache = 1usize << (16 / rank.max(1));
    let whole = super::fft::next_fast_len(k + len.max(1) - 1);
    let mut best = (f64::INFINITY, whole);
    let mut block = super::fft::next_fast_len(2 * k.max(8)).next_power_of_two();
    while block < whole && (block <= cache || best.0.is_infinite()) {
        let cost =
            (TRANSFORM + ELEMENT * block as f64 * (block as f64).log2()) / (block + 1 - k) as f64;
        if cost < best.0 {
            best = (cost, block);
        }
        block *= 2;
    }
    best.1
}

/// The method that is run: the caller's, or the one the model chooses.
pub(crate) fn resolve<S: Scalar>(method: Method, p: &Linear) -> Result<Method> {
    match method {
        Method::Auto => Ok(choose::<S>(p).method),
        Method::Direct if p.rank() > 4 => Err(Error::Unsupported {
            what: format!(
                "the direct method along {} axes: at most 4, or method fft",
                p.rank()
            ),
        }),
        method => Ok(method),
    }
}
