//! Every algorithm against the definition, on small integers, whose sums are exact in any order.

use half::{bf16, f16};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod problems;

use super::naive;
use super::tiling::Rows;
use super::{dgrad_at, forward_roles, fprop_at, stencil, strides, wgrad_at};
use crate::cpu::simd::Level;
use crate::element::Element;
use crate::ops::{Layouts, Write};
use crate::problem::{ConvParams, ConvProblem, Padding};
use crate::shape::Layout;
use problems::{conv, grouped, larger};

/// Problems small enough for the definition, with everything that a geometry can have.
fn problem<const N: usize>(rng: &mut ChaCha8Rng) -> Option<ConvProblem<4>> {
    let budget = [24, 9, 6, 4][N - 1];
    let depthwise = rng.random_bool(0.3);
    let groups = rng.random_range(1..=if depthwise { 20 } else { 3 });
    let channels = if depthwise {
        1
    } else {
        rng.random_range(1..=7)
    };
    let out = rng.random_range(1..=if depthwise { 3 } else { 40 });
    let mut sizes = |range: std::ops::RangeInclusive<usize>| -> [usize; N] {
        std::array::from_fn(|_| rng.random_range(range.clone()))
    };
    let (input, kernel_size) = (sizes(1..=budget), sizes(1..=4));
    let (stride, dilation) = (sizes(1..=3), sizes(1..=2));
    let (lo, hi) = (sizes(0..=3), sizes(0..=3));
    let params = ConvParams {
        stride,
        dilation,
        groups,
        padding: Padding::Explicit(std::array::from_fn(|a| (lo[a], hi[a]))),
        ..ConvParams::default()
    };
    let output_padding = sizes(0..=1);
    let batch = rng.random_range(1..=3);
    let shape = |channels: usize, spatial: [usize; N]| [&[batch, channels][..], &spatial].concat();
    let w = [&[out * groups, channels][..], &kernel_size].concat();
    if rng.random_bool(0.5) {
        ConvProblem::new(&shape(channels * groups, input), &w, &params).ok()
    } else {
        let params = ConvParams {
            padding: if rng.random_bool(0.5) {
                Padding::Same
            } else {
                params.padding
            },
            ..params
        };
        ConvProblem::transposed(&shape(out * groups, input), &w, &params, output_padding).ok()
    }
    .map(|p| p.lift())
    .filter(|p| p.flops(crate::problem::Pass::Fprop) < 400_000)
}

fn integers<T: Element>(rng: &mut ChaCha8Rng, len: usize) -> Vec<T> {
    (0..len)
        .map(|_| T::from_f64(f64::from(rng.random_range(-2i32..=2))))
        .collect()
}

fn check<T: Element>(p: &ConvProblem<4>, level: Level, layouts: Layouts, rng: &mut ChaCha8Rng) {
    let elements = |shape: Vec<usize>| shape.iter().product::<usize>();
    let (nx, nw, ny) = (
        elements(p.x_shape()),
        elements(p.w_shape()),
        elements(p.y_shape()),
    );
    let (x, w, dy): (Vec<T>, Vec<T>, Vec<T>) =
        (integers(rng, nx), integers(rng, nw), integers(rng, ny));
    check_values(p, level, layouts, (&x, &w, &dy), rng);
    if nx > 3000 {
        return; // the definition is slow
    }
    let nan = T::from_f64(f64::NAN);
    let (mut bad_x, mut bad_dy) = (x.clone(), dy.clone());
    bad_x[rng.random_range(0..nx)] = nan;
    bad_dy[rng.random_range(0..ny)] = nan;
    // NaN reaches the results whose terms have it, and those alone
    let (mut got, mut expected) = (vec![nan; ny], vec![nan; ny]);
    fprop_at(
        level,
        p,
        layouts,
        (&bad_x, w[..].into(), None),
        &mut got,
        Write::Overwrite,
    )
    .unwrap();
    naive::fprop(
        p,
        layouts,
        &bad_x,
        &w,
        None,
        &mut expected,
        Write::Overwrite,
    );
    assert!(
        same(&got, &expected),
        "NaN fprop {level:?} {layouts:?} {p:?}"
    );
    let (mut got, mut expected) = (vec![nan; nx], vec![nan; nx]);
    dgrad_at(
        level,
        p,
        layouts,
        (&bad_dy, w[..].into(), None),
        &mut got,
        Write::Overwrite,
    )
    .unwrap();
    naive::dgrad(
        p,
        layouts,
        &bad_dy,
        &w,
        None,
        &mut expected,
        Write::Overwrite,
    );
    assert!(
        same(&got, &expected),
        "NaN dgrad {level:?} {layouts:?} {p:?}"
    );
    let (mut got, mut expected) = (vec![nan; nw], vec![nan; nw]);
    wgrad_at(level, p, layouts, (&bad_x, &dy), &mut got, Write::Overwrite).unwrap();
    naive::wgrad(p, layouts, &bad_x, &dy, &mut expected, Write::Overwrite);
    assert!(
        same(&got, &expected),
        "NaN wgrad {level:?} {layouts:?} {p:?}"
    );
}

fn same<T: Element>(got: &[T], expected: &[T]) -> bool {
    let mut pairs = got.iter().zip(expected);
    pairs.all(|(g, e)| g == e || g.to_f64().is_nan() && e.to_f64().is_nan())
}

fn check_values<T: Element>(
    p: &ConvProblem<4>,
    level: Level,
    layouts: Layouts,
    (x, w, dy): (&[T], &[T], &[T]),
    rng: &mut ChaCha8Rng,
) {
    let (nx, nw, ny) = (x.len(), w.len(), dy.len());
    let (write, bias) = (
        [Write::Overwrite, Write::Accumulate][rng.random_range(0..2)],
        rng.random_bool(0.5),
    );
    let biases = integers(rng, p.out_channels().max(p.in_channels()));
    let bias_of = |channels: usize| bias.then(|| &biases[..channels]);
    let old = |len: usize, rng: &mut ChaCha8Rng| match write {
        Write::Overwrite => vec![T::from_f64(f64::NAN); len],
        Write::Accumulate => integers(rng, len),
    };
    let context = format!(
        "{:?} {level:?} {layouts:?} {write:?} bias {bias} {p:?}",
        T::DTYPE
    );

    let mut got = old(ny, rng);
    let mut expected = got.clone();
    let operands = (x, w.into(), bias_of(p.out_channels()));
    fprop_at(level, p, layouts, operands, &mut got, write).unwrap();
    naive::fprop(p, layouts, x, w, operands.2, &mut expected, write);
    assert!(got == expected, "fprop {context}");

    let mut got = old(nx, rng);
    let mut expected = got.clone();
    let operands = (dy, w.into(), bias_of(p.in_channels()));
    dgrad_at(level, p, layouts, operands, &mut got, write).unwrap();
    naive::dgrad(p, layouts, dy, w, operands.2, &mut expected, write);
    assert!(got == expected, "dgrad {context}");

    let mut got = old(nw, rng);
    let mut expected = got.clone();
    wgrad_at(level, p, layouts, (x, dy), &mut got, write).unwrap();
    naive::wgrad(p, layouts, x, dy, &mut expected, write);
    assert!(got == expected, "wgrad {context}");
}

const LAYOUTS: [Layouts; 4] = {
    let [first, last] = Layout::ALL;
    const fn of(activation: Layout, weight: Layout) -> Layouts {
        Layouts { activation, weight }
    }
    [
        of(first, first),
        of(first, last),
        of(last, first),
        of(last, last),
    ]
};

#[test]
fn equals_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let levels = Level::available();
    for round in 0..240 {
        let p = match round % 4 {
            0 => problem::<1>(&mut rng),
            1 => problem::<2>(&mut rng),
            2 => problem::<3>(&mut rng),
            _ => problem::<4>(&mut rng),
        };
        let Some(p) = p else { continue };
        for layouts in LAYOUTS {
            let level = levels[rng.random_range(0..levels.len())];
            match rng.random_range(0..4) {
                0 => check::<f64>(&p, level, layouts, &mut rng),
                1 => check::<f16>(&p, level, layouts, &mut rng),
                2 => {
                    check::<bf16>(&p, level, layouts, &mut rng);
                    for level in pair_levels() {
                        check::<bf16>(&p, level, layouts, &mut rng);
                    }
                }
                _ => check::<f32>(&p, level, layouts, &mut rng),
            }
        }
    }
}

/// Those that multiply pairs of bf16, with a model of AMX where there is none.
fn pair_levels() -> Vec<Level> {
    let mut levels = Level::available();
    levels.retain(|level| level.paired().is_some());
    #[cfg(target_arch = "x86_64")]
    levels.extend(Level::amx().filter(|level| !levels.contains(level)));
    levels
}

#[test]
fn neighbouring_taps_are_one_run_in_either_pass() {
    let runs = |stride| {
        let p = conv([1, 8, 9, 20], [8, 8, 3, 3], stride, 1);
        let [_, weight, _] = strides(&p, LAYOUTS[3]);
        let passes = [stencil::fprop(&p, &weight), stencil::dgrad(&p, &weight)];
        passes.map(|stencils| stencils.iter().map(|s| s.run()).collect::<Vec<_>>())
    };
    assert_eq!(runs(1), [vec![3], vec![3]]);
    assert_eq!(runs(2), [vec![3], vec![1, 2, 1, 2]]);
}

#[test]
fn taps_by_columns_are_those_of_all_rows_of_a_column_first() {
    let by_columns = |kernel: [usize; 4]| {
        let p = conv([1, 1, 9, 20], kernel, 1, 1);
        let [_, weight, _] = strides(&p, LAYOUTS[3]);
        let stencil = stencil::fprop(&p, &weight)[0].by_columns()?;
        let offsets = stencil
            .taps
            .iter()
            .map(|tap| [tap.offset[3], tap.offset[2]]);
        Some((stencil.rows_beside, offsets.collect::<Vec<_>>()))
    };
    let columns = [[-1, -1], [-1, 0], [0, -1], [0, 0], [1, -1], [1, 0]];
    assert_eq!(by_columns([8, 1, 2, 3]), Some((2, columns.to_vec())));
    assert_eq!(by_columns([8, 1, 1, 3]), None);
    assert_eq!(by_columns([8, 1, 3, 1]), None);
}

#[test]
fn larger_problems_equal_the_definition() {
    equal_the_definition(larger());
}

#[test]
fn groups_equal_the_definition() {
    equal_the_definition(grouped());
}

fn equal_the_definition(problems: Vec<ConvProblem<4>>) {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for p in problems {
        for (i, layouts) in LAYOUTS.into_iter().enumerate() {
            let levels = Level::available();
            let level = levels[levels.len() - 1 - i % levels.len()];
            check::<f32>(&p, level, layouts, &mut rng);
        }
        check::<f64>(&p, Level::best(), LAYOUTS[0], &mut rng);
        check::<f16>(&p, Level::best(), LAYOUTS[0], &mut rng);
        for layouts in LAYOUTS {
            for level in pair_levels() {
                check::<bf16>(&p, level, layouts, &mut rng);
            }
        }
    }
}

/// At the first and the last rows some taps read outside of `x`, and others do not.
#[test]
fn a_nan_of_dy_reaches_the_taps_that_are_multiplied_by_it() {
    let layouts = LAYOUTS[3];
    let params = ConvParams {
        groups: 20,
        padding: Padding::uniform(1),
        ..ConvParams::default()
    };
    let p = ConvProblem::<2>::new(&[1, 20, 5, 6], &[20, 1, 3, 3], &params).unwrap();
    let p = p.lift();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for level in [Level::available(), pair_levels()].concat() {
        for row in 0..5 {
            nan_of_dy::<bf16>(&p, level, layouts, row, &mut rng);
            nan_of_dy::<f32>(&p, level, layouts, row, &mut rng);
        }
    }
}

fn nan_of_dy<T: Element>(
    p: &ConvProblem<4>,
    level: Level,
    layouts: Layouts,
    row: usize,
    rng: &mut ChaCha8Rng,
) {
    let len = |shape: Vec<usize>| shape.iter().product::<usize>();
    let x: Vec<T> = integers(rng, len(p.x_shape()));
    let mut dy: Vec<T> = integers(rng, len(p.y_shape()));
    // any channel of any column
    dy[row * 6 * 20 + rng.random_range(0..6 * 20)] = T::from_f64(f64::NAN);
    let [mut got, mut expected] = [(); 2].map(|()| vec![T::default(); len(p.w_shape())]);
    wgrad_at(level, p, layouts, (&x, &dy), &mut got, Write::Overwrite).unwrap();
    naive::wgrad(p, layouts, &x, &dy, &mut expected, Write::Overwrite);
    assert!(same(&got, &expected), "{level:?} row {row} {p:?}");
}

#[test]
fn bits_do_not_depend_on_threads() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for p in [larger(), grouped()].concat() {
        for layouts in LAYOUTS {
            bits_with_threads::<f32>(&p, layouts, &mut rng);
            bits_with_threads::<bf16>(&p, layouts, &mut rng);
        }
    }
}

fn bits_with_threads<T: Element>(p: &ConvProblem<4>, layouts: Layouts, rng: &mut ChaCha8Rng) {
    let mut values = |shape: Vec<usize>| -> Vec<T> {
        let len = shape.iter().product();
        let values = (0..len).map(|_| T::from_f64(rng.random_range(-1.0..1.0)));
        values.collect()
    };
    let [x, w, dy] = [p.x_shape(), p.w_shape(), p.y_shape()].map(&mut values);
    let results = [1, 2, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let (mut dx, mut dw, mut y) = (x.clone(), w.clone(), dy.clone());
            let (level, write) = (Level::best(), Write::Overwrite);
            let [forward, backward] = [&x, &dy].map(|source| (&source[..], w[..].into(), None));
            fprop_at(level, p, layouts, forward, &mut y, write).unwrap();
            dgrad_at(level, p, layouts, backward, &mut dx, write).unwrap();
            wgrad_at(level, p, layouts, (&x, &dy), &mut dw, write).unwrap();
            [y, dx, dw].map(|v| v.iter().map(|v| v.to_f64().to_bits()).collect::<Vec<_>>())
        })
    });
    assert!(
        results[0] == results[1] && results[1] == results[2],
        "{p:?}"
    );
}

/// Of `input` pixels a side, 64 channels and 3x3 taps, in register tiles of at most so many rows.
fn register_tiles(input: usize, most: usize) -> (Rows, f64) {
    let p = conv([2, 64, input, input], [64, 64, 3, 3], 1, 1);
    let last = Layout::ChannelsLast;
    let layouts = Layouts {
        activation: last,
        weight: last,
    };
    let [_, weight, _] = strides(&p, layouts);
    let stencils = stencil::fprop(&p, &weight);
    Rows::new(&forward_roles(&p, layouts), &stencils[0], most)
}

#[test]
fn register_tiles_leave_padding_out() {
    let ends = |line| Rows::Ends {
        line,
        before: 1,
        after: 1,
    };
    // of 3 taps along an axis one is outside at either end
    let outside = |size: f64| 2.0 / (3.0 * size);
    for (input, most, rows, left_out) in [
        (7, 14, Rows::Parts(7), outside(7.0)),
        (14, 14, ends(14), outside(14.0) * (1.0 + 12.0 / 14.0)),
        (28, 14, ends(28), outside(28.0) * (1.0 + 26.0 / 28.0)),
        // too long for a tile to have several lines, whole register tiles and not
        (56, 14, Rows::Following, outside(56.0)),
        (57, 14, Rows::Following, 0.0),
        // few registers
        (12, 6, Rows::Parts(6), outside(12.0)),
        (14, 6, Rows::Following, 0.0),
    ] {
        let got = register_tiles(input, most);
        assert_eq!(got.0, rows, "{input} {most}");
        assert!(
            (got.1 - left_out).abs() < 1e-12,
            "{input} {most}: {}",
            got.1
        );
    }
}
