//! Rows of elements widened to accumulators, and sums rounded to elements.

use super::{Dispatch, Level, Op, Stored, Vector, as_acc};
use crate::element::Element;

/// As [`Element::widen`], with the instructions of a level.
pub(crate) fn widen<T: Element>(level: Level, from: &[T], to: &mut [T::Acc]) {
    assert_eq!(from.len(), to.len());
    <T::Acc as Dispatch<T>>::dispatch(level, Widen { from, to });
}

struct Widen<'a, T: Element> {
    from: &'a [T],
    to: &'a mut [T::Acc],
}

impl<T: Element> Op<T::Acc, T> for Widen<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T::Acc> + Stored<T>>(self) {
        let whole = self.from.len() - self.from.len() % V::LANES;
        for at in (0..whole).step_by(V::LANES) {
            // SAFETY: the level is the caller's promise, and a vector's lanes are there in both.
            unsafe { V::load_from(self.from.as_ptr().add(at)).store(self.to.as_mut_ptr().add(at)) };
        }
        T::widen(&self.from[whole..], &mut self.to[whole..]);
    }
}

/// As [`Element::narrow`], with the instructions of a level.
pub(crate) fn narrow<T: Element>(level: Level, from: &[T::Acc], to: &mut [T]) {
    match as_acc::<T>(&[]) {
        Some(_) => T::narrow(from, to),
        None => narrow_row(level, from, to, false),
    }
}

/// As [`narrow`], past the caches.
pub(crate) fn narrow_past<T: Element>(level: Level, from: &[T::Acc], to: &mut [T]) {
    narrow_row(level, from, to, true);
}

/// The whole of `to` as one pixel.
fn narrow_row<T: Element>(level: Level, from: &[T::Acc], to: &mut [T], stream: bool) {
    let length = to.len();
    assert_eq!(from.len(), length);
    let pixels = Pixels {
        from: (from, length),
        to: (to.as_mut_ptr(), length),
        length,
        stream,
    };
    // SAFETY: one pixel, which is `to`.
    unsafe { narrow_pixels(level, pixels) };
}

/// Pixels of `length` channels that are rounded, the second number of elements apart.
pub(crate) struct Pixels<'a, T: Element> {
    pub from: (&'a [T::Acc], usize),
    pub to: (*mut T, usize),
    pub length: usize,
    /// Whether they are written past the caches, but for what is not aligned.
    pub stream: bool,
}

/// As [`narrow`] of every pixel of `from`.
///
/// # Safety
/// The target must be valid at the channels of as many pixels, and the caller's own.
pub(crate) unsafe fn narrow_pixels<T: Element>(level: Level, pixels: Pixels<T>) {
    assert!(pixels.length <= pixels.from.1);
    <T::Acc as Dispatch<T>>::dispatch(level, pixels);
}

impl<T: Element> Op<T::Acc, T> for Pixels<'_, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector<Scalar = T::Acc> + Stored<T>>(self) {
        let Pixels {
            from: (from, pitch),
            to: (to, step),
            length,
            stream,
        } = self;
        for (i, from) in from.chunks_exact(pitch.max(1)).enumerate() {
            // SAFETY: the target is the caller's promise.
            let to = unsafe { std::slice::from_raw_parts_mut(to.add(i * step), length) };
            let start = match stream {
                true => to.as_ptr().align_offset(V::LANES * size_of::<T>()),
                false => 0,
            };
            let start = start.min(length);
            let end = length - (length - start) % V::LANES;
            if start > 0 {
                T::narrow(&from[..start], &mut to[..start]);
            }
            for at in (start..end).step_by(V::LANES) {
                // SAFETY: the level is the caller's promise, and a vector's lanes are there in both,
                // `pitch` being at least `length`; what is streamed is aligned from `start` on.
                unsafe {
                    let (vector, to) = (V::load(from.as_ptr().add(at)), to.as_mut_ptr().add(at));
                    match stream {
                        true => vector.stream_to(to),
                        false => vector.store_to(to),
                    }
                }
            }
            if end < length {
                T::narrow(&from[end..length], &mut to[end..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    fn every_value<T: Element<Acc = f32>>(from_bits: fn(u16) -> T, bits: fn(T) -> u16) {
        let all: Vec<T> = (0..=u16::MAX).map(from_bits).collect();
        for level in Level::available() {
            // lengths that do not fill vectors, and addresses that are not aligned
            for skip in [0, 1, 13] {
                let all = &all[skip..];
                let mut wide = vec![f32::NAN; all.len()];
                widen(level, all, &mut wide);
                for (from, to) in all.iter().zip(&wide) {
                    let expected = from.to_acc();
                    let both_nan = expected.is_nan() && to.is_nan();
                    assert!(expected.to_bits() == to.to_bits() || both_nan, "{from}");
                }
                // just below, at and above every tie, and just beside every value
                for low in [0, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff] {
                    let sums: Vec<f32> = wide
                        .iter()
                        .map(|v| f32::from_bits(v.to_bits() | low))
                        .collect();
                    let mut narrowed = vec![T::default(); sums.len()];
                    narrow(level, &sums, &mut narrowed);
                    for (sum, to) in sums.iter().zip(narrowed) {
                        let expected = T::from_acc(*sum);
                        let both_nan = expected.to_acc().is_nan() && to.to_acc().is_nan();
                        assert!(bits(expected) == bits(to) || both_nan, "{sum}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_element_of_16_bits_is_widened_and_rounded() {
        every_value(f16::from_bits, f16::to_bits);
        every_value(bf16::from_bits, bf16::to_bits);
    }

    fn past_the_caches<T: Element>() {
        let sums: Vec<T::Acc> = (0..100)
            .map(|i| T::Acc::from_f64(0.1 * f64::from(i)))
            .collect();
        for level in Level::available() {
            // wherever the first whole vector begins, and the last ends
            for first in 0..40 {
                for end in first..sums.len() {
                    let [mut past, mut expected] = [(); 2].map(|()| vec![T::from_f64(-1.0); 100]);
                    narrow_past(level, &sums[first..end], &mut past[first..end]);
                    T::narrow(&sums[first..end], &mut expected[first..end]);
                    assert!(past == expected, "{first}..{end}");
                }
            }
        }
    }

    #[test]
    fn what_is_written_past_the_caches_is_the_same() {
        past_the_caches::<f16>();
        past_the_caches::<bf16>();
        past_the_caches::<f32>();
        past_the_caches::<f64>();
    }
}
