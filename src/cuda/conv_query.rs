//! What would run a pass of a convolution, for those who want to know.

use std::fmt;

use super::conv_plan::{Algorithm, Plan};
use super::conv_task::Task;
use super::device::CudaDevice;
use super::tune;
use crate::axis::PaddingMode;
use crate::element::DType;
use crate::error::Result;
use crate::ops::{Layouts, Write};
use crate::problem::{ConvProblem, Pass};
use crate::shape::Layout;

/// How a pass of a convolution runs on a device: [`CudaDevice::conv_plan`].
///
/// It prints as one line, such as `tensor_core, tile 128, channels_last, 4 splits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvPlan(Plan);

impl ConvPlan {
    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The memory order that the kernel reads activations in: with other than their own, they are
    /// rearranged first.
    pub fn activation(&self) -> Layout {
        self.0.activation
    }

    /// The parts that the sum of a weight gradient falls into; 1 for other passes.
    pub fn splits(&self) -> usize {
        self.0.split.splits as usize
    }

    /// Bytes of workspace beside the operands.
    pub fn workspace(&self) -> usize {
        self.0.workspace.total()
    }
}

impl fmt::Display for ConvPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl CudaDevice {
    /// How this device would run a pass now, with activations and weight in these memory orders
    /// and a result that is overwritten: what was measured if the device is
    /// [tuned](CudaDevice::set_autotune) and has run it, and else what the planner says. Nothing is
    /// run or allocated.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for sizes that the kernels cannot count.
    ///
    /// ```
    /// use ndconv::{Algorithm, ConvParams, ConvProblem, CopyTiming, CudaDevice, DType, Layout, Pass};
    /// # if let Ok(device) = CudaDevice::emulator(0, CopyTiming::Eager) {
    /// let last = Layout::ChannelsLast;
    /// let p = ConvProblem::<2>::new(&[8, 64, 56, 56], &[64, 64, 3, 3], &ConvParams::default())?;
    /// let plan = device.conv_plan(&p, Pass::Fprop, DType::F16, last, last)?;
    /// assert_eq!(plan.algorithm(), Algorithm::TensorCore);
    /// # }
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn conv_plan<const N: usize>(
        &self,
        problem: &ConvProblem<N>,
        pass: Pass,
        dtype: DType,
        activation: Layout,
        weight: Layout,
    ) -> Result<ConvPlan> {
        let problem = match problem.padding_mode() {
            PaddingMode::Zeros => problem.lift(),
            // others are written out before the convolution
            _ => problem.folded().lift(),
        };
        let task = Task {
            problem: &problem,
            pass,
            dtype,
            layouts: Layouts { activation, weight },
        };
        tune::current(self, &task, Write::Overwrite).map(ConvPlan)
    }
}
