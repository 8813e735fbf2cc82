//! fprop, dgrad and wgrad: `kernels/conv_rows.cu` and `kernels/conv_wgrad.cu`.

use super::args::{ConvArgs, Divisor, index, indices, signed_indices};
use super::buffer::DeviceBuffer;
use super::device::CudaDevice;
use super::kernel::Kernel;
use super::launch::Launch;
use super::plan::{Product, Split};
use super::reduce;
use crate::cpu::Strides;
use crate::element::Element;
use crate::error::Result;
use crate::ops::{Layouts, Write};
use crate::problem::ConvProblem;
use crate::shape::Layout;

/// Steps of a weight gradient's sum below which cutting it does not pay.
const LEAST_SPLIT: usize = 256;

/// The inputs of a pass that makes an activation.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// `x` of fprop, `dy` of dgrad.
    pub activation: &'a DeviceBuffer,
    pub weight: &'a DeviceBuffer,
    pub bias: Option<&'a DeviceBuffer>,
}

pub(crate) fn fprop<T: Element>(
    device: &CudaDevice,
    p: &ConvProblem<4>,
    layouts: Layouts,
    inputs: Inputs,
    y: &mut DeviceBuffer,
    write: Write,
) -> Result<()> {
    let maps = Maps::new(p, layouts);
    let (cg, kg) = per_group(p);
    let pixels = p.output();
    let args = ConvArgs {
        from: maps.x.into(),
        to: maps.y.into(),
        gathered_size: indices("the input", p.input())?,
        result_size: indices("the output", p.output())?,
        channels: Divisor::new(cg)?,
        columns: index("channels", kg)? as u32,
        phases: 1,
        ..geometry(p, layouts, maps.w)?
    };
    // (groups, kg x cg * taps): a row of a group's weight lies as the contraction walks it
    let other_by_q = false;
    rows::<T>(device, p, args, pixels, other_by_q, inputs, y, write)
}

pub(crate) fn dgrad<T: Element>(
    device: &CudaDevice,
    p: &ConvProblem<4>,
    layouts: Layouts,
    inputs: Inputs,
    dx: &mut DeviceBuffer,
    write: Write,
) -> Result<()> {
    let maps = Maps::new(p, layouts);
    let (cg, kg) = per_group(p);
    let (input, stride) = (p.input(), p.stride());
    let pixels = [0, 1, 2, 3].map(|a| input[a].div_ceil(stride[a]));
    let phases = stride.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
    let args = ConvArgs {
        from: maps.y.into(),
        to: maps.x.into(),
        gathered_size: indices("the output", p.output())?,
        result_size: indices("the input", p.input())?,
        channels: Divisor::new(kg)?,
        columns: index("channels", cg)? as u32,
        phases: index("phases", phases.unwrap_or(usize::MAX))? as u32,
        transposed: 1,
        ..geometry(p, layouts, maps.w)?
    };
    let other_by_q = layouts.weight == Layout::ChannelsLast;
    rows::<T>(device, p, args, pixels, other_by_q, inputs, dx, write)
}

#[expect(clippy::too_many_arguments, reason = "what fprop and dgrad share")]
fn rows<T: Element>(
    device: &CudaDevice,
    p: &ConvProblem<4>,
    args: ConvArgs,
    pixels: [usize; 4],
    other_by_q: bool,
    inputs: Inputs,
    result: &mut DeviceBuffer,
    write: Write,
) -> Result<()> {
    let per_image: usize = pixels.iter().product();
    let product = Product {
        rows: p.batch().saturating_mul(per_image),
        columns: args.columns as usize,
        copies: p.groups().saturating_mul(args.phases as usize),
    };
    let pixels_contiguous = (args.from.channel != 1).into();
    let mut launch = Launch::new(device);
    let args = ConvArgs {
        gathered: launch.read(inputs.activation)?,
        other: launch.read(inputs.weight)?,
        bias: launch.read_optional(inputs.bias)?,
        result: launch.write(result)?,
        pixel_axis: Divisor::each(pixels)?,
        pixels: Divisor::new(per_image)?,
        rows: index("batch * positions", product.rows)? as u32,
        gathered_by_p: pixels_contiguous,
        result_by_p: pixels_contiguous,
        other_by_q: other_by_q.into(),
        accumulate: (write == Write::Accumulate).into(),
        ..args
    };
    let tile = product.tile::<T>(1);
    let kernel = Kernel::tile::<T>("conv_rows", tile);
    kernel.run(launch, product.grid::<T>(tile, 1)?, &args)
}

pub(crate) fn wgrad<T: Element>(
    device: &CudaDevice,
    p: &ConvProblem<4>,
    layouts: Layouts,
    x: &DeviceBuffer,
    dy: &DeviceBuffer,
    dw: &mut DeviceBuffer,
    write: Write,
) -> Result<()> {
    let maps = Maps::new(p, layouts);
    let (cg, kg) = per_group(p);
    let taps: usize = p.kernel_size().iter().product();
    let per_image: usize = p.output().iter().product();
    let steps = p.batch().saturating_mul(per_image);
    let product = Product {
        rows: cg.saturating_mul(taps),
        columns: kg,
        copies: p.groups(),
    };
    let tile = product.tile::<T>(steps.div_ceil(LEAST_SPLIT));
    let split = Split::new(steps, product.blocks(tile), LEAST_SPLIT)?;
    let length = p.out_channels() * cg * taps;
    let mut partial = match split.splits {
        1 => None,
        splits => Some(device.uninitialised::<T::Acc>(length.saturating_mul(splits as usize))?),
    };
    let channels_last = layouts.activation == Layout::ChannelsLast;
    let direct = partial.is_none();
    let mut launch = Launch::new(device);
    let args = ConvArgs {
        gathered: launch.read(x)?,
        other: launch.read(dy)?,
        result: if direct {
            launch.write(dw)?
        } else {
            Default::default()
        },
        partial: launch.write_optional(partial.as_mut())?,
        from: maps.x.into(),
        to: maps.y.into(),
        result_length: length as i64,
        gathered_size: indices("the input", p.input())?,
        pixel_axis: Divisor::each(p.output())?,
        pixels: Divisor::new(per_image)?,
        channels: Divisor::new(cg)?,
        rows: index("taps * channels", product.rows)? as u32,
        columns: index("channels", kg)? as u32,
        phases: 1,
        splits: split.splits,
        split_length: split.length,
        steps: index("batch * positions", steps)? as u32,
        gathered_by_p: channels_last.into(),
        other_by_q: channels_last.into(),
        result_by_p: 1,
        accumulate: (write == Write::Accumulate).into(),
        ..geometry(p, layouts, maps.w)?
    };
    let kernel = Kernel::tile::<T>("conv_wgrad", tile);
    kernel.run(launch, product.grid::<T>(tile, split.splits)?, &args)?;
    match partial {
        Some(partial) => reduce::splits::<T>(device, &partial, split.splits, length, dw, write),
        None => Ok(()),
    }
}

fn per_group(p: &ConvProblem<4>) -> (usize, usize) {
    (p.in_channels() / p.groups(), p.out_channels() / p.groups())
}

/// What all passes say about a problem.
fn geometry(p: &ConvProblem<4>, layouts: Layouts, w: Strides) -> Result<ConvArgs> {
    let taps = p.kernel_size();
    Ok(ConvArgs {
        weight_outer: w.outer as i64,
        weight_channel: w.channel as i64,
        weight_axis: w.spatial.map(|s| s as i64),
        taps: indices("the kernel size", taps)?,
        stride: indices("the stride", p.stride())?,
        dilation: indices("the dilation", p.dilation())?,
        padding: signed_indices("the padding", p.padding().map(|(before, _)| before))?,
        tap_axis: Divisor::each(taps)?,
        tap_count: Divisor::new(taps.iter().product())?,
        groups: index("groups", p.groups())? as u32,
        channels_inner: (layouts.weight == Layout::ChannelsLast).into(),
        ..ConvArgs::default()
    })
}

struct Maps {
    x: Strides,
    w: Strides,
    y: Strides,
}

impl Maps {
    fn new(p: &ConvProblem<4>, layouts: Layouts) -> Self {
        let (cg, _) = per_group(p);
        Maps {
            x: Strides::new(layouts.activation, p.in_channels(), p.input()),
            w: Strides::new(layouts.weight, cg, p.kernel_size()),
            y: Strides::new(layouts.activation, p.out_channels(), p.output()),
        }
    }
}
