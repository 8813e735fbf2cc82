//! The CUDA driver, through cudarc.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DevicePtrMut,
    DeviceRepr, DriverError, LaunchConfig, PushKernelArg, SyncOnDrop, sys,
};
use cudarc::nvrtc::Ptx;

use super::{Arguments, Grid, Operand};
use crate::cuda::kernel;
use crate::error::{Error, Result};

/// Shared memory that a block gets without asking for more.
const PLAIN_SHARED_BYTES: usize = 48 << 10;

/// A context with one stream and the modules loaded so far.
pub(in crate::cuda) struct Driver {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    compute: u32,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<String, Arc<CudaModule>>,
    functions: HashMap<String, CudaFunction>,
}

/// Bytes on the GPU, in stream order.
#[derive(Debug)]
pub(in crate::cuda) struct Memory(CudaSlice<u8>);

/// Keeps the order of streams that share memory until the launch is under way.
pub(super) struct Guard<'a>(#[expect(dead_code, reason = "held for its drop")] SyncOnDrop<'a>);

/// An argument struct on its way into a launch.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Passed<A>(A);

// SAFETY: `Arguments` are plain C structs that the kernel takes by value.
unsafe impl<A: Arguments> DeviceRepr for Passed<A> {}

impl Driver {
    pub fn open(ordinal: usize) -> Result<Self> {
        let none = |looked_for: String| Error::NoCudaDevice { looked_for };
        // SAFETY: loads the driver library, whose initialisers are trusted, or finds none. Without
        // this check the first call into the driver would panic.
        if !unsafe { sys::is_culib_present() } {
            return Err(none(
                "the NVIDIA driver library (libcuda) was not found".into(),
            ));
        }
        let count =
            CudaContext::device_count().map_err(|e| none(format!("the driver reports {e}")))?;
        if ordinal >= count.max(0) as usize {
            return Err(none(format!("cuda:{ordinal} of {count} devices")));
        }
        let context =
            CudaContext::new(ordinal).map_err(|e| none(format!("cuda:{ordinal}: {e}")))?;
        let stream = context
            .new_stream()
            .map_err(|e| failed("a new stream", e))?;
        Self::on_stream(stream)
    }

    pub fn on_stream(stream: Arc<CudaStream>) -> Result<Self> {
        let context = stream.context().clone();
        let (major, minor) = context
            .compute_capability()
            .map_err(|e| failed("the compute capability", e))?;
        Ok(Driver {
            context,
            stream,
            compute: (major * 10 + minor).max(0) as u32,
            loaded: Mutex::default(),
        })
    }

    /// Compute capability, ten times.
    pub fn compute(&self) -> u32 {
        self.compute
    }

    pub fn allocate(&self, bytes: usize) -> Result<Memory> {
        // SAFETY: the bytes are uninitialised; whoever reads them has written them before, or lets
        // a kernel write them first. Empty allocations are an error to the driver.
        let memory = unsafe { self.stream.alloc::<u8>(bytes.max(16)) };
        memory.map(Memory).map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::OutOfMemory {
                what: "a device buffer".into(),
                requested: bytes,
            },
            _ => failed("an allocation", error),
        })
    }

    pub fn upload(&self, data: &[u8], to: &mut Memory) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let copied = self.stream.memcpy_htod(data, &mut to.0);
        copied.map_err(|e| failed("a copy to the device", e))
    }

    pub fn download(&self, from: &Memory, data: &mut [u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let view = from.0.slice(..data.len());
        let copied = self.stream.memcpy_dtoh(&view, data);
        copied.map_err(|e| failed("a copy from the device", e))?;
        self.synchronize()
    }

    pub fn copy(&self, from: &Memory, to: &mut Memory) -> Result<()> {
        let copied = self.stream.memcpy_dtod(&from.0, &mut to.0);
        copied.map_err(|e| failed("a copy on the device", e))
    }

    pub fn synchronize(&self) -> Result<()> {
        let done = self.stream.synchronize();
        done.map_err(|e| failed("the stream", e))
    }

    pub(super) fn read<'a>(&'a self, memory: &'a Memory) -> (u64, Guard<'a>) {
        let (address, guard) = memory.0.device_ptr(&self.stream);
        (address, Guard(guard))
    }

    pub(super) fn write<'a>(&'a self, memory: &'a mut Memory) -> (u64, Guard<'a>) {
        let (address, guard) = memory.0.device_ptr_mut(&self.stream);
        (address, Guard(guard))
    }

    pub(super) fn launch<A: Arguments>(
        &self,
        module: &str,
        symbol: &str,
        grid: Grid,
        args: &A,
        _operands: &[Operand],
    ) -> Result<()> {
        let function = self.function(module, symbol)?;
        let [x, y] = grid.blocks;
        if grid.shared_bytes > PLAIN_SHARED_BYTES {
            let attribute =
                sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let set = function.set_attribute(attribute, grid.shared_bytes as i32);
            set.map_err(|e| failed(symbol, e))?;
        }
        let config = LaunchConfig {
            grid_dim: (x, y, 1),
            block_dim: (grid.threads, 1, 1),
            shared_mem_bytes: grid.shared_bytes as u32,
        };
        let passed = Passed(*args);
        let mut launch = self.stream.launch_builder(&function);
        launch.arg(&passed);
        // SAFETY: the kernel of this name takes one argument, this struct (its layout is asserted
        // on both sides); the addresses in it are of buffers whose guards live until the launch is
        // queued, which were declared read or written as the kernel uses them, and the planner
        // keeps every index inside them.
        let launched = unsafe { launch.launch(config) };
        launched.map(drop).map_err(|e| failed(symbol, e))
    }

    /// The kernel, from a module that is loaded at its first use.
    fn function(&self, module: &str, symbol: &str) -> Result<CudaFunction> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.functions.get(symbol) {
            return Ok(function.clone());
        }
        let code = match loaded.modules.get(module) {
            Some(code) => code.clone(),
            None => {
                let image = kernel::image(module)?;
                let code = self.context.load_module(Ptx::from_binary(image.to_vec()));
                let code = code.map_err(|e| failed(module, e))?;
                loaded.modules.insert(module.to_owned(), code.clone());
                code
            }
        };
        let function = code.load_function(symbol).map_err(|e| failed(symbol, e))?;
        loaded.functions.insert(symbol.to_owned(), function.clone());
        Ok(function)
    }
}

fn failed(what: &str, error: DriverError) -> Error {
    Error::Cuda {
        what: what.into(),
        reason: error.to_string(),
    }
}
