//! `--device` and `--algorithm`: where and how subcommands compute.

use ndconv::{Algorithm, Device};

use crate::exit::Failure;

#[derive(clap::Args)]
pub struct DeviceArgs {
    /// Where to run: cpu, cuda, cuda:ORDINAL, and emulator where that was built.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// On a GPU, compute convolutions this way wherever it applies: simt, tensor_core or direct.
    #[arg(long, value_name = "NAME")]
    algorithm: Option<Algorithm>,
}

impl DeviceArgs {
    pub fn open(&self) -> Result<Device, Failure> {
        let device: Device = self.device.parse()?;
        match (&device, self.algorithm) {
            (_, None) => {}
            (Device::Cuda(gpu), algorithm) => gpu.prefer(algorithm),
            (other, Some(_)) => {
                let message = format!("--algorithm is for GPUs; add --device cuda (not {other})");
                return Err(Failure::Usage(message));
            }
        }
        Ok(device)
    }
}
