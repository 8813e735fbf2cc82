//! ONNX: the initialisers and constants of a model, read from its protobuf without a schema.
//!
//! Field numbers: `onnx.proto` of the ONNX project. Only the few fields that tensors need are
//! looked at; graphs within nodes are not.

use std::path::{Component, Path};

use safetensors::Dtype;

use super::archive::{Place, StoredTensor};
use super::kinds::StoredType;
use super::source::Source;
use crate::error::{Error, Result};
use crate::shape::check_elements;

/// Longer names than any tensor's.
const LONGEST_NAME: u64 = 4096;

pub(super) fn read(source: &Source) -> Result<Vec<StoredTensor>> {
    let mut tensors = Vec::new();
    let mut graphs = 0;
    fields(source, "ModelProto", |number, value| {
        let (7, Value::Bytes(graph)) = (number, &value) else {
            return Ok(());
        };
        graphs += 1;
        fields(graph, "GraphProto", |number, value| {
            match (number, value) {
                (5, Value::Bytes(tensor)) => tensors.extend(tensor_proto(&tensor, None)?),
                (1, Value::Bytes(node)) => tensors.extend(constant(&node)?),
                _ => {}
            }
            Ok(())
        })
    })?;
    match graphs {
        0 => Err(source.error("no ONNX model: there is no graph")),
        _ => Ok(tensors),
    }
}

/// A field's value; bytes stay where they are.
enum Value {
    Number(u64),
    Bytes(Source),
}

/// Calls `field` with the number and the value of every field of a message.
fn fields(
    message: &Source,
    what: &str,
    mut field: impl FnMut(u64, Value) -> Result<()>,
) -> Result<()> {
    let mut position = 0;
    while position < message.len() {
        let at = |e: &str| message.error(format!("{what}, byte {position} of it: {e}"));
        let head = message.read(position, (message.len() - position).min(20), what)?;
        let (key, key_length) = varint(&head).ok_or_else(|| at("a number that does not end"))?;
        let rest = &head[key_length..];
        position += key_length as u64;
        let fixed = |width: usize| {
            let bytes = rest.get(..width)?;
            Some(bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
        };
        let at = |e: &str| message.error(format!("{what}, byte {position} of it: {e}"));
        let (value, length) = match key & 7 {
            0 => {
                let number = varint(rest).ok_or_else(|| at("a number that does not end"))?;
                (Value::Number(number.0), number.1 as u64)
            }
            1 => (Value::Number(fixed(8).ok_or_else(|| at("cut off"))?), 8),
            5 => (Value::Number(fixed(4).ok_or_else(|| at("cut off"))?), 4),
            2 => {
                let (length, width) =
                    varint(rest).ok_or_else(|| at("a length that does not end"))?;
                let begin = position + width as u64;
                let bytes = message.part(begin, length, what)?;
                (Value::Bytes(bytes), width as u64 + length)
            }
            kind => return Err(at(&format!("a field of wire type {kind}"))),
        };
        field(key >> 3, value)?;
        position += length;
    }
    Ok(())
}

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((number, i + 1));
        }
    }
    None
}

fn text(bytes: &Source, what: &str) -> Result<String> {
    let bytes = bytes.read(0, bytes.len().min(LONGEST_NAME), what)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of a `Constant` node, under the name of its output.
fn constant(node: &Source) -> Result<Option<StoredTensor>> {
    let (mut output, mut op, mut value) = (None, None, None);
    fields(node, "NodeProto", |number, field| {
        match (number, field) {
            (2, Value::Bytes(name)) => output = Some(name),
            (4, Value::Bytes(name)) => op = Some(name),
            (5, Value::Bytes(attribute)) => {
                fields(&attribute, "AttributeProto", |number, field| {
                    if let (5, Value::Bytes(tensor)) = (number, field) {
                        value = Some(tensor);
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    match (output, op, value) {
        (Some(output), Some(op), Some(value))
            if op.len() == 8 && text(&op, "op")? == "Constant" =>
        {
            tensor_proto(&value, Some(text(&output, "output name")?))
        }
        _ => Ok(None),
    }
}

#[derive(Default)]
struct TensorProto {
    dims: Vec<usize>,
    data_type: u64,
    name: String,
    raw: Option<Source>,
    /// Little-endian elements of the lists that are not raw.
    listed: Vec<u8>,
    external: Vec<(String, String)>,
    is_external: bool,
}

/// A tensor; `None` for one of text.
fn tensor_proto(message: &Source, name: Option<String>) -> Result<Option<StoredTensor>> {
    let mut t = TensorProto::default();
    // the type decides how the lists are read, and may come after them
    fields(message, "TensorProto", |number, value| {
        match (number, value) {
            (2, Value::Number(n)) => t.data_type = n,
            (8, Value::Bytes(bytes)) => t.name = text(&bytes, "name")?,
            _ => {}
        }
        Ok(())
    })?;
    t.name = name.unwrap_or(t.name);
    let Some(dtype) = element(t.data_type) else {
        return match t.data_type {
            8 => Ok(None),
            kind => Err(message.error(format!(
                "tensor {}: element type {kind} is not read",
                t.name
            ))),
        };
    };
    let dtype = StoredType(dtype);
    let width = dtype.bits() / 8;
    let name = t.name.clone();
    let wrong = |why: &str| message.error(format!("tensor {name}: {why}"));
    fields(message, "TensorProto", |number, value| {
        match (number, value) {
            (1, value) => numbers(value, Wire::Varint, "dims", |n| {
                let size = usize::try_from(n).map_err(|_| wrong("a size is too large"))?;
                if t.dims.len() == 64 {
                    return Err(wrong("more than 64 axes"));
                }
                t.dims.push(size);
                Ok(())
            })?,
            (3, _) => return Err(wrong("stored in segments, which are not read")),
            (4 | 5 | 7 | 10 | 11, value) => {
                let wire = match number {
                    4 => Wire::Fixed(4),
                    10 => Wire::Fixed(8),
                    _ => Wire::Varint,
                };
                let listed = &mut t.listed;
                if matches!((number, width), (4, 1 | 2 | 8) | (10, 1..=4)) {
                    return Err(wrong("its elements are in the list of another type"));
                }
                numbers(value, wire, "data", |n| {
                    listed.extend_from_slice(&n.to_le_bytes()[..width]);
                    Ok(())
                })?;
            }
            (9, Value::Bytes(raw)) => t.raw = Some(raw),
            (13, Value::Bytes(entry)) => {
                let mut pair = (String::new(), String::new());
                fields(&entry, "external data", |number, value| {
                    match (number, value) {
                        (1, Value::Bytes(key)) => pair.0 = text(&key, "external data")?,
                        (2, Value::Bytes(value)) => pair.1 = text(&value, "external data")?,
                        _ => {}
                    }
                    Ok(())
                })?;
                t.external.push(pair);
            }
            (14, Value::Number(location)) => t.is_external = location == 1,
            _ => {}
        }
        Ok(())
    })?;
    let elements = check_elements(&t.name, &t.dims)?;
    let bytes = dtype.bytes(elements).ok_or_else(|| wrong("too large"))? as u64;
    let data = match (t.is_external, t.raw) {
        (true, _) => external(message, &t.name, &t.external, bytes)?,
        (false, Some(raw)) => raw,
        (false, None) => message.expanded(t.listed),
    };
    if data.len() != bytes {
        return Err(wrong(&format!("{} bytes where {bytes} belong", data.len())));
    }
    Ok(Some(StoredTensor {
        name,
        shape: t.dims,
        dtype,
        place: Place::Span(data),
        plan: None,
        big_endian: false,
    }))
}

#[derive(Clone, Copy)]
enum Wire {
    Varint,
    Fixed(usize),
}

/// The numbers of a repeated field, packed or one at a time.
fn numbers(
    value: Value,
    wire: Wire,
    what: &str,
    mut number: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let packed = match value {
        Value::Number(n) => return number(n),
        Value::Bytes(packed) => packed,
    };
    let bytes = packed.read(0, packed.len(), what)?;
    let cut_off = || packed.error(format!("{what}: cut off within a number"));
    match wire {
        Wire::Fixed(width) => {
            if bytes.len() % width != 0 {
                return Err(cut_off());
            }
            let values = bytes.chunks_exact(width);
            values
                .map(|v| v.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
                .try_for_each(number)
        }
        Wire::Varint => {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (value, length) = varint(rest).ok_or_else(cut_off)?;
                number(value)?;
                rest = &rest[length..];
            }
            Ok(())
        }
    }
}

fn element(data_type: u64) -> Option<Dtype> {
    Some(match data_type {
        1 => Dtype::F32,
        2 => Dtype::U8,
        3 => Dtype::I8,
        4 => Dtype::U16,
        5 => Dtype::I16,
        6 => Dtype::I32,
        7 => Dtype::I64,
        9 => Dtype::BOOL,
        10 => Dtype::F16,
        11 => Dtype::F64,
        12 => Dtype::U32,
        13 => Dtype::U64,
        14 => Dtype::C64,
        16 => Dtype::BF16,
        17 => Dtype::F8_E4M3,
        18 => Dtype::F8_E4M3FNUZ,
        19 => Dtype::F8_E5M2,
        20 => Dtype::F8_E5M2FNUZ,
        _ => return None,
    })
}

/// A tensor's bytes in a file beside the model's; never one outside its folder.
fn external(
    model: &Source,
    name: &str,
    entries: &[(String, String)],
    bytes: u64,
) -> Result<Source> {
    let entry = |key: &str| {
        entries
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    };
    let wrong = |why: &str| model.error(format!("tensor {name}: external data: {why}"));
    let location = entry("location").ok_or_else(|| wrong("no location"))?;
    let inside = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || !Path::new(location).components().all(inside) {
        return Err(wrong(&format!(
            "{location:?} is not a file in the model's folder"
        )));
    }
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| wrong(&format!("{key} is no number"))),
    };
    let offset: u64 = number("offset")?.unwrap_or(0);
    let length: u64 = number("length")?.unwrap_or(bytes);
    let folder = model.path().parent().unwrap_or(Path::new(""));
    let file = Source::open(&folder.join(location)).map_err(|e| match e {
        Error::Io { path, source } => wrong(&format!("{}: {source}", path.display())),
        other => other,
    })?;
    file.part(offset, length, name)
}
