//! Optimiser steps: the arithmetic of one update of one parameter.

use crate::cpu;
use crate::cuda::step::Parameter;
use crate::cuda::{self, CudaDevice};
use crate::device::Device;
use crate::element::Element;
use crate::error::Result;
use crate::tensor::Tensor;

/// The numbers of one stochastic-gradient step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SgdStep {
    pub learning_rate: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
}

/// `v = momentum * v + g`, `w -= learning_rate * v` on the master copy if there is one, rounded into `weight`.
pub(crate) fn sgd_step<T: Element>(
    step: SgdStep,
    gradient: &Tensor<T>,
    velocity: &mut Tensor<T::Acc>,
    master: Option<&mut Tensor<T::Acc>>,
    weight: &mut Tensor<T>,
) -> Result<()> {
    match weight.device() {
        Device::Cpu => cpu::step::sgd_step(
            step,
            gradient.on_cpu("gradient")?,
            velocity.on_cpu_mut("velocity")?,
            master.map(|m| m.on_cpu_mut("master weight")).transpose()?,
            weight.on_cpu_mut("weight")?,
        ),
        Device::Cuda(device) => {
            let velocity = velocity.on_cuda_mut(&device, "velocity")?;
            let parameter = on_cuda(&device, gradient, master, weight)?;
            cuda::step::sgd_step::<T>(&device, step, parameter, velocity)?;
        }
    }
    Ok(())
}

/// The numbers of one Adam step; `correction` holds `1 - beta^t` for both betas.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamStep {
    pub learning_rate: f64,
    pub betas: [f64; 2],
    pub correction: [f64; 2],
    pub epsilon: f64,
    pub weight_decay: f64,
    /// Whether weight decay acts on the weight itself (AdamW) or is part of the gradient (Adam).
    pub decoupled: bool,
}

/// One Adam step on the master copy if there is one, rounded into `weight`; `moments` are updated.
pub(crate) fn adam_step<T: Element>(
    step: AdamStep,
    gradient: &Tensor<T>,
    moments: &mut [Tensor<T::Acc>; 2],
    master: Option<&mut Tensor<T::Acc>>,
    weight: &mut Tensor<T>,
) -> Result<()> {
    let [first, second] = moments;
    match weight.device() {
        Device::Cpu => cpu::step::adam_step(
            step,
            gradient.on_cpu("gradient")?,
            first.on_cpu_mut("first moment")?,
            second.on_cpu_mut("second moment")?,
            master.map(|m| m.on_cpu_mut("master weight")).transpose()?,
            weight.on_cpu_mut("weight")?,
        ),
        Device::Cuda(device) => {
            let first = first.on_cuda_mut(&device, "first moment")?;
            let second = second.on_cuda_mut(&device, "second moment")?;
            let parameter = on_cuda(&device, gradient, master, weight)?;
            cuda::step::adam_step::<T>(&device, step, parameter, first, second)?;
        }
    }
    Ok(())
}

fn on_cuda<'a, T: Element>(
    device: &CudaDevice,
    gradient: &'a Tensor<T>,
    master: Option<&'a mut Tensor<T::Acc>>,
    weight: &'a mut Tensor<T>,
) -> Result<Parameter<'a>> {
    let master = master.map(|m| m.on_cuda_mut(device, "master weight"));
    Ok(Parameter {
        length: weight.len(),
        gradient: gradient.on_cuda(device, "gradient")?,
        master: master.transpose()?,
        weight: weight.on_cuda_mut(device, "weight")?,
    })
}
