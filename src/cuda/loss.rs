//! Losses: `kernels/loss.cu`. The one number that each returns waits for the device.

use super::args::{ClassArgs, PairArgs, TotalArgs, index};
use super::buffer::DeviceBuffer;
use super::device::CudaDevice;
use super::kernel::Kernel;
use super::launch::{Grid, Launch};
use super::plan::{self, THREADS};
use super::pointwise::row_grid;
use crate::element::Element;
use crate::error::Result;

/// Blocks whose sums are added at the end.
const BLOCKS: u32 = 1024;
const SHARED_BYTES: usize = THREADS as usize * size_of::<f64>();

/// Losses of pairs, element by element.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pairs {
    SquaredError,
    BinaryCrossEntropy,
}

/// Mean loss of `length` pairs; `gradient` is that of the mean.
pub(crate) fn pairs<T: Element>(
    device: &CudaDevice,
    kind: Pairs,
    length: usize,
    x: &DeviceBuffer,
    target: &DeviceBuffer,
    gradient: &mut DeviceBuffer,
) -> Result<f64> {
    let mut grid = plan::elementwise(length);
    grid.blocks[0] = grid.blocks[0].min(BLOCKS);
    grid.shared_bytes = SHARED_BYTES;
    let (kind, factor) = match kind {
        Pairs::SquaredError => (0, 2.0),
        Pairs::BinaryCrossEntropy => (1, 1.0),
    };
    device.with_elements::<f64, _>(grid.blocks[0] as usize, |partial| {
        let mut launch = Launch::new(device);
        let args = PairArgs {
            x: launch.read(x)?,
            target: launch.read(target)?,
            gradient: launch.write(gradient)?,
            partial: launch.write(partial)?,
            length: length as i64,
            scale: factor / length as f64,
            kind,
            reserved: 0,
        };
        Kernel::element::<T>("loss", "pairs").run(launch, grid, &args)?;
        total(device, partial, grid.blocks[0], length)
    })
}

/// Mean cross-entropy of rows of `classes` logits; `gradient` is that of the mean.
pub(crate) fn classes<T: Element>(
    device: &CudaDevice,
    classes: usize,
    x: &DeviceBuffer,
    targets: &[usize],
    gradient: &mut DeviceBuffer,
) -> Result<f64> {
    let mut numbers = Vec::with_capacity(targets.len() * 4);
    for &target in targets {
        let number = index("a class", target)? as u32;
        numbers.extend(number.to_ne_bytes());
    }
    let targets_there = DeviceBuffer::upload_bytes(device, &numbers)?;
    let mut grid = row_grid(targets.len(), 1);
    grid.blocks[0] = grid.blocks[0].min(BLOCKS);
    grid.shared_bytes = SHARED_BYTES;
    device.with_elements::<f64, _>(grid.blocks[0] as usize, |partial| {
        let mut launch = Launch::new(device);
        let args = ClassArgs {
            x: launch.read(x)?,
            gradient: launch.write(gradient)?,
            targets: launch.read(&targets_there)?,
            partial: launch.write(partial)?,
            batch: targets.len() as i64,
            classes: classes as i64,
        };
        Kernel::element::<T>("loss", "classes").run(launch, grid, &args)?;
        total(device, partial, grid.blocks[0], targets.len())
    })
}

fn total(device: &CudaDevice, partial: &DeviceBuffer, blocks: u32, terms: usize) -> Result<f64> {
    let mut result = device.uninitialised::<f64>(1)?;
    let mut launch = Launch::new(device);
    let args = TotalArgs {
        partial: launch.read(partial)?,
        result: launch.write(&mut result)?,
        length: blocks.into(),
        divisor: terms as f64,
    };
    let grid = Grid {
        shared_bytes: SHARED_BYTES,
        ..Grid::new(1, THREADS)
    };
    Kernel::one("loss", "total").run(launch, grid, &args)?;
    Ok(result.download::<f64>()?[0])
}
