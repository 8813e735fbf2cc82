//! Pooling: `kernels/pool.cu`.

use super::args::{ImageWalk, PoolArgs, indices, signed_indices};
use super::buffer::DeviceBuffer;
use super::device::CudaDevice;
use super::kernel::Kernel;
use super::launch::Launch;
use crate::cpu::Strides;
use crate::element::Element;
use crate::error::Result;
use crate::pool_problem::PoolProblem;
use crate::shape::Layout;

/// The maximum of every window.
pub(crate) fn max_pool<T: Element>(
    device: &CudaDevice,
    p: &PoolProblem<4>,
    layout: Layout,
    x: &DeviceBuffer,
    y: &mut DeviceBuffer,
) -> Result<()> {
    forward::<T>(device, "max", p, layout, x, Some(y), None)
}

/// The mean of every window.
pub(crate) fn avg_pool<T: Element>(
    device: &CudaDevice,
    p: &PoolProblem<4>,
    layout: Layout,
    x: &DeviceBuffer,
    y: &mut DeviceBuffer,
) -> Result<()> {
    forward::<T>(device, "avg", p, layout, x, Some(y), None)
}

/// The gradient of [`max_pool`]: the winners are found again, then every input collects from the
/// windows that it won.
pub(crate) fn max_pool_backward<T: Element>(
    device: &CudaDevice,
    p: &PoolProblem<4>,
    layout: Layout,
    x: &DeviceBuffer,
    dy: &DeviceBuffer,
    dx: &mut DeviceBuffer,
) -> Result<()> {
    let windows: usize = p.y_shape().iter().product();
    // one 32-bit offset per window, as wide as an f32
    let mut winners = device.uninitialised::<f32>(windows)?;
    forward::<T>(device, "max", p, layout, x, None, Some(&mut winners))?;
    backward::<T>(
        device,
        "max_backward",
        p,
        layout,
        dy,
        Some(&mut winners),
        dx,
    )
}

/// The gradient of [`avg_pool`].
pub(crate) fn avg_pool_backward<T: Element>(
    device: &CudaDevice,
    p: &PoolProblem<4>,
    layout: Layout,
    dy: &DeviceBuffer,
    dx: &mut DeviceBuffer,
) -> Result<()> {
    backward::<T>(device, "avg_backward", p, layout, dy, None, dx)
}

fn forward<T: Element>(
    device: &CudaDevice,
    name: &'static str,
    p: &PoolProblem<4>,
    layout: Layout,
    x: &DeviceBuffer,
    y: Option<&mut DeviceBuffer>,
    winners: Option<&mut DeviceBuffer>,
) -> Result<()> {
    let mut launch = Launch::new(device);
    let args = PoolArgs {
        source: launch.read(x)?,
        target: launch.write_optional(y)?,
        winners: launch.write_optional(winners)?,
        from: Strides::new(layout, p.channels(), p.axes().map(|a| a.input)).into(),
        walk: ImageWalk::new(layout, p.batch(), p.channels(), p.axes().map(|a| a.output))?,
        ..geometry(p)?
    };
    Kernel::element::<T>("pool", name).run(launch, args.walk.grid(), &args)
}

fn backward<T: Element>(
    device: &CudaDevice,
    name: &'static str,
    p: &PoolProblem<4>,
    layout: Layout,
    dy: &DeviceBuffer,
    winners: Option<&mut DeviceBuffer>,
    dx: &mut DeviceBuffer,
) -> Result<()> {
    let mut launch = Launch::new(device);
    let args = PoolArgs {
        source: launch.read(dy)?,
        target: launch.write(dx)?,
        winners: launch.write_optional(winners)?,
        from: Strides::new(layout, p.channels(), p.axes().map(|a| a.output)).into(),
        walk: ImageWalk::new(layout, p.batch(), p.channels(), p.axes().map(|a| a.input))?,
        ..geometry(p)?
    };
    Kernel::element::<T>("pool", name).run(launch, args.walk.grid(), &args)
}

fn geometry(p: &PoolProblem<4>) -> Result<PoolArgs> {
    let axes = p.axes();
    Ok(PoolArgs {
        input: indices("the input", axes.map(|a| a.input))?,
        output: indices("the output", axes.map(|a| a.output))?,
        taps: indices("the kernel size", axes.map(|a| a.kernel_size))?,
        stride: indices("the stride", axes.map(|a| a.stride))?,
        dilation: indices("the dilation", axes.map(|a| a.dilation))?,
        before: signed_indices("the padding", axes.map(|a| a.padding.0))?,
        after: signed_indices("the padding", axes.map(|a| a.padding.1))?,
        count_padding: p.count_include_pad().into(),
        ..PoolArgs::default()
    })
}
