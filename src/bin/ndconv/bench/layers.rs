//! Lists of layers: built in, from a file, or from one line of text.

mod read;

use std::path::Path;

use ndconv::{ConvParams, ConvProblem, Error, Padding, Result};
use serde_json::{Value, json};

/// The built-in lists: name, file name, content.
const LISTS: [(&str, &str, &str); 5] = [
    (
        "resnet50",
        "resnet50.csv",
        include_str!("../../../../benches/layers/resnet50_v15.csv"),
    ),
    (
        "deepbench",
        "deepbench.csv",
        include_str!("../../../../benches/layers/deepbench_train.csv"),
    ),
    (
        "vnet3d",
        "vnet3d.json",
        include_str!("../../../../benches/layers/vnet3d.json"),
    ),
    (
        "cpu",
        "cpu.json",
        include_str!("../../../../benches/layers/cpu_layers.json"),
    ),
    (
        "cpu_other",
        "cpu_other.json",
        include_str!("../../../../benches/layers/cpu_other.json"),
    ),
];

/// A layer of any rank and its input, as lists describe it.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    pub name: String,
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub input: Vec<usize>,
    pub kernel_size: Vec<usize>,
    pub stride: Vec<usize>,
    pub padding: Vec<(usize, usize)>,
    pub dilation: Vec<usize>,
    pub groups: usize,
    pub transposed: bool,
    pub output_padding: Vec<usize>,
}

impl LayerSpec {
    /// A layer of a rank with all options at their defaults, and nothing of its sizes.
    pub fn of_rank(rank: usize) -> Self {
        LayerSpec {
            name: String::new(),
            batch: 1,
            in_channels: 0,
            out_channels: 0,
            input: vec![0; rank],
            kernel_size: vec![0; rank],
            stride: vec![1; rank],
            padding: vec![(0, 0); rank],
            dilation: vec![1; rank],
            groups: 1,
            transposed: false,
            output_padding: vec![0; rank],
        }
    }

    pub fn rank(&self) -> usize {
        self.input.len()
    }

    /// The convolution behind this layer: of a transposed one, that whose dgrad it is.
    pub fn problem<const N: usize>(&self) -> Result<ConvProblem<N>> {
        let params = ConvParams {
            stride: axes(&self.stride),
            padding: Padding::Explicit(axes(&self.padding)),
            dilation: axes(&self.dilation),
            groups: self.groups,
            ..ConvParams::default()
        };
        let x = [&[self.batch, self.in_channels][..], &self.input].concat();
        let (first, second) = match self.transposed {
            true => (self.in_channels, self.out_channels),
            false => (self.out_channels, self.in_channels),
        };
        let per_group = second.checked_div(self.groups).unwrap_or(0);
        let w = [&[first, per_group][..], &self.kernel_size].concat();
        match self.transposed {
            true => ConvProblem::transposed(&x, &w, &params, axes(&self.output_padding)),
            false => ConvProblem::new(&x, &w, &params),
        }
    }

    /// A name made of the sizes: `3x3/2x2 64>128 @56x56 n32`.
    pub fn describe(&self) -> String {
        let sizes = |v: &[usize]| v.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let mut name = sizes(&self.kernel_size);
        for (sign, values, usual) in [('/', &self.stride, 1), ('d', &self.dilation, 1)] {
            if values.iter().any(|v| *v != usual) {
                name += &format!(
                    "{}{sign}{}",
                    if sign == 'd' { " " } else { "" },
                    sizes(values)
                );
            }
        }
        if self.groups > 1 {
            name += &format!(" g{}", self.groups);
        }
        if self.transposed {
            name += " transposed";
        }
        let (c, k, at) = (self.in_channels, self.out_channels, sizes(&self.input));
        name + &format!(" {c}>{k} @{at} n{}", self.batch)
    }

    /// As an element of a JSON list.
    pub fn to_json(&self) -> Value {
        let symmetric = self.padding.iter().all(|(lo, hi)| lo == hi);
        let padding = match symmetric {
            true => json!(self.padding.iter().map(|(lo, _)| lo).collect::<Vec<_>>()),
            false => json!(self.padding),
        };
        json!({
            "name": self.name, "batch": self.batch,
            "in_channels": self.in_channels, "out_channels": self.out_channels,
            "input": self.input, "kernel_size": self.kernel_size, "stride": self.stride,
            "padding": padding, "dilation": self.dilation, "groups": self.groups,
            "transposed": self.transposed, "output_padding": self.output_padding,
        })
    }
}

fn axes<V: Copy, const N: usize>(values: &[V]) -> [V; N] {
    std::array::from_fn(|axis| values[axis])
}

/// A built-in list, or that of a `.csv` or `.json` file.
pub fn list(name: &str) -> Result<Vec<LayerSpec>> {
    if let Some((_, file, text)) = LISTS.iter().find(|(known, ..)| *known == name) {
        return parse(Path::new(file), text);
    }
    let path = Path::new(name);
    if !path.exists() && !name.contains('.') {
        let known = LISTS.map(|(known, ..)| known).join(", ");
        return Err(malformed(
            path,
            format!("no such list: {known}, or a .csv or .json file"),
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<LayerSpec>> {
    let mut layers = match path.extension().is_some_and(|e| e == "csv") {
        true => read::csv(text),
        false => read::json(text),
    }
    .map_err(|reason| malformed(path, reason))?;
    for layer in &mut layers {
        if layer.name.is_empty() {
            layer.name = layer.describe();
        }
    }
    match layers.is_empty() {
        true => Err(malformed(path, "there is no layer in this list".into())),
        false => Ok(layers),
    }
}

fn malformed(path: &Path, reason: String) -> Error {
    let path = path.to_owned();
    Error::Format { path, reason }
}

/// A layer from one line: `conv2d n=32 c=64 k=64 size=56 kernel=3 pad=1`, where a size along the
/// axes is one number for all or one for each, `56x28`.
pub fn line(text: &str) -> Result<LayerSpec, String> {
    let mut words = text.split_whitespace();
    let op = words.next().unwrap_or_default();
    let (transposed, rank) = match op.strip_prefix("conv_transpose") {
        Some(rank) => (true, rank),
        None => (false, op.strip_prefix("conv").unwrap_or_default()),
    };
    let rank = rank.strip_suffix('d').and_then(|r| r.parse().ok());
    let rank = rank.filter(|r| (1..=4).contains(r));
    let rank = rank.ok_or(format!(
        "{op}: expected conv1d to conv4d or conv_transpose1d .."
    ))?;
    let mut layer = LayerSpec {
        transposed,
        ..LayerSpec::of_rank(rank)
    };
    for word in words {
        if word == "transposed" {
            layer.transposed = true;
            continue;
        }
        let (key, value) = word
            .split_once('=')
            .ok_or(format!("{word}: expected key=value"))?;
        let one = || {
            value
                .parse()
                .map_err(|_| format!("{word}: expected a whole number"))
        };
        let many = || {
            let sizes: Option<Vec<usize>> = value.split('x').map(|v| v.parse().ok()).collect();
            match sizes.as_deref() {
                Some([all]) => Ok(vec![*all; rank]),
                Some(each) if each.len() == rank => Ok(each.to_vec()),
                _ => Err(format!(
                    "{word}: expected one whole number, or {rank} with x between"
                )),
            }
        };
        match key {
            "n" => layer.batch = one()?,
            "c" => layer.in_channels = one()?,
            "k" => layer.out_channels = one()?,
            "size" => layer.input = many()?,
            "kernel" => layer.kernel_size = many()?,
            "stride" => layer.stride = many()?,
            "pad" => layer.padding = many()?.into_iter().map(|p| (p, p)).collect(),
            "dilation" => layer.dilation = many()?,
            "groups" => layer.groups = one()?,
            "output_padding" => layer.output_padding = many()?,
            _ => {
                let known =
                    "n c k size kernel stride pad dilation groups output_padding transposed";
                return Err(format!("{word}: expected one of {known}"));
            }
        }
    }
    for (key, value) in [
        ("c", layer.in_channels),
        ("k", layer.out_channels),
        ("size", layer.input[0]),
        ("kernel", layer.kernel_size[0]),
    ] {
        if value == 0 {
            return Err(format!(
                "{key} is missing: conv2d n=1 c=3 k=8 size=32 kernel=3"
            ));
        }
    }
    layer.name = layer.describe();
    Ok(layer)
}
