//! Max and average pooling, forward and backward, against the oracle.

use half::{bf16, f16};
use ndconv::{Element, Layout, Padding, PoolParams, PoolProblem, Tensor, ops};
use proptest::prelude::*;
use rstest::rstest;

use crate::data::*;
use crate::geometry::count_pool_windows;
use crate::pool_oracle::{PoolAxis, PoolOracle};

/// An axis with its windows counted by walking; `None` where there are none or the padding is more
/// than half the kernel.
fn axis(
    input: usize,
    kernel_size: usize,
    stride: usize,
    dilation: usize,
    padding: (usize, usize),
    ceil_mode: bool,
) -> Option<PoolAxis> {
    let padded = padding.0 + input + padding.1;
    let begins = padding.0 + input;
    let output = count_pool_windows(begins, padded, kernel_size, stride, dilation, ceil_mode);
    (output > 0 && padding.0.max(padding.1) <= kernel_size / 2).then_some(PoolAxis {
        input,
        kernel_size,
        output,
        stride,
        dilation,
        padding,
    })
}

fn problem<const N: usize>(o: &PoolOracle, ceil_mode: bool) -> PoolProblem<N> {
    let each = |f: fn(&PoolAxis) -> usize| std::array::from_fn(|a| f(&o.axes[a]));
    let params = PoolParams {
        kernel_size: each(|a| a.kernel_size),
        stride: each(|a| a.stride),
        padding: Padding::Explicit(std::array::from_fn(|a| o.axes[a].padding)),
        dilation: each(|a| a.dilation),
        ceil_mode,
        count_include_pad: o.count_include_pad,
    };
    let p = PoolProblem::new(&o.x_shape(), &params).unwrap();
    assert_eq!((p.x_shape(), p.y_shape()), (o.x_shape(), o.y_shape()));
    p
}

fn check<T: Element, const N: usize>(o: &PoolOracle, ceil_mode: bool, layout: Layout) {
    let p = problem::<N>(o, ceil_mode);
    let (xs, ys) = (o.x_shape(), o.y_shape());
    // few different values: plenty of ties
    let mut random = Random(5);
    let x = random.integers(elements(&xs), 4);
    let dy = random.integers(elements(&ys), 8);
    let tx = tensor::<T>(&xs, layout, &x);
    let tdy = tensor::<T>(&ys, layout, &dy);
    let what = |op| format!("{op} {} {layout} {o:?}", T::DTYPE);

    let y = ops::max_pool(&p, &tx).unwrap();
    assert_same(&what("max"), &values(&ys, &y), &o.max(&x));
    let dx = ops::max_pool_backward(&p, &tx, &tdy).unwrap();
    let expected = rounded::<T>(&o.max_backward(&x, &dy));
    assert_same(&what("max backward"), &values(&xs, &dx), &expected);

    // quotients are rounded to the accumulator first: a tolerance of one rounding
    let one_rounding = tolerance(T::DTYPE, 0) / 2.0;
    let y = ops::avg_pool(&p, &tx).unwrap();
    assert_close(
        &what("average"),
        &values(&ys, &y),
        &o.average(&x),
        one_rounding,
    );
    let dx = ops::avg_pool_backward(&p, &tdy).unwrap();
    let expected = o.average_backward(&dy);
    assert_close(
        &what("average backward"),
        &values(&xs, &dx),
        &expected,
        one_rounding,
    );
}

fn check_types(o: &PoolOracle, ceil_mode: bool, layout: Layout) {
    fn of_rank<const N: usize>(o: &PoolOracle, ceil_mode: bool, layout: Layout) {
        check::<f64, N>(o, ceil_mode, layout);
        check::<f32, N>(o, ceil_mode, layout);
        check::<f16, N>(o, ceil_mode, layout);
        check::<bf16, N>(o, ceil_mode, layout);
    }
    match o.axes.len() {
        1 => of_rank::<1>(o, ceil_mode, layout),
        2 => of_rank::<2>(o, ceil_mode, layout),
        3 => of_rank::<3>(o, ceil_mode, layout),
        _ => of_rank::<4>(o, ceil_mode, layout),
    }
}

#[rstest]
fn every_rank(
    #[values(1, 2, 3, 4)] rank: usize,
    #[values(false, true)] ceil_mode: bool,
    #[values(false, true)] count_include_pad: bool,
    #[values(Layout::ChannelsFirst, Layout::ChannelsLast)] layout: Layout,
) {
    let axes = [
        axis(7, 3, 2, 1, (1, 1), ceil_mode),
        axis(8, 2, 2, 2, (0, 1), ceil_mode),
        axis(5, 2, 3, 1, (1, 0), ceil_mode),
        axis(6, 4, 3, 1, (2, 2), ceil_mode),
    ];
    let o = PoolOracle {
        batch: 2,
        channels: 3,
        axes: axes.into_iter().take(rank).map(Option::unwrap).collect(),
        count_include_pad,
    };
    check_types(&o, ceil_mode, layout);
}

#[rstest]
fn ragged_channels(#[values(Layout::ChannelsFirst, Layout::ChannelsLast)] layout: Layout) {
    let axes = [
        axis(37, 3, 2, 1, (1, 1), false),
        axis(41, 2, 2, 1, (0, 0), false),
    ];
    let o = PoolOracle {
        batch: 3,
        channels: 33,
        axes: axes.into_iter().map(Option::unwrap).collect(),
        count_include_pad: true,
    };
    check::<f32, 2>(&o, false, layout);
    check::<bf16, 2>(&o, false, layout);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_problems(
        axes in prop::collection::vec((1..=7usize, 1..=4usize, 1..=4usize, 1..=3usize, (0..=2usize, 0..=2usize)), 1..=4),
        ceil_mode: bool,
        count_include_pad: bool,
        (batch, channels) in (1..=2usize, 1..=3usize),
        last: bool,
    ) {
        let axes: Option<Vec<_>> = axes
            .into_iter()
            .map(|(input, k, s, d, (lo, hi))| {
                let padding = (lo.min(k / 2), hi.min(k / 2));
                axis(input, k, s, d, padding, ceil_mode)
                    .or_else(|| axis(input + (k - 1) * d, k, s, d, padding, ceil_mode))
            })
            .collect();
        let o = PoolOracle { batch, channels, axes: axes.unwrap(), count_include_pad };
        let layout = if last { Layout::ChannelsLast } else { Layout::ChannelsFirst };
        check_types(&o, ceil_mode, layout);
    }
}

fn pool1(input: usize, params: &PoolParams<1>) -> PoolProblem<1> {
    PoolProblem::new(&[1, 1, input], params).unwrap()
}

fn signal<T: Element>(values: &[f64]) -> Tensor<T> {
    tensor(&[1, 1, values.len()], Layout::ChannelsFirst, values)
}

fn nan_wins_in<T: Element>() {
    let nan = f64::NAN;
    let p = pool1(8, &PoolParams::new([2]));
    let x = signal::<T>(&[1.0, nan, nan, f64::INFINITY, nan, nan, 1.0, 2.0]);
    let y = values(&[1, 1, 4], &ops::max_pool(&p, &x).unwrap());
    assert!(y[..3].iter().all(|v| v.is_nan()), "{y:?}");
    assert_eq!(y[3], 2.0);
    let dy = signal::<T>(&[1.0, 2.0, 3.0, 4.0]);
    let dx = ops::max_pool_backward(&p, &x, &dy).unwrap();
    // to the NaN, and of two to the first
    assert_eq!(
        values(&[1, 1, 8], &dx),
        [0.0, 1.0, 2.0, 0.0, 3.0, 0.0, 0.0, 4.0]
    );
    let average = values(&[1, 1, 4], &ops::avg_pool(&p, &x).unwrap());
    assert!(average[..3].iter().all(|v| v.is_nan()));
    assert_eq!(average[3], 1.5);
}

#[test]
fn nan_wins() {
    nan_wins_in::<f64>();
    nan_wins_in::<f32>();
    nan_wins_in::<f16>();
    nan_wins_in::<bf16>();
}

#[test]
fn ties_go_to_the_first() {
    let params = PoolParams {
        stride: [1],
        ..PoolParams::new([3])
    };
    let p = pool1(5, &params);
    let x = signal::<f32>(&[2.0, 2.0, 2.0, 0.0, -0.0]);
    let dx = ops::max_pool_backward(&p, &x, &signal(&[1.0, 10.0, 100.0])).unwrap();
    assert_eq!(values(&[1, 1, 5], &dx), [1.0, 10.0, 100.0, 0.0, 0.0]);
}

/// Padding is never the maximum, whatever the input.
#[test]
fn padding_never_wins() {
    let params = PoolParams {
        padding: Padding::uniform(1),
        ..PoolParams::new([2])
    };
    let p = pool1(2, &params);
    let x = signal::<f32>(&[-5.0, f64::NEG_INFINITY]);
    let y = ops::max_pool(&p, &x).unwrap();
    assert_eq!(values(&[1, 1, 2], &y), [-5.0, f64::NEG_INFINITY]);
    let dx = ops::max_pool_backward(&p, &x, &signal(&[1.0, 2.0])).unwrap();
    assert_eq!(values(&[1, 1, 2], &dx), [1.0, 2.0]);
}

/// A dilated window may straddle a short input without touching it.
#[test]
fn windows_without_input() {
    let params = PoolParams {
        padding: Padding::uniform(1),
        dilation: [2],
        ..PoolParams::new([2])
    };
    let p = pool1(1, &params);
    let x = signal::<f32>(&[7.0]);
    assert_eq!(
        values(&[1, 1, 1], &ops::max_pool(&p, &x).unwrap()),
        [f64::NEG_INFINITY]
    );
    assert_eq!(values(&[1, 1, 1], &ops::avg_pool(&p, &x).unwrap()), [0.0]);
    let dy = signal::<f32>(&[3.0]);
    assert_eq!(
        values(&[1, 1, 1], &ops::max_pool_backward(&p, &x, &dy).unwrap()),
        [0.0]
    );
    assert_eq!(
        values(&[1, 1, 1], &ops::avg_pool_backward(&p, &dy).unwrap()),
        [0.0]
    );
}

/// With `ceil_mode` a window may hang over the end; what lies past the padding is not divided by.
#[rstest]
#[case((0, 0), true, [2.0, 5.0])]
#[case((0, 1), true, [2.0, 10.0 / 3.0])]
#[case((0, 1), false, [2.0, 5.0])]
fn averages_of_a_hanging_window(
    #[case] padding: (usize, usize),
    #[case] count_include_pad: bool,
    #[case] expected: [f64; 2],
) {
    let params = PoolParams {
        padding: Padding::Explicit([padding]),
        ceil_mode: true,
        count_include_pad,
        ..PoolParams::new([3])
    };
    let p = pool1(5, &params);
    let x = signal::<f64>(&[1.0, 2.0, 3.0, 4.0, 6.0]);
    assert_eq!(
        values(&[1, 1, 2], &ops::avg_pool(&p, &x).unwrap()),
        expected
    );
    let dx = ops::avg_pool_backward(&p, &signal::<f64>(&[0.0, expected[1]])).unwrap();
    let share = expected[1] * expected[1] / 10.0;
    assert_eq!(values(&[1, 1, 5], &dx), [0.0, 0.0, 0.0, share, share]);
}

/// Keras' 'same' pooling: windows as many as strides, padding not counted.
#[test]
fn same_pooling() {
    let params = PoolParams {
        padding: Padding::Same,
        count_include_pad: false,
        stride: [2],
        ..PoolParams::new([3])
    };
    let p = pool1(6, &params);
    assert_eq!(p.axes()[0].padding, (0, 1));
    let x = signal::<f32>(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(
        values(&[1, 1, 3], &ops::max_pool(&p, &x).unwrap()),
        [3.0, 5.0, 6.0]
    );
    assert_eq!(
        values(&[1, 1, 3], &ops::avg_pool(&p, &x).unwrap()),
        [2.0, 4.0, 5.5]
    );
}
