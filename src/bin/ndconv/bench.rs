//! `ndconv bench`: times layers, and says how far they are from what the machine can do.

mod ceilings;
mod layers;
mod measure;
mod peer;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ndconv::{Autotune, DType, Device, Layout, MathMode};
use serde_json::{Value, json};

pub use ceilings::Ceilings;
use layers::LayerSpec;
use measure::{Effort, LayerPass, Timing};
use peer::Peer;

use crate::device::DeviceArgs;
use crate::exit::{Failure, Outcome, about};
use crate::output::{Output, Tone};
use crate::table::{Align, Cell, Table};

/// Time convolution layers, against this machine's own ceilings and other libraries.
///
/// Passes are those of the layer: forward, dgrad (the gradient in its input), wgrad (in its
/// weight). Time is the median of the repeats; GFLOP/s counts a multiplication and an addition
/// apart, and padding as work; GB/s counts operands and result once each. Weights stay as they are
/// between repeats, as in inference, so that the CPU packs them once. The ceilings are measured
/// first: the rate of copying memory, and that of a matrix product.
#[derive(clap::Args)]
#[command(after_help = "\
Layers in one line: OP n= c= k= size= kernel= [stride= pad= dilation= groups= output_padding=]
with OP conv1d to conv4d or conv_transpose1d .., n batch, c and k channels in and out, and sizes
along the axes as one number for all or one for each (size=56x28).

Exit codes: 0 done, 2 a list, a file or an argument is wrong.

Examples:
  ndconv bench --shapes resnet50 --batch 8
  ndconv bench --layer 'conv2d n=32 c=64 k=64 size=56 kernel=3 pad=1' --dtype f32,f16
  ndconv bench --shapes cpu --layout channels_first,channels_last --report out.html
  ndconv bench --shapes cpu --list > cpu.json && python benches/peers/torch_conv.py cpu.json > torch.json
  ndconv bench --shapes cpu --compare torch.json")]
pub struct Args {
    /// A list of layers: resnet50, deepbench, vnet3d, cpu, cpu_other, or a .csv or .json file.
    #[arg(long, value_name = "LIST", required_unless_present = "layer")]
    shapes: Vec<String>,
    /// A layer in one line; can be given more than once.
    #[arg(long, value_name = "LAYER", value_parser = layers::line)]
    layer: Vec<LayerSpec>,
    /// Only layers whose name holds this text.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// The batch size of every layer, whatever the list says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Passes to time.
    #[arg(long, value_delimiter = ',', default_value = "forward,dgrad,wgrad")]
    pass: Vec<LayerPass>,
    /// Element types: f16, bf16, f32, f64.
    #[arg(long, value_delimiter = ',', default_value = "f32")]
    dtype: Vec<DType>,
    /// Memory orders of activations and weights: channels_first, channels_last.
    #[arg(long, value_delimiter = ',', default_value = "channels_first")]
    layout: Vec<Layout>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Timed runs of each pass, at most; the median counts.
    #[arg(long, value_name = "N", default_value = "15",
          value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Begin no further run of a pass after so many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    budget: Duration,
    /// Timings of another library on the same layers, as benches/peers/ and --json write them.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Write a page with a roofline plot and the table.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write what --json prints to a file as well.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Let f32 run on tensor cores of a GPU, with factors rounded to TF32.
    #[arg(long)]
    tf32: bool,
    /// Try every plan of a GPU on each layer and time the fastest; choices are kept in FILE, if one
    /// is given.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    autotune: Option<Option<PathBuf>>,
    /// Time nothing, print the layers as JSON.
    #[arg(long)]
    list: bool,
    /// Print JSON in place of the table.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    Duration::try_from_secs_f64(value).map_err(|e| e.to_string())
}

/// One line of the result.
pub struct Measured {
    pub layer: String,
    pub pass: LayerPass,
    pub dtype: DType,
    pub layout: Layout,
    pub timing: Timing,
    /// Seconds of the peer.
    pub peer: Option<f64>,
}

/// All that a run found out.
pub struct Bench {
    pub device: Device,
    pub ceilings: Ceilings,
    pub rows: Vec<Measured>,
    pub peer: Option<String>,
}

impl Args {
    pub fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        let layers = self.layers()?;
        if self.list {
            let list: Vec<Value> = layers.iter().map(LayerSpec::to_json).collect();
            out.json(&Value::from(list))?;
            return Ok(Outcome::Done);
        }
        let device = self.open_device()?;
        let peer = self.compare.as_deref().map(Peer::read).transpose()?;
        let bench = self.measure(&layers, device, peer)?;
        if let Some(path) = &self.report {
            ndconv::io::write_atomically(path, report::page(&bench).as_bytes())?;
        }
        if let Some(path) = &self.save {
            let text = format!("{:#}\n", bench.to_json());
            ndconv::io::write_atomically(path, text.as_bytes())?;
        }
        match self.json {
            true => out.json(&bench.to_json())?,
            false => bench.print(out)?,
        }
        Ok(Outcome::Done)
    }

    fn open_device(&self) -> Result<Device, Failure> {
        let device = self.device.open()?;
        match &device {
            Device::Cuda(gpu) => {
                if self.tf32 {
                    gpu.set_math_mode(MathMode::Tf32);
                }
                if let Some(cache) = &self.autotune {
                    gpu.set_autotune(Autotune::On {
                        cache: cache.clone(),
                    });
                }
            }
            _ if self.tf32 || self.autotune.is_some() => {
                let why = format!("--tf32 and --autotune are for GPUs, not for {device}");
                return Err(Failure::Usage(format!("{why}: add --device cuda")));
            }
            _ => {}
        }
        Ok(device)
    }

    /// The layers asked for, each checked to be possible before any is timed.
    fn layers(&self) -> Result<Vec<LayerSpec>, Failure> {
        let mut all = self.layer.clone();
        for list in &self.shapes {
            all.extend(layers::list(list)?);
        }
        if let Some(text) = &self.filter {
            all.retain(|layer| layer.name.contains(&text[..]));
            if all.is_empty() {
                let hint = "--list prints the layers";
                return Err(Failure::Usage(format!(
                    "no layer's name holds {text:?}: {hint}"
                )));
            }
        }
        for layer in &mut all {
            let described = layer.name == layer.describe();
            layer.batch = self.batch.map_or(layer.batch, |batch| batch as usize);
            if described {
                layer.name = layer.describe();
            }
            let possible = match layer.rank() {
                1 => layer.problem::<1>().map(drop),
                2 => layer.problem::<2>().map(drop),
                3 => layer.problem::<3>().map(drop),
                _ => layer.problem::<4>().map(drop),
            };
            possible.map_err(|e| Failure::Usage(about(layer.name.as_ref(), &e)))?;
        }
        Ok(all)
    }

    fn measure(
        &self,
        layers: &[LayerSpec],
        device: Device,
        peer: Option<Peer>,
    ) -> Result<Bench, Failure> {
        let effort = Effort {
            repeats: self.repeats as usize,
            budget: self.budget,
        };
        let kinds = self.dtype.len() * self.layout.len() * self.pass.len();
        // on standard error, and only if that is a terminal
        let bar = ProgressBar::new((layers.len() * kinds) as u64);
        if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {wide_bar} {msg}") {
            bar.set_style(style);
        }
        bar.set_message("ceilings");
        let ceilings = Ceilings::measure(&device, &self.dtype)?;
        let mut rows = Vec::new();
        for layer in layers {
            bar.set_message(layer.name.clone());
            for &dtype in &self.dtype {
                for &layout in &self.layout {
                    for &pass in &self.pass {
                        if self.autotune.is_some() {
                            // plans are tried the first time, which is to count nowhere
                            let once = Effort {
                                repeats: 0,
                                budget: Duration::ZERO,
                            };
                            measure::time(layer, pass, dtype, layout, &device, once)
                                .map_err(|e| Failure::Usage(about(layer.name.as_ref(), &e)))?;
                        }
                        let timing = measure::time(layer, pass, dtype, layout, &device, effort)
                            .map_err(|e| Failure::Usage(about(layer.name.as_ref(), &e)))?;
                        let mut row = Measured {
                            layer: layer.name.clone(),
                            pass,
                            dtype,
                            layout,
                            timing,
                            peer: None,
                        };
                        row.peer = peer.as_ref().and_then(|peer| peer.seconds(&row));
                        rows.push(row);
                        bar.inc(1);
                    }
                }
            }
        }
        bar.finish_and_clear();
        Ok(Bench {
            device,
            ceilings,
            rows,
            peer: peer.map(|peer| peer.name),
        })
    }
}

impl Measured {
    pub fn gflops(&self) -> f64 {
        self.timing.flops / self.timing.median() / 1e9
    }

    pub fn gbps(&self) -> f64 {
        self.timing.bytes / self.timing.median() / 1e9
    }

    /// Multiplications and additions per byte.
    pub fn intensity(&self) -> f64 {
        self.timing.flops / self.timing.bytes
    }

    /// How many times as fast as the peer.
    pub fn speedup(&self) -> Option<f64> {
        self.peer.map(|seconds| seconds / self.timing.median())
    }
}

impl Bench {
    /// Percent of the ceilings: of the matrix rate, and of the copy bandwidth.
    pub fn percent(&self, row: &Measured) -> [Option<f64>; 2] {
        let of = |rate: f64, ceiling: Option<f64>| ceiling.map(|c| 100.0 * rate * 1e9 / c);
        [
            of(row.gflops(), self.ceilings.matrix(row.dtype)),
            of(row.gbps(), self.ceilings.copy),
        ]
    }

    /// Names and cells of the table, as the terminal and the page show it.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let mut names = vec![
            "layer",
            "pass",
            "dtype",
            "layout",
            "algorithm",
            "ms",
            "GFLOP/s",
            "% matrix",
            "GB/s",
            "% copy",
        ];
        if self.peer.is_some() {
            names.extend(["peer ms", "speed-up"]);
        }
        let percent = |p: Option<f64>| p.map_or("-".into(), |p| format!("{p:.0}"));
        let cells = |row: &Measured| {
            let [matrix, copy] = self.percent(row);
            let mut cells = vec![
                row.layer.clone(),
                row.pass.name().into(),
                row.dtype.name().into(),
                row.layout.name().into(),
                row.timing.algorithm.clone(),
                milliseconds(row.timing.median()),
                format!("{:.2}", row.gflops()),
                percent(matrix),
                format!("{:.2}", row.gbps()),
                percent(copy),
            ];
            if self.peer.is_some() {
                cells.push(row.peer.map_or("-".into(), milliseconds));
                cells.push(row.speedup().map_or("-".into(), |s| format!("{s:.2}")));
            }
            cells
        };
        (names, self.rows.iter().map(cells).collect())
    }

    fn print(&self, out: &mut Output) -> Result<(), Failure> {
        let (names, rows) = self.table();
        let align = |(column, name): (usize, &&'static str)| match column {
            0..5 => (*name, Align::Left),
            _ => (*name, Align::Right),
        };
        let mut table = Table::new(&names.iter().enumerate().map(align).collect::<Vec<_>>());
        let slowest = names.len() - 1;
        for (row, measured) in rows.iter().zip(&self.rows) {
            let tone = match measured.speedup() {
                Some(speedup) if speedup < 1.0 => Tone::Bad,
                Some(_) => Tone::Good,
                None => Tone::Plain,
            };
            table.row(row.iter().enumerate().map(|(column, text)| match column {
                c if c == slowest => Cell::toned(tone, text),
                _ => Cell::from(text),
            }));
        }
        table.print(out)?;
        out.line(&format!("{}: {}", self.device, self.ceilings.describe()))?;
        if let Some(peer) = &self.peer {
            out.line(&format!(
                "peer: {peer}; a speed-up above 1 is in favour of ndconv"
            ))?;
        }
        Ok(())
    }

    /// The same as the table, and what `--compare` reads.
    pub fn to_json(&self) -> Value {
        let row = |row: &Measured| {
            let [matrix, copy] = self.percent(row);
            json!({
                "layer": row.layer,
                "pass": row.pass.name(),
                "dtype": row.dtype.name(),
                "layout": row.layout.name(),
                "algorithm": row.timing.algorithm,
                "seconds": row.timing.median(),
                "seconds_min": row.timing.sorted.first(),
                "repeats": row.timing.sorted.len(),
                "flops": row.timing.flops as u64,
                "bytes": row.timing.bytes as u64,
                "gflops": row.gflops(),
                "gbps": row.gbps(),
                "percent_of_matrix": matrix,
                "percent_of_copy": copy,
                "peer_seconds": row.peer,
                "speedup": row.speedup(),
            })
        };
        json!({
            "name": format!("ndconv {}", env!("CARGO_PKG_VERSION")),
            "device": self.device.to_string(),
            "threads": rayon::current_num_threads(),
            "ceilings": self.ceilings.to_json(),
            "peer": self.peer,
            "results": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}

/// Seconds as milliseconds with three digits that mean something.
fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    let decimals = (2 - ms.max(1e-9).log10().floor() as i32).clamp(0, 6) as usize;
    format!("{ms:.decimals$}")
}
