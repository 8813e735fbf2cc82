//! All passes of convolutions.

use half::{bf16, f16};
use ndconv::ops::{self, Activation};
use ndconv::{ConvParams, ConvProblem, Element, Layout, Padding, PaddingMode, Write};

use super::{On, every_element, integers, same, with_every_algorithm, with_every_plan};

/// One convolution: `(batch, groups, in and out channels per group)`, then the axes.
struct Case<const N: usize> {
    sizes: (usize, usize, usize, usize),
    input: [usize; N],
    kernel_size: [usize; N],
    params: ConvParams<N>,
}

fn conv<const N: usize>(
    sizes: (usize, usize, usize, usize),
    input: [usize; N],
    kernel_size: [usize; N],
    stride: [usize; N],
    dilation: [usize; N],
    padding: [(usize, usize); N],
) -> Case<N> {
    let params = ConvParams {
        stride,
        dilation,
        padding: Padding::Explicit(padding),
        groups: sizes.1,
        ..ConvParams::default()
    };
    Case {
        sizes,
        input,
        kernel_size,
        params,
    }
}

impl<const N: usize> Case<N> {
    fn problem(&self) -> ConvProblem<N> {
        let (batch, groups, cg, kg) = self.sizes;
        let x = [&[batch, groups * cg][..], &self.input].concat();
        let w = [&[groups * kg, cg][..], &self.kernel_size].concat();
        ConvProblem::new(&x, &w, &self.params).unwrap()
    }

    fn check<T: Element>(&self) {
        check_problem::<T, N>(&self.problem());
    }
}

/// All passes in both layouts of activations and of weights, overwriting and accumulating.
fn check_problem<T: Element, const N: usize>(p: &ConvProblem<N>) {
    for (i, activation) in Layout::ALL.into_iter().enumerate() {
        for (j, weight) in Layout::ALL.into_iter().enumerate() {
            let seed = 2 * i + j;
            let name = |pass| format!("{pass} {} {activation}/{weight} {p:?}", T::DTYPE);
            let x = integers::<T>(&p.x_shape(), activation, seed);
            let y = integers::<T>(&p.y_shape(), activation, seed + 1);
            let w = integers::<T>(&p.w_shape(), weight, seed + 2);
            let write = [Write::Overwrite, Write::Accumulate][(i + j) % 2];
            let bias = |channels| {
                let bias = integers::<T>(&[channels], Layout::ChannelsFirst, seed + 3);
                (j == 0 && p.padding_mode() == PaddingMode::Zeros).then_some(bias)
            };
            same(&name("fprop"), seed, 0.0, |on| {
                let bias = bias(p.out_channels()).map(|b| on.to(&b));
                let mut y = on.to(&y);
                ops::fprop_into(p, &on.to(&x), &on.to(&w), bias.as_ref(), &mut y, write).unwrap();
                y
            });
            same(&name("dgrad"), seed, 0.0, |on| {
                let bias = bias(p.in_channels()).map(|b| on.to(&b));
                let mut dx = on.to(&x);
                ops::dgrad_into(p, &on.to(&y), &on.to(&w), bias.as_ref(), &mut dx, write).unwrap();
                dx
            });
            same(&name("wgrad"), seed, 0.0, |on| {
                let mut dw = on.to(&w);
                ops::wgrad_into(p, &on.to(&x), &on.to(&y), &mut dw, write).unwrap();
                dw
            });
        }
    }
}

fn check_ranks<T: Element>() {
    conv((2, 1, 3, 5), [11], [3], [1], [1], [(1, 1)]).check::<T>();
    conv((3, 2, 2, 3), [17], [4], [3], [2], [(2, 1)]).check::<T>();
    conv(
        (2, 1, 3, 4),
        [7, 9],
        [3, 2],
        [2, 1],
        [1, 3],
        [(1, 1), (0, 2)],
    )
    .check::<T>();
    conv(
        (1, 3, 1, 2),
        [6, 5],
        [2, 3],
        [1, 2],
        [2, 1],
        [(3, 0), (1, 1)],
    )
    .check::<T>();
    conv(
        (1, 1, 2, 3),
        [4, 5, 6],
        [2, 3, 1],
        [1, 2, 3],
        [1, 1, 1],
        [(1, 0); 3],
    )
    .check::<T>();
    conv(
        (2, 1, 2, 2),
        [3, 4, 2, 3],
        [2, 3, 1, 2],
        [1, 2, 1, 1],
        [1; 4],
        [(1, 1); 4],
    )
    .check::<T>();
}

#[test]
fn convolutions_of_every_rank() {
    with_every_algorithm(|| {
        every_element!(check_ranks);
    });
}

fn strided<T: Element>() {
    // taps further apart than the stride, fewer taps than phases, gcd(stride, dilation) > 1
    conv((1, 1, 2, 2), [13], [2], [5], [1], [(0, 0)]).check::<T>();
    conv((2, 1, 1, 3), [19], [3], [4], [6], [(5, 2)]).check::<T>();
    conv(
        (1, 1, 2, 1),
        [15, 14],
        [3, 1],
        [6, 4],
        [3, 1],
        [(2, 2), (0, 0)],
    )
    .check::<T>();
}

#[test]
fn strides_that_leave_empty_phases() {
    strided::<f32>();
}

#[test]
fn more_than_one_tile_and_split() {
    conv((2, 1, 9, 70), [150], [8], [1], [1], [(3, 4)]).check::<f32>();
    conv((3, 1, 2, 3), [700], [5], [1], [1], [(2, 2)]).check::<f64>();
    conv((1, 1, 40, 33), [31], [3], [2], [1], [(1, 1)]).check::<f16>();
}

/// Channels, positions and groups that allow copies of every width, and sums of many steps.
fn check_alignments<T: Element>() {
    conv((2, 1, 40, 8), [8], [3], [1], [1], [(1, 1)]).check::<T>();
    conv((1, 2, 12, 9), [10], [2], [1], [3], [(2, 0)]).check::<T>();
    conv(
        (2, 1, 6, 12),
        [3, 6],
        [3, 1],
        [1, 2],
        [1, 1],
        [(1, 1), (0, 0)],
    )
    .check::<T>();
    conv((3, 2, 7, 3), [5], [5], [3], [1], [(2, 2)]).check::<T>();
    conv((2, 1, 16, 24), [4, 4], [1, 1], [1, 1], [1, 1], [(0, 0); 2]).check::<T>();
    conv((2, 1, 5, 70), [66], [1], [1], [1], [(0, 0)]).check::<T>();
    conv((2, 5, 1, 1), [7, 6], [3, 3], [2, 1], [1, 2], [(1, 1); 2]).check::<T>();
}

#[test]
fn tensor_cores_at_every_alignment() {
    with_every_algorithm(|| {
        check_alignments::<f16>();
        check_alignments::<bf16>();
        check_alignments::<f32>();
        check_alignments::<f64>();
    });
}

/// Channels first, with pixels that lie side by side under every tap, in runs of 8, 4 and 2.
fn check_pixel_runs<T: Element>() {
    conv(
        (2, 1, 12, 20),
        [4, 8],
        [3, 1],
        [1, 1],
        [1, 1],
        [(1, 1), (0, 0)],
    )
    .check::<T>();
    conv(
        (1, 2, 9, 5),
        [5, 12],
        [2, 1],
        [2, 1],
        [1, 1],
        [(1, 0), (0, 0)],
    )
    .check::<T>();
    conv((1, 1, 8, 9), [24], [3], [1], [8], [(8, 8)]).check::<T>();
    conv((2, 1, 3, 40), [20], [2], [1], [2], [(2, 0)]).check::<T>();
    conv((1, 1, 17, 6), [3, 10], [1, 1], [1, 1], [1, 1], [(0, 0); 2]).check::<T>();
    // runs of one: an odd padding, an odd tap, an odd row, an odd stride
    conv((1, 1, 8, 8), [20], [2], [1], [2], [(3, 1)]).check::<T>();
    conv((1, 1, 8, 8), [16], [2], [1], [1], [(1, 0)]).check::<T>();
    conv((1, 1, 8, 8), [3, 9], [2, 1], [1, 1], [1, 1], [(0, 0); 2]).check::<T>();
    conv((1, 1, 8, 8), [16], [1], [3], [1], [(0, 0)]).check::<T>();
}

#[test]
fn tensor_cores_along_pixels() {
    with_every_algorithm(|| {
        check_pixel_runs::<f16>();
        check_pixel_runs::<bf16>();
    });
}

/// First layers: taps and channels are one sum, of chunks that lie across taps.
fn check_few_channels<T: Element>() {
    conv((2, 1, 3, 16), [9, 8], [3, 3], [2, 2], [1, 1], [(1, 1); 2]).check::<T>();
    conv((1, 2, 5, 9), [12], [7], [1], [2], [(3, 6)]).check::<T>();
    conv(
        (1, 1, 4, 24),
        [3, 4, 5],
        [2, 2, 3],
        [1; 3],
        [1; 3],
        [(1, 0); 3],
    )
    .check::<T>();
}

#[test]
fn tensor_cores_on_few_channels() {
    with_every_algorithm(|| {
        check_few_channels::<f16>();
        check_few_channels::<f32>();
        check_few_channels::<f64>();
    });
}

/// Depthwise and nearly so: runs that end in the middle, more taps than a block sums at once, more
/// channels than its lanes, several splits.
fn check_depthwise<T: Element>() {
    conv((2, 5, 1, 1), [11], [3], [1], [1], [(1, 1)]).check::<T>();
    conv(
        (1, 37, 1, 1),
        [5, 6],
        [4, 5],
        [1, 1],
        [1, 1],
        [(2, 1), (2, 2)],
    )
    .check::<T>();
    conv((2, 3, 1, 2), [9, 7], [3, 3], [2, 2], [1, 1], [(1, 1); 2]).check::<T>();
    conv(
        (1, 4, 2, 3),
        [8, 9],
        [3, 2],
        [1, 1],
        [2, 3],
        [(2, 0), (1, 2)],
    )
    .check::<T>();
    conv(
        (1, 2, 1, 1),
        [3, 4, 5],
        [2, 3, 3],
        [1, 2, 1],
        [1; 3],
        [(1, 1); 3],
    )
    .check::<T>();
    conv((3, 2, 1, 1), [1700], [3], [1], [1], [(1, 1)]).check::<T>();
    // a last split that is one step shorter than the others
    conv((1, 2, 1, 1), [5099], [3], [1], [1], [(1, 1)]).check::<T>();
}

#[test]
fn groups_of_few_channels_directly() {
    with_every_algorithm(|| {
        check_depthwise::<f32>();
        check_depthwise::<f64>();
        check_depthwise::<bf16>();
    });
}

#[test]
fn tensor_cores_in_more_than_one_tile_and_split() {
    with_every_algorithm(|| {
        conv((2, 1, 9, 70), [150], [8], [1], [1], [(3, 4)]).check::<f16>();
        conv((3, 1, 2, 3), [700], [5], [1], [1], [(2, 2)]).check::<bf16>();
        conv((1, 2, 33, 34), [31], [3], [2], [1], [(1, 1)]).check::<f32>();
        strided::<f16>();
    });
}

#[test]
fn the_large_tiles_of_tensor_cores() {
    conv((1, 1, 2, 96), [16384], [3], [1], [1], [(1, 1)]).check_once::<f16>();
    conv((1, 128, 2, 96), [65], [64], [1], [1], [(0, 0)]).check_once::<bf16>();
}

#[test]
fn the_large_tiles() {
    conv((1, 1, 2, 96), [16384], [3], [1], [1], [(1, 1)]).check_once::<f32>();
    conv((1, 128, 2, 96), [65], [64], [1], [1], [(0, 0)]).check_once::<f32>();
}

impl<const N: usize> Case<N> {
    /// fprop and wgrad alone, in both layouts of activations: for large sizes.
    fn check_once<T: Element>(&self) {
        let p = self.problem();
        for layout in Layout::ALL {
            let x = integers::<T>(&p.x_shape(), layout, 1);
            let y = integers::<T>(&p.y_shape(), layout, 2);
            let w = integers::<T>(&p.w_shape(), Layout::ChannelsFirst, 3);
            let fprop = |on: &On| ops::fprop(&p, &on.to(&x), &on.to(&w), None).unwrap();
            same("fprop", 1, 0.0, fprop);
            let wgrad = |on: &On| ops::wgrad(&p, &on.to(&x), &on.to(&y), layout).unwrap();
            same("wgrad", 1, 0.0, wgrad);
        }
    }
}

#[test]
fn transposed_problems_with_negative_padding() {
    let same_padding = ConvParams {
        stride: [4, 3],
        padding: Padding::Same,
        ..ConvParams::default()
    };
    let p = ConvProblem::<2>::transposed(&[2, 3, 4, 3], &[3, 2, 2, 1], &same_padding, [0, 0]);
    let p = p.unwrap();
    assert!(
        p.padding().iter().any(|&(lo, hi)| lo < 0 || hi < 0),
        "{p:?}"
    );
    check_problem::<f32, 2>(&p);
}

#[test]
fn padding_modes_and_their_adjoint() {
    for padding_mode in [
        PaddingMode::Reflect,
        PaddingMode::Replicate,
        PaddingMode::Circular,
    ] {
        let mut case = conv(
            (2, 1, 3, 2),
            [5, 4],
            [3, 4],
            [1, 2],
            [1, 1],
            [(3, 4), (2, 3)],
        );
        case.params.padding_mode = padding_mode;
        case.check::<f32>();
        case.check::<bf16>();
    }
}

/// More than one tile of every kind, in sums of more than one step and split.
fn check_plans<T: Element>() {
    conv(
        (1, 1, 34, 36),
        [9, 20],
        [2, 3],
        [1, 1],
        [1, 1],
        [(1, 0), (1, 1)],
    )
    .check::<T>();
    conv((2, 2, 10, 66), [71], [3], [1], [1], [(1, 1)]).check::<T>();
    conv((1, 1, 70, 72), [80], [1], [1], [1], [(0, 0)]).check::<T>();
    // every row and column of the narrow tile
    conv((1, 1, 12, 32), [130], [3], [1], [1], [(1, 1)]).check::<T>();
    conv(
        (1, 1, 16, 8),
        [9, 8],
        [3, 2],
        [2, 1],
        [1, 1],
        [(1, 1), (1, 0)],
    )
    .check::<T>();
}

#[test]
fn every_plan_of_tensor_cores() {
    with_every_plan(|| {
        check_plans::<f16>();
        check_plans::<f32>();
    });
}

#[test]
fn a_relu_in_the_same_pass() {
    with_every_algorithm(|| {
        for (seed, layout) in Layout::ALL.into_iter().enumerate() {
            let case = conv(
                (2, 1, 5, 9),
                [7, 6],
                [3, 2],
                [2, 1],
                [1, 1],
                [(1, 1), (1, 0)],
            );
            let p = case.problem();
            let x = integers::<f16>(&p.x_shape(), layout, 1);
            let y = integers::<f16>(&p.y_shape(), layout, 2);
            let w = integers::<f16>(&p.w_shape(), Layout::ChannelsFirst, 3);
            let bias = |n| integers::<f16>(&[n], Layout::ChannelsFirst, 4);
            let (kb, cb) = (bias(p.out_channels()), bias(p.in_channels()));
            same("fprop", seed, 0.0, |on| {
                let b = on.to(&kb);
                let relu = Activation::Relu;
                ops::fprop_activated(&p, &on.to(&x), &on.to(&w), Some(&b), relu).unwrap()
            });
            same("dgrad", seed, 0.0, |on| {
                let b = on.to(&cb);
                let relu = Activation::Relu;
                ops::dgrad_activated(&p, &on.to(&y), &on.to(&w), Some(&b), relu).unwrap()
            });
            let leaky = Activation::LeakyRelu { slope: 0.5 };
            same("fprop", seed, 0.0, |on| {
                ops::fprop_activated(&p, &on.to(&x), &on.to(&w), None, leaky).unwrap()
            });
        }
    });
}
