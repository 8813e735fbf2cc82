//! Writing a tensor's elements in another order.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::archive::{Archive, StoredTensor};
use super::source::zeroed;
use crate::error::{Error, Result};
use crate::remap::{Boxes, Part, Rearrangement};

/// Bytes that are rearranged at a time: the first of these with which reading and writing are in
/// long enough runs.
const PARTS: [usize; 2] = [4 << 20, 16 << 20];
/// Bytes that are read from one place where results can be written to any, and those written.
const READ: usize = 4 << 10;
const WRITTEN: usize = 128 << 10;
/// Bytes that are given to the system at a time: for longer writes Linux takes large pages for its
/// copy, which come from memory that was long unused, and needs two to three times as long.
const GIVEN: usize = 256 << 10;
/// Parts that are rearranged at a time there: while one is read or written, another is computed.
const WORKERS: usize = 2;
/// Shorter runs take longer to read, one by one, than all of the tensor at once.
const SHORTEST: usize = 1 << 10;
/// Of a tensor in memory, this fraction is rearranged at a time. There are two such parts.
const FRACTION: usize = 6;

impl Archive {
    /// Writes the elements of a tensor, little-endian, in the order of `plan`.
    ///
    /// It takes some tens of megabytes of memory at most where the plan keeps runs of a few hundred
    /// elements together that are neighbours in the file or in the result, and 1.4 times the
    /// tensor otherwise: [`Writer::rearranged`](super::Writer::rearranged) needs less. Parts are
    /// rearranged while others are written.
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
        let width = self.check_plan(tensor, plan)?;
        if plan.is_reshape() {
            return self.copy(tensor, target);
        }
        let mut write = |part: &[u8]| {
            let written = part
                .chunks(GIVEN)
                .try_for_each(|some| target.write_all(some));
            written.map_err(|e| Error::io(self.path(), e))
        };
        let what = format!("tensor {}", tensor.name());
        let long = |boxes: &Boxes| boxes.source_run().saturating_mul(width) >= SHORTEST;
        let boxes = PARTS
            .iter()
            .filter_map(|part| Boxes::new(plan, part / width, None));
        if self.read_part(tensor, 0, &mut [])?
            && let Some(boxes) = boxes.into_iter().find(long)
        {
            // parts of the result one after another, each from many places of the file
            let mut source = zeroed(boxes.size() * width, &what)?;
            let fill = |number, target: &mut [u8]| {
                let part = boxes.part(number);
                self.rearrange_box(tensor, &part, width, &mut source, target)
            };
            let length = |number| boxes.part(number).len() * width;
            return in_turn(boxes.count(), &length, &what, fill, write);
        }
        let elements = tensor.len();
        let size = plan.part(PARTS[0].max(elements * width / FRACTION) / width);
        let part = |number: usize| number * size..elements.min((number + 1) * size);
        let source = self.read(tensor)?;
        let fill = |number, target: &mut [u8]| plan.gather(&source, width, part(number), target);
        let length = |number| part(number).len() * width;
        in_turn(elements.div_ceil(size), &length, &what, fill, &mut write)
    }

    /// As [`Archive::copy_rearranged`], to a target that can be written at any byte, in whatever
    /// order is best: `write` gets a place, counted from the tensor's begin, and what belongs there.
    ///
    /// False, and nothing written, where the file does not have the tensor in row-major order or
    /// the plan takes an element twice or not at all.
    pub(super) fn scatter_rearranged(
        &self,
        tensor: &StoredTensor,
        plan: &Rearrangement,
        write: impl FnMut(u64, &[u8]) -> Result<()> + Send,
    ) -> Result<bool> {
        let width = self.check_plan(tensor, plan)?;
        if plan.is_reshape() {
            return Ok(false);
        }
        let boxes = PARTS.map(|part| Boxes::new(plan, part / width, Some(READ / width)));
        let [Some(small), Some(large)] = boxes else {
            return Ok(false);
        };
        if !self.read_part(tensor, 0, &mut [])? {
            return Ok(false);
        }
        let long = small.result_run().saturating_mul(width) >= WRITTEN;
        let boxes = if long { small } else { large };
        let what = format!("tensor {}", tensor.name());
        let (next, write) = (AtomicUsize::new(0), Mutex::new(write));
        let failed = |_| Error::io(self.path(), io::Error::other("another thread failed"));
        (0..WORKERS).into_par_iter().try_for_each(|_| {
            let (mut source, mut target) = (Vec::new(), Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= boxes.count() {
                    return Ok(());
                }
                if source.is_empty() {
                    source = zeroed(boxes.size() * width, &what)?;
                    target = zeroed(boxes.size() * width, &what)?;
                }
                let part = boxes.part(number);
                let target = &mut target[..part.len() * width];
                self.rearrange_box(tensor, &part, width, &mut source, target)?;
                let mut done = 0;
                part.result.neighbours(&mut |start, count| {
                    let run = &target[done..][..count * width];
                    done += run.len();
                    let mut write = write.lock().map_err(failed)?;
                    let places = (start * width..).step_by(GIVEN);
                    let mut pieces = run.chunks(GIVEN).zip(places);
                    pieces.try_for_each(|(some, place)| write(place as u64, some))
                })?;
            }
        })?;
        Ok(true)
    }

    /// Reads a box into `source` and rearranges it into `target`, which is as long as it.
    fn rearrange_box(
        &self,
        tensor: &StoredTensor,
        part: &Part,
        width: usize,
        source: &mut [u8],
        target: &mut [u8],
    ) -> Result<()> {
        let source = &mut source[..target.len()];
        let mut done = 0;
        part.source.neighbours(&mut |start, count| {
            let run = &mut source[done..][..count * width];
            done += run.len();
            self.read_part(tensor, start, run).map(drop)
        })?;
        part.plan.gather(source, width, 0..part.len(), target)
    }

    /// Bytes of an element, if the plan is for this tensor.
    fn check_plan(&self, tensor: &StoredTensor, plan: &Rearrangement) -> Result<usize> {
        let name = tensor.name();
        if plan.source_shape() != tensor.shape() {
            let expected = format!("{:?}", plan.source_shape());
            return Err(Error::shape(name, expected, tensor.shape()));
        }
        match tensor.dtype().bits() / 8 {
            0 if !plan.is_reshape() => {
                let what = format!("{name}: elements of less than a byte in another order");
                Err(Error::Unsupported { what })
            }
            width => Ok(width),
        }
    }
}

/// Fills `count` parts one after another while the one before is written; `length` is a part's in
/// bytes, and no later part is longer than the first.
fn in_turn(
    count: usize,
    length: &(dyn Fn(usize) -> usize + Sync),
    what: &str,
    mut fill: impl FnMut(usize, &mut [u8]) -> Result<()> + Send,
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let mut ready = zeroed(length(0), what)?;
    let mut next = zeroed(if count > 1 { length(0) } else { 0 }, what)?;
    fill(0, &mut ready)?;
    for number in 0..count {
        let (fill, target) = (&mut fill, &mut next);
        std::thread::scope(|scope| {
            let filled = (number + 1 < count).then(|| {
                let target = &mut target[..length(number + 1)];
                scope.spawn(move || fill(number + 1, target))
            });
            write(&ready[..length(number)])?;
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
