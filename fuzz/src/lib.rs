//! What every target does: open a file of these bytes and read all of its tensors, in no more memory than is promised.
//!
//! `tests/suite/hostile_files.rs` runs the same code on a few thousand mutated files.

mod memory;
mod mutator;

use std::path::Path;

use ndconv::io::Archive;

pub use memory::peak_of;
pub use mutator::Mutator;

/// Bytes that are no file of the format are an error; looked for are panics and memory past what
/// [`Archive`] promises: 100 times the file, or 16 MiB.
///
/// `path` is where the bytes are taken to lie.
///
/// # Panics
/// When the reader does, or when it held more memory at once.
pub fn read(path: impl AsRef<Path>, bytes: &[u8]) -> ndconv::Result<()> {
    let path = path.as_ref();
    let (result, peak) = memory::peak_of(|| {
        let archive = Archive::from_bytes(path, bytes.to_vec())?;
        for tensor in archive.tensors() {
            let data = archive.read(tensor)?;
            assert_eq!(data.len(), tensor.bytes(), "{}", tensor.name());
        }
        Ok(())
    });
    // the reader has the file itself in memory, which it would not have of one on a disk
    check_memory(path, bytes.len(), peak.saturating_sub(bytes.len()));
    result
}

/// # Panics
/// When a reader held more bytes than it promises for a file of this length.
pub fn check_memory(path: &Path, length: usize, held: usize) {
    let promised = (100 * length).max(16 << 20);
    assert!(
        held <= promised,
        "{}: {held} bytes of memory for a file of {length}; {promised} are promised",
        path.display()
    );
}
