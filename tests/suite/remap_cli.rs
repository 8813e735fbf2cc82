//! `ndconv remap` and `ndconv inspect` on files of real libraries.

use std::path::Path;
use std::process::{Command, Output};

use ndconv::io::Archive;
use ndconv::remap;
use ndconv::{DType, Layout};

use crate::files::{file, ramp};

fn ndconv(arguments: &[&str]) -> Output {
    let mut command = Command::new(crate::program());
    command.args(arguments).output().unwrap()
}

#[track_caller]
fn done(arguments: &[&str]) -> String {
    let output = ndconv(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refused(arguments: &[&str], says: &str) {
    let output = ndconv(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(
        errors.contains(says) && errors.lines().count() == 1,
        "{errors}"
    );
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn f1_a_pytorch_dense_layer_becomes_a_convolution_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (
        file("state_dict.pt"),
        folder.path().join("conv.safetensors"),
    );
    let before = std::fs::read(&input).unwrap();
    for order in ["channels-first", "channels-last"] {
        let printed = done(&[
            "remap",
            text(&input),
            "-o",
            text(&output),
            "--dense",
            "classifier",
            "--input",
            "4x3x3",
            "--flatten",
            order,
            "--verify",
            "3",
        ]);
        assert!(
            printed.contains("pass") && printed.contains("[5, 4, 3, 3]"),
            "{printed}"
        );
        let archive = Archive::open(&output).unwrap();
        let got = archive
            .tensor::<f64>("classifier.weight")
            .unwrap()
            .to_array()
            .unwrap();
        let dense = ndarray::ArrayD::from_shape_vec(vec![5, 36], ramp(&[5, 36])).unwrap();
        let order: Layout = order.replace('-', "_").parse().unwrap();
        assert_eq!(
            got,
            remap::dense_to_conv(&dense, &[4, 3, 3], order).unwrap()
        );
        // everything else as it was
        let old = Archive::open(&input).unwrap();
        assert_eq!(archive.tensors().len(), old.tensors().len());
        for tensor in old
            .tensors()
            .iter()
            .filter(|t| t.name() != "classifier.weight")
        {
            let copy = archive.find(tensor.name()).unwrap();
            assert_eq!(
                (copy.shape(), copy.dtype()),
                (tensor.shape(), tensor.dtype())
            );
            assert_eq!(archive.read(copy).unwrap(), old.read(tensor).unwrap());
        }
    }
    assert_eq!(std::fs::read(&input).unwrap(), before);
}

#[test]
fn f3_a_keras_model_in_pytorchs_order_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("torch.safetensors");
    let back = folder.path().join("keras.npz");
    let printed = done(&[
        "remap",
        text(&file("model.keras")),
        "-o",
        text(&there),
        "--from",
        "keras",
        "--conv",
        "layers/conv2d",
        "--dense",
        "layers/dense=4x3x3",
        "--flatten",
        "channels-last",
        "--verify",
        "2",
        "--json",
    ]);
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(report["copied"], 2);
    assert!(report["changed"][1]["passed"].as_bool().unwrap());
    let archive = Archive::open(&there).unwrap();
    assert_eq!(
        archive.find("layers/conv2d/vars/0").unwrap().shape(),
        [4, 2, 3, 3]
    );
    assert_eq!(
        archive.find("layers/dense/vars/0").unwrap().shape(),
        [5, 4, 3, 3]
    );
    done(&[
        "remap",
        text(&there),
        "-o",
        text(&back),
        "--to",
        "keras",
        "--conv",
        "layers/conv2d",
        "--to-dense",
        "layers/dense",
        "--flatten",
        "channels-last",
        "--verify",
        "1",
    ]);
    let (a, b) = (
        Archive::open(file("model.keras")).unwrap(),
        Archive::open(&back).unwrap(),
    );
    for tensor in a.tensors() {
        let copy = b.find(tensor.name()).unwrap();
        assert_eq!(copy.shape(), tensor.shape());
        assert_eq!(
            a.read(tensor).unwrap(),
            b.read(copy).unwrap(),
            "{}",
            tensor.name()
        );
    }
}

#[test]
fn short_floats_stay_short() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("conv.safetensors");
    let input = file("bfloat16.weights.h5");
    done(&[
        "remap",
        text(&input),
        "-o",
        text(&output),
        "--from",
        "keras",
        "--to",
        "theano",
        "--dense",
        "layers/dense",
        "--input",
        "4x3x3",
        "--flatten",
        "channels-last",
        "--verify",
        "2",
    ]);
    let archive = Archive::open(&output).unwrap();
    let weight = archive.find("layers/dense/vars/0").unwrap();
    assert_eq!(weight.dtype().float(), Some(DType::BF16));
}

#[test]
fn mistakes_are_told_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let (input, out) = (file("state_dict.pt"), text(&output));
    let input = text(&input);
    refused(&["remap", input, "-o", out], "--dense");
    refused(
        &[
            "remap", input, "-o", out, "--dense", "fc", "--input", "4x3x3",
        ],
        "no tensor fc",
    );
    refused(
        &["remap", input, "-o", out, "--dense", "classifier"],
        "--input",
    );
    refused(
        &["remap", input, "-o", out, "--dense", "classifier=4x3x4"],
        "(out, 48)",
    );
    refused(
        &["remap", input, "-o", out, "--conv", "classifier"],
        "classifier.weight",
    );
    refused(
        &["remap", input, "-o", input, "--dense", "classifier=4x3x3"],
        "never touched",
    );
    refused(
        &[
            "remap",
            input,
            "-o",
            "out.pt",
            "--dense",
            "classifier=4x3x3",
        ],
        ".safetensors",
    );
    refused(
        &["remap", input, "-o", out, "--dense", "classifier=4xx"],
        "512x7x7",
    );
    assert!(!output.exists());
}

#[test]
fn inspect_lists_tensors_with_their_statistics() {
    let printed = done(&["inspect", text(&file("types.safetensors"))]);
    assert!(
        printed.contains("bf16") && printed.contains("[2, 3]") && printed.contains("mean"),
        "{printed}"
    );
    let printed = done(&["inspect", "--json", text(&file("plain.npz"))]);
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let bias = &report["files"][0]["tensors"][1];
    let values = ramp(&[4]);
    assert_eq!(
        bias["min"].as_f64().unwrap(),
        values.iter().copied().fold(f64::MAX, f64::min)
    );
    assert_eq!(
        bias["mean"].as_f64().unwrap(),
        values.iter().sum::<f64>() / 4.0
    );
    assert_eq!((&bias["nan"], &bias["dtype"]), (&0.into(), &"f64".into()));
    refused(
        &["inspect", text(&file("whole_module.pt"))],
        "torch.nn.modules.linear.Linear",
    );
}
