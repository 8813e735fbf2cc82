//! Memory on a device: bytes, whose element type the tensor knows.

use super::device::CudaDevice;
use super::launch::{Memory, bytes_of, bytes_of_mut};
use crate::element::Element;
use crate::error::Result;

/// A piece of device memory.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    device: CudaDevice,
    memory: Memory,
    bytes: usize,
}

impl DeviceBuffer {
    pub(super) fn new(device: &CudaDevice, bytes: usize) -> Result<Self> {
        Ok(DeviceBuffer {
            device: device.clone(),
            memory: device.backend().allocate(bytes)?,
            bytes,
        })
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
