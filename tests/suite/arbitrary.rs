//! Any numbers at all, the ends of their range above all: every constructor returns, and what it
//! returns can be read.

use ndconv::{Axis, ConvParams, ConvProblem, Padding, PaddingMode, Pass};
use ndconv::{PoolParams, PoolProblem, Rules, TransposedSize};
use proptest::prelude::*;

const MAX: usize = usize::MAX;
const SIGN: usize = 1 << (usize::BITS - 1);

fn number() -> impl Strategy<Value = usize> {
    let edges = [
        MAX,
        MAX - 1,
        MAX / 2 + 2,
        SIGN,
        SIGN - 1,
        SIGN / 2,
        (1 << 32) + 1,
        1 << 32,
        (1 << 32) - 1,
        1 << 31,
        MAX / 3,
    ];
    prop_oneof![
        6 => 0..=5usize,
        2 => prop::sample::select(edges.to_vec()),
        1 => any::<usize>(),
    ]
}

fn signed() -> impl Strategy<Value = isize> {
    let edges = [isize::MIN, isize::MIN + 1, isize::MAX, isize::MAX - 1];
    prop_oneof![3 => -5..=5isize, 1 => prop::sample::select(edges.to_vec()), 1 => any::<isize>()]
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        4 => prop::collection::vec(number(), 4),
        1 => prop::collection::vec(number(), 0..8),
    ]
}

fn padding() -> impl Strategy<Value = Padding<2>> {
    use Padding::{Causal, Full, Same, SameLower, Valid};
    let explicit = prop::array::uniform2((number(), number())).prop_map(Padding::Explicit);
    let named = prop::sample::select(vec![Valid, Same, SameLower, Full, Causal]);
    prop_oneof![explicit, named]
}

fn mode() -> impl Strategy<Value = PaddingMode> {
    use PaddingMode::{Circular, Reflect, Replicate, Zeros};
    prop::sample::select(vec![Zeros, Zeros, Reflect, Replicate, Circular])
}

fn params() -> impl Strategy<Value = ConvParams<2>> {
    let pairs = (
        prop::array::uniform2(number()),
        prop::array::uniform2(number()),
    );
    (pairs, padding(), number(), mode()).prop_map(
        |((stride, dilation), padding, groups, padding_mode)| ConvParams {
            stride,
            padding,
            dilation,
            groups,
            padding_mode,
        },
    )
}

/// Reads everything that a valid problem offers.
fn read<const N: usize>(p: &ConvProblem<N>, number: usize) {
    for shape in [p.x_shape(), p.w_shape(), p.y_shape()] {
        let elements = shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s));
        assert!(elements.is_some_and(|n| n >= 1), "{p:?}");
    }
    for pass in Pass::ALL {
        p.flops(pass);
        p.bytes(pass, number);
    }
    for (a, axis) in p.axes().iter().enumerate() {
        let last = (axis.output - 1, axis.kernel_size - 1);
        assert!(axis.padded() >= 1 || axis.padding.0 < 0 || axis.padding.1 < 0);
        let index = p.input_index(a, last.0, last.1);
        assert!(index.is_none_or(|i| i < axis.input), "{p:?}");
        p.input_index(a, number, number);
        assert!(axis.input_index(0, 0).is_none_or(|i| i < axis.input));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_convolutions(x in shape(), w in shape(), params in params(), n in number()) {
        for rules in [Rules::Native, Rules::PyTorch, Rules::Keras, Rules::Onnx] {
            if let Ok(p) = rules.problem::<2>(&x, &w, &params) {
                read(&p, n);
            }
        }
    }

    #[test]
    fn arbitrary_transposed_convolutions(
        x in shape(),
        w in shape(),
        params in params(),
        output_padding in prop::option::of(prop::array::uniform2(number())),
        output_shape in prop::option::of(prop::array::uniform2(number())),
    ) {
        let size = TransposedSize { output_padding, output_shape };
        for rules in [Rules::Native, Rules::PyTorch, Rules::Keras, Rules::Onnx] {
            if let Ok(p) = rules.transposed(&x, &w, &params, &size) {
                read(&p, 2);
            }
        }
    }

    #[test]
    fn arbitrary_poolings(x in shape(), c in params(), kernel_size in prop::array::uniform2(number()), ceil_mode: bool) {
        let params = PoolParams {
            kernel_size,
            stride: c.stride,
            padding: c.padding,
            dilation: c.dilation,
            ceil_mode,
            count_include_pad: true,
        };
        if let Ok(p) = PoolProblem::new(&x, &params) {
            prop_assert_eq!(p.x_shape(), x);
            prop_assert!(p.y_shape().iter().all(|&s| s > 0));
        }
    }

    #[test]
    fn arbitrary_axes(
        (input, k, s, d) in (number(), number(), number(), number()),
        pad in (signed(), signed()),
        (o, t, op) in (number(), number(), number()),
    ) {
        for axis in [Axis::new(input, k, s, d, pad), Axis::transposed(input, k, s, d, pad, op)] {
            let Ok(axis) = axis else { continue };
            prop_assert!(axis.output >= 1 && axis.input >= 1);
            axis.padded();
            axis.extent();
            axis.position(axis.output - 1, axis.kernel_size - 1);
            axis.input_index(o, t);
            for mode in [PaddingMode::Reflect, PaddingMode::Replicate, PaddingMode::Circular] {
                prop_assert!(mode.source(pad.0, input).is_none_or(|i| i < input));
            }
        }
    }
}
