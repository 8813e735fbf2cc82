//! Labelled images: the bundled UCI digits, and folders of IDX files such as MNIST.
//!
//! The files come from anywhere, so no size in a header is believed before the bytes are there.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

/// The bundled digits, part of the program so that it runs from any folder.
const DIGITS: &[u8] = include_bytes!("../data/digits.csv.gz");
/// The longest side of an image, and the most pixels of a set: far above what a small net learns.
const MAX_SIDE: usize = 1024;
const MAX_PIXELS: usize = 1 << 30;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Grey images of one size, each with its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// Rows and columns.
    pub size: [usize; 2],
    /// The value of full ink.
    pub peak: u8,
    /// One class an image.
    pub labels: Vec<u8>,
    pixels: Vec<u8>,
}

/// What is wrong with a data file.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: expected {expected}, plain or with .gz; there is neither", folder.display())]
    Missing { folder: PathBuf, expected: String },
    #[error("{}: expected {expected}, got {got}", path.display())]
    Format {
        path: PathBuf,
        expected: String,
        got: String,
    },
}

type Result<T> = std::result::Result<T, DataError>;

impl Images {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The pixels of image `i`, row by row.
    pub fn pixels(&self, i: usize) -> &[u8] {
        let pixels = self.size[0] * self.size[1];
        &self.pixels[i * pixels..(i + 1) * pixels]
    }

    /// The images with these numbers.
    pub fn select(&self, numbers: &[usize]) -> Images {
        Images {
            labels: numbers.iter().map(|&i| self.labels[i]).collect(),
            pixels: numbers
                .iter()
                .flat_map(|&i| self.pixels(i))
                .copied()
                .collect(),
            ..*self
        }
    }
}

/// The 1797 bundled digits.
pub fn digits() -> Result<Images> {
    parse_csv(Path::new("digits.csv.gz"), DIGITS)
}

/// The images and labels of one part (`train` or `t10k`) of a folder of IDX files.
///
/// The names may be those of the original files (`train-images-idx3-ubyte`) or have a dot in place
/// of the second dash, and may end in `.gz`.
pub fn idx(folder: &Path, part: &str) -> Result<Images> {
    let (path, file) = open(folder, &format!("{part}-images"), "idx3-ubyte")?;
    let images = parse_idx_images(&path, file)?;
    let (path, file) = open(folder, &format!("{part}-labels"), "idx1-ubyte")?;
    let labels = parse_idx_labels(&path, file, images.len())?;
    Ok(Images { labels, ..images })
}

/// The first of the four spellings of a file's name that exists.
fn open(folder: &Path, stem: &str, suffix: &str) -> Result<(PathBuf, BufReader<File>)> {
    for name in [format!("{stem}-{suffix}"), format!("{stem}.{suffix}")] {
        for ending in ["", ".gz"] {
            let path = folder.join(format!("{name}{ending}"));
            match File::open(&path) {
                Ok(file) => return Ok((path, BufReader::new(file))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(DataError::Io { path, source }),
            }
        }
    }
    let expected = format!("{stem}-{suffix} or {stem}.{suffix}");
    let folder = folder.to_owned();
    Err(DataError::Missing { folder, expected })
}

/// A file that is being read, unpacked when its first bytes say that it is packed.
struct Source<'a> {
    path: &'a Path,
    reader: Box<dyn Read + 'a>,
}

impl<'a> Source<'a> {
    fn new(path: &'a Path, mut file: impl BufRead + 'a) -> Result<Self> {
        let packed = match file.fill_buf() {
            Ok(start) => start.starts_with(&GZIP),
            Err(source) => return Err(io_error(path, source)),
        };
        let reader: Box<dyn Read + 'a> = match packed {
            true => Box::new(MultiGzDecoder::new(file)),
            false => Box::new(file),
        };
        Ok(Source { path, reader })
    }

    /// At most `limit` bytes; memory grows with what comes, not with what a header promises.
    fn up_to(&mut self, limit: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.reader)
            .take(limit as u64)
            .read_to_end(&mut bytes)
            .map_err(|source| io_error(self.path, source))?;
        Ok(bytes)
    }

    /// The next big-endian numbers, which are `what`.
    fn header<const N: usize>(&mut self, what: &str) -> Result<[u32; N]> {
        let bytes = self.up_to(4 * N)?;
        if bytes.len() < 4 * N {
            let got = format!("a file that ends after {} of them", bytes.len());
            return Err(self.format(format!("{} bytes of {what}", 4 * N), got));
        }
        let mut numbers = [0; N];
        for (number, b) in numbers.iter_mut().zip(bytes.chunks_exact(4)) {
            *number = u32::from_be_bytes([b[0], b[1], b[2], b[3]]);
        }
        Ok(numbers)
    }

    /// Exactly `len` bytes to the end of the file.
    fn rest(&mut self, len: usize, what: &str) -> Result<Vec<u8>> {
        let bytes = self.up_to(len + 1)?;
        match bytes.len() {
            n if n < len => Err(self.format(format!("{len} bytes of {what}"), format!("{n}"))),
            n if n > len => Err(self.format(format!("{len} bytes of {what}"), "more")),
            _ => Ok(bytes),
        }
    }

    /// The magic number says the type (8: unsigned bytes) and the number of axes.
    fn magic(&mut self, axes: u32, what: &str) -> Result<()> {
        let expected = 0x0800 | axes;
        match self.header::<1>("the magic number")? {
            [got] if got == expected => Ok(()),
            [got] => Err(self.format(
                format!("the magic number {expected:#010x} of IDX {what}"),
                format!("{got:#010x}"),
            )),
        }
    }

    fn format(&self, expected: impl Into<String>, got: impl Into<String>) -> DataError {
        DataError::Format {
            path: self.path.to_owned(),
            expected: expected.into(),
            got: got.into(),
        }
    }
}

fn io_error(path: &Path, source: io::Error) -> DataError {
    let path = path.to_owned();
    DataError::Io { path, source }
}

/// `(count, rows, columns)` bytes; the labels are still to come, and 0 for now.
fn parse_idx_images(path: &Path, file: impl BufRead) -> Result<Images> {
    let mut source = Source::new(path, file)?;
    source.magic(3, "images")?;
    let sizes = source.header::<3>("sizes")?;
    let [count, rows, columns] = sizes.map(|n| n as usize);
    let pixels = count.checked_mul(rows).and_then(|n| n.checked_mul(columns));
    let pixels = pixels.filter(|n| (1..=MAX_PIXELS).contains(n) && rows.max(columns) <= MAX_SIDE);
    let Some(pixels) = pixels else {
        let expected = format!("sides of 1 to {MAX_SIDE} and 1 to {MAX_PIXELS} pixels in all");
        let got = format!("{count} images of {rows} x {columns}");
        return Err(source.format(expected, got));
    };
    Ok(Images {
        size: [rows, columns],
        peak: u8::MAX,
        labels: vec![0; count],
        pixels: source.rest(pixels, &format!("{count} images of {rows} x {columns}"))?,
    })
}

/// `(count)` bytes.
fn parse_idx_labels(path: &Path, file: impl BufRead, images: usize) -> Result<Vec<u8>> {
    let mut source = Source::new(path, file)?;
    source.magic(1, "labels")?;
    let [count] = source.header("the number of labels")?;
    if count as usize != images {
        let expected = format!("a label for each of the {images} images");
        return Err(source.format(expected, format!("{count} labels")));
    }
    source.rest(images, &format!("{count} labels"))
}

/// Lines of 64 pixels from 0 to 16 and a digit.
fn parse_csv(path: &Path, file: impl BufRead) -> Result<Images> {
    const SIDE: usize = 8;
    const INK: u8 = 16;
    let mut source = Source::new(path, file)?;
    let bytes = source.up_to(MAX_PIXELS)?;
    let text = str::from_utf8(&bytes).map_err(|e| source.format("text", e.to_string()))?;
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let bad = |expected: &str, got: String| {
            let expected = format!("{expected} in line {}", number + 1);
            source.format(expected, got)
        };
        let values = line
            .split(',')
            .map(|v| {
                v.trim()
                    .parse()
                    .map_err(|_| bad("a number below 256", format!("{v:?}")))
            })
            .collect::<Result<Vec<u8>>>()?;
        match values.split_last() {
            Some((&label, image)) if image.len() == SIDE * SIDE => {
                if let Some(value) = image.iter().find(|&&v| v > INK) {
                    return Err(bad("pixels from 0 to 16", value.to_string()));
                }
                if label > 9 {
                    return Err(bad("a digit from 0 to 9 at the end", label.to_string()));
                }
                pixels.extend_from_slice(image);
                labels.push(label);
            }
            _ => {
                return Err(bad(
                    "64 pixels and a digit",
                    format!("{} values", values.len()),
                ));
            }
        }
    }
    if labels.is_empty() {
        return Err(source.format("a line for each image", "an empty file"));
    }
    Ok(Images {
        size: [SIDE, SIDE],
        peak: INK,
        labels,
        pixels,
    })
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
