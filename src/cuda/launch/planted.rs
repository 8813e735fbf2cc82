//! The emulator's own test: kernels with planted bugs (`kernels/emulator/planted.cu`) are caught.

use super::{Address, Arguments, Grid, Launch};
use crate::cuda::buffer::DeviceBuffer;
use crate::cuda::device::{CopyTiming, CudaDevice};
use crate::cuda::kernel::Kernel;

#[repr(C)]
#[derive(Clone, Copy)]
struct PlantedArgs {
    input: Address,
    result: Address,
    bug: u32,
    reserved: u32,
}

// SAFETY: `#[repr(C)]` of addresses and integers without padding, as in the kernel file.
unsafe impl Arguments for PlantedArgs {}

/// In the order of `Bug` in the kernel file.
const BUGS: [&str; 9] = [
    "none",
    "no_barrier",
    "no_wait",
    "past_the_end",
    "divergent",
    "deadlock",
    "early_overwrite",
    "shared_overrun",
    "write_to_input",
];

struct Planted {
    module: &'static str,
    name: &'static str,
    threads: u32,
    shared_bytes: usize,
    results: usize,
}

const COPY: Planted = Planted {
    module: "planted",
    name: "copy",
    threads: 128,
    shared_bytes: 512,
    results: 128,
};

const MMA: Planted = Planted {
    module: "planted",
    name: "mma",
    threads: 32,
    shared_bytes: 768,
    results: 128,
};

impl Planted {
    fn run(&self, device: &CudaDevice, input: &[f32], bug: usize) -> Result<Vec<f32>, String> {
        let input = DeviceBuffer::upload(device, input).unwrap();
        let mut result = device.uninitialised::<f32>(self.results).unwrap();
        let mut launch = Launch::new(device);
        let args = PlantedArgs {
            input: launch.read(&input).unwrap(),
            result: launch.write(&mut result).unwrap(),
            bug: bug as u32,
            reserved: 0,
        };
        let grid = Grid {
            shared_bytes: self.shared_bytes,
            ..Grid::new(1, self.threads)
        };
        let run = launch.run(Kernel::one(self.module, self.name), grid, &args);
        run.map_err(|e| e.to_string())?;
        Ok(result.download().unwrap())
    }
}

/// The distinct outcomes of the copying kernel under some seeds: an error, or whether it is right.
fn outcomes(bug: &str, timing: CopyTiming) -> Vec<Result<bool, String>> {
    let input: Vec<f32> = (0..128).map(|i| i as f32).collect();
    let expected: Vec<f32> = (0..128).map(|i| ((i + 1) % 128 * 15) as f32).collect();
    let bug = BUGS
        .iter()
        .position(|b| *b == bug)
        .expect("a bug of the list");
    let outcome = |seed| {
        let device = CudaDevice::emulator(seed, timing).unwrap();
        let result = COPY.run(&device, &input, bug)?;
        Ok(result == expected)
    };
    (0..4).map(outcome).collect()
}

#[track_caller]
fn assert_reported(bug: &str, words: &str) {
    for timing in [CopyTiming::Eager, CopyTiming::Late] {
        for outcome in outcomes(bug, timing) {
            let report = outcome.expect_err("an error");
            assert!(report.contains(words), "{report}");
            assert!(report.contains("planted_copy"), "{report}");
            assert!(report.contains("block (0, 0, 0)"), "{report}");
        }
    }
}

/// The bug shows as a wrong result with this timing under some seed.
#[track_caller]
fn assert_wrong(bug: &str, timing: CopyTiming) {
    let outcomes = outcomes(bug, timing);
    assert!(outcomes.contains(&Ok(false)), "{outcomes:?}");
}

#[test]
fn a_correct_kernel_passes_under_every_schedule() {
    for timing in [CopyTiming::Eager, CopyTiming::Late] {
        assert_eq!(outcomes("none", timing), vec![Ok(true); 4]);
    }
}

#[test]
fn a_missing_barrier_shows() {
    assert_wrong("no_barrier", CopyTiming::Eager);
    assert_wrong("no_barrier", CopyTiming::Late);
}

#[test]
fn a_missing_wait_shows_when_copies_are_late() {
    assert_wrong("no_wait", CopyTiming::Late);
}

#[test]
fn a_tile_overwritten_too_early_shows_when_copies_are_eager() {
    assert_wrong("early_overwrite", CopyTiming::Eager);
}

#[test]
fn an_access_outside_a_buffer_is_reported_with_its_thread() {
    assert_reported(
        "past_the_end",
        "thread 127: global read out of bounds: byte 512",
    );
}

#[test]
fn a_write_to_an_input_is_reported() {
    assert_reported("write_to_input", "not give for writing");
}

#[test]
fn an_overrun_of_shared_memory_is_reported() {
    assert_reported("shared_overrun", "thread 127: ");
}

#[test]
fn a_divergent_barrier_is_reported() {
    assert_reported("divergent", "__syncthreads at line");
}

#[test]
fn a_deadlock_is_reported_with_everybodys_position() {
    assert_reported("deadlock", "threads 0-31 wait at a block barrier");
    assert_reported("deadlock", "threads 32-127 ended");
}

#[test]
fn a_wrong_fragment_layout_shows() {
    let input: Vec<f32> = (0..384).map(|i| (i * 7 % 13) as f32 - 6.0).collect();
    let (a, b) = input.split_at(256);
    let expected: Vec<f32> = (0..128)
        .map(|i| (0..16).map(|k| a[i / 8 * 16 + k] * b[k * 8 + i % 8]).sum())
        .collect();
    let device = CudaDevice::emulator(0, CopyTiming::Eager).unwrap();
    assert_eq!(MMA.run(&device, &input, 0), Ok(expected.clone()));
    assert_ne!(MMA.run(&device, &input, 1), Ok(expected.clone()));
    assert_ne!(MMA.run(&device, &input, 2), Ok(expected));
}

#[test]
fn launches_that_no_kernel_takes_are_refused() {
    let device = CudaDevice::emulator(0, CopyTiming::Eager).unwrap();
    let refused = |module, name, threads| {
        let planted = Planted {
            module,
            name,
            threads,
            ..COPY
        };
        planted.run(&device, &[0.0; 128], 0).unwrap_err()
    };
    assert!(refused("planted", "nothing", 128).contains("no such kernel"));
    assert!(refused("planted", "copy", 64).contains("blocks of 128"));
    assert!(refused("loss", "total", 256).contains("bytes of arguments"));
}
