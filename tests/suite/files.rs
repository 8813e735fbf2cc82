//! Files of tensors that the libraries themselves wrote: `tests/files/generate.py`.

use std::path::{Path, PathBuf};

use ndconv::io::{Archive, Entry, Format, StoredTensor, Writer};
use ndconv::{Error, Result};

pub fn file(name: &str) -> PathBuf {
    crate::root().join("tests/files").join(name)
}

fn open(name: &str) -> Archive {
    Archive::open(file(name)).unwrap_or_else(|e| panic!("{e}"))
}

/// What the generator puts into a tensor of this shape.
pub fn ramp(shape: &[usize]) -> Vec<f64> {
    let count = shape.iter().product::<usize>();
    let value = |i: usize| ((i * 37 + 11 * shape.len()) % 101) as f64 - 50.0;
    (0..count).map(|i| value(i) / 8.0).collect()
}

fn values(archive: &Archive, name: &str) -> Vec<f64> {
    archive
        .tensor::<f64>(name)
        .unwrap_or_else(|e| panic!("{e}"))
        .to_vec()
        .unwrap()
}

#[track_caller]
fn assert_ramp(archive: &Archive, name: &str, dtype: &str, shape: &[usize]) {
    let tensor = archive.find(name).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        (tensor.shape(), tensor.dtype().to_string()),
        (shape, dtype.to_string()),
        "{name}"
    );
    assert_eq!(values(archive, name), ramp(shape), "{name}");
}

fn names(archive: &Archive) -> Vec<&str> {
    archive.tensors().iter().map(StoredTensor::name).collect()
}

fn integers(archive: &Archive, name: &str) -> Vec<i64> {
    let bytes = archive.read(archive.find(name).unwrap()).unwrap();
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|&w| i64::from_le_bytes(w)).collect()
}

#[test]
fn npy_in_every_order_and_type() {
    assert_ramp(&open("c_order.npy"), "array", "f32", &[3, 4, 5]);
    assert_ramp(&open("fortran.npy"), "array", "f64", &[3, 4, 5]);
    assert_ramp(&open("big_endian.npy"), "array", "f32", &[7]);
    assert_ramp(&open("half.npy"), "array", "f16", &[2, 3]);
    assert_ramp(&open("scalar.npy"), "array", "f32", &[]);
    assert_eq!(open("half.npy").format(), Format::Npy);
}

#[test]
fn npz_plain_and_compressed() {
    for name in ["plain.npz", "compressed.npz"] {
        let archive = open(name);
        assert_eq!(archive.format(), Format::Npz);
        assert_eq!(names(&archive), ["conv/kernel", "bias", "steps"]);
        assert_ramp(&archive, "conv/kernel", "f32", &[3, 3, 2, 4]);
        assert_ramp(&archive, "bias", "f64", &[4]);
        assert_eq!(integers(&archive, "steps"), [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn safetensors_keep_every_float_type() {
    let archive = open("types.safetensors");
    assert_eq!(archive.format(), Format::Safetensors);
    for dtype in ["f16", "bf16", "f32", "f64"] {
        assert_ramp(&archive, dtype, dtype, &[2, 3]);
    }
    assert_eq!(integers(&archive, "i64"), [0, 1, 2, 3, 4]);
    assert_eq!(archive.metadata()["format"], "pt");
    assert!(
        archive
            .tensor::<f32>("i64")
            .unwrap_err()
            .to_string()
            .contains("i64")
    );
}

#[test]
fn pytorch_state_dict() {
    let archive = open("state_dict.pt");
    assert_eq!(archive.format(), Format::Torch);
    assert_ramp(&archive, "features.0.weight", "f32", &[4, 2, 3, 3]);
    assert_ramp(&archive, "features.1.running_var", "f32", &[4]);
    assert_ramp(&archive, "classifier.weight", "f32", &[5, 36]);
    assert_eq!(
        archive
            .find("features.1.num_batches_tracked")
            .unwrap()
            .shape(),
        [0usize; 0]
    );
}

#[test]
fn pytorch_views_of_one_storage() {
    let archive = open("views.pt");
    let base = ramp(&[4, 6]);
    let at = |r: usize, c: usize| base[r * 6 + c];
    let transposed: Vec<f64> = (0..24).map(|i| at(i % 4, i / 4)).collect();
    assert_eq!(values(&archive, "transposed"), transposed);
    let slice: Vec<f64> = (0..6).map(|i| at(1 + i / 3, 2 + i % 3)).collect();
    assert_eq!(values(&archive, "slice"), slice);
    let every_other: Vec<f64> = base.iter().step_by(2).copied().collect();
    assert_eq!(values(&archive, "every_other"), every_other);
    let expanded: Vec<f64> = ramp(&[3, 1]).into_iter().flat_map(|v| [v; 4]).collect();
    assert_eq!(values(&archive, "expanded"), expanded);
    for dtype in ["bf16", "f16", "f64"] {
        assert_ramp(&archive, dtype, dtype, &[3, 2]);
    }
    assert_eq!(
        archive.read(archive.find("bool").unwrap()).unwrap(),
        [1, 0, 1]
    );
    assert_eq!(archive.find("empty").unwrap().shape(), [0, 3]);
    assert_eq!(values(&archive, "empty"), [0.0; 0]);
    assert_eq!(values(&archive, "scalar"), [1.5]);
}

#[test]
fn pytorch_checkpoint_with_an_optimiser() {
    let archive = open("checkpoint.pth");
    assert_ramp(&archive, "model.features.0.weight", "f32", &[4, 2, 3, 3]);
    assert_ramp(&archive, "parameter", "f32", &[2, 2]);
    let moment = archive.find("optimizer.state.4.exp_avg").unwrap();
    assert_eq!(moment.shape(), [5, 36]);
}

#[test]
fn pickles_that_name_other_things_are_refused() {
    let error = Archive::open(file("whole_module.pt")).unwrap_err();
    assert!(matches!(error, Error::Format { .. }));
    let text = error.to_string();
    assert!(
        text.contains("whole_module.pt") && text.contains("torch.nn.modules.linear.Linear"),
        "{text}"
    );
    assert!(text.contains("at byte"), "{text}");
    let error = Archive::open(file("legacy.pth")).unwrap_err().to_string();
    assert!(error.contains("before 1.6"), "{error}");
}

#[test]
fn keras_weights_models_and_legacy_files() {
    for (name, format) in [
        ("model.weights.h5", Format::Hdf5),
        ("model.keras", Format::Keras),
    ] {
        let archive = open(name);
        assert_eq!(archive.format(), format);
        assert_ramp(&archive, "layers/conv2d/vars/0", "f32", &[3, 3, 2, 4]);
        assert_ramp(&archive, "layers/conv2d/vars/1", "f32", &[4]);
        assert_ramp(&archive, "layers/dense/vars/0", "f32", &[36, 5]);
    }
    let archive = open("legacy.h5");
    assert_ramp(
        &archive,
        "model_weights/classifier/sequential/classifier/kernel",
        "f32",
        &[36, 5],
    );
    assert_ramp(
        &archive,
        "model_weights/features/sequential/features/bias",
        "f32",
        &[4],
    );
    assert_ramp(
        &open("bfloat16.weights.h5"),
        "layers/dense/vars/0",
        "bf16",
        &[36, 5],
    );
}

#[test]
fn hdf5_layouts_filters_and_types() {
    for version in ["earliest", "latest"] {
        let archive = open(&format!("layouts_{version}.h5"));
        for name in [
            "contiguous",
            "gzip",
            "one_chunk",
            "more/shuffled",
            "more/chunked",
        ] {
            assert_ramp(&archive, name, "f32", &[20, 30]);
        }
        let ramped = ramp(&[20, 30]);
        let partial = |i: usize| {
            if i / 30 < 8 && i % 30 < 7 {
                ramped[i]
            } else {
                2.5
            }
        };
        assert_eq!(
            values(&archive, "more/partial"),
            (0..600).map(partial).collect::<Vec<_>>()
        );
        assert_eq!(values(&archive, "more/unwritten"), [0.0; 6]);
        assert_ramp(&archive, "types/big_endian", "f64", &[20, 30]);
        assert_ramp(&archive, "types/half", "f16", &[20, 30]);
        assert_ramp(&archive, "again", "f16", &[20, 30]);
        assert_ramp(&archive, "compact", "f32", &[3, 2]);
        assert_eq!(values(&archive, "types/scalar"), [1.5]);
        assert_eq!(integers(&archive, "types/whole"), [0, 1, 2, 3]);
        assert_eq!(
            archive.find("types/flag").unwrap().dtype().to_string(),
            "bool"
        );
        assert!(archive.find("types/text").is_err() && archive.find("soft").is_err());
    }
    let archive = open("layouts_earliest.h5");
    assert_ramp(&archive, "growing", "f32", &[20, 30]);
    // two bytes without a type: bfloat16 to h5py, and in Keras' older files
    assert_eq!(values(&archive, "opaque"), [1.0, -3.0]);
    for i in 0..40 {
        assert_ramp(
            &archive,
            &format!("group/deep/tensor_{i:02}"),
            "f32",
            &[i + 1],
        );
    }
}

#[test]
fn hdf5_groups_of_many_links() {
    let archive = open("links_latest.h5");
    assert_eq!(archive.tensors().len(), 1 + 600 + 9);
    for i in 0..600 {
        let tensor = archive.find(&format!("many/link_{i:03}")).unwrap();
        assert_eq!(tensor.shape(), [2, 3]);
    }
    assert_ramp(&archive, "many/link_599", "f32", &[2, 3]);
    for i in 0..9 {
        let name = format!("few/{}{i}", "long".repeat(30));
        assert_eq!(values(&archive, &name), [f64::from(i)]);
    }
}

#[test]
fn hdf5_datasets_that_may_grow() {
    let archive = open("growing_latest.h5");
    for (name, shape) in [
        ("fixed", [6, 4]),
        ("implicit", [6, 4]),
        ("one_way", [20, 6]),
        ("one_way_filtered", [20, 6]),
        ("second_way", [6, 20]),
        ("both_ways", [20, 6]),
        ("both_ways_filtered", [20, 6]),
    ] {
        assert_ramp(&archive, name, "f32", &shape);
    }
    assert_ramp(&archive, "one_way_far", "f16", &[260]);
    assert_ramp(&archive, "both_ways_far", "f16", &[10, 9]);
    assert_eq!(values(&archive, "unwritten"), [0.0; 6]);
}

#[test]
fn complex_arrays_do_not_hide_the_others() {
    let archive = open("complex.npz");
    assert_ramp(&archive, "plain", "f64", &[3]);
    let spectrum = archive.find("spectrum").unwrap();
    assert_eq!(
        (spectrum.dtype().to_string(), spectrum.shape()),
        ("c64".into(), &[2][..])
    );
    let bytes = archive.read(spectrum).unwrap();
    let parts: Vec<f32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|&w| f32::from_le_bytes(w))
        .collect();
    assert_eq!(parts, [1.0, 2.0, 0.0, -3.5]);
    assert!(matches!(
        archive.tensor::<f32>("spectrum"),
        Err(Error::Format { .. })
    ));
}

#[test]
fn onnx_initialisers_raw_listed_constant_and_external() {
    let archive = open("model.onnx");
    assert_eq!(archive.format(), Format::Onnx);
    assert_ramp(&archive, "conv.weight", "f32", &[4, 2, 3, 3]);
    assert_ramp(&archive, "shift", "f32", &[3]);
    let listed = [
        ("doubles", "f64"),
        ("halves", "f16"),
        ("listed", "f32"),
        ("listed_f16", "f16"),
    ];
    for (name, dtype) in listed
        .into_iter()
        .chain([("listed_f64", "f64"), ("bf16", "bf16")])
    {
        assert_ramp(&archive, name, dtype, &[4]);
    }
    assert_eq!(integers(&archive, "shape"), [1, -1]);
    assert_eq!(integers(&archive, "listed_i64"), [3, -4]);
    assert_ramp(&open("external.onnx"), "outside.weight", "f32", &[6, 4]);
}

#[test]
fn external_data_stays_in_the_folder() {
    let bytes = std::fs::read(file("external.onnx")).unwrap();
    let at = bytes
        .windows(18)
        .position(|w| w == b"external.onnx.data")
        .unwrap();
    for outside in [
        "/etc/passwd.......",
        "../onnx/secret.dat",
        "a/../../secret.dat",
    ] {
        let mut bytes = bytes.clone();
        bytes[at..at + 18].copy_from_slice(outside.as_bytes());
        let error = Archive::from_bytes(file("external.onnx"), bytes)
            .unwrap_err()
            .to_string();
        assert!(error.contains("folder"), "{error}");
    }
}

fn copy(from: &Archive, to: &Path) -> Result<()> {
    let entry = |t: &StoredTensor| Entry {
        name: t.name().into(),
        shape: t.shape().to_vec(),
        dtype: t.dtype(),
    };
    let entries = from.tensors().iter().map(entry).collect();
    let mut writer = Writer::create(to, entries, from.metadata())?;
    for tensor in from.tensors() {
        writer.tensor(|target| Ok(from.copy(tensor, target)?))?;
    }
    writer.finish()
}

#[test]
fn everything_that_is_read_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let sources = [
        "types.safetensors",
        "views.pt",
        "layouts_earliest.h5",
        "model.onnx",
        "compressed.npz",
    ];
    for source in sources {
        let from = open(source);
        for target in ["copy.safetensors", "copy.npz"] {
            let path = folder.path().join(target);
            copy(&from, &path).unwrap();
            let to = Archive::open(&path).unwrap();
            assert_eq!(names(&to), names(&from), "{source} {target}");
            for (a, b) in from.tensors().iter().zip(to.tensors()) {
                assert_eq!((a.shape(), a.dtype()), (b.shape(), b.dtype()));
                assert_eq!(
                    from.read(a).unwrap(),
                    to.read(b).unwrap(),
                    "{source} {}",
                    a.name()
                );
            }
        }
    }
    let path = folder.path().join("copy.npy");
    copy(&open("fortran.npy"), &path).unwrap();
    assert_ramp(&Archive::open(&path).unwrap(), "array", "f64", &[3, 4, 5]);
    assert!(copy(&open("plain.npz"), &path).is_err());
    assert!(copy(&open("plain.npz"), &folder.path().join("copy.pt")).is_err());
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 3, "nothing half written is left");
}

#[test]
fn a_writer_that_is_given_other_bytes_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let entry = Entry {
        name: "a".into(),
        shape: vec![2],
        dtype: ndconv::DType::F32.into(),
    };
    let mut writer = Writer::create(&path, vec![entry.clone()], &Default::default()).unwrap();
    assert!(writer.tensor(|t| Ok(t.write_all(&[0; 7])?)).is_err());
    assert!(writer.tensor(|t| Ok(t.write_all(&[0; 8])?)).is_err());
    drop(writer);
    let unfinished = Writer::create(&path, vec![entry.clone()], &Default::default()).unwrap();
    assert!(unfinished.finish().is_err());
    let twice = vec![entry.clone(), entry];
    assert!(Writer::create(&path, twice, &Default::default()).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
