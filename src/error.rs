//! The crate's one error type: data first, prose only in `Display`.

use std::fmt;
use std::path::{Path, PathBuf};

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in this crate.
///
/// ```
/// use ndconv::{ConvParams, ConvProblem, Error};
/// let error = ConvProblem::<1>::new(&[1, 8], &[4, 1, 3], &ConvParams::default()).unwrap_err();
/// assert!(matches!(error, Error::Shape { .. }));
/// assert!(error.to_string().contains("add a channel axis"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has the wrong rank or the wrong size.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// The tensor or axis in question.
        what: String,
        /// What would have been accepted.
        expected: String,
        /// What came.
        got: String,
    },
    /// Sizes that are fine one by one do not make a convolution together.
    #[error("spatial axis {axis}: {reason}")]
    Geometry {
        /// The spatial axis, counted from 0.
        axis: usize,
        /// Why that axis is impossible.
        reason: GeometryError,
    },
    /// A hyper-parameter is outside its range.
    #[error("{name}: expected {expected}, got {got}")]
    Argument {
        /// The parameter's name.
        name: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What came.
        got: String,
    },
    /// The number of elements or bytes does not fit in this machine's address space.
    #[error("{what}: the size {size} does not fit in memory addresses")]
    TooLarge {
        /// The tensor in question.
        what: String,
        /// The sizes that were multiplied.
        size: String,
    },
    /// A circular operation has no inverse: the spectrum of its operand vanishes somewhere.
    #[error(
        "row {row}: the spectrum is {magnitude:e} at bin {bin:?}, 0 within rounding, so there is \
         no inverse: use the Wiener-regularised one"
    )]
    Singular {
        /// The row of the batch, counted from 0 in row-major order.
        row: usize,
        /// The frequency along every circular axis.
        bin: Vec<usize>,
        /// The magnitude of the spectrum there.
        magnitude: f64,
    },
    /// Two tensors of one operation live on different devices.
    #[error("{what} is on {got}, but the operation runs on {expected}: move it with to_device")]
    DeviceMismatch {
        /// The tensor on the wrong device.
        what: String,
        /// The device of the operation.
        expected: String,
        /// The device of the tensor.
        got: String,
    },
    /// A combination that the named rules or this version do not offer.
    #[error("not supported: {what}")]
    Unsupported {
        /// The combination, and what to use in its place.
        what: String,
    },
    /// This binary holds no CUDA kernels.
    #[error("this build holds no CUDA kernels: {why}")]
    KernelsNotBuilt {
        /// Why there are none.
        why: String,
    },
    /// No CUDA driver or no GPU was found at run time.
    #[error("no CUDA device: {looked_for}")]
    NoCudaDevice {
        /// What was looked for.
        looked_for: String,
    },
    /// Memory for a tensor or a workspace could not be had.
    #[error("out of memory: {requested} bytes for {what} could not be allocated")]
    OutOfMemory {
        /// What the memory was for.
        what: String,
        /// Bytes asked for.
        requested: usize,
    },
    /// The CUDA driver, or the emulator in its place, reported an error.
    #[error("CUDA: {what}: {reason}")]
    Cuda {
        /// The kernel or the call that failed.
        what: String,
        /// What was reported.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file was read but its content is malformed.
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
}

impl Error {
    pub(crate) fn shape(
        what: impl Into<String>,
        expected: impl Into<String>,
        got: impl fmt::Debug,
    ) -> Self {
        Error::Shape {
            what: what.into(),
            expected: expected.into(),
            got: format!("{got:?}"),
        }
    }

    pub(crate) fn argument(
        name: &'static str,
        expected: impl Into<String>,
        got: impl fmt::Display,
    ) -> Self {
        Error::Argument {
            name,
            expected: expected.into(),
            got: got.to_string(),
        }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> Self {
        Error::Format {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

/// Why one spatial axis of a window operation is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// A size, stride or dilation is 0.
    #[error("{what} is 0; it must be at least 1")]
    Zero {
        /// Which of the numbers is 0.
        what: &'static str,
    },
    /// The dilated kernel reaches past the padded input, so that the output would be empty.
    #[error(
        "the kernel covers {extent} positions (dilation * (kernel_size - 1) + 1), more than the \
         padded input's {padded}: use a longer input, more padding or a smaller kernel"
    )]
    KernelTooLarge {
        /// `dilation * (kernel_size - 1) + 1`.
        extent: usize,
        /// Input size plus both paddings (negative when a crop takes more than there is).
        padded: isize,
    },
    /// Cropping leaves nothing of a transposed convolution's output.
    #[error("the output would have {output} positions: crop less or use a longer input")]
    EmptyOutput {
        /// The size that the formula gives.
        output: isize,
    },
    /// `output_padding` must be smaller than the stride or the dilation.
    #[error(
        "output_padding is {output_padding}; it must be less than the stride ({stride}) or the \
         dilation ({dilation})"
    )]
    OutputPadding {
        /// The value given.
        output_padding: usize,
        /// The stride of this axis.
        stride: usize,
        /// The dilation of this axis.
        dilation: usize,
    },
    /// PyTorch's `padding="same"` exists for stride 1 alone.
    #[error("PyTorch's padding 'same' needs stride 1, got {stride}: use explicit padding")]
    SameNeedsUnitStride {
        /// The stride given.
        stride: usize,
    },
    /// Keras refuses a stride and a dilation above 1 together.
    #[error("Keras does not allow stride > 1 together with dilation > 1")]
    StrideWithDilation,
    /// Reflecting or wrapping padding must not be longer than the input allows.
    #[error("padding {padding} with mode {mode} needs an input of at least {least}, got {input}")]
    PaddingTooLong {
        /// The longer side of the padding.
        padding: usize,
        /// `reflect` or `circular`.
        mode: &'static str,
        /// The least input size that would do.
        least: usize,
        /// The input size.
        input: usize,
    },
    /// Pooling padding may be at most half the dilated kernel on each side (PyTorch), or as much
    /// in all when the sides differ: windows in padding alone would have no maximum.
    #[error(
        "pooling padding of {padding} on both sides together is more than the {extent} positions \
         of a window"
    )]
    PoolPadding {
        /// The padding before and after, together.
        padding: usize,
        /// `dilation * (kernel_size - 1) + 1`.
        extent: usize,
    },
    /// A product or sum of sizes does not fit in this machine's integers.
    #[error("the sizes are too large: an index does not fit in this machine's integers")]
    Overflow,
}

impl GeometryError {
    /// The error of spatial axis `axis`.
    pub(crate) fn at(self, axis: usize) -> Error {
        Error::Geometry { axis, reason: self }
    }
}
