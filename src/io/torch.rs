//! PyTorch checkpoints: a pickle of views, and the storages that they view.

use safetensors::Dtype;

use super::archive::{Place, StoredTensor};
use super::kinds::StoredType;
use super::pickle::{Id, Pickle, Value, View};
use super::source::Source;
use super::zipped::Member;
use crate::error::Result;
use crate::remap::Rearrangement;

/// What is said to files that `torch.save` wrote before version 1.6.
pub(super) const OLD: &str = "byte 0: a bare pickle, as PyTorch wrote checkpoints before 1.6; only \
    the zip form is read: load it in PyTorch and torch.save it again";

/// Longer pickles than any checkpoint's.
const LONGEST_PICKLE: u64 = 64 << 20;
/// More tensors than any checkpoint's, and deeper nested.
const MOST_TENSORS: usize = 1 << 20;
const DEEPEST: usize = 100;

pub(super) fn read(source: &Source, members: &[Member], folder: &str) -> Result<Vec<StoredTensor>> {
    let member = |name: &str| {
        let path = format!("{folder}/{name}");
        members.iter().find(|m| m.name == path)
    };
    let pickle = match member("data.pkl") {
        Some(pickle) => pickle.open()?,
        None => return Err(source.error("there is no data.pkl")),
    };
    if pickle.len() > LONGEST_PICKLE {
        return Err(source.error(format!("data.pkl: {} bytes are too many", pickle.len())));
    }
    let bytes = pickle.read(0, pickle.len(), "data.pkl")?;
    let pickle = Pickle::parse(source, &bytes)?;
    let big_endian = match member("byteorder") {
        Some(order) => {
            let order = order.open()?;
            order
                .read(0, order.len().min(16), "byteorder")?
                .starts_with(b"big")
        }
        None => false,
    };
    let mut found = Found {
        source,
        pickle: &pickle,
        views: Vec::new(),
        steps: 0,
        most: MOST_TENSORS.min(bytes.len()),
        names: 0,
    };
    found.walk(pickle.root, String::new(), 0)?;
    let mut tensors = Vec::with_capacity(found.views.len());
    let mut opened: std::collections::HashMap<&str, Source> = std::collections::HashMap::new();
    for (name, view) in found.views {
        let storage = match opened.get(view.key.as_str()) {
            Some(storage) => storage.clone(),
            None => {
                let member = member(&format!("data/{}", view.key));
                let missing = || source.error(format!("tensor {name}: no storage {}", view.key));
                let storage = member.ok_or_else(missing)?.open()?;
                opened.insert(&view.key, storage.clone());
                storage
            }
        };
        tensors.push(tensor(name, view, &storage, big_endian)?);
    }
    Ok(tensors)
}

/// The tensors of a checkpoint by name: keys of nested dictionaries and places in lists, joined by
/// dots.
struct Found<'a> {
    source: &'a Source,
    pickle: &'a Pickle,
    views: Vec<(String, &'a View)>,
    steps: usize,
    /// No more values than bytes.
    most: usize,
    /// Bytes of all names.
    names: u64,
}

impl<'a> Found<'a> {
    fn walk(&mut self, id: Id, name: String, depth: usize) -> Result<()> {
        self.steps += 1;
        // a value that holds itself is as deep as one likes, one shared by many as wide
        if depth > DEEPEST || self.steps > self.most || name.len() > 4096 {
            let reason = format!(
                "data.pkl: {} is nested too deep or refers to itself",
                shortened(&name)
            );
            return Err(self.source.error(reason));
        }
        let within = |key: &str| match name.as_str() {
            "" => key.to_string(),
            name => format!("{name}.{key}"),
        };
        match self.pickle.value(id) {
            Value::Tensor(view) => {
                let name = if name.is_empty() {
                    "tensor".to_string()
                } else {
                    name
                };
                self.names += name.len() as u64;
                self.source
                    .check_budget(self.names, "data.pkl: the names of all tensors")?;
                self.views.push((name, view));
            }
            Value::Dict(items) => {
                for (key, value) in items {
                    let key = match self.pickle.value(*key) {
                        Value::Text(key) => key.clone(),
                        Value::Int(key) => key.to_string(),
                        Value::Bool(key) => key.to_string(),
                        _ => "?".to_string(),
                    };
                    self.walk(*value, within(&key), depth + 1)?;
                }
            }
            Value::List(items) | Value::Tuple(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.walk(*item, within(&i.to_string()), depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn shortened(name: &str) -> String {
    name.chars().take(60).collect()
}

fn tensor(name: String, view: &View, storage: &Source, big_endian: bool) -> Result<StoredTensor> {
    let wrong = |why: &str| storage.error(format!("tensor {}: {why}", shortened(&name)));
    let sizes = |values: &[i64]| -> Option<Vec<usize>> {
        values.iter().map(|&v| usize::try_from(v).ok()).collect()
    };
    let (shape, strides) = sizes(&view.size)
        .zip(sizes(&view.stride))
        .ok_or_else(|| wrong("a size or stride is negative"))?;
    let dtype = StoredType(view.dtype);
    let width = dtype.bits() / 8;
    let held = usize::try_from(storage.len()).map_err(|_| wrong("too long"))? / width;
    if view.count < 0 || storage.len() < view.count as u64 {
        return Err(wrong(&format!(
            "its storage of {} bytes is cut off",
            storage.len()
        )));
    }
    let offset = usize::try_from(view.offset).map_err(|_| wrong("its offset is negative"))?;
    let plan = Rearrangement::strided(held, offset, &shape, &strides)
        .ok_or_else(|| wrong("it reaches outside its storage"))?;
    // only the part of the storage that the view covers is read
    let (begin, plan) = plan.trimmed();
    let count = plan.source_shape()[0];
    let span = storage.part((begin * width) as u64, (count * width) as u64, &name)?;
    Ok(StoredTensor {
        shape,
        dtype,
        place: Place::Span(span),
        plan: (!plan.is_reshape()).then_some(plan),
        big_endian: big_endian && view.dtype != Dtype::C64,
        name,
    })
}
