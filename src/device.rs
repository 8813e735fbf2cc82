//! Devices, chosen at run time.

use std::fmt;
use std::str::FromStr;

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
}

impl Device {
    /// The CUDA device with this ordinal.
    ///
    /// # Errors
    /// [`Error::KernelsNotBuilt`] when the crate was built without kernels.
    pub fn cuda(ordinal: usize) -> Result<Self> {
        Err(Error::KernelsNotBuilt {
            why: format!("this version runs on the CPU alone, so cuda:{ordinal} cannot be opened"),
        })
    }

    /// The CUDA device if there is one, else the CPU together with the reason.
    pub fn cuda_or_cpu(ordinal: usize) -> (Self, Option<Error>) {
        match Device::cuda(ordinal) {
            Ok(device) => (device, None),
            Err(why_not) => (Device::Cpu, Some(why_not)),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Opens `cpu`, `cuda` or `cuda:ORDINAL`.
    fn from_str(s: &str) -> Result<Self> {
        let ordinal = match s {
            "cpu" => return Ok(Device::Cpu),
            "cuda" => Some(0),
            _ => s.strip_prefix("cuda:").and_then(|n| n.parse().ok()),
        };
        match ordinal {
            Some(ordinal) => Device::cuda(ordinal),
            None => {
                let expected = "cpu, cuda or cuda:ORDINAL";
                Err(Error::argument("device", expected, format!("{s:?}")))
            }
        }
    }
}
