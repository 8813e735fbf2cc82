//! Random convolutions, valid by the way they are drawn.

use ndconv::PaddingMode;
use proptest::prelude::*;

use crate::case::{Builder, Case};

#[derive(Clone, Debug)]
struct RandomAxis {
    input: usize,
    kernel_size: usize,
    stride: usize,
    dilation: usize,
    padding: (usize, usize),
    output_padding: usize,
}

fn axis() -> impl Strategy<Value = RandomAxis> {
    let numbers = (1..=5usize, 1..=3usize, 1..=3usize, 1..=2usize);
    (numbers, (0..=3usize, 0..=3usize), 0..6usize).prop_map(
        |((input, kernel_size, stride, dilation), padding, output_padding)| RandomAxis {
            input,
            kernel_size,
            stride,
            dilation,
            padding,
            output_padding,
        },
    )
}

/// Any valid convolution of this rank, padding modes and transposed ones among them.
pub fn any_case(rank: usize) -> impl Strategy<Value = Case> {
    let mode = prop_oneof![
        3 => Just(PaddingMode::Zeros),
        1 => Just(PaddingMode::Reflect),
        1 => Just(PaddingMode::Replicate),
        1 => Just(PaddingMode::Circular),
    ];
    let channels = (1..=3usize, 1..=3usize, 1..=3usize);
    let axes = prop::collection::vec(axis(), rank);
    (1..=2usize, channels, axes, mode, any::<bool>()).prop_map(
        |(batch, (groups, c, k), mut axes, mode, transposed)| {
            let transposed = transposed && mode == PaddingMode::Zeros;
            for a in &mut axes {
                let (lo, hi) = a.padding;
                let extent = 1 + a.dilation * (a.kernel_size - 1);
                if transposed {
                    a.output_padding %= a.stride.max(a.dilation);
                    if lo + hi >= (a.input - 1) * a.stride + extent {
                        a.padding = (0, 0);
                    }
                } else {
                    let foldable = if mode == PaddingMode::Zeros {
                        1
                    } else {
                        lo.max(hi) + 1
                    };
                    a.input = a.input.max(extent.saturating_sub(lo + hi)).max(foldable);
                }
            }
            let each = |f: fn(&RandomAxis) -> usize| axes.iter().map(f).collect::<Vec<_>>();
            let builder = Builder {
                batch,
                channels: (groups * c, groups * k),
                groups,
                input: each(|a| a.input),
                kernel_size: each(|a| a.kernel_size),
                stride: each(|a| a.stride),
                dilation: each(|a| a.dilation),
                padding: axes.iter().map(|a| a.padding).collect(),
                mode,
            };
            if transposed {
                builder.transposed(&each(|a| a.output_padding))
            } else {
                builder.build()
            }
        },
    )
}
