//! Where an element stands in memory, for either layout.

use crate::shape::Layout;

/// Steps in memory, in elements, of a tensor `(outer, channels, 4 spatial axes)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strides {
    pub outer: usize,
    pub channel: usize,
    pub spatial: [usize; 4],
}

impl Strides {
    pub fn new(layout: Layout, channels: usize, spatial: [usize; 4]) -> Self {
        let pixels: usize = spatial.iter().product();
        let (channel, mut step) = match layout {
            Layout::ChannelsFirst => (pixels, 1),
            Layout::ChannelsLast => (1, channels),
        };
        let mut steps = [0; 4];
        for a in (0..4).rev() {
            steps[a] = step;
            step *= spatial[a];
        }
        Strides {
            outer: channels * pixels,
            channel,
            spatial: steps,
        }
    }

    /// The offset of a spatial position.
    pub fn at(&self, position: [usize; 4]) -> usize {
        position
            .iter()
            .zip(self.spatial)
            .map(|(p, step)| p * step)
            .sum()
    }
}

/// The spatial position with this row-major index.
pub(crate) fn unravel(mut index: usize, sizes: [usize; 4]) -> [usize; 4] {
    let mut position = [0; 4];
    for a in (0..4).rev() {
        position[a] = index % sizes[a];
        index /= sizes[a];
    }
    position
}
