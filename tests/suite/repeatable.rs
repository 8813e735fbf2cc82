//! The same bits twice, and on any number of threads.

use half::bf16;
use ndconv::{Element, Layout, Tensor, Write, ops};
use rstest::rstest;

use crate::case::{Case, conv};
use crate::data::{Random, elements, tensor};

/// The results of every operation on real numbers, whose sums depend on their order.
fn results<T: Element>(case: &Case, layout: Layout) -> Vec<Vec<T>> {
    let p = case.problem::<2>();
    let mut random = Random(11);
    let mut draw = |shape: &[usize]| -> Tensor<T> {
        tensor(shape, layout, &random.reals::<T>(elements(shape)))
    };
    let (x, w, dy) = (draw(&p.x_shape()), draw(&p.w_shape()), draw(&p.y_shape()));
    let mut dw = draw(&p.w_shape());
    ops::wgrad_into(&p, &x, &dy, &mut dw, Write::Accumulate).unwrap();
    [
        ops::fprop(&p, &x, &w, None).unwrap(),
        ops::dgrad(&p, &dy, &w, None).unwrap(),
        ops::wgrad(&p, &x, &dy, layout).unwrap(),
        dw,
        ops::bgrad(&dy).unwrap(),
    ]
    .iter()
    .map(|t| t.to_vec().unwrap())
    .collect()
}

fn check<T: Element>(case: &Case, layout: Layout) {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| results::<T>(case, layout))
    };
    let expected = on(1);
    assert!(
        on(1) == expected,
        "{} differs from one call to the next",
        T::DTYPE
    );
    for threads in [2, 3] {
        assert!(
            on(threads) == expected,
            "{} differs on {threads} threads",
            T::DTYPE
        );
    }
}

#[rstest]
fn the_same_bits(#[values(Layout::ChannelsFirst, Layout::ChannelsLast)] layout: Layout) {
    let pads = [(1, 1), (1, 2)];
    let cases = [
        conv((9, 17), &[23, 19], &[3, 3])
            .batch(3)
            .padding(&pads)
            .build(),
        conv((8, 8), &[31, 17], &[3, 5])
            .batch(1)
            .groups(8)
            .stride(&[2, 1])
            .build(),
        conv((1, 1), &[97, 89], &[3, 2]).batch(1).build(),
        conv((6, 5), &[7, 9], &[3, 3])
            .stride(&[2, 3])
            .transposed(&[1, 2]),
        conv((3, 4), &[9, 8], &[3, 3])
            .padding(&pads)
            .mode(ndconv::PaddingMode::Reflect)
            .build(),
    ];
    for case in &cases {
        check::<f32>(case, layout);
        check::<f64>(case, layout);
        check::<bf16>(case, layout);
    }
}

/// The engine keeps packed weights from the second call on, until they are written.
#[rstest]
fn kept_weights_are_those_of_the_tensor(
    #[values(Layout::ChannelsFirst, Layout::ChannelsLast)] layout: Layout,
    #[values(1, 3)] batch: usize,
) {
    let case = conv((40, 72), &[7, 9], &[3, 3])
        .batch(batch)
        .padding(&[(1, 1), (1, 1)])
        .build();
    let p = case.problem::<2>();
    let mut random = Random(3);
    let mut draw = |shape: &[usize]| -> Tensor<f32> {
        tensor(shape, layout, &random.reals::<f32>(elements(shape)))
    };
    let (x, mut w, dy) = (draw(&p.x_shape()), draw(&p.w_shape()), draw(&p.y_shape()));
    let both = |w: &Tensor<f32>| {
        let (y, dx) = (ops::fprop(&p, &x, w, None), ops::dgrad(&p, &dy, w, None));
        [y, dx].map(|t| t.unwrap().to_vec().unwrap())
    };
    let first = both(&w);
    for _ in 0..3 {
        assert!(both(&w) == first);
    }
    let doubled: Vec<f32> = w.to_vec().unwrap().iter().map(|v| 2.0 * v).collect();
    let copy = w.clone();
    w.overwrite(&doubled).unwrap();
    let second = first
        .clone()
        .map(|t| t.iter().map(|v| 2.0 * v).collect::<Vec<f32>>());
    for _ in 0..3 {
        assert!(both(&w) == second);
        assert!(both(&copy) == first);
    }
}
