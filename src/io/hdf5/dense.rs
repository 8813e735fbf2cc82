//! Links of a large group of newer HDF5 files: a B-tree of names (version 2) whose records say where
//! in a fractal heap each link lies. Chunks are found by such trees as well.

use super::super::source::{Cursor, Source};
use super::header::link;
use super::{DEEPEST, Sizes, UNDEFINED};
use crate::error::Result;

/// A group's links that are not in its header.
#[derive(Clone, Copy, Debug)]
pub(super) struct DenseLinks {
    pub heap: u64,
    pub names: u64,
}

impl DenseLinks {
    pub fn read(self, source: &Source, sizes: Sizes) -> Result<Vec<(String, u64)>> {
        let heap = Heap::read(source, sizes, self.heap)?;
        let tree = Tree::read(source, sizes, self.names, "HDF5 link index", &[5])?;
        let (mut links, mut room) = (Vec::new(), source.len());
        for id in tree.records()? {
            let object = heap.object(id.get(4..).unwrap_or_default())?; // behind the name's hash
            let left = room.checked_sub(object.len() as u64);
            room = left.ok_or_else(|| source.error("HDF5 links longer than the file"))?;
            let mut body = Cursor::new(source, &object, self.heap, "HDF5 link in a heap");
            links.extend(link(&mut body, sizes)?);
        }
        Ok(links)
    }
}

/// Bytes that numbers up to `most` are written in.
fn width(most: u64) -> usize {
    most.max(1).ilog2() as usize / 8 + 1
}

/// A version 2 B-tree: of link names, whose records are a hash and a heap's object, or of chunks.
pub(super) struct Tree<'a> {
    source: &'a Source,
    sizes: Sizes,
    what: &'static str,
    pub kind: u8,
    node: u64,
    record: usize,
    depth: usize,
    root: u64,
    in_root: usize,
}

impl<'a> Tree<'a> {
    /// A tree of one of these kinds.
    pub fn read(
        source: &'a Source,
        sizes: Sizes,
        address: u64,
        what: &'static str,
        kinds: &[u8],
    ) -> Result<Self> {
        let length = 16 + sizes.offset + 2;
        let bytes = source.read(address, length as u64, what)?;
        let mut cursor = Cursor::new(source, &bytes, address, what);
        if cursor.take(5)? != b"BTHD\0" {
            return Err(cursor.error("no BTHD signature"));
        }
        let kind = cursor.u8()?;
        if !kinds.contains(&kind) {
            return Err(cursor.error("an index of other things"));
        }
        let tree = Tree {
            source,
            sizes,
            what,
            kind,
            node: cursor.number(4)?,
            record: cursor.size(2)?,
            depth: cursor.size(2)?,
            root: {
                cursor.skip(2)?; // when to split and merge
                sizes.address(&mut cursor)?
            },
            in_root: cursor.size(2)?,
        };
        let odd = !(5..=512).contains(&tree.record) || tree.node < 10 + tree.record as u64;
        if odd || tree.depth > DEEPEST {
            return Err(cursor.error("records of an odd size, or too many levels"));
        }
        Ok(tree)
    }

    /// All records.
    pub fn records(&self) -> Result<Vec<Vec<u8>>> {
        let mut ids = Vec::new();
        if self.root != UNDEFINED {
            let mut steps = self.source.len() / 16;
            self.walk(self.root, self.in_root, self.depth, &mut ids, &mut steps)?;
        }
        Ok(ids)
    }

    /// For nodes of each level, from the leaves up to `depth`: the most records, and the most in
    /// all nodes below.
    fn room(&self, depth: usize) -> Vec<(u64, u64)> {
        let leaf = (self.node - 10) / self.record as u64;
        let mut room = vec![(leaf, leaf)];
        for level in 1..=depth {
            let pointer = self.pointer(&room, level) as u64;
            let most = self.node.saturating_sub(10 + pointer) / (self.record as u64 + pointer);
            let below = room[level - 1].1;
            let all = below.saturating_mul(most + 1).saturating_add(most);
            room.push((most, all));
        }
        room
    }

    /// Bytes of what a node of this level says of one below it.
    fn pointer(&self, room: &[(u64, u64)], level: usize) -> usize {
        let in_all = if level > 1 {
            width(room[level - 1].1)
        } else {
            0
        };
        self.sizes.offset + width(room[0].0) + in_all
    }

    fn walk(
        &self,
        address: u64,
        count: usize,
        level: usize,
        ids: &mut Vec<Vec<u8>>,
        steps: &mut u64,
    ) -> Result<()> {
        let room = self.room(level);
        let pointer = if level > 0 {
            self.pointer(&room, level)
        } else {
            0
        };
        let length = 6 + count * self.record + (count + 1) * pointer;
        let what = self.what;
        if length as u64 > self.node {
            let reason = format!("{what} at byte {address}: more records than a node holds");
            return Err(self.source.error(reason));
        }
        let bytes = self.source.read(address, length as u64, what)?;
        let mut cursor = Cursor::new(self.source, &bytes, address, what);
        let signature: &[u8] = if level > 0 { b"BTIN\0" } else { b"BTLF\0" };
        if cursor.take(5)? != signature || cursor.u8()? != self.kind {
            return Err(cursor.error("no signature of a node"));
        }
        for _ in 0..count {
            if *steps == 0 {
                return Err(cursor.error("the index refers to itself"));
            }
            *steps -= 1;
            ids.push(cursor.take(self.record)?.to_vec());
        }
        if level == 0 {
            return Ok(());
        }
        for _ in 0..=count {
            let child = self.sizes.address(&mut cursor)?;
            let in_child = cursor.size(width(room[0].0))?;
            cursor.skip(pointer - self.sizes.offset - width(room[0].0))?;
            if *steps == 0 {
                return Err(cursor.error("the index refers to itself"));
            }
            *steps -= 1;
            self.walk(child, in_child, level - 1, ids, steps)?;
        }
        Ok(())
    }
}

/// A fractal heap: objects in blocks whose sizes double with every second row of a table.
struct Heap<'a> {
    source: &'a Source,
    sizes: Sizes,
    /// Blocks in a row of the table.
    columns: u64,
    first_block: u64,
    largest_block: u64,
    root: u64,
    /// Rows of the root; 0 where it is a block of objects itself.
    rows: u64,
    offset_width: usize,
    length_width: usize,
}

impl<'a> Heap<'a> {
    fn read(source: &'a Source, sizes: Sizes, address: u64) -> Result<Self> {
        let Sizes { offset, length } = sizes;
        let bytes = 22 + 12 * length + 3 * offset;
        let bytes = source.read(address, bytes as u64, "HDF5 fractal heap")?;
        let mut cursor = Cursor::new(source, &bytes, address, "HDF5 fractal heap");
        if cursor.take(5)? != b"FRHP\0" {
            return Err(cursor.error("no FRHP signature"));
        }
        cursor.skip(2)?; // of an object's id
        if cursor.number(2)? != 0 {
            return Err(cursor.error("a filtered heap, which is not read"));
        }
        cursor.skip(1)?;
        let largest_object = cursor.number(4)?;
        cursor.skip(length + offset + length + offset + 8 * length)?;
        let columns = cursor.number(2)?;
        let first_block = cursor.number(length)?;
        let largest_block = cursor.number(length)?;
        let bits = cursor.size(2)?;
        cursor.skip(2)?;
        let root = sizes.address(&mut cursor)?;
        let rows = cursor.number(2)?;
        let doubling = |size: u64| size.is_power_of_two() && size <= 1 << 31;
        let table = doubling(columns) && doubling(first_block) && doubling(largest_block);
        if !table || largest_block < first_block || !(1..=64).contains(&bits) {
            return Err(cursor.error("a table whose blocks do not double"));
        }
        Ok(Heap {
            source,
            sizes,
            columns,
            first_block,
            largest_block,
            root,
            rows,
            offset_width: bits.div_ceil(8),
            length_width: (largest_block.ilog2() as usize)
                .div_ceil(8)
                .min(width(largest_object)),
        })
    }

    fn object(&self, id: &[u8]) -> Result<Vec<u8>> {
        let mut cursor = Cursor::new(self.source, id, 0, "HDF5 heap object");
        let head = cursor.u8()?;
        match head >> 4 & 3 {
            0 => {
                let offset = cursor.number(self.offset_width)?;
                let length = cursor.number(self.length_width)?;
                let (block, begin, size) = self.block(offset)?;
                let within = offset - begin;
                if within.checked_add(length).is_none_or(|end| end > size) {
                    return Err(cursor.error("an object outside its block"));
                }
                let address = block.saturating_add(within);
                self.source.read(address, length, "HDF5 heap object")
            }
            // in the id itself
            2 => Ok(cursor
                .take((usize::from(head & 15) + 1).min(cursor.left()))?
                .to_vec()),
            _ => Err(cursor.error("a huge object, which is not read")),
        }
    }

    /// The block that holds this offset of the heap: its address, its own offset, its size.
    fn block(&self, offset: u64) -> Result<(u64, u64, u64)> {
        let outside = || {
            self.source
                .error("HDF5 heap object: an offset outside the heap")
        };
        if self.rows == 0 {
            return Ok((self.root, 0, self.first_block));
        }
        let (mut table, mut rows, mut base) = (self.root, self.rows, 0);
        let direct_rows = u64::from(self.largest_block.ilog2() - self.first_block.ilog2()) + 2;
        for _ in 0..DEEPEST {
            let row = match (offset - base) / (self.columns * self.first_block) {
                0 => 0,
                n => u64::from(n.ilog2()) + 1,
            };
            let size = self.first_block.checked_mul(1 << row.saturating_sub(1));
            let row_begin = size.and_then(|size| size.checked_mul(self.columns));
            let (Some(size), Some(row_begin), true) = (size, row_begin, row < rows) else {
                return Err(outside());
            };
            let row_begin = if row == 0 { 0 } else { row_begin };
            let column = (offset - base - row_begin) / size;
            let entry = row * self.columns + column;
            let head = 5 + self.sizes.offset + self.offset_width;
            let at = entry
                .checked_mul(self.sizes.offset as u64)
                .and_then(|at| at.checked_add(head as u64)?.checked_add(table))
                .ok_or_else(outside)?;
            if self.source.read(table, 4, "HDF5 heap table")? != b"FHIB" {
                return Err(self.source.error(format!(
                    "HDF5 heap table at byte {table}: no FHIB signature"
                )));
            }
            let bytes = self
                .source
                .read(at, self.sizes.offset as u64, "HDF5 heap table")?;
            let mut cursor = Cursor::new(self.source, &bytes, at, "HDF5 heap table");
            let child = self.sizes.address(&mut cursor)?;
            base += row_begin + column * size;
            if row < direct_rows {
                return Ok((child, base, size));
            }
            table = child;
            // as many rows as hold a block of this size
            let whole = size / (self.first_block * self.columns);
            rows = u64::from(whole.checked_ilog2().ok_or_else(outside)?) + 1;
        }
        Err(outside())
    }
}
