//! The CUDA driver, through cudarc.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr,
    DevicePtrMut, DeviceRepr, DriverError, LaunchConfig, PushKernelArg, SyncOnDrop, sys,
};
use cudarc::nvrtc::Ptx;

use super::{Arguments, Grid, Operand};
use crate::cuda::kernel::{self, Kernel};
use crate::error::{Error, Result};

/// Shared memory that a block gets without asking for more.
const PLAIN_SHARED_BYTES: usize = 48 << 10;

/// A context with one stream and the modules loaded so far.
pub(in crate::cuda) struct Driver {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    compute: u32,
    identity: String,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: HashMap<Kernel, Function>,
}

#[derive(Clone)]
struct Function {
    handle: CudaFunction,
    /// Shared memory that its blocks may ask for.
    shared_bytes: usize,
}

/// Bytes on the GPU, in stream order.
#[derive(Debug)]
pub(in crate::cuda) struct Memory(CudaSlice<u8>);

/// An event on the stream.
pub(in crate::cuda) struct Mark(CudaEvent);

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
        // SAFETY: nobody else gets this context object or its memory, and this stream alone touches
        // what is allocated through it, in order. So no events need to order streams, which would
        // cost two driver calls for every operand of every launch.
        unsafe { context.disable_event_tracking() };
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
        let name = context.name().map_err(|e| failed("the device's name", e))?;
        let mut version = 0;
        // SAFETY: writes one integer.
        let asked = unsafe { sys::cuDriverGetVersion(&mut version) };
        asked
            .result()
            .map_err(|e| failed("the driver's version", e))?;
        Ok(Driver {
            context,
            identity: format!("{name}, driver {version}"),
            stream,
            compute: (major * 10 + minor).max(0) as u32,
            loaded: Mutex::default(),
        })
    }

    /// Compute capability, ten times.
    pub fn compute(&self) -> u32 {
        self.compute
    }

    /// The GPU's name and the driver's version.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    pub fn mark(&self) -> Result<Mark> {
        let timed = sys::CUevent_flags::CU_EVENT_DEFAULT;
        let event = self.stream.record_event(Some(timed));
        event.map(Mark).map_err(|e| failed("an event", e))
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
        kernel: Kernel,
        grid: Grid,
        args: &A,
        _operands: &[Operand],
    ) -> Result<()> {
        let function = self.function(kernel, grid.shared_bytes)?;
        let [x, y] = grid.blocks;
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
        launched.map(drop).map_err(|e| failed(&kernel.symbol(), e))
    }

    /// The kernel, ready for blocks with so much shared memory. Names are spelled and looked up at
    /// its first use only.
    fn function(&self, kernel: Kernel, shared_bytes: usize) -> Result<CudaFunction> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let known = loaded.functions.get(&kernel);
        if let Some(function) = known.filter(|f| shared_bytes <= f.shared_bytes) {
            return Ok(function.handle.clone());
        }
        let symbol = kernel.symbol();
        let handle = match known {
            Some(function) => function.handle.clone(),
            None => {
                let module = self.module(&mut loaded, kernel.module)?;
                module
                    .load_function(&symbol)
                    .map_err(|e| failed(&symbol, e))?
            }
        };
        if shared_bytes > PLAIN_SHARED_BYTES {
            let attribute =
                sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let set = handle.set_attribute(attribute, shared_bytes as i32);
            set.map_err(|e| failed(&symbol, e))?;
        }
        let function = Function {
            handle: handle.clone(),
            shared_bytes: shared_bytes.max(PLAIN_SHARED_BYTES),
        };
        loaded.functions.insert(kernel, function);
        Ok(handle)
    }

    /// A file's kernels, loaded at their first use.
    fn module(&self, loaded: &mut Loaded, name: &'static str) -> Result<Arc<CudaModule>> {
        if let Some(module) = loaded.modules.get(name) {
            return Ok(module.clone());
        }
        let image = kernel::image(name)?;
        let module = self.context.load_module(Ptx::from_binary(image.to_vec()));
        let module = module.map_err(|e| failed(name, e))?;
        loaded.modules.insert(name, module.clone());
        Ok(module)
    }
}

impl Memory {
    pub fn capacity(&self) -> usize {
        self.0.len()
    }
}

pub(super) fn elapsed(start: &Mark, end: &Mark) -> Result<Duration> {
    let milliseconds = start.0.elapsed_ms(&end.0);
    let milliseconds = milliseconds.map_err(|e| failed("the time between events", e))?;
    Ok(Duration::from_secs_f64(
        f64::from(milliseconds.max(0.0)) / 1e3,
    ))
}

fn failed(what: &str, error: DriverError) -> Error {
    Error::Cuda {
        what: what.into(),
        reason: error.to_string(),
    }
}
