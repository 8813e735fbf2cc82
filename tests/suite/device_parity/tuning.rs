//! Autotuning on a device changes no result, and remembers.

use std::path::Path;

use half::f16;
use ndconv::{
    Algorithm, Autotune, ConvParams, ConvProblem, CopyTiming, CudaDevice, DType, Device, Error,
    Layout, Padding, Pass, Write, ops,
};
use serde_json::Value;

use super::integers;

/// Every pass has several plans in f16, and wgrad cuts its sum.
fn problem() -> ConvProblem<2> {
    let params = ConvParams {
        padding: Padding::Same,
        ..ConvParams::default()
    };
    ConvProblem::new(&[2, 16, 14, 14], &[16, 16, 3, 3], &params).unwrap()
}

fn run(pass: Pass, write: Write, device: &Device) -> Result<Vec<f16>, Error> {
    let p = problem();
    let on = |shape: &[usize], seed| integers(shape, Layout::ChannelsFirst, seed).to_device(device);
    let (mut x, mut w) = (on(&p.x_shape(), 1)?, on(&p.w_shape(), 2)?);
    let mut y = on(&p.y_shape(), 3)?;
    match pass {
        Pass::Fprop => {
            ops::fprop_into(&p, &x, &w, None, &mut y, write)?;
            y.to_vec()
        }
        Pass::Dgrad => {
            ops::dgrad_into(&p, &y, &w, None, &mut x, write)?;
            x.to_vec()
        }
        Pass::Wgrad => {
            ops::wgrad_into(&p, &x, &y, &mut w, write)?;
            w.to_vec()
        }
    }
}

fn tuned(cache: Option<&Path>) -> (CudaDevice, Device) {
    let device = CudaDevice::emulator(3, CopyTiming::Eager).unwrap();
    let cache = cache.map(Path::to_owned);
    device.set_autotune(Autotune::On { cache });
    (device.clone(), Device::Cuda(device))
}

/// The entries of a cache file, under the name of their question.
fn entries(path: &Path) -> serde_json::Map<String, Value> {
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let environments = file["environments"].as_object().unwrap();
    assert_eq!(environments.len(), 1);
    let (name, entries) = environments.iter().next().unwrap();
    assert!(name.starts_with("emulator, kernels "), "{name}");
    entries.as_object().unwrap().clone()
}

#[test]
fn results_stay_and_choices_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("choices.json");
    for again in [false, true] {
        let before = again.then(|| entries(&path));
        let (_, device) = tuned(Some(&path));
        for pass in Pass::ALL {
            for write in [Write::Overwrite, Write::Accumulate] {
                let expected = run(pass, write, &Device::Cpu).unwrap();
                for _ in 0..2 {
                    assert_eq!(run(pass, write, &device).unwrap(), expected, "{pass:?}");
                }
            }
        }
        let after = entries(&path);
        assert_eq!(after.len(), 6, "{after:#?}");
        assert!(before.is_none_or(|before| before == after), "timed again");
    }
}

#[test]
fn a_choice_of_the_cache_is_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("choices.json");
    let pass = (Pass::Wgrad, Write::Overwrite);
    let expected = run(pass.0, pass.1, &Device::Cpu).unwrap();
    let (_, device) = tuned(Some(&path));
    run(pass.0, pass.1, &device).unwrap();
    for splits in [1, 2] {
        let mut file: Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let environments = file["environments"].as_object_mut().unwrap();
        for question in environments.values_mut() {
            for entry in question.as_object_mut().unwrap().values_mut() {
                let plan = format!("tensor_core, tile 64, channels_first, {splits} splits");
                entry["plan"] = plan.into();
            }
        }
        std::fs::write(&path, file.to_string()).unwrap();
        let (emulator, device) = tuned(Some(&path));
        assert_eq!(run(pass.0, pass.1, &device).unwrap(), expected);
        let sums = 4 * 9 * 16 * 16 * splits;
        assert_eq!(
            emulator.kept_workspace(),
            if splits == 1 { 0 } else { sums }
        );
    }
}

#[test]
fn a_preference_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    for algorithm in [Algorithm::Simt, Algorithm::TensorCore] {
        let path = folder.path().join(format!("{algorithm}.json"));
        let (emulator, device) = tuned(Some(&path));
        emulator.prefer(Some(algorithm));
        for pass in Pass::ALL {
            run(pass, Write::Overwrite, &device).unwrap();
        }
        let chosen = entries(&path);
        assert_eq!(chosen.len(), 3);
        let mut plans = chosen.values().map(|e| e["plan"].as_str().unwrap());
        assert!(plans.all(|plan| plan.starts_with(algorithm.name())));
    }
}

#[test]
fn plans_that_fail_are_never_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("choices.json");
    let (emulator, device) = tuned(Some(&path));
    let p = problem();
    let tensors = 2 * (2 * p.x_shape().iter().product::<usize>() + 9 * 16 * 16);
    // no room for the copies of a cut sum
    emulator.set_emulated_memory(Some(tensors + 4096)).unwrap();
    let expected = run(Pass::Wgrad, Write::Overwrite, &Device::Cpu).unwrap();
    let got = run(Pass::Wgrad, Write::Overwrite, &device).unwrap();
    assert_eq!(got, expected);
    let first = Layout::ChannelsFirst;
    let plan = emulator.conv_plan(&p, Pass::Wgrad, DType::F16, first, first);
    assert_eq!(plan.unwrap().splits(), 1);
    // there may be more memory another time
    assert!(!path.exists());
    // nor for a second result: it runs untuned, if it can
    emulator.set_emulated_memory(Some(tensors + 16)).unwrap();
    let refused = run(Pass::Wgrad, Write::Accumulate, &device).unwrap_err();
    assert!(matches!(refused, Error::OutOfMemory { .. }), "{refused}");
    emulator.set_workspace_limit(Some(0));
    let expected = run(Pass::Wgrad, Write::Accumulate, &Device::Cpu).unwrap();
    assert_eq!(
        run(Pass::Wgrad, Write::Accumulate, &device).unwrap(),
        expected
    );
    assert!(!path.exists(), "not remembered");
}
