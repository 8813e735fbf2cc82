//! Bounded reading: a file, or a part of one, of which no more is read than there is.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};

/// The bytes of a file or of a part of it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    path: Arc<PathBuf>,
    bytes: Bytes,
    start: u64,
    len: u64,
    /// The length of the file that the user has: what memory is measured by.
    honest: u64,
    /// What stays in memory with it, expanded from the file.
    held: u64,
}

#[derive(Clone, Debug)]
enum Bytes {
    File(Arc<Positioned>),
    Memory(Arc<Vec<u8>>),
}

/// A file that several threads read at places of their own.
#[derive(Debug)]
struct Positioned {
    file: File,
    /// Where a place and a read are two calls.
    #[cfg(not(unix))]
    turn: std::sync::Mutex<()>,
}

impl Positioned {
    fn read_at(&self, bytes: &mut [u8], begin: u64) -> io::Result<usize> {
        #[cfg(unix)]
        {
            std::os::unix::fs::FileExt::read_at(&self.file, bytes, begin)
        }
        #[cfg(not(unix))]
        {
            let _turn = self.turn.lock();
            (&self.file).seek(SeekFrom::Start(begin))?;
            (&self.file).read(bytes)
        }
    }

    fn read_exact_at(&self, mut bytes: &mut [u8], mut begin: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.read_at(bytes, begin) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    bytes = &mut bytes[count..];
                    begin += count as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// What a reader may allocate whatever a file's length.
const FLOOR: u64 = 16 << 20;
/// How many times its own length a file may expand to.
const EXPANSION: u64 = 100;

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
        if !metadata.is_file() {
            let reason = "not a file";
            return Err(Error::io(
                path,
                io::Error::new(io::ErrorKind::InvalidInput, reason),
            ));
        }
        Ok(Source {
            path: Arc::new(path.to_owned()),
            bytes: Bytes::File(Arc::new(Positioned {
                file,
                #[cfg(not(unix))]
                turn: Default::default(),
            })),
            start: 0,
            len: metadata.len(),
            honest: metadata.len(),
            held: 0,
        })
    }

    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Source {
            path: Arc::new(path.to_owned()),
            bytes: Bytes::Memory(Arc::new(bytes)),
            start: 0,
            len,
            honest: len,
            held: 0,
        }
    }

    /// Other bytes of the same file, such as what a part of it was expanded to.
    pub fn expanded(&self, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Source {
            path: self.path.clone(),
            len,
            bytes: Bytes::Memory(Arc::new(bytes)),
            start: 0,
            honest: self.honest,
            held: self.held + len,
        }
    }

    /// `len` bytes from `offset` as a source of their own.
    pub fn part(&self, offset: u64, len: u64, what: &str) -> Result<Self> {
        self.check(offset, len, what)?;
        Ok(Source {
            start: self.start + offset,
            len,
            ..self.clone()
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn error(&self, reason: impl Into<String>) -> Error {
        Error::format(&self.path, reason)
    }

    fn check(&self, offset: u64, len: u64, what: &str) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(self.error(format!(
                "{what}: {len} bytes at byte {offset} reach past the end at {}",
                self.len
            ))),
        }
    }

    /// Refuses to allocate more for `what` than a file of this length can honestly hold.
    pub fn check_budget(&self, bytes: u64, what: &str) -> Result<()> {
        let limit = FLOOR.max(self.honest.saturating_mul(EXPANSION));
        if bytes.saturating_add(self.held) <= limit {
            return Ok(());
        }
        let honest = self.honest;
        Err(self.error(format!(
            "{what} would take {bytes} bytes of memory; from a file of {honest} bytes at most \
             {limit} are taken"
        )))
    }

    /// `len` bytes from `offset`; nothing is allocated before they are known to be there.
    pub fn read(&self, offset: u64, len: u64, what: &str) -> Result<Vec<u8>> {
        self.check(offset, len, what)?;
        let size = usize::try_from(len).map_err(|_| self.error(format!("{what}: too long")))?;
        let mut bytes = zeroed(size, what)?;
        self.read_into(offset, &mut bytes, what)?;
        Ok(bytes)
    }

    /// The bytes from `offset` that fill `bytes`.
    pub fn read_into(&self, offset: u64, bytes: &mut [u8], what: &str) -> Result<()> {
        self.check(offset, bytes.len() as u64, what)?;
        let begin = self.start + offset;
        match &self.bytes {
            Bytes::Memory(all) => {
                bytes.copy_from_slice(&all[begin as usize..][..bytes.len()]);
                Ok(())
            }
            Bytes::File(file) => {
                let read = file.read_exact_at(bytes, begin);
                read.map_err(|e| match e.kind() {
                    io::ErrorKind::UnexpectedEof => {
                        self.error(format!("{what}: the file became shorter"))
                    }
                    _ => Error::io(&self.path, e),
                })
            }
        }
    }

    /// Everything, by `std::io`.
    pub fn reader(&self) -> SourceReader {
        SourceReader {
            source: self.clone(),
            position: 0,
        }
    }
}

/// Memory for `what`, if there is so much.
pub(crate) fn zeroed(size: usize, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let failed = |_| Error::OutOfMemory {
        what: what.to_string(),
        requested: size,
    };
    bytes.try_reserve_exact(size).map_err(failed)?;
    bytes.resize(size, 0);
    Ok(bytes)
}

/// A [`Source`] as a stream.
pub(crate) struct SourceReader {
    source: Source,
    position: u64,
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let source = &self.source;
        let left = source.len.saturating_sub(self.position);
        let count = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let start = source.start + self.position.min(source.len);
        let count = match &source.bytes {
            Bytes::Memory(all) => {
                let start = start as usize;
                buffer[..count].copy_from_slice(&all[start..start + count]);
                count
            }
            Bytes::File(file) => file.read_at(&mut buffer[..count], start)?,
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for SourceReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(p) => Some(p),
            SeekFrom::End(d) => self.source.len.checked_add_signed(d),
            SeekFrom::Current(d) => self.position.checked_add_signed(d),
        };
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a position before byte 0");
        self.position = position.ok_or_else(invalid)?;
        Ok(self.position)
    }
}

/// Bytes in memory with a position, for the parsers: every read says what it was for.
pub(crate) struct Cursor<'a> {
    pub source: &'a Source,
    pub bytes: &'a [u8],
    pub position: usize,
    /// Where `bytes` begin in the source.
    pub base: u64,
    pub what: &'static str,
}

impl<'a> Cursor<'a> {
    pub fn new(source: &'a Source, bytes: &'a [u8], base: u64, what: &'static str) -> Self {
        Cursor {
            source,
            bytes,
            position: 0,
            base,
            what,
        }
    }

    pub fn error(&self, reason: impl std::fmt::Display) -> Error {
        let at = self.base + self.position as u64;
        self.source
            .error(format!("{} at byte {at}: {reason}", self.what))
    }

    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.position.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.position..end));
        let Some(taken) = taken else {
            return Err(self.error(format!(
                "cut off: {count} bytes needed, {} left",
                self.left()
            )));
        };
        self.position += count;
        Ok(taken)
    }

    pub fn skip(&mut self, count: usize) -> Result<()> {
        self.take(count).map(|_| ())
    }

    /// A little-endian number of 1 to 8 bytes.
    pub fn number(&mut self, width: usize) -> Result<u64> {
        let bytes = self.take(width.min(8))?;
        Ok(bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    pub fn u8(&mut self) -> Result<u8> {
        self.number(1).map(|n| n as u8)
    }

    pub fn size(&mut self, width: usize) -> Result<usize> {
        let number = self.number(width)?;
        usize::try_from(number).map_err(|_| self.error(format!("the size {number} is too large")))
    }
}
