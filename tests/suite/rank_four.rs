//! A 4-D convolution is a sum of 3-D ones over the taps and slices of its first axis.

use ndconv::{ConvParams, ConvProblem, Element, Layout, Padding, Tensor, Write, ops};
use rstest::rstest;

use crate::data::{Random, elements, tensor, values};

const FIRST: Layout = Layout::ChannelsFirst;

/// Spatial slice `at` along the first spatial axis of `(outer, channels, first, ...)`.
fn slice<T: Element>(shape: &[usize], data: &[f64], at: usize) -> Tensor<T> {
    let inner = elements(&shape[3..]);
    let rows = data.chunks(shape[2] * inner);
    let slice: Vec<_> = rows
        .flat_map(|row| &row[at * inner..][..inner])
        .copied()
        .collect();
    tensor(&[&shape[..2], &shape[3..]].concat(), FIRST, &slice)
}

/// The inverse of [`slice`]: every slice in its place.
fn stack<T: Element>(shape: &[usize], slices: &[Tensor<T>]) -> Vec<f64> {
    let inner = elements(&shape[3..]);
    let slice_shape = [&shape[..2], &shape[3..]].concat();
    let slices: Vec<_> = slices.iter().map(|s| values(&slice_shape, s)).collect();
    let mut all = Vec::with_capacity(elements(shape));
    for row in 0..shape[0] * shape[1] {
        for slice in &slices {
            all.extend_from_slice(&slice[row * inner..][..inner]);
        }
    }
    all
}

fn zeros<T: Element>(shape: &[usize], slices: usize) -> Vec<Tensor<T>> {
    let shape = [&shape[..2], &shape[3..]].concat();
    (0..slices)
        .map(|_| tensor(&shape, FIRST, &vec![0.0; elements(&shape)]))
        .collect()
}

#[rstest]
#[case([1; 4], [1; 4], [(0, 0); 4], 1)]
#[case([2, 1, 2, 1], [1, 2, 1, 1], [(1, 1), (1, 1), (0, 1), (2, 0)], 2)]
#[case([1, 2, 1, 1], [2, 1, 1, 2], [(2, 1), (0, 0), (1, 0), (1, 1)], 1)]
fn conv4d_is_a_sum_of_conv3d(
    #[case] stride: [usize; 4],
    #[case] dilation: [usize; 4],
    #[case] pads: [(usize, usize); 4],
    #[case] groups: usize,
) {
    let params = ConvParams {
        stride,
        dilation,
        padding: Padding::Explicit(pads),
        groups,
        ..ConvParams::default()
    };
    let tail = |v: [usize; 4]| [v[1], v[2], v[3]];
    let params3 = ConvParams {
        stride: tail(stride),
        dilation: tail(dilation),
        padding: Padding::Explicit([pads[1], pads[2], pads[3]]),
        groups,
        ..ConvParams::default()
    };
    let (xs, ws) = ([2, 4, 5, 4, 3, 5], [6, 4 / groups, 3, 2, 2, 3]);
    let p = ConvProblem::<4>::new(&xs, &ws, &params).unwrap();
    let ys = p.y_shape();
    let q = ConvProblem::<3>::new(&[2, 4, 4, 3, 5], &[6, 4 / groups, 2, 2, 3], &params3).unwrap();

    let mut random = Random(9);
    let [x, w, dy] = [&xs[..], &ws, &ys].map(|s| random.integers(elements(s), 5));
    let (mut y, mut dx, mut dw) = (zeros(&ys, ys[2]), zeros(&xs, xs[2]), zeros(&ws, ws[2]));
    for (o, y) in y.iter_mut().enumerate() {
        for (t, dw) in dw.iter_mut().enumerate() {
            let place = (o * stride[0] + t * dilation[0]).checked_sub(pads[0].0);
            let Some(i) = place.filter(|&i| i < xs[2]) else {
                continue;
            };
            let (x, w, dy) = (
                slice::<f32>(&xs, &x, i),
                slice(&ws, &w, t),
                slice(&ys, &dy, o),
            );
            let add = Write::Accumulate;
            ops::fprop_into(&q, &x, &w, None, y, add).unwrap();
            ops::dgrad_into(&q, &dy, &w, None, &mut dx[i], add).unwrap();
            ops::wgrad_into(&q, &x, &dy, dw, add).unwrap();
        }
    }

    let [tx, tw, tdy] =
        [(&xs[..], &x), (&ws, &w), (&ys, &dy)].map(|(s, v)| tensor::<f32>(s, FIRST, v));
    assert_eq!(
        values(&ys, &ops::fprop(&p, &tx, &tw, None).unwrap()),
        stack(&ys, &y)
    );
    assert_eq!(
        values(&xs, &ops::dgrad(&p, &tdy, &tw, None).unwrap()),
        stack(&xs, &dx)
    );
    assert_eq!(
        values(&ws, &ops::wgrad(&p, &tx, &tdy, FIRST).unwrap()),
        stack(&ws, &dw)
    );
}
