//! Circular convolution and correlation: `kernels/circular.cu`.

use super::args::{CircularArgs, index};
use super::buffer::DeviceBuffer;
use super::device::CudaDevice;
use super::kernel::Kernel;
use super::launch::{Address, Grid, Launch};
use super::plan::{Split, THREADS};
use super::reduce;
use crate::element::Element;
use crate::error::Result;
use crate::ops::Write;
use crate::signal::CircularOperation;
use crate::signal::circular::Pairing;

/// Elements of an output that a block of the direct kernel owns.
const TILE: usize = 2 * THREADS as usize;
/// The least number of pairs whose sum is worth a block of its own.
const LEAST_SPLIT: usize = 8;
/// Rows shorter than this are summed directly even where a transform applies.
const LEAST_TRANSFORM: usize = 64;
/// Shared memory that every GPU has for a block.
const SHARED_BYTES: usize = 48 << 10;

/// `z[o] = sum over its pairs (i, j) of x[i] op y[j]`, rows of `length` elements.
pub(crate) fn circular<T: Element>(
    device: &CudaDevice,
    operation: CircularOperation,
    length: usize,
    pairing: &Pairing,
    [x, y]: [&DeviceBuffer; 2],
    z: &mut DeviceBuffer,
) -> Result<()> {
    let outputs = pairing.outputs();
    if outputs == 0 {
        return Ok(());
    }
    let most = (0..outputs).map(|o| pairing.of(o).len()).max().unwrap_or(0);
    let (kernel, tiles, shared_bytes) = match transform_bytes::<T>(length) {
        Some(bytes) => ("fft", 1, bytes),
        None => ("direct", length.div_ceil(TILE), direct_bytes::<T>()),
    };
    let split = Split::new(most.max(1), outputs * tiles, LEAST_SPLIT)?;
    let (starts, pairs) = lists(pairing)?;
    let starts = DeviceBuffer::upload_bytes(device, &starts)?;
    let pairs = DeviceBuffer::upload_bytes(device, &pairs)?;
    let all = outputs * length;
    let mut partial = match split.splits {
        1 => None,
        splits => {
            let elements = all.saturating_mul(splits as usize);
            Some(device.scratch(DeviceBuffer::bytes_for::<T::Acc>(elements)?)?)
        }
    };
    let mut launch = Launch::new(device);
    let args = CircularArgs {
        x: launch.read(x)?,
        y: launch.read(y)?,
        z: match partial {
            Some(_) => Address::NULL,
            None => launch.write(z)?,
        },
        partial: launch.write_optional(partial.as_deref_mut())?,
        starts: launch.read(&starts)?,
        pairs: launch.read(&pairs)?,
        length: index("the length", length)? as u32,
        outputs: index("outputs", outputs)? as u32,
        split_length: split.length,
        correlate: (operation == CircularOperation::Correlate).into(),
    };
    let grid = Grid {
        blocks: [index("blocks", outputs * tiles)? as u32, split.splits],
        threads: THREADS,
        shared_bytes,
    };
    Kernel::element::<T>("circular", kernel).run(launch, grid, &args)?;
    match partial {
        Some(partial) => {
            reduce::splits::<T>(device, &partial, split.splits, all, z, Write::Overwrite)
        }
        None => Ok(()),
    }
}

/// Where the pairs of each output start, and the pairs, as the kernels read them.
fn lists(pairing: &Pairing) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut starts = Vec::with_capacity(4 * (pairing.outputs() + 1));
    let mut pairs = Vec::with_capacity(8 * pairing.len());
    let mut start = 0;
    for output in 0..pairing.outputs() {
        starts.extend(index("pairs", start)?.to_ne_bytes());
        start += pairing.of(output).len();
        for &(i, j) in pairing.of(output) {
            pairs.extend(index("rows", i)?.to_ne_bytes());
            pairs.extend(index("rows", j)?.to_ne_bytes());
        }
    }
    starts.extend(index("pairs", start)?.to_ne_bytes());
    Ok((starts, pairs))
}

/// What `fft` in `kernels/circular.cu` cuts its shared memory into, if it takes rows so long.
fn transform_bytes<T: Element>(length: usize) -> Option<usize> {
    if !length.is_power_of_two() || length < LEAST_TRANSFORM {
        return None;
    }
    let complex = 2 * size_of::<T::Acc>();
    let arrays = [length / 2 + 1, length, length, length / 2];
    let bytes = arrays.map(|n| n.saturating_mul(complex).next_multiple_of(16));
    let bytes = bytes.into_iter().fold(0usize, usize::saturating_add);
    (bytes <= SHARED_BYTES).then_some(bytes)
}

/// The same of `direct`.
fn direct_bytes<T: Element>() -> usize {
    let threads = THREADS as usize;
    let arrays = [threads, TILE + threads - 1];
    let bytes = arrays.map(|n| (n * size_of::<T::Acc>()).next_multiple_of(16));
    bytes.into_iter().sum()
}
