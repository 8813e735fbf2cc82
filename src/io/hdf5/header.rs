//! Object headers of HDF5: what a group or a dataset is.

use safetensors::Dtype;

use super::super::kinds::StoredType;
use super::super::source::{Cursor, Source};
use super::chunks::{Filter, Index};
use super::dense::DenseLinks;
use super::{Sizes, UNDEFINED};
use crate::error::Result;

/// Where a dataset's elements are.
#[derive(Debug)]
pub(super) enum Layout {
    Compact(Vec<u8>),
    Contiguous(u64),
    Chunked(Index),
}

/// What the messages of an object's header say.
#[derive(Debug, Default)]
pub(super) struct Object {
    pub shape: Option<Vec<usize>>,
    /// What each size may grow to; `None` without an end.
    pub most: Vec<Option<u64>>,
    /// The elements and whether they are big-endian; `None` for what is not a number.
    pub dtype: Option<(StoredType, bool)>,
    pub layout: Option<Layout>,
    pub filters: Vec<Filter>,
    /// What stands where nothing was written; empty for zeros.
    pub fill: Vec<u8>,
    /// Addresses of the index and of the names of an old group.
    pub symbol_table: Option<(u64, u64)>,
    pub links: Vec<(String, u64)>,
    pub dense_links: Option<DenseLinks>,
}

/// More continuation blocks than any header has.
const MOST_BLOCKS: usize = 1024;

impl Object {
    pub fn read(source: &Source, sizes: Sizes, address: u64, what: &str) -> Result<Self> {
        let head = source.len().saturating_sub(address).min(32);
        let what_header = format!("HDF5 object header of {what}");
        let head = source.read(address, head, &what_header)?;
        let mut cursor = Cursor::new(source, &head, address, "HDF5 object header");
        let new = head.starts_with(b"OHDR");
        let (begin, length, ordered) = if new {
            cursor.skip(4)?;
            let (version, flags) = (cursor.u8()?, cursor.u8()?);
            if version != 2 {
                return Err(cursor.error(format!("version {version}")));
            }
            let times = if flags & 0x20 != 0 { 16 } else { 0 };
            let attributes = if flags & 0x10 != 0 { 4 } else { 0 };
            cursor.skip(times + attributes)?;
            let length = cursor.number(1 << (flags & 3))?;
            (cursor.position as u64, length, flags & 4 != 0)
        } else {
            if cursor.u8()? != 1 {
                return Err(cursor.error("neither version 1 nor an OHDR signature"));
            }
            cursor.skip(7)?;
            (16, cursor.number(4)?, false)
        };
        let mut object = Object::default();
        let begin = address.saturating_add(begin);
        let mut blocks = vec![(begin, length)];
        let mut next = 0;
        while let Some(&(begin, length)) = blocks.get(next) {
            next += 1;
            let first = next == 1;
            let mut bytes = source.read(begin, length, &what_header)?;
            let mut base = begin;
            if new && !first {
                // OCHK ... checksum
                if !bytes.starts_with(b"OCHK") || bytes.len() < 8 {
                    let reason = format!("{what_header}: no OCHK signature at byte {begin}");
                    return Err(source.error(reason));
                }
                bytes.truncate(bytes.len() - 4);
                bytes.drain(..4);
                base += 4;
            }
            let mut cursor = Cursor::new(source, &bytes, base, "HDF5 object header");
            let prefix = match (new, ordered) {
                (false, _) => 8,
                (true, false) => 4,
                (true, true) => 6,
            };
            while cursor.left() >= prefix {
                let kind = cursor.number(if new { 1 } else { 2 })?;
                let size = cursor.size(2)?;
                let flags = cursor.u8()?;
                cursor.skip(prefix - if new { 4 } else { 5 })?;
                let position = cursor.base + cursor.position as u64;
                let body = cursor.take(size)?;
                let mut body = Cursor::new(source, body, position, "HDF5 message");
                if kind == 0x10 {
                    let block = (sizes.address(&mut body)?, body.number(sizes.length)?);
                    if blocks.contains(&block) || blocks.len() > MOST_BLOCKS {
                        return Err(body.error("a header that continues in itself"));
                    }
                    blocks.push(block);
                } else if flags & 2 != 0 && matches!(kind, 1 | 3 | 5 | 8 | 0xb) {
                    return Err(body.error("a message shared between objects, which is not read"));
                } else {
                    object.message(kind, &mut body, sizes)?;
                }
            }
        }
        Ok(object)
    }

    fn message(&mut self, kind: u64, body: &mut Cursor, sizes: Sizes) -> Result<()> {
        match kind {
            0x01 => (self.shape, self.most) = dataspace(body, sizes)?,
            0x02 => {
                let flags = {
                    body.skip(1)?;
                    body.u8()?
                };
                body.skip(if flags & 1 != 0 { 8 } else { 0 })?;
                let (heap, names) = (sizes.address(body)?, sizes.address(body)?);
                let there = heap != UNDEFINED && names != UNDEFINED;
                self.dense_links = there.then_some(DenseLinks { heap, names });
            }
            0x03 => self.datatype(body)?,
            0x05 => self.fill = fill_value(body)?,
            0x06 => self.links.extend(link(body, sizes)?),
            0x08 => self.layout = Some(layout(body, sizes)?),
            0x0b => self.filters = filters(body)?,
            0x11 => self.symbol_table = Some((sizes.address(body)?, sizes.address(body)?)),
            _ => {}
        }
        Ok(())
    }

    fn datatype(&mut self, body: &mut Cursor) -> Result<()> {
        let class = body.u8()? & 0xf;
        let bits = body.number(3)?;
        let size = body.number(4)?;
        let signed = bits & 8 != 0;
        self.dtype = None;
        let dtype = match (class, size) {
            (0, 1) if signed => Dtype::I8,
            (0, 2) if signed => Dtype::I16,
            (0, 4) if signed => Dtype::I32,
            (0, 8) if signed => Dtype::I64,
            (0, 1) => Dtype::U8,
            (0, 2) => Dtype::U16,
            (0, 4) => Dtype::U32,
            (0, 8) => Dtype::U64,
            (1, 2 | 4 | 8) => {
                body.skip(4)?;
                let _exponent_at = body.u8()?;
                let exponent = body.u8()?;
                let _mantissa_at = body.u8()?;
                match (size, exponent, body.u8()?) {
                    (2, 5, 10) => Dtype::F16,
                    (2, 8, 7) => Dtype::BF16,
                    (4, 8, 23) => Dtype::F32,
                    (8, 11, 52) => Dtype::F64,
                    _ => return Ok(()),
                }
            }
            (8, 1) => Dtype::BOOL, // h5py's bool: an enumeration of one byte
            (5, 2) => {
                // two bytes of no type: what NumPy, and so h5py and Keras, make of bfloat16
                self.dtype = Some((StoredType(Dtype::BF16), false));
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.dtype = Some((StoredType(dtype), bits & 1 != 0));
        Ok(())
    }
}

/// The sizes and what they may grow to.
type Dataspace = (Option<Vec<usize>>, Vec<Option<u64>>);

fn dataspace(body: &mut Cursor, sizes: Sizes) -> Result<Dataspace> {
    let (version, rank) = (body.u8()?, body.size(1)?);
    let grows = body.u8()? & 1 != 0;
    match version {
        1 => body.skip(5)?,
        2 if body.u8()? == 2 => return Ok((None, Vec::new())),
        2 => {}
        _ => return Err(body.error(format!("a dataspace of version {version}"))),
    }
    let shape: Vec<usize> = (0..rank)
        .map(|_| body.size(sizes.length))
        .collect::<Result<_>>()?;
    let endless = u64::MAX >> (64 - 8 * sizes.length);
    let most = shape.iter().map(|&size| match grows {
        true => body
            .number(sizes.length)
            .map(|n| (n != endless).then_some(n)),
        false => Ok(Some(size as u64)),
    });
    let most = most.collect::<Result<_>>()?;
    Ok((Some(shape), most))
}

fn fill_value(body: &mut Cursor) -> Result<Vec<u8>> {
    let version = body.u8()?;
    let defined = match version {
        1 | 2 => {
            body.skip(2)?;
            body.u8()? != 0 || version == 1
        }
        3 => body.u8()? & 0x20 != 0,
        _ => return Err(body.error(format!("a fill value of version {version}"))),
    };
    if !defined {
        return Ok(Vec::new());
    }
    let size = body.size(4)?;
    Ok(body.take(size)?.to_vec())
}

/// A link of a new group, unless it is a soft or external one.
pub(super) fn link(body: &mut Cursor, sizes: Sizes) -> Result<Option<(String, u64)>> {
    body.skip(1)?;
    let flags = body.u8()?;
    let kind = if flags & 8 != 0 { body.u8()? } else { 0 };
    body.skip(if flags & 4 != 0 { 8 } else { 0 })?;
    body.skip(if flags & 0x10 != 0 { 1 } else { 0 })?;
    let length = body.size(1 << (flags & 3))?;
    let name = String::from_utf8_lossy(body.take(length)?).into_owned();
    match kind {
        0 => Ok(Some((name, sizes.address(body)?))),
        _ => Ok(None),
    }
}

fn layout(body: &mut Cursor, sizes: Sizes) -> Result<Layout> {
    let version = body.u8()?;
    match version {
        1 | 2 => {
            let rank = body.size(1)?;
            let class = body.u8()?;
            body.skip(5)?;
            match class {
                0 => {
                    body.skip(4 * rank)?;
                    let size = body.size(4)?;
                    Ok(Layout::Compact(body.take(size)?.to_vec()))
                }
                1 => Ok(Layout::Contiguous(sizes.address(body)?)),
                2 => {
                    let address = sizes.address(body)?;
                    Ok(Layout::Chunked(Index::Tree(
                        address,
                        dimensions(body, rank, 4)?,
                    )))
                }
                _ => Err(body.error(format!("a layout of class {class}"))),
            }
        }
        3 | 4 => {
            let class = body.u8()?;
            match (class, version) {
                (0, _) => {
                    let size = body.size(2)?;
                    Ok(Layout::Compact(body.take(size)?.to_vec()))
                }
                (1, _) => Ok(Layout::Contiguous(sizes.address(body)?)),
                (2, 3) => {
                    let rank = body.size(1)?;
                    let address = sizes.address(body)?;
                    Ok(Layout::Chunked(Index::Tree(
                        address,
                        dimensions(body, rank, 4)?,
                    )))
                }
                (2, _) => new_index(body, sizes).map(Layout::Chunked),
                _ => Err(body.error(format!("a layout of class {class}, which is not read"))),
            }
        }
        _ => Err(body.error(format!("a layout of version {version}"))),
    }
}

/// Chunk sizes; the last is that of an element.
fn dimensions(body: &mut Cursor, rank: usize, width: usize) -> Result<Vec<usize>> {
    (0..rank).map(|_| body.size(width)).collect()
}

fn new_index(body: &mut Cursor, sizes: Sizes) -> Result<Index> {
    let flags = body.u8()?;
    let rank = body.size(1)?;
    let width = body.size(1)?;
    let chunk = dimensions(body, rank, width)?;
    match body.u8()? {
        1 => {
            let filtered = match flags & 2 != 0 {
                true => Some((body.number(sizes.length)?, body.number(4)? as u32)),
                false => None,
            };
            Ok(Index::Single(sizes.address(body)?, chunk, filtered))
        }
        2 => Ok(Index::Implicit(sizes.address(body)?, chunk)),
        3 => {
            body.skip(1)?;
            Ok(Index::Array(sizes.address(body)?, chunk))
        }
        4 => {
            body.skip(5)?;
            Ok(Index::Growing(sizes.address(body)?, chunk))
        }
        5 => {
            body.skip(6)?;
            Ok(Index::Records(sizes.address(body)?, chunk))
        }
        kind => {
            let reason = "not read: write the file with libver='earliest', as Keras does";
            Err(body.error(format!("a chunk index of type {kind}, {reason}")))
        }
    }
}

fn filters(body: &mut Cursor) -> Result<Vec<Filter>> {
    let (version, count) = (body.u8()?, body.size(1)?);
    body.skip(if version == 1 { 6 } else { 0 })?;
    let mut filters = Vec::new();
    for _ in 0..count {
        let id = body.number(2)?;
        let name = if version == 1 || id >= 256 {
            body.size(2)?
        } else {
            0
        };
        body.skip(2)?;
        let values = body.size(2)?;
        body.skip(if version == 1 {
            name.next_multiple_of(8)
        } else {
            name
        })?;
        body.skip(4 * values)?;
        body.skip(if version == 1 && values % 2 == 1 {
            4
        } else {
            0
        })?;
        filters.push(match id {
            1 => Filter::Deflate,
            2 => Filter::Shuffle,
            3 => Filter::Fletcher,
            _ => {
                let reason = format!("filter {id}; deflate, shuffle and Fletcher-32 are read");
                return Err(body.error(reason));
            }
        });
    }
    Ok(filters)
}
