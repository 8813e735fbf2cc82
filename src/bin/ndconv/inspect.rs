//! `ndconv inspect`: what is in a file of tensors.

use std::path::PathBuf;

use half::{bf16, f16};
use ndconv::io::{Archive, StoredTensor};
use ndconv::{DType, Element};
use serde_json::{Value, json};

use crate::exit::{Failure, Outcome, about, complain};
use crate::output::{Output, Tone, number};
use crate::table::{Align, Cell, Table};

/// List the tensors of files: names, shapes, element types, smallest, largest and mean value.
///
/// Reads safetensors, npy, npz, PyTorch checkpoints (.pt, .pth, as zip files), Keras (.keras,
/// .weights.h5, .h5) and ONNX. Nothing in a file is ever run.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 done, 2 a file could not be read or is malformed (the others are still listed).

Examples:
  ndconv inspect model.safetensors
  ndconv inspect checkpoint.pt --no-statistics
  ndconv inspect weights.npz --json")]
pub struct Args {
    /// Files of tensors.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Do not read the elements: names, shapes and types only.
    #[arg(long)]
    no_statistics: bool,
    /// Print JSON in place of the table.
    #[arg(long)]
    json: bool,
}

/// What the elements of a tensor are like; NaN is counted and otherwise left out.
#[derive(Default)]
struct Statistics {
    min: f64,
    max: f64,
    sum: f64,
    numbers: u64,
    nan: u64,
}

impl Statistics {
    fn add(&mut self, value: f64) {
        if value.is_nan() {
            self.nan += 1;
            return;
        }
        let first = self.numbers == 0;
        self.min = if first { value } else { self.min.min(value) };
        self.max = if first { value } else { self.max.max(value) };
        self.sum += value;
        self.numbers += 1;
    }

    fn mean(&self) -> f64 {
        self.sum / self.numbers as f64
    }
}

impl Args {
    pub fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::Done;
        let mut files = Vec::new();
        for path in &self.files {
            let listed = match self.json {
                true => self.as_json(path).map(|file| files.push(file)),
                false => self.as_table(path, out),
            };
            match listed {
                Ok(()) => {}
                Err(Failure::Library(error)) => {
                    complain(&about(path, &error));
                    outcome = Outcome::Unreadable;
                }
                Err(other) => return Err(other),
            }
        }
        if self.json {
            out.json(&json!({ "files": files }))?;
        }
        Ok(outcome)
    }

    fn statistics(
        &self,
        archive: &Archive,
        t: &StoredTensor,
    ) -> Result<Option<Statistics>, Failure> {
        if self.no_statistics {
            return Ok(None);
        }
        Ok(statistics(archive, t)?)
    }

    fn as_table(&self, path: &PathBuf, out: &mut Output) -> Result<(), Failure> {
        let archive = Archive::open(path)?;
        let mut columns = vec![
            ("tensor", Align::Left),
            ("shape", Align::Left),
            ("dtype", Align::Left),
        ];
        let of_elements = [
            ("min", Align::Right),
            ("max", Align::Right),
            ("mean", Align::Right),
            ("nan", Align::Right),
        ];
        columns.extend(of_elements.iter().filter(|_| !self.no_statistics));
        let mut table = Table::new(&columns);
        let (mut elements, mut bytes) = (0u64, 0u64);
        for tensor in archive.tensors() {
            elements += tensor.len() as u64;
            bytes += tensor.bytes() as u64;
            let mut row: Vec<Cell> = vec![
                tensor.name().into(),
                format!("{:?}", tensor.shape()).into(),
                tensor.dtype().to_string().into(),
            ];
            if let Some(s) = self.statistics(&archive, tensor)? {
                let short = |v: f64| -> Cell {
                    if s.numbers == 0 {
                        "".into()
                    } else {
                        format!("{v:.4e}").into()
                    }
                };
                row.extend([short(s.min), short(s.max), short(s.mean())]);
                row.push(match s.nan {
                    0 => "0".into(),
                    count => Cell::toned(Tone::Bad, count.to_string()),
                });
            }
            table.row(row);
        }
        let count = archive.tensors().len();
        let format = archive.format();
        out.line(&format!(
            "{}: {format}, {count} tensors, {elements} elements, {bytes} bytes",
            path.display()
        ))?;
        table.print(out)?;
        Ok(())
    }

    fn as_json(&self, path: &PathBuf) -> Result<Value, Failure> {
        let archive = Archive::open(path)?;
        let mut tensors = Vec::new();
        for tensor in archive.tensors() {
            let mut entry = json!({
                "name": tensor.name(),
                "shape": tensor.shape(),
                "dtype": tensor.dtype().to_string(),
                "bytes": tensor.bytes(),
            });
            if let Some(s) = self.statistics(&archive, tensor)? {
                let known = |v: f64| {
                    if s.numbers == 0 {
                        Value::Null
                    } else {
                        number(v)
                    }
                };
                entry["min"] = known(s.min);
                entry["max"] = known(s.max);
                entry["mean"] = known(s.mean());
                entry["nan"] = s.nan.into();
            }
            tensors.push(entry);
        }
        Ok(json!({
            "path": path.to_string_lossy(),
            "format": archive.format().to_string(),
            "metadata": archive.metadata(),
            "tensors": tensors,
        }))
    }
}

/// The statistics of a tensor; `None` for element types that have no place on a line.
fn statistics(archive: &Archive, tensor: &StoredTensor) -> ndconv::Result<Option<Statistics>> {
    fn floats<T: Element>(bytes: &[u8], s: &mut Statistics) {
        let block = (1 << 16) * size_of::<T>();
        for block in bytes.chunks(block) {
            T::read_le(block)
                .into_iter()
                .for_each(|v| s.add(v.to_f64()));
        }
    }
    macro_rules! integers {
        ($type:ident, $bytes:expr, $s:expr) => {{
            let (elements, _) = $bytes.as_chunks();
            elements
                .iter()
                .for_each(|&e| $s.add($type::from_le_bytes(e) as f64));
        }};
    }
    let name = tensor.dtype().to_string();
    let known = ["bool", "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"];
    if tensor.dtype().float().is_none() && !known.contains(&name.as_str()) {
        return Ok(None);
    }
    let bytes = archive.read(tensor)?;
    let mut s = Statistics::default();
    match (tensor.dtype().float(), name.as_str()) {
        (Some(DType::F16), _) => floats::<f16>(&bytes, &mut s),
        (Some(DType::BF16), _) => floats::<bf16>(&bytes, &mut s),
        (Some(DType::F32), _) => floats::<f32>(&bytes, &mut s),
        (Some(DType::F64), _) => floats::<f64>(&bytes, &mut s),
        (_, "i8") => integers!(i8, bytes, s),
        (_, "i16") => integers!(i16, bytes, s),
        (_, "i32") => integers!(i32, bytes, s),
        (_, "i64") => integers!(i64, bytes, s),
        (_, "u16") => integers!(u16, bytes, s),
        (_, "u32") => integers!(u32, bytes, s),
        (_, "u64") => integers!(u64, bytes, s),
        _ => integers!(u8, bytes, s),
    }
    Ok(Some(s))
}
