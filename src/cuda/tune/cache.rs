//! Choices of the autotuner in a file: `{"ndconv_autotune": 1, "environments": {ENVIRONMENT:
//! {QUESTION: {"plan": .., "microseconds": ..}}}}`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::cuda::conv_plan::Plan;
use crate::error::{Error, Result};
use crate::io::write_atomically;

const FORMAT: &str = "ndconv_autotune";
const VERSION: u64 = 1;

/// A file, and what it says of one environment: device, driver and kernels.
pub(super) struct Cache {
    path: PathBuf,
    environment: String,
    known: Map<String, Value>,
}

/// A plan, as it prints, and how long it took.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    plan: String,
    microseconds: f64,
}

impl Choice {
    pub fn new(plan: &Plan, time: Duration) -> Self {
        Choice {
            plan: plan.to_string(),
            microseconds: time.as_secs_f64() * 1e6,
        }
    }

    pub fn is_of(&self, plan: &Plan) -> bool {
        self.plan == plan.to_string()
    }

    fn parse(value: &Value) -> Option<Self> {
        Some(Choice {
            plan: value["plan"].as_str()?.to_owned(),
            microseconds: value["microseconds"].as_f64()?,
        })
    }

    fn to_json(&self) -> Value {
        json!({ "plan": self.plan, "microseconds": self.microseconds })
    }
}

impl Cache {
    /// What the file holds for the environment: nothing, with a warning, if it is no cache.
    pub fn open(path: &Path, environment: String) -> Self {
        let read = read(path).unwrap_or_else(|error| {
            log::warn!("the autotune cache is ignored: {error}");
            Map::new()
        });
        let known = read.get(&environment).and_then(Value::as_object);
        Cache {
            path: path.to_owned(),
            known: known.cloned().unwrap_or_default(),
            environment,
        }
    }

    pub fn find(&self, question: &str) -> Option<Choice> {
        Choice::parse(self.known.get(question)?)
    }

    /// Adds a choice to the file, whose other entries stay. A file that cannot be written, or that
    /// is no cache, stays as it is, with a warning.
    pub fn record(&mut self, question: &str, choice: Choice) {
        self.known.insert(question.to_owned(), choice.to_json());
        if let Err(error) = self.write() {
            log::warn!("the autotune cache is not written: {error}");
        }
    }

    fn write(&self) -> Result<()> {
        // again, because other processes may have added to it
        let mut environments = read(&self.path)?;
        let mut known = self.known.clone();
        if let Some(Value::Object(there)) = environments.remove(&self.environment) {
            known.extend(
                there
                    .into_iter()
                    .filter(|(q, _)| !self.known.contains_key(q)),
            );
        }
        environments.insert(self.environment.clone(), Value::Object(known));
        let all = json!({ FORMAT: VERSION, "environments": environments });
        write_atomically(&self.path, format!("{all:#}\n").as_bytes())
    }
}

/// The environments of a cache file; of one that does not exist, none.
fn read(path: &Path) -> Result<Map<String, Value>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(Error::io(path, error)),
    };
    let mut file: Value =
        serde_json::from_str(&text).map_err(|e| Error::format(path, e.to_string()))?;
    if file[FORMAT] != json!(VERSION) {
        let reason = format!("no autotune cache of version {VERSION}");
        return Err(Error::format(path, reason));
    }
    match file["environments"].take() {
        Value::Object(environments) => Ok(environments),
        _ => Err(Error::format(path, "there are no environments in it")),
    }
}
