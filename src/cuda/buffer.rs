//! Memory on a device: bytes, whose element type the tensor knows.

use super::device::CudaDevice;
use super::launch::{Memory, bytes_of, bytes_of_mut};
use crate::element::Element;
use crate::error::{Error, Result};

/// A piece of device memory.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    device: CudaDevice,
    memory: Memory,
    bytes: usize,
}

impl DeviceBuffer {
    pub(super) fn new(device: &CudaDevice, bytes: usize) -> Result<Self> {
        let backend = device.backend();
        let memory = match backend.allocate(bytes) {
            Err(Error::OutOfMemory { .. }) => {
                device.trim_workspace()?;
                backend.allocate(bytes)?
            }
            other => other?,
        };
        Ok(Self::of(device, memory, bytes))
    }

    /// The first bytes of memory that somebody used before.
    pub(super) fn reuse(device: &CudaDevice, mut memory: Memory, bytes: usize) -> Self {
        memory.shrink(bytes);
        Self::of(device, memory, bytes)
    }

    fn of(device: &CudaDevice, memory: Memory, bytes: usize) -> Self {
        DeviceBuffer {
            device: device.clone(),
            memory,
            bytes,
        }
    }

    pub(super) fn into_memory(self) -> Memory {
        self.memory
    }

    /// Bytes of so many elements.
    pub(super) fn bytes_for<T: Element>(elements: usize) -> Result<usize> {
        let bytes = elements.checked_mul(size_of::<T>());
        bytes.ok_or_else(|| Error::TooLarge {
            what: "a device buffer".into(),
            size: elements.to_string(),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn upload<T: Element>(device: &CudaDevice, data: &[T]) -> Result<Self> {
        Self::upload_bytes(device, bytes_of(data))
    }

    pub(super) fn upload_bytes(device: &CudaDevice, data: &[u8]) -> Result<Self> {
        let mut buffer = Self::new(device, data.len())?;
        device.backend().upload(data, &mut buffer.memory)?;
        Ok(buffer)
    }

    /// The elements, once everything asked for so far has been done.
    pub fn download<T: Element>(&self) -> Result<Vec<T>> {
        let mut data = vec![T::default(); self.bytes / size_of::<T>()];
        let backend = self.device.backend();
        backend.download(&self.memory, bytes_of_mut(&mut data))?;
        Ok(data)
    }

    pub fn duplicate(&self) -> Result<Self> {
        let mut copy = Self::new(&self.device, self.bytes)?;
        let backend = self.device.backend();
        backend.copy(&self.memory, self.bytes, &mut copy.memory)?;
        Ok(copy)
    }

    pub fn device(&self) -> &CudaDevice {
        &self.device
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }
}
