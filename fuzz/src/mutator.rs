//! Files made wrong, the same ones for the same seed.

/// Mutates the bytes of a good file as a fuzzer would: bits, bytes, numbers of every width, parts
/// cut out, doubled, or taken from elsewhere.
pub struct Mutator(u64);

impl Mutator {
    /// A seed of its own for each file.
    pub fn new(seed: u64) -> Self {
        Mutator(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// xorshift64*
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    /// One to eight changes.
    pub fn mutate(&mut self, good: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(8) {
            self.change(&mut bytes, good);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, good: &[u8]) {
        let at = self.below(bytes.len());
        let length = 1 + self.below(16);
        let rest = bytes.len() - at;
        match self.below(8) {
            _ if bytes.is_empty() => bytes.push(self.next() as u8),
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.next() as u8,
            2 => {
                // the numbers at which sizes and signs turn over, in either byte order
                const EDGES: [u64; 8] = [0, 1, 0x7f, 0x80, 0x7fff, 0x7fff_ffff, 1 << 40, u64::MAX];
                let edge = EDGES[self.below(EDGES.len())].wrapping_add(self.below(3) as u64);
                let width = (1 << self.below(4)).min(rest);
                let number = match self.below(2) {
                    0 => edge.to_le_bytes(),
                    _ => (edge << (64 - 8 * width)).to_be_bytes(),
                };
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            3 => {
                bytes[at] = bytes[at]
                    .wrapping_add(self.below(33) as u8)
                    .wrapping_sub(16)
            }
            4 => drop(bytes.drain(at..at + length.min(rest))),
            5 => {
                let part = bytes[at..at + length.min(rest)].to_vec();
                bytes.splice(at..at, part);
            }
            6 => {
                let from = self.below(good.len());
                let part = &good[from..good.len().min(from + length)];
                let end = bytes.len().min(at + part.len());
                bytes[at..end].copy_from_slice(&part[..end - at]);
            }
            _ if self.below(4) == 0 => bytes.truncate(at),
            _ => bytes.insert(at, self.next() as u8),
        }
    }
}
