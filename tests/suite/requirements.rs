//! Numbers that users of other libraries asked for, each under the name of what they wanted.

use ndarray::{ArrayD, Axis, s};
use ndconv::{ConvParams, ConvProblem, Layout, Padding, PoolParams, PoolProblem, Tensor, ops};
use rstest::rstest;

use crate::data::Random;

fn integers(shape: &[usize], seed: u64) -> ArrayD<f64> {
    let data = Random(seed).integers(shape.iter().product(), 9);
    ArrayD::from_shape_vec(shape, data).unwrap()
}

/// A plain loop for `correlate(a, v, valid)` of two planes.
fn correlate_valid(a: &ArrayD<f64>, v: &ArrayD<f64>) -> ArrayD<f64> {
    let size = |axis| a.len_of(Axis(axis)) - v.len_of(Axis(axis)) + 1;
    ArrayD::from_shape_fn(vec![size(0), size(1)], |at| {
        v.indexed_iter()
            .map(|(i, v)| v * a[[at[0] + i[0], at[1] + i[1]]])
            .sum()
    })
}

/// A field that scatters three kernels: the full convolution, its crop to the field's size, and
/// the gradient of the kernels.
#[test]
fn sliding_scatter() {
    let vals = integers(&[5, 5], 1);
    let kernels = integers(&[3, 3, 3], 2);
    // every value of the field adds its copy of every kernel
    let mut full = ArrayD::<f64>::zeros(vec![3, 7, 7]);
    for (at, v) in vals.indexed_iter() {
        let mut patch = full.slice_mut(s![.., at[0]..at[0] + 3, at[1]..at[1] + 3]);
        patch.scaled_add(*v, &kernels);
    }
    let crop = full.slice(s![.., 1..6, 1..6]).to_owned().into_dyn();

    let field = Tensor::from_array(&vals)
        .unwrap()
        .reshape(&[1, 1, 5, 5])
        .unwrap();
    let w = Tensor::from_array(&kernels)
        .unwrap()
        .reshape(&[1, 3, 3, 3])
        .unwrap();
    let scatter = |padding| {
        let params = ConvParams {
            padding,
            ..ConvParams::default()
        };
        ConvProblem::<2>::transposed(&[1, 1, 5, 5], &[1, 3, 3, 3], &params, [0, 0]).unwrap()
    };
    let p = scatter(Padding::Valid);
    assert_eq!(p.x_shape(), [1, 3, 7, 7]);
    let got = ops::dgrad(&p, &field, &w, None).unwrap();
    assert_eq!(got.reshape(&[3, 7, 7]).unwrap().to_array().unwrap(), full);
    let p = scatter(Padding::Same);
    assert_eq!((p.x_shape(), p.padding()), (vec![1, 3, 5, 5], [(1, 1); 2]));
    let got = ops::dgrad(&p, &field, &w, None).unwrap();
    assert_eq!(got.reshape(&[3, 5, 5]).unwrap().to_array().unwrap(), crop);

    // the kernels' gradient for an output gradient a: correlate(pad(a, 1), vals, valid)
    let a = integers(&[3, 5, 5], 3);
    let mut padded = ArrayD::<f64>::zeros(vec![3, 7, 7]);
    padded.slice_mut(s![.., 1..6, 1..6]).assign(&a);
    let planes = padded
        .outer_iter()
        .map(|a| correlate_valid(&a.to_owned(), &vals));
    let expected: Vec<f64> = planes.flat_map(|plane| plane.into_iter()).collect();
    let dy = Tensor::from_array(&a)
        .unwrap()
        .reshape(&[1, 3, 5, 5])
        .unwrap();
    let dw = ops::wgrad(&p, &dy, &field, Layout::ChannelsFirst).unwrap();
    assert_eq!(dw.shape(), [1, 3, 3, 3]);
    assert_eq!(dw.to_vec().unwrap(), expected);
}

/// Arrays convolved in full: every sample lays down the kernel.
#[test]
fn full_convolution_of_arrays() {
    let full = |a: (&[usize], Vec<f64>), b: (&[usize], Vec<f64>)| {
        let wide = |shape: &[usize]| [&[1, 1], shape].concat();
        let (xs, ws) = (wide(a.0), wide(b.0));
        let p = ConvProblem::<2>::transposed(&xs, &ws, &ConvParams::default(), [0, 0]).unwrap();
        let (x, w) = (Tensor::from_vec(&xs, a.1), Tensor::from_vec(&ws, b.1));
        let y = ops::dgrad(&p, &x.unwrap(), &w.unwrap(), None).unwrap();
        y.to_vec().unwrap()
    };
    let y = full((&[1, 3], vec![4., 5., 6.]), (&[1, 2], vec![2., 3.]));
    assert_eq!(y, [8., 22., 27., 18.]);
    let y = full(
        (&[2, 2], vec![2., 3., 3., 1.]),
        (&[2, 3], vec![4., 5., 6., 0., -1., 1.]),
    );
    assert_eq!(y, [8., 22., 27., 18., 12., 17., 22., 9., 0., -3., 2., 1.]);
}

/// Strided down and transposed up again, kernel 3 and stride 2.
#[rstest]
#[case(Padding::Same, 14, 28)]
#[case(Padding::Valid, 13, 29)]
fn down_and_up(#[case] padding: Padding<2>, #[case] down: usize, #[case] up: usize) {
    let params = ConvParams {
        stride: [2, 2],
        padding,
        ..ConvParams::default()
    };
    let p = ConvProblem::<2>::new(&[8, 1, 28, 28], &[4, 1, 3, 3], &params).unwrap();
    assert_eq!(p.y_shape(), [8, 4, down, down]);
    let p = ConvProblem::<2>::transposed(&[8, 4, 14, 14], &[4, 1, 3, 3], &params, [0; 2]).unwrap();
    assert_eq!(p.x_shape(), [8, 1, up, up]);
}

/// Lengths of a small network on 9000 steps, layer by layer.
#[test]
fn lengths_of_a_network() {
    let conv = |channels: usize, length: usize, filters: usize, k: usize| {
        let x = [1, channels, length];
        let p = ConvProblem::<1>::new(&x, &[filters, channels, k], &ConvParams::default());
        p.unwrap().output()[0]
    };
    let pool = |channels: usize, length: usize| {
        let p = PoolProblem::<1>::new(&[1, channels, length], &PoolParams::new([2]));
        p.unwrap().y_shape()[2]
    };
    let first = conv(1, 9000, 32, 11);
    let second = conv(32, first, 32, 3);
    let third = pool(32, second);
    let fourth = conv(32, third, 64, 3);
    let fifth = conv(64, fourth, 64, 3);
    let last = pool(64, fifth);
    assert_eq!(
        [first, second, third, fourth, fifth, last],
        [8990, 8988, 4494, 4492, 4490, 2245]
    );
    assert_eq!(64 * last, 143_680);
}

/// A bias gradient is a sum, not a mean.
#[test]
fn bias_gradients_are_sums() {
    let dy = Tensor::from_vec(&[2, 2, 2], vec![1.0f32, 2., 3., 4., 5., 6., 7., 8.]).unwrap();
    assert_eq!(ops::bgrad(&dy).unwrap().to_vec().unwrap(), [14.0, 22.0]);
}
