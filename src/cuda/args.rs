//! Argument structs of the kernels: the twins of those in `kernels/`, where the same sizes and
//! offsets are asserted.

use std::mem::offset_of;

use super::launch::{Address, Arguments};
use crate::cpu::Strides;
use crate::error::{Error, Result};

/// Declares argument structs with their size in bytes and the offsets of some fields.
macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident = $size:literal { $($at:literal: $checked:ident),* } {
        $($field:ident: $type:ty,)*
    })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct $name {
            $(pub $field: $type,)*
        }
        const _: () = {
            assert!(size_of::<$name>() == $size);
            assert!(0 $(+ size_of::<$type>())* == $size, "padding");
            $(assert!(offset_of!($name, $checked) == $at);)*
        };
        // SAFETY: `#[repr(C)]` of integers, floats, addresses and structs of those; as large as its
        // fields together, so there is no padding; the kernel's side asserts the same layout.
        unsafe impl Arguments for $name {}
    )*};
}

arguments! {
    /// Division of numbers below 2^31 by multiplication.
    Divisor = 12 { 0: divisor } {
        divisor: u32,
        multiplier: u32,
        shift: u32,
    }
    /// Strides of an activation in elements.
    ActivationMap = 48 { 8: channel } {
        batch: i64,
        channel: i64,
        axis: [i64; 4],
    }
    /// The elements of an image in memory order.
    ImageWalk = 88 { 48: pixels, 72: channels_last, 80: elements } {
        axis: [Divisor; 4],
        pixels: Divisor,
        channels: Divisor,
        channels_last: u32,
        batch: u32,
        elements: i64,
    }
    /// All passes of a convolution: `kernels/conv.cuh`.
    ConvArgs = 480 {
        32: partial, 40: from, 88: to, 136: weight_outer, 184: result_length, 192: gathered_size,
        272: padding, 288: pixel_axis, 336: pixels, 348: tap_axis, 408: channels, 420: rows,
        452: channels_inner, 468: accumulate
    } {
        gathered: Address,
        other: Address,
        bias: Address,
        result: Address,
        partial: Address,
        from: ActivationMap,
        to: ActivationMap,
        weight_outer: i64,
        weight_channel: i64,
        weight_axis: [i64; 4],
        result_length: i64,
        gathered_size: [i32; 4],
        result_size: [i32; 4],
        taps: [i32; 4],
        stride: [i32; 4],
        dilation: [i32; 4],
        padding: [i32; 4],
        pixel_axis: [Divisor; 4],
        pixels: Divisor,
        tap_axis: [Divisor; 4],
        tap_count: Divisor,
        channels: Divisor,
        rows: u32,
        columns: u32,
        groups: u32,
        phases: u32,
        splits: u32,
        split_length: u32,
        steps: u32,
        transposed: u32,
        channels_inner: u32,
        gathered_by_p: u32,
        other_by_q: u32,
        result_by_p: u32,
        accumulate: u32,
        rectify: u32,
        reserved: u32,
    }
    /// All passes on tensor cores: `kernels/mma.cuh`.
    MmaArgs = 504 { 480: padded, 500: gathered_on_m } {
        conv: ConvArgs,
        padded: Divisor,
        gathered_width: u32,
        other_width: u32,
        gathered_on_m: u32,
    }
    /// `kernels/conv_direct.cu`.
    DirectArgs = 584 { 480: walk, 568: columns } {
        conv: ConvArgs,
        walk: ImageWalk,
        columns: Divisor,
        reserved: u32,
    }
    /// `kernels/conv_direct.cu`.
    DirectWgradArgs = 496 { 480: columns } {
        conv: ConvArgs,
        columns: Divisor,
        lanes: u32,
    }
    /// `kernels/conv_mma_rows.cu`.
    PackArgs = 168 { 40: axis, 132: padded, 164: length } {
        source: Address,
        target: Address,
        group_stride: i64,
        column_stride: i64,
        channel_stride: i64,
        axis: [i64; 4],
        tap_axis: [Divisor; 4],
        row: Divisor,
        padded: Divisor,
        columns: Divisor,
        channels: u32,
        taps: u32,
        length: u32,
    }
    /// `kernels/circular.cu`.
    CircularArgs = 64 { 32: starts, 48: length } {
        x: Address,
        y: Address,
        z: Address,
        partial: Address,
        starts: Address,
        pairs: Address,
        length: u32,
        outputs: u32,
        split_length: u32,
        correlate: u32,
    }
    /// `kernels/reduce.cu`.
    SplitsArgs = 32 { 16: length } {
        partial: Address,
        result: Address,
        length: i64,
        splits: u32,
        accumulate: u32,
    }
    /// `kernels/reduce.cu`.
    ChannelsArgs = 72 { 40: pixels, 60: lanes } {
        dy: Address,
        partial: Address,
        batch_stride: i64,
        channel_stride: i64,
        pixel_stride: i64,
        pixels: Divisor,
        rows: u32,
        channels: u32,
        lanes: u32,
        splits: u32,
        split_length: u32,
    }
    /// `kernels/pad.cu`.
    PadArgs = 208 { 64: walk, 152: input } {
        source: Address,
        target: Address,
        from: ActivationMap,
        walk: ImageWalk,
        input: [i32; 4],
        before: [i32; 4],
        after: [i32; 4],
        mode: u32,
        accumulate: u32,
    }
    /// `kernels/layout.cu`.
    LayoutArgs = 32 { 16: batch } {
        source: Address,
        target: Address,
        batch: u32,
        rows: u32,
        columns: u32,
        reserved: u32,
    }
    /// `kernels/pool.cu`.
    PoolArgs = 280 { 72: walk, 160: input, 272: count_padding } {
        source: Address,
        target: Address,
        winners: Address,
        from: ActivationMap,
        walk: ImageWalk,
        input: [i32; 4],
        output: [i32; 4],
        taps: [i32; 4],
        stride: [i32; 4],
        dilation: [i32; 4],
        before: [i32; 4],
        after: [i32; 4],
        count_padding: u32,
        reserved: u32,
    }
    /// `kernels/pointwise.cu`.
    ActivateArgs = 48 { 24: length, 40: function } {
        x: Address,
        dy: Address,
        result: Address,
        length: i64,
        slope: f64,
        function: u32,
        reserved: u32,
    }
    /// `kernels/pointwise.cu`.
    DropoutArgs = 48 { 24: seed } {
        x: Address,
        result: Address,
        length: i64,
        seed: u64,
        probability: f64,
        scale: f64,
    }
    /// `kernels/pointwise.cu`.
    FillArgs = 24 { 16: pattern } {
        result: Address,
        length: i64,
        pattern: u64,
    }
    /// `kernels/pointwise.cu`.
    CastArgs = 24 { 16: length } {
        source: Address,
        result: Address,
        length: i64,
    }
    /// `kernels/softmax.cu`.
    SoftmaxArgs = 48 { 24: rows } {
        x: Address,
        dy: Address,
        result: Address,
        rows: i64,
        length: i64,
        step: i64,
    }
    /// `kernels/loss.cu`.
    PairArgs = 56 { 32: length, 48: kind } {
        x: Address,
        target: Address,
        gradient: Address,
        partial: Address,
        length: i64,
        scale: f64,
        kind: u32,
        reserved: u32,
    }
    /// `kernels/loss.cu`.
    ClassArgs = 48 { 32: batch } {
        x: Address,
        gradient: Address,
        targets: Address,
        partial: Address,
        batch: i64,
        classes: i64,
    }
    /// `kernels/loss.cu`.
    TotalArgs = 32 { 16: length } {
        partial: Address,
        result: Address,
        length: i64,
        divisor: f64,
    }
    /// `kernels/step.cu`.
    StepArgs = 120 { 40: length, 48: rate, 112: nesterov } {
        weight: Address,
        gradient: Address,
        master: Address,
        first: Address,
        second: Address,
        length: i64,
        rate: f64,
        decay: f64,
        momentum: f64,
        beta1: f64,
        beta2: f64,
        correction1: f64,
        correction2: f64,
        epsilon: f64,
        nesterov: u32,
        decoupled: u32,
    }
}

impl Divisor {
    /// Division by `divisor`, which is at least 1 and below 2^31.
    pub fn new(divisor: usize) -> Result<Self> {
        let divisor = index("a size", divisor)? as u32;
        let shift = divisor.next_power_of_two().trailing_zeros();
        let multiplier = (((1u64 << shift) - u64::from(divisor)) << 32) / u64::from(divisor) + 1;
        Ok(Divisor {
            divisor,
            multiplier: multiplier as u32,
            shift,
        })
    }

    pub fn each(divisors: [usize; 4]) -> Result<[Self; 4]> {
        let mut all = [Divisor::default(); 4];
        for (slot, divisor) in all.iter_mut().zip(divisors) {
            *slot = Divisor::new(divisor)?;
        }
        Ok(all)
    }
}

/// A number that the kernels hold in 32 bits, with room for sums of two.
pub(super) fn index(what: &str, value: usize) -> Result<i32> {
    let limit = 1 << 30;
    match i32::try_from(value) {
        Ok(small) if small < limit => Ok(small),
        _ => Err(Error::Unsupported {
            what: format!("{what} of {value} on a GPU: kernels count to 2^30; split the batch"),
        }),
    }
}

pub(super) fn signed_index(what: &str, value: isize) -> Result<i32> {
    let size = index(what, value.unsigned_abs())?;
    Ok(if value < 0 { -size } else { size })
}

pub(super) fn indices(what: &str, values: [usize; 4]) -> Result<[i32; 4]> {
    let mut all = [0; 4];
    for (slot, value) in all.iter_mut().zip(values) {
        *slot = index(what, value)?;
    }
    Ok(all)
}

pub(super) fn signed_indices(what: &str, values: [isize; 4]) -> Result<[i32; 4]> {
    let mut all = [0; 4];
    for (slot, value) in all.iter_mut().zip(values) {
        *slot = signed_index(what, value)?;
    }
    Ok(all)
}

impl From<Strides> for ActivationMap {
    fn from(strides: Strides) -> Self {
        ActivationMap {
            batch: strides.outer as i64,
            channel: strides.channel as i64,
            axis: strides.spatial.map(|s| s as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_divide() {
        let divide = |d: Divisor, n: u32| {
            let high = (u64::from(n) * u64::from(d.multiplier)) >> 32;
            (high as u32 + n) >> d.shift
        };
        for divisor in (1..200).chain([1 << 16, 65537, (1 << 30) - 1]) {
            let d = Divisor::new(divisor).unwrap();
            let near = (1..8).flat_map(|k| [k * divisor - 1, k * divisor, k * divisor + 1]);
            for n in near.chain([0, 1, (1 << 31) - 1]).filter(|&n| n < 1 << 31) {
                assert_eq!(divide(d, n as u32) as usize, n / divisor, "{n} / {divisor}");
            }
        }
    }
}
