//! Zip files: npz, PyTorch checkpoints and Keras models, by what is in them.

use std::io::BufReader;

use zip::{CompressionMethod, ZipArchive};

use super::archive::{Place, StoredTensor, inflate};
use super::kinds::Format;
use super::npy::{self, Header};
use super::source::Source;
use super::{hdf5, torch};
use crate::error::Result;

/// A member of a zip file, found but not read.
pub(super) struct Member {
    pub name: String,
    source: Source,
    deflated: bool,
    size: u64,
}

impl Member {
    /// The member's bytes: a part of the file, or expanded within the file's budget.
    pub fn open(&self) -> Result<Source> {
        if !self.deflated {
            return Ok(self.source.clone());
        }
        let what = format!("zip member {}", self.name);
        self.source.check_budget(self.size, &what)?;
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        Ok(self.source.expanded(inflate(&self.source, 0, size, &what)?))
    }

    /// A member that is an `.npy` file.
    fn npy(&self, name: &str) -> Result<StoredTensor> {
        if !self.deflated {
            return npy::read(&self.source, name);
        }
        let head = self.size.min(Header::LONGEST as u64) as usize;
        let header = Header::parse(&self.source, &inflate(&self.source, 0, head, name)?, name)?;
        let whole = header.bytes().and_then(|b| b.checked_add(header.length));
        if whole.map(|w| w as u64) != Some(self.size) {
            let reason = format!("{name}: its header and its {} bytes disagree", self.size);
            return Err(self.source.error(reason));
        }
        let place = Place::Deflated {
            stream: self.source.clone(),
            skip: header.length,
        };
        Ok(header.tensor(name, place))
    }
}

fn members(source: &Source) -> Result<Vec<Member>> {
    let malformed = |e: zip::result::ZipError| source.error(format!("zip file: {e}"));
    let mut archive = ZipArchive::new(BufReader::new(source.reader())).map_err(malformed)?;
    let mut members = Vec::new();
    for i in 0..archive.len() {
        let file = archive.by_index_raw(i).map_err(malformed)?;
        let name = file.name().map_err(malformed)?.into_owned();
        let wrong = |why: &str| source.error(format!("zip member {name}: {why}"));
        if file.encrypted() {
            return Err(wrong("it is encrypted"));
        }
        let deflated = match file.compression() {
            CompressionMethod::Stored => false,
            CompressionMethod::Deflated => true,
            other => return Err(wrong(&format!("compressed by {other}; deflate is read"))),
        };
        let start = file.data_start().ok_or_else(|| wrong("it has no data"))?;
        let (stored, size) = (file.compressed_size(), file.size());
        if !deflated && stored != size {
            return Err(wrong("it is not compressed, yet of two sizes"));
        }
        let source = source.part(start, stored, &format!("zip member {name}"))?;
        members.push(Member {
            name,
            source,
            deflated,
            size,
        });
    }
    Ok(members)
}

/// Reads a zip file as what its members make it.
pub(super) fn read(source: &Source) -> Result<(Format, Vec<StoredTensor>)> {
    let members = members(source)?;
    let pickle = members
        .iter()
        .find_map(|m| m.name.strip_suffix("/data.pkl"));
    if let Some(folder) = pickle {
        return Ok((Format::Torch, torch::read(source, &members, folder)?));
    }
    if let Some(weights) = members.iter().find(|m| m.name == "model.weights.h5") {
        return Ok((Format::Keras, hdf5::read(&weights.open()?)?));
    }
    let arrays = members
        .iter()
        .filter_map(|m| m.name.strip_suffix(".npy").map(|n| (n, m)));
    let tensors: Vec<StoredTensor> = arrays.map(|(n, m)| m.npy(n)).collect::<Result<_>>()?;
    if tensors.is_empty() && !members.is_empty() {
        let reason =
            "a zip file of no known kind: it has no .npy arrays, data.pkl or model.weights.h5";
        return Err(source.error(reason));
    }
    Ok((Format::Npz, tensors))
}
