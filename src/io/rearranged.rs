//! Writing a tensor's elements in another order.

use std::io::Write;
use std::ops::Range;

use super::archive::{Archive, StoredTensor};
use super::source::zeroed;
use crate::error::{Error, Result};
use crate::remap::Rearrangement;

/// Bytes that are rearranged at a time, more or less.
const PART: usize = 4 << 20;
/// The same where columns of a matrix are read, from rows of at least so many bytes each.
const STRIPS: usize = 16 << 20;
const SHORTEST: usize = 1 << 10;
/// The same when the whole tensor is in memory: this fraction of it. There are two such parts.
const FRACTION: usize = 6;

impl Archive {
    /// Writes the elements of a tensor, little-endian, in the order of `plan`.
    ///
    /// It takes a few megabytes of memory where the first axis stays in its place or is the last
    /// one of the tensor, and 1.4 times the tensor otherwise. Parts are rearranged while others
    /// are written.
    ///
    /// # Errors
    /// As [`Archive::read`]; [`Error::Shape`] when the plan is for another shape;
    /// [`Error::Unsupported`] for elements of less than a byte; [`Error::Io`], naming this file,
    /// when the target takes no more.
    ///
    /// ```
    /// use ndconv::{io::{Archive, write_npy}, remap::Rearrangement};
    /// let path = std::env::temp_dir().join(format!("ndconv-doc-{}.npy", std::process::id()));
    /// write_npy(&path, &ndarray::arr2(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]]).into_dyn())?;
    /// let archive = Archive::open(&path)?;
    /// let mut columns = Vec::new();
    /// let plan = Rearrangement::new(&[2, 3])?.permute(&[1, 0])?;
    /// archive.copy_rearranged(&archive.tensors()[0], &plan, &mut columns)?;
    /// let expected = [1f32, 4.0, 2.0, 5.0, 3.0, 6.0].map(f32::to_le_bytes);
    /// assert_eq!(columns, expected.concat());
    /// # std::fs::remove_file(path).ok();
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn copy_rearranged(
        &self,
        tensor: &StoredTensor,
        plan: &Rearrangement,
        target: &mut dyn Write,
    ) -> Result<()> {
        let name = tensor.name();
        if plan.source_shape() != tensor.shape() {
            let expected = format!("{:?}", plan.source_shape());
            return Err(Error::shape(name, expected, tensor.shape()));
        }
        if plan.is_reshape() {
            return self.copy(tensor, target);
        }
        let width = tensor.dtype().bits() / 8;
        if width == 0 {
            let what = format!("{name}: elements of less than a byte in another order");
            return Err(Error::Unsupported { what });
        }
        let elements = tensor.len();
        let what = format!("tensor {name}");
        let write = |part: &[u8]| {
            let written = target.write_all(part);
            written.map_err(|e| Error::io(self.path(), e))
        };
        let row = plan.block().max(1);
        if row < elements && self.read_part(tensor, 0, &mut [])? {
            // rows that stay in their place, as they are read
            let size = elements.min(row * (PART / width / row).max(1));
            let parts = [(); 2].map(|()| zeroed(size * width, &what));
            let mut source = zeroed(size * width, &what)?;
            let fill = |range: Range<usize>, part: &mut [u8]| {
                let source = &mut source[..part.len()];
                self.read_part(tensor, range.start, source)?;
                let plan = plan.of_blocks(range.len() / row)?;
                plan.gather(source, width, 0..range.len(), part)
            };
            return in_turn(elements, size, width, parts, fill, write);
        }
        let budget = PART.max(elements * width / FRACTION);
        if let Some((rows, columns)) = plan.columns()
            && let strip = (STRIPS / width / rows).max(SHORTEST / width).min(columns)
            && strip * width >= SHORTEST
            && rows * strip * width <= budget.max(STRIPS)
            && self.read_part(tensor, 0, &mut [])?
        {
            // some columns of all rows at a time: from a file that is read so often that it is in
            // memory anyway, and into pages that were touched before, which takes a third of the
            // time of taking new ones for all of it
            let size = rows * strip;
            let parts = [(); 2].map(|()| zeroed(size * width, &what));
            let mut source = zeroed(size * width, &what)?;
            let fill = |range: Range<usize>, part: &mut [u8]| {
                let (first, strip) = (range.start / rows, range.len() / rows);
                let source = &mut source[..part.len()];
                for (row, bytes) in source.chunks_mut(strip * width).enumerate() {
                    self.read_part(tensor, row * columns + first, bytes)?;
                }
                plan.of_columns(strip)
                    .gather(source, width, 0..range.len(), part)
            };
            return in_turn(elements, size, width, parts, fill, write);
        }
        let size = plan.part(budget / width);
        let parts = [(); 2].map(|()| zeroed(size * width, &what));
        let source = self.read(tensor)?;
        let fill = |range, part: &mut [u8]| plan.gather(&source, width, range, part);
        in_turn(elements, size, width, parts, fill, write)
    }
}

/// Fills parts of `size` elements one after another while the one before is written.
fn in_turn(
    elements: usize,
    size: usize,
    width: usize,
    parts: [Result<Vec<u8>>; 2],
    mut fill: impl FnMut(Range<usize>, &mut [u8]) -> Result<()> + Send,
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let [ready, next] = parts;
    let (mut ready, mut next) = (ready?, next?);
    let part = |begin: usize| begin..elements.min(begin + size);
    let bytes = |begin: usize| part(begin).len() * width;
    if elements > 0 {
        fill(part(0), &mut ready[..bytes(0)])?;
    }
    for begin in (0..elements).step_by(size) {
        let (after, fill, next_part) = (begin + size, &mut fill, &mut next);
        std::thread::scope(|scope| {
            let filled = (after < elements)
                .then(|| scope.spawn(|| fill(part(after), &mut next_part[..bytes(after)])));
            write(&ready[..bytes(begin)])?;
            match filled.map(|thread| thread.join()) {
                Some(Ok(result)) => result,
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                None => Ok(()),
            }
        })?;
        std::mem::swap(&mut ready, &mut next);
    }
    Ok(())
}
