//! fprop, dgrad and wgrad: `kernels/conv_rows.cu`, `kernels/conv_wgrad.cu`, and on tensor cores
//! `conv_mma`.

use super::args::{
    ConvArgs, DirectArgs, DirectWgradArgs, Divisor, ImageWalk, index, indices, signed_indices,
};
use super::buffer::DeviceBuffer;
use super::conv_mma;
use super::conv_plan::{Algorithm, DIRECT_RUN, Plan, Workspace};
use super::conv_task::Task;
use super::device::CudaDevice;
use super::kernel::Kernel;
use super::launch::Launch;
use super::{pad, reduce, tune};
use crate::cpu::Strides;
use crate::element::Element;
use crate::error::Result;
use crate::ops::{Layouts, Write};
use crate::problem::{ConvProblem, Pass};
use crate::shape::Layout;

/// What a pass reads.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    /// The one that is gathered: `x` of fprop and wgrad, `dy` of dgrad.
    pub activation: &'a DeviceBuffer,
    /// `w` of fprop and dgrad, `dy` of wgrad.
    pub other: &'a DeviceBuffer,
    /// Not of wgrad.
    pub bias: Option<&'a DeviceBuffer>,
    /// ReLU of the result; not of wgrad.
    pub rectify: bool,
}

/// Plans a pass and runs it.
pub(crate) fn run<T: Element>(
    device: &CudaDevice,
    problem: &ConvProblem<4>,
    pass: Pass,
    layouts: Layouts,
    inputs: Inputs,
    result: &mut DeviceBuffer,
    write: Write,
) -> Result<()> {
    let task = Task {
        problem,
        pass,
        dtype: T::DTYPE,
        layouts,
    };
    let run = |plan: &Plan, result: &mut DeviceBuffer| {
        execute::<T>(device, &task, plan, inputs, result, write)
    };
    let plan = tune::plan(device, &task, write, result, run)?;
    execute::<T>(device, &task, &plan, inputs, result, write)
}

/// Runs a pass by one of its plans.
pub(super) fn execute<T: Element>(
    device: &CudaDevice,
    task: &Task,
    plan: &Plan,
    inputs: Inputs,
    result: &mut DeviceBuffer,
    write: Write,
) -> Result<()> {
    let args = ConvArgs {
        accumulate: (write == Write::Accumulate).into(),
        rectify: inputs.rectify.into(),
        ..arguments(task, plan)?
    };
    let room = |bytes| match bytes {
        0 => Ok(None),
        bytes => device.scratch(bytes).map(Some),
    };
    let Workspace {
        packed,
        partial,
        gathered,
        other,
    } = plan.workspace;
    let [mut packed, mut partial] = [room(packed)?, room(partial)?];
    let [mut gathered, mut other] = [room(gathered)?, room(other)?];
    let (x, y) = (task.problem.x_shape(), task.problem.y_shape());
    let shape = if task.pass == Pass::Dgrad { &y } else { &x };
    let rearrange = |shape: &[usize], from: &DeviceBuffer, to: &mut DeviceBuffer| {
        pad::change_layout::<T>(device, shape, plan.activation, from, to)
    };
    let mut inputs = inputs;
    if let Some(gathered) = &mut gathered {
        rearrange(shape, inputs.activation, gathered)?;
        inputs.activation = gathered;
    }
    if let Some(other) = &mut other {
        rearrange(&y, inputs.other, other)?;
        inputs.other = other;
    }
    let packed = packed.as_deref_mut();
    let partial = partial.as_deref_mut();
    match (task.pass, plan.algorithm) {
        (Pass::Wgrad, _) => wgrad::<T>(device, task, plan, args, inputs, partial, result, write),
        (_, Algorithm::TensorCore) => {
            conv_mma::rows::<T>(device, task, plan, args, inputs, packed, result)
        }
        (_, Algorithm::Simt | Algorithm::Direct) => {
            rows::<T>(device, task, plan, args, inputs, result)
        }
    }
}

/// All but the addresses and whether to accumulate.
fn arguments(task: &Task, plan: &Plan) -> Result<ConvArgs> {
    let Task {
        problem: p,
        layouts,
        ..
    } = *task;
    let maps = Maps::new(task, plan.activation);
    let (taps, pixels) = (p.kernel_size(), task.pixels());
    let gathered_last = plan.activation == Layout::ChannelsLast;
    let result_by_p = (layouts.activation == Layout::ChannelsFirst).into();
    let weight_last = layouts.weight == Layout::ChannelsLast;
    let all = ConvArgs {
        weight_outer: maps.w.outer as i64,
        weight_channel: maps.w.channel as i64,
        weight_axis: maps.w.spatial.map(|s| s as i64),
        taps: indices("the kernel size", taps)?,
        stride: indices("the stride", p.stride())?,
        dilation: indices("the dilation", p.dilation())?,
        padding: signed_indices("the padding", p.padding().map(|(before, _)| before))?,
        tap_axis: Divisor::each(taps)?,
        tap_count: Divisor::new(taps.iter().product())?,
        pixel_axis: Divisor::each(pixels)?,
        pixels: Divisor::new(pixels.iter().product())?,
        channels: Divisor::new(task.gathered_channels())?,
        rows: index("rows", plan.product.rows)? as u32,
        columns: index("channels", plan.product.columns)? as u32,
        groups: index("groups", p.groups())? as u32,
        phases: index("phases", task.phases())? as u32,
        channels_inner: weight_last.into(),
        ..ConvArgs::default()
    };
    Ok(match task.pass {
        Pass::Fprop => ConvArgs {
            from: maps.gathered.into(),
            to: maps.result.into(),
            gathered_size: indices("the input", p.input())?,
            result_size: indices("the output", p.output())?,
            // (groups, kg x cg * taps): a row of a group's weight lies as the contraction walks it
            other_by_q: 0,
            gathered_by_p: (!gathered_last).into(),
            result_by_p,
            ..all
        },
        Pass::Dgrad => ConvArgs {
            from: maps.gathered.into(),
            to: maps.result.into(),
            gathered_size: indices("the output", p.output())?,
            result_size: indices("the input", p.input())?,
            transposed: 1,
            other_by_q: all.channels_inner,
            gathered_by_p: (!gathered_last).into(),
            result_by_p,
            ..all
        },
        Pass::Wgrad => ConvArgs {
            from: maps.gathered.into(),
            to: maps.dy.into(),
            result_length: task.weight_length() as i64,
            gathered_size: indices("the input", p.input())?,
            splits: plan.split.splits,
            split_length: plan.split.length,
            steps: index("batch * positions", task.steps())? as u32,
            gathered_by_p: gathered_last.into(),
            other_by_q: gathered_last.into(),
            result_by_p: 1,
            // rows lie side by side in x, or else as they do in dw
            channels_inner: (gathered_last || weight_last).into(),
            ..all
        },
    })
}

/// fprop and dgrad on CUDA cores; `args` lacks the addresses.
fn rows<T: Element>(
    device: &CudaDevice,
    task: &Task,
    plan: &Plan,
    args: ConvArgs,
    inputs: Inputs,
    result: &mut DeviceBuffer,
) -> Result<()> {
    let mut launch = Launch::new(device);
    let args = ConvArgs {
        gathered: launch.read(inputs.activation)?,
        other: launch.read(inputs.other)?,
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

/// `kernels/conv_direct.cu`: fprop and dgrad.
fn direct<T: Element>(launch: Launch, task: &Task, conv: ConvArgs) -> Result<()> {
    let p = task.problem;
    let (channels, mut runs) = match task.pass {
        Pass::Dgrad => (p.in_channels(), p.input()),
        Pass::Fprop | Pass::Wgrad => (p.out_channels(), p.output()),
    };
    runs[3] = runs[3].div_ceil(DIRECT_RUN);
    let walk = ImageWalk::new(task.layouts.activation, p.batch(), channels, runs)?;
    let args = DirectArgs {
        conv,
        walk,
        columns: Divisor::new(conv.columns as usize)?,
        reserved: 0,
    };
    Kernel::element::<T>("conv_direct", "rows").run(launch, walk.grid(), &args)
}

/// wgrad, where `partial` takes a copy of the result from every split if there are several; `args`
/// lacks the addresses.
#[expect(clippy::too_many_arguments, reason = "what a launch is made of")]
fn wgrad<T: Element>(
    device: &CudaDevice,
    task: &Task,
    plan: &Plan,
    args: ConvArgs,
    inputs: Inputs,
    mut partial: Option<&mut DeviceBuffer>,
    result: &mut DeviceBuffer,
    write: Write,
) -> Result<()> {
    let mut launch = Launch::new(device);
    let (gathered, other) = (launch.read(inputs.activation)?, launch.read(inputs.other)?);
    let direct = partial.is_none().then_some(&mut *result);
    let args = ConvArgs {
        gathered,
        other,
        result: launch.write_optional(direct)?,
        partial: launch.write_optional(partial.as_deref_mut())?,
        ..args
    };
    match plan.algorithm {
        Algorithm::Simt => {
            let kernel = Kernel::tile::<T>("conv_wgrad", "", plan.tile);
            kernel.run(launch, plan.grid()?, &args)?;
        }
        Algorithm::Direct => {
            let args = DirectWgradArgs {
                conv: args,
                columns: Divisor::new(args.columns as usize)?,
                lanes: task.direct_lanes() as u32,
            };
            let kernel = Kernel::element::<T>("conv_direct", "wgrad");
            kernel.run(launch, plan.direct_wgrad_grid(task)?, &args)?;
        }
        Algorithm::TensorCore => conv_mma::wgrad::<T>(launch, plan, args)?,
    }
    match partial {
        Some(partial) => {
            let length = args.result_length as usize;
            reduce::splits::<T>(device, partial, args.splits, length, result, write)
        }
        None => Ok(()),
    }
}

/// Strides of what a pass touches.
struct Maps {
    gathered: Strides,
    w: Strides,
    /// Of fprop and dgrad.
    result: Strides,
    /// `dy` as wgrad reads it.
    dy: Strides,
}

impl Maps {
    fn new(task: &Task, activation: Layout) -> Self {
        let (p, layouts) = (task.problem, task.layouts);
        let (cg, _) = task.channels();
        let x = |layout| Strides::new(layout, p.in_channels(), p.input());
        let y = |layout| Strides::new(layout, p.out_channels(), p.output());
        let (gathered, result) = match task.pass {
            Pass::Fprop | Pass::Wgrad => (x(activation), y(layouts.activation)),
            Pass::Dgrad => (y(activation), x(layouts.activation)),
        };
        Maps {
            gathered,
            w: Strides::new(layouts.weight, cg, p.kernel_size()),
            result,
            dy: y(activation),
        }
    }
}
