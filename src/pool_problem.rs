//! The one value that describes a pooling.

use crate::axis::{Axis, extent};
use crate::error::{Error, GeometryError, Result};
use crate::problem::Padding;
use crate::shape::{check_elements, expect_rank};

/// What a pooling layer knows before it sees an input.
///
/// ```
/// use ndconv::PoolParams;
/// let params = PoolParams::new([2, 2]);
/// assert_eq!(params.stride, [2, 2]); // windows do not overlap unless asked to
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolParams<const N: usize> {
    /// Taps per axis.
    pub kernel_size: [usize; N],
    /// Input positions from one window to the next.
    pub stride: [usize; N],
    /// Positions around the input: never the maximum, and zeros in an average.
    pub padding: Padding<N>,
    /// Input positions from one tap to the next.
    pub dilation: [usize; N],
    /// Whether a last window may reach past the padded input.
    pub ceil_mode: bool,
    /// Whether an average divides by the window's size with its padding (PyTorch's default) or
    /// by the number of input positions in it (Keras). Positions past the padding, which
    /// `ceil_mode` can reach, never count.
    pub count_include_pad: bool,
}

impl<const N: usize> PoolParams<N> {
    /// Windows side by side: stride as the kernel, no padding, no dilation.
    pub fn new(kernel_size: [usize; N]) -> Self {
        PoolParams {
            kernel_size,
            stride: kernel_size,
            padding: Padding::Valid,
            dilation: [1; N],
            ceil_mode: false,
            count_include_pad: true,
        }
    }
}

/// A pooling of rank `N` (1 to 4): batch, channels and one [`Axis`] per spatial axis.
///
/// ```
/// use ndconv::{PoolParams, PoolProblem};
/// let p = PoolProblem::<1>::new(&[1, 32, 8988], &PoolParams::new([2]))?;
/// assert_eq!(p.y_shape(), [1, 32, 4494]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolProblem<const N: usize> {
    batch: usize,
    channels: usize,
    axes: [Axis; N],
    count_include_pad: bool,
}

impl<const N: usize> PoolProblem<N> {
    const RANK: () = assert!(N >= 1 && N <= 4, "ndconv pools over 1 to 4 axes");

    /// The pooling of `x`.
    ///
    /// # Shapes
    /// `x` is `(batch, channels, *spatial)`, in channels-first order whatever the layout.
    ///
    /// # Errors
    /// [`Error::Shape`] for a wrong rank and empty axes; [`Error::Geometry`] for an impossible
    /// window, or padding of more than half a window on each side.
    pub fn new(x: &[usize], params: &PoolParams<N>) -> Result<Self> {
        let () = Self::RANK;
        let name = format!("pool{N}d");
        expect_rank(&name, N + 2, "(batch, channels, *spatial)", x)?;
        if x[..2].contains(&0) {
            return Err(Error::shape(name, "batch and channels of at least 1", x));
        }
        let mut axes = [Axis::UNIT; N];
        for (a, axis) in axes.iter_mut().enumerate() {
            *axis = pool_axis(params, a, x[2 + a]).map_err(|e| e.at(a))?;
        }
        let problem = PoolProblem {
            batch: x[0],
            channels: x[1],
            axes,
            count_include_pad: params.count_include_pad,
        };
        check_elements("x", x)?;
        check_elements("y", &problem.y_shape())?;
        Ok(problem)
    }

    /// Images (or signals, or volumes) per call.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Channels of `x` and `y`.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The spatial axes.
    pub fn axes(&self) -> &[Axis; N] {
        &self.axes
    }

    /// Whether an average divides by the window's size with its padding.
    pub fn count_include_pad(&self) -> bool {
        self.count_include_pad
    }

    /// `(batch, channels, *input)`.
    pub fn x_shape(&self) -> Vec<usize> {
        [
            &[self.batch, self.channels][..],
            &self.axes.map(|a| a.input),
        ]
        .concat()
    }

    /// `(batch, channels, *output)`.
    pub fn y_shape(&self) -> Vec<usize> {
        [
            &[self.batch, self.channels][..],
            &self.axes.map(|a| a.output),
        ]
        .concat()
    }

    /// The same problem with unit axes in front, so that an engine is written once for rank 4.
    pub(crate) fn lift(&self) -> PoolProblem<4> {
        let mut axes = [Axis::UNIT; 4];
        axes[4 - N..].copy_from_slice(&self.axes);
        PoolProblem {
            batch: self.batch,
            channels: self.channels,
            axes,
            count_include_pad: self.count_include_pad,
        }
    }
}

fn pool_axis<const N: usize>(
    params: &PoolParams<N>,
    a: usize,
    input: usize,
) -> Result<Axis, GeometryError> {
    let (kernel_size, stride) = (params.kernel_size[a], params.stride[a]);
    let dilation = params.dilation[a];
    let padding = params
        .padding
        .resolve(a, input, kernel_size, stride, dilation)?;
    let extent = extent(kernel_size, dilation)?;
    let total = padding.0.saturating_add(padding.1) as usize;
    if matches!(params.padding, Padding::Explicit(_)) && total > extent {
        return Err(GeometryError::PoolPadding {
            padding: total,
            extent,
        });
    }
    Axis::window(
        input,
        kernel_size,
        stride,
        dilation,
        padding,
        params.ceil_mode,
    )
}
