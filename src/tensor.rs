//! Tensors: a shape, a layout and a buffer on a device.

use std::any::Any;
use std::sync::Arc;

use ndarray::{ArrayBase, ArrayD, Data, Dimension, IxDyn};

use crate::cpu::Weight;
use crate::cuda::{self, CudaDevice, DeviceBuffer};
use crate::device::Device;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::host::HostBuffer;
use crate::shape::{Layout, check_elements};

/// The memory of a tensor; a clone shares it until one side is written to.
#[derive(Clone, Debug)]
pub(crate) enum Buffer<T> {
    Cpu(Arc<HostBuffer<T>>),
    Cuda(Arc<DeviceBuffer>),
}

/// A dense array of any rank on a device; the element type is in the type, the device in the value.
///
/// `shape()` is in memory order, so an ndarray goes in and out without surprises; [`Tensor::layout`]
/// tells which of its axes is the channel axis. Clones are cheap: they share the buffer until one
/// of them is written to.
///
/// ```
/// use ndarray::arr2;
/// use ndconv::Tensor;
/// let x = Tensor::from_array(&arr2(&[[1.0f32, 2.0], [3.0, 4.0]]))?;
/// assert_eq!(x.shape(), [2, 2]);
/// assert_eq!(x.reshape(&[4])?.to_vec()?, [1.0, 2.0, 3.0, 4.0]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tensor<T> {
    shape: Vec<usize>,
    layout: Layout,
    buffer: Buffer<T>,
}

impl<T: Element> Tensor<T> {
    /// A channels-first tensor on the CPU that takes over `data`, in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] when `data` has not as many elements as `shape`.
    pub fn from_vec(shape: &[usize], data: Vec<T>) -> Result<Self> {
        let elements = check_elements("tensor", shape)?;
        if data.len() != elements {
            let expected = format!("{elements} elements for the shape {shape:?}");
            return Err(Error::shape("tensor data", expected, data.len()));
        }
        Ok(Tensor {
            shape: shape.to_vec(),
            layout: Layout::ChannelsFirst,
            buffer: Buffer::Cpu(Arc::new(data.into())),
        })
    }

    /// A channels-first tensor on the CPU with an array's elements.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more elements than can be addressed.
    pub fn from_array<S, D>(array: &ArrayBase<S, D>) -> Result<Self>
    where
        S: Data<Elem = T>,
        D: Dimension,
    {
        Self::from_vec(array.shape(), array.iter().copied().collect())
    }

    /// A tensor with every element `value`.
    ///
    /// # Errors
    /// [`Error::TooLarge`] or [`Error::OutOfMemory`].
    pub fn full(shape: &[usize], value: T, device: &Device) -> Result<Self> {
        let elements = check_elements("tensor", shape)?;
        let buffer = match device {
            Device::Cpu => Buffer::Cpu(Arc::new(HostBuffer::full(elements, value)?)),
            Device::Cuda(device) => {
                Buffer::Cuda(Arc::new(cuda::pointwise::filled(device, elements, value)?))
            }
        };
        Ok(Tensor {
            shape: shape.to_vec(),
            layout: Layout::ChannelsFirst,
            buffer,
        })
    }

    /// A tensor whose elements do not matter, because they are all written next.
    pub(crate) fn uninitialised(shape: &[usize], device: &Device) -> Result<Self> {
        let elements = check_elements("tensor", shape)?;
        let buffer = match device {
            Device::Cpu => Buffer::Cpu(Arc::new(HostBuffer::of_any_value(elements)?)),
            Device::Cuda(device) => Buffer::Cuda(Arc::new(device.uninitialised::<T>(elements)?)),
        };
        Ok(Tensor {
            shape: shape.to_vec(),
            layout: Layout::ChannelsFirst,
            buffer,
        })
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// [`Error::TooLarge`] or [`Error::OutOfMemory`].
    pub fn zeros(shape: &[usize], device: &Device) -> Result<Self> {
        Self::full(shape, T::default(), device)
    }

    /// Sizes of the axes in memory order.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Which axis is the channel axis.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The shape as `(batch, channels, *spatial)`, whatever the layout.
    pub fn channels_first_shape(&self) -> Vec<usize> {
        self.layout.to_channels_first(&self.shape)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device that holds the elements.
    pub fn device(&self) -> Device {
        match &self.buffer {
            Buffer::Cpu(_) => Device::Cpu,
            Buffer::Cuda(buffer) => Device::Cuda(buffer.device().clone()),
        }
    }

    /// The same elements, read as having this layout: a statement about the data, not a change of
    /// it. [`Tensor::to_layout`] moves the elements.
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The same tensor with its elements in the order of `layout`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn to_layout(&self, layout: Layout) -> Result<Self> {
        if layout == self.layout || self.shape.len() < 3 {
            return Ok(self.clone().with_layout(layout));
        }
        let shape = layout.from_channels_first(&self.channels_first_shape());
        let mut moved = Self::uninitialised(&shape, &self.device())?.with_layout(layout);
        crate::ops::change_layout(self, &mut moved)?;
        Ok(moved)
    }

    /// The same elements in row-major order under another shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when the number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if check_elements("reshape", shape)? != self.len() {
            let expected = format!("as many elements as {:?} has", self.shape);
            return Err(Error::shape("reshape", expected, shape));
        }
        Ok(Tensor {
            shape: shape.to_vec(),
            ..self.clone()
        })
    }

    /// The same tensor on another device; a cheap clone when it is there already. Between two
    /// devices other than the CPU it goes through the host.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or what the device reports.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let buffer = match (&self.buffer, device) {
            (Buffer::Cpu(_), Device::Cpu) => return Ok(self.clone()),
            (Buffer::Cuda(buffer), Device::Cuda(device)) if buffer.device() == device => {
                return Ok(self.clone());
            }
            (Buffer::Cpu(data), Device::Cuda(device)) => {
                Buffer::Cuda(Arc::new(DeviceBuffer::upload(device, data)?))
            }
            (Buffer::Cuda(buffer), Device::Cpu) => Buffer::Cpu(Arc::new(buffer.download()?.into())),
            (Buffer::Cuda(buffer), Device::Cuda(device)) => {
                let data = buffer.download::<T>()?;
                Buffer::Cuda(Arc::new(DeviceBuffer::upload(device, &data)?))
            }
        };
        Ok(Tensor {
            shape: self.shape.clone(),
            layout: self.layout,
            buffer,
        })
    }

    /// Every element rounded to another type; a cheap clone when it is the same type.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn cast<U: Element>(&self) -> Result<Tensor<U>> {
        if let Some(same) = (self as &dyn Any).downcast_ref::<Tensor<U>>() {
            return Ok(same.clone());
        }
        let cast = Tensor::uninitialised(&self.shape, &self.device())?;
        let mut cast = cast.with_layout(self.layout);
        crate::ops::cast(self, &mut cast)?;
        Ok(cast)
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// What the device reports while copying.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        match &self.buffer {
            Buffer::Cpu(data) => Ok(data.to_vec()),
            Buffer::Cuda(buffer) => buffer.download(),
        }
    }

    /// The elements as an array of the same shape.
    ///
    /// # Errors
    /// What the device reports while copying.
    pub fn to_array(&self) -> Result<ArrayD<T>> {
        ArrayD::from_shape_vec(IxDyn(&self.shape), self.to_vec()?)
            .map_err(|e| Error::shape("tensor", "a shape that ndarray can hold", e.to_string()))
    }

    /// Replaces every element, in row-major order, keeping shape, layout and device.
    ///
    /// # Errors
    /// [`Error::Shape`] when `data` has not as many elements; what the device reports.
    ///
    /// ```
    /// use ndconv::{Device, Tensor};
    /// let mut x = Tensor::zeros(&[2], &Device::Cpu)?;
    /// x.overwrite(&[1.0f32, 2.0])?;
    /// assert_eq!(x.to_vec()?, [1.0, 2.0]);
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn overwrite(&mut self, data: &[T]) -> Result<()> {
        if data.len() != self.len() {
            let expected = format!("{} elements", self.len());
            return Err(Error::shape("tensor data", expected, data.len()));
        }
        match &mut self.buffer {
            Buffer::Cpu(buffer) => Arc::make_mut(buffer).copy_from_slice(data),
            Buffer::Cuda(buffer) => {
                *buffer = Arc::new(DeviceBuffer::upload(buffer.device(), data)?);
            }
        }
        Ok(())
    }

    /// The elements of a tensor that an operation on the CPU reads.
    pub(crate) fn on_cpu(&self, what: &str) -> Result<&[T]> {
        match &self.buffer {
            Buffer::Cpu(data) => Ok(data),
            Buffer::Cuda(_) => Err(self.elsewhere(what, &Device::Cpu)),
        }
    }

    /// As [`Tensor::on_cpu`], for weights, of which the engine may keep a packed form.
    pub(crate) fn weight_on_cpu(&self, what: &str) -> Result<Weight<'_, T>> {
        match &self.buffer {
            Buffer::Cpu(data) => Ok(Weight {
                values: data,
                kept: Some(data.kept()),
            }),
            Buffer::Cuda(_) => Err(self.elsewhere(what, &Device::Cpu)),
        }
    }

    /// The elements of a tensor that an operation on the CPU writes.
    pub(crate) fn on_cpu_mut(&mut self, what: &str) -> Result<&mut [T]> {
        if let Buffer::Cuda(_) = &self.buffer {
            return Err(self.elsewhere(what, &Device::Cpu));
        }
        match &mut self.buffer {
            Buffer::Cpu(data) => Ok(&mut *Arc::make_mut(data)),
            Buffer::Cuda(_) => unreachable!("looked at above"),
        }
    }

    /// The memory of a tensor that an operation on a GPU reads.
    pub(crate) fn on_cuda(&self, device: &CudaDevice, what: &str) -> Result<&DeviceBuffer> {
        match &self.buffer {
            Buffer::Cuda(buffer) if buffer.device() == device => Ok(buffer),
            _ => Err(self.elsewhere(what, &Device::Cuda(device.clone()))),
        }
    }

    /// The memory of a tensor that an operation on a GPU writes.
    pub(crate) fn on_cuda_mut(
        &mut self,
        device: &CudaDevice,
        what: &str,
    ) -> Result<&mut DeviceBuffer> {
        self.on_cuda(device, what)?;
        match &mut self.buffer {
            Buffer::Cuda(buffer) => {
                if Arc::get_mut(buffer).is_none() {
                    *buffer = Arc::new(buffer.duplicate()?);
                }
                Ok(Arc::get_mut(buffer).expect("nobody shares a new buffer"))
            }
            Buffer::Cpu(_) => unreachable!("looked at above"),
        }
    }

    fn elsewhere(&self, what: &str, expected: &Device) -> Error {
        Error::DeviceMismatch {
            what: what.into(),
            expected: expected.to_string(),
            got: self.device().to_string(),
        }
    }

    /// A tensor of this one's shape, layout and device, whose elements are all written next.
    pub(crate) fn uninitialised_like(&self) -> Result<Self> {
        Ok(Self::uninitialised(&self.shape, &self.device())?.with_layout(self.layout))
    }
}
