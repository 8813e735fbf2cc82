//! Pooling written from its definition, window by window, in `f64`.

use crate::oracle::positions;

/// One pooled axis in numbers; padding is part of an average, what lies past it never is.
#[derive(Clone, Copy, Debug)]
pub struct PoolAxis {
    pub input: usize,
    pub kernel_size: usize,
    pub output: usize,
    pub stride: usize,
    pub dilation: usize,
    pub padding: (usize, usize),
}

/// A whole pooling; tensors are channels-first `f64` slices.
#[derive(Clone, Debug)]
pub struct PoolOracle {
    pub batch: usize,
    pub channels: usize,
    pub axes: Vec<PoolAxis>,
    pub count_include_pad: bool,
}

/// A window: the input pixels under its taps, and how many positions of the padded input they
/// were.
struct Window {
    pixels: Vec<usize>,
    padded: usize,
}

impl PoolOracle {
    pub fn x_shape(&self) -> Vec<usize> {
        let spatial: Vec<_> = self.axes.iter().map(|a| a.input).collect();
        [&[self.batch, self.channels][..], &spatial].concat()
    }

    pub fn y_shape(&self) -> Vec<usize> {
        let spatial: Vec<_> = self.axes.iter().map(|a| a.output).collect();
        [&[self.batch, self.channels][..], &spatial].concat()
    }

    fn windows(&self) -> Vec<Window> {
        let sizes: Vec<_> = self.axes.iter().map(|a| a.kernel_size).collect();
        let taps = positions(&sizes);
        let window = |o: Vec<usize>| {
            let mut window = Window {
                pixels: Vec::new(),
                padded: 0,
            };
            for tap in &taps {
                let at = |a: usize| o[a] * self.axes[a].stride + tap[a] * self.axes[a].dilation;
                let on_padded = |(a, axis): (usize, &PoolAxis)| {
                    at(a) < axis.padding.0 + axis.input + axis.padding.1
                };
                window.padded += usize::from(self.axes.iter().enumerate().all(on_padded));
                let pixel = self
                    .axes
                    .iter()
                    .enumerate()
                    .try_fold(0, |pixel, (a, axis)| {
                        let i = at(a).checked_sub(axis.padding.0)?;
                        (i < axis.input).then_some(pixel * axis.input + i)
                    });
                window.pixels.extend(pixel);
            }
            window
        };
        positions(&self.y_shape()[2..])
            .into_iter()
            .map(window)
            .collect()
    }

    /// Calls `visit(y index, x indices of the window, positions of the padded input)`.
    fn visit(&self, mut visit: impl FnMut(usize, &[usize], usize)) {
        let windows = self.windows();
        let inputs: usize = self.x_shape()[2..].iter().product();
        for plane in 0..self.batch * self.channels {
            for (o, window) in windows.iter().enumerate() {
                let pixels: Vec<_> = window.pixels.iter().map(|i| plane * inputs + i).collect();
                visit(plane * windows.len() + o, &pixels, window.padded);
            }
        }
    }

    /// The winner of a window: the first NaN, else the first of the largest.
    fn winner(x: &[f64], pixels: &[usize]) -> Option<usize> {
        let nan = pixels.iter().find(|&&i| x[i].is_nan());
        let largest = pixels.iter().fold(f64::NEG_INFINITY, |m, &i| m.max(x[i]));
        nan.or_else(|| pixels.iter().find(|&&i| x[i] == largest))
            .copied()
    }

    pub fn max(&self, x: &[f64]) -> Vec<f64> {
        let mut y = vec![f64::NEG_INFINITY; self.y_shape().iter().product()];
        self.visit(|o, pixels, _| {
            if let Some(i) = Self::winner(x, pixels) {
                y[o] = x[i];
            }
        });
        y
    }

    pub fn max_backward(&self, x: &[f64], dy: &[f64]) -> Vec<f64> {
        let mut dx = vec![0.0; self.x_shape().iter().product()];
        self.visit(|o, pixels, _| {
            if let Some(i) = Self::winner(x, pixels) {
                dx[i] += dy[o];
            }
        });
        dx
    }

    fn count(&self, pixels: &[usize], padded: usize) -> f64 {
        let count = if self.count_include_pad {
            padded
        } else {
            pixels.len()
        };
        count.max(1) as f64
    }

    pub fn average(&self, x: &[f64]) -> Vec<f64> {
        let mut y = vec![0.0; self.y_shape().iter().product()];
        self.visit(|o, pixels, padded| {
            y[o] = pixels.iter().map(|&i| x[i]).sum::<f64>() / self.count(pixels, padded);
        });
        y
    }

    pub fn average_backward(&self, dy: &[f64]) -> Vec<f64> {
        let mut dx = vec![0.0; self.x_shape().iter().product()];
        self.visit(|o, pixels, padded| {
            for &i in pixels {
                dx[i] += dy[o] / self.count(pixels, padded);
            }
        });
        dx
    }
}

/// The oracle on numbers worked out by hand.
mod by_hand {
    use super::*;

    fn oracle(count_include_pad: bool) -> PoolOracle {
        PoolOracle {
            batch: 1,
            channels: 1,
            // 0 a b c d e 0 and one position past the padding: windows 0ab, bcd, de0, and with
            // the ceiling e0-
            axes: vec![PoolAxis {
                input: 5,
                kernel_size: 3,
                output: 3,
                stride: 2,
                dilation: 1,
                padding: (1, 1),
            }],
            count_include_pad,
        }
    }

    #[test]
    fn one_axis() {
        let o = oracle(true);
        let x = [-6.0, -3.0, -9.0, -3.0, -12.0];
        assert_eq!(o.max(&x), [-3.0, -3.0, -3.0]);
        assert_eq!(
            o.max_backward(&x, &[1.0, 10.0, 100.0]),
            [0.0, 11.0, 0.0, 100.0, 0.0]
        );
        assert_eq!(o.average(&x), [-3.0, -5.0, -5.0]);
        assert_eq!(
            o.average_backward(&[3.0, 6.0, 9.0]),
            [1.0, 3.0, 2.0, 5.0, 3.0]
        );
        assert_eq!(oracle(false).average(&x), [-4.5, -5.0, -7.5]);
        assert_eq!(
            oracle(false).average_backward(&[2.0, 3.0, 4.0]),
            [1.0, 2.0, 1.0, 3.0, 2.0]
        );
    }

    #[test]
    fn what_lies_past_the_padding_never_counts() {
        let mut o = oracle(true);
        (o.axes[0].stride, o.axes[0].output, o.axes[0].padding) = (3, 2, (0, 0));
        let x = [1.0, 2.0, 3.0, 4.0, 6.0];
        assert_eq!(o.average(&x), [2.0, 5.0]);
        o.axes[0].padding = (0, 1);
        assert_eq!(o.average(&x), [2.0, 10.0 / 3.0]);
    }

    #[test]
    fn nan_wins_and_nothing_is_minus_infinity() {
        let o = oracle(true);
        let x = [f64::NAN, 1.0, 2.0, 5.0, 5.0];
        let y = o.max(&x);
        assert!(y[0].is_nan());
        assert_eq!(y[1..], [5.0, 5.0]);
        let axis = PoolAxis {
            input: 1,
            kernel_size: 2,
            output: 1,
            stride: 1,
            dilation: 2,
            padding: (1, 1),
        };
        let o = PoolOracle {
            axes: vec![axis],
            ..o
        };
        assert_eq!(o.max(&[7.0]), [f64::NEG_INFINITY]);
        assert_eq!(o.average(&[7.0]), [0.0]);
    }
}
