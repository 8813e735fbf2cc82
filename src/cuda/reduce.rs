//! Sums: `kernels/reduce.cu`.

use super::args::{ChannelsArgs, Divisor, SplitsArgs, index};
use super::buffer::DeviceBuffer;
use super::device::CudaDevice;
use super::kernel::Kernel;
use super::launch::{Grid, Launch};
use super::plan::{self, Split, THREADS};
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::shape::Layout;

/// Adds `splits` copies of `length` sums in order.
pub(super) fn splits<T: Element>(
    device: &CudaDevice,
    partial: &DeviceBuffer,
    splits: u32,
    length: usize,
    result: &mut DeviceBuffer,
    write: Write,
) -> Result<()> {
    let mut launch = Launch::new(device);
    let args = SplitsArgs {
        partial: launch.read(partial)?,
        result: launch.write(result)?,
        length: length as i64,
        splits,
        accumulate: (write == Write::Accumulate).into(),
    };
    let kernel = Kernel::element::<T>("reduce", "splits");
    kernel.run(launch, plan::elementwise(length), &args)
}

/// Sums over batch and positions of a tensor of this channels-first shape, per channel.
pub(crate) fn channel_sums<T: Element>(
    device: &CudaDevice,
    shape: &[usize],
    layout: Layout,
    dy: &DeviceBuffer,
    sums: &mut DeviceBuffer,
) -> Result<()> {
    let (batch, channels) = (shape[0], shape[1]);
    let pixels: usize = shape[2..].iter().product();
    if channels == 0 {
        return Ok(());
    }
    let (channel_stride, pixel_stride, lanes) = match layout {
        Layout::ChannelsFirst => (pixels, 1, 1),
        Layout::ChannelsLast => (1, channels, 32),
    };
    let blocks = channels.div_ceil(lanes);
    let split = Split::new(batch * pixels, blocks, 2048)?;
    let grid = Grid {
        blocks: [index("channels", blocks)? as u32, split.splits],
        threads: THREADS,
        shared_bytes: THREADS as usize * size_of::<T::Acc>(),
    };
    let args = ChannelsArgs {
        batch_stride: (channels * pixels) as i64,
        channel_stride: channel_stride as i64,
        pixel_stride: pixel_stride as i64,
        pixels: Divisor::new(pixels.max(1))?,
        rows: index("batch * positions", batch * pixels)? as u32,
        channels: index("channels", channels)? as u32,
        lanes: lanes as u32,
        splits: split.splits,
        split_length: split.length,
        ..ChannelsArgs::default()
    };
    let copies = split.splits;
    device.with_elements::<T::Acc, _>(channels * copies as usize, |partial| {
        let mut launch = Launch::new(device);
        let args = ChannelsArgs {
            dy: launch.read(dy)?,
            partial: launch.write(partial)?,
            ..args
        };
        Kernel::element::<T>("reduce", "channels").run(launch, grid, &args)?;
        splits::<T>(device, partial, copies, channels, sums, Write::Overwrite)
    })
}
