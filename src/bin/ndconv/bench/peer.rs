//! Timings of another library, joined by layer, pass, element type and layout.

use std::collections::HashMap;
use std::path::Path;

use ndconv::{Error, Result};
use serde_json::Value;

use super::Measured;

/// What a peer's file says.
pub struct Peer {
    /// The library, its version and how it was run.
    pub name: String,
    seconds: HashMap<[String; 4], f64>,
}

impl Peer {
    /// Reads `{"name": .., "results": [{"layer", "pass", "dtype", "layout", "seconds"}, ..]}`; of
    /// two timings of the same thing the shorter counts.
    pub fn read(path: &Path) -> Result<Self> {
        let malformed = |reason: String| Error::Format {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        let file: Value =
            serde_json::from_str(&text).map_err(|e| malformed(format!("not JSON: {e}")))?;
        let rows = file["results"].as_array();
        let rows = rows.ok_or_else(|| malformed("there is no list `results`".into()))?;
        let mut seconds: HashMap<[String; 4], f64> = HashMap::new();
        for (number, row) in rows.iter().enumerate() {
            let time = row["seconds"].as_f64().filter(|s| *s > 0.0);
            let text = |key: &str| row[key].as_str().map(str::to_string);
            let key = (text("layer"), text("pass"), text("dtype"), text("layout"));
            let (Some(time), (Some(layer), Some(pass), Some(dtype), Some(layout))) = (time, key)
            else {
                let keys = "layer, pass, dtype, layout and seconds";
                return Err(malformed(format!(
                    "result {number} (from 0) lacks one of {keys}"
                )));
            };
            let best = seconds.entry([layer, pass, dtype, layout]).or_insert(time);
            *best = best.min(time);
        }
        let name = file["name"].as_str().unwrap_or("peer").to_string();
        Ok(Peer { name, seconds })
    }

    /// The peer's time for what was measured here.
    pub fn seconds(&self, row: &Measured) -> Option<f64> {
        let key = [
            &row.layer[..],
            row.pass.name(),
            row.dtype.name(),
            row.layout.name(),
        ];
        self.seconds.get(&key.map(str::to_string)).copied()
    }
}
