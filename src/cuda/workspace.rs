//! Scratch memory of operations, kept for the operations that follow.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::buffer::DeviceBuffer;
use super::device::CudaDevice;
use super::launch::Memory;
use crate::element::Element;
use crate::error::Result;

/// The scratch memory of a device that no operation holds.
///
/// A device asks for everything on one stream, which does it in order: the kernels that used a
/// piece of memory have ended before those of its next holder begin. So a piece comes back as soon
/// as an operation has queued its kernels, and nobody waits.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Memory>>);

impl Pool {
    /// The smallest piece that is large enough. If none is, the largest leaves the pool, so that
    /// growing wishes do not leave a piece of every size behind.
    fn take(&self, bytes: usize) -> Option<Memory> {
        let mut free = self.lock();
        let sizes = || free.iter().map(Memory::capacity).enumerate();
        let enough = sizes().filter(|&(_, size)| size >= bytes);
        match enough.min_by_key(|&(_, size)| size) {
            Some((at, _)) => Some(free.swap_remove(at)),
            None => {
                let largest = sizes().max_by_key(|&(_, size)| size);
                largest.map(|(at, _)| free.swap_remove(at));
                None
            }
        }
    }

    fn put(&self, memory: Memory) {
        self.lock().push(memory);
    }

    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Bytes of all pieces.
    pub fn bytes(&self) -> usize {
        self.lock().iter().map(Memory::capacity).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Scratch memory that an operation holds; dropped, it is kept for the next one.
pub(super) struct Scratch(Option<DeviceBuffer>);

impl Deref for Scratch {
    type Target = DeviceBuffer;

    fn deref(&self) -> &DeviceBuffer {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut DeviceBuffer {
        self.0.as_mut().expect("there until it is dropped")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(buffer) = self.0.take() {
            let device = buffer.device().clone();
            device.pool().put(buffer.into_memory());
        }
    }
}

impl CudaDevice {
    /// So many bytes of scratch memory, whose content does not matter.
    pub(super) fn scratch(&self, bytes: usize) -> Result<Scratch> {
        let buffer = match self.pool().take(bytes) {
            Some(memory) => DeviceBuffer::reuse(self, memory, bytes),
            None => DeviceBuffer::new(self, bytes)?,
        };
        Ok(Scratch(Some(buffer)))
    }

    /// Runs `op` with so many bytes of scratch memory.
    pub(super) fn with_scratch<R>(
        &self,
        bytes: usize,
        op: impl FnOnce(&mut DeviceBuffer) -> Result<R>,
    ) -> Result<R> {
        let mut scratch = self.scratch(bytes)?;
        op(&mut scratch)
    }

    /// The same for so many elements.
    pub(super) fn with_elements<T: Element, R>(
        &self,
        elements: usize,
        op: impl FnOnce(&mut DeviceBuffer) -> Result<R>,
    ) -> Result<R> {
        self.with_scratch(DeviceBuffer::bytes_for::<T>(elements)?, op)
    }

    /// Gives scratch memory that is kept for later operations back to the system. This happens by
    /// itself when memory runs out.
    ///
    /// # Errors
    /// [`Error::Cuda`](crate::Error::Cuda) for what earlier operations met: this waits for them.
    pub fn trim_workspace(&self) -> Result<()> {
        self.pool().clear();
        // memory that is freed in stream order is the system's once the stream has got there
        self.synchronize()
    }

    /// Bytes of scratch memory that are kept for later operations.
    ///
    /// ```
    /// use ndconv::{CopyTiming, CudaDevice};
    /// # if let Ok(device) = CudaDevice::emulator(0, CopyTiming::Eager) {
    /// assert_eq!(device.kept_workspace(), 0);
    /// # }
    /// ```
    pub fn kept_workspace(&self) -> usize {
        self.pool().bytes()
    }
}

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use super::*;
    use crate::cuda::device::CopyTiming;
    use crate::error::Error;

    fn device() -> CudaDevice {
        CudaDevice::emulator(0, CopyTiming::Eager).unwrap()
    }

    fn use_up(device: &CudaDevice, elements: usize) {
        let write = |scratch: &mut DeviceBuffer| {
            let values = scratch.download::<f32>()?;
            assert_eq!(values.len(), elements);
            assert!(values.iter().all(|v| v.is_nan()), "not poisoned");
            let zeros = vec![0f32; elements];
            device
                .backend()
                .upload(super::super::launch::bytes_of(&zeros), scratch.memory_mut())
        };
        device.with_elements::<f32, ()>(elements, write).unwrap();
    }

    #[test]
    fn memory_is_used_again_and_comes_poisoned() {
        let device = device();
        use_up(&device, 1000);
        assert_eq!(device.kept_workspace(), 4000);
        use_up(&device, 1000);
        use_up(&device, 10);
        assert_eq!(device.kept_workspace(), 4000, "the same piece");
        use_up(&device, 2000);
        assert_eq!(device.kept_workspace(), 8000, "in its place");
        let nested = device.with_scratch(16, |_| {
            use_up(&device, 4);
            Ok(device.kept_workspace())
        });
        assert_eq!(nested.unwrap(), 16);
        device.trim_workspace().unwrap();
        assert_eq!(device.kept_workspace(), 0);
    }

    #[test]
    fn what_is_kept_makes_room_when_memory_runs_out() {
        let device = device();
        device.set_emulated_memory(Some(10_000)).unwrap();
        use_up(&device, 2000);
        assert_eq!(device.kept_workspace(), 8000);
        let held = device.uninitialised::<f64>(1000).unwrap();
        assert_eq!(device.kept_workspace(), 0);
        let refused = device.uninitialised::<half::f16>(2001).unwrap_err();
        let Error::OutOfMemory { requested, .. } = refused else {
            panic!("{refused}")
        };
        assert_eq!(requested, 4002);
        use_up(&device, 500);
        drop(held);
        use_up(&device, 2500);
    }

    #[test]
    fn a_failed_operation_gives_its_memory_back() {
        let device = device();
        let failed = device.with_scratch::<()>(64, |_| {
            Err(Error::Unsupported {
                what: "this".into(),
            })
        });
        assert!(failed.is_err());
        assert_eq!(device.kept_workspace(), 64);
    }
}
