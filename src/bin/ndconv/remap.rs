//! `ndconv remap`: weights in another library's order, dense layers as convolutions.

mod changes;
mod verify;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use ndconv::Layout;
use ndconv::io::{Archive, Entry, StoredTensor, Writer};
use ndconv::remap::WeightLayout;
use serde_json::json;

use crate::exit::{Failure, Outcome};
use crate::output::{Output, Tone, number};
use crate::table::{Align, Cell, Table};
use changes::{Change, Changed};

/// Convert weights: dense layers to convolutions and back, and the axis order of one library to
/// that of another. Everything that is not named is copied unchanged.
///
/// A layer is named by its weight (`classifier.0.weight`) or by what stands before `.weight`,
/// `/kernel`, `/vars/0` and the like. A dense layer whose features are those of the input becomes
/// a convolution that covers it, any other one of kernel size 1. Biases need no change.
///
/// The output is written in one piece or not at all, in the format of its extension:
/// safetensors, npz, or npy for a single tensor. The input is never touched.
#[derive(clap::Args)]
#[command(after_help = "\
Exit codes: 0 done, 1 --verify found other values, 2 a file or an argument is wrong.

Examples:
  ndconv remap vgg16.safetensors -o vgg16-conv.safetensors \\
      --dense classifier.0 --dense classifier.3 --dense classifier.6 --input 512x7x7 --verify 2
  ndconv remap model.weights.h5 -o torch.safetensors --from keras --to pytorch \\
      --conv layers/conv2d --dense layers/dense=64x5x5 --flatten channels-last
  ndconv remap net.pt -o net.npz --to theano --dense fc=512x7x7
  ndconv remap conv.npz -o dense.npz --to-dense head")]
pub struct Args {
    /// The file to convert: safetensors, npy, npz, PyTorch (zip), Keras, HDF5 or ONNX.
    input_file: PathBuf,
    /// The file to write: .safetensors, .npz or .npy.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A dense layer to make a convolution, with the shape of what was flattened if that is not
    /// --input. Can be given several times.
    #[arg(long, value_name = "LAYER[=CxHxW]")]
    dense: Vec<String>,
    /// Channels and spatial sizes of what was flattened before the dense layers, one to four
    /// spatial axes.
    #[arg(long, value_name = "CxHxW", value_parser = sizes)]
    input: Option<Sizes>,
    /// A convolution whose kernel covers its input, to make a dense layer.
    #[arg(long, value_name = "LAYER")]
    to_dense: Vec<String>,
    /// A convolution to put into the order of --to.
    #[arg(long, value_name = "LAYER")]
    conv: Vec<String>,
    /// A transposed convolution to put into the order of --to.
    #[arg(long, value_name = "LAYER")]
    conv_transpose: Vec<String>,
    /// A depthwise convolution to put into the order of --to, with its input channels if there is
    /// more than one output for each.
    #[arg(long, value_name = "LAYER[=CHANNELS]")]
    depthwise: Vec<String>,
    /// A dense layer to stay one, put into the order of --to.
    #[arg(long, value_name = "LAYER")]
    keep_dense: Vec<String>,
    /// The order in which the flattened features lie: channels-first (PyTorch, Theano) or
    /// channels-last (Keras).
    #[arg(long, default_value = "channels-first", value_parser = flatten)]
    flatten: Layout,
    /// Whose axis order the weights have: pytorch, keras, theano, onnx, or a JAX kernel spec such
    /// as HWIO.
    #[arg(long, default_value = "pytorch")]
    from: WeightLayout,
    /// Whose axis order they shall have.
    #[arg(long, default_value = "pytorch")]
    to: WeightLayout,
    /// Run so many random inputs through both forms of every dense layer, and print the worst
    /// error.
    #[arg(long, value_name = "N", default_value_t = 0)]
    verify: usize,
    /// Print JSON in place of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug)]
struct Sizes(Vec<usize>);

fn sizes(text: &str) -> Result<Sizes, String> {
    let sizes: Result<Vec<usize>, _> = text.split(['x', ',']).map(|s| s.trim().parse()).collect();
    match sizes {
        Ok(sizes) if (2..=5).contains(&sizes.len()) && !sizes.contains(&0) => Ok(Sizes(sizes)),
        _ => Err("channels and one to four spatial sizes, such as 512x7x7".into()),
    }
}

fn flatten(text: &str) -> Result<Layout, String> {
    let layout = text.replace('-', "_").parse();
    layout.map_err(|_| "channels-first or channels-last".into())
}

impl Args {
    pub fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        let archive = Archive::open(&self.input_file)?;
        if same_file(&self.input_file, &self.output) {
            let message = "the output is the input, which is never touched: name another file";
            return Err(Failure::Usage(message.into()));
        }
        let changes = self.changes(&archive)?;
        let entries = archive
            .tensors()
            .iter()
            .map(|t| entry(t, changes.get(t.name())));
        let mut writer = Writer::create(&self.output, entries.collect(), archive.metadata())?;
        let total = archive.tensors().iter().map(|t| t.bytes() as u64).sum();
        let mut progress = Progress::new(total);
        for tensor in archive.tensors() {
            match changes.get(tensor.name()) {
                Some(change) => {
                    writer.rearranged(&archive, tensor, change.plan(), |n| progress.add(n))?;
                }
                None => writer.tensor(|target| {
                    let mut target = Metered {
                        target,
                        progress: &mut progress,
                    };
                    Ok(archive.copy(tensor, &mut target)?)
                })?,
            }
        }
        writer.finish()?;
        drop(progress);
        self.report(&archive, &changes, out)
    }

    /// What happens to which tensor.
    fn changes(&self, archive: &Archive) -> Result<BTreeMap<String, Changed>, Failure> {
        let mut asked: Vec<(&str, Change)> = Vec::new();
        for layer in &self.dense {
            let (name, own) = match layer.rsplit_once('=') {
                Some((name, text)) => {
                    let own =
                        sizes(text).map_err(|e| Failure::Usage(format!("--dense {layer}: {e}")))?;
                    (name, Some(own.0))
                }
                None => (layer.as_str(), None),
            };
            let input = self.input.as_ref().map(|s| s.0.clone());
            asked.push((name, Change::DenseToConv { own, input }));
        }
        for layer in &self.depthwise {
            let (name, channels) = match layer.rsplit_once('=') {
                Some((name, channels)) => {
                    let wrong =
                        |_| Failure::Usage(format!("--depthwise {layer}: CHANNELS is no number"));
                    (name, Some(channels.parse().map_err(wrong)?))
                }
                None => (layer.as_str(), None),
            };
            asked.push((name, Change::Depthwise(channels)));
        }
        let plain = [
            (&self.to_dense, Change::ConvToDense),
            (&self.conv, Change::Conv),
            (&self.conv_transpose, Change::ConvTranspose),
            (&self.keep_dense, Change::Dense),
        ];
        for (layers, change) in plain {
            asked.extend(layers.iter().map(|l| (l.as_str(), change.clone())));
        }
        if asked.is_empty() {
            let message = "no layer to convert: name some with --dense, --to-dense, --conv, \
                           --conv-transpose, --depthwise or --keep-dense";
            return Err(Failure::Usage(message.into()));
        }
        let mut changes = BTreeMap::new();
        for (layer, change) in asked {
            let tensor = changes::weight(archive, layer)?;
            let changed = Changed::new(tensor, change, self.from, self.to, self.flatten)?;
            if changes.insert(tensor.name().to_string(), changed).is_some() {
                return Err(Failure::Usage(format!("{layer} is named twice")));
            }
        }
        Ok(changes)
    }

    fn report(
        &self,
        archive: &Archive,
        changes: &BTreeMap<String, Changed>,
        out: &mut Output,
    ) -> Result<Outcome, Failure> {
        let mut columns = vec![
            ("tensor", Align::Left),
            ("from", Align::Left),
            ("to", Align::Left),
        ];
        if self.verify > 0 {
            columns.extend([("error", Align::Right), ("result", Align::Left)]);
        }
        let mut table = Table::new(&columns);
        let (mut rows, mut passed) = (Vec::new(), true);
        let written = match self.verify {
            0 => None,
            _ => Some(Archive::open(&self.output)?),
        };
        for (name, change) in changes {
            let tensor = archive.find(name)?;
            let (old, new) = (tensor.shape().to_vec(), change.shape());
            let mut row: Vec<Cell> = vec![
                name.into(),
                format!("{old:?}").into(),
                format!("{new:?}").into(),
            ];
            let mut value = json!({ "tensor": name, "from": old, "to": new });
            let verified = match &written {
                Some(written) => verify::verify(archive, written, tensor, change, self.verify)?,
                None => None,
            };
            if let Some((error, allowed)) = verified {
                let pass = error <= allowed;
                passed &= pass;
                let verdict = match pass {
                    true => Cell::toned(Tone::Good, "pass"),
                    false => Cell::toned(Tone::Bad, format!("FAIL ({allowed:.0e} allowed)")),
                };
                row.extend([format!("{error:.2e}").into(), verdict]);
                value["error"] = number(error);
                value["passed"] = pass.into();
            }
            table.row(row);
            rows.push(value);
        }
        let copied = archive.tensors().len() - changes.len();
        if self.json {
            let output = self.output.to_string_lossy();
            out.json(&json!({ "output": output, "changed": rows, "copied": copied }))?;
        } else {
            table.print(out)?;
            let path = self.output.display();
            out.line(&format!(
                "{path}: {} tensors changed, {copied} copied",
                changes.len()
            ))?;
        }
        Ok(if passed {
            Outcome::Done
        } else {
            Outcome::ChecksFailed
        })
    }
}

fn entry(tensor: &StoredTensor, change: Option<&Changed>) -> Entry {
    Entry {
        name: tensor.name().to_string(),
        shape: change.map_or_else(|| tensor.shape().to_vec(), Changed::shape),
        dtype: tensor.dtype(),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// A line on a terminal's standard error that says how far a large file has come.
struct Progress {
    done: u64,
    total: u64,
    shown: Option<u64>,
}

impl Progress {
    fn new(total: u64) -> Self {
        const LARGE: u64 = 64 << 20;
        let shown = total >= LARGE && std::io::stderr().is_terminal();
        Progress {
            done: 0,
            total,
            shown: shown.then_some(u64::MAX),
        }
    }

    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let Some(shown) = &mut self.shown else { return };
        let percent = self.done * 100 / self.total.max(1);
        if percent != *shown {
            *shown = percent;
            let (done, total) = (self.done >> 20, self.total >> 20);
            let bar = "#".repeat(percent as usize / 4);
            eprint!("\r[{bar:<25}] {percent:>3} %  {done} of {total} MiB ");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

struct Metered<'a> {
    target: &'a mut dyn Write,
    progress: &'a mut Progress,
}

impl Write for Metered<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.target.write(bytes)?;
        self.progress.add(written);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.target.flush()
    }
}
