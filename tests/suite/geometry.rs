//! Shape arithmetic against brute force: windows are counted by walking, never by a formula.

use ndconv::{Axis, ConvParams, ConvProblem, Error, GeometryError, Padding, Pass};
use ndconv::{PoolParams, PoolProblem};
use rstest::rstest;

use crate::case::reach;
use crate::oracle::{OracleAxis, count_windows, padded_sources};

/// `(reason, axis)` of a geometry error.
#[track_caller]
pub fn reason<T: std::fmt::Debug>(result: Result<T, Error>) -> (GeometryError, usize) {
    match result.unwrap_err() {
        Error::Geometry { axis, reason } => (reason, axis),
        other => panic!("not a geometry error: {other:?}"),
    }
}

/// A convolution of one axis, one channel in and out.
fn conv1(
    input: usize,
    kernel_size: usize,
    stride: usize,
    dilation: usize,
    padding: Padding<1>,
) -> Result<ConvProblem<1>, Error> {
    let params = ConvParams {
        stride: [stride],
        dilation: [dilation],
        padding,
        ..ConvParams::default()
    };
    ConvProblem::new(&[1, 1, input], &[1, 1, kernel_size], &params)
}

#[test]
fn every_small_axis() {
    for input in 0..=7 {
        for kernel_size in 0..=4 {
            for stride in 0..=4 {
                for dilation in 0..=3 {
                    for padding in (-2..=3).flat_map(|lo| (-2..=3).map(move |hi| (lo, hi))) {
                        let signed = (padding.0 as isize, padding.1 as isize);
                        let axis = Axis::new(input, kernel_size, stride, dilation, signed);
                        check_axis(input, kernel_size, stride, dilation, padding, axis);
                    }
                }
            }
        }
    }
}

fn check_axis(
    input: usize,
    kernel_size: usize,
    stride: usize,
    dilation: usize,
    padding: (i64, i64),
    axis: Result<Axis, GeometryError>,
) {
    let numbers = (input, kernel_size, stride, dilation, padding);
    if [input, kernel_size, stride, dilation].contains(&0) {
        let error = axis.unwrap_err();
        assert!(
            matches!(error, GeometryError::Zero { .. }),
            "{numbers:?}: {error:?}"
        );
        return;
    }
    let sources = padded_sources(input, padding, ndconv::PaddingMode::Zeros);
    let windows = count_windows(sources.len(), kernel_size, stride, dilation);
    if windows == 0 {
        let expected = GeometryError::KernelTooLarge {
            extent: reach(1, kernel_size, 1, dilation),
            padded: input as isize + padding.0 as isize + padding.1 as isize,
        };
        assert_eq!(axis, Err(expected), "{numbers:?}");
        return;
    }
    let axis = axis.unwrap();
    assert_eq!(axis.output, windows, "{numbers:?}");
    assert_eq!(
        axis.extent(),
        reach(1, kernel_size, 1, dilation),
        "{numbers:?}"
    );
    assert_eq!(axis.padded(), sources.len() as isize, "{numbers:?}");
    for o in 0..windows {
        for t in 0..kernel_size {
            let expected = sources[o * stride + t * dilation];
            assert_eq!(axis.input_index(o, t), expected, "{numbers:?} at {o}, {t}");
        }
    }
}

#[rstest]
#[case(0, 1, 1, 1, "the input size")]
#[case(1, 0, 1, 1, "the kernel size")]
#[case(1, 1, 0, 1, "the stride")]
#[case(1, 1, 1, 0, "the dilation")]
fn zeros_are_named(
    #[case] input: usize,
    #[case] kernel_size: usize,
    #[case] stride: usize,
    #[case] dilation: usize,
    #[case] what: &'static str,
    #[values(
        Padding::Valid,
        Padding::Same,
        Padding::SameLower,
        Padding::Full,
        Padding::Causal
    )]
    padding: Padding<1>,
) {
    let zero = GeometryError::Zero { what };
    assert_eq!(
        reason(conv1(input, kernel_size, stride, dilation, padding)),
        (zero, 0)
    );
}

/// 'same' is the least padding that gives `ceil(input / stride)` windows, its odd position after
/// the input or, for the lower kind, before.
#[test]
fn same_is_the_least_padding() {
    for input in 1..=12 {
        for kernel_size in 1..=5 {
            for stride in 1..=5 {
                for dilation in 1..=3 {
                    let wanted = (0..input).step_by(stride).count();
                    let total = (0..)
                        .find(|pad| {
                            count_windows(input + pad, kernel_size, stride, dilation) >= wanted
                        })
                        .unwrap();
                    let (less, more) = (total / 2, total.div_ceil(2));
                    let upper = conv1(input, kernel_size, stride, dilation, Padding::Same).unwrap();
                    let lower =
                        conv1(input, kernel_size, stride, dilation, Padding::SameLower).unwrap();
                    let numbers = (input, kernel_size, stride, dilation);
                    assert_eq!(upper.output(), [wanted], "{numbers:?}");
                    assert_eq!(lower.output(), [wanted], "{numbers:?}");
                    let pads = |a: usize, b: usize| [(a as isize, b as isize)];
                    assert_eq!(upper.padding(), pads(less, more), "{numbers:?}");
                    assert_eq!(lower.padding(), pads(more, less), "{numbers:?}");
                }
            }
        }
    }
}

#[test]
fn full_is_every_window_that_touches_the_input() {
    for (input, kernel_size, dilation) in [(5, 3, 1), (1, 4, 1), (2, 5, 2), (4, 1, 3)] {
        let p = conv1(input, kernel_size, 1, dilation, Padding::Full).unwrap();
        let extent = reach(1, kernel_size, 1, dilation) as isize;
        // a window may begin anywhere from `1 - extent` to the last input position
        let begins = (-20..20).filter(|b| b + extent > 0 && *b < input as isize);
        assert_eq!(p.output(), [begins.count()]);
        assert_eq!(p.input_index(0, 0, kernel_size - 1), Some(0));
        assert_eq!(p.input_index(0, p.output()[0] - 1, 0), Some(input - 1));
    }
}

#[test]
fn causal_never_looks_ahead() {
    for (input, kernel_size, stride, dilation) in [
        (5, 3, 1, 1),
        (6, 2, 1, 3),
        (7, 3, 2, 1),
        (9, 3, 4, 2),
        (1, 6, 1, 1),
    ] {
        let p = conv1(input, kernel_size, stride, dilation, Padding::Causal).unwrap();
        assert_eq!(p.output(), [(0..input).step_by(stride).count()]);
        for o in 0..p.output()[0] {
            assert_eq!(p.input_index(0, o, kernel_size - 1), Some(o * stride));
        }
    }
}

/// A transposed axis is as long as what its taps reach, more by the output padding, less by the
/// crop.
#[test]
fn every_small_transposed_axis() {
    for input in 1..=5 {
        for kernel_size in 1..=4 {
            for stride in 1..=4 {
                for dilation in 1..=3 {
                    let reached = reach(input, kernel_size, stride, dilation) as isize;
                    for op in 0..=4 {
                        for crop in [(0, 0), (1, 0), (0, 2), (2, 2), (4, 3)] {
                            let axis = transposed1(input, kernel_size, stride, dilation, crop, op);
                            let left = reached + op as isize - (crop.0 + crop.1) as isize;
                            if op > 0 && op >= stride && op >= dilation {
                                let expected = GeometryError::OutputPadding {
                                    output_padding: op,
                                    stride,
                                    dilation,
                                };
                                assert_eq!(reason(axis), (expected, 0));
                            } else if left < 1 {
                                let expected = GeometryError::EmptyOutput { output: left };
                                assert_eq!(reason(axis), (expected, 0));
                            } else {
                                let p = axis.unwrap();
                                assert_eq!(p.input(), [left as usize]);
                                assert_eq!(p.output(), [input]);
                                assert_eq!(p.padding(), [(crop.0 as isize, crop.1 as isize)]);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn transposed1(
    input: usize,
    kernel_size: usize,
    stride: usize,
    dilation: usize,
    crop: (usize, usize),
    output_padding: usize,
) -> Result<ConvProblem<1>, Error> {
    let params = ConvParams {
        stride: [stride],
        dilation: [dilation],
        padding: Padding::Explicit([crop]),
        ..ConvParams::default()
    };
    let (x, w) = ([1, 1, input], [1, 1, kernel_size]);
    ConvProblem::transposed(&x, &w, &params, [output_padding])
}

/// A convolution and the transposed one that leads back to its input size.
#[test]
fn output_padding_says_which_input_was_meant() {
    for input in 1..=12 {
        for stride in 1..=4 {
            let (kernel_size, pad) = (3, 1);
            let padding = Padding::uniform(pad);
            let down = conv1(input, kernel_size, stride, 1, padding).unwrap();
            let op = (input + 2 * pad - kernel_size) % stride;
            let up = transposed1(down.output()[0], kernel_size, stride, 1, (pad, pad), op);
            assert_eq!(up.unwrap().axes(), down.axes());
        }
    }
}

/// With `ceil_mode` a last window may hang over the end if the window before left something
/// there, unless it would begin past the input and its left padding.
#[test]
fn pooling_windows() {
    for input in 1..=9 {
        for kernel_size in 1..=4 {
            for stride in 1..=4 {
                for dilation in 1..=2 {
                    for padding in [(0, 0), (1, 0), (0, 1), (1, 1), (2, 2)] {
                        for ceil_mode in [false, true] {
                            let params = PoolParams {
                                kernel_size: [kernel_size],
                                stride: [stride],
                                padding: Padding::Explicit([padding]),
                                dilation: [dilation],
                                ceil_mode,
                                count_include_pad: true,
                            };
                            check_pool(input, &params, padding);
                        }
                    }
                }
            }
        }
    }
}

fn check_pool(input: usize, params: &PoolParams<1>, padding: (usize, usize)) {
    let p = PoolProblem::new(&[2, 3, input], params);
    let ([k], [s], [d]) = (params.kernel_size, params.stride, params.dilation);
    let (total, extent) = (padding.0 + padding.1, (k - 1) * d + 1);
    if total > extent {
        let expected = GeometryError::PoolPadding {
            padding: total,
            extent,
        };
        assert_eq!(reason(p), (expected, 0), "{params:?}");
        return;
    }
    let padded = input + padding.0 + padding.1;
    let windows = count_pool_windows(input + padding.0, padded, k, s, d, params.ceil_mode);
    if windows == 0 {
        let (reason, axis) = reason(p);
        assert!(matches!(reason, GeometryError::KernelTooLarge { .. }));
        assert_eq!(axis, 0);
    } else {
        assert_eq!(p.unwrap().y_shape(), [2, 3, windows], "{input} {params:?}");
    }
}

/// Walks over the padded axis, of which the first `begin_limit` positions may begin a window.
pub fn count_pool_windows(
    begin_limit: usize,
    padded: usize,
    kernel_size: usize,
    stride: usize,
    dilation: usize,
    ceil_mode: bool,
) -> usize {
    if !ceil_mode {
        return count_windows(padded, kernel_size, stride, dilation);
    }
    let extent = reach(1, kernel_size, 1, dilation) as isize;
    (0..)
        .take_while(|o| {
            let begin = o * stride as isize;
            let end_of_the_one_before = begin - stride as isize + extent;
            end_of_the_one_before < padded as isize && begin < begin_limit as isize
        })
        .count()
}

#[test]
fn every_axis_has_its_own_numbers() {
    let params = ConvParams {
        stride: [1, 2, 3],
        dilation: [3, 1, 2],
        padding: Padding::Explicit([(1, 2), (0, 3), (4, 0)]),
        groups: 2,
        ..ConvParams::default()
    };
    let p = ConvProblem::<3>::new(&[2, 6, 9, 10, 11], &[4, 3, 2, 3, 4], &params).unwrap();
    let walked = [
        OracleAxis::walked(9, 2, 1, 3, (1, 2)),
        OracleAxis::walked(10, 3, 2, 1, (0, 3)),
        OracleAxis::walked(11, 4, 3, 2, (4, 0)),
    ];
    assert_eq!(p.output(), walked.map(|a| a.output));
    assert_eq!(
        (p.batch(), p.in_channels(), p.out_channels(), p.groups()),
        (2, 6, 4, 2)
    );
    assert_eq!((p.stride(), p.dilation()), (params.stride, params.dilation));
    assert_eq!((p.input(), p.kernel_size()), ([9, 10, 11], [2, 3, 4]));
    assert_eq!(p.input_index(3, 0, 0), None);
    assert_eq!(p.input_index(0, 9, 0), None);
    assert_eq!(p.input_index(0, 0, 2), None);
}

#[test]
fn work_and_traffic() {
    let params = ConvParams {
        groups: 2,
        ..ConvParams::default()
    };
    // y is 2 x 6 x 3 x 4 = 144 numbers of 2 * 3 * 2 = 12 products each
    let p = ConvProblem::<2>::new(&[2, 4, 5, 5], &[6, 2, 3, 2], &params).unwrap();
    for pass in Pass::ALL {
        assert_eq!(p.flops(pass), 2 * 144 * 12);
        assert_eq!(p.bytes(pass, 4), 4 * (200 + 72 + 144));
    }
    // past u64 the count stays at its end rather than wrapping
    let large = ConvProblem::<1>::new(
        &[1, 1 << 10, 1 << 48],
        &[1 << 10, 1 << 10, 1 << 30],
        &ConvParams::default(),
    )
    .unwrap();
    assert_eq!(large.flops(Pass::Fprop), u64::MAX);
    assert_eq!(large.bytes(Pass::Fprop, usize::MAX), u64::MAX);
}
