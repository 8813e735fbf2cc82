//! Case files: errors are found where they were planted, and no file makes a check panic.

use std::fs;
use std::path::{Path, PathBuf};

use ndconv::case::{self, Options};
use ndconv::{DType, Device, Error};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;

ndconv::cases! { whole_folder: "tests/cases" }

ndconv::cases! {
    named: "tests/cases" [max_pool_whole_input, with_dashes = "avg-pool-window-of-w"],
    device: Device::cuda_or_cpu(0).0,
    options: Options { dtype: Some(DType::F32), ..Options::default() },
}

fn golden_cases() -> PathBuf {
    crate::root().join("tests/golden/cases")
}

/// A file of its own for each test.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A case file with these settings and `f32` tensors.
pub fn write(path: &Path, settings: &[(&str, &str)], tensors: &[(&str, &[usize], &[f32])]) {
    let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let tensors: Vec<_> = tensors.iter().map(|(n, s, v)| (*n, s, bytes(v))).collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let dtype = safetensors::Dtype::F32;
        let view = safetensors::tensor::TensorView::new(dtype, shape.to_vec(), bytes);
        (*name, view.expect("the shape is that of the data"))
    });
    let settings = settings.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    let file = safetensors::serialize(views, Some(settings.collect())).expect("a case file");
    fs::write(path, file).expect("written");
}

/// Where in the file's bytes the data of a tensor begins, with its element type and shape.
fn place(bytes: &[u8], tensor: &str) -> Option<(usize, String, Vec<usize>)> {
    let length = u64::from_le_bytes(bytes[..8].try_into().ok()?) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).ok()?;
    let info = header.get(tensor)?;
    let shape = info["shape"].as_array()?.iter();
    let begin = info["data_offsets"][0].as_u64()? as usize;
    Some((
        8 + length + begin,
        info["dtype"].as_str()?.to_string(),
        shape.map(|s| s.as_u64().unwrap_or(0) as usize).collect(),
    ))
}

/// Adds 3 to one element of an expected tensor; returns its index, or `None` if there is no such
/// tensor or it is not of 4 or 8 bytes an element.
pub fn plant(bytes: &mut [u8], tensor: &str, seed: usize) -> Option<Vec<usize>> {
    let (begin, dtype, shape) = place(bytes, tensor)?;
    let element = seed % shape.iter().product::<usize>();
    match &dtype[..] {
        "F64" => {
            let at = &mut bytes[begin + 8 * element..][..8];
            let value = f64::from_le_bytes((&*at).try_into().ok()?) + 3.0;
            at.copy_from_slice(&value.to_le_bytes());
        }
        "F32" => {
            let at = &mut bytes[begin + 4 * element..][..4];
            let value = f32::from_le_bytes((&*at).try_into().ok()?) + 3.0;
            at.copy_from_slice(&value.to_le_bytes());
        }
        _ => return None,
    }
    let mut rest = element;
    let index = shape.iter().rev().map(|size| {
        let position = rest % size;
        rest /= size;
        position
    });
    let mut index: Vec<usize> = index.collect();
    index.reverse();
    Some(index)
}

#[test]
fn planted_errors_are_found_where_they_are_in_the_file() {
    let folder = scratch();
    let mut planted = 0;
    for (number, golden) in case::find(golden_cases())
        .expect("the golden cases")
        .iter()
        .enumerate()
    {
        for tensor in ["y", "dx", "dw", "dbias"] {
            let mut bytes = fs::read(golden).expect("a golden case");
            let Some(index) = plant(&mut bytes, tensor, 7919 * (number + 1)) else {
                continue;
            };
            let file = folder.path().join("planted.safetensors");
            fs::write(&file, bytes).expect("written");
            for elementwise in [None, Some(1e-3)] {
                let options = Options {
                    atol: elementwise,
                    rtol: elementwise,
                    ..Options::default()
                };
                let report = case::check_with(&file, &Device::Cpu, &options);
                let report = report.expect("a well-formed case");
                for row in &report.rows {
                    assert_eq!(
                        row.passed,
                        row.tensor != tensor,
                        "{}: {row}",
                        golden.display()
                    );
                    if row.tensor == tensor {
                        assert_eq!(row.worst.index, index, "{}: {row}", golden.display());
                        let difference = row.worst.expected - row.worst.got;
                        assert!(
                            (difference - 3.0).abs() < 1e-3,
                            "{}: {row}",
                            golden.display()
                        );
                    }
                }
            }
            planted += 1;
        }
    }
    assert!(planted > 800, "only {planted} planted errors");
}

#[test]
fn recorded_cases_pass_and_keep_their_inputs() {
    let folder = scratch();
    for name in [
        "keras_conv_transpose1d_same_dilation",
        "torch_conv1d_groups",
        "integer_conv2d_bf16",
    ] {
        let files = case::find(golden_cases()).expect("the golden cases");
        let stem = |f: &&PathBuf| {
            f.file_stem()
                .is_some_and(|s| s.to_string_lossy().starts_with(name))
        };
        let Some(golden) = files.iter().find(stem) else {
            continue;
        };
        let to = folder.path().join("recorded.safetensors");
        case::record(golden, &to, &Device::Cpu, &Options::default()).expect("recorded");
        let exact = Options {
            exact: true,
            ..Options::default()
        };
        let report = case::check_with(&to, &Device::Cpu, &exact).expect("a well-formed case");
        assert!(report.passed(), "{report}");
        let (before, after) = (
            fs::read(golden).expect("read"),
            fs::read(&to).expect("read"),
        );
        let before = SafeTensors::deserialize(&before).expect("well-formed");
        let after = SafeTensors::deserialize(&after).expect("well-formed");
        assert_eq!(before.len(), after.len());
        for input in ["x", "w", "bias", "dy"] {
            if let Ok(tensor) = before.tensor(input) {
                assert_eq!(tensor.data(), after.tensor(input).expect("kept").data());
            }
        }
    }
}

/// A small case with every kind of setting.
fn small_case(path: &Path) {
    let settings = [
        ("op", "\"conv\""),
        ("stride", "[1]"),
        ("dilation", "[1]"),
        ("padding", "[[1, 1]]"),
        ("padding_mode", "\"replicate\""),
        ("groups", "1"),
        ("kernel_size", "[2]"),
        ("output_padding", "[0]"),
        ("layout", "\"channels_first\""),
        ("weight_layout", "\"pytorch\""),
        ("name", "\"small\""),
    ];
    let tensors: [(&str, &[usize], &[f32]); 6] = [
        ("x", &[1, 1, 3], &[1.0, 2.0, 3.0]),
        ("w", &[1, 1, 2], &[10.0, 1.0]),
        ("bias", &[1], &[0.0]),
        ("dy", &[1, 1, 4], &[1.0, 0.0, 0.0, 1.0]),
        ("y", &[1, 1, 4], &[11.0, 12.0, 23.0, 33.0]),
        ("dw", &[1, 1, 2], &[4.0, 4.0]),
    ];
    write(path, &settings, &tensors);
}

/// Whatever is in the file, the check comes back with a report or an error.
fn survives(bytes: &[u8]) {
    let folder = scratch();
    let path = folder.path().join("case.safetensors");
    fs::write(&path, bytes).expect("written");
    match case::check(&path, &Device::Cpu) {
        Ok(report) => drop(report.to_string()),
        Err(error) => drop(error.to_string()),
    }
}

#[test]
fn the_small_case_is_right() {
    let folder = scratch();
    let path = folder.path().join("case.safetensors");
    small_case(&path);
    let report = case::check(&path, &Device::Cpu).expect("well-formed");
    assert!(report.passed(), "{report}");
    assert_eq!(report.name, "small");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_byte_makes_a_check_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keep in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let folder = scratch();
        let path = folder.path().join("case.safetensors");
        small_case(&path);
        let mut bytes = fs::read(&path).expect("read");
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        survives(&bytes);
    }

    #[test]
    fn no_setting_makes_a_check_panic(
        op in prop::sample::select(vec!["conv", "conv_transpose", "depthwise_conv", "dense", "max_pool", "avg_pool"]),
        rules in prop::sample::select(vec!["pytorch", "keras", "onnx"]),
        layout in prop::sample::select(vec!["channels_first", "channels_last"]),
        weight_layout in prop::sample::select(vec!["pytorch", "keras", "theano"]),
        mode in prop::sample::select(vec!["zeros", "reflect", "replicate", "circular"]),
        named in prop::option::of(prop::sample::select(vec!["valid", "same", "same_lower", "full", "causal"])),
        numbers in prop::collection::vec(
            prop_oneof![
                0..4u64,
                0..40u64,
                prop::sample::select(vec![1 << 20, 1 << 31, 1 << 40, (1 << 62) - 1, i64::MAX as u64, u64::MAX]),
            ],
            8,
        ),
        flags in any::<[bool; 2]>(),
        rank in 1..4usize,
        dy in any::<bool>(),
    ) {
        let folder = scratch();
        let path = folder.path().join("case.safetensors");
        let list = |n: u64| format!("{:?}", vec![n; rank]);
        let padding = match named {
            Some(name) => format!("\"{name}\""),
            None => format!("{:?}", vec![vec![numbers[0], numbers[1]]; rank]),
        };
        let quote = |s: &str| format!("\"{s}\"");
        let settings = [
            ("op", quote(op)),
            ("rules", quote(rules)),
            ("layout", quote(layout)),
            ("weight_layout", quote(weight_layout)),
            ("padding_mode", quote(mode)),
            ("padding", padding),
            ("stride", list(numbers[2])),
            ("dilation", list(numbers[3])),
            ("kernel_size", list(numbers[4])),
            ("output_padding", list(numbers[5])),
            ("output_shape", list(numbers[6])),
            ("groups", numbers[7].to_string()),
            ("ceil_mode", flags[0].to_string()),
            ("count_include_pad", flags[1].to_string()),
        ];
        // what does not hold for the drawn settings is left out, so that all ops get far enough
        let skip = |key: &str| {
            (key == "output_shape" && rules != "onnx") || (key == "groups" && numbers[7] > 3)
        };
        let settings: Vec<_> = settings.iter().filter(|(k, _)| !skip(k)).map(|(k, v)| (*k, &v[..])).collect();
        let shape = |spatial| [vec![2, 2], vec![spatial; rank]].concat();
        let values: Vec<f32> = (0..4 * 3usize.pow(3)).map(|v| v as f32).collect();
        let count = |spatial: usize| 4 * spatial.pow(rank as u32);
        let (three, two) = (shape(3), shape(2));
        let mut tensors = vec![
            ("x", &three[..], &values[..count(3)]),
            ("w", &two[..], &values[..count(2)]),
            ("y", &two[..], &values[..count(2)]),
        ];
        if dy {
            tensors.push(("dy", &two[..], &values[..count(2)]));
            tensors.push(("dx", &three[..], &values[..count(3)]));
            tensors.push(("dw", &two[..], &values[..count(2)]));
        }
        write(&path, &settings, &tensors);
        survives(&fs::read(&path).expect("read"));
    }
}

#[test]
fn a_case_that_its_rules_refuse_is_malformed() {
    let folder = scratch();
    let path = folder.path().join("case.safetensors");
    let settings = [
        ("op", "\"conv\""),
        ("rules", "\"keras\""),
        ("padding", "\"full\""),
    ];
    let tensors: [(&str, &[usize], &[f32]); 3] = [
        ("x", &[1, 1, 2], &[1.0, 2.0]),
        ("w", &[2, 1, 1], &[1.0, 2.0]),
        ("y", &[1, 1, 3], &[1.0, 2.0, 3.0]),
    ];
    write(&path, &settings, &tensors);
    let error = case::check(&path, &Device::Cpu).expect_err("Keras has no padding full");
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
}
