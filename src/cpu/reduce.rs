//! Sums in a fixed order, so that the bits do not depend on the number of threads.

use super::crew::each;
use crate::element::Element;
use crate::shape::Layout;

/// Elements that one partial sum runs over.
const CHUNK: usize = 4096;

/// `sum(f(0), f(1), .. f(len - 1))`: chunks in parallel, then the chunks in order.
pub(crate) fn sum(len: usize, f: impl Fn(usize) -> f64 + Sync) -> f64 {
    let mut sums = vec![0f64; len.div_ceil(CHUNK)];
    each(sums.iter_mut().enumerate(), |(chunk, sum)| {
        *sum = (chunk * CHUNK..len.min((chunk + 1) * CHUNK)).map(&f).sum();
    });
    sums.into_iter().sum()
}

/// Sums over batch and positions of a tensor of this channels-first shape, per channel.
pub(crate) fn channel_sums<T: Element>(shape: &[usize], layout: Layout, dy: &[T], sums: &mut [T]) {
    // an empty tensor's other sizes can be anything: multiply none of them
    if sums.is_empty() || dy.is_empty() {
        sums.fill(T::default());
        return;
    }
    let channels = shape[1];
    let pixels: usize = shape[2..].iter().product();
    match layout {
        // (batch, channels, pixels): a channel's planes one after another
        Layout::ChannelsFirst => each(sums.iter_mut().enumerate(), |(c, out)| {
            let mut total = T::Acc::default();
            for image in dy.chunks(channels * pixels) {
                total += plane_sum(&image[c * pixels..(c + 1) * pixels]);
            }
            *out = T::from_acc(total);
        }),
        // (batch * pixels, channels): chunks of rows in parallel, then the chunks in order
        Layout::ChannelsLast => {
            let chunks = dy.chunks(channels * CHUNK.div_ceil(channels).max(64));
            let mut partial = vec![T::Acc::default(); chunks.len() * channels];
            each(partial.chunks_mut(channels).zip(chunks), |(total, rows)| {
                for row in rows.chunks(channels) {
                    for (t, v) in total.iter_mut().zip(row) {
                        *t += v.to_acc();
                    }
                }
            });
            for (c, out) in sums.iter_mut().enumerate() {
                *out = T::from_acc(partial.iter().skip(c).step_by(channels).copied().sum());
            }
        }
    }
}

/// Eight running sums side by side: short dependency chains, and less rounding than one.
fn plane_sum<T: Element>(plane: &[T]) -> T::Acc {
    const LANES: usize = 8;
    let mut lanes = [T::Acc::default(); LANES];
    let whole = plane.chunks_exact(LANES);
    let rest = whole.remainder();
    for chunk in whole {
        for (lane, v) in lanes.iter_mut().zip(chunk) {
            *lane += v.to_acc();
        }
    }
    lanes.into_iter().sum::<T::Acc>() + rest.iter().map(|v| v.to_acc()).sum()
}
