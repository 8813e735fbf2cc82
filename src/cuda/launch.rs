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

use super::buffer::DeviceBuffer;
use super::device::CudaDevice;
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
            operands: Vec::new(),
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

    /// Runs the kernel `symbol` of the file `module`.
    pub fn run<A: Arguments>(self, module: &str, symbol: &str, grid: Grid, args: &A) -> Result<()> {
        match *self.device.backend() {
            #[cfg(feature = "cuda")]
            Backend::Driver(ref driver) => {
                driver.launch(module, symbol, grid, args, &self.operands)
            }
            #[cfg(feature = "emulator")]
            Backend::Emulator(ref emulator) => {
                emulator.launch(module, symbol, grid, args, &self.operands)
            }
        }
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
            Backend::Emulator(_) => emulator::Memory::new(bytes).map(Memory::Emulator),
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
