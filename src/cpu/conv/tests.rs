//! Every algorithm against the definition, on small integers, whose sums are exact in any order.

use half::{bf16, f16};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::naive;
use super::{dgrad_at, fprop_at, wgrad_at};
use crate::cpu::simd::Level;
use crate::element::Element;
use crate::ops::{Layouts, Write};
use crate::problem::{ConvParams, ConvProblem, Padding};
use crate::shape::Layout;

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
    let operands = (&x[..], &w[..], bias_of(p.out_channels()));
    fprop_at(level, p, layouts, operands, &mut got, write).unwrap();
    naive::fprop(p, layouts, &x, &w, operands.2, &mut expected, write);
    assert!(got == expected, "fprop {context}");

    let mut got = old(nx, rng);
    let mut expected = got.clone();
    let operands = (&dy[..], &w[..], bias_of(p.in_channels()));
    dgrad_at(level, p, layouts, operands, &mut got, write).unwrap();
    naive::dgrad(p, layouts, &dy, &w, operands.2, &mut expected, write);
    assert!(got == expected, "dgrad {context}");

    let mut got = old(nw, rng);
    let mut expected = got.clone();
    wgrad_at(level, p, layouts, (&x, &dy), &mut got, write).unwrap();
    naive::wgrad(p, layouts, &x, &dy, &mut expected, write);
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
    for round in 0..600 {
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
                2 => check::<bf16>(&p, level, layouts, &mut rng),
                _ => check::<f32>(&p, level, layouts, &mut rng),
            }
        }
    }
}
