//! Everything that is no convolution.

use half::{bf16, f16};
use ndconv::layer::Dense;
use ndconv::ops::{self, Activation};
use ndconv::optim::{Adam, Optimizer, Sgd};
use ndconv::{Device, Element, Layout, Padding, PoolParams, PoolProblem, Tensor, loss};

use super::{On, every_element, integers, same};

fn check_bgrad_and_layouts<T: Element>() {
    for (seed, shape) in [&[3, 5, 7][..], &[2, 37, 3, 41], &[2, 1, 4], &[4, 3]]
        .iter()
        .enumerate()
    {
        for layout in Layout::ALL {
            let x = integers::<T>(shape, layout, seed);
            same("bgrad", seed, 0.0, |on| ops::bgrad(&on.to(&x)).unwrap());
            for to in Layout::ALL {
                same("to_layout", seed, 0.0, |on| {
                    on.to(&x).to_layout(to).unwrap()
                });
            }
        }
    }
}

#[test]
fn bias_gradients_and_layout_changes() {
    every_element!(check_bgrad_and_layouts);
    let long = integers::<f32>(&[2, 3, 5000], Layout::ChannelsLast, 5);
    same("bgrad", 5, 0.0, |on| ops::bgrad(&on.to(&long)).unwrap());
}

/// Numbers at every edge of rounding, NaN and infinities among them.
fn reals<T: Element>(shape: &[usize], layout: Layout) -> Tensor<T> {
    // two NaN in one window: the first one takes it
    let edges = [
        0.0,
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NAN,
        f64::NEG_INFINITY,
        65519.9,
        65520.0,
    ];
    let more = [
        1.0 + 1.0 / 2048.0,
        3e38,
        -3.4e38,
        5.9e-8,
        1e-45,
        1.00390625,
        1e-7,
        1e300,
    ];
    let value = |i: usize| match i {
        0..8 => edges[i],
        8..16 => more[i - 8],
        _ => ((i * 7919 % 2003) as f64 - 1001.0) / 317.0,
    };
    let len: usize = shape.iter().product();
    let data = (0..len).map(|i| T::from_f64(value(i))).collect();
    let shape = layout.from_channels_first(shape);
    Tensor::from_vec(&shape, data).unwrap().with_layout(layout)
}

fn check_pointwise<T: Element>() {
    let cf = Layout::ChannelsFirst;
    let (x, dy) = (reals::<T>(&[3, 100], cf), integers::<T>(&[3, 100], cf, 4));
    // a unit in the last place, or two
    let close = [1e-2, 1e-6, 1e-14][size_of::<T>().ilog2() as usize - 1];
    let functions = [
        (Activation::Relu, 0.0),
        (Activation::LeakyRelu { slope: 0.3 }, 0.0),
        (Activation::Sigmoid, close),
        (Activation::Tanh, close),
    ];
    for (seed, (f, tolerance)) in functions.into_iter().enumerate() {
        let what = format!("{f:?} {}", T::DTYPE);
        same(&what, seed, tolerance, |on| {
            ops::activate(f, &on.to(&x)).unwrap()
        });
        same(&what, seed, tolerance, |on| {
            ops::activate_backward(f, &on.to(&x), &on.to(&dy)).unwrap()
        });
    }
    same("dropout", 0, 0.0, |on| {
        ops::dropout(&on.to(&dy), 0.3, 11).unwrap()
    });
    same("f16", 1, 0.0, |on| on.to(&x).cast::<f16>().unwrap());
    same("bf16", 1, 0.0, |on| on.to(&x).cast::<bf16>().unwrap());
    same("f32", 1, 0.0, |on| on.to(&x).cast::<f32>().unwrap());
    same("f64", 1, 0.0, |on| on.to(&x).cast::<f64>().unwrap());
    same("full", 1, 0.0, |on| {
        Tensor::full(&[2, 3], T::from_f64(1.5), on.0).unwrap()
    });
    for layout in Layout::ALL {
        let x = integers::<T>(&[2, 37, 3], layout, 1);
        let dy = integers::<T>(&[2, 37, 3], layout, 2);
        same("softmax", 1, close, |on| ops::softmax(&on.to(&x)).unwrap());
        same("softmax", 2, close, |on| {
            ops::softmax_backward(&on.to(&x), &on.to(&dy)).unwrap()
        });
    }
    let (logits, t) = (
        integers::<T>(&[5, 37], cf, 1),
        integers::<T>(&[5, 37], cf, 7),
    );
    let number = |value: f64, device: &Device| Tensor::full(&[1], value, device).unwrap();
    let classes = [0, 36, 5, 5, 31];
    let scored = |on: &On| loss::cross_entropy(&on.to(&logits), &classes).unwrap();
    same("cross_entropy", 0, close, |on| scored(on).1);
    same("cross_entropy", 1, 1e-12, |on| number(scored(on).0, on.0));
    let pairs = [
        loss::mean_squared_error::<T>,
        loss::binary_cross_entropy::<T>,
    ];
    for pair in pairs {
        same("pairs", 0, close, |on| {
            pair(&on.to(&logits), &on.to(&t)).unwrap().1
        });
        same("pairs", 1, 1e-12, |on| {
            number(pair(&on.to(&logits), &on.to(&t)).unwrap().0, on.0)
        });
    }
}

#[test]
fn pointwise_softmax_and_losses() {
    every_element!(check_pointwise);
}

fn check_pooling<T: Element>() {
    let mut params = PoolParams::new([3, 2]);
    (params.stride, params.dilation, params.ceil_mode) = ([2, 1], [1, 2], true);
    params.padding = Padding::Explicit([(1, 0), (0, 1)]);
    for (seed, count_include_pad) in [true, false].into_iter().enumerate() {
        params.count_include_pad = count_include_pad;
        let p = PoolProblem::<2>::new(&[2, 3, 8, 9], &params).unwrap();
        for layout in Layout::ALL {
            let dy = integers::<T>(&p.y_shape(), layout, 4);
            for x in [
                integers::<T>(&p.x_shape(), layout, seed),
                reals(&p.x_shape(), layout),
            ] {
                same("max_pool", seed, 0.0, |on| {
                    ops::max_pool(&p, &on.to(&x)).unwrap()
                });
                same("max_pool_backward", seed, 0.0, |on| {
                    ops::max_pool_backward(&p, &on.to(&x), &on.to(&dy)).unwrap()
                });
                same("avg_pool", seed, 0.0, |on| {
                    ops::avg_pool(&p, &on.to(&x)).unwrap()
                });
            }
            same("avg_pool_backward", seed, 0.0, |on| {
                ops::avg_pool_backward(&p, &on.to(&dy)).unwrap()
            });
        }
    }
}

#[test]
fn pooling_with_ties_and_nan() {
    every_element!(check_pooling);
}

fn check_steps<T: Element>() {
    let gradients = [1, 2, 3].map(|s| integers::<T>(&[5, 60], Layout::ChannelsFirst, s));
    let weight = integers::<T>(&[5, 60], Layout::ChannelsFirst, 4);
    let run = |on: &On, optimizer: &mut dyn Optimizer<T>| {
        let mut layer = Dense::with_weights(on.to(&weight), None).unwrap();
        for gradient in &gradients {
            optimizer.step(&mut layer, &[on.to(gradient)]).unwrap();
        }
        layer.weight().clone()
    };
    let sgd = || {
        Sgd::new(0.1)
            .unwrap()
            .momentum(0.9)
            .unwrap()
            .weight_decay(0.01)
            .unwrap()
    };
    same("sgd", 0, 0.0, |on| run(on, &mut sgd()));
    same("nesterov", 1, 0.0, |on| run(on, &mut sgd().nesterov()));
    same("adam", 2, 0.0, |on| run(on, &mut Adam::new(0.01).unwrap()));
    same("adamw", 3, 0.0, |on| {
        run(on, &mut Adam::decoupled(0.01, 0.1).unwrap())
    });
}

#[test]
fn optimiser_steps() {
    every_element!(check_steps);
}

/// Rows of a length, broadcast and summed as a forward pass and both gradients need it.
fn check_circular<T: Element>(length: usize, tolerance: f64) {
    let cf = Layout::ChannelsFirst;
    for (seed, [x, y]) in [[3, 1], [1, 5], [4, 4]].into_iter().enumerate() {
        let x = integers::<T>(&[x, length], cf, seed);
        let y = integers::<T>(&[y, length], cf, seed + 1);
        let rows = x.shape()[0].max(y.shape()[0]);
        let dz = integers::<T>(&[rows, length], cf, seed + 2);
        let name = |what| format!("{what} of {} {length}", T::DTYPE);
        // cancellation leaves errors of the size of the largest sums
        let scale = tolerance * length as f64;
        same(&name("convolve"), seed, scale, |on| {
            ops::circular_convolve(&on.to(&x), &on.to(&y)).unwrap()
        });
        same(&name("correlate"), seed, scale, |on| {
            ops::circular_correlate(&on.to(&x), &on.to(&y)).unwrap()
        });
        for which in 0..2 {
            same(&name("gradient"), seed, scale, |on| {
                let (x, y, dz) = (&on.to(&x), &on.to(&y), &on.to(&dz));
                let (dx, dy) = ops::circular_convolve_backward(x, y, dz).unwrap();
                if which == 0 { dx } else { dy }
            });
            same(&name("gradient"), seed, scale, |on| {
                let (x, y, dz) = (&on.to(&x), &on.to(&y), &on.to(&dz));
                let (dx, dy) = ops::circular_correlate_backward(x, y, dz).unwrap();
                if which == 0 { dx } else { dy }
            });
        }
    }
}

#[test]
fn circular_operations_directly() {
    for length in [1, 2, 7] {
        check_circular::<f32>(length, 0.0);
        check_circular::<f64>(length, 0.0);
        check_circular::<f16>(length, 0.0);
        check_circular::<bf16>(length, 0.0);
    }
    // the CPU transforms these
    check_circular::<f64>(100, 1e-13);
    check_circular::<f32>(1100, 1e-5);
}

#[test]
fn circular_operations_by_transforms() {
    for length in [64, 256, 1024] {
        check_circular::<f32>(length, 1e-5);
    }
    check_circular::<f64>(512, 1e-13);
    check_circular::<f16>(64, 1e-2);
    check_circular::<bf16>(64, 1e-1);
}

#[test]
fn a_filter_gradient_over_many_rows_is_summed_in_splits() {
    let cf = Layout::ChannelsFirst;
    let (x, w) = (
        integers::<f32>(&[150, 20], cf, 1),
        integers::<f32>(&[20], cf, 2),
    );
    for seed in 0..2 {
        same("filter gradient", seed, 0.0, |on| {
            let (x, w) = (on.to(&x), on.to(&w));
            ops::circular_correlate_backward(&w, &x, &x).unwrap().0
        });
    }
}
