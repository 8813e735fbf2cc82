//! Where the chunks of an HDF5 dataset are in its file.

use super::super::super::source::Cursor;
use super::super::dense::Tree;
use super::super::{DEEPEST, UNDEFINED};
use super::{Piece, Stored};
use crate::error::Result;

const PAGES: &str = "has pages, which are not read: write the file with libver='earliest'";

/// How the chunks of a dataset are found; chunk sizes, the last that of an element.
#[derive(Clone, Debug)]
pub(in crate::io::hdf5) enum Index {
    Tree(u64, Vec<usize>),
    Single(u64, Vec<usize>, Option<(u64, u32)>),
    Implicit(u64, Vec<usize>),
    Array(u64, Vec<usize>),
    Growing(u64, Vec<usize>),
    Records(u64, Vec<usize>),
}

impl Stored {
    /// The chunks that were written and lie inside the dataset.
    pub(super) fn pieces(&self, what: &str) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let plain = self.chunk_bytes() as u64;
        match &self.index {
            // nothing was written yet
            Index::Tree(UNDEFINED, _)
            | Index::Single(UNDEFINED, ..)
            | Index::Implicit(UNDEFINED, _)
            | Index::Array(UNDEFINED, _)
            | Index::Growing(UNDEFINED, _)
            | Index::Records(UNDEFINED, _) => {}
            Index::Tree(address, _) => {
                let mut steps = self.source.len() / 16;
                self.tree(*address, 0, &mut steps, &mut pieces, what)?;
            }
            Index::Single(address, _, filtered) => {
                let (length, skipped) = filtered.unwrap_or((plain, 0));
                pieces.push(Piece {
                    begin: vec![0; self.shape.len()],
                    address: *address,
                    length,
                    skipped,
                });
            }
            Index::Implicit(address, _) => {
                let room = self.source.len() / plain.max(1);
                for number in 0..room {
                    let address = address.saturating_add(number * plain);
                    self.numbered(number, (address, plain, 0), &mut pieces, what)?;
                }
            }
            Index::Array(address, _) => self.array(*address, &mut pieces, what)?,
            Index::Growing(address, _) => self.growing(*address, &mut pieces, what)?,
            Index::Records(address, _) => self.records(*address, &mut pieces)?,
        }
        Ok(pieces)
    }

    /// Adds chunk `number` if it is there and inside the dataset. Chunks are numbered in row-major
    /// order in the largest shape that the dataset may have, the axis without an end first.
    fn numbered(
        &self,
        number: u64,
        (address, length, skipped): (u64, u64, u32),
        pieces: &mut Vec<Piece>,
        what: &str,
    ) -> Result<()> {
        if address == UNDEFINED {
            return Ok(());
        }
        let mut axes: Vec<usize> = (0..self.shape.len()).collect();
        axes.sort_by_key(|&a| self.most[a].is_some());
        let (mut begin, mut rest) = (vec![0; axes.len()], number);
        for (i, &a) in axes.iter().enumerate().rev() {
            let count = match self.most[a] {
                Some(most) if i > 0 => most.div_ceil(self.chunk[a] as u64).max(1),
                _ => u64::MAX,
            };
            let at = usize::try_from(rest % count).unwrap_or(usize::MAX);
            begin[a] = at.saturating_mul(self.chunk[a]);
            if begin[a] >= self.shape[a] {
                return Ok(());
            }
            rest /= count;
        }
        if rest > 0 {
            return Ok(());
        }
        if pieces.len() as u64 > self.source.len() {
            let reason = format!("{what}: more chunks than its file has bytes");
            return Err(self.source.error(reason));
        }
        pieces.push(Piece {
            begin,
            address,
            length,
            skipped,
        });
        Ok(())
    }

    /// A version 1 B-tree of chunks.
    fn tree(
        &self,
        address: u64,
        depth: usize,
        steps: &mut u64,
        pieces: &mut Vec<Piece>,
        what: &str,
    ) -> Result<()> {
        let sizes = self.sizes;
        let rank = self.shape.len() + 1;
        let head = 8 + 2 * sizes.offset as u64;
        let bytes = self.source.read(address, head, "HDF5 chunk index")?;
        let mut cursor = Cursor::new(&self.source, &bytes, address, "HDF5 chunk index");
        if cursor.take(5)? != b"TREE\x01" {
            return Err(cursor.error("no TREE signature of chunks"));
        }
        let level = cursor.u8()?;
        let entries = cursor.size(2)?;
        let length = entries * (8 + 8 * rank + sizes.offset);
        let begin = address + head;
        let bytes = self.source.read(begin, length as u64, "HDF5 chunk index")?;
        let mut cursor = Cursor::new(&self.source, &bytes, begin, "HDF5 chunk index");
        for _ in 0..entries {
            if depth > DEEPEST || *steps == 0 {
                return Err(cursor.error(format!("the index of {what} refers to itself")));
            }
            *steps -= 1;
            let (length, skipped) = (cursor.number(4)?, cursor.number(4)? as u32);
            let begin: Vec<usize> = (1..rank).map(|_| cursor.size(8)).collect::<Result<_>>()?;
            cursor.skip(8)?;
            let child = sizes.address(&mut cursor)?;
            match level {
                0 => pieces.push(Piece {
                    begin,
                    address: child,
                    length,
                    skipped,
                }),
                _ => self.tree(child, depth + 1, steps, pieces, what)?,
            }
        }
        Ok(())
    }

    /// A fixed array of chunks, on one page.
    fn array(&self, address: u64, pieces: &mut Vec<Piece>, what: &str) -> Result<()> {
        let sizes = self.sizes;
        let head = 8 + sizes.length as u64 + sizes.offset as u64;
        let bytes = self.source.read(address, head, "HDF5 fixed array")?;
        let mut cursor = Cursor::new(&self.source, &bytes, address, "HDF5 fixed array");
        if cursor.take(5)? != b"FAHD\0" {
            return Err(cursor.error("no FAHD signature"));
        }
        let filtered = cursor.u8()? == 1;
        let (entry, page) = (cursor.size(1)?, cursor.u8()?);
        let entries = cursor.number(sizes.length)?;
        if page < 64 && entries > 1 << page {
            return Err(cursor.error(format!("the index of {what} {PAGES}")));
        }
        let block = sizes.address(&mut cursor)?;
        self.check_entry(&cursor, entry, filtered)?;
        if block == UNDEFINED {
            return Ok(());
        }
        let begin = block.saturating_add(6 + sizes.offset as u64);
        let length = entries.saturating_mul(entry as u64);
        let bytes = self.source.read(begin, length, "HDF5 fixed array")?;
        let mut cursor = Cursor::new(&self.source, &bytes, begin, "HDF5 fixed array");
        for number in 0..entries {
            let chunk = self.entry(&mut cursor, entry, filtered)?;
            self.numbered(number, chunk, pieces, what)?;
        }
        Ok(())
    }

    fn check_entry(&self, cursor: &Cursor, entry: usize, filtered: bool) -> Result<()> {
        let expected = match filtered {
            true => self.sizes.offset + 5..self.sizes.offset + 13,
            false => self.sizes.offset..self.sizes.offset + 1,
        };
        match expected.contains(&entry) {
            true => Ok(()),
            false => Err(cursor.error(format!("entries of {entry} bytes"))),
        }
    }

    /// Address, length and left out filters of a chunk: an entry of `width` bytes.
    fn entry(&self, cursor: &mut Cursor, width: usize, filtered: bool) -> Result<(u64, u64, u32)> {
        let address = self.sizes.address(cursor)?;
        Ok(match filtered {
            true => (
                address,
                cursor.number(width - self.sizes.offset - 4)?,
                cursor.number(4)? as u32,
            ),
            false => (address, self.chunk_bytes() as u64, 0),
        })
    }

    /// An extensible array of chunks: some entries in its index block, the others in data blocks,
    /// the first of which the index block knows and all others secondary blocks. Secondary block
    /// `u` has `2^(u/2)` data blocks of `2^((u+1)/2)` times the least entries, rounded down; the
    /// first few have no block of their own, but their addresses are in the index block.
    fn growing(&self, address: u64, pieces: &mut Vec<Piece>, what: &str) -> Result<()> {
        const NAME: &str = "HDF5 extensible array";
        let sizes = self.sizes;
        let mut room = self.source.len(); // what is read, all together: no block has two places
        let mut read = |begin: u64, length: u64| {
            let left = room.checked_sub(length);
            room = left.ok_or_else(|| self.source.error(format!("{what}: an index with loops")))?;
            self.source.read(begin, length, NAME)
        };
        let bytes = read(address, (12 + 6 * sizes.length + sizes.offset) as u64)?;
        let mut cursor = Cursor::new(&self.source, &bytes, address, NAME);
        if cursor.take(5)? != b"EAHD\0" {
            return Err(cursor.error("no EAHD signature"));
        }
        let filtered = cursor.u8()? == 1;
        let (entry, bits, in_index) = (cursor.size(1)?, cursor.u8()?, cursor.number(1)?);
        let (least, pointers, page) = (cursor.number(1)?, cursor.number(1)?, cursor.u8()?);
        cursor.skip(6 * sizes.length)?;
        let index = sizes.address(&mut cursor)?;
        self.check_entry(&cursor, entry, filtered)?;
        let doubling = least.is_power_of_two() && pointers.is_power_of_two() && bits <= 64;
        let all = (u32::from(bits) + 1).checked_sub(least.max(1).ilog2());
        let direct = 2 * pointers.max(1).ilog2();
        let (true, Some(all)) = (doubling, all.filter(|&all| all >= direct)) else {
            return Err(cursor.error("blocks that do not double"));
        };
        if index == UNDEFINED {
            return Ok(());
        }
        let head = 6 + sizes.offset as u64;
        let in_block = head + u64::from(bits.div_ceil(8));
        let addresses = 2 * (pointers - 1) + u64::from(all - direct);
        let length = in_index * entry as u64 + addresses * sizes.offset as u64;
        let begin = index.saturating_add(head);
        let bytes = read(begin, length)?;
        let mut cursor = Cursor::new(&self.source, &bytes, begin, NAME);
        let mut number = 0u64;
        for _ in 0..in_index {
            let chunk = self.entry(&mut cursor, entry, filtered)?;
            self.numbered(number, chunk, pieces, what)?;
            number += 1;
        }
        for u in 0..all {
            let (blocks, entries) = (1u64 << (u / 2), least << u.div_ceil(2));
            let of_block;
            let mut table = if u < direct {
                let begin = cursor.base + cursor.position as u64;
                let bytes = cursor.take((blocks as usize).saturating_mul(sizes.offset))?;
                Cursor::new(&self.source, bytes, begin, NAME)
            } else {
                let block = sizes.address(&mut cursor)?;
                if block == UNDEFINED {
                    number = number.saturating_add(blocks.saturating_mul(entries));
                    continue;
                }
                let begin = block.saturating_add(in_block);
                of_block = read(begin, blocks.saturating_mul(sizes.offset as u64))?;
                Cursor::new(&self.source, &of_block, begin, NAME)
            };
            if page < 64 && entries > 1 << page {
                let reason = format!("the index of {what} {PAGES}");
                return Err(table.error(reason));
            }
            for _ in 0..blocks {
                let block = sizes.address(&mut table)?;
                if block == UNDEFINED {
                    number = number.saturating_add(entries);
                    continue;
                }
                let begin = block.saturating_add(in_block);
                let bytes = read(begin, entries.saturating_mul(entry as u64))?;
                let mut cursor = Cursor::new(&self.source, &bytes, begin, NAME);
                for _ in 0..entries {
                    let chunk = self.entry(&mut cursor, entry, filtered)?;
                    self.numbered(number, chunk, pieces, what)?;
                    number = number.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    /// A version 2 B-tree of chunks, which names the place of each.
    fn records(&self, address: u64, pieces: &mut Vec<Piece>) -> Result<()> {
        const NAME: &str = "HDF5 chunk index";
        let tree = Tree::read(&self.source, self.sizes, address, NAME, &[10, 11])?;
        let place = 8 * self.shape.len();
        for record in tree.records()? {
            let mut cursor = Cursor::new(&self.source, &record, address, NAME);
            let width = record.len().saturating_sub(place);
            let filtered = tree.kind == 11;
            self.check_entry(&cursor, width, filtered)?;
            let (address, length, skipped) = self.entry(&mut cursor, width, filtered)?;
            let mut begin = Vec::with_capacity(self.shape.len());
            for (chunk, size) in self.chunk.iter().zip(&self.shape) {
                let at = cursor.size(8)?.saturating_mul(*chunk);
                begin.extend((at < *size).then_some(at));
            }
            if begin.len() == self.shape.len() {
                pieces.push(Piece {
                    begin,
                    address,
                    length,
                    skipped,
                });
            }
        }
        Ok(())
    }
}
