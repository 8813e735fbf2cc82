//! Parameters in safetensors files: round trips, other types, and files that lie.

use std::fs;
use std::path::Path;

use half::bf16;
use ndconv::init::Rng;
use ndconv::io::{load_parameters, save_parameters, write_atomically};
use ndconv::layer::{Conv2d, Dense, Flatten, Layer, Sequential};
use ndconv::{Element, Error, Layout, Result, Tensor};
use proptest::prelude::*;

fn net<T: Element>(seed: u64, layout: Layout) -> Result<Sequential<T>> {
    let rng = &mut Rng::new(seed);
    let conv = Conv2d::builder(2, 3, [3, 2])
        .weight_layout(layout)
        .build(rng)?;
    Ok(Sequential::new()
        .then(conv)
        .then(Flatten)
        .then(Dense::new(12, 2, rng)?))
}

fn values<T: Element>(layer: &dyn Layer<T>) -> Result<Vec<Vec<f64>>> {
    let to_vec =
        |(_, p): (String, &Tensor<T>)| p.to_layout(Layout::ChannelsFirst)?.cast::<f64>()?.to_vec();
    layer.parameters().into_iter().map(to_vec).collect()
}

#[test]
fn a_round_trip_changes_nothing_even_between_layouts() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.safetensors");
    let saved = net::<f32>(1, Layout::ChannelsLast)?;
    save_parameters(&saved, &path)?;
    let mut loaded = net::<f32>(2, Layout::ChannelsFirst)?;
    load_parameters(&mut loaded, &path)?;
    assert_eq!(values(&loaded)?, values(&saved)?);
    let files: Vec<_> = fs::read_dir(folder.path()).expect("the folder").collect();
    assert_eq!(files.len(), 1, "a temporary file was left behind");
    Ok(())
}

#[test]
fn another_float_type_is_rounded() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.safetensors");
    let saved = net::<f64>(1, Layout::ChannelsFirst)?;
    save_parameters(&saved, &path)?;
    let mut loaded = net::<bf16>(2, Layout::ChannelsFirst)?;
    load_parameters(&mut loaded, &path)?;
    let rounded = |v: f64| bf16::from_f64(v).to_f64();
    let expected: Vec<Vec<f64>> = values(&saved)?
        .into_iter()
        .map(|list| list.into_iter().map(rounded).collect())
        .collect();
    assert_eq!(values(&loaded)?, expected);
    Ok(())
}

/// What loading says, with the layer checked to be as it was.
fn refusal(path: &Path, layer: &mut dyn Layer<f32>) -> Error {
    let before = values(layer).expect("values");
    let error = load_parameters(layer, path).expect_err("a file that is not this layer's");
    assert_eq!(values(layer).expect("values"), before);
    error
}

#[test]
fn a_file_of_another_net_is_refused_by_name() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("net.safetensors");
    let rng = &mut Rng::new(0);
    save_parameters(&Dense::<f32>::new(3, 2, rng)?, &path)?;

    let mut other_shape = Dense::<f32>::new(2, 2, rng)?;
    let message = refusal(&path, &mut other_shape).to_string();
    assert!(message.contains("weight has shape [2, 3]"), "{message}");
    assert!(message.contains("net.safetensors"), "{message}");

    let mut more = net::<f32>(0, Layout::ChannelsFirst)?;
    let message = refusal(&path, &mut more).to_string();
    assert!(message.contains("there is no tensor 0.weight"), "{message}");

    let weight = Tensor::from_vec(&[2, 3], vec![0.0f32; 6])?;
    let mut fewer = Dense::with_weights(weight, None)?;
    let message = refusal(&path, &mut fewer).to_string();
    assert!(message.contains("no parameter bias"), "{message}");
    Ok(())
}

#[test]
fn missing_files_and_folders_are_named() -> Result<()> {
    let mut dense = Dense::<f32>::new(1, 1, &mut Rng::new(0))?;
    let error = refusal(Path::new("no/such/file.safetensors"), &mut dense);
    assert!(matches!(error, Error::Io { .. }));
    assert!(error.to_string().contains("no/such/file"));
    let error = save_parameters(&dense, "no/such/folder/out.safetensors").unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
    Ok(())
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).expect("a folder in the way");
    fs::write(taken.join("inside"), "kept").expect("a file in it");
    assert!(matches!(
        write_atomically(&taken, b"new"),
        Err(Error::Io { .. })
    ));
    assert_eq!(fs::read(taken.join("inside")).expect("the file"), b"kept");
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);
}

fn well_formed() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("dense.safetensors");
    let dense = Dense::<f32>::new(3, 2, &mut Rng::new(0)).expect("a layer");
    save_parameters(&dense, &path).expect("a file");
    fs::read(path).expect("the file")
}

fn load(bytes: &[u8]) -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broken.safetensors");
    fs::write(&path, bytes).expect("a file");
    let mut dense = Dense::<f32>::new(3, 2, &mut Rng::new(0)).expect("a layer");
    load_parameters(&mut dense, &path)
}

#[test]
fn every_truncation_is_a_format_error() {
    let whole = well_formed();
    assert!(load(&whole).is_ok());
    for length in 0..whole.len() {
        let error = load(&whole[..length]).expect_err("half a file");
        assert!(matches!(error, Error::Format { .. }), "{length}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A changed byte is either data, and loads, or a typed error; never a panic.
    #[test]
    fn changed_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = well_formed();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Err(error) = load(&bytes) {
            let is_format = matches!(error, Error::Format { .. });
            prop_assert!(is_format, "{}", error);
        }
    }
}

#[test]
fn a_header_that_claims_more_than_there_is_allocates_nothing() {
    let header = br#"{"weight":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,18446744073709551615]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    assert!(matches!(load(&bytes), Err(Error::Format { .. })));
    let mut bytes = u64::MAX.to_le_bytes().to_vec();
    bytes.extend_from_slice(b"{}");
    assert!(matches!(load(&bytes), Err(Error::Format { .. })));
}
