//! Batched circular correlation: one vector against a batch, batch against batch, and gradients.
//!
//! `benches/peers/scipy_signal.py` times the same sizes beside SciPy.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::{Array1, Array2};
use ndconv::Element;
use ndconv::init::Rng;
use ndconv::signal::{
    Circular, CircularMethod, Real, Smear, Smearing, circular_correlate, circular_correlate_vjp,
};

const ROWS: usize = 4096;

fn rows<R: Real>(rows: usize, length: usize, seed: u64) -> Array2<R> {
    let mut rng = Rng::new(seed);
    Array2::from_shape_simple_fn((rows, length), || <R as Element>::from_f64(rng.normal()))
}

fn batched<R: Real>(criterion: &mut Criterion) {
    for length in [512, 1000, 997] {
        let mut group = criterion.benchmark_group(format!("circular {} {ROWS}x{length}", R::DTYPE));
        group.throughput(Throughput::Elements((ROWS * length) as u64));
        let x = rows::<R>(ROWS, length, 1);
        let batch = rows::<R>(ROWS, length, 2);
        let one: Array1<R> = batch.row(0).to_owned();
        group.bench_function("one vector", |b| {
            b.iter(|| circular_correlate(black_box(&x), &one));
        });
        group.bench_function("batch by batch", |b| {
            b.iter(|| circular_correlate(black_box(&x), &batch));
        });
        group.bench_function("one vector, gradients", |b| {
            b.iter(|| circular_correlate_vjp(black_box(&x), &one, &batch));
        });
        group.finish();
    }
}

/// Where direct sums give way to spectra.
fn crossover(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("circular methods, 1024 rows");
    for length in [8, 16, 24, 32, 48, 64] {
        let (x, y) = (rows::<f64>(1024, length, 1), rows::<f64>(1024, length, 2));
        for method in [CircularMethod::Direct, CircularMethod::Fft] {
            let circular = Circular::default().method(method);
            group.bench_function(format!("{method:?} {length}"), |b| {
                b.iter(|| circular.correlate(black_box(&x), &y));
            });
        }
    }
    group.finish();
}

fn smear(criterion: &mut Criterion) {
    let sigma: Vec<f64> = (0..20_000).map(|i| 1.0 + f64::from(i) / 2000.0).collect();
    let f = rows::<f64>(1, sigma.len(), 3);
    for smearing in [Smearing::Scatter, Smearing::Gather] {
        if let Ok(smear) = Smear::uniform(1.0, &sigma, smearing) {
            criterion.bench_function(&format!("smear {smearing:?} 20000"), |b| {
                b.iter(|| smear.apply(black_box(&f)));
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = batched::<f64>, batched::<f32>, crossover, smear
}
criterion_main!(benches);
