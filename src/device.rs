//! Devices, chosen at run time.

use std::fmt;
use std::str::FromStr;

use crate::cuda::CudaDevice;
use crate::error::{Error, Result};

/// Where a tensor lives and an operation runs.
///
/// ```
/// use ndconv::Device;
/// let (device, why_not_cuda) = Device::cuda_or_cpu(0);
/// if let Some(reason) = why_not_cuda {
///     println!("running on {device}: {reason}");
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The processor, through this crate's own engine.
    #[default]
    Cpu,
    /// An NVIDIA GPU, or the emulator that runs the same kernels.
    Cuda(CudaDevice),
}

impl Device {
    /// The CUDA device with this ordinal.
    ///
    /// # Errors
    /// [`Error::KernelsNotBuilt`] when the crate was built without kernels,
    /// [`Error::NoCudaDevice`] without a driver or a GPU of this number.
    pub fn cuda(ordinal: usize) -> Result<Self> {
        CudaDevice::open(ordinal).map(Device::Cuda)
    }

    /// The CUDA device if there is one, else the CPU together with the reason.
    pub fn cuda_or_cpu(ordinal: usize) -> (Self, Option<Error>) {
        match Device::cuda(ordinal) {
            Ok(device) => (device, None),
            Err(why_not) => (Device::Cpu, Some(why_not)),
        }
    }

    /// The CUDA kernels on the CPU, thread by thread: for tests without a GPU, and very slow.
    ///
    /// # Errors
    /// [`Error::KernelsNotBuilt`] without the feature `emulator`.
    pub fn emulator() -> Result<Self> {
        CudaDevice::shared_emulator().map(Device::Cuda)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(device) => f.write_str(device.name()),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Opens `cpu`, `cuda`, `cuda:ORDINAL` or `emulator`.
    fn from_str(s: &str) -> Result<Self> {
        let ordinal = match s {
            "cpu" => return Ok(Device::Cpu),
            "emulator" => return Device::emulator(),
            "cuda" => Some(0),
            _ => s.strip_prefix("cuda:").and_then(|n| n.parse().ok()),
        };
        match ordinal {
            Some(ordinal) => Device::cuda(ordinal),
            None => {
                let expected = "cpu, cuda, cuda:ORDINAL or emulator";
                Err(Error::argument("device", expected, format!("{s:?}")))
            }
        }
    }
}
