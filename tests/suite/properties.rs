//! What holds for every convolution, on whole numbers and therefore exactly.

use ndconv::{ConvParams, ConvProblem, Layout, Padding, PaddingMode, Tensor, ops};
use proptest::prelude::*;

use crate::case::{Case, named};
use crate::data::{Random, elements, tensor, values};
use crate::oracle::positions;
use crate::random_case::any_case;

const FIRST: Layout = Layout::ChannelsFirst;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `2 a - 3 b`.
fn blend(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| 2.0 * a - 3.0 * b).collect()
}

/// One problem on plain vectors, channels first.
struct Ops<const N: usize>(ConvProblem<N>);

impl<const N: usize> Ops<N> {
    fn random(&self, seed: u64) -> [Vec<f64>; 3] {
        let mut random = Random(seed);
        [self.0.x_shape(), self.0.w_shape(), self.0.y_shape()]
            .map(|shape| random.integers(elements(&shape), 50))
    }

    fn fprop(&self, x: &[f64], w: &[f64]) -> Vec<f64> {
        let p = &self.0;
        let x = tensor::<f64>(&p.x_shape(), FIRST, x);
        let w = tensor(&p.w_shape(), FIRST, w);
        values(&p.y_shape(), &ops::fprop(p, &x, &w, None).unwrap())
    }

    fn dgrad(&self, dy: &[f64], w: &[f64]) -> Vec<f64> {
        let p = &self.0;
        let dy = tensor::<f64>(&p.y_shape(), FIRST, dy);
        let w = tensor(&p.w_shape(), FIRST, w);
        values(&p.x_shape(), &ops::dgrad(p, &dy, &w, None).unwrap())
    }

    fn wgrad(&self, x: &[f64], dy: &[f64]) -> Vec<f64> {
        let p = &self.0;
        let x = tensor::<f64>(&p.x_shape(), FIRST, x);
        let dy = tensor(&p.y_shape(), FIRST, dy);
        values(&p.w_shape(), &ops::wgrad(p, &x, &dy, FIRST).unwrap())
    }

    /// One trilinear form, read three ways.
    fn adjoint(&self) {
        let [x, w, dy] = self.random(1);
        let form = dot(&self.fprop(&x, &w), &dy);
        assert_eq!(form, dot(&x, &self.dgrad(&dy, &w)));
        assert_eq!(form, dot(&w, &self.wgrad(&x, &dy)));
    }

    fn linear(&self) {
        let [x, w, dy] = self.random(1);
        let [x2, w2, dy2] = self.random(2);
        let y = self.fprop(&x, &w);
        assert_eq!(
            self.fprop(&blend(&x, &x2), &w),
            blend(&y, &self.fprop(&x2, &w))
        );
        assert_eq!(
            self.fprop(&x, &blend(&w, &w2)),
            blend(&y, &self.fprop(&x, &w2))
        );
        let dx = self.dgrad(&dy, &w);
        assert_eq!(
            self.dgrad(&blend(&dy, &dy2), &w),
            blend(&dx, &self.dgrad(&dy2, &w))
        );
        let dw = self.wgrad(&x, &dy);
        assert_eq!(
            self.wgrad(&x, &blend(&dy, &dy2)),
            blend(&dw, &self.wgrad(&x, &dy2))
        );
    }
}

/// The problem with a unit axis put in before spatial axis `at`, on the same numbers.
fn embed<const N: usize, const M: usize>(case: &Case, at: usize) {
    let flat = Ops(case.problem::<N>());
    let mut case = case.clone();
    let mut unit = case.oracle.axes[0].clone();
    (unit.input, unit.kernel_size, unit.output) = (1, 1, 1);
    unit.padding = (0, 0);
    case.oracle.axes.insert(at, unit);
    if let Some(op) = &mut case.output_padding {
        op.insert(at, 0);
    }
    let deep = Ops(case.problem::<M>());
    let [x, w, dy] = flat.random(3);
    assert_eq!(flat.fprop(&x, &w), deep.fprop(&x, &w));
    assert_eq!(flat.dgrad(&dy, &w), deep.dgrad(&dy, &w));
    assert_eq!(flat.wgrad(&x, &dy), deep.wgrad(&x, &dy));
}

/// `x` rolled by `by[a]` positions along every spatial axis.
fn roll(shape: &[usize], x: &[f64], by: &[usize]) -> Vec<f64> {
    let index = |position: &[usize]| {
        let sizes = shape.iter().zip(position);
        sizes.fold(0, |index, (size, p)| index * size + p)
    };
    let source = |mut position: Vec<usize>| {
        for (a, by) in by.iter().enumerate() {
            position[2 + a] = (position[2 + a] + shape[2 + a] - by) % shape[2 + a];
        }
        x[index(&position)]
    };
    positions(shape).into_iter().map(source).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn adjoint_and_linear(case in (1..=4usize).prop_flat_map(any_case)) {
        fn both<const N: usize>(case: &Case) {
            let ops = Ops(case.problem::<N>());
            ops.adjoint();
            ops.linear();
        }
        match case.rank() {
            1 => both::<1>(&case),
            2 => both::<2>(&case),
            3 => both::<3>(&case),
            _ => both::<4>(&case),
        }
    }

    #[test]
    fn a_unit_axis_changes_nothing(case in (1..=3usize).prop_flat_map(any_case), at in 0..=3usize) {
        match case.rank() {
            1 => embed::<1, 2>(&case, at.min(1)),
            2 => embed::<2, 3>(&case, at.min(2)),
            _ => embed::<3, 4>(&case, at),
        }
    }

    /// On a circle whose length the stride divides, moving the input by strides moves the output.
    #[test]
    fn translation_on_a_circle(
        outputs in prop::array::uniform2(1..=5usize),
        stride in prop::array::uniform2(1..=3usize),
        kernel_size in prop::array::uniform2(1..=3usize),
        before in prop::array::uniform2(0..=2usize),
        by in prop::array::uniform2(0..=4usize),
    ) {
        let input = [0, 1].map(|a| outputs[a] * stride[a]);
        let k = [0, 1].map(|a| kernel_size[a].min(input[a]));
        let pads = [0, 1].map(|a| {
            let before = before[a].min(k[a] - 1);
            (before, k[a] - 1 - before)
        });
        let params = ConvParams {
            stride,
            padding: Padding::Explicit(pads),
            padding_mode: PaddingMode::Circular,
            ..ConvParams::default()
        };
        let p = ConvProblem::<2>::new(&[2, 2, input[0], input[1]], &[3, 2, k[0], k[1]], &params);
        let ops = Ops(p.unwrap());
        prop_assert_eq!(ops.0.output(), outputs);
        let [x, w, dy] = ops.random(4);
        let moved = [0, 1].map(|a| by[a] % outputs[a]);
        let strides = [0, 1].map(|a| moved[a] * stride[a]);
        let moved_x = roll(&ops.0.x_shape(), &x, &strides);
        let moved_dy = roll(&ops.0.y_shape(), &dy, &moved);
        let moved_y = roll(&ops.0.y_shape(), &ops.fprop(&x, &w), &moved);
        prop_assert_eq!(ops.fprop(&moved_x, &w), moved_y);
        let moved_dx = roll(&ops.0.x_shape(), &ops.dgrad(&dy, &w), &strides);
        prop_assert_eq!(ops.dgrad(&moved_dy, &w), moved_dx);
        prop_assert_eq!(ops.wgrad(&moved_x, &moved_dy), ops.wgrad(&x, &dy));
    }
}

/// Between zeros there is room to move without a circle.
#[test]
fn translation_between_zeros() {
    let params = ConvParams {
        padding: Padding::Full,
        dilation: [2],
        ..ConvParams::default()
    };
    let ops = Ops(ConvProblem::<1>::new(&[1, 1, 12], &[1, 1, 3], &params).unwrap());
    let mut x = Random(1).integers(12, 50);
    x[7..].fill(0.0);
    let [_, w, _] = ops.random(2);
    let y = ops.fprop(&x, &w);
    for by in 1..=5 {
        let moved = ops.fprop(&roll(&[1, 1, 12], &x, &[by]), &w);
        assert_eq!(moved, roll(&[1, 1, 16], &y, &[by]));
    }
}

/// A depthwise convolution is one convolution a channel.
#[test]
fn groups_do_not_see_each_other() {
    let params = ConvParams {
        groups: 3,
        stride: [2],
        ..ConvParams::default()
    };
    let p = ConvProblem::<1>::new(&[1, 3, 9], &[6, 1, 3], &params).unwrap();
    let [x, w, _] = Ops(p).random(1);
    let whole = Ops(p).fprop(&x, &w);
    let params = ConvParams {
        groups: 1,
        ..params
    };
    let one = Ops(ConvProblem::<1>::new(&[1, 1, 9], &[2, 1, 3], &params).unwrap());
    let parts = (0..3).flat_map(|g| one.fprop(&x[g * 9..][..9], &w[g * 6..][..6]));
    assert_eq!(whole, parts.collect::<Vec<_>>());
}

/// A NaN reaches the results whose windows see it and no others: not the rest of a block, not
/// another group, not what stands next to it in memory.
#[test]
fn nan_spreads_no_further_than_its_windows() {
    fn check<const N: usize>(name: &str, case: &Case) {
        let (ops, o) = (Ops(case.problem::<N>()), &case.oracle);
        let [mut x, w, mut dy] = ops.random(6);
        let plain = dy.clone();
        let (i, j) = (x.len() / 2, dy.len() / 2);
        (x[i], dy[j]) = (f64::NAN, f64::NAN);
        let nan = |v: &[f64]| v.iter().map(|v| v.is_nan()).collect::<Vec<_>>();
        assert_eq!(
            nan(&ops.fprop(&x, &w)),
            nan(&o.fprop(&x, &w)),
            "fprop, {name}"
        );
        assert_eq!(
            nan(&ops.dgrad(&dy, &w)),
            nan(&o.dgrad(&dy, &w)),
            "dgrad, {name}"
        );
        let (got, expected) = (ops.wgrad(&x, &plain), o.wgrad(&x, &plain));
        assert_eq!(nan(&got), nan(&expected), "wgrad, {name}");
    }
    for (name, case) in named() {
        match case.rank() {
            1 => check::<1>(name, &case),
            2 => check::<2>(name, &case),
            3 => check::<3>(name, &case),
            _ => check::<4>(name, &case),
        }
    }
}

/// The transposed convolution of a single one is the weight itself, laid down at its place.
#[test]
fn a_unit_impulse_lays_down_the_weight() {
    let params = ConvParams {
        stride: [2, 3],
        ..ConvParams::default()
    };
    let p = ConvProblem::<2>::transposed(&[1, 1, 2, 2], &[1, 1, 2, 3], &params, [0, 0]).unwrap();
    let w: Vec<f64> = (1..=6).map(f64::from).collect();
    let y = Ops(p).dgrad(&[0.0, 0.0, 1.0, 0.0], &w);
    let rows = Tensor::from_vec(&[4, 6], y).unwrap().to_array().unwrap();
    let corner = rows.slice(ndarray::s![2.., ..3]).to_owned();
    assert_eq!(corner.into_iter().collect::<Vec<_>>(), w);
    assert_eq!(rows.sum(), w.iter().sum::<f64>());
}
