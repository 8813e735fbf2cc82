//! Convolutions to test with, each as raw numbers for the oracle and as the crate's problem.

use ndconv::{ConvParams, ConvProblem, Padding, PaddingMode};

use crate::oracle::{Oracle, OracleAxis};

/// A convolution of any rank; `output_padding` is there when it came from a transposed one.
#[derive(Clone, Debug)]
pub struct Case {
    pub oracle: Oracle,
    pub output_padding: Option<Vec<usize>>,
}

/// What a case is made of; `input` is the input of the layer, transposed or not.
#[derive(Clone, Debug)]
pub struct Builder {
    pub batch: usize,
    /// Input and output channels of the convolution (of a transposed layer: its output and input).
    pub channels: (usize, usize),
    pub groups: usize,
    pub input: Vec<usize>,
    pub kernel_size: Vec<usize>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
    pub padding: Vec<(usize, usize)>,
    pub mode: PaddingMode,
}

/// A batch of 2, stride 1, no padding.
pub fn conv(channels: (usize, usize), input: &[usize], kernel_size: &[usize]) -> Builder {
    let rank = input.len();
    Builder {
        batch: 2,
        channels,
        groups: 1,
        input: input.to_vec(),
        kernel_size: kernel_size.to_vec(),
        stride: vec![1; rank],
        dilation: vec![1; rank],
        padding: vec![(0, 0); rank],
        mode: PaddingMode::Zeros,
    }
}

impl Builder {
    pub fn batch(self, batch: usize) -> Self {
        Builder { batch, ..self }
    }

    pub fn groups(self, groups: usize) -> Self {
        Builder { groups, ..self }
    }

    pub fn stride(self, stride: &[usize]) -> Self {
        let stride = stride.to_vec();
        Builder { stride, ..self }
    }

    pub fn dilation(self, dilation: &[usize]) -> Self {
        let dilation = dilation.to_vec();
        Builder { dilation, ..self }
    }

    pub fn padding(self, padding: &[(usize, usize)]) -> Self {
        let padding = padding.to_vec();
        Builder { padding, ..self }
    }

    pub fn mode(self, mode: PaddingMode) -> Self {
        Builder { mode, ..self }
    }

    fn case(
        self,
        output_padding: Option<Vec<usize>>,
        axis: impl Fn(usize, (i64, i64)) -> OracleAxis,
    ) -> Case {
        let axes = (0..self.input.len())
            .map(|a| axis(a, (self.padding[a].0 as i64, self.padding[a].1 as i64)))
            .collect();
        let oracle = Oracle {
            batch: self.batch,
            in_channels: self.channels.0,
            out_channels: self.channels.1,
            groups: self.groups,
            mode: self.mode,
            axes,
        };
        Case {
            oracle,
            output_padding,
        }
    }

    /// The convolution of `input`.
    pub fn build(self) -> Case {
        let b = self.clone();
        self.case(None, |a, padding| {
            OracleAxis::walked(
                b.input[a],
                b.kernel_size[a],
                b.stride[a],
                b.dilation[a],
                padding,
            )
        })
    }

    /// The convolution whose dgrad is the transposed convolution of `input`.
    pub fn transposed(self, output_padding: &[usize]) -> Case {
        let b = self.clone();
        self.case(Some(output_padding.to_vec()), |a, (lo, hi)| {
            let reached = reach(b.input[a], b.kernel_size[a], b.stride[a], b.dilation[a]);
            OracleAxis {
                input: (reached as i64 + output_padding[a] as i64 - lo - hi) as usize,
                kernel_size: b.kernel_size[a],
                output: b.input[a],
                stride: b.stride[a],
                dilation: b.dilation[a],
                padding: (lo, hi),
            }
        })
    }
}

/// Positions that the taps of all inputs of a transposed convolution reach: list them all.
pub fn reach(input: usize, kernel_size: usize, stride: usize, dilation: usize) -> usize {
    (0..input)
        .flat_map(|o| (0..kernel_size).map(move |t| o * stride + t * dilation + 1))
        .max()
        .unwrap_or(0)
}

fn array<T: Copy, const N: usize>(values: impl IntoIterator<Item = T>) -> [T; N] {
    let values: Vec<T> = values.into_iter().collect();
    values.try_into().ok().expect("one value per axis")
}

impl Case {
    pub fn rank(&self) -> usize {
        self.oracle.axes.len()
    }

    /// The crate's problem for these numbers.
    pub fn problem<const N: usize>(&self) -> ConvProblem<N> {
        let o = &self.oracle;
        let pad = |a: &OracleAxis| (a.padding.0 as usize, a.padding.1 as usize);
        let params = ConvParams {
            stride: array(o.axes.iter().map(|a| a.stride)),
            padding: Padding::Explicit(array(o.axes.iter().map(pad))),
            dilation: array(o.axes.iter().map(|a| a.dilation)),
            groups: o.groups,
            padding_mode: o.mode,
        };
        let p = match &self.output_padding {
            None => ConvProblem::new(&o.x_shape(), &o.w_shape(), &params),
            Some(op) => {
                let op = array(op.iter().copied());
                ConvProblem::transposed(&o.y_shape(), &o.w_shape(), &params, op)
            }
        }
        .unwrap();
        assert_eq!(p.x_shape(), o.x_shape());
        assert_eq!(p.w_shape(), o.w_shape());
        assert_eq!(p.y_shape(), o.y_shape());
        p
    }

    /// Products that the longest of the three passes' sums runs over.
    pub fn terms(&self) -> usize {
        let o = &self.oracle;
        let taps: usize = o.w_shape()[2..].iter().product();
        let pixels: usize = o.y_shape()[2..].iter().product();
        let fprop = o.in_channels / o.groups * taps;
        let dgrad = o.out_channels / o.groups * taps;
        fprop.max(dgrad).max(o.batch * pixels)
    }
}

/// Small cases of every kind, by rank; a name says what each is there for.
pub fn named() -> Vec<(&'static str, Case)> {
    use PaddingMode::{Circular, Reflect, Replicate};
    let pads = [(1, 2), (0, 1), (2, 0), (1, 1)];
    let mut all = vec![
        (
            "one of everything",
            conv((1, 1), &[1], &[1]).batch(1).build(),
        ),
        ("pointwise", conv((5, 3), &[7], &[1]).build()),
        (
            "pointwise, strided",
            conv((3, 5), &[6, 7], &[1, 1]).stride(&[2, 3]).build(),
        ),
        (
            "kernel as long as the input",
            conv((2, 3), &[5, 4], &[5, 4]).build(),
        ),
        (
            "more than 32 taps",
            conv((2, 3), &[50], &[37]).padding(&[(3, 20)]).build(),
        ),
        (
            "more than 32 taps of 2",
            conv((1, 2), &[40, 3], &[35, 3]).dilation(&[1, 1]).build(),
        ),
        (
            "stride past the kernel",
            conv((2, 2), &[11, 9], &[2, 3]).stride(&[5, 4]).build(),
        ),
        (
            "unread tail",
            conv((2, 2), &[10], &[3]).stride(&[4]).build(),
        ),
        (
            "padding alone in a window",
            conv((2, 2), &[2], &[2]).padding(&[(5, 6)]).build(),
        ),
        (
            "depthwise",
            conv((6, 6), &[6, 5], &[3, 2]).groups(6).build(),
        ),
        (
            "depthwise, multiplier 3",
            conv((4, 12), &[9], &[3])
                .groups(4)
                .padding(&[(1, 1)])
                .build(),
        ),
        (
            "grouped, more in",
            conv((9, 6), &[5, 5], &[2, 2])
                .groups(3)
                .stride(&[2, 1])
                .build(),
        ),
        (
            "grouped, more out",
            conv((4, 10), &[4, 5], &[3, 3])
                .groups(2)
                .padding(&pads[..2])
                .build(),
        ),
        (
            "long dilation",
            conv((2, 3), &[20, 12], &[3, 2]).dilation(&[7, 9]).build(),
        ),
        (
            "a wide image",
            conv((3, 2), &[1, 67], &[1, 5])
                .padding(&[(0, 0), (2, 2)])
                .build(),
        ),
        (
            "a tall image",
            conv((3, 2), &[67, 1], &[5, 1])
                .padding(&[(2, 2), (0, 0)])
                .build(),
        ),
        (
            "transposed, output padding",
            conv((3, 4), &[5], &[3]).stride(&[2]).transposed(&[1]),
        ),
        (
            "transposed, output padding past the stride",
            conv((2, 3), &[4], &[2])
                .stride(&[2])
                .dilation(&[5])
                .transposed(&[4]),
        ),
        (
            "transposed, gaps that no tap reaches",
            conv((2, 3), &[3, 4], &[2, 1])
                .stride(&[4, 3])
                .transposed(&[3, 2]),
        ),
        (
            "transposed, cropped and grouped",
            conv((6, 4), &[4, 5], &[4, 3])
                .groups(2)
                .stride(&[2, 3])
                .padding(&[(1, 2), (2, 1)])
                .transposed(&[0, 1]),
        ),
    ];
    for (name, mode) in [
        ("reflect", Reflect),
        ("replicate", Replicate),
        ("circular", Circular),
    ] {
        let one = conv((4, 6), &[5], &[3])
            .groups(2)
            .padding(&[(3, 4)])
            .dilation(&[2])
            .mode(mode);
        let two = conv((2, 3), &[5, 4], &[3, 3])
            .padding(&[(2, 1), (0, 3)])
            .stride(&[2, 1])
            .mode(mode);
        let four = conv((1, 2), &[3, 3, 3, 3], &[2, 2, 2, 2])
            .batch(1)
            .padding(&pads)
            .mode(mode);
        all.extend([
            (name, one.build()),
            (name, two.build()),
            (name, four.build()),
        ]);
    }
    for rank in 1..=4 {
        let input = &[7, 5, 6, 4][..rank];
        let kernel_size = &[3, 2, 3, 2][..rank];
        let plain = conv((3, 4), input, kernel_size);
        all.extend([
            ("plain", plain.clone().build()),
            (
                "strided",
                plain
                    .clone()
                    .stride(&[2, 3, 2, 1][..rank])
                    .padding(&pads[..rank])
                    .build(),
            ),
            (
                "dilated",
                plain.clone().dilation(&[2, 3, 2, 3][..rank]).build(),
            ),
            (
                "transposed",
                conv((4, 3), &[3, 2, 2, 3][..rank], kernel_size)
                    .stride(&[2, 3, 2, 2][..rank])
                    .padding(&[(1, 0), (0, 1), (1, 1), (0, 0)][..rank])
                    .transposed(&[1, 2, 0, 1][..rank]),
            ),
        ]);
    }
    all
}
