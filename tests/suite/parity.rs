//! The three passes and the bias gradient against the oracle, in every layout and element type.

use half::{bf16, f16};
use ndconv::{ConvParams, ConvProblem, Padding, PaddingMode};
use ndconv::{Element, Layout, Rules, TransposedSize, Write, ops};
use proptest::prelude::*;

use crate::case::{Case, conv, named};
use crate::data::*;
use crate::oracle::{Oracle, OracleAxis, add_bias, bgrad};
use crate::random_case::any_case;

/// What the operands hold and how results are compared.
#[derive(Clone, Copy)]
enum Numbers {
    /// Whole numbers up to this magnitude; results must be the rounded exact ones.
    Integers(i64),
    /// Reals; results must be within the tolerance.
    Reals,
}

struct Operands {
    x: Vec<f64>,
    w: Vec<f64>,
    dy: Vec<f64>,
    x_bias: Vec<f64>,
    y_bias: Vec<f64>,
    /// What outputs hold before an accumulating call.
    prior: Vec<f64>,
}

impl Operands {
    fn new<T: Element>(o: &Oracle, numbers: Numbers, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut draw = |len| match numbers {
            Numbers::Integers(magnitude) => random.integers(len, magnitude),
            Numbers::Reals => random.reals::<T>(len),
        };
        let sizes = [o.x_shape(), o.w_shape(), o.y_shape()].map(|s| elements(&s));
        let [x, w, dy] = sizes.map(&mut draw);
        Operands {
            x,
            w,
            dy,
            x_bias: draw(o.in_channels),
            y_bias: draw(o.out_channels),
            prior: draw(sizes.into_iter().max().unwrap_or(0)),
        }
    }
}

/// What the oracle makes of the operands.
struct Expected {
    y: Vec<f64>,
    dx: Vec<f64>,
    dw: Vec<f64>,
}

struct Check<'a, T> {
    name: &'a str,
    terms: usize,
    numbers: Numbers,
    layouts: (Layout, Layout),
    element: std::marker::PhantomData<T>,
}

impl<T: Element> Check<'_, T> {
    #[track_caller]
    fn compare(&self, what: &str, got: &[f64], expected: &[f64]) {
        let (name, (activation, weight)) = (self.name, self.layouts);
        let what = format!("{what} of {name}, {}, x {activation}, w {weight}", T::DTYPE);
        match self.numbers {
            Numbers::Integers(_) => assert_same(&what, got, &rounded::<T>(expected)),
            Numbers::Reals => assert_close(&what, got, expected, tolerance(T::DTYPE, self.terms)),
        }
    }
}

fn plus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Every operation on one problem in one pair of layouts.
fn check_layouts<T: Element, const N: usize>(
    check: &Check<T>,
    p: &ConvProblem<N>,
    o: &Oracle,
    data: &Operands,
    expected: &Expected,
) {
    let (activation, weight) = check.layouts;
    let (xs, ws, ys) = (o.x_shape(), o.w_shape(), o.y_shape());
    let x = tensor::<T>(&xs, activation, &data.x);
    let w = tensor::<T>(&ws, weight, &data.w);
    let dy = tensor::<T>(&ys, activation, &data.dy);

    let mut y = poisoned(&ys, activation);
    ops::fprop_into(p, &x, &w, None, &mut y, Write::Overwrite).unwrap();
    check.compare("fprop", &values(&ys, &y), &expected.y);
    let mut dx = poisoned(&xs, activation);
    ops::dgrad_into(p, &dy, &w, None, &mut dx, Write::Overwrite).unwrap();
    check.compare("dgrad", &values(&xs, &dx), &expected.dx);
    let mut dw = poisoned(&ws, weight);
    ops::wgrad_into(p, &x, &dy, &mut dw, Write::Overwrite).unwrap();
    check.compare("wgrad", &values(&ws, &dw), &expected.dw);
    let dbias = ops::bgrad(&dy).unwrap().to_vec().unwrap();
    let dbias: Vec<_> = dbias.into_iter().map(T::to_f64).collect();
    check.compare("bgrad", &dbias, &bgrad(&ys, &data.dy));

    let bias = vector::<T>(&data.y_bias);
    let mut biased = expected.y.clone();
    add_bias(&ys, &mut biased, &data.y_bias);
    let y = ops::fprop(p, &x, &w, Some(&bias)).unwrap();
    check.compare("fprop + bias", &values(&ys, &y), &biased);
    let mut y = tensor(&ys, activation, &data.prior[..elements(&ys)]);
    ops::fprop_into(p, &x, &w, Some(&bias), &mut y, Write::Accumulate).unwrap();
    check.compare("fprop +=", &values(&ys, &y), &plus(&biased, &data.prior));

    let mut dx = tensor(&xs, activation, &data.prior[..elements(&xs)]);
    ops::dgrad_into(p, &dy, &w, None, &mut dx, Write::Accumulate).unwrap();
    check.compare(
        "dgrad +=",
        &values(&xs, &dx),
        &plus(&expected.dx, &data.prior),
    );
    if o.mode == ndconv::PaddingMode::Zeros {
        let bias = vector::<T>(&data.x_bias);
        let mut biased = expected.dx.clone();
        add_bias(&xs, &mut biased, &data.x_bias);
        let dx = ops::dgrad(p, &dy, &w, Some(&bias)).unwrap();
        check.compare("dgrad + bias", &values(&xs, &dx), &biased);
    }
    let mut dw = tensor(&ws, weight, &data.prior[..elements(&ws)]);
    ops::wgrad_into(p, &x, &dy, &mut dw, Write::Accumulate).unwrap();
    check.compare(
        "wgrad +=",
        &values(&ws, &dw),
        &plus(&expected.dw, &data.prior),
    );
}

fn check_problem<T: Element, const N: usize>(
    name: &str,
    p: &ConvProblem<N>,
    o: &Oracle,
    terms: usize,
    numbers: Numbers,
    layouts: &[(Layout, Layout)],
) {
    let data = Operands::new::<T>(o, numbers, 7);
    let expected = Expected {
        y: o.fprop(&data.x, &data.w),
        dx: o.dgrad(&data.dy, &data.w),
        dw: o.wgrad(&data.x, &data.dy),
    };
    for &layouts in layouts {
        let check = Check::<T> {
            name,
            terms,
            numbers,
            layouts,
            element: std::marker::PhantomData,
        };
        check_layouts(&check, p, o, &data, &expected);
    }
}

const FIRST: Layout = Layout::ChannelsFirst;
const LAST: Layout = Layout::ChannelsLast;
const ALL_LAYOUTS: [(Layout, Layout); 4] =
    [(FIRST, FIRST), (FIRST, LAST), (LAST, FIRST), (LAST, LAST)];

fn check<T: Element>(name: &str, case: &Case, numbers: Numbers, layouts: &[(Layout, Layout)]) {
    let (o, terms) = (&case.oracle, case.terms());
    match case.rank() {
        1 => check_problem::<T, 1>(name, &case.problem(), o, terms, numbers, layouts),
        2 => check_problem::<T, 2>(name, &case.problem(), o, terms, numbers, layouts),
        3 => check_problem::<T, 3>(name, &case.problem(), o, terms, numbers, layouts),
        _ => check_problem::<T, 4>(name, &case.problem(), o, terms, numbers, layouts),
    }
}

fn check_types(name: &str, case: &Case, numbers: Numbers, layouts: &[(Layout, Layout)]) {
    check::<f64>(name, case, numbers, layouts);
    check::<f32>(name, case, numbers, layouts);
    check::<f16>(name, case, numbers, layouts);
    check::<bf16>(name, case, numbers, layouts);
}

#[test]
fn integers_are_exact() {
    for (name, case) in named() {
        // sums stay within the 256 that bf16 counts to, so that rounding twice is seen nowhere
        let numbers = Numbers::Integers(if case.terms() > 64 { 1 } else { 2 });
        check_types(name, &case, numbers, &ALL_LAYOUTS);
    }
}

#[test]
fn reals_are_within_tolerance() {
    for (name, case) in named() {
        check_types(name, &case, Numbers::Reals, &ALL_LAYOUTS);
    }
}

/// Sums past what the narrow types count exactly: a result is the exact sum rounded once.
#[test]
fn long_sums_are_rounded_once() {
    let case = conv((20, 12), &[9, 8], &[3, 3])
        .padding(&[(1, 1), (1, 1)])
        .build();
    check_types("long sums", &case, Numbers::Integers(12), &ALL_LAYOUTS);
    let folded = conv((20, 12), &[9, 8], &[3, 3])
        .padding(&[(1, 1), (1, 1)])
        .mode(PaddingMode::Circular)
        .build();
    check_types(
        "long folded sums",
        &folded,
        Numbers::Integers(12),
        &ALL_LAYOUTS,
    );
}

/// Sizes that no blocking divides: every tile of an engine meets its remainder.
#[test]
fn ragged_sizes() {
    let cases = [
        conv((33, 65), &[9, 7], &[3, 3])
            .batch(3)
            .padding(&[(1, 1), (1, 1)])
            .build(),
        conv((65, 33), &[13], &[5]).batch(3).stride(&[2]).build(),
        conv((7, 5), &[37, 41], &[3, 3])
            .batch(3)
            .padding(&[(1, 0), (2, 1)])
            .build(),
        conv((5, 9), &[37, 41], &[5, 3])
            .batch(1)
            .stride(&[2, 3])
            .dilation(&[3, 2])
            .build(),
        conv((34, 66), &[11, 5], &[2, 2])
            .groups(2)
            .transposed(&[0, 0]),
        conv((33, 17), &[6, 7], &[3, 3])
            .stride(&[2, 2])
            .padding(&[(1, 1), (1, 1)])
            .transposed(&[1, 1]),
        conv((67, 35), &[7, 9], &[1, 1]).batch(3).build(),
        conv((65, 65), &[10, 11], &[3, 3])
            .groups(65)
            .padding(&[(1, 1), (1, 1)])
            .build(),
        conv((9, 17), &[5, 7, 6], &[3, 2, 3])
            .padding(&[(1, 1), (0, 1), (1, 1)])
            .build(),
        conv((1, 1), &[4097], &[9])
            .batch(1)
            .padding(&[(4, 4)])
            .build(),
    ];
    for case in &cases {
        let name = format!("{:?} * {:?}", case.oracle.x_shape(), case.oracle.w_shape());
        check::<f64>(&name, case, Numbers::Integers(3), &ALL_LAYOUTS[..1]);
        check::<f32>(&name, case, Numbers::Integers(3), &ALL_LAYOUTS);
        check::<f32>(&name, case, Numbers::Reals, &[(FIRST, FIRST), (LAST, LAST)]);
        check::<bf16>(&name, case, Numbers::Integers(1), &[(LAST, LAST)]);
        check::<f16>(&name, case, Numbers::Reals, &[(FIRST, LAST)]);
    }
}

/// All remainders at once on one larger image.
#[test]
fn a_larger_image() {
    let case = conv((33, 65), &[37, 41], &[3, 3])
        .batch(1)
        .padding(&[(1, 1), (1, 1)])
        .build();
    check::<f32>(
        "larger",
        &case,
        Numbers::Integers(3),
        &[(FIRST, FIRST), (LAST, LAST)],
    );
}

/// Crops with a negative side exist in ONNX alone; the oracle drops and adds the same positions.
#[test]
fn negative_crops() {
    let params = ConvParams {
        stride: [3, 2],
        ..ConvParams::default()
    };
    // full output 9 x 7; ONNX crops (0, -1) to 10 and (2, 1) to 4
    let crops = [((0, -1), 10), ((2, 1), 4)];
    let size = TransposedSize {
        output_shape: Some([10, 4]),
        ..TransposedSize::default()
    };
    let p = Rules::Onnx
        .transposed(&[2, 3, 3, 3], &[3, 2, 3, 3], &params, &size)
        .unwrap();
    let axis = |a: usize| OracleAxis {
        input: crops[a].1,
        kernel_size: 3,
        output: 3,
        stride: params.stride[a],
        dilation: 1,
        padding: crops[a].0,
    };
    let o = Oracle {
        batch: 2,
        in_channels: 2,
        out_channels: 3,
        groups: 1,
        mode: ndconv::PaddingMode::Zeros,
        axes: vec![axis(0), axis(1)],
    };
    check_problem::<f64, 2>(
        "negative crop",
        &p,
        &o,
        0,
        Numbers::Integers(9),
        &ALL_LAYOUTS,
    );
    check_problem::<f32, 2>(
        "negative crop",
        &p,
        &o,
        0,
        Numbers::Integers(9),
        &ALL_LAYOUTS,
    );

    let params = ConvParams {
        padding: Padding::Same,
        stride: [4],
        ..ConvParams::default()
    };
    let size = TransposedSize::default();
    let p = Rules::Keras
        .transposed(&[2, 3, 5], &[3, 2, 1], &params, &size)
        .unwrap();
    let o = Oracle {
        axes: vec![OracleAxis {
            input: 20,
            kernel_size: 1,
            output: 5,
            stride: 4,
            dilation: 1,
            padding: (0, -3),
        }],
        ..o
    };
    check_problem::<f32, 1>("keras same", &p, &o, 0, Numbers::Integers(9), &ALL_LAYOUTS);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_problems((layout, case) in (0..4usize, (1..=4usize).prop_flat_map(any_case))) {
        let layouts = &ALL_LAYOUTS[layout..=layout];
        // at most 3 * 3^4 products of at most 1: bf16 counts to 256
        check_types("random", &case, Numbers::Integers(1), layouts);
        check::<f32>("random", &case, Numbers::Reals, layouts);
    }
}
