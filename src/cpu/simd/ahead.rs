//! Memory that is asked for while something else is computed.

use crate::cpu::simd::prefetch_line;
use crate::host::LINE;

/// Some channels of pixels that may not be in a cache, or some positions of channels where those come first:
/// the processor does not foresee them where they are read a few at a time.
pub(crate) struct Ahead {
    /// The next line of memory, of a pixel that has so many more.
    from: *const u8,
    more: usize,
    /// Lines of a pixel, and bytes from its last line to the next pixel.
    lines: usize,
    skip: usize,
    /// Lines of all pixels, and how many are asked for at once.
    left: usize,
    each: usize,
}

impl Ahead {
    /// The first `channels` of each of `count` pixels that are `pitch` apart.
    pub fn new<A>(from: *const A, pitch: usize, count: usize, channels: usize) -> Self {
        let (count, channels) = match pitch == channels {
            true => (1, count * channels),
            false => (count, channels),
        };
        let lines = (channels * size_of::<A>()).div_ceil(LINE);
        Ahead {
            from: from.cast(),
            more: lines,
            lines,
            skip: (pitch * size_of::<A>()).wrapping_sub(lines * LINE),
            left: lines * count,
            each: 0,
        }
    }

    /// They will be asked for in so many parts.
    pub fn cut(&mut self, parts: usize) {
        self.each = self.left.div_ceil(parts);
    }

    /// Asks for one part: few lines at a time, as the processor waits for all that it asked for once
    /// those are too many.
    #[inline(always)]
    pub fn ask(&mut self) {
        let count = self.each.min(self.left);
        self.left -= count;
        for _ in 0..count {
            prefetch_line(self.from);
            self.from = self.from.wrapping_add(LINE);
            self.more -= 1;
            if self.more == 0 {
                self.more = self.lines;
                self.from = self.from.wrapping_add(self.skip);
            }
        }
    }
}
