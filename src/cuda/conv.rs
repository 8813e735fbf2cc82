//! fprop, dgrad and wgrad: `kernels/conv_rows.cu`, `kernels/conv_wgrad.cu`, and on tensor cores
//! `conv_mma`.

use super::args::{ConvArgs, DirectArgs, Divisor, ImageWalk, index, indices, signed_indices};
use super::buffer::DeviceBuffer;
use super::conv_mma;
use super::conv_plan::{Algorithm, Task, plan};
use super::device::CudaDevice;
use super::kernel::Kernel;
use super::launch::Launch;
use super::reduce;
use crate::cpu::Strides;
use crate::element::Element;
use crate::error::Result;
use crate::ops::{Layouts, Write};
use crate::problem::{ConvProblem, Pass};
use crate::shape::Layout;

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
    let args = ConvArgs {
        from: maps.x.into(),
        to: maps.y.into(),
        gathered_size: indices("the input", p.input())?,
        result_size: indices("the output", p.output())?,
        channels: Divisor::new(cg)?,
        columns: index("channels", kg)? as u32,
        // (groups, kg x cg * taps): a row of a group's weight lies as the contraction walks it
        other_by_q: 0,
        ..geometry(p, layouts, maps.w)?
    };
    rows::<T>(
        device,
        &task::<T>(p, Pass::Fprop, layouts),
        args,
        inputs,
        y,
        write,
    )
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
    let args = ConvArgs {
        from: maps.y.into(),
        to: maps.x.into(),
        gathered_size: indices("the output", p.output())?,
        result_size: indices("the input", p.input())?,
        channels: Divisor::new(kg)?,
        columns: index("channels", cg)? as u32,
        transposed: 1,
        other_by_q: (layouts.weight == Layout::ChannelsLast).into(),
        ..geometry(p, layouts, maps.w)?
    };
    rows::<T>(
        device,
        &task::<T>(p, Pass::Dgrad, layouts),
        args,
        inputs,
        dx,
        write,
    )
}

/// What fprop and dgrad share.
fn rows<T: Element>(
    device: &CudaDevice,
    task: &Task,
    args: ConvArgs,
    inputs: Inputs,
    result: &mut DeviceBuffer,
    write: Write,
) -> Result<()> {
    let plan = plan(task, &device.traits())?;
    let pixels = task.pixels();
    let pixels_contiguous = task.layouts.activation == Layout::ChannelsFirst;
    let args = ConvArgs {
        pixel_axis: Divisor::each(pixels)?,
        pixels: Divisor::new(pixels.iter().product())?,
        rows: index("batch * positions", plan.product.rows)? as u32,
        phases: index("phases", task.phases())? as u32,
        gathered_by_p: pixels_contiguous.into(),
        result_by_p: pixels_contiguous.into(),
        accumulate: (write == Write::Accumulate).into(),
        ..args
    };
    if plan.algorithm == Algorithm::TensorCore {
        return conv_mma::rows::<T>(device, &plan, args, inputs, result);
    }
    let mut launch = Launch::new(device);
    let args = ConvArgs {
        gathered: launch.read(inputs.activation)?,
        other: launch.read(inputs.weight)?,
        bias: launch.read_optional(inputs.bias)?,
        result: launch.write(result)?,
        ..args
    };
    if plan.algorithm == Algorithm::Direct {
        return direct::<T>(launch, task, args);
    }
    let kernel = Kernel::tile::<T>("conv_rows", "", plan.tile);
    kernel.run(launch, plan.grid()?, &args)
}

/// `kernels/conv_direct.cu`.
fn direct<T: Element>(launch: Launch, task: &Task, conv: ConvArgs) -> Result<()> {
    let p = task.problem;
    let (channels, positions) = match task.pass {
        Pass::Dgrad => (p.in_channels(), p.input()),
        Pass::Fprop | Pass::Wgrad => (p.out_channels(), p.output()),
    };
    let walk = ImageWalk::new(task.layouts.activation, p.batch(), channels, positions)?;
    let args = DirectArgs {
        conv,
        walk,
        columns: Divisor::new(conv.columns as usize)?,
        reserved: 0,
    };
    Kernel::element::<T>("conv_direct", "").run(launch, walk.grid(), &args)
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
    let task = task::<T>(p, Pass::Wgrad, layouts);
    let plan = plan(&task, &device.traits())?;
    let taps: usize = p.kernel_size().iter().product();
    let length = p.out_channels() * cg * taps;
    let splits = plan.split.splits;
    let mut partial = match splits {
        1 => None,
        _ => Some(device.uninitialised::<T::Acc>(length.saturating_mul(splits as usize))?),
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
        pixels: Divisor::new(p.output().iter().product())?,
        channels: Divisor::new(cg)?,
        rows: index("taps * channels", plan.product.rows)? as u32,
        columns: index("channels", kg)? as u32,
        phases: 1,
        splits,
        split_length: plan.split.length,
        steps: index("batch * positions", task.steps())? as u32,
        gathered_by_p: channels_last.into(),
        other_by_q: channels_last.into(),
        result_by_p: 1,
        accumulate: (write == Write::Accumulate).into(),
        ..geometry(p, layouts, maps.w)?
    };
    match plan.algorithm {
        Algorithm::Simt | Algorithm::Direct => {
            let kernel = Kernel::tile::<T>("conv_wgrad", "", plan.tile);
            kernel.run(launch, plan.grid()?, &args)?;
        }
        Algorithm::TensorCore => conv_mma::wgrad::<T>(launch, &plan, args)?,
    }
    match partial {
        Some(partial) => reduce::splits::<T>(device, &partial, splits, length, dw, write),
        None => Ok(()),
    }
}

fn task<T: Element>(problem: &ConvProblem<4>, pass: Pass, layouts: Layouts) -> Task<'_> {
    Task {
        problem,
        pass,
        dtype: T::DTYPE,
        layouts,
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
