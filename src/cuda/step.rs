//! Optimiser steps: `kernels/step.cu`.

use super::args::StepArgs;
use super::buffer::DeviceBuffer;
use super::device::CudaDevice;
use super::kernel::Kernel;
use super::launch::Launch;
use super::plan;
use crate::element::Element;
use crate::error::Result;
use crate::ops::{AdamStep, SgdStep};

/// One parameter: its weight, the copy of it that the step is taken on if there is one, and the
/// gradient.
pub(crate) struct Parameter<'a> {
    pub length: usize,
    pub gradient: &'a DeviceBuffer,
    pub master: Option<&'a mut DeviceBuffer>,
    pub weight: &'a mut DeviceBuffer,
}

pub(crate) fn sgd_step<T: Element>(
    device: &CudaDevice,
    step: SgdStep,
    parameter: Parameter,
    velocity: &mut DeviceBuffer,
) -> Result<()> {
    let args = StepArgs {
        rate: step.learning_rate,
        decay: step.weight_decay,
        momentum: step.momentum,
        nesterov: step.nesterov.into(),
        ..StepArgs::default()
    };
    run::<T>(device, "sgd", parameter, velocity, None, args)
}

pub(crate) fn adam_step<T: Element>(
    device: &CudaDevice,
    step: AdamStep,
    parameter: Parameter,
    first: &mut DeviceBuffer,
    second: &mut DeviceBuffer,
) -> Result<()> {
    let args = StepArgs {
        rate: step.learning_rate,
        decay: step.weight_decay,
        beta1: step.betas[0],
        beta2: step.betas[1],
        correction1: step.correction[0],
        correction2: step.correction[1],
        epsilon: step.epsilon,
        decoupled: step.decoupled.into(),
        ..StepArgs::default()
    };
    run::<T>(device, "adam", parameter, first, Some(second), args)
}

fn run<T: Element>(
    device: &CudaDevice,
    name: &'static str,
    parameter: Parameter,
    first: &mut DeviceBuffer,
    second: Option<&mut DeviceBuffer>,
    args: StepArgs,
) -> Result<()> {
    if parameter.length == 0 {
        return Ok(());
    }
    let mut launch = Launch::new(device);
    let args = StepArgs {
        weight: launch.write(parameter.weight)?,
        gradient: launch.read(parameter.gradient)?,
        master: launch.write_optional(parameter.master)?,
        first: launch.write(first)?,
        second: launch.write_optional(second)?,
        length: parameter.length as i64,
        ..args
    };
    let kernel = Kernel::element::<T>("step", name);
    kernel.run(launch, plan::elementwise(parameter.length), &args)
}
