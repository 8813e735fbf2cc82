//! The shapes of PyTorch, Keras and ONNX as numbers written out by hand.

use ndconv::{ConvParams, ConvProblem, Error, GeometryError, Padding, PaddingMode};
use ndconv::{Rules, TransposedSize};
use rstest::rstest;

use crate::geometry::reason;
use Padding::{Causal, Explicit, Full, Same, SameLower, Valid};
use Rules::{Keras, Native, Onnx, PyTorch};

fn params<const N: usize>(
    stride: [usize; N],
    dilation: [usize; N],
    padding: Padding<N>,
) -> ConvParams<N> {
    ConvParams {
        stride,
        dilation,
        padding,
        ..ConvParams::default()
    }
}

fn conv1(
    rules: Rules,
    input: usize,
    (kernel_size, stride, dilation): (usize, usize, usize),
    padding: Padding<1>,
) -> Result<ConvProblem<1>, Error> {
    let params = params([stride], [dilation], padding);
    rules.problem(&[1, 2, input], &[3, 2, kernel_size], &params)
}

/// `(kernel size, stride, dilation)`, then the output and the padding before and after.
#[rstest]
// 'same' of Keras and ONNX: ceil(input / stride), the odd position at the end
#[case(Keras, 28, (3, 2, 1), Same, 14, (0, 1))]
#[case(Keras, 28, (3, 2, 1), Valid, 13, (0, 0))]
#[case(Keras, 5, (3, 2, 1), Same, 3, (1, 1))]
#[case(Keras, 7, (2, 1, 1), Same, 7, (0, 1))]
#[case(Keras, 10, (3, 4, 1), Same, 3, (0, 1))]
#[case(Keras, 10, (1, 3, 1), Same, 4, (0, 0))]
#[case(Keras, 8, (1, 4, 1), Same, 2, (0, 0))]
#[case(Keras, 7, (3, 1, 2), Same, 7, (2, 2))]
#[case(Keras, 7, (2, 1, 3), Same, 7, (1, 2))]
#[case(Keras, 5, (3, 1, 2), Causal, 5, (4, 0))]
#[case(Keras, 6, (2, 2, 1), Causal, 3, (1, 0))]
#[case(Onnx, 28, (3, 2, 1), Same, 14, (0, 1))]
#[case(Onnx, 28, (3, 2, 1), SameLower, 14, (1, 0))]
#[case(Onnx, 5, (4, 1, 1), Same, 5, (1, 2))]
#[case(Onnx, 5, (4, 1, 1), SameLower, 5, (2, 1))]
#[case(Onnx, 9, (3, 3, 2), Same, 3, (1, 1))]
#[case(Onnx, 7, (3, 2, 1), Explicit([(0, 1)]), 3, (0, 1))]
// PyTorch: left half of d * (k - 1), the rest right
#[case(PyTorch, 7, (2, 1, 3), Same, 7, (1, 2))]
#[case(PyTorch, 7, (4, 1, 1), Same, 7, (1, 2))]
#[case(PyTorch, 32, (5, 2, 1), Explicit([(2, 2)]), 16, (2, 2))]
#[case(PyTorch, 10, (3, 2, 2), Explicit([(1, 1)]), 4, (1, 1))]
#[case(PyTorch, 10, (3, 3, 1), Valid, 3, (0, 0))]
#[case(Native, 28, (3, 2, 1), SameLower, 14, (1, 0))]
#[case(Native, 4, (3, 1, 1), Full, 6, (2, 2))]
#[case(Native, 9, (3, 2, 2), Causal, 5, (4, 0))]
fn convolutions(
    #[case] rules: Rules,
    #[case] input: usize,
    #[case] numbers: (usize, usize, usize),
    #[case] padding: Padding<1>,
    #[case] output: usize,
    #[case] expected: (isize, isize),
) {
    let p = conv1(rules, input, numbers, padding).unwrap();
    assert_eq!((p.output(), p.padding()), ([output], [expected]));
}

fn transposed1(
    rules: Rules,
    input: usize,
    (kernel_size, stride, dilation): (usize, usize, usize),
    padding: Padding<1>,
    size: TransposedSize<1>,
) -> Result<ConvProblem<1>, Error> {
    let params = params([stride], [dilation], padding);
    rules.transposed(&[1, 2, input], &[2, 3, kernel_size], &params, &size)
}

const CHOSEN: TransposedSize<1> = TransposedSize {
    output_padding: None,
    output_shape: None,
};

fn op(output_padding: usize) -> TransposedSize<1> {
    TransposedSize {
        output_padding: Some([output_padding]),
        ..CHOSEN
    }
}

fn shape(output: usize) -> TransposedSize<1> {
    TransposedSize {
        output_shape: Some([output]),
        ..CHOSEN
    }
}

/// As above; the last two columns are the transposed output and its crop before and after.
#[rstest]
// (L - 1) s - p + ke + op
#[case(PyTorch, 14, (3, 2, 1), Valid, CHOSEN, 29, (0, 0))]
#[case(PyTorch, 14, (3, 2, 1), Explicit([(1, 1)]), op(1), 28, (1, 1))]
#[case(PyTorch, 3, (4, 2, 1), Explicit([(1, 1)]), CHOSEN, 6, (1, 1))]
#[case(PyTorch, 3, (3, 1, 2), Valid, op(1), 8, (0, 0))]
#[case(Native, 14, (3, 2, 1), Same, CHOSEN, 28, (0, 1))]
#[case(Native, 14, (3, 2, 1), SameLower, CHOSEN, 28, (1, 0))]
#[case(Native, 6, (3, 1, 1), Full, CHOSEN, 4, (2, 2))]
#[case(Native, 6, (3, 1, 1), Causal, CHOSEN, 6, (2, 0))]
// Keras without output_padding: same is L s, valid (L - 1) s + max(ke, s)
#[case(Keras, 14, (3, 2, 1), Same, CHOSEN, 28, (0, 1))]
#[case(Keras, 14, (3, 2, 1), Valid, CHOSEN, 29, (0, 0))]
#[case(Keras, 4, (5, 2, 1), Same, CHOSEN, 8, (1, 2))]
#[case(Keras, 3, (4, 2, 1), Same, CHOSEN, 6, (1, 1))]
#[case(Keras, 4, (2, 3, 1), Same, CHOSEN, 12, (0, -1))]
#[case(Keras, 4, (2, 3, 1), Valid, CHOSEN, 12, (0, -1))]
#[case(Keras, 4, (3, 1, 2), Same, CHOSEN, 4, (2, 2))]
#[case(Keras, 4, (3, 1, 2), Valid, CHOSEN, 8, (0, 0))]
// Keras with output_padding: same is (L - 1) s + ke % 2 + op
#[case(Keras, 14, (3, 2, 1), Same, op(1), 28, (0, 1))]
#[case(Keras, 14, (3, 2, 1), Same, op(0), 27, (1, 1))]
#[case(Keras, 3, (4, 2, 1), Same, op(0), 4, (2, 2))]
#[case(Keras, 4, (5, 2, 1), Same, op(1), 8, (1, 2))]
#[case(Keras, 2, (1, 3, 1), Same, op(2), 6, (0, -2))]
#[case(Keras, 14, (3, 2, 1), Valid, op(1), 30, (0, -1))]
// ONNX
#[case(Onnx, 3, (3, 3, 1), Explicit([(1, 1)]), CHOSEN, 7, (1, 1))]
#[case(Onnx, 3, (3, 2, 1), Explicit([(2, 2)]), CHOSEN, 3, (2, 2))]
#[case(Onnx, 3, (2, 1, 2), Valid, CHOSEN, 5, (0, 0))]
#[case(Onnx, 3, (3, 2, 1), Same, CHOSEN, 6, (0, 1))]
#[case(Onnx, 3, (3, 2, 1), SameLower, CHOSEN, 6, (1, 0))]
#[case(Onnx, 3, (1, 2, 1), Same, CHOSEN, 6, (-1, 0))]
#[case(Onnx, 3, (1, 2, 1), SameLower, CHOSEN, 6, (0, -1))]
#[case(Onnx, 3, (3, 3, 1), Valid, shape(7), 7, (1, 1))]
#[case(Onnx, 3, (3, 3, 1), Valid, shape(8), 8, (1, 0))]
#[case(Onnx, 3, (3, 3, 1), Same, shape(8), 8, (0, 1))]
// pads give way to output_shape
#[case(Onnx, 3, (3, 3, 1), Explicit([(0, 2)]), shape(8), 8, (1, 0))]
// the test of the standard whose crop is -1: begin 0, end -1; division that truncates is off by one
#[case(Onnx, 3, (3, 3, 1), Valid, shape(10), 10, (0, -1))]
#[case(Onnx, 3, (3, 2, 1), Valid, shape(8), 8, (0, -1))]
#[case(Onnx, 3, (3, 3, 1), Same, shape(10), 10, (-1, 0))]
#[case(Onnx, 3, (3, 3, 1), Valid, shape(12), 12, (-1, -2))]
fn transposed_convolutions(
    #[case] rules: Rules,
    #[case] input: usize,
    #[case] numbers: (usize, usize, usize),
    #[case] padding: Padding<1>,
    #[case] size: TransposedSize<1>,
    #[case] output: usize,
    #[case] crop: (isize, isize),
) {
    let p = transposed1(rules, input, numbers, padding, size).unwrap();
    assert_eq!((p.input(), p.padding()), ([output], [crop]));
    assert_eq!(p.output(), [input]);
    assert_eq!((p.x_shape()[1], p.y_shape()[1]), (3, 2));
}

/// ONNX counts output_padding into the size that output_shape crops.
#[test]
fn onnx_output_shape_with_output_padding() {
    let size = TransposedSize {
        output_padding: Some([1, 1]),
        output_shape: Some([10, 8]),
    };
    let params = params([3, 2], [1, 1], Valid);
    let p = Onnx
        .transposed(&[1, 1, 3, 3], &[1, 2, 3, 3], &params, &size)
        .unwrap();
    assert_eq!((p.input(), p.padding()), ([10, 8], [(0, 0); 2]));
}

#[track_caller]
fn assert_unsupported<T: std::fmt::Debug>(result: Result<T, Error>, mentions: &str) {
    match result.unwrap_err() {
        Error::Unsupported { what } => assert!(what.contains(mentions), "{what}"),
        other => panic!("not unsupported: {other:?}"),
    }
}

#[rstest]
#[case(PyTorch, SameLower)]
#[case(PyTorch, Full)]
#[case(PyTorch, Causal)]
#[case(Keras, SameLower)]
#[case(Keras, Full)]
#[case(Keras, Explicit([(1, 1)]))]
#[case(Onnx, Full)]
#[case(Onnx, Causal)]
fn paddings_that_a_framework_lacks(#[case] rules: Rules, #[case] padding: Padding<1>) {
    assert_unsupported(conv1(rules, 9, (3, 1, 1), padding), rules.name());
    assert_unsupported(
        transposed1(rules, 9, (3, 1, 1), padding, CHOSEN),
        rules.name(),
    );
    assert!(conv1(Native, 9, (3, 1, 1), padding).is_ok());
}

#[test]
fn pytorch_transposes_without_same() {
    assert_unsupported(transposed1(PyTorch, 9, (3, 1, 1), Same, CHOSEN), "pytorch");
    assert_unsupported(transposed1(Keras, 9, (3, 1, 1), Causal, CHOSEN), "keras");
}

#[test]
fn keras_is_causal_in_one_dimension() {
    let params = params([1, 1], [1, 1], Causal);
    let (x, w) = ([1, 2, 5, 5], [3, 2, 3, 3]);
    assert_unsupported(Keras.problem(&x, &w, &params), "keras");
}

#[rstest]
fn output_shape_is_onnx_alone(#[values(Native, PyTorch, Keras)] rules: Rules) {
    let result = transposed1(rules, 3, (3, 2, 1), Valid, shape(7));
    assert_unsupported(result, "output_shape");
}

#[rstest]
fn padding_modes_are_pytorch_alone(
    #[values(PaddingMode::Reflect, PaddingMode::Replicate, PaddingMode::Circular)]
    mode: PaddingMode,
) {
    let params = ConvParams {
        padding_mode: mode,
        ..params([1], [1], Same)
    };
    let (x, w) = ([1, 2, 5], [3, 2, 3]);
    assert_eq!(PyTorch.problem(&x, &w, &params).unwrap().output(), [5]);
    assert_eq!(
        Native.problem(&x, &w, &params).unwrap().padding_mode(),
        mode
    );
    assert_unsupported(Keras.problem(&x, &w, &params), mode.name());
    assert_unsupported(Onnx.problem(&x, &w, &params), mode.name());
    let (x, w) = ([1, 2, 5], [2, 3, 3]);
    for rules in [Native, PyTorch, Keras, Onnx] {
        let params = ConvParams {
            padding: Valid,
            ..params
        };
        let result = rules.transposed(&x, &w, &params, &CHOSEN);
        assert_unsupported(result, mode.name());
    }
}

#[test]
fn strides_that_a_framework_refuses() {
    let (x, w) = ([1, 2, 9, 9], [3, 2, 3, 3]);
    let same = params([1, 2], [1, 1], Same);
    let expected = GeometryError::SameNeedsUnitStride { stride: 2 };
    assert_eq!(reason(PyTorch.problem(&x, &w, &same)), (expected, 1));

    let both = params([1, 2], [2, 1], Valid);
    let expected = GeometryError::StrideWithDilation;
    assert_eq!(reason(Keras.problem(&x, &w, &both)), (expected, 1));
    let (up, wt) = ([1, 2, 9, 9], [2, 3, 3, 3]);
    let size = TransposedSize::default();
    assert_eq!(
        reason(Keras.transposed(&up, &wt, &both, &size)),
        (expected, 1)
    );
    for rules in [Native, PyTorch, Onnx] {
        assert!(rules.problem(&x, &w, &both).is_ok());
        assert!(rules.transposed(&up, &wt, &both, &size).is_ok());
    }
}

#[rstest]
fn empty_outputs_are_errors(#[values(Native, PyTorch, Keras, Onnx)] rules: Rules) {
    let expected = GeometryError::KernelTooLarge {
        extent: 5,
        padded: 4,
    };
    assert_eq!(reason(conv1(rules, 4, (3, 1, 2), Valid)), (expected, 0));
}

#[rstest]
fn output_padding_is_bounded(#[values(Native, PyTorch, Onnx)] rules: Rules) {
    let expected = GeometryError::OutputPadding {
        output_padding: 2,
        stride: 2,
        dilation: 1,
    };
    assert_eq!(
        reason(transposed1(rules, 4, (3, 2, 1), Valid, op(2))),
        (expected, 0)
    );
    assert!(transposed1(rules, 4, (3, 2, 3), Valid, op(2)).is_ok());
}
