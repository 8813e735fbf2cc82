//! Every pass over the layer list in `benches/layers`, as elements (floating-point operations) a
//! second.
//!
//! `cargo bench --bench conv -- 'fprop/channels_first/r50'` picks by name. `RAYON_NUM_THREADS` sets the
//! threads, `NDCONV_CPU_LEVEL` the instruction set, and `NDCONV_BENCH_DTYPE` (`f32`) the element.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use half::{bf16, f16};
use ndconv::{ConvParams, ConvProblem, DType, Element, Layout, Padding, Pass, Tensor, Write, ops};
use serde_json::Value;

const LAYERS: &str = include_str!("layers/cpu_layers.json");

fn sizes<const N: usize>(layer: &Value, key: &str) -> [usize; N] {
    std::array::from_fn(|a| layer[key][a].as_u64().expect(key) as usize)
}

fn size(layer: &Value, key: &str) -> usize {
    layer[key].as_u64().expect(key) as usize
}

fn problem<const N: usize>(layer: &Value) -> ConvProblem<N> {
    let groups = size(layer, "groups");
    let params = ConvParams {
        stride: sizes(layer, "stride"),
        dilation: sizes(layer, "dilation"),
        groups,
        padding: Padding::Explicit(sizes::<N>(layer, "padding").map(|p| (p, p))),
        ..ConvParams::default()
    };
    let [batch, inputs, outputs] =
        ["batch", "in_channels", "out_channels"].map(|key| size(layer, key));
    let x = [&[batch, inputs][..], &sizes::<N>(layer, "input")].concat();
    let weight = |channels: [usize; 2]| [&channels[..], &sizes::<N>(layer, "kernel_size")].concat();
    if layer["transposed"] == true {
        let w = weight([inputs, outputs / groups]);
        ConvProblem::transposed(&x, &w, &params, sizes(layer, "output_padding"))
    } else {
        ConvProblem::new(&x, &weight([outputs, inputs / groups]), &params)
    }
    .expect("a valid layer")
}

fn tensor<T: Element>(channels_first: &[usize], layout: Layout) -> Tensor<T> {
    let shape = layout.from_channels_first(channels_first);
    let len: usize = shape.iter().product();
    let value = |i: usize| T::from_f64((i % 31) as f64 / 16.0 - 1.0);
    Tensor::from_vec(&shape, (0..len).map(value).collect())
        .expect("a shape with as many elements")
        .with_layout(layout)
}

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

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .configure_from_args();
    let dtype = std::env::var("NDCONV_BENCH_DTYPE").map_or(Ok(DType::F32), |name| name.parse());
    match dtype.expect("NDCONV_BENCH_DTYPE") {
        DType::F16 => layers::<f16>(&mut criterion),
        DType::BF16 => layers::<bf16>(&mut criterion),
        DType::F32 => layers::<f32>(&mut criterion),
        DType::F64 => layers::<f64>(&mut criterion),
    }
    criterion.final_summary();
}
