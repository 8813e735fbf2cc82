//! Convolutions of arrays.
//!
//! `cargo bench --bench signal` measures the named problems with criterion; with `-- --serve` the
//! program answers lines like `f64 full fft 262144 4096` (sizes as `512x512`) or `f64 circular
//! batch 4096x512 4096x512` with the least seconds of a call, which
//! `benches/peers/scipy_signal.py` sets beside SciPy's.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use criterion::Criterion;
use ndarray::{ArrayD, IxDyn};
use ndconv::signal::{
    Complex, Convolution, Method, Mode, Scalar, circular_correlate, circular_correlate_vjp, fft,
    ndimage,
};

/// Numbers in -1..1 that look random.
fn signal<S: Scalar>(shape: &[usize]) -> ArrayD<S> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    ArrayD::from_shape_fn(IxDyn(shape), |_| {
        S::from_parts(S::of(next()).re(), S::of(next()).re())
    })
}

fn named(c: &mut Criterion) {
    let problems = [
        (
            "fft 2^18 x 4096",
            Mode::Full,
            Method::Fft,
            vec![1 << 18],
            vec![4096],
        ),
        (
            "overlap-add 2^18 x 4096",
            Mode::Full,
            Method::OverlapAdd,
            vec![1 << 18],
            vec![4096],
        ),
        (
            "direct 512^2 x 11^2",
            Mode::Same,
            Method::Direct,
            vec![512, 512],
            vec![11, 11],
        ),
        (
            "fft 512^2 x 65^2",
            Mode::Same,
            Method::Fft,
            vec![512, 512],
            vec![65, 65],
        ),
        (
            "direct 100000 x 31",
            Mode::Same,
            Method::Direct,
            vec![100_000],
            vec![31],
        ),
    ];
    let mut group = c.benchmark_group("convolve");
    for (name, mode, method, n, k) in problems {
        let (a, b) = (signal::<f64>(&n), signal::<f64>(&k));
        let convolution = Convolution::new(mode).method(method);
        group.bench_function(name, |bench| bench.iter(|| convolution.convolve(&a, &b)));
    }
    group.finish();
    let (image, blur) = (signal::<f64>(&[512, 512]), vec![1.0 / 25.0; 25]);
    c.bench_function("ndimage separable 512^2 x 25", |bench| {
        let boundary = ndconv::signal::Boundary::Reflect;
        bench.iter(|| ndimage::separable(&image, &[&blur, &blur], boundary));
    });
    let rows = signal::<f64>(&[512, 1000]);
    c.bench_function("rfft 512 rows of 1000", |bench| {
        bench.iter(|| fft::forward(&rows, 1, 1000))
    });
}

/// Least seconds of a call, over about a third of a second: what a busy machine disturbs least.
fn best<R>(mut call: impl FnMut() -> R) -> f64 {
    black_box(call());
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < 5 || (start.elapsed() < Duration::from_millis(300) && times.len() < 2000) {
        let begin = Instant::now();
        black_box(call());
        times.push(begin.elapsed().as_secs_f64());
    }
    times.into_iter().fold(f64::INFINITY, f64::min)
}

fn answer<S: Scalar>(mode: Mode, method: Method, n: &[usize], k: &[usize]) -> (f64, String) {
    let (a, b) = (signal::<S>(n), signal::<S>(k));
    let convolution = Convolution::new(mode).method(method);
    let choice = convolution
        .choose_method(&a, &b)
        .map_or_else(|e| e.to_string(), |c| c.to_string());
    (best(|| convolution.convolve(&a, &b)), choice)
}

/// Circular correlation of rows: with one vector or with as many rows, or the gradients of that.
fn circular<S: Scalar>(what: &str, n: &[usize], k: &[usize]) -> f64 {
    let (x, y) = (signal::<S>(n), signal::<S>(k));
    match what {
        "gradients" => best(|| circular_correlate_vjp(&x, &y, &x)),
        _ => best(|| circular_correlate(&x, &y)),
    }
}

fn serve() -> Option<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line.ok()?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [dtype, mode, method, n, k] = words[..] else {
            eprintln!("expected: dtype mode method n k");
            return None;
        };
        let shape = |text: &str| {
            text.split('x')
                .map(|s| s.parse().ok())
                .collect::<Option<Vec<_>>>()
        };
        let (n, k) = (shape(n)?, shape(k)?);
        if mode == "circular" {
            let seconds = match dtype {
                "f32" => circular::<f32>(method, &n, &k),
                _ => circular::<f64>(method, &n, &k),
            };
            println!("{seconds:e} fft");
            std::io::stdout().flush().ok()?;
            continue;
        }
        let (mode, method) = (mode.parse().ok()?, method.parse().ok()?);
        let (seconds, choice) = match dtype {
            "f32" => answer::<f32>(mode, method, &n, &k),
            "c128" => answer::<Complex<f64>>(mode, method, &n, &k),
            _ => answer::<f64>(mode, method, &n, &k),
        };
        println!("{seconds:e} {choice}");
        std::io::stdout().flush().ok()?;
    }
    Some(())
}

fn main() {
    if std::env::args().any(|a| a == "--serve") {
        serve();
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    named(&mut criterion);
    criterion.final_summary();
}
