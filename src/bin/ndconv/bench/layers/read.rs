//! Lists of layers in files: JSON and CSV.

use serde_json::Value;

use super::LayerSpec;

/// An array of objects, as `ndconv bench --list` prints.
pub fn json(text: &str) -> Result<Vec<LayerSpec>, String> {
    let list: Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    let list = list.as_array().ok_or("expected an array of layers")?;
    let layer = |(number, value)| {
        json_layer(value).map_err(|reason| format!("layer {number} (from 0): {reason}"))
    };
    list.iter().enumerate().map(layer).collect()
}

fn json_layer(value: &Value) -> Result<LayerSpec, String> {
    let size = |v: &Value| v.as_u64().and_then(|v| usize::try_from(v).ok());
    let rank = value["input"].as_array().map_or(0, Vec::len);
    if !(1..=4).contains(&rank) {
        return Err("input: expected 1 to 4 sizes".into());
    }
    let one = |key: &str, usual: Option<usize>| match &value[key] {
        Value::Null => usual.ok_or(format!("{key} is missing")),
        v => size(v).ok_or(format!("{key}: expected a whole number")),
    };
    let many = |key: &str, usual: Option<usize>| match &value[key] {
        Value::Null => Ok(vec![usual.ok_or(format!("{key} is missing"))?; rank]),
        v => {
            let sizes = v.as_array().map(|list| list.iter().map(size).collect());
            let sizes: Option<Vec<usize>> = sizes.flatten();
            let sizes = sizes.filter(|sizes| sizes.len() == rank);
            sizes.ok_or(format!("{key}: expected {rank} whole numbers"))
        }
    };
    let pair = |v: &Value| match v.as_array().map(Vec::as_slice) {
        Some([lo, hi]) => size(lo).zip(size(hi)),
        _ => size(v).map(|both| (both, both)),
    };
    let padding = match &value["padding"] {
        Value::Null => vec![(0, 0); rank],
        v => {
            let pairs = v.as_array().map(|list| list.iter().map(pair).collect());
            let pairs: Option<Vec<_>> = pairs.flatten();
            let pairs = pairs.filter(|pairs| pairs.len() == rank);
            pairs.ok_or(format!("padding: expected {rank} numbers or pairs"))?
        }
    };
    Ok(LayerSpec {
        name: value["name"].as_str().unwrap_or_default().to_string(),
        batch: one("batch", Some(1))?,
        in_channels: one("in_channels", None)?,
        out_channels: one("out_channels", None)?,
        input: many("input", None)?,
        kernel_size: many("kernel_size", None)?,
        stride: many("stride", Some(1))?,
        padding,
        dilation: many("dilation", Some(1))?,
        groups: one("groups", Some(1))?,
        transposed: value["transposed"].as_bool().unwrap_or(false),
        output_padding: many("output_padding", Some(0))?,
    })
}

/// The batch of lists that name none.
const USUAL_BATCH: usize = 32;

/// A heading and a row per layer.
pub fn csv(text: &str) -> Result<Vec<LayerSpec>, String> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let heading = lines.next().ok_or("there is no heading")?;
    let names: Vec<String> = heading
        .split(',')
        .map(|n| n.trim().to_lowercase())
        .collect();
    const KNOWN: [&str; 24] = [
        "n",
        "c",
        "k",
        "d",
        "h",
        "w",
        "t",
        "r",
        "s",
        "pad",
        "pad_d",
        "pad_h",
        "pad_w",
        "stride",
        "stride_d",
        "stride_h",
        "stride_w",
        "dilation",
        "dilation_d",
        "dilation_h",
        "dilation_w",
        "groups",
        "name",
        "count",
    ];
    if let Some(unknown) = names.iter().find(|name| !KNOWN.contains(&&name[..])) {
        return Err(format!(
            "column {unknown}: expected one of {}",
            KNOWN.join(" ")
        ));
    }
    let mut layers = Vec::new();
    for (number, line) in lines.enumerate() {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let text = |name: &str| {
            let column = names.iter().position(|n| n == name)?;
            fields
                .get(column)
                .copied()
                .filter(|field| !field.is_empty())
        };
        let wrong = |name: &str| format!("row {}: {name}: expected a whole number", number + 1);
        let size = |name: &str| match text(name) {
            Some(field) => field.parse::<usize>().map(Some).map_err(|_| wrong(name)),
            None => Ok(None),
        };
        let needed = |name: &str| size(name)?.ok_or_else(|| wrong(name));
        let three = size("d")?.is_some();
        let spatial = |d, h, w| -> Result<Vec<usize>, String> {
            let (h, w) = (needed(h)?, size(w)?);
            let plane = [h, w.unwrap_or(h)];
            Ok(match three {
                true => [&[needed(d)?][..], &plane].concat(),
                false => plane.to_vec(),
            })
        };
        let input = spatial("d", "h", "w")?;
        let option = |name: &str, usual: usize| -> Result<Vec<usize>, String> {
            let all = size(name)?.unwrap_or(usual);
            let endings = if three {
                &["_d", "_h", "_w"][..]
            } else {
                &["_h", "_w"]
            };
            let axis = |ending: &&str| Ok(size(&format!("{name}{ending}"))?.unwrap_or(all));
            endings.iter().map(axis).collect()
        };
        let padding = option("pad", 0)?.into_iter().map(|p| (p, p)).collect();
        layers.push(LayerSpec {
            name: text("name").unwrap_or_default().to_string(),
            batch: size("n")?.unwrap_or(USUAL_BATCH),
            in_channels: needed("c")?,
            out_channels: needed("k")?,
            kernel_size: spatial("t", "r", "s")?,
            stride: option("stride", 1)?,
            padding,
            dilation: option("dilation", 1)?,
            groups: size("groups")?.unwrap_or(1),
            ..LayerSpec::of_rank(input.len())
        });
        if let Some(layer) = layers.last_mut() {
            layer.input = input;
        }
    }
    Ok(layers)
}
