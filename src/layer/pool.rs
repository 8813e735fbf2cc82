//! Pooling layers.

use super::{Gradients, Layer};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::ops;
use crate::pool_problem::{PoolParams, PoolProblem};
use crate::shape::Layout;
use crate::tensor::Tensor;

/// Max pooling of rank `N`.
///
/// # Shapes
/// `(batch, channels, *spatial)` in either layout; output sizes as [`PoolProblem`].
///
/// ```
/// use ndconv::{Tensor, layer::{Layer, MaxPool1d}};
/// let x = Tensor::from_vec(&[1, 1, 4], vec![1.0f32, 2.0, 4.0, 3.0])?;
/// assert_eq!(MaxPool1d::new([2]).forward(&x)?.to_vec()?, [2.0, 4.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool<const N: usize>(PoolParams<N>);

/// Max pooling over one axis.
pub type MaxPool1d = MaxPool<1>;
/// Max pooling over two axes.
pub type MaxPool2d = MaxPool<2>;
/// Max pooling over three axes.
pub type MaxPool3d = MaxPool<3>;

impl<const N: usize> MaxPool<N> {
    /// Windows of this size side by side.
    pub fn new(kernel_size: [usize; N]) -> Self {
        MaxPool(PoolParams::new(kernel_size))
    }

    /// Windows with other strides, padding or dilation.
    pub fn with_params(params: PoolParams<N>) -> Self {
        MaxPool(params)
    }
}

impl<T: Element, const N: usize> Layer<T> for MaxPool<N> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        ops::max_pool(&PoolProblem::new(&x.channels_first_shape(), &self.0)?, x)
    }

    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        let p = PoolProblem::new(&x.channels_first_shape(), &self.0)?;
        Ok(gradient(ops::max_pool_backward(&p, x, dy)?))
    }

    fn output_shape(&self, x: &[usize], layout: Layout) -> Result<Vec<usize>> {
        output_shape(&self.0, x, layout)
    }

    fn describe(&self) -> String {
        describe("MaxPool", &self.0)
    }
}

/// Average pooling of rank `N`.
///
/// # Shapes
/// `(batch, channels, *spatial)` in either layout; output sizes as [`PoolProblem`].
///
/// ```
/// use ndconv::{Tensor, layer::{AvgPool1d, Layer}};
/// let x = Tensor::from_vec(&[1, 1, 4], vec![1.0f32, 2.0, 4.0, 3.0])?;
/// assert_eq!(AvgPool1d::new([2]).forward(&x)?.to_vec()?, [1.5, 3.5]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "AveragePooling2D")]
pub struct AvgPool<const N: usize>(PoolParams<N>);

/// Average pooling over one axis.
pub type AvgPool1d = AvgPool<1>;
/// Average pooling over two axes.
pub type AvgPool2d = AvgPool<2>;
/// Average pooling over three axes.
pub type AvgPool3d = AvgPool<3>;

impl<const N: usize> AvgPool<N> {
    /// Windows of this size side by side.
    pub fn new(kernel_size: [usize; N]) -> Self {
        AvgPool(PoolParams::new(kernel_size))
    }

    /// Windows with other strides or padding.
    pub fn with_params(params: PoolParams<N>) -> Self {
        AvgPool(params)
    }
}

impl<T: Element, const N: usize> Layer<T> for AvgPool<N> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        ops::avg_pool(&PoolProblem::new(&x.channels_first_shape(), &self.0)?, x)
    }

    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        let p = PoolProblem::new(&x.channels_first_shape(), &self.0)?;
        expect_layout(x, dy)?;
        Ok(gradient(ops::avg_pool_backward(&p, dy)?))
    }

    fn output_shape(&self, x: &[usize], layout: Layout) -> Result<Vec<usize>> {
        output_shape(&self.0, x, layout)
    }

    fn describe(&self) -> String {
        describe("AvgPool", &self.0)
    }
}

/// The mean over all positions of each channel.
///
/// # Shapes
/// `(batch, channels, *spatial)` in either layout, with 1 to 4 spatial axes, to
/// `(batch, channels)`.
///
/// ```
/// use ndconv::{Tensor, layer::{GlobalAvgPool, Layer}};
/// let x = Tensor::from_vec(&[1, 2, 2], vec![1.0f32, 2.0, 4.0, 3.0])?;
/// assert_eq!(GlobalAvgPool.forward(&x)?.to_vec()?, [1.5, 3.5]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "GlobalAveragePooling2D")]
#[doc(alias = "AdaptiveAvgPool2d")]
pub struct GlobalAvgPool;

impl GlobalAvgPool {
    /// One window over everything: the spatial axes count as a single one.
    fn problem(channels_first: &[usize]) -> Result<PoolProblem<1>> {
        let &[batch, channels, ref spatial @ ..] = channels_first else {
            let expected = "(batch, channels, *spatial)";
            return Err(Error::shape("input", expected, channels_first));
        };
        let positions = crate::shape::check_elements("input", spatial)?;
        PoolProblem::new(&[batch, channels, positions], &PoolParams::new([positions]))
    }

    /// `x` with its spatial axes as one.
    fn flat<T: Element>(p: &PoolProblem<1>, x: &Tensor<T>) -> Result<Tensor<T>> {
        let shape = x.layout().from_channels_first(&p.x_shape());
        Ok(x.reshape(&shape)?.with_layout(x.layout()))
    }
}

impl<T: Element> Layer<T> for GlobalAvgPool {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let p = Self::problem(&x.channels_first_shape())?;
        let y = ops::avg_pool(&p, &Self::flat(&p, x)?)?;
        Ok(y.reshape(&[p.batch(), p.channels()])?
            .with_layout(Layout::default()))
    }

    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        let p = Self::problem(&x.channels_first_shape())?;
        if dy.shape() != [p.batch(), p.channels()] {
            let expected = format!("[{}, {}]", p.batch(), p.channels());
            return Err(Error::shape("dy", expected, dy.shape()));
        }
        let shape = x.layout().from_channels_first(&p.y_shape());
        let dy = dy.reshape(&shape)?.with_layout(x.layout());
        let dx = ops::avg_pool_backward(&p, &dy)?;
        Ok(gradient(dx.reshape(x.shape())?))
    }

    fn output_shape(&self, x: &[usize], layout: Layout) -> Result<Vec<usize>> {
        let p = Self::problem(&layout.to_channels_first(x))?;
        Ok(vec![p.batch(), p.channels()])
    }

    fn describe(&self) -> String {
        "GlobalAvgPool".into()
    }
}

/// The gradients of a layer without parameters.
pub(super) fn gradient<T>(input: Tensor<T>) -> Gradients<T> {
    Gradients {
        input,
        parameters: Vec::new(),
    }
}

fn expect_layout<T: Element>(x: &Tensor<T>, dy: &Tensor<T>) -> Result<()> {
    if x.layout() != dy.layout() {
        return Err(Error::shape("dy", x.layout().name(), dy.layout()));
    }
    Ok(())
}

fn output_shape<const N: usize>(
    params: &PoolParams<N>,
    x: &[usize],
    layout: Layout,
) -> Result<Vec<usize>> {
    let p = PoolProblem::new(&layout.to_channels_first(x), params)?;
    Ok(layout.from_channels_first(&p.y_shape()))
}

fn describe<const N: usize>(name: &str, params: &PoolParams<N>) -> String {
    let mut text = format!("{name}{N}d({:?}", params.kernel_size);
    let default = PoolParams::new(params.kernel_size);
    if params.stride != default.stride {
        text += &format!(", stride {:?}", params.stride);
    }
    if params.padding != default.padding {
        text += &format!(", padding {}", params.padding);
    }
    if params.dilation != default.dilation {
        text += &format!(", dilation {:?}", params.dilation);
    }
    text + ")"
}
