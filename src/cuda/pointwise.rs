//! Element by element, and softmax: `kernels/pointwise.cu` and `kernels/softmax.cu`.

use super::args::{ActivateArgs, CastArgs, DropoutArgs, FillArgs, SoftmaxArgs};
use super::buffer::DeviceBuffer;
use super::device::CudaDevice;
use super::kernel::Kernel;
use super::launch::{Address, Grid, Launch, bytes_of};
use super::plan::{self, THREADS};
use crate::element::Element;
use crate::error::Result;
use crate::ops::{Activation, Lanes};

/// A new buffer of so many elements, all of them `value`.
pub(crate) fn filled<T: Element>(
    device: &CudaDevice,
    length: usize,
    value: T,
) -> Result<DeviceBuffer> {
    let mut buffer = device.uninitialised::<T>(length)?;
    if length == 0 {
        return Ok(buffer);
    }
    let mut pattern = [0; 8];
    pattern[..size_of::<T>()].copy_from_slice(bytes_of(&[value]));
    let mut launch = Launch::new(device);
    let args = FillArgs {
        result: launch.write(&mut buffer)?,
        length: length as i64,
        pattern: u64::from_le_bytes(pattern),
    };
    Kernel::width::<T>("pointwise", "fill").run(launch, plan::elementwise(length), &args)?;
    Ok(buffer)
}

/// Every element rounded to another type; a copy when it is the same type.
pub(crate) fn cast<T: Element, U: Element>(
    device: &CudaDevice,
    length: usize,
    x: &DeviceBuffer,
    y: &mut DeviceBuffer,
) -> Result<()> {
    if length == 0 {
        return Ok(());
    }
    if T::DTYPE == U::DTYPE {
        *y = x.duplicate()?;
        return Ok(());
    }
    let mut launch = Launch::new(device);
    let args = CastArgs {
        source: launch.read(x)?,
        result: launch.write(y)?,
        length: length as i64,
    };
    Kernel::cast::<T, U>().run(launch, plan::elementwise(length), &args)
}

pub(crate) fn activate<T: Element>(
    device: &CudaDevice,
    activation: Activation,
    length: usize,
    x: &DeviceBuffer,
    y: &mut DeviceBuffer,
) -> Result<()> {
    launch_activate::<T>(device, "activate", activation, length, x, None, y)
}

pub(crate) fn activate_backward<T: Element>(
    device: &CudaDevice,
    activation: Activation,
    length: usize,
    x: &DeviceBuffer,
    dy: &DeviceBuffer,
    dx: &mut DeviceBuffer,
) -> Result<()> {
    launch_activate::<T>(
        device,
        "activate_backward",
        activation,
        length,
        x,
        Some(dy),
        dx,
    )
}

fn launch_activate<T: Element>(
    device: &CudaDevice,
    name: &'static str,
    activation: Activation,
    length: usize,
    x: &DeviceBuffer,
    dy: Option<&DeviceBuffer>,
    result: &mut DeviceBuffer,
) -> Result<()> {
    if length == 0 {
        return Ok(());
    }
    let (function, slope) = match activation {
        Activation::Relu => (0, 0.0),
        Activation::LeakyRelu { slope } => (1, slope),
        Activation::Sigmoid => (2, 0.0),
        Activation::Tanh => (3, 0.0),
    };
    let mut launch = Launch::new(device);
    let args = ActivateArgs {
        x: launch.read(x)?,
        dy: launch.read_optional(dy)?,
        result: launch.write(result)?,
        length: length as i64,
        slope,
        function,
        reserved: 0,
    };
    Kernel::element::<T>("pointwise", name).run(launch, plan::elementwise(length), &args)
}

pub(crate) fn dropout<T: Element>(
    device: &CudaDevice,
    probability: f64,
    seed: u64,
    length: usize,
    x: &DeviceBuffer,
    y: &mut DeviceBuffer,
) -> Result<()> {
    if length == 0 {
        return Ok(());
    }
    let mut launch = Launch::new(device);
    let args = DropoutArgs {
        x: launch.read(x)?,
        result: launch.write(y)?,
        length: length as i64,
        seed,
        probability,
        scale: 1.0 / (1.0 - probability),
    };
    let kernel = Kernel::element::<T>("pointwise", "dropout");
    kernel.run(launch, plan::elementwise(length), &args)
}

pub(crate) fn softmax<T: Element>(
    device: &CudaDevice,
    lanes: Lanes,
    length: usize,
    x: &DeviceBuffer,
    y: &mut DeviceBuffer,
) -> Result<()> {
    launch_softmax::<T>(device, "forward", lanes, length, x, None, y)
}

/// `dx = y * (dy - <y, dy>)`.
pub(crate) fn softmax_backward<T: Element>(
    device: &CudaDevice,
    lanes: Lanes,
    length: usize,
    x: &DeviceBuffer,
    dy: &DeviceBuffer,
    dx: &mut DeviceBuffer,
) -> Result<()> {
    launch_softmax::<T>(device, "backward", lanes, length, x, Some(dy), dx)
}

fn launch_softmax<T: Element>(
    device: &CudaDevice,
    name: &'static str,
    lanes: Lanes,
    length: usize,
    x: &DeviceBuffer,
    dy: Option<&DeviceBuffer>,
    result: &mut DeviceBuffer,
) -> Result<()> {
    if length == 0 {
        return Ok(());
    }
    let rows = length / lanes.len;
    let mut launch = Launch::new(device);
    let args = SoftmaxArgs {
        x: launch.read(x)?,
        dy: dy.map_or(Ok(Address::NULL), |dy| launch.read(dy))?,
        result: launch.write(result)?,
        rows: rows as i64,
        length: lanes.len as i64,
        step: lanes.step as i64,
    };
    Kernel::element::<T>("softmax", name).run(launch, row_grid(rows, lanes.step), &args)
}

/// A warp for every row whose elements are side by side, else a thread.
pub(super) fn row_grid(rows: usize, step: usize) -> Grid {
    let per_block = if step == 1 { THREADS / 32 } else { THREADS };
    let blocks = rows.div_ceil(per_block as usize).clamp(1, 1 << 16);
    Grid::new(blocks as u32, THREADS)
}
