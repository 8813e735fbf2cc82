//! Numbers that make no sense come back as typed errors: never a panic, a wrapped product or an
//! allocation. Only descriptions are built here, so huge valid geometries cost nothing.

use ndconv::{Axis, ConvParams, ConvProblem, Error, GeometryError, Padding, PaddingMode};
use ndconv::{Pass, PoolParams, PoolProblem};
use rstest::rstest;

use crate::geometry::reason;

const MAX: usize = usize::MAX;
const SIGN: usize = 1 << (usize::BITS - 1);

#[track_caller]
fn shape_error<T: std::fmt::Debug>(result: Result<T, Error>) -> (String, String, String) {
    match result.unwrap_err() {
        Error::Shape {
            what,
            expected,
            got,
        } => (what, expected, got),
        other => panic!("not a shape error: {other:?}"),
    }
}

fn conv2(x: &[usize], w: &[usize], groups: usize) -> Result<ConvProblem<2>, Error> {
    ConvProblem::new(
        x,
        w,
        &ConvParams {
            groups,
            ..ConvParams::default()
        },
    )
}

fn transposed2(x: &[usize], w: &[usize], groups: usize) -> Result<ConvProblem<2>, Error> {
    let params = ConvParams {
        groups,
        ..ConvParams::default()
    };
    ConvProblem::transposed(x, w, &params, [0, 0])
}

#[rstest]
#[case(&[], "4 axes", "0 axes")]
#[case(&[3, 4], "(batch, channels, height, width)", "add a batch and a channel axis")]
#[case(&[1, 3, 4], "4 axes", "add a channel axis")]
#[case(&[1, 1, 2, 3, 4], "4 axes", "5 axes")]
fn wrong_ranks(#[case] x: &[usize], #[case] expects: &str, #[case] says: &str) {
    let (what, expected, got) = shape_error(conv2(x, &[1, 1, 1, 1], 1));
    assert_eq!(what, "conv2d");
    assert!(expected.contains(expects), "{expected}");
    assert!(got.contains(says), "{got}");
    assert_eq!(
        shape_error(transposed2(x, &[1, 1, 1, 1], 1)).0,
        "conv_transpose2d"
    );
    assert_eq!(shape_error(conv2(&[1, 1, 4, 4], x, 1)).0, "conv2d weight");
    assert_eq!(
        shape_error(PoolProblem::new(x, &PoolParams::new([1, 1]))).0,
        "pool2d"
    );
}

/// Every rank says which axes it wants.
#[test]
fn ranks_name_their_axes() {
    fn message<const N: usize>() -> String {
        let params = ConvParams::<N>::default();
        ConvProblem::new(&[1], &[1], &params)
            .unwrap_err()
            .to_string()
    }
    assert!(message::<1>().contains("conv1d: expected 3 axes (batch, channels, length)"));
    assert!(message::<2>().contains("conv2d: expected 4 axes (batch, channels, height, width)"));
    assert!(message::<3>().contains("conv3d: expected 5 axes"));
    assert!(message::<4>().contains("conv4d: expected 6 axes"));
}

#[rstest]
#[case([0, 2, 4, 4], [2, 2, 1, 1], "x")]
#[case([1, 0, 4, 4], [2, 2, 1, 1], "x")]
#[case([1, 2, 4, 4], [0, 2, 1, 1], "w")]
#[case([1, 2, 4, 4], [2, 0, 1, 1], "w")]
fn empty_batches_and_channels(#[case] x: [usize; 4], #[case] w: [usize; 4], #[case] tensor: &str) {
    assert_eq!(shape_error(conv2(&x, &w, 1)).0, tensor);
    assert_eq!(shape_error(transposed2(&x, &w, 1)).0, tensor);
}

#[rstest]
#[case([1, 3, 4, 4], [2, 2, 1, 1], 1, "x")] // 3 channels for a weight of 2
#[case([1, 4, 4, 4], [4, 4, 1, 1], 2, "x")] // groups forgotten in the weight
#[case([1, 4, 4, 4], [3, 2, 1, 1], 2, "conv2d")] // 3 outputs in 2 groups
#[case([1, 2, 4, 4], [2, SIGN + 1, 1, 1], 2, "x")] // the product wraps to the right number
#[case([1, 2, 4, 4], [4, SIGN, 1, 1], 4, "x")] // the product wraps to 0
fn channels_that_do_not_match(
    #[case] x: [usize; 4],
    #[case] w: [usize; 4],
    #[case] groups: usize,
    #[case] what: &str,
) {
    assert_eq!(shape_error(conv2(&x, &w, groups)).0, what);
}

#[rstest]
#[case([1, 3, 4, 4], [2, 2, 1, 1], 1, "x")]
#[case([1, 3, 4, 4], [3, 2, 1, 1], 2, "conv_transpose2d")]
fn transposed_channels_that_do_not_match(
    #[case] x: [usize; 4],
    #[case] w: [usize; 4],
    #[case] groups: usize,
    #[case] what: &str,
) {
    assert_eq!(shape_error(transposed2(&x, &w, groups)).0, what);
}

#[test]
fn no_groups() {
    for result in [conv2(&[1; 4], &[1; 4], 0), transposed2(&[1; 4], &[1; 4], 0)] {
        let error = result.unwrap_err();
        assert!(
            matches!(error, Error::Argument { name: "groups", .. }),
            "{error:?}"
        );
    }
}

#[track_caller]
fn too_large<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result.unwrap_err() {
        Error::TooLarge { what, .. } => what,
        other => panic!("not too large: {other:?}"),
    }
}

#[test]
fn products_past_the_address_space() {
    // 2^63 elements in x
    assert_eq!(
        too_large(conv2(&[1 << 20, 1, 1 << 21, 1 << 22], &[1, 1, 1, 1], 1)),
        "x"
    );
    // exactly 2^64, which wraps to 0
    assert_eq!(
        too_large(conv2(&[1 << 32, 1, 1 << 16, 1 << 16], &[1, 1, 1, 1], 1)),
        "x"
    );
    assert_eq!(
        too_large(conv2(&[1, 1 << 30, 1, 1], &[1 << 31, 1 << 30, 1, 1], 1)),
        "w"
    );
    assert_eq!(
        too_large(conv2(&[1 << 31, 1, 1, 1], &[1 << 31, 1, 1, 1], 1)),
        "y"
    );
    assert_eq!(
        too_large(transposed2(&[1, 2, 1, 1], &[2, MAX, 1, 1], 2)),
        "w"
    );
    let up = transposed2(&[1, 1, 1 << 31, 1 << 31], &[1, 1, 1, 1], 1);
    assert_eq!(too_large(up), "x");
    let pool = PoolProblem::<2>::new(&[1 << 31, 1, 1 << 31, 1], &PoolParams::new([1, 1]));
    assert_eq!(too_large(pool), "x");

    let params = ConvParams {
        padding: Padding::Explicit([(1 << 61, 0)]),
        padding_mode: PaddingMode::Replicate,
        stride: [1 << 60],
        ..ConvParams::default()
    };
    let padded = ConvProblem::<1>::new(&[1, 1, 4], &[1, 1, 1], &params);
    assert_eq!(too_large(padded), "the padded x");
}

/// Large but honest: 2^59 bytes that nobody allocates.
#[test]
fn a_huge_valid_geometry() {
    let p = conv2(&[1, 1, 1 << 28, 1 << 28], &[1, 1, 3, 3], 1).unwrap();
    assert_eq!(p.output(), [(1 << 28) - 2; 2]);
    assert_eq!(p.flops(Pass::Wgrad), 18 * ((1u64 << 28) - 2).pow(2));
    assert_eq!(p.input_index(1, (1 << 28) - 3, 2), Some((1 << 28) - 1));
}

fn axis1(
    input: usize,
    k: usize,
    s: usize,
    d: usize,
    pad: (usize, usize),
) -> Result<ConvProblem<1>, Error> {
    let params = ConvParams {
        stride: [s],
        dilation: [d],
        padding: Padding::Explicit([pad]),
        ..ConvParams::default()
    };
    ConvProblem::new(&[1, 1, input], &[1, 1, k], &params)
}

#[rstest]
#[case(4, MAX, 1, 1, (0, 0))] // the extent is past isize
#[case(4, 3, 1, SIGN, (0, 0))] // 2 * 2^63 wraps to 0
#[case(4, 2, 1, MAX, (0, 0))]
#[case(4, 1, 1, 1, (MAX, 0))]
#[case(4, 1, 1, 1, (0, SIGN))]
#[case(4, 1, 1, 1, (SIGN - 1, SIGN - 1))] // the sum wraps to 2
#[case(MAX, 1, 1, 1, (0, 0))]
#[case(SIGN, 1, 1, 1, (0, 0))]
#[case(4, 1, MAX, 1, (0, 0))]
fn overflowing_axes(
    #[case] input: usize,
    #[case] k: usize,
    #[case] s: usize,
    #[case] d: usize,
    #[case] pad: (usize, usize),
) {
    assert_eq!(
        reason(axis1(input, k, s, d, pad)),
        (GeometryError::Overflow, 0)
    );
}

/// A stride past the input leaves one window, however long it is.
#[test]
fn a_huge_stride() {
    for stride in [5, 1 << 40, SIGN / 2] {
        assert_eq!(axis1(4, 2, stride, 1, (1, 0)).unwrap().output(), [1]);
    }
}

#[test]
fn the_axis_at_fault_is_named() {
    for axis in 0..4 {
        let mut x = [1, 1, 8, 8, 8, 8];
        x[2 + axis] = 2;
        let result = ConvProblem::<4>::new(&x, &[1, 1, 3, 3, 3, 3], &ConvParams::default());
        let expected = GeometryError::KernelTooLarge {
            extent: 3,
            padded: 2,
        };
        assert_eq!(reason(result), (expected, axis));

        let mut stride = [1; 4];
        stride[axis] = 0;
        let params = ConvParams {
            stride,
            ..ConvParams::default()
        };
        let expected = GeometryError::Zero { what: "the stride" };
        let result = ConvProblem::<4>::new(&[1, 1, 8, 8, 8, 8], &[1, 1, 3, 3, 3, 3], &params);
        assert_eq!(reason(result), (expected, axis));
        let result = ConvProblem::transposed(&[1; 6], &[1; 6], &params, [0; 4]);
        assert_eq!(reason(result), (expected, axis));
        let mut params = PoolParams::new([2; 4]);
        params.stride[axis] = 0;
        assert_eq!(
            reason(PoolProblem::new(&[1, 1, 8, 8, 8, 8], &params)),
            (expected, axis)
        );
    }
}

/// Public arithmetic on the axis type is total: numbers that no problem holds do not panic.
#[test]
fn accessors_are_total() {
    let mut axis = Axis::new(8, 3, 2, 1, (1, 1)).unwrap();
    assert_eq!(axis.input_index(MAX, MAX), None);
    assert_eq!(axis.input_index(SIGN, 0), None);
    axis.position(MAX, 1);
    axis.kernel_size = 0;
    axis.extent();
    (axis.kernel_size, axis.dilation) = (MAX, MAX);
    axis.extent();
    (axis.input, axis.padding) = (MAX, (isize::MIN, isize::MIN));
    axis.padded();
    axis.position(1, 1);
    assert_eq!(PaddingMode::Replicate.source(-1, 0), None);
    assert_eq!(PaddingMode::Replicate.source(isize::MAX, 4), Some(3));
    for mode in [
        PaddingMode::Zeros,
        PaddingMode::Reflect,
        PaddingMode::Circular,
    ] {
        for position in [isize::MIN, isize::MAX, -9, 9] {
            assert_eq!(mode.source(position, 4), None, "{mode:?} {position}");
        }
    }
}
