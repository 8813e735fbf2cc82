//! Channels in pairs, next to each other.

use crate::cpu::simd::{self, Level, interleave};
use crate::element::{DType, Element};

/// Pairs of channels and positions that are transposed at once.
const PAIRS: usize = 16;
const STRIP: usize = 64;

/// The level whose products are of pairs of elements, if this machine has one for this type.
pub(super) fn paired<T: Element>(level: Level) -> Option<Level> {
    level.paired().filter(|_| T::DTYPE == DType::BF16)
}

/// Planes of bf16 as pairs of channels, the last with a zero if they are odd:
/// `to[position * pitch + pair]` of `from[channel * step + position]`.
pub(super) fn turn_pairs<T: Element>(
    level: Level,
    from: &[T],
    step: usize,
    (channels, positions): (usize, usize),
    to: &mut [T::Acc],
    pitch: usize,
) {
    let mut rows = [T::Acc::default(); PAIRS * STRIP];
    for first in (0..positions).step_by(STRIP) {
        let width = STRIP.min(positions - first);
        let plane = |channel: usize| &from[channel * step + first..][..width];
        for pair in (0..channels.div_ceil(2)).step_by(PAIRS) {
            let height = PAIRS.min(channels.div_ceil(2) - pair);
            for (i, row) in rows.chunks_exact_mut(STRIP).enumerate().take(height) {
                let channel = 2 * (pair + i);
                let second = (channel + 1 < channels).then(|| plane(channel + 1));
                interleave(level, Some(plane(channel)), second, &mut row[..width]);
            }
            let to = &mut to[first * pitch + pair..];
            simd::transpose(level, &rows, STRIP, (height, width), to, pitch);
        }
    }
}
