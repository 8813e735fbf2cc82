//! Workspaces of convolutions on a device: limits, reuse, and memory that runs out.

use half::f16;
use ndconv::{
    ConvParams, ConvProblem, CopyTiming, CudaDevice, Device, Error, Layout, Padding, Tensor, Write,
    ops,
};

use super::integers;

/// A problem whose fprop packs its weight and whose wgrad cuts its sum, in f16.
fn problem() -> ConvProblem<2> {
    let params = ConvParams {
        padding: Padding::Same,
        ..ConvParams::default()
    };
    ConvProblem::new(&[3, 16, 14, 14], &[16, 16, 3, 3], &params).unwrap()
}

fn emulator() -> (CudaDevice, Device) {
    let device = CudaDevice::emulator(1, CopyTiming::Late).unwrap();
    (device.clone(), Device::Cuda(device))
}

/// y and dw.
fn results(device: &Device) -> Result<[Vec<f16>; 2], Error> {
    let p = problem();
    let x = integers::<f16>(&p.x_shape(), Layout::ChannelsLast, 1).to_device(device)?;
    let w = integers::<f16>(&p.w_shape(), Layout::ChannelsFirst, 2).to_device(device)?;
    let dy = integers::<f16>(&p.y_shape(), Layout::ChannelsLast, 3).to_device(device)?;
    let y = ops::fprop(&p, &x, &w, None)?;
    let mut dw = w;
    ops::wgrad_into(&p, &x, &dy, &mut dw, Write::Overwrite)?;
    Ok([y.to_vec()?, dw.to_vec()?])
}

#[test]
fn a_limit_changes_the_plan_and_not_the_result() {
    let expected = results(&Device::Cpu).unwrap();
    let packed = 2 * 9 * 16 * 16;
    for limit in [None, Some(packed), Some(packed - 1), Some(0)] {
        let (emulator, device) = emulator();
        emulator.set_workspace_limit(limit);
        assert_eq!(emulator.workspace_limit(), limit);
        assert_eq!(results(&device).unwrap(), expected, "{limit:?}");
        let kept = emulator.kept_workspace();
        match limit {
            None => assert!(kept > packed, "two stretches of the sum take more: {kept}"),
            Some(0) => assert_eq!(kept, 0),
            Some(limit) if limit < packed => assert_eq!(kept, 0, "every wgrad but one takes more"),
            Some(_) => assert_eq!(kept, packed),
        }
        assert_eq!(results(&device).unwrap(), expected, "in memory used before");
        assert_eq!(emulator.kept_workspace(), kept);
        emulator.trim_workspace().unwrap();
        assert_eq!(emulator.kept_workspace(), 0);
    }
}

#[test]
fn memory_that_runs_out_is_an_error_and_the_device_goes_on() {
    let expected = results(&Device::Cpu).unwrap();
    let (emulator, device) = emulator();
    assert_eq!(results(&device).unwrap(), expected);
    let mut refused = 0;
    for bytes in (0..200_000).step_by(10_000) {
        emulator.set_emulated_memory(Some(bytes)).unwrap();
        match results(&device) {
            Ok(results) => assert_eq!(results, expected, "{bytes} bytes"),
            Err(Error::OutOfMemory { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!((3..15).contains(&refused), "{refused}");
    emulator.set_emulated_memory(None).unwrap();
    assert_eq!(results(&device).unwrap(), expected);
}

#[test]
fn a_tensor_takes_the_place_of_memory_that_is_kept() {
    let (emulator, device) = emulator();
    results(&device).unwrap();
    let kept = emulator.kept_workspace();
    assert!(kept > 0);
    emulator.set_emulated_memory(Some(kept)).unwrap();
    let tensor = Tensor::<f32>::zeros(&[kept / 4], &device).unwrap();
    assert_eq!(emulator.kept_workspace(), 0);
    let refused = Tensor::<f32>::zeros(&[4], &device).unwrap_err();
    assert!(matches!(refused, Error::OutOfMemory { .. }), "{refused}");
    drop(tensor);
    Tensor::<f32>::zeros(&[4], &device).unwrap();
}
