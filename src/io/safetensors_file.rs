//! Reading safetensors: the header in memory, the elements where they are.

use std::collections::BTreeMap;

use safetensors::tensor::Metadata;

use super::archive::{Place, StoredTensor};
use super::kinds::StoredType;
use super::source::Source;
use crate::error::Result;
use crate::shape::check_elements;

/// As much as the format's own library reads.
const LONGEST_HEADER: u64 = 100_000_000;

pub(super) fn read(
    source: &Source,
    metadata: &mut BTreeMap<String, String>,
) -> Result<Vec<StoredTensor>> {
    let length = source.read(0, 8, "header length")?;
    let length = length.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
    if length > LONGEST_HEADER.min(source.len() - 8) {
        let reason = format!(
            "byte 0: a header of {length} bytes in a file of {}",
            source.len()
        );
        return Err(source.error(reason));
    }
    let header = source.read(8, length, "header")?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|e| source.error(format!("header (byte 8 to {}): {e}", 8 + length)))?;
    let data = 8 + length;
    if data.checked_add(header.data_len() as u64) != Some(source.len()) {
        let reason = format!(
            "the header describes {} bytes of tensors and the file holds {}",
            header.data_len(),
            source.len() - data
        );
        return Err(source.error(reason));
    }
    metadata.extend(header.metadata().clone().unwrap_or_default());
    let infos = header.tensors();
    let mut tensors = Vec::with_capacity(infos.len());
    for name in header.offset_keys() {
        let Some(info) = infos.get(&name) else {
            continue;
        };
        check_elements(&name, &info.shape)?;
        let (begin, end) = info.data_offsets;
        let span = source.part(data + begin as u64, (end - begin) as u64, &name)?;
        tensors.push(StoredTensor {
            shape: info.shape.clone(),
            dtype: StoredType(info.dtype),
            place: Place::Span(span),
            plan: None,
            big_endian: false,
            name,
        });
    }
    Ok(tensors)
}
