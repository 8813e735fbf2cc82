//! The memory that every pass of the layer list takes beside operands and result, at its peak, in
//! MiB: the more of the two layouts, all that threads keep for later calls included.
//!
//! `cargo bench --bench memory`; `RAYON_NUM_THREADS` sets the threads, `NDCONV_BENCH_DTYPE` the element type.

use std::alloc::{GlobalAlloc, Layout as Block, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use half::{bf16, f16};
use ndconv::{DType, Element, Layout, Pass, ops};
use rayon::ThreadPoolBuilder;
use serde_json::Value;

#[path = "layers/list.rs"]
mod list;

use list::{LAYERS, dtype, problem, tensor};

/// The system's allocator, which counts.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        let held = HELD.fetch_add(block.size(), Relaxed) + block.size();
        PEAK.fetch_max(held, Relaxed);
        // SAFETY: by the contract of this method.
        unsafe { System.alloc(block) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, block: Block) {
        HELD.fetch_sub(block.size(), Relaxed);
        // SAFETY: by the contract of this method.
        unsafe { System.dealloc(memory, block) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes at the peak of a pass in threads of its own, and threads.
fn peak<T: Element, const N: usize>(layer: &Value, pass: Pass, layout: Layout) -> (usize, usize) {
    let p = problem::<N>(layer);
    let [mut x, mut w, mut y] =
        [p.x_shape(), p.w_shape(), p.y_shape()].map(|shape| tensor::<T>(&shape, layout));
    // what a transposed layer calls its forward pass is the input gradient of the convolution
    let pass = match (pass, layer["transposed"] == true) {
        (Pass::Fprop, true) => Pass::Dgrad,
        (Pass::Dgrad, true) => Pass::Fprop,
        (pass, _) => pass,
    };
    let pool = ThreadPoolBuilder::new().build().expect("threads");
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    pool.install(|| match pass {
        Pass::Fprop => ops::fprop_into(&p, &x, &w, None, &mut y, ndconv::Write::Overwrite),
        Pass::Dgrad => ops::dgrad_into(&p, &y, &w, None, &mut x, ndconv::Write::Overwrite),
        Pass::Wgrad => ops::wgrad_into(&p, &x, &y, &mut w, ndconv::Write::Overwrite),
    })
    .expect("a valid layer");
    (PEAK.load(Relaxed) - before, pool.current_num_threads())
}

fn main() {
    match dtype() {
        DType::F16 => run::<f16>(),
        DType::BF16 => run::<bf16>(),
        DType::F32 => run::<f32>(),
        DType::F64 => run::<f64>(),
    }
}

fn run<T: Element>() {
    let layers: Vec<Value> = serde_json::from_str(LAYERS).expect("a list of layers");
    println!(
        "{:34} {:>8} {:>8} {:>8} {:>8}",
        "layer", "weights", "fprop", "dgrad", "wgrad"
    );
    let (mut worst, mut threads) = (0.0f64, 1);
    for layer in &layers {
        let size = |key: &str| layer[key].as_u64().unwrap_or(1);
        let sizes = layer["kernel_size"].as_array().into_iter().flatten();
        let taps: u64 = sizes.filter_map(Value::as_u64).product();
        let weights = size("in_channels") * size("out_channels") / size("groups")
            * taps
            * size_of::<T::Acc>() as u64;
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let weights = mib(weights as f64);
        let extra = Pass::ALL.map(|pass| {
            let of = |layout| match layer["input"].as_array().map_or(0, Vec::len) {
                1 => peak::<T, 1>(layer, pass, layout),
                2 => peak::<T, 2>(layer, pass, layout),
                3 => peak::<T, 3>(layer, pass, layout),
                _ => peak::<T, 4>(layer, pass, layout),
            };
            let both = Layout::ALL.map(of);
            threads = both[0].1;
            mib(both[0].0.max(both[1].0) as f64)
        });
        let name = layer["name"].as_str().unwrap_or_default();
        let [fprop, dgrad, wgrad] = extra;
        println!("{name:34} {weights:8.2} {fprop:8.2} {dgrad:8.2} {wgrad:8.2}");
        for extra in extra {
            worst = worst.max((extra - weights) / threads as f64);
        }
    }
    println!("{threads} threads; at most {worst:.2} MiB a thread beside the packed weights");
}
