use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// An IDX file of unsigned bytes.
fn idx_file(magic: u32, sizes: &[u32], body: &[u8]) -> Vec<u8> {
    let header = [magic].into_iter().chain(sizes.iter().copied());
    header
        .flat_map(u32::to_be_bytes)
        .chain(body.iter().copied())
        .collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn images(bytes: &[u8]) -> Result<Images> {
    parse_idx_images(Path::new("images"), bytes)
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn bundled_digits_are_whole() {
    let digits = digits().unwrap();
    assert_eq!((digits.len(), digits.size, digits.peak), (1797, [8, 8], 16));
    assert_eq!(digits.pixels(0)[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
    let mut counts = [0; 10];
    digits
        .labels
        .iter()
        .for_each(|&l| counts[usize::from(l)] += 1);
    assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
}

#[test]
fn select_keeps_pixels_with_labels() {
    let digits = digits().unwrap();
    let two = digits.select(&[5, 2]);
    assert_eq!(two.labels, [digits.labels[5], digits.labels[2]]);
    assert_eq!(two.pixels(1), digits.pixels(2));
}

#[test]
fn csv_errors_name_line_and_expectation() {
    let parse = |text: &str| message(parse_csv(Path::new("d.csv"), text.as_bytes()));
    let line = |label: &str, pixel: &str| vec![pixel; 64].join(",") + "," + label + "\n";
    assert!(parse("").contains("a line for each image, got an empty file"));
    assert!(parse("1,2\n").contains("64 pixels and a digit in line 1, got 2 values"));
    assert!(parse(&(line("1", "16") + "\n")).contains("line 2"));
    assert!(parse(&line("1", "17")).contains("pixels from 0 to 16 in line 1, got 17"));
    assert!(parse(&line("10", "0")).contains("a digit from 0 to 9"));
    assert!(parse(&line("x", "0")).contains("a number below 256 in line 1, got \"x\""));
    assert!(parse(&line("-1", "0")).contains("below 256"));
    let not_text = parse_csv(Path::new("d.csv"), &[0xff, 0xfe][..]);
    assert!(message(not_text).contains("expected text"));
}

#[test]
fn idx_images_are_read_packed_and_plain() {
    let file = idx_file(0x803, &[2, 1, 3], &[1, 2, 3, 4, 5, 255]);
    for bytes in [file.clone(), gzip(&file)] {
        let images = images(&bytes).unwrap();
        assert_eq!((images.size, images.len(), images.peak), ([1, 3], 2, 255));
        assert_eq!(images.pixels(1), [4, 5, 255]);
    }
}

#[test]
fn idx_labels_are_read() {
    let file = idx_file(0x801, &[3], &[7, 0, 9]);
    assert_eq!(
        parse_idx_labels(Path::new("l"), &file[..], 3).unwrap(),
        [7, 0, 9]
    );
}

#[test]
fn wrong_magic_is_named() {
    let labels = idx_file(0x801, &[1], &[0]);
    let error = message(images(&labels));
    assert!(
        error.contains("expected the magic number 0x00000803"),
        "{error}"
    );
    assert!(error.ends_with("got 0x00000801"), "{error}");
}

#[test]
fn every_truncation_is_an_error() {
    let file = idx_file(0x803, &[2, 2, 2], &[9; 8]);
    for len in 0..file.len() {
        let error = message(images(&file[..len]));
        assert!(error.contains("bytes of"), "{len}: {error}");
    }
    let packed = gzip(&file);
    for len in 2..packed.len() {
        assert!(images(&packed[..len]).is_err(), "{len}");
    }
    assert!(images(&file).is_ok());
}

#[test]
fn a_longer_file_is_an_error() {
    let file = idx_file(0x803, &[1, 2, 2], &[9; 5]);
    assert!(message(images(&file)).contains("expected 4 bytes of 1 images of 2 x 2, got more"));
}

#[test]
fn absurd_sizes_are_refused_before_memory_is_taken() {
    for sizes in [
        [u32::MAX; 3],
        [1, 0, 28],
        [0, 28, 28],
        [1, 1025, 1],
        [u32::MAX, 1, 1],
    ] {
        let error = message(images(&idx_file(0x803, &sizes, &[])));
        assert!(
            error.contains("expected sides of 1 to 1024"),
            "{sizes:?}: {error}"
        );
    }
    // a size that is allowed, but not there
    let error = message(images(&idx_file(0x803, &[1 << 20, 32, 32], &[0; 10])));
    assert!(error.contains("expected 1073741824 bytes"), "{error}");
}

#[test]
fn labels_must_match_images() {
    let file = idx_file(0x801, &[3], &[7, 0, 9]);
    let error = message(parse_idx_labels(Path::new("l"), &file[..], 2));
    assert!(
        error.contains("expected a label for each of the 2 images, got 3 labels"),
        "{error}"
    );
}

#[test]
fn folders_are_searched_for_all_spellings() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        message(idx(folder.path(), "train")).contains("train-images-idx3-ubyte or train-images.")
    );
    let image_file = idx_file(0x803, &[1, 1, 2], &[3, 4]);
    let label_file = idx_file(0x801, &[1], &[5]);
    fs::write(folder.path().join("train-images.idx3-ubyte"), image_file).unwrap();
    assert!(message(idx(folder.path(), "train")).contains("expected train-labels-idx1-ubyte"));
    fs::write(
        folder.path().join("train-labels-idx1-ubyte.gz"),
        gzip(&label_file),
    )
    .unwrap();
    let images = idx(folder.path(), "train").unwrap();
    assert_eq!(
        (images.pixels(0), &images.labels[..]),
        (&[3, 4][..], &[5][..])
    );
}
