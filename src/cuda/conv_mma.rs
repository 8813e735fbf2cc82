//! Convolutions on tensor cores: `kernels/conv_mma_rows.cu` and `kernels/conv_mma_wgrad.cu`.

use super::args::{ConvArgs, Divisor, MmaArgs, PackArgs, index};
use super::buffer::DeviceBuffer;
use super::conv::Inputs;
use super::conv_plan::Plan;
use super::conv_task::Task;
use super::device::CudaDevice;
use super::kernel::Kernel;
use super::launch::Launch;
use super::plan;
use crate::element::Element;
use crate::error::Result;

/// fprop and dgrad; `args` lacks the addresses, and `packed`, the workspace, takes the weight
/// unless it lies as it should.
pub(super) fn rows<T: Element>(
    device: &CudaDevice,
    task: &Task,
    plan: &Plan,
    args: ConvArgs,
    inputs: Inputs,
    packed: Option<&mut DeviceBuffer>,
    result: &mut DeviceBuffer,
) -> Result<()> {
    let packing = Packing::new(task, &args)?;
    let weight = match packed {
        None => inputs.other,
        Some(packed) => {
            packing.pack::<T>(device, inputs.other, packed)?;
            &*packed
        }
    };
    let mut launch = Launch::new(device);
    let conv = ConvArgs {
        gathered: launch.read(inputs.activation)?,
        other: launch.read(weight)?,
        bias: launch.read_optional(inputs.bias)?,
        result: launch.write(result)?,
        weight_outer: packing.row as i64,
        weight_channel: 1,
        weight_axis: packing.axis,
        ..args
    };
    let args = MmaArgs {
        padded: packing.args.padded,
        // pixels, in squares on M where channels come last
        gathered_on_m: (conv.result_by_p == 0).into(),
        ..arguments(plan, conv)
    };
    let name = if plan.copies.along_rows { "pixels" } else { "" };
    let kernel = Kernel::tile::<T>("conv_mma_rows", name, plan.tile);
    kernel.run(launch, plan.grid()?, &args)
}

/// wgrad, with everything but the instructions as on CUDA cores.
pub(super) fn wgrad<T: Element>(launch: Launch, plan: &Plan, conv: ConvArgs) -> Result<()> {
    // in squares columns (output channels) on M, rows (tap, channel) on N
    let args = arguments(plan, conv);
    let name = if plan.copies.along_rows {
        "channels"
    } else {
        ""
    };
    let kernel = Kernel::tile::<T>("conv_mma_wgrad", name, plan.tile);
    kernel.run(launch, plan.grid()?, &args)
}

fn arguments(plan: &Plan, conv: ConvArgs) -> MmaArgs {
    MmaArgs {
        conv,
        gathered_width: plan.copies.gathered as u32,
        other_width: plan.copies.other as u32,
        ..MmaArgs::default()
    }
}

/// The weight as `rows` takes it: a row of (taps, padded channels) for every column of all groups.
struct Packing {
    args: PackArgs,
    /// Elements of a column's row.
    row: usize,
    /// Strides of the taps.
    axis: [i64; 4],
}

impl Packing {
    fn new(task: &Task, conv: &ConvArgs) -> Result<Self> {
        let mut axis = [0; 4];
        let mut inner = task.padded_channels();
        for (stride, taps) in axis.iter_mut().zip(task.problem.kernel_size()).rev() {
            *stride = inner as i64;
            inner *= taps;
        }
        let row = task.packed_row();
        let columns = task.product().columns;
        let channels = conv.channels.divisor;
        let outer = conv.weight_outer;
        // fprop sums over the weight's channels, dgrad over its outer axis
        let (group_stride, column_stride, channel_stride) = match conv.transposed {
            0 => (columns as i64 * outer, outer, conv.weight_channel),
            _ => (i64::from(channels) * outer, conv.weight_channel, outer),
        };
        let args = PackArgs {
            group_stride,
            column_stride,
            channel_stride,
            axis: conv.weight_axis,
            tap_axis: conv.tap_axis,
            row: Divisor::new(row)?,
            padded: Divisor::new(task.padded_channels())?,
            columns: Divisor::new(columns)?,
            channels,
            taps: conv.tap_count.divisor,
            length: index("the packed weight", task.packed_length())? as u32,
            ..PackArgs::default()
        };
        Ok(Packing { args, row, axis })
    }

    fn pack<T: Element>(
        &self,
        device: &CudaDevice,
        weight: &DeviceBuffer,
        packed: &mut DeviceBuffer,
    ) -> Result<()> {
        let mut launch = Launch::new(device);
        let args = PackArgs {
            source: launch.read(weight)?,
            target: launch.write(packed)?,
            ..self.args
        };
        let kernel = Kernel::width::<T>("conv_mma_rows", "pack");
        kernel.run(launch, plan::elementwise(self.args.length as usize), &args)
    }
}
