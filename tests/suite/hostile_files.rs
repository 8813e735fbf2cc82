//! Files made to harm: each gives an error that names the file and the place.

use std::io::Write;

use ndconv::Error;
use ndconv::io::Archive;

use crate::files::file;

/// The harness of the fuzz targets.
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

#[track_caller]
fn refused(name: &str, bytes: Vec<u8>, says: &str) {
    let error = Archive::from_bytes(name, bytes).and_then(|archive| {
        archive
            .tensors()
            .iter()
            .try_for_each(|t| archive.read(t).map(|_| ()))
    });
    let error = error.expect_err("a hostile file was taken");
    assert!(matches!(error, Error::Format { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(name) && text.contains(says), "{text}");
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn safetensors_with_wrong_headers() {
    let name = "bad.safetensors";
    refused(
        name,
        b"\xff\xff\xff\xff\xff\xff\xff\x7f{".to_vec(),
        "header of 9223372036854775807 bytes",
    );
    refused(name, Vec::new(), "header length");
    let one = |shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    refused(
        name,
        safetensors(&one("[2]", "[0,8]"), 7),
        "8 bytes of tensors",
    );
    refused(
        name,
        safetensors(&one("[2]", "[0,8]"), 9),
        "8 bytes of tensors",
    );
    refused(name, safetensors(&one("[3]", "[0,8]"), 8), "header");
    refused(name, safetensors(&one("[2]", "[4,12]"), 12), "header");
    refused(
        name,
        safetensors(&one("[4294967296,4294967296,4]", "[0,0]"), 0),
        "header",
    );
    refused(name, safetensors(r#"{"a":{"#, 0), "header");
    refused(name, safetensors(&("{\"a\":".repeat(5000)), 0), "header");
}

fn npy(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn described(descr: &str, shape: &str) -> String {
    format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")
}

#[test]
fn empty_arrays_whose_strides_overflow() {
    let long = "4294967296, 4294967296, 4294967296";
    for shape in [
        format!("(0, {long})"),
        format!("({long}, 0)"),
        format!("(7, {long}, 0, 2)"),
    ] {
        for order in ["True", "False"] {
            let header = described("'<f4'", &shape).replace("False", order);
            let opened = Archive::from_bytes("x.npy", npy(&header, 0));
            assert!(matches!(opened, Err(Error::TooLarge { .. })), "{opened:?}");
        }
    }
}

#[test]
fn npy_with_wrong_headers() {
    let name = "bad.npy";
    refused(
        name,
        npy(&described("'<f4'", "(1000000000000,)"), 8),
        "8 bytes follow",
    );
    refused(name, npy(&described("'<f4'", "(-1,)"), 0), "shape");
    refused(name, npy(&described("'|O'", "(1,)"), 8), "|O");
    refused(
        name,
        npy(&described("[('a', '<f4')]", "(1,)"), 4),
        "structured",
    );
    refused(name, npy("{'descr': '<f4'}", 4), "fortran_order");
    refused(
        name,
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(),
        "too many",
    );
}

fn zipped(members: &[(&str, &[u8])], deflate: bool) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let method = match deflate {
        true => zip::CompressionMethod::Deflated,
        false => zip::CompressionMethod::Stored,
    };
    for (name, bytes) in members {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn zip_bombs_are_not_expanded() {
    let bomb = npy(&described("'<f4'", "(10000000,)"), 40_000_000);
    let bytes = zipped(&[("a.npy", &bomb)], true);
    assert!(bytes.len() < 100_000);
    refused("bomb.npz", bytes, "bytes of memory");
    let zeros = vec![0; 40_000_000];
    refused(
        "bomb.pt",
        zipped(&[("x/data.pkl", &zeros)], true),
        "bytes of memory",
    );
    refused(
        "bomb.keras",
        zipped(&[("model.weights.h5", &zeros)], true),
        "bytes of memory",
    );
    refused(
        "empty.zip",
        zipped(&[("readme", b"hello")], true),
        "no known kind",
    );
}

fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    zipped(&[("x/data.pkl", pickle), ("x/data/0", &[0; 16])], false)
}

#[test]
fn pickles_are_never_run() {
    let name = "bad.pt";
    refused(
        name,
        checkpoint(b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R."),
        "os.system",
    );
    refused(
        name,
        checkpoint(b"\x80\x02cbuiltins\neval\n."),
        "builtins.eval",
    );
    refused(
        name,
        checkpoint(b"\x80\x04\x8c\x05posix\x8c\x06system\x93."),
        "posix.system",
    );
    refused(
        name,
        checkpoint(b"\x80\x02ctorch._utils\n_import_dotted_name\n."),
        "_import_dotted_name",
    );
    refused(name, checkpoint(b"\x80\x02i"), "0x69");
    refused(name, checkpoint(b"\x80\x02K"), "cut off");
    refused(name, checkpoint(b"\x80\x02R."), "nothing on the stack");
    refused(name, checkpoint(b"\x80\x02h\x07."), "memo 7");
    refused(name, checkpoint(b"\x80\x02X\xff\xff\xff\xff."), "cut off");
    // a list that holds itself, and a list of lists that doubles with every level
    refused(name, checkpoint(b"\x80\x02]q\0h\0a."), "refers to itself");
    let mut doubling = b"\x80\x02]q\0".to_vec();
    for level in 0..60u8 {
        doubling.extend([b']', b'q', level + 1, b'h', level, b'a', b'h', level, b'a']);
    }
    doubling.push(b'.');
    refused(name, checkpoint(&doubling), "refers to itself");
}

/// A float tensor of storage 0 with this offset, size and stride.
fn tensor_pickle(count: u8, offset: u8, size: &[u8], stride: &[u8]) -> Vec<u8> {
    let mut p =
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"
            .to_vec();
    p.extend(b"X\x01\0\0\x000X\x03\0\0\0cpuK");
    p.push(count);
    p.extend(b"tQK");
    p.push(offset);
    for numbers in [size, stride] {
        p.push(b'(');
        numbers
            .iter()
            .for_each(|n| p.extend([b'J', *n, 0, 0, *n / 128 * 255]));
        p.push(b't');
    }
    p.extend(b"\x89)tR.");
    p
}

#[test]
fn tensors_stay_inside_their_storage() {
    let name = "views.pt";
    let good = checkpoint(&tensor_pickle(4, 0, &[2, 2], &[2, 1]));
    assert_eq!(
        Archive::from_bytes(name, good).unwrap().tensors()[0].shape(),
        [2, 2]
    );
    refused(
        name,
        checkpoint(&tensor_pickle(4, 1, &[2, 2], &[2, 1])),
        "outside its storage",
    );
    refused(
        name,
        checkpoint(&tensor_pickle(4, 0, &[2, 2], &[100, 1])),
        "outside its storage",
    );
    refused(
        name,
        checkpoint(&tensor_pickle(200, 0, &[2, 2], &[2, 1])),
        "cut off",
    );
    refused(
        name,
        checkpoint(&tensor_pickle(4, 0, &[255, 2], &[2, 1])),
        "negative",
    );
    // 100^6 elements that are all the same one
    refused(
        name,
        checkpoint(&tensor_pickle(4, 0, &[100; 6], &[0; 6])),
        "bytes of memory",
    );
    refused(
        name,
        checkpoint(&tensor_pickle(4, 0, &[100; 20], &[0; 20])),
        "outside its storage",
    );
}

#[test]
fn onnx_models_with_wrong_lengths() {
    let name = "bad.onnx";
    refused(
        name,
        vec![0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f],
        "past the end",
    );
    refused(name, vec![0x3a, 0x80], "does not end");
    refused(name, vec![0x3b], "wire type 3");
    refused(name, vec![8, 7], "no graph");
    // graph { initializer { dims: 2^40, data_type: 1, name: "a" } }
    let tensor = [8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 16, 1, 66, 1, b'a'];
    let mut graph = vec![0x2a, tensor.len() as u8];
    graph.extend(tensor);
    let mut model = vec![0x3a, graph.len() as u8];
    model.extend(graph);
    refused(name, model, "0 bytes where 4398046511104 belong");
}

#[test]
fn hdf5_that_refers_to_itself() {
    let bytes = std::fs::read(file("layouts_earliest.h5")).unwrap();
    // every symbol table entry of the group `types` leads to the root group
    let root = u64::from_le_bytes(bytes[64..72].try_into().unwrap());
    let mut looped = bytes.clone();
    let mut at = 0;
    while let Some(found) = looped[at..].windows(4).position(|w| w == b"SNOD") {
        let node = at + found;
        let entries = usize::from(u16::from_le_bytes([looped[node + 6], looped[node + 7]]));
        for entry in 0..entries {
            let target = node + 8 + entry * 40 + 8;
            looped[target..target + 8].copy_from_slice(&root.to_le_bytes());
        }
        at = node + 4;
    }
    refused("loop.h5", looped, "contains itself");
    let mut far = bytes;
    far[64..72].copy_from_slice(&u64::MAX.to_le_bytes());
    refused("far.h5", far, "object header");
}

#[test]
fn files_of_no_known_format() {
    refused("notes.txt", b"hello, world".to_vec(), "no format");
    refused("empty.npz", Vec::new(), "no format");
    let missing = Archive::open("/nonexistent/model.npz").unwrap_err();
    assert!(matches!(missing, Error::Io { .. }));
    assert!(matches!(
        Archive::open(crate::root()),
        Err(Error::Io { .. })
    ));
}

const SAMPLES: [&str; 16] = [
    "c_order.npy",
    "fortran.npy",
    "plain.npz",
    "compressed.npz",
    "types.safetensors",
    "views.pt",
    "checkpoint.pth",
    "model.keras",
    "model.weights.h5",
    "bfloat16.weights.h5",
    "layouts_earliest.h5",
    "layouts_latest.h5",
    "links_latest.h5",
    "model.onnx",
    "external.onnx",
    "growing_latest.h5",
];

#[test]
fn truncated_files_are_errors() {
    for name in SAMPLES {
        let bytes = std::fs::read(file(name)).unwrap();
        let step = (bytes.len() / 200).max(1);
        for length in (0..bytes.len()).step_by(step) {
            let result = fuzz::read(file(name), &bytes[..length]);
            if let Err(error) = &result {
                assert!(
                    matches!(error, Error::Format { .. }),
                    "{name} {length}: {error}"
                );
            }
            // an ONNX model may end between two of its fields
            assert!(
                result.is_err() || name.ends_with("onnx") || name.ends_with("h5"),
                "{name} {length}"
            );
        }
    }
}

/// What the fuzz targets do, on the same files for every run.
#[test]
fn mutated_files_neither_panic_nor_take_memory() {
    for (seed, name) in SAMPLES.into_iter().enumerate() {
        let good = std::fs::read(file(name)).unwrap();
        fuzz::read(file(name), &good).unwrap();
        let mut mutator = fuzz::Mutator::new(seed as u64);
        let refused = (0..400).filter(|_| {
            let result = fuzz::read(file(name), &mutator.mutate(&good));
            if let Err(error) = &result {
                let typed = matches!(error, Error::Format { .. } | Error::Io { .. });
                assert!(
                    typed || matches!(error, Error::TooLarge { .. }),
                    "{name}: {error:?}"
                );
            }
            result.is_err()
        });
        assert!(
            refused.count() > 20,
            "the mutations of {name} change nothing"
        );
    }
}

#[test]
#[should_panic(expected = "are promised")]
fn the_harness_sees_memory() {
    let (_, peak) = fuzz::peak_of(|| vec![0u8; 5 << 20]);
    assert!((5 << 20..6 << 20).contains(&peak));
    fuzz::check_memory("x".as_ref(), 10, 17 << 20);
}
