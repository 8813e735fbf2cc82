//! Every operation gives on a GPU, and on the emulator under several schedules, what it gives on
//! the CPU: to the bit on integers and where no function is approximated.

mod convolution;
mod memory;
mod others;
mod tuning;

use std::cell::Cell;
use std::sync::OnceLock;

use ndconv::ops::{self, Activation};
use ndconv::{Algorithm, CopyTiming, CudaDevice, Device, Element, Error, Layout, MathMode, Tensor};

/// The GPU, if there is one; `REQUIRE_CUDA=1` makes its absence a failure.
fn cuda() -> Option<&'static Device> {
    static CUDA: OnceLock<Option<Device>> = OnceLock::new();
    let open = || match Device::cuda(0) {
        Ok(device) => Some(device),
        Err(why) if std::env::var_os("REQUIRE_CUDA").is_some_and(|v| v == "1") => {
            panic!("REQUIRE_CUDA=1, but {why}")
        }
        Err(why) => {
            eprintln!("device_parity: skipped on cuda:0: {why}");
            None
        }
    };
    CUDA.get_or_init(open).as_ref()
}

/// The devices of one check: the GPU if there is one, and an emulator whose schedule and timing of
/// copies go with `seed`.
fn devices(seed: usize) -> Vec<Device> {
    let timing = [CopyTiming::Eager, CopyTiming::Late][seed % 2];
    let emulator = CudaDevice::emulator(seed as u64 / 2 % 3, timing).unwrap();
    let all: Vec<Device> = cuda()
        .cloned()
        .into_iter()
        .chain([Device::Cuda(emulator)])
        .collect();
    for device in &all {
        if let Device::Cuda(device) = device {
            device.prefer(PREFERRED.get());
            device.take_plan(NTH_PLAN.get());
            device.set_math_mode(MathMode::Tf32); // exact on small integers
        }
    }
    all
}

thread_local! {
    /// What convolutions of this thread's checks use where it applies.
    static PREFERRED: Cell<Option<Algorithm>> = const { Cell::new(None) };
    /// Which plan of those that apply they take.
    static NTH_PLAN: Cell<usize> = const { Cell::new(0) };
}

/// Runs a check once with every algorithm for convolutions.
fn with_every_algorithm(check: impl Fn()) {
    for algorithm in Algorithm::ALL {
        PREFERRED.set(Some(algorithm));
        check();
    }
    PREFERRED.set(None);
}

/// Runs a check once with every one of the first plans of tensor cores: tiles, layouts of what they
/// read, splits of what they sum.
fn with_every_plan(check: impl Fn()) {
    PREFERRED.set(Some(Algorithm::TensorCore));
    for nth in 0..12 {
        NTH_PLAN.set(nth);
        check();
    }
    NTH_PLAN.set(0);
    PREFERRED.set(None);
}

/// Small integers, the same for the same seed.
fn integers<T: Element>(shape: &[usize], layout: Layout, seed: usize) -> Tensor<T> {
    let len: usize = shape.iter().product();
    let value = |i: usize| ((i * 7919 + seed * 104_729 + i / 13) % 9) as f64 - 4.0;
    let data = (0..len).map(|i| T::from_f64(value(i))).collect();
    let shape = layout.from_channels_first(shape);
    Tensor::from_vec(&shape, data).unwrap().with_layout(layout)
}

/// Moves tensors to the device of one run.
struct On<'a>(&'a Device);

impl On<'_> {
    fn to<T: Element>(&self, tensor: &Tensor<T>) -> Tensor<T> {
        tensor.to_device(self.0).unwrap()
    }
}

/// Runs `op` on the CPU and on the devices of `seed`; results agree within `tolerance`.
#[track_caller]
fn same<T: Element>(what: &str, seed: usize, tolerance: f64, op: impl Fn(&On) -> Tensor<T>) {
    let expected = op(&On(&Device::Cpu));
    for device in devices(seed) {
        let got = op(&On(&device));
        assert_eq!(got.device(), device, "{what}");
        assert_eq!(
            (got.shape(), got.layout()),
            (expected.shape(), expected.layout()),
            "{what}"
        );
        let pairs = got
            .to_vec()
            .unwrap()
            .into_iter()
            .zip(expected.to_vec().unwrap());
        for (i, (g, e)) in pairs.enumerate() {
            let (g, e) = (g.to_f64(), e.to_f64());
            let close = g == e || (g.is_nan() && e.is_nan());
            let close = close || (g - e).abs() <= tolerance * e.abs().max(1.0);
            assert!(
                close,
                "{what} on {device}, seed {seed}: element {i} is {g}, not {e}"
            );
        }
    }
}

/// Runs a generic check for every element type.
macro_rules! every_element {
    ($check:ident $(, $argument:expr)*) => {
        $check::<f32>($($argument),*);
        $check::<f64>($($argument),*);
        $check::<f16>($($argument),*);
        $check::<bf16>($($argument),*);
    };
}

use every_element;

#[test]
fn tensors_move_and_do_not_mix() {
    let emulator = Device::emulator().unwrap();
    assert_eq!("emulator".parse::<Device>().unwrap(), emulator);
    let there = integers::<f32>(&[2, 3], Layout::ChannelsFirst, 1)
        .to_device(&emulator)
        .unwrap();
    let here = Tensor::<f32>::zeros(&[2, 3], &Device::Cpu).unwrap();
    let mixed = ops::activate_backward(Activation::Relu, &there, &here).unwrap_err();
    assert!(matches!(mixed, Error::DeviceMismatch { .. }), "{mixed}");
    let mixed = ops::activate_backward(Activation::Relu, &here, &there).unwrap_err();
    assert!(matches!(mixed, Error::DeviceMismatch { .. }), "{mixed}");
    let other = CudaDevice::emulator(1, CopyTiming::Late).unwrap();
    let moved = there.to_device(&Device::Cuda(other)).unwrap();
    assert_ne!(moved.device(), there.device());
    assert_eq!(moved.to_vec().unwrap(), there.to_vec().unwrap());
    let empty = Tensor::<f32>::zeros(&[0, 3], &emulator).unwrap();
    assert!(ops::softmax(&empty).unwrap().to_vec().unwrap().is_empty());
}

#[test]
fn a_missing_gpu_is_a_typed_error() {
    if let Err(why) = Device::cuda(0) {
        let typed = matches!(
            why,
            Error::NoCudaDevice { .. } | Error::KernelsNotBuilt { .. }
        );
        assert!(typed, "{why}");
    }
    let (device, why_not) = Device::cuda_or_cpu(1000);
    assert_eq!(device, Device::Cpu);
    assert!(why_not.is_some());
}
