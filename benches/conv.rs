//! Every pass over the layer list in `benches/layers`, as elements (floating-point operations) a
//! second, into results that stay, with weights that are not written in between: the engine packs
//! them once, as in inference.
//!
//! `cargo bench --bench conv -- 'fprop/channels_first/r50'` picks by name. `RAYON_NUM_THREADS` sets the
//! threads, `NDCONV_CPU_LEVEL` the instruction set, and `NDCONV_BENCH_DTYPE` (`f32`) the element.
//!
//! `--serve` answers requests instead, for `benches/peers/compare.py`: see [`serve`].

use std::cell::RefCell;
use std::hint::black_box;
use std::io::{BufRead, Write as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use half::{bf16, f16};
use ndconv::{DType, Element, Layout, Pass, Write, ops};
use serde_json::{Value, json};

#[path = "layers/list.rs"]
mod list;

use list::{LAYERS, dtype, problem, tensor};

fn layer<T: Element, const N: usize>(criterion: &mut Criterion, name: &str, layer: &Value) {
    let p = problem::<N>(layer);
    for layout in Layout::ALL {
        let [mut x, mut w, mut y] =
            [p.x_shape(), p.w_shape(), p.y_shape()].map(|shape| tensor::<T>(&shape, layout));
        for pass in Pass::ALL {
            let mut group = criterion.benchmark_group(format!("{}/{layout}", pass.name()));
            group.throughput(Throughput::Elements(p.flops(pass)));
            group.bench_function(name, |bencher| {
                bencher.iter(|| match pass {
                    Pass::Fprop => ops::fprop_into(&p, &x, &w, None, &mut y, Write::Overwrite),
                    Pass::Dgrad => ops::dgrad_into(&p, &y, &w, None, &mut x, Write::Overwrite),
                    Pass::Wgrad => ops::wgrad_into(&p, &x, &y, &mut w, Write::Overwrite),
                });
            });
            group.finish();
        }
    }
}

fn layers<T: Element>(criterion: &mut Criterion) {
    let list: Vec<Value> = serde_json::from_str(LAYERS).expect("a list of layers");
    for entry in &list {
        let name = entry["name"].as_str().expect("name");
        match entry["input"].as_array().map_or(0, Vec::len) {
            1 => layer::<T, 1>(criterion, name, entry),
            2 => layer::<T, 2>(criterion, name, entry),
            3 => layer::<T, 3>(criterion, name, entry),
            _ => layer::<T, 4>(criterion, name, entry),
        }
    }
}

/// A pass of a layer in one layout, results allocated by every call.
struct Call {
    run: Box<dyn Fn()>,
    /// Writes the weights, as the optimiser of a training step does; what the engine keeps of them
    /// from one call to the next is gone then.
    step: Box<dyn Fn()>,
}

fn call<T: Element, const N: usize>(layer: &Value, pass: &str, layout: Layout) -> Call {
    let p = problem::<N>(layer);
    let [x, w, y] = [p.x_shape(), p.w_shape(), p.y_shape()].map(|s| tensor::<T>(&s, layout));
    let weights = w.to_vec().expect("on the CPU");
    let w = Rc::new(RefCell::new(w));
    let written = w.clone();
    // what a transposed layer calls its forward pass is the input gradient of the convolution
    let transposed = layer["transposed"] == true;
    let run: Box<dyn Fn()> = match (pass, transposed) {
        ("wgrad", _) => Box::new(move || drop(black_box(ops::wgrad(&p, &x, &y, layout)))),
        ("fprop", false) | ("dgrad", true) => {
            Box::new(move || drop(black_box(ops::fprop(&p, &x, &w.borrow(), None))))
        }
        _ => Box::new(move || drop(black_box(ops::dgrad(&p, &y, &w.borrow(), None)))),
    };
    let step = Box::new(move || written.borrow_mut().overwrite(&weights).unwrap());
    Call { run, step }
}

fn any_call<T: Element>(layer: &Value, pass: &str, layout: Layout) -> Call {
    match layer["input"].as_array().map_or(0, Vec::len) {
        1 => call::<T, 1>(layer, pass, layout),
        2 => call::<T, 2>(layer, pass, layout),
        3 => call::<T, 3>(layer, pass, layout),
        _ => call::<T, 4>(layer, pass, layout),
    }
}

/// Answers requests from standard input, a JSON object a line: `{"layer": {..}}` sets the layer,
/// `{"pass", "layout", "dtype", "budget", "kept"}` times it and gives the median `seconds` of a call:
/// with weights that stay as they are if `kept`, else written between calls.
fn serve() -> std::io::Result<()> {
    let mut layer = Value::Null;
    let mut prepared = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = if request["layer"].is_object() {
            layer = request["layer"].clone();
            prepared.clear();
            json!({})
        } else {
            let pass = request["pass"].as_str().unwrap_or_default();
            let layout = match request["layout"] == "channels_last" {
                true => Layout::ChannelsLast,
                false => Layout::ChannelsFirst,
            };
            let key = (pass.to_owned(), layout, request["dtype"] == "bf16");
            if !prepared.iter().any(|(of, _)| *of == key) {
                let run = match key.2 {
                    true => any_call::<bf16>(&layer, pass, layout),
                    false => any_call::<f32>(&layer, pass, layout),
                };
                prepared.push((key.clone(), run));
            }
            let (_, call) = prepared
                .iter()
                .find(|(of, _)| *of == key)
                .expect("just made");
            let budget = request["budget"].as_f64().unwrap_or(0.1);
            let kept = request["kept"] == true;
            let step = || {
                if !kept {
                    (call.step)()
                }
            };
            let (seconds, repeats) = median(&call.run, &step, budget);
            json!({"seconds": seconds, "repeats": repeats})
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The median of at least two calls in a budget, each after a step, which is not counted; after as
/// long a time, or one call, that warms up: processors that rested are slow at first.
fn median(run: &impl Fn(), step: &impl Fn(), budget: f64) -> (f64, usize) {
    let timed = |least: usize| {
        let mut times: Vec<f64> = Vec::new();
        while times.len() < least || times.iter().sum::<f64>() < budget {
            step();
            let start = Instant::now();
            run();
            times.push(start.elapsed().as_secs_f64());
        }
        times
    };
    timed(1);
    let mut times = timed(2);
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times.len())
}

fn main() {
    if std::env::args().any(|a| a == "--serve") {
        return serve().expect("requests");
    }
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .configure_from_args();
    match dtype() {
        DType::F16 => layers::<f16>(&mut criterion),
        DType::BF16 => layers::<bf16>(&mut criterion),
        DType::F32 => layers::<f32>(&mut criterion),
        DType::F64 => layers::<f64>(&mut criterion),
    }
    criterion.final_summary();
}
