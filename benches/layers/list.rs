//! The layers that the benches of the CPU engine run.

use ndconv::{ConvParams, ConvProblem, DType, Device, Element, Layout, Padding, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

pub const LAYERS: &str = include_str!("cpu_layers.json");

/// The element type that `NDCONV_BENCH_DTYPE` names.
pub fn dtype() -> DType {
    let name = std::env::var("NDCONV_BENCH_DTYPE");
    let dtype = name.map_or(Ok(DType::F32), |name| name.parse());
    dtype.expect("NDCONV_BENCH_DTYPE")
}

pub fn sizes<const N: usize>(layer: &Value, key: &str) -> [usize; N] {
    std::array::from_fn(|a| layer[key][a].as_u64().expect(key) as usize)
}

pub fn size(layer: &Value, key: &str) -> usize {
    layer[key].as_u64().expect(key) as usize
}

pub fn problem<const N: usize>(layer: &Value) -> ConvProblem<N> {
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

pub fn tensor<T: Element>(channels_first: &[usize], layout: Layout) -> Tensor<T> {
    let shape = layout.from_channels_first(channels_first);
    let len: usize = shape.iter().product();
    let mut random = ChaCha8Rng::seed_from_u64(len as u64);
    let data = (0..len).map(|_| T::from_f64(random.random_range(-1.0..1.0)));
    // in memory that the crate has chosen, as what layers hand to each other is
    let mut tensor = Tensor::zeros(&shape, &Device::Cpu).expect("memory");
    let data: Vec<T> = data.collect();
    tensor.overwrite(&data).expect("as many elements");
    tensor.with_layout(layout)
}
