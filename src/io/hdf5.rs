//! HDF5, as far as Keras and h5py write it: groups, and datasets of numbers that are contiguous,
//! compact or in chunks, plain or through deflate, shuffle and Fletcher-32.
//!
//! Format: "HDF5 File Format Specification Version 3.0", The HDF Group.

mod chunks;
mod dense;
mod header;

pub(crate) use chunks::Chunks;

use std::collections::HashSet;

use super::archive::{Place, StoredTensor};
use super::source::{Cursor, Source};
use crate::error::Result;
use crate::shape::check_elements;
use header::{Layout, Object};

pub(super) const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
/// The address of nothing.
const UNDEFINED: u64 = u64::MAX;
/// Deeper groups and index trees than any model's.
const DEEPEST: usize = 32;

/// Every dataset of numbers by its path.
pub(super) fn read(source: &Source) -> Result<Vec<StoredTensor>> {
    let (sizes, root) = superblock(source)?;
    let mut walk = Walk {
        source,
        sizes,
        tensors: Vec::new(),
        path: HashSet::new(),
        steps: 0,
        held: 0,
    };
    walk.object(root, String::new(), 0)?;
    Ok(walk.tensors)
}

/// Bytes of an address and of a length.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    offset: usize,
    length: usize,
}

impl Sizes {
    /// An address, `UNDEFINED` whatever its width.
    fn address(self, cursor: &mut Cursor) -> Result<u64> {
        let address = cursor.number(self.offset)?;
        let all_ones = self.offset < 8 && address == (1 << (8 * self.offset)) - 1;
        Ok(if all_ones { UNDEFINED } else { address })
    }
}

fn superblock(source: &Source) -> Result<(Sizes, u64)> {
    let bytes = source.read(0, source.len().min(128), "HDF5 superblock")?;
    let mut cursor = Cursor::new(source, &bytes, 0, "HDF5 superblock");
    cursor.skip(8)?;
    let version = cursor.u8()?;
    if version > 3 {
        return Err(cursor.error(format!("version {version}; 0 to 3 are read")));
    }
    if version < 2 {
        cursor.skip(4)?;
    }
    let sizes = Sizes {
        offset: cursor.size(1)?,
        length: cursor.size(1)?,
    };
    if ![2, 4, 8].contains(&sizes.offset) || ![2, 4, 8].contains(&sizes.length) {
        return Err(cursor.error("addresses of other than 2, 4 or 8 bytes"));
    }
    match version {
        0 => cursor.skip(1 + 2 + 2 + 4)?,
        1 => cursor.skip(1 + 2 + 2 + 4 + 2 + 2)?,
        _ => cursor.skip(1)?,
    }
    let base = sizes.address(&mut cursor)?;
    if base != 0 {
        return Err(cursor.error("the file begins elsewhere than at its first byte"));
    }
    match version {
        0 | 1 => cursor.skip(3 * sizes.offset + sizes.offset)?, // and the root's name
        _ => cursor.skip(2 * sizes.offset)?,
    }
    Ok((sizes, sizes.address(&mut cursor)?))
}

struct Walk<'a> {
    source: &'a Source,
    sizes: Sizes,
    tensors: Vec<StoredTensor>,
    /// The groups that lead here.
    path: HashSet<u64>,
    steps: u64,
    /// Bytes of names.
    held: u64,
}

impl Walk<'_> {
    /// Counts an object or a node of a tree: there are no more than a file has room for.
    fn step(&mut self, what: &str, depth: usize) -> Result<()> {
        self.steps += 1;
        if depth > DEEPEST || self.steps > self.source.len() / 16 {
            let reason = format!("{what} is nested too deep or refers to itself");
            return Err(self.source.error(reason));
        }
        Ok(())
    }

    /// Counts a name that stays in memory: a short file can lead to a long one many times.
    fn hold(&mut self, name: &str) -> Result<()> {
        self.held += name.len() as u64;
        if self.held > (1 << 20).max(self.source.len().saturating_mul(8)) {
            let reason = "its names take more than eight times the file's length";
            return Err(self.source.error(reason));
        }
        Ok(())
    }

    fn object(&mut self, address: u64, name: String, depth: usize) -> Result<()> {
        let what = if name.is_empty() {
            "the root group"
        } else {
            &name
        };
        self.step(what, depth)?;
        let object = Object::read(self.source, self.sizes, address, what)?;
        if object.layout.is_some() {
            self.hold(&name)?;
            self.tensors.extend(self.dataset(object, name)?);
            return Ok(());
        }
        if !self.path.insert(address) {
            let reason = format!("group {name} at byte {address} contains itself");
            return Err(self.source.error(reason));
        }
        let mut links = object.links;
        if let Some(dense) = object.dense_links {
            links.extend(dense.read(self.source, self.sizes)?);
        }
        if let Some((tree, heap)) = object.symbol_table {
            let names = self.local_heap(heap)?;
            self.symbol_tree(tree, &names, depth, &mut links)?;
        }
        for (link, target) in links {
            let path = match name.as_str() {
                "" => link,
                name => format!("{name}/{link}"),
            };
            if path.len() > 4096 {
                return Err(self.source.error("a path of more than 4096 bytes"));
            }
            self.object(target, path, depth + 1)?;
        }
        self.path.remove(&address);
        Ok(())
    }

    /// The names of a symbol table group.
    fn local_heap(&self, address: u64) -> Result<Vec<u8>> {
        let length = 8 + 2 * self.sizes.length + self.sizes.offset;
        let bytes = self
            .source
            .read(address, length as u64, "HDF5 local heap")?;
        let mut cursor = Cursor::new(self.source, &bytes, address, "HDF5 local heap");
        if cursor.take(4)? != b"HEAP" {
            return Err(cursor.error("no HEAP signature"));
        }
        cursor.skip(4)?;
        let length = cursor.number(self.sizes.length)?;
        cursor.skip(self.sizes.length)?;
        let data = self.sizes.address(&mut cursor)?;
        self.source.read(data, length, "HDF5 local heap")
    }

    fn symbol_tree(
        &mut self,
        address: u64,
        names: &[u8],
        depth: usize,
        links: &mut Vec<(String, u64)>,
    ) -> Result<()> {
        self.step("a group's index", depth)?;
        let source = self.source;
        let sizes = self.sizes;
        let head = 8 + 2 * sizes.offset;
        let bytes = source.read(address, head as u64, "HDF5 group index")?;
        let mut cursor = Cursor::new(source, &bytes, address, "HDF5 group index");
        if cursor.take(5)? != b"TREE\0" {
            return Err(cursor.error("no TREE signature of a group"));
        }
        let level = cursor.u8()?;
        let entries = cursor.size(2)?;
        let length = entries * (sizes.length + sizes.offset);
        let bytes = source.read(address + head as u64, length as u64, "HDF5 group index")?;
        let mut cursor = Cursor::new(source, &bytes, address + head as u64, "HDF5 group index");
        for _ in 0..entries {
            cursor.skip(sizes.length)?;
            let child = sizes.address(&mut cursor)?;
            match level {
                0 => self.symbol_node(child, names, links)?,
                _ => self.symbol_tree(child, names, depth + 1, links)?,
            }
        }
        Ok(())
    }

    fn symbol_node(
        &mut self,
        address: u64,
        names: &[u8],
        links: &mut Vec<(String, u64)>,
    ) -> Result<()> {
        let source = self.source;
        let bytes = source.read(address, 8, "HDF5 symbol node")?;
        let mut cursor = Cursor::new(source, &bytes, address, "HDF5 symbol node");
        if cursor.take(4)? != b"SNOD" {
            return Err(cursor.error("no SNOD signature"));
        }
        cursor.skip(2)?;
        let entries = cursor.size(2)?;
        let length = entries * (2 * self.sizes.offset + 24);
        let bytes = source.read(address.saturating_add(8), length as u64, "HDF5 symbol node")?;
        let mut cursor = Cursor::new(source, &bytes, address + 8, "HDF5 symbol node");
        for _ in 0..entries {
            self.step("a group", 0)?;
            let name = cursor.size(self.sizes.offset)?;
            let target = self.sizes.address(&mut cursor)?;
            let kind = cursor.number(4)?;
            cursor.skip(20)?;
            let name = names.get(name..).and_then(|n| n.split(|&b| b == 0).next());
            let name = name.ok_or_else(|| cursor.error("a name outside the heap"))?;
            if kind != 2 {
                // a soft link names what is found elsewhere as well
                let name: Vec<u8> = name.iter().take(4096).copied().collect();
                let name = String::from_utf8_lossy(&name).into_owned();
                self.hold(&name)?;
                links.push((name, target));
            }
        }
        Ok(())
    }

    fn dataset(&self, object: Object, name: String) -> Result<Option<StoredTensor>> {
        let wrong = |why: &str| self.source.error(format!("dataset {name}: {why}"));
        let (Some(layout), Some(shape)) = (object.layout, object.shape) else {
            return Ok(None); // a null dataspace
        };
        let Some((dtype, big_endian)) = object.dtype else {
            return Ok(None); // text, references and the like
        };
        let elements = check_elements(&name, &shape)?;
        let bytes = dtype.bytes(elements).ok_or_else(|| wrong("too large"))?;
        let place = match layout {
            Layout::Compact(data) => {
                if data.len() != bytes {
                    return Err(wrong(&format!("{} bytes where {bytes} belong", data.len())));
                }
                Place::Span(self.source.expanded(data))
            }
            Layout::Contiguous(UNDEFINED) => {
                self.source.check_budget(bytes as u64, &name)?;
                Place::Chunks(Chunks::nothing(&object.fill, bytes, dtype.bits() / 8))
            }
            Layout::Contiguous(address) => {
                Place::Span(self.source.part(address, bytes as u64, &name)?)
            }
            Layout::Chunked(index) => Place::Chunks(Chunks::new(
                self.source,
                self.sizes,
                index,
                &shape,
                object.most,
                dtype.bits() / 8,
                object.filters,
                object.fill,
                &name,
            )?),
        };
        Ok(Some(StoredTensor {
            name,
            shape,
            dtype,
            place,
            plan: None,
            big_endian,
        }))
    }
}
