//! The memory of tensors on the CPU, kept when a tensor goes and handed out to the next one.
//!
//! The first touch of a fresh page costs more than most operations on it, so in steady state, when
//! the same results are made over and over, no fresh memory is asked for.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use crate::element::Element;
use crate::error::{Error, Result};

/// Buffers smaller than this many bytes are left to the allocator, which keeps those itself.
const SMALL: usize = 1 << 16;

/// Bytes that a pool holds at most.
const MOST: usize = 256 << 20;

/// A buffer is let go when so many others came back since.
const LIFETIME: usize = 64;

/// Buffers of one element type that no tensor has, oldest first.
#[doc(hidden)]
#[derive(Debug)]
pub struct Pool<T>(Mutex<Shelf<T>>);

#[derive(Debug)]
struct Shelf<T> {
    /// With the number of buffers that had come back before.
    kept: Vec<(usize, Vec<T>)>,
    returned: usize,
}

impl<T> Pool<T> {
    pub(crate) const fn new() -> Self {
        Pool(Mutex::new(Shelf {
            kept: Vec::new(),
            returned: 0,
        }))
    }
}

impl<T> Pool<T> {
    /// The least buffer that holds `len` elements and is not twice as large.
    fn take(&self, len: usize) -> Option<Vec<T>> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let suits = |capacity: usize| (len..=len.saturating_mul(2)).contains(&capacity);
        let sizes = shelf.kept.iter().map(|(_, buffer)| buffer.capacity());
        let (_, index) = sizes.zip(0..).filter(|&(c, _)| suits(c)).min()?;
        Some(shelf.kept.remove(index).1)
    }

    fn give(&self, buffer: Vec<T>) {
        let bytes = |buffer: &Vec<T>| buffer.capacity().saturating_mul(size_of::<T>());
        if !(SMALL..=MOST).contains(&bytes(&buffer)) {
            return;
        }
        // what is let go is freed after the lock
        let mut gone = Vec::new();
        {
            let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.returned += 1;
            let now = shelf.returned;
            shelf.kept.push((now, buffer));
            let mut held: usize = shelf.kept.iter().map(|(_, buffer)| bytes(buffer)).sum();
            while let Some((since, oldest)) = shelf.kept.first()
                && (held > MOST || now - since > LIFETIME)
            {
                held -= bytes(oldest);
                gone.push(shelf.kept.remove(0));
            }
        }
        drop(gone);
    }
}

/// What was made from the elements of a tensor, such as packed weights, until they are written.
///
/// Weights that are written after every use, as in training, would be packed for keeping in vain:
/// what is asked for once is only remembered, and kept from the second time on.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    key: Vec<usize>,
    value: Option<Arc<dyn Any + Send + Sync>>,
}

/// What [`Kept::look`] finds.
pub(crate) enum Found<V> {
    /// Nothing, nor was it asked for before.
    New,
    /// Nothing, but it is not the first time: it should be made and kept.
    Wanted,
    Value(Arc<V>),
}

impl Kept {
    /// Things that are remembered at most; the oldest go.
    const MOST: usize = 8;

    /// What there is under a key, which is remembered if it is new.
    pub fn look<V: Any + Send + Sync>(&self, key: &[usize]) -> Found<V> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.iter().find(|entry| entry.key == key) else {
            if entries.len() == Self::MOST {
                entries.remove(0);
            }
            entries.push(Entry {
                key: key.to_vec(),
                value: None,
            });
            return Found::New;
        };
        let value = entry.value.clone().map(Arc::downcast);
        value
            .and_then(Result::ok)
            .map_or(Found::Wanted, Found::Value)
    }

    /// Keeps a value under a key that was asked for, unless the elements were written since.
    pub fn keep<V: Any + Send + Sync>(&self, key: &[usize], value: Arc<V>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter_mut().find(|entry| entry.key == key) {
            entry.value = Some(value);
        }
    }
}

/// Where the elements begin that are made here: at a cache line. Vectors of instructions that lie in
/// two lines take twice as long to read, and channels-last rows are read in place.
pub(crate) const LINE: usize = 64;

/// What is a multiple of so many bytes apart shares four sets of the L1 cache: a quarter of what lies between lines
/// of the same one.
pub(crate) const SETS: usize = 1024;

/// Memory of one tensor, which goes back to its pool.
#[derive(Debug)]
pub(crate) struct HostBuffer<T> {
    data: Vec<T>,
    /// Elements before the first.
    skip: usize,
    /// Gives it to the pool of `T`: a function, so that the type needs no bounds.
    back: fn(Vec<T>),
    /// Of the elements as they are now.
    kept: Kept,
}

impl<T: Element> HostBuffer<T> {
    /// `len` elements of any value, all of which are written next.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn of_any_value(len: usize) -> Result<Self> {
        let small = len.saturating_mul(size_of::<T>()) < SMALL;
        let data = match small {
            true => Vec::new(),
            false => T::pool().take(padded::<T>(len)).unwrap_or_default(),
        };
        Self::aligned(data, len, T::default())
    }

    /// `len` times `value`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn full(len: usize, value: T) -> Result<Self> {
        let mut data = T::pool().take(padded::<T>(len)).unwrap_or_default();
        data.clear();
        Self::aligned(data, len, value)
    }

    /// `len` elements in the memory of `data`: those that are there, and `value`.
    fn aligned(mut data: Vec<T>, len: usize, value: T) -> Result<Self> {
        let padded = padded::<T>(len);
        data.truncate(padded);
        let more = padded - data.len();
        data.try_reserve_exact(more)
            .map_err(|_| Error::OutOfMemory {
                what: format!("a tensor of {len} elements"),
                requested: len.saturating_mul(size_of::<T>()),
            })?;
        let skip = skip(&data);
        data.resize(skip + len, value);
        Ok(HostBuffer {
            data,
            skip,
            back: |data| T::pool().give(data),
            kept: Kept::default(),
        })
    }
}

impl<T> HostBuffer<T> {
    /// What is kept of the elements.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }
}

/// Elements of memory in which as many as `len` can begin at a cache line.
fn padded<T>(len: usize) -> usize {
    len.saturating_add(LINE / size_of::<T>())
}

/// The elements of a buffer before its first cache line begins.
fn skip<T>(data: &[T]) -> usize {
    data.as_ptr().align_offset(LINE).min(LINE / size_of::<T>())
}

impl<T: Element> From<Vec<T>> for HostBuffer<T> {
    fn from(data: Vec<T>) -> Self {
        HostBuffer {
            data,
            skip: 0,
            back: |data| T::pool().give(data),
            kept: Kept::default(),
        }
    }
}

impl<T: Clone> Clone for HostBuffer<T> {
    fn clone(&self) -> Self {
        let mut data = Vec::with_capacity(padded::<T>(self.len()));
        let skip = match self.first() {
            Some(first) => {
                let skip = skip(&data);
                data.resize(skip, first.clone());
                skip
            }
            None => 0,
        };
        data.extend_from_slice(self);
        HostBuffer {
            data,
            skip,
            back: self.back,
            kept: Kept::default(),
        }
    }
}

impl<T> Drop for HostBuffer<T> {
    fn drop(&mut self) {
        (self.back)(std::mem::take(&mut self.data));
    }
}

impl<T> Deref for HostBuffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data[self.skip..]
    }
}

impl<T> DerefMut for HostBuffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let kept = self.kept.0.get_mut();
        kept.unwrap_or_else(PoisonError::into_inner).clear();
        &mut self.data[self.skip..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back() {
        // a size that no other test of this process uses
        const LEN: usize = 777_777;
        let first = HostBuffer::<f64>::full(LEN, 1.5).unwrap();
        let place = first.as_ptr();
        drop(first);
        let second = HostBuffer::<f64>::full(LEN, 2.5).unwrap();
        assert_eq!(second.as_ptr(), place);
        assert!(second.iter().all(|&v| v == 2.5));
        let other = HostBuffer::<f64>::of_any_value(LEN).unwrap();
        assert_ne!(other.as_ptr(), place);
        assert_eq!(other.len(), LEN);
        drop(second);
        // too large a buffer is not taken for a small one
        let small = HostBuffer::<f64>::of_any_value(LEN / 3).unwrap();
        assert_ne!(small.as_ptr(), place);
    }

    #[test]
    fn what_was_made_of_elements_goes_when_they_are_written() {
        let mut buffer = HostBuffer::full(3, 1.0f32).unwrap();
        let found = |buffer: &HostBuffer<f32>, key: &[usize]| match buffer.kept().look::<u8>(key) {
            Found::New => None,
            Found::Wanted => Some(0),
            Found::Value(value) => Some(*value),
        };
        assert_eq!(found(&buffer, &[1, 2]), None);
        assert_eq!(found(&buffer, &[1, 2]), Some(0));
        buffer.kept().keep(&[1, 2], Arc::new(7u8));
        assert_eq!(found(&buffer, &[1, 2]), Some(7));
        assert_eq!(found(&buffer, &[1]), None);
        assert_eq!(found(&buffer.clone(), &[1, 2]), None);
        for other in 0..Kept::MOST {
            found(&buffer, &[9, other]);
        }
        assert_eq!(found(&buffer, &[1, 2]), None);
        buffer.kept().keep(&[1, 2], Arc::new(7u8));
        buffer[0] = 2.0;
        assert_eq!(found(&buffer, &[1, 2]), None);
    }

    #[test]
    fn elements_begin_at_a_cache_line() {
        for len in [0, 1, 3, 1000, 100_003] {
            let full = HostBuffer::full(len, 1.5f32).unwrap();
            let any = HostBuffer::<f32>::of_any_value(len).unwrap();
            let copy = full.clone();
            assert_eq!(*copy, *full);
            assert_eq!((full.len(), any.len()), (len, len));
            for buffer in [full, any, copy] {
                assert!(buffer.is_empty() || buffer.as_ptr().align_offset(LINE) == 0);
            }
        }
    }

    #[test]
    fn old_buffers_are_let_go() {
        const LEN: usize = 55_555;
        let pool = Pool::<f32>::new();
        pool.give(vec![0.0; LEN]);
        for _ in 0..=LIFETIME {
            pool.give(vec![0.0; 2 * LEN + 1]);
        }
        assert!(pool.take(LEN).is_none());
        assert!(pool.take(2 * LEN).is_some());
        pool.give(vec![0.0; 10]);
        assert!(pool.take(10).is_none());
    }
}
