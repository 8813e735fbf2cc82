//! The one value that describes a convolution: every layer, device, planner and bench reads it.

mod params;

pub use params::{ConvParams, Padding};

use crate::axis::{Axis, PaddingMode};
use crate::error::{Error, GeometryError, Result};
use crate::shape::{Layout, check_elements, expect_rank, too_large};

/// The three contractions of a convolution, named as cuDNN and CUTLASS do.
///
/// ```
/// assert_eq!(ndconv::Pass::ALL.map(|pass| pass.name()), ["fprop", "dgrad", "wgrad"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// `y` from `x` and `w`.
    Fprop,
    /// `dx` from `dy` and `w`; also the forward pass of a transposed convolution.
    Dgrad,
    /// `dw` from `x` and `dy`.
    Wgrad,
}

impl Pass {
    /// All three.
    pub const ALL: [Pass; 3] = [Pass::Fprop, Pass::Dgrad, Pass::Wgrad];

    /// `fprop`, `dgrad` or `wgrad`.
    pub fn name(self) -> &'static str {
        match self {
            Pass::Fprop => "fprop",
            Pass::Dgrad => "dgrad",
            Pass::Wgrad => "wgrad",
        }
    }
}

/// A convolution of rank `N` (1 to 4): batch, channels, groups and one [`Axis`] per spatial axis.
///
/// Plain data, valid by construction. With `o` an output position, `t` a tap and `g` the group
/// of output channel `k`:
///
/// ```text
/// y[n, k, o]  = sum over c in g, t   of w[k, c, t] * x[n, c, o * stride + t * dilation - padding.0]
/// dx[n, c, i] = the adjoint in x         dw[k, c, t] = the adjoint in w
/// ```
///
/// A transposed convolution is the adjoint of the problem that [`ConvProblem::transposed`] builds:
/// its forward pass is that problem's dgrad, so it has no geometry of its own.
///
/// ```
/// use ndconv::{ConvParams, ConvProblem};
/// let params = ConvParams { stride: [2, 2], ..ConvParams::default() };
/// let down = ConvProblem::<2>::new(&[8, 3, 28, 28], &[16, 3, 3, 3], &params)?;
/// assert_eq!(down.output(), [13, 13]);
/// let up = ConvProblem::<2>::transposed(&[8, 16, 14, 14], &[16, 3, 3, 3], &params, [0, 0])?;
/// assert_eq!(up.x_shape(), [8, 3, 29, 29]); // what the transposed layer puts out
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvProblem<const N: usize> {
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    groups: usize,
    axes: [Axis; N],
    padding_mode: PaddingMode,
}

/// The names of a rank's axes in messages.
const AXES: [&str; 4] = [
    "(batch, channels, length)",
    "(batch, channels, height, width)",
    "(batch, channels, depth, height, width)",
    "(batch, channels, 4 spatial axes)",
];

impl<const N: usize> ConvProblem<N> {
    /// Ranks above 4 do not exist; checked when a program is compiled.
    const RANK: () = assert!(N >= 1 && N <= 4, "ndconv has convolutions of rank 1 to 4");

    /// The convolution of an input `x` with weights `w`.
    ///
    /// # Shapes
    /// In channels-first order, whatever the layout in memory: `x` is
    /// `(batch, in_channels, *spatial)` and `w` is
    /// `(out_channels, in_channels / groups, *kernel_size)`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a wrong rank, empty axes and channels that do not match;
    /// [`Error::Geometry`], with axis and reason, for an impossible window.
    pub fn new(x: &[usize], w: &[usize], params: &ConvParams<N>) -> Result<Self> {
        let (input, kernel_size) = check_shapes::<N>("conv", x, w, params.groups)?;
        if w[1].checked_mul(params.groups) != Some(x[1]) {
            return Err(Error::shape(
                "x",
                format!(
                    "{} channels ({} per group of the weight * {} groups)",
                    w[1] as u128 * params.groups as u128,
                    w[1],
                    params.groups
                ),
                x,
            ));
        }
        let axes = try_axes(|a| {
            let (stride, dilation) = (params.stride[a], params.dilation[a]);
            let padding = params
                .padding
                .resolve(a, input[a], kernel_size[a], stride, dilation)?;
            Axis::new(input[a], kernel_size[a], stride, dilation, padding)
        })?;
        Self::from_axes(x[0], x[1], w[0], params, axes)
    }

    /// The convolution whose dgrad is the transposed convolution of `x` with `w`, by PyTorch's
    /// rule: `output = (input - 1) * stride - padding + extent + output_padding`.
    ///
    /// [`Padding::Same`] and [`Padding::SameLower`] give `input * stride` (Keras, ONNX),
    /// [`Padding::Full`] and [`Padding::Causal`] crop what they would have padded.
    ///
    /// # Shapes
    /// In channels-first order: `x` is `(batch, in_channels, *spatial)` and `w` is
    /// `(in_channels, out_channels / groups, *kernel_size)`. In the problem that comes back
    /// [`ConvProblem::y_shape`] is the transposed input and [`ConvProblem::x_shape`] the
    /// transposed output.
    ///
    /// # Errors
    /// As [`ConvProblem::new`], and an `output_padding` that is not less than the stride or the
    /// dilation.
    pub fn transposed(
        x: &[usize],
        w: &[usize],
        params: &ConvParams<N>,
        output_padding: [usize; N],
    ) -> Result<Self> {
        Self::transposed_with(x, w, params, |a, input, kernel_size| {
            let (stride, dilation) = (params.stride[a], params.dilation[a]);
            let op = output_padding[a];
            check_output_padding(op, stride, dilation)?;
            let crop = match params.padding {
                Padding::Same | Padding::SameLower => same_crop(
                    Axis::transposed_full(input, kernel_size, stride, dilation, op)?,
                    input.checked_mul(stride).ok_or(GeometryError::Overflow)?,
                    params.padding == Padding::Same,
                )?,
                padding => padding.resolve(a, input, kernel_size, stride, dilation)?,
            };
            Axis::transposed(input, kernel_size, stride, dilation, crop, op)
        })
    }

    /// A transposed problem whose axes `axis(index, input, kernel_size)` builds.
    pub(crate) fn transposed_with(
        x: &[usize],
        w: &[usize],
        params: &ConvParams<N>,
        axis: impl Fn(usize, usize, usize) -> Result<Axis, GeometryError>,
    ) -> Result<Self> {
        let (input, kernel_size) = check_shapes::<N>("conv_transpose", x, w, params.groups)?;
        if w[0] != x[1] {
            let expected = format!("{} channels (the weight's first axis)", w[0]);
            return Err(Error::shape("x", expected, x));
        }
        if params.padding_mode != PaddingMode::Zeros {
            return Err(Error::Unsupported {
                what: format!(
                    "a transposed convolution with padding mode {}: only zeros has a meaning there",
                    params.padding_mode.name()
                ),
            });
        }
        let out_channels = w[1]
            .checked_mul(params.groups)
            .ok_or_else(|| too_large("w", w))?;
        let axes = try_axes(|a| axis(a, input[a], kernel_size[a]))?;
        Self::from_axes(x[0], out_channels, x[1], params, axes)
    }

    fn from_axes(
        batch: usize,
        in_channels: usize,
        out_channels: usize,
        params: &ConvParams<N>,
        axes: [Axis; N],
    ) -> Result<Self> {
        let groups = params.groups;
        if !out_channels.is_multiple_of(groups) {
            return Err(Error::shape(
                "out_channels",
                format!("a multiple of groups ({groups})"),
                out_channels,
            ));
        }
        for (a, axis) in axes.iter().enumerate() {
            axis.check_fold(params.padding_mode).map_err(|e| e.at(a))?;
        }
        let problem = ConvProblem {
            batch,
            in_channels,
            out_channels,
            groups,
            axes,
            padding_mode: params.padding_mode,
        };
        check_elements("x", &problem.x_shape())?;
        check_elements("w", &problem.w_shape())?;
        check_elements("y", &problem.y_shape())?;
        if params.padding_mode != PaddingMode::Zeros {
            check_elements("the padded x", &problem.folded().x_shape())?;
        }
        Ok(problem)
    }

    /// Images (or signals, or volumes) per call.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Channels of `x`.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Channels of `y`.
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// The channels fall into this many groups that do not see each other.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// What stands in the padding.
    pub fn padding_mode(&self) -> PaddingMode {
        self.padding_mode
    }

    /// The spatial axes.
    pub fn axes(&self) -> &[Axis; N] {
        &self.axes
    }

    /// Spatial sizes of `x`.
    pub fn input(&self) -> [usize; N] {
        self.axes.map(|a| a.input)
    }

    /// Taps per spatial axis.
    pub fn kernel_size(&self) -> [usize; N] {
        self.axes.map(|a| a.kernel_size)
    }

    /// Spatial sizes of `y`.
    pub fn output(&self) -> [usize; N] {
        self.axes.map(|a| a.output)
    }

    /// Strides per spatial axis.
    pub fn stride(&self) -> [usize; N] {
        self.axes.map(|a| a.stride)
    }

    /// Dilations per spatial axis.
    pub fn dilation(&self) -> [usize; N] {
        self.axes.map(|a| a.dilation)
    }

    /// Padding per spatial axis as resolved; negative crops (transposed problems only).
    pub fn padding(&self) -> [(isize, isize); N] {
        self.axes.map(|a| a.padding)
    }

    /// `(batch, in_channels, *input)`.
    pub fn x_shape(&self) -> Vec<usize> {
        [&[self.batch, self.in_channels][..], &self.input()].concat()
    }

    /// `(out_channels, in_channels / groups, *kernel_size)`.
    pub fn w_shape(&self) -> Vec<usize> {
        let channels = [self.out_channels, self.in_channels / self.groups];
        [&channels[..], &self.kernel_size()].concat()
    }

    /// `(batch, out_channels, *output)`.
    pub fn y_shape(&self) -> Vec<usize> {
        [&[self.batch, self.out_channels][..], &self.output()].concat()
    }

    /// The input position that output `out` and tap `tap` read along `axis`; `None` is a zero.
    /// Padding modes are folded in.
    ///
    /// Returns `None` also for an axis, output or tap that does not exist.
    pub fn input_index(&self, axis: usize, out: usize, tap: usize) -> Option<usize> {
        let a = self.axes.get(axis)?;
        if out >= a.output || tap >= a.kernel_size {
            return None;
        }
        self.padding_mode.source(a.position(out, tap), a.input)
    }

    /// Floating-point operations of a pass, a multiplication and an addition counted apart and
    /// padding counted as work; the same for all three passes.
    pub fn flops(&self, pass: Pass) -> u64 {
        let (Pass::Fprop | Pass::Dgrad | Pass::Wgrad) = pass;
        let product = |sizes: &[usize]| sizes.iter().fold(1u64, |p, &s| p.saturating_mul(s as u64));
        product(&self.y_shape())
            .saturating_mul(product(&self.w_shape()[1..]))
            .saturating_mul(2)
    }

    /// Bytes of the two operands and the result of a pass, each touched once, with elements of
    /// `element` bytes; the same for all three passes.
    pub fn bytes(&self, pass: Pass, element: usize) -> u64 {
        let (Pass::Fprop | Pass::Dgrad | Pass::Wgrad) = pass;
        [self.x_shape(), self.w_shape(), self.y_shape()]
            .iter()
            .map(|shape| shape.iter().product::<usize>() as u64)
            .map(|elements| elements.saturating_mul(element as u64))
            .fold(0, u64::saturating_add)
    }

    /// The same convolution over an input that already holds its padding.
    pub(crate) fn folded(&self) -> Self {
        let mut folded = *self;
        folded.padding_mode = PaddingMode::Zeros;
        for axis in &mut folded.axes {
            axis.input = axis.padded() as usize; // at least the extent, checked by Axis::window
            axis.padding = (0, 0);
        }
        folded
    }

    /// The same problem with unit axes in front, so that an engine is written once for rank 4.
    pub(crate) fn lift(&self) -> ConvProblem<4> {
        let () = Self::RANK;
        let mut axes = [Axis::UNIT; 4];
        axes[4 - N..].copy_from_slice(&self.axes);
        ConvProblem {
            batch: self.batch,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            groups: self.groups,
            axes,
            padding_mode: self.padding_mode,
        }
    }
}

impl ConvProblem<4> {
    /// The same problem as a product of matrices, if the kernel is as large as the input and there is one
    /// output position: the channels and positions of an image are channels of one position, which
    /// the weights must have in the same order.
    pub(crate) fn dense(&self, ordered: bool) -> Option<ConvProblem<4>> {
        let covered = |axis: &Axis| {
            axis.kernel_size == axis.input && axis.output == 1 && axis.padding == (0, 0)
        };
        let taps: usize = self.input().iter().product();
        let dense = self.groups == 1 && self.axes.iter().all(covered) && (taps == 1 || ordered);
        dense.then(|| ConvProblem {
            in_channels: self.in_channels * taps,
            axes: [Axis::UNIT; 4],
            ..*self
        })
    }

    /// The same problem with the taps of the last axis as channels, if every position of that axis is read by one tap
    /// of one output position: patches that lie side by side. Activations and weights must have the channels last.
    pub(crate) fn patches(&self) -> ConvProblem<4> {
        let (mut p, [.., last]) = (*self, self.axes);
        let channels = self.in_channels.checked_mul(last.kernel_size);
        if let Some(channels) = channels.filter(|_| last.is_tiled() && self.groups == 1) {
            p.in_channels = channels;
            p.axes[3] = Axis {
                input: last.output,
                output: last.output,
                ..Axis::UNIT
            };
        }
        p
    }

    /// The same problem with neighbouring axes as one where no position meets another along them, so
    /// that rows are long; all images too, if their pixels follow one another.
    pub(crate) fn joined(&self, activation: Layout) -> ConvProblem<4> {
        let mut joined: Vec<Axis> = Vec::with_capacity(4);
        for &axis in &self.axes {
            match joined.last_mut() {
                Some(before) if before.is_pointwise() && axis.is_pointwise() => {
                    before.input *= axis.input;
                    before.output *= axis.output;
                }
                _ => joined.push(axis),
            }
        }
        let mut batch = self.batch;
        if let [all] = &mut joined[..]
            && all.is_pointwise()
            && activation == Layout::ChannelsLast
            && batch > 0
        {
            all.input *= batch;
            all.output *= batch;
            batch = 1;
        }
        let mut axes = [Axis::UNIT; 4];
        axes[4 - joined.len()..].copy_from_slice(&joined);
        ConvProblem {
            axes,
            batch,
            ..*self
        }
    }
}

/// PyTorch's and ONNX's rule for `output_padding`.
pub(crate) fn check_output_padding(
    output_padding: usize,
    stride: usize,
    dilation: usize,
) -> Result<(), GeometryError> {
    if output_padding > 0 && output_padding >= stride.max(dilation) {
        return Err(GeometryError::OutputPadding {
            output_padding,
            stride,
            dilation,
        });
    }
    Ok(())
}

/// How a transposed output of `full` positions is cropped to `output`: the odd position comes off
/// the end if `upper`, else off the beginning. Both sides can be negative, hence floor division.
pub(crate) fn same_crop(
    full: usize,
    output: usize,
    upper: bool,
) -> Result<(isize, isize), GeometryError> {
    let signed = |v| isize::try_from(v).map_err(|_| GeometryError::Overflow);
    let total = signed(full)? - signed(output)?;
    let half = total.div_euclid(2);
    let begin = if upper { half } else { total - half };
    Ok((begin, total - begin))
}

fn try_axes<const N: usize>(
    axis: impl Fn(usize) -> Result<Axis, GeometryError>,
) -> Result<[Axis; N]> {
    let mut axes = [Axis::UNIT; N];
    for (a, slot) in axes.iter_mut().enumerate() {
        *slot = axis(a).map_err(|e| e.at(a))?;
    }
    Ok(axes)
}

/// Ranks, empty axes and group count; returns the spatial sizes of `x` and `w`.
fn check_shapes<const N: usize>(
    op: &str,
    x: &[usize],
    w: &[usize],
    groups: usize,
) -> Result<([usize; N], [usize; N])> {
    let () = ConvProblem::<N>::RANK;
    let name = format!("{op}{N}d");
    expect_rank(&name, N + 2, AXES[N - 1], x)?;
    let weight = if op == "conv" {
        "(out_channels, in_channels / groups, *kernel_size)"
    } else {
        "(in_channels, out_channels / groups, *kernel_size)"
    };
    expect_rank(&format!("{name} weight"), N + 2, weight, w)?;
    for (what, shape) in [("x", x), ("w", w)] {
        if shape[..2].contains(&0) {
            return Err(Error::shape(
                what,
                "batch and channels of at least 1",
                shape,
            ));
        }
    }
    if groups == 0 {
        return Err(Error::argument("groups", "at least 1", groups));
    }
    let channels = if op == "conv" { w[0] } else { x[1] };
    if !channels.is_multiple_of(groups) {
        let expected = format!("a channel count divisible by groups ({groups})");
        return Err(Error::shape(name, expected, channels));
    }
    let mut spatial = ([0; N], [0; N]);
    spatial.0.copy_from_slice(&x[2..]);
    spatial.1.copy_from_slice(&w[2..]);
    Ok(spatial)
}
