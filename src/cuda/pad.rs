//! Padding modes, their adjoint and layout changes: `kernels/pad.cu` and `kernels/layout.cu`.

use super::args::{Divisor, ImageWalk, LayoutArgs, PadArgs, index, indices, signed_indices};
use super::buffer::DeviceBuffer;
use super::device::CudaDevice;
use super::kernel::Kernel;
use super::launch::{Grid, Launch};
use super::plan::{self, THREADS};
use crate::axis::PaddingMode;
use crate::cpu::Strides;
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::problem::ConvProblem;
use crate::shape::Layout;

impl ImageWalk {
    /// Over `batch` images of so many channels and positions.
    pub(super) fn new(
        layout: Layout,
        batch: usize,
        channels: usize,
        positions: [usize; 4],
    ) -> Result<Self> {
        let pixels: usize = positions.iter().product();
        Ok(ImageWalk {
            axis: Divisor::each(positions)?,
            pixels: Divisor::new(pixels)?,
            channels: Divisor::new(channels)?,
            channels_last: (layout == Layout::ChannelsLast).into(),
            batch: index("the batch", batch)? as u32,
            elements: index("elements of an image", channels.saturating_mul(pixels))?.into(),
        })
    }

    pub(super) fn grid(&self) -> Grid {
        plan::images(self.batch as usize, self.elements as usize)
    }
}

/// The input of `p` with its padding made up by the padding mode.
pub(crate) fn pad<T: Element>(
    device: &CudaDevice,
    p: &ConvProblem<4>,
    layout: Layout,
    x: &DeviceBuffer,
    padded: &mut DeviceBuffer,
) -> Result<()> {
    let mut launch = Launch::new(device);
    let args = PadArgs {
        source: launch.read(x)?,
        target: launch.write(padded)?,
        from: Strides::new(layout, p.in_channels(), p.input()).into(),
        walk: ImageWalk::new(layout, p.batch(), p.in_channels(), p.folded().input())?,
        ..geometry(p)?
    };
    let kernel = Kernel::width::<T>("pad", "forward");
    kernel.run(launch, args.walk.grid(), &args)
}

/// The adjoint of [`pad`]: sums every padded position, in the accumulator's type, into the input it
/// was copied from.
pub(crate) fn pad_adjoint<T: Element>(
    device: &CudaDevice,
    p: &ConvProblem<4>,
    layout: Layout,
    padded: &DeviceBuffer,
    dx: &mut DeviceBuffer,
    write: Write,
) -> Result<()> {
    let mut launch = Launch::new(device);
    let args = PadArgs {
        source: launch.read(padded)?,
        target: launch.write(dx)?,
        from: Strides::new(layout, p.in_channels(), p.folded().input()).into(),
        walk: ImageWalk::new(layout, p.batch(), p.in_channels(), p.input())?,
        accumulate: (write == Write::Accumulate).into(),
        ..geometry(p)?
    };
    let kernel = Kernel::element::<T>("pad", "adjoint");
    kernel.run(launch, args.walk.grid(), &args)
}

fn geometry(p: &ConvProblem<4>) -> Result<PadArgs> {
    let padding = p.padding();
    Ok(PadArgs {
        input: indices("the input", p.input())?,
        before: signed_indices("the padding", padding.map(|(before, _)| before))?,
        after: signed_indices("the padding", padding.map(|(_, after)| after))?,
        mode: match p.padding_mode() {
            PaddingMode::Zeros => 0,
            PaddingMode::Reflect => 1,
            PaddingMode::Replicate => 2,
            PaddingMode::Circular => 3,
        },
        ..PadArgs::default()
    })
}

/// Moves a tensor of this channels-first shape to layout `to` from the other one.
pub(crate) fn change_layout<T: Element>(
    device: &CudaDevice,
    shape: &[usize],
    to: Layout,
    x: &DeviceBuffer,
    y: &mut DeviceBuffer,
) -> Result<()> {
    let pixels: usize = shape[2..].iter().product();
    let (rows, columns) = match to {
        Layout::ChannelsFirst => (pixels, shape[1]),
        Layout::ChannelsLast => (shape[1], pixels),
    };
    if shape[0] * rows * columns == 0 {
        return Ok(());
    }
    let mut launch = Launch::new(device);
    let args = LayoutArgs {
        source: launch.read(x)?,
        target: launch.write(y)?,
        batch: index("the batch", shape[0])? as u32,
        rows: index("rows", rows)? as u32,
        columns: index("columns", columns)? as u32,
        reserved: 0,
    };
    let tiles = rows.div_ceil(32).saturating_mul(columns.div_ceil(32));
    let grid = Grid {
        blocks: [index("tiles", tiles)? as u32, shape[0].min(65535) as u32],
        threads: THREADS,
        shared_bytes: 32 * 33 * size_of::<T>(),
    };
    Kernel::width::<T>("layout", "transpose").run(launch, grid, &args)
}
