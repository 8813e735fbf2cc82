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

    /// Neighbouring threads of `conv_direct_wgrad` that take neighbouring output channels: as many
    /// as lie side by side.
    pub fn direct_lanes(&self) -> usize {
        match self.layouts.activation {
            Layout::ChannelsFirst => 1,
            Layout::ChannelsLast => 32,
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

    /// Channels of one tap in a row of the packed weight. Where the taps of a phase are not all
    /// taps, zeros pad them to whole chunks, so that no chunk lies across two.
    pub fn padded_channels(&self) -> usize {
        match self.phases() {
            1 => self.gathered_channels(),
            _ => self.gathered_channels().next_multiple_of(self.chunk()),
        }
    }

    /// Elements of a row of the packed weight: (taps, padded channels) in whole chunks.
    pub fn packed_row(&self) -> usize {
        let row = self.padded_channels().saturating_mul(self.taps());
        row.checked_next_multiple_of(self.chunk())
            .unwrap_or(usize::MAX)
    }

    /// Elements of the weight as fprop and dgrad on tensor cores take it: a row for every column of
    /// all groups.
    pub fn packed_length(&self) -> usize {
        let rows = self.product().columns * self.problem.groups();
        self.packed_row().saturating_mul(rows)
    }

    /// Whether the weight lies as tensor cores take it without being packed. That of dgrad, whose
    /// columns are the weight's inner channels, never does.
    pub fn weight_is_packed(&self) -> bool {
        let one = self.taps() == 1 || self.gathered_channels() == 1;
        let channels_inner = self.layouts.weight == Layout::ChannelsLast || one;
        let whole_chunks = (self.gathered_channels() * self.taps()).is_multiple_of(self.chunk());
        self.pass == Pass::Fprop && channels_inner && whole_chunks
    }

    /// How tensor cores come by their operands, when the activations that they read lie in this
    /// layout.
    pub fn copies(&self, activation: Layout) -> Copies {
        let (cg, kg) = self.channels();
        let width = |run: usize| 1usize << run.trailing_zeros().min(self.chunk().ilog2());
        let halves = self.dtype.size() == 2;
        let channels_last = activation == Layout::ChannelsLast;
        let (gathered, other, along_rows) = match (self.pass, channels_last) {
            (Pass::Wgrad, true) => match (width(cg), width(kg)) {
                (x @ 2.., dy @ 2..) if halves => (x, dy, true),
                _ => (1, 1, false),
            },
            (Pass::Wgrad, false) => {
                let pixels = self.problem.output().iter().product();
                let x = if self.is_flat() { pixels } else { 1 };
                (width(x), width(pixels), false)
            }
            (_, true) => (width(self.gathered_channels()), self.chunk(), false),
            (_, false) => match width(self.pixel_run()) {
                pixels @ 2.. if halves => (pixels, self.chunk(), true),
                _ => (1, self.chunk(), false),
            },
        };
        Copies {
            gathered,
            other,
            along_rows,
        }
    }

    /// Whether the one tap leads from every pixel to that very pixel.
    fn is_flat(&self) -> bool {
        let p = self.problem;
        let plain = p.stride() == [1; 4] && p.padding() == [(0, 0); 4];
        p.input() == p.output() && self.taps() == 1 && plain
    }

    /// fprop and dgrad, channels first: a number whose powers of two are lengths of runs of pixels
    /// that lie side by side under every tap, whole ones inside the activation or whole ones outside
    /// of it.
    fn pixel_run(&self) -> usize {
        let p = self.problem;
        if self.is_flat() {
            return p.output().iter().product();
        }
        if p.stride() != [1; 4] {
            return 1;
        }
        let reach = match p.kernel_size()[3] {
            1 => 0,
            _ => p.dilation()[3],
        };
        let padding = p.padding()[3].0.unsigned_abs();
        p.input()[3] | p.output()[3] | reach | padding
    }
}

/// How tensor cores come by their operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copies {
    /// Elements that one copy of the gathered activation takes; they are aligned to their size.
    pub gathered: usize,
    /// The same of the other operand.
    pub other: usize,
    /// The gathered activation, in wgrad both operands, lie side by side along rows and columns of
    /// the product and not along the sum.
    pub along_rows: bool,
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
        let (first, last) = (Layout::ChannelsFirst, Layout::ChannelsLast);
        fn copies(
            p: &ConvProblem<4>,
            pass: Pass,
            dtype: DType,
            layout: Layout,
        ) -> (usize, usize, bool) {
            let c = task(p, pass, dtype, layout).copies(layout);
            (c.gathered, c.other, c.along_rows)
        }
        for (channels, width) in [(64, 8), (12, 4), (6, 2), (7, 1)] {
            let p = problem(2, [channels, 16], 6, 3);
            let of = |pass, layout| copies(&p, pass, DType::F16, layout);
            assert_eq!(of(Pass::Fprop, last), (width, 8, false));
            assert_eq!(of(Pass::Fprop, first), (1, 8, false));
            assert_eq!(of(Pass::Wgrad, first), (1, 4, false), "36 positions");
            let both = match width {
                1 => (1, 1, false),
                _ => (width, 8, true),
            };
            assert_eq!(of(Pass::Wgrad, last), both);
        }
        let pointwise = problem(2, [5, 7], 6, 1);
        let wgrad = copies(&pointwise, Pass::Wgrad, DType::F32, first);
        assert_eq!(wgrad, (4, 4, false));
        for (dtype, expected) in [(DType::BF16, (4, 8, true)), (DType::F32, (1, 4, false))] {
            for pass in [Pass::Fprop, Pass::Dgrad] {
                assert_eq!(copies(&pointwise, pass, dtype, first), expected);
            }
        }
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
        assert!(packed(8, 3, Pass::Fprop, DType::BF16, last));
        assert!(packed(1, 4, Pass::Fprop, DType::BF16, first));
        assert!(!packed(16, 3, Pass::Fprop, DType::F16, first));
        assert!(!packed(16, 3, Pass::Dgrad, DType::F16, last));
    }
}
