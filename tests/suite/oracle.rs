//! The convolution written from its definition in `f64`, from raw numbers alone.
//!
//! Nothing here calls the crate: the padded axis is built literally, element by element, and a
//! window is found by walking over it. `PaddingMode` is borrowed as a name.

use std::collections::VecDeque;

use ndconv::PaddingMode;

/// One spatial axis in numbers. Negative padding crops.
#[derive(Clone, Debug)]
pub struct OracleAxis {
    pub input: usize,
    pub kernel_size: usize,
    pub output: usize,
    pub stride: usize,
    pub dilation: usize,
    pub padding: (i64, i64),
}

impl OracleAxis {
    /// An axis whose output is found by walking.
    pub fn walked(
        input: usize,
        kernel_size: usize,
        stride: usize,
        dilation: usize,
        padding: (i64, i64),
    ) -> Self {
        let padded = padded_sources(input, padding, PaddingMode::Zeros).len();
        OracleAxis {
            input,
            kernel_size,
            output: count_windows(padded, kernel_size, stride, dilation),
            stride,
            dilation,
            padding,
        }
    }
}

/// How many windows fit: put the first at 0, then step while the last tap is on the axis.
pub fn count_windows(padded: usize, kernel_size: usize, stride: usize, dilation: usize) -> usize {
    let mut windows = 0;
    let mut begin = 0;
    loop {
        let last_tap = (1..kernel_size).fold(begin, |position, _| position + dilation);
        if last_tap >= padded {
            return windows;
        }
        windows += 1;
        begin += stride;
    }
}

/// The padded axis, literally: for every position the input element that it repeats.
pub fn padded_sources(input: usize, padding: (i64, i64), mode: PaddingMode) -> Vec<Option<usize>> {
    let mut axis: VecDeque<Option<usize>> = (0..input).map(Some).collect();
    for j in 1..=padding.0.max(0) as usize {
        axis.push_front(match mode {
            PaddingMode::Zeros => None,
            PaddingMode::Reflect => Some(j),
            PaddingMode::Replicate => Some(0),
            PaddingMode::Circular => Some(input - j),
        });
    }
    for j in 1..=padding.1.max(0) as usize {
        axis.push_back(match mode {
            PaddingMode::Zeros => None,
            PaddingMode::Reflect => Some(input - 1 - j),
            PaddingMode::Replicate => Some(input - 1),
            PaddingMode::Circular => Some(j - 1),
        });
    }
    for _ in padding.0..0 {
        axis.pop_front();
    }
    for _ in padding.1..0 {
        axis.pop_back();
    }
    axis.into()
}

/// All positions of a box, last axis fastest.
pub fn positions(sizes: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![vec![]];
    for &size in sizes {
        all = all
            .iter()
            .flat_map(|head| (0..size).map(|i| [&head[..], &[i]].concat()))
            .collect();
    }
    all
}

/// A whole convolution in numbers; tensors are channels-first `f64` slices.
#[derive(Clone, Debug)]
pub struct Oracle {
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub mode: PaddingMode,
    pub axes: Vec<OracleAxis>,
}

impl Oracle {
    pub fn x_shape(&self) -> Vec<usize> {
        let spatial: Vec<_> = self.axes.iter().map(|a| a.input).collect();
        [&[self.batch, self.in_channels][..], &spatial].concat()
    }

    pub fn w_shape(&self) -> Vec<usize> {
        let taps: Vec<_> = self.axes.iter().map(|a| a.kernel_size).collect();
        [
            &[self.out_channels, self.in_channels / self.groups][..],
            &taps,
        ]
        .concat()
    }

    pub fn y_shape(&self) -> Vec<usize> {
        let spatial: Vec<_> = self.axes.iter().map(|a| a.output).collect();
        [&[self.batch, self.out_channels][..], &spatial].concat()
    }

    /// `reads[o][t]`: the input pixel that output pixel `o` reads through tap `t`.
    fn reads(&self) -> Vec<Vec<Option<usize>>> {
        let sources: Vec<_> = self
            .axes
            .iter()
            .map(|a| padded_sources(a.input, a.padding, self.mode))
            .collect();
        let taps = positions(&self.w_shape()[2..]);
        let read = |o: &[usize], t: &[usize]| {
            self.axes
                .iter()
                .enumerate()
                .try_fold(0, |pixel, (a, axis)| {
                    let padded_position = o[a] * axis.stride + t[a] * axis.dilation;
                    Some(pixel * axis.input + sources[a][padded_position]?)
                })
        };
        positions(&self.y_shape()[2..])
            .iter()
            .map(|o| taps.iter().map(|t| read(o, t)).collect())
            .collect()
    }

    /// Calls `term(x index, w index, y index)` for every product in the convolution's sum.
    fn terms(&self, mut term: impl FnMut(usize, usize, usize)) {
        let reads = self.reads();
        let (outputs, taps) = (reads.len(), reads[0].len());
        let inputs: usize = self.axes.iter().map(|a| a.input).product();
        let group_in = self.in_channels / self.groups;
        let group_out = self.out_channels / self.groups;
        for n in 0..self.batch {
            for k in 0..self.out_channels {
                for c in 0..group_in {
                    let channel = k / group_out * group_in + c;
                    for (o, reads) in reads.iter().enumerate() {
                        for (t, read) in reads.iter().enumerate() {
                            if let Some(i) = read {
                                term(
                                    (n * self.in_channels + channel) * inputs + i,
                                    (k * group_in + c) * taps + t,
                                    (n * self.out_channels + k) * outputs + o,
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    /// `y[n,k,o] = sum over c, t of w[k,c,t] x[n,c,o*stride + t*dilation]`, x padded.
    pub fn fprop(&self, x: &[f64], w: &[f64]) -> Vec<f64> {
        let mut y = vec![0.0; self.y_shape().iter().product()];
        self.terms(|i, j, o| y[o] += x[i] * w[j]);
        y
    }

    /// Every output gradient scattered to the inputs that its window read.
    pub fn dgrad(&self, dy: &[f64], w: &[f64]) -> Vec<f64> {
        let mut dx = vec![0.0; self.x_shape().iter().product()];
        self.terms(|i, j, o| dx[i] += dy[o] * w[j]);
        dx
    }

    /// Every output gradient times what each tap saw.
    pub fn wgrad(&self, x: &[f64], dy: &[f64]) -> Vec<f64> {
        let mut dw = vec![0.0; self.w_shape().iter().product()];
        self.terms(|i, j, o| dw[j] += dy[o] * x[i]);
        dw
    }
}

/// The sum over batch and positions, per channel, of a channels-first tensor.
pub fn bgrad(shape: &[usize], dy: &[f64]) -> Vec<f64> {
    let pixels: usize = shape[2..].iter().product();
    let mut sums = vec![0.0; shape[1]];
    for n in 0..shape[0] {
        for (c, sum) in sums.iter_mut().enumerate() {
            for i in 0..pixels {
                *sum += dy[(n * shape[1] + c) * pixels + i];
            }
        }
    }
    sums
}

/// `bias[channel]` added to a channels-first tensor.
pub fn add_bias(shape: &[usize], y: &mut [f64], bias: &[f64]) {
    let pixels: usize = shape[2..].iter().product();
    for (i, y) in y.iter_mut().enumerate() {
        *y += bias[i / pixels % shape[1]];
    }
}

/// The oracle on numbers worked out by hand.
mod by_hand {
    use super::*;

    fn oracle(axes: Vec<OracleAxis>) -> Oracle {
        Oracle {
            batch: 1,
            in_channels: 1,
            out_channels: 1,
            groups: 1,
            mode: PaddingMode::Zeros,
            axes,
        }
    }

    #[test]
    fn windows_are_counted() {
        assert_eq!(count_windows(5, 3, 1, 1), 3);
        assert_eq!(count_windows(5, 3, 2, 1), 2);
        assert_eq!(count_windows(6, 3, 2, 1), 2);
        assert_eq!(count_windows(5, 3, 1, 2), 1);
        assert_eq!(count_windows(4, 3, 1, 2), 0);
        assert_eq!(count_windows(0, 1, 1, 1), 0);
    }

    #[test]
    fn padding_is_literal() {
        let letters = |mode| -> String {
            padded_sources(4, (2, 3), mode)
                .into_iter()
                .map(|s| s.map_or('0', |i| b"abcd"[i] as char))
                .collect()
        };
        assert_eq!(letters(PaddingMode::Zeros), "00abcd000");
        assert_eq!(letters(PaddingMode::Reflect), "cbabcdcba");
        assert_eq!(letters(PaddingMode::Replicate), "aaabcdddd");
        assert_eq!(letters(PaddingMode::Circular), "cdabcdabc");
        let cropped = padded_sources(4, (-1, -2), PaddingMode::Zeros);
        assert_eq!(cropped, [Some(1)]);
    }

    #[test]
    fn one_axis() {
        let o = oracle(vec![OracleAxis::walked(4, 2, 2, 1, (1, 1))]);
        // padded 0 1 2 3 4 0, windows (0 1) (2 3) (4 0), weight 10 1
        let (x, w) = ([1.0, 2.0, 3.0, 4.0], [10.0, 1.0]);
        assert_eq!(o.fprop(&x, &w), [1.0, 23.0, 40.0]);
        let dy = [1.0, 2.0, 3.0];
        assert_eq!(o.dgrad(&dy, &w), [1.0, 20.0, 2.0, 30.0]);
        // tap 0 sees 0 2 4, tap 1 sees 1 3 0
        assert_eq!(o.wgrad(&x, &dy), [16.0, 7.0]);
    }

    #[test]
    fn dilation_and_modes() {
        let mut o = oracle(vec![OracleAxis::walked(3, 2, 1, 2, (1, 1))]);
        o.mode = PaddingMode::Circular;
        // padded 3 1 2 3 1, windows (3 2) (1 3) (2 1)
        assert_eq!(o.fprop(&[1.0, 2.0, 3.0], &[10.0, 1.0]), [32.0, 13.0, 21.0]);
        // 1 goes to (.. 1 of window 1) and (1 of window 2), 2 to windows 0 and 2, 3 to 0 and 1
        assert_eq!(o.dgrad(&[1.0, 2.0, 3.0], &[10.0, 1.0]), [23.0, 31.0, 12.0]);
        assert_eq!(o.wgrad(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]), [11.0, 11.0]);
    }

    #[test]
    fn two_axes() {
        let o = oracle(vec![
            OracleAxis::walked(2, 2, 1, 1, (0, 0)),
            OracleAxis::walked(3, 2, 1, 1, (0, 0)),
        ]);
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let w = [1000.0, 100.0, 10.0, 1.0];
        assert_eq!(o.fprop(&x, &w), [1245.0, 2356.0]);
        assert_eq!(
            o.dgrad(&[1.0, 2.0], &w),
            [1000.0, 2100.0, 200.0, 10.0, 21.0, 2.0]
        );
        assert_eq!(o.wgrad(&x, &[1.0, 10.0]), [21.0, 32.0, 54.0, 65.0]);
    }

    #[test]
    fn groups_channels_and_batch() {
        let mut o = oracle(vec![OracleAxis::walked(1, 1, 1, 1, (0, 0))]);
        (o.batch, o.in_channels, o.out_channels, o.groups) = (2, 4, 2, 2);
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let w = [10.0, 1.0, 100.0, 1.0];
        assert_eq!(o.fprop(&x, &w), [12.0, 304.0, 56.0, 708.0]);
        let dy = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(
            o.dgrad(&dy, &w),
            [10.0, 1.0, 200.0, 2.0, 30.0, 3.0, 400.0, 4.0]
        );
        assert_eq!(o.wgrad(&x, &dy), [16.0, 20.0, 34.0, 40.0]);
        assert_eq!(bgrad(&[2, 2, 1], &dy), [4.0, 6.0]);
        let mut y = vec![0.0; 8];
        add_bias(&[2, 2, 2], &mut y, &[1.0, 2.0]);
        assert_eq!(y, [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
    }

    #[test]
    fn a_cropped_transposed_problem() {
        // small 2, k 3, s 2: full output 5; crop (1, 1) leaves 3
        let mut axis = OracleAxis::walked(3, 3, 2, 1, (1, 1));
        assert_eq!(axis.output, 2);
        axis.output = 2;
        let o = oracle(vec![axis]);
        // full: 1*[1 2 3] at 0 and 10*[1 2 3] at 2 = 1 2 13 20 30
        assert_eq!(o.dgrad(&[1.0, 10.0], &[1.0, 2.0, 3.0]), [2.0, 13.0, 20.0]);
    }
}
