//! A pass of a convolution as a matrix product: sizes that the planner and the launches share.

use super::plan::Product;
use crate::element::DType;
use crate::ops::Layouts;
use crate::problem::{ConvProblem, Pass};
use crate::shape::Layout;

/// One pass to plan for.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub problem: &'a ConvProblem<4>,
    pub pass: Pass,
    pub dtype: DType,
    pub layouts: Layouts,
}

impl Task<'_> {
    /// Input and output channels of a group.
    pub fn channels(&self) -> (usize, usize) {
        let p = self.problem;
        (p.in_channels() / p.groups(), p.out_channels() / p.groups())
    }

    pub fn taps(&self) -> usize {
        self.problem.kernel_size().iter().product()
    }

    /// Elements of the weight, and of its gradient.
    pub fn weight_length(&self) -> usize {
        let (cg, _) = self.channels();
        let row = cg.saturating_mul(self.taps());
        self.problem.out_channels().saturating_mul(row)
    }

    /// Bytes of one sum.
    pub fn accumulator_bytes(&self) -> usize {
        self.dtype.size().max(4)
    }

    /// Positions of the result that one phase of a pass computes, per axis; of wgrad: that are
    /// summed.
    pub fn pixels(&self) -> [usize; 4] {
        let p = self.problem;
        match self.pass {
            Pass::Fprop | Pass::Wgrad => p.output(),
            Pass::Dgrad => {
                let (input, stride) = (p.input(), p.stride());
                [0, 1, 2, 3].map(|a| input[a].div_ceil(stride[a]))
            }
        }
    }

    /// Phases of a strided dgrad.
    pub fn phases(&self) -> usize {
        match self.pass {
            Pass::Fprop | Pass::Wgrad => 1,
            Pass::Dgrad => {
                let stride = self.problem.stride();
                stride.iter().fold(1, |n, &s| n.saturating_mul(s))
            }
        }
    }

    /// batch * pixels.
    pub fn steps(&self) -> usize {
        let pixels: usize = self.pixels().iter().product();
        self.problem.batch().saturating_mul(pixels)
    }

    pub fn product(&self) -> Product {
        let (cg, kg) = self.channels();
        let groups = self.problem.groups();
        let (rows, columns) = match self.pass {
            Pass::Fprop => (self.steps(), kg),
            Pass::Dgrad => (self.steps(), cg),
            Pass::Wgrad => (cg.saturating_mul(self.taps()), kg),
        };
        let copies = groups.saturating_mul(self.phases());
        Product {
            rows,
            columns,
            copies,
        }
    }

    /// Length of the sum behind an element of the result.
    pub fn depth(&self) -> usize {
        let (cg, kg) = self.channels();
        match self.pass {
            Pass::Fprop => cg * self.taps(),
            Pass::Dgrad => kg * self.taps() / self.phases().min(self.taps()),
            Pass::Wgrad => self.steps(),
        }
    }

    /// Elements in 16 bytes.
    pub fn chunk(&self) -> usize {
        16 / self.dtype.size()
    }

    /// Channels of a group of the activation that fprop and dgrad gather.
    pub fn gathered_channels(&self) -> usize {
        let (cg, kg) = self.channels();
        if self.pass == Pass::Dgrad { kg } else { cg }
    }

    pub fn padded_channels(&self) -> usize {
        self.gathered_channels().next_multiple_of(self.chunk())
    }

    /// Elements of the weight as fprop and dgrad on tensor cores take it: (columns of all groups,
    /// taps, padded channels).
    pub fn packed_length(&self) -> usize {
        let (cg, kg) = self.channels();
        let columns = if self.pass == Pass::Dgrad { cg } else { kg };
        let row = self.padded_channels().saturating_mul(self.taps());
        row.saturating_mul(columns)
            .saturating_mul(self.problem.groups())
    }

    /// Whether the weight lies as tensor cores take it without being packed. That of dgrad, whose
    /// columns are the weight's inner channels, never does.
    pub fn weight_is_packed(&self) -> bool {
        let channels_inner = self.layouts.weight == Layout::ChannelsLast || self.taps() == 1;
        let whole_chunks = self.padded_channels() == self.gathered_channels();
        self.pass == Pass::Fprop && channels_inner && whole_chunks
    }

    /// How many elements of the gathered activation and of the other operand lie side by side along
    /// the sum, in runs that are aligned to their size.
    pub fn widths(&self) -> (usize, usize) {
        let p = self.problem;
        let last = self.layouts.activation == Layout::ChannelsLast;
        let width = |run: usize| 1usize << run.trailing_zeros().min(self.chunk().ilog2());
        match self.pass {
            Pass::Fprop | Pass::Dgrad => {
                let gathered = if last { self.gathered_channels() } else { 1 };
                (width(gathered), self.chunk())
            }
            Pass::Wgrad => {
                let pixels = if last { 1 } else { p.output().iter().product() };
                // every tap at every output position is that position of the input
                let flat = p.input() == p.output()
                    && self.taps() == 1
                    && p.stride() == [1; 4]
                    && p.padding() == [(0, 0); 4];
                (width(if flat { pixels } else { 1 }), width(pixels))
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::problem::{ConvParams, Padding};

    /// Square images, square kernels, stride 1 and as large a result.
    pub fn problem(batch: usize, channels: [usize; 2], size: usize, taps: usize) -> ConvProblem<4> {
        let params = ConvParams::<2> {
            padding: Padding::Same,
            ..ConvParams::default()
        };
        let [c, k] = channels;
        let p = ConvProblem::<2>::new(&[batch, c, size, size], &[k, c, taps, taps], &params);
        p.unwrap().lift()
    }

    /// With a channels-first weight.
    pub fn task(p: &ConvProblem<4>, pass: Pass, dtype: DType, activation: Layout) -> Task<'_> {
        let weight = Layout::ChannelsFirst;
        Task {
            problem: p,
            pass,
            dtype,
            layouts: Layouts { activation, weight },
        }
    }

    #[test]
    fn copies_are_as_wide_as_their_alignment() {
        for (channels, width) in [(64, 8), (12, 4), (6, 2), (7, 1)] {
            let p = problem(2, [channels, 16], 6, 3);
            let last = task(&p, Pass::Fprop, DType::F16, Layout::ChannelsLast);
            assert_eq!(last.widths(), (width, 8));
            let first = task(&p, Pass::Fprop, DType::F16, Layout::ChannelsFirst);
            assert_eq!(first.widths(), (1, 8));
            let wgrad = task(&p, Pass::Wgrad, DType::F16, Layout::ChannelsFirst);
            assert_eq!(wgrad.widths(), (1, 4), "36 positions");
        }
        let pointwise = problem(2, [5, 7], 6, 1);
        let wgrad = task(&pointwise, Pass::Wgrad, DType::F32, Layout::ChannelsFirst);
        assert_eq!(wgrad.widths(), (4, 4));
    }

    #[test]
    fn weights_that_lie_packed_are_known() {
        let packed = |channels, taps, pass, dtype, weight| {
            let p = problem(2, [channels, 16], 6, taps);
            let task = task(&p, pass, dtype, Layout::ChannelsLast);
            let layouts = Layouts {
                weight,
                ..task.layouts
            };
            Task { layouts, ..task }.weight_is_packed()
        };
        let (first, last) = (Layout::ChannelsFirst, Layout::ChannelsLast);
        assert!(packed(16, 3, Pass::Fprop, DType::F16, last));
        assert!(packed(16, 1, Pass::Fprop, DType::F16, first));
        assert!(packed(12, 3, Pass::Fprop, DType::F32, last));
        assert!(!packed(12, 3, Pass::Fprop, DType::F16, last));
        assert!(!packed(16, 3, Pass::Fprop, DType::F16, first));
        assert!(!packed(16, 3, Pass::Dgrad, DType::F16, last));
    }
}
