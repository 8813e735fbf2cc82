//! Datasets of HDF5 that lie in chunks.

mod index;

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::super::source::Source;
use super::Sizes;
use crate::error::Result;
use crate::shape::check_elements;
pub(super) use index::Index;

/// What was done to a chunk before it was written, first to last.
#[derive(Clone, Copy, Debug)]
pub(super) enum Filter {
    Deflate,
    Shuffle,
    Fletcher,
}

/// A dataset whose elements have to be put together.
#[derive(Clone, Debug)]
pub(crate) struct Chunks {
    /// `None` for a dataset that nothing was written to.
    stored: Option<Stored>,
    fill: Vec<u8>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Stored {
    source: Source,
    sizes: Sizes,
    index: Index,
    shape: Vec<usize>,
    /// The sizes that it may grow to; `None` without an end.
    most: Vec<Option<u64>>,
    chunk: Vec<usize>,
    width: usize,
    filters: Vec<Filter>,
}

/// Where a chunk begins, in elements, and in the file; the filters that were left out.
struct Piece {
    begin: Vec<usize>,
    address: u64,
    length: u64,
    skipped: u32,
}

impl Chunks {
    /// Elements that were never written.
    pub(super) fn nothing(fill: &[u8], bytes: usize, width: usize) -> Self {
        Chunks {
            stored: None,
            fill: if fill.len() == width {
                fill.to_vec()
            } else {
                vec![0; width]
            },
            bytes,
        }
    }

    #[expect(clippy::too_many_arguments)] // what the messages of one dataset say
    pub(super) fn new(
        source: &Source,
        sizes: Sizes,
        index: Index,
        shape: &[usize],
        most: Vec<Option<u64>>,
        width: usize,
        filters: Vec<Filter>,
        fill: Vec<u8>,
        name: &str,
    ) -> Result<Self> {
        let wrong = |why: &str| source.error(format!("dataset {name}: {why}"));
        let (Index::Tree(_, chunk)
        | Index::Single(_, chunk, _)
        | Index::Implicit(_, chunk)
        | Index::Array(_, chunk)
        | Index::Growing(_, chunk)
        | Index::Records(_, chunk)) = &index;
        let chunk = match chunk.split_last() {
            Some((&last, chunk)) if last == width && chunk.len() == shape.len() => chunk.to_vec(),
            _ => return Err(wrong("its chunks have other axes or elements than it has")),
        };
        let in_chunk = check_elements(name, &chunk)?;
        if in_chunk == 0 {
            return Err(wrong("its chunks are empty"));
        }
        let bytes = check_elements(name, shape)?.saturating_mul(width);
        // beside the dataset, a chunk before and after each filter
        let chunks = (in_chunk * width).saturating_mul(2);
        source.check_budget(bytes.saturating_add(chunks) as u64, name)?;
        Ok(Chunks {
            stored: Some(Stored {
                source: source.clone(),
                sizes,
                index,
                shape: shape.to_vec(),
                most,
                chunk,
                width,
                filters,
            }),
            ..Self::nothing(&fill, bytes, width)
        })
    }

    /// The dataset in row-major order; its size has been checked against the file's.
    pub fn read(&self, what: &str) -> Result<Vec<u8>> {
        let mut data = self.fill.repeat(self.bytes / self.fill.len().max(1));
        let Some(stored) = &self.stored else {
            return Ok(data);
        };
        let pieces = stored.pieces(what)?;
        let room = stored
            .grid()
            .iter()
            .try_fold(1usize, |p, &g| p.checked_mul(g));
        if room.is_none_or(|room| pieces.len() > room) {
            let reason = format!("{what}: more chunks than it has room for");
            return Err(stored.source.error(reason));
        }
        for piece in pieces {
            let chunk = stored.decode(&piece, what)?;
            stored.place(&piece.begin, &chunk, &mut data);
        }
        Ok(data)
    }
}

impl Stored {
    /// Chunks along each axis.
    fn grid(&self) -> Vec<usize> {
        let axes = self.shape.iter().zip(&self.chunk);
        axes.map(|(s, c)| s.div_ceil(*c)).collect()
    }

    fn chunk_bytes(&self) -> usize {
        self.chunk.iter().product::<usize>() * self.width
    }

    /// A chunk's elements.
    fn decode(&self, piece: &Piece, what: &str) -> Result<Vec<u8>> {
        let Piece {
            address, length, ..
        } = *piece;
        let what = &format!("{what}: chunk at byte {address}");
        let mut data = self.source.read(address, length, what)?;
        let bytes = self.chunk_bytes();
        for (i, filter) in self.filters.iter().enumerate().rev() {
            if i < 32 && piece.skipped >> i & 1 != 0 {
                continue;
            }
            data = match filter {
                Filter::Deflate => {
                    let mut inflated = Vec::new();
                    let most = bytes as u64 + 4; // a checksum may be inside
                    ZlibDecoder::new(data.as_slice())
                        .take(most)
                        .read_to_end(&mut inflated)
                        .map_err(|e| self.source.error(format!("{what}: {e}")))?;
                    inflated
                }
                Filter::Shuffle => unshuffled(&data, self.width),
                Filter::Fletcher => {
                    data.truncate(data.len().saturating_sub(4));
                    data
                }
            };
        }
        if data.len() != bytes {
            let reason = format!("{what}: {} bytes where {bytes} belong", data.len());
            return Err(self.source.error(reason));
        }
        Ok(data)
    }

    /// Copies the part of a chunk that lies inside the dataset, row by row.
    fn place(&self, begin: &[usize], chunk: &[u8], data: &mut [u8]) {
        let rank = self.shape.len();
        let inside = |a: usize| self.chunk[a].min(self.shape[a].saturating_sub(begin[a]));
        let Some(last) = rank.checked_sub(1) else {
            data.copy_from_slice(&chunk[..data.len()]);
            return;
        };
        let row = inside(last) * self.width;
        let rows: usize = (0..last).map(inside).product();
        if row == 0 {
            return;
        }
        for number in 0..rows {
            let (mut rest, mut from, mut to) = (number, 0, begin[last]);
            let (mut chunk_step, mut data_step) = (self.chunk[last], self.shape[last]);
            for a in (0..last).rev() {
                let at = rest % inside(a);
                rest /= inside(a);
                from += at * chunk_step;
                to += (begin[a] + at) * data_step;
                chunk_step *= self.chunk[a];
                data_step *= self.shape[a];
            }
            let (from, to) = (from * self.width, to * self.width);
            data[to..to + row].copy_from_slice(&chunk[from..from + row]);
        }
    }
}

/// Undoes HDF5's shuffle: all first bytes of the elements, then all second bytes, and so on.
fn unshuffled(data: &[u8], width: usize) -> Vec<u8> {
    let elements = data.len() / width.max(1);
    let mut plain = data.to_vec(); // bytes past the last element stay
    for (i, element) in plain.chunks_exact_mut(width.max(1)).enumerate() {
        for (b, byte) in element.iter_mut().enumerate() {
            *byte = data[b * elements + i];
        }
    }
    plain
}
