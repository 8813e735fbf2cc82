//! Launching kernels and moving bytes: with its back ends the only module with unsafe code.

#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "emulator")]
mod emulator;
#[cfg(all(test, feature = "emulator"))]
mod planted;

#[cfg(feature = "cuda")]
pub(super) use driver::Driver;
#[cfg(feature = "emulator")]
pub(super) use emulator::Emulator;
#[cfg(all(test, feature = "emulator"))]
pub(super) use emulator::symbols;

use std::time::Duration;

use super::buffer::DeviceBuffer;
use super::device::CudaDevice;
use super::kernel::Kernel;
use crate::element::Element;
use crate::error::{Error, Result};

/// What runs the kernels. Without both features there is none, and no device can be made.
pub(super) enum Backend {
    #[cfg(feature = "cuda")]
    Driver(Driver),
    #[cfg(feature = "emulator")]
    Emulator(Emulator),
}

/// Memory of the back end of the same name.
#[derive(Debug)]
pub(super) enum Memory {
    #[cfg(feature = "cuda")]
    Driver(driver::Memory),
    #[cfg(feature = "emulator")]
    Emulator(emulator::Memory),
}

/// A moment between two launches.
pub(super) enum Mark {
    #[cfg(feature = "cuda")]
    Driver(driver::Mark),
    #[cfg(feature = "emulator")]
    Emulator(std::time::Instant),
}

impl Memory {
    /// Bytes that it has room for.
    pub fn capacity(&self) -> usize {
        match *self {
            #[cfg(feature = "cuda")]
            Memory::Driver(ref memory) => memory.capacity(),
            #[cfg(feature = "emulator")]
            Memory::Emulator(ref memory) => memory.capacity(),
        }
    }

    /// Its first bytes become the memory of somebody else, for whom the content does not matter.
    pub fn shrink(&mut self, bytes: usize) {
        match *self {
            // kernels keep inside of what they were told; nothing checks them here
            #[cfg(feature = "cuda")]
            Memory::Driver(_) => {}
            #[cfg(feature = "emulator")]
            Memory::Emulator(ref mut memory) => memory.renew(bytes),
        }
    }
}

/// An address on the device, as argument structs hold it; 0 is null.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Address(u64);

impl Address {
    pub const NULL: Address = Address(0);
}

/// Blocks along x (and y), threads in a block, and bytes of shared memory of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub blocks: [u32; 2],
    pub threads: u32,
    pub shared_bytes: usize,
}

impl Grid {
    /// `blocks` blocks of `threads` threads without shared memory.
    pub fn new(blocks: u32, threads: u32) -> Self {
        Grid {
            blocks: [blocks, 1],
            threads,
            shared_bytes: 0,
        }
    }
}

/// An argument struct: the twin of one in `kernels/`.
///
/// # Safety
/// `#[repr(C)]` without padding bytes, of integers, floats and [`Address`]es alone, laid out as the
/// kernel's; the addresses in it come from the launch that it is passed to.
pub(super) unsafe trait Arguments: Copy {}

/// One launch: the operands are declared, then the kernel runs with its arguments.
pub(super) struct Launch<'a> {
    device: &'a CudaDevice,
    operands: Vec<Operand<'a>>,
}

/// A buffer that the kernel touches; on a GPU this holds back other streams until it is dropped.
enum Operand<'a> {
    #[cfg(feature = "cuda")]
    #[allow(dead_code, reason = "held for its drop")]
    Driver(driver::Guard<'a>),
    #[cfg(feature = "emulator")]
    Emulator(emulator::Region<'a>),
    /// Never made.
    #[cfg(not(any(feature = "cuda", feature = "emulator")))]
    Nothing(std::marker::PhantomData<&'a ()>),
}

macro_rules! on_backend {
    ($backend:expr, $it:ident => $body:expr) => {
        match *$backend {
            #[cfg(feature = "cuda")]
            Backend::Driver(ref $it) => $body,
            #[cfg(feature = "emulator")]
            Backend::Emulator(ref $it) => $body,
        }
    };
}

impl<'a> Launch<'a> {
    pub fn new(device: &'a CudaDevice) -> Self {
        Launch {
            device,
            operands: Vec::with_capacity(6),
        }
    }

    /// A buffer that the kernel reads.
    #[allow(
        unreachable_patterns,
        reason = "with one back end its memory is the only kind"
    )]
    pub fn read(&mut self, buffer: &'a DeviceBuffer) -> Result<Address> {
        match (self.device.backend(), buffer.memory()) {
            #[cfg(feature = "cuda")]
            (Backend::Driver(driver), Memory::Driver(memory)) => {
                let (address, guard) = driver.read(memory);
                self.operands.push(Operand::Driver(guard));
                Ok(Address(address))
            }
            #[cfg(feature = "emulator")]
            (Backend::Emulator(_), Memory::Emulator(memory)) => {
                let (address, region) = memory.region();
                self.operands.push(Operand::Emulator(region));
                Ok(Address(address))
            }
            _ => Err(foreign()),
        }
    }

    /// A buffer that the kernel writes, and may read.
    #[allow(
        unreachable_patterns,
        reason = "with one back end its memory is the only kind"
    )]
    pub fn write(&mut self, buffer: &'a mut DeviceBuffer) -> Result<Address> {
        match (self.device.backend(), buffer.memory_mut()) {
            #[cfg(feature = "cuda")]
            (Backend::Driver(driver), Memory::Driver(memory)) => {
                let (address, guard) = driver.write(memory);
                self.operands.push(Operand::Driver(guard));
                Ok(Address(address))
            }
            #[cfg(feature = "emulator")]
            (Backend::Emulator(_), Memory::Emulator(memory)) => {
                let (address, region) = memory.region_mut();
                self.operands.push(Operand::Emulator(region));
                Ok(Address(address))
            }
            _ => Err(foreign()),
        }
    }

    /// [`Launch::read`], or null.
    pub fn read_optional(&mut self, buffer: Option<&'a DeviceBuffer>) -> Result<Address> {
        buffer.map_or(Ok(Address::NULL), |b| self.read(b))
    }

    /// [`Launch::write`], or null.
    pub fn write_optional(&mut self, buffer: Option<&'a mut DeviceBuffer>) -> Result<Address> {
        buffer.map_or(Ok(Address::NULL), |b| self.write(b))
    }

    /// Runs a kernel with these arguments.
    pub fn run<A: Arguments>(self, kernel: Kernel, grid: Grid, args: &A) -> Result<()> {
        on_backend!(self.device.backend(), it => it.launch(kernel, grid, args, &self.operands))
    }
}

fn foreign() -> Error {
    Error::Unsupported {
        what: "memory of one back end in a launch on another".into(),
    }
}

impl Backend {
    pub fn allocate(&self, bytes: usize) -> Result<Memory> {
        match *self {
            #[cfg(feature = "cuda")]
            Backend::Driver(ref driver) => driver.allocate(bytes).map(Memory::Driver),
            #[cfg(feature = "emulator")]
            Backend::Emulator(ref emulator) => emulator.allocate(bytes).map(Memory::Emulator),
        }
    }

    /// How many bytes an emulator has.
    pub fn set_emulated_memory(&self, bytes: Option<usize>) -> Result<()> {
        match *self {
            #[cfg(feature = "cuda")]
            Backend::Driver(_) => Err(Error::Unsupported {
                what: "a GPU whose memory is of another size".into(),
            }),
            #[cfg(feature = "emulator")]
            Backend::Emulator(ref emulator) => {
                emulator.set_memory(bytes);
                Ok(())
            }
        }
    }

    #[allow(
        unreachable_patterns,
        reason = "with one back end its memory is the only kind"
    )]
    pub fn upload(&self, data: &[u8], to: &mut Memory) -> Result<()> {
        match (self, to) {
            #[cfg(feature = "cuda")]
            (Backend::Driver(driver), Memory::Driver(to)) => driver.upload(data, to),
            #[cfg(feature = "emulator")]
            (Backend::Emulator(_), Memory::Emulator(to)) => {
                to.bytes_mut(data.len()).copy_from_slice(data);
                Ok(())
            }
            _ => Err(foreign()),
        }
    }

    #[allow(
        unreachable_patterns,
        reason = "with one back end its memory is the only kind"
    )]
    pub fn download(&self, from: &Memory, data: &mut [u8]) -> Result<()> {
        match (self, from) {
            #[cfg(feature = "cuda")]
            (Backend::Driver(driver), Memory::Driver(from)) => driver.download(from, data),
            #[cfg(feature = "emulator")]
            (Backend::Emulator(_), Memory::Emulator(from)) => {
                data.copy_from_slice(from.bytes(data.len()));
                Ok(())
            }
            _ => Err(foreign()),
        }
    }

    #[allow(
        unreachable_patterns,
        reason = "with one back end its memory is the only kind"
    )]
    pub fn copy(&self, from: &Memory, bytes: usize, to: &mut Memory) -> Result<()> {
        match (self, from, to) {
            #[cfg(feature = "cuda")]
            (Backend::Driver(driver), Memory::Driver(from), Memory::Driver(to)) => {
                driver.copy(from, to)
            }
            #[cfg(feature = "emulator")]
            (Backend::Emulator(_), Memory::Emulator(from), Memory::Emulator(to)) => {
                to.bytes_mut(bytes).copy_from_slice(from.bytes(bytes));
                Ok(())
            }
            _ => Err(foreign()),
        }
    }

    /// What kind of GPU and of driver it is.
    pub fn identity(&self) -> &str {
        on_backend!(self, backend => backend.identity())
    }

    /// Now, in the order of what is asked for.
    pub fn mark(&self) -> Result<Mark> {
        match *self {
            #[cfg(feature = "cuda")]
            Backend::Driver(ref driver) => driver.mark().map(Mark::Driver),
            #[cfg(feature = "emulator")]
            Backend::Emulator(_) => Ok(Mark::Emulator(std::time::Instant::now())),
        }
    }

    /// From one mark to another; waits for that.
    #[allow(
        unreachable_patterns,
        reason = "with one back end its marks are the only kind"
    )]
    pub fn elapsed(&self, start: Mark, end: Mark) -> Result<Duration> {
        match (start, end) {
            #[cfg(feature = "cuda")]
            (Mark::Driver(start), Mark::Driver(end)) => driver::elapsed(&start, &end),
            #[cfg(feature = "emulator")]
            (Mark::Emulator(start), Mark::Emulator(end)) => Ok(end.duration_since(start)),
            _ => Err(foreign()),
        }
    }

    /// Compute capability, ten times.
    pub fn compute(&self) -> u32 {
        on_backend!(self, backend => backend.compute())
    }

    pub fn synchronize(&self) -> Result<()> {
        on_backend!(self, backend => backend.synchronize())
    }
}

/// The memory of a slice of elements.
pub(super) fn bytes_of<T: Element>(data: &[T]) -> &[u8] {
    // SAFETY: `Element` is sealed: f16, bf16, f32 and f64 have no padding, any byte may be read,
    // and the length in bytes is that of the slice.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) }
}

/// The memory of a slice of elements.
pub(super) fn bytes_of_mut<T: Element>(data: &mut [T]) -> &mut [u8] {
    // SAFETY: as `bytes_of`; and every bit pattern is a value of these types.
    unsafe { std::slice::from_raw_parts_mut(data.as_mut_ptr().cast(), size_of_val(data)) }
}
