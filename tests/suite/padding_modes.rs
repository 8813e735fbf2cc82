//! Padding modes against inputs that are padded literally.

use ndarray::{ArrayD, Axis, concatenate};
use ndconv::{ConvParams, ConvProblem, GeometryError, Padding, PaddingMode, Tensor, ops};
use rstest::rstest;

use crate::data::Random;
use crate::geometry::reason;
use crate::oracle::padded_sources;
use PaddingMode::{Circular, Reflect, Replicate, Zeros};

/// Pads an array along one axis by joining pieces of it.
fn pad_axis(
    x: &ArrayD<f64>,
    axis: usize,
    (lo, hi): (usize, usize),
    mode: PaddingMode,
) -> ArrayD<f64> {
    let len = x.len_of(Axis(axis));
    let piece = |i: usize| x.select(Axis(axis), &[i]);
    let zero = piece(0) * 0.0;
    let mut pieces = Vec::new();
    for distance in (1..=lo).rev() {
        pieces.push(match mode {
            Zeros => zero.clone(),
            Reflect => piece(distance),
            Replicate => piece(0),
            Circular => piece(len - distance),
        });
    }
    pieces.push(x.clone());
    for distance in 1..=hi {
        pieces.push(match mode {
            Zeros => zero.clone(),
            Reflect => piece(len - 1 - distance),
            Replicate => piece(len - 1),
            Circular => piece(distance - 1),
        });
    }
    let views: Vec<_> = pieces.iter().map(|p| p.view()).collect();
    concatenate(Axis(axis), &views).unwrap()
}

/// A convolution with a padding mode equals a plain one of the padded input.
#[rstest]
fn padding_first_is_the_same(#[values(Zeros, Reflect, Replicate, Circular)] mode: PaddingMode) {
    let pads = [(2, 3), (4, 1), (0, 2)];
    let mut random = Random(3);
    let x = ArrayD::from_shape_vec(vec![2, 3, 4, 5, 3], random.integers(360, 9)).unwrap();
    let w = ArrayD::from_shape_vec(vec![2, 3, 3, 2, 2], random.integers(72, 9)).unwrap();
    let padded = (0..3).fold(x.clone(), |x, a| pad_axis(&x, 2 + a, pads[a], mode));

    let padding = Padding::Explicit(pads);
    let params = ConvParams {
        padding,
        padding_mode: mode,
        stride: [2, 1, 1],
        ..ConvParams::default()
    };
    let p = ConvProblem::<3>::new(x.shape(), w.shape(), &params).unwrap();
    let plain = ConvParams {
        stride: params.stride,
        ..ConvParams::default()
    };
    let q = ConvProblem::<3>::new(padded.shape(), w.shape(), &plain).unwrap();
    assert_eq!(p.y_shape(), q.y_shape());

    let [x, padded, w] = [x, padded, w].map(|a| Tensor::from_array(&a).unwrap());
    let y = ops::fprop(&p, &x, &w, None).unwrap();
    assert_eq!(
        y.to_array().unwrap(),
        ops::fprop(&q, &padded, &w, None)
            .unwrap()
            .to_array()
            .unwrap()
    );
    let layout = w.layout();
    let dw = ops::wgrad(&p, &x, &y, layout).unwrap();
    assert_eq!(
        dw.to_array().unwrap(),
        ops::wgrad(&q, &padded, &y, layout)
            .unwrap()
            .to_array()
            .unwrap()
    );
}

#[rstest]
fn every_source(#[values(Zeros, Reflect, Replicate, Circular)] mode: PaddingMode) {
    for input in 1..=5usize {
        // reflecting needs one position more than it makes up
        let longest = if mode == Reflect { input - 1 } else { input };
        for (lo, hi) in (0..=longest).flat_map(|lo| (0..=longest).map(move |hi| (lo, hi))) {
            let sources = padded_sources(input, (lo as i64, hi as i64), mode);
            for (i, &expected) in sources.iter().enumerate() {
                let position = i as isize - lo as isize;
                assert_eq!(
                    mode.source(position, input),
                    expected,
                    "{position} of {input}"
                );
            }
            let params = ConvParams {
                padding: Padding::Explicit([(lo, hi)]),
                padding_mode: mode,
                dilation: [2],
                ..ConvParams::default()
            };
            let Ok(p) = ConvProblem::<1>::new(&[1, 1, input], &[1, 1, 2], &params) else {
                assert!(sources.len() < 3);
                continue;
            };
            for o in 0..p.output()[0] {
                for t in 0..2 {
                    assert_eq!(p.input_index(0, o, t), sources[o + 2 * t]);
                }
            }
        }
    }
}

/// Folding is done once: longer padding is an error that says what would do.
#[rstest]
#[case(Reflect, (4, 0), 5)]
#[case(Reflect, (0, 4), 5)]
#[case(Reflect, (9, 4), 10)]
#[case(Circular, (5, 0), 5)]
#[case(Circular, (3, 7), 7)]
fn padding_longer_than_the_input(
    #[case] mode: PaddingMode,
    #[case] padding: (usize, usize),
    #[case] least: usize,
) {
    let params = ConvParams {
        padding: Padding::Explicit([(0, 0), padding]),
        padding_mode: mode,
        ..ConvParams::default()
    };
    let expected = GeometryError::PaddingTooLong {
        padding: padding.0.max(padding.1),
        mode: mode.name(),
        least,
        input: 4,
    };
    let make = |input| ConvProblem::<2>::new(&[1, 1, 2, input], &[1, 1, 1, 1], &params);
    assert_eq!(reason(make(4)), (expected, 1));
    assert!(make(least).is_ok());
}

#[test]
fn replicating_has_no_limit() {
    let params = ConvParams {
        padding: Padding::uniform(9),
        padding_mode: Replicate,
        ..ConvParams::default()
    };
    let p = ConvProblem::<1>::new(&[1, 1, 2], &[1, 1, 1], &params).unwrap();
    let x = Tensor::from_vec(&[1, 1, 2], vec![3.0f32, 5.0]).unwrap();
    let w = Tensor::from_vec(&[1, 1, 1], vec![1.0f32]).unwrap();
    let y = ops::fprop(&p, &x, &w, None).unwrap().to_vec().unwrap();
    assert_eq!(y, [[3.0f32; 10], [5.0; 10]].concat());
}
