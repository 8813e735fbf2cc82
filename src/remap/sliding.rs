//! A net with dense layers as one that slides over larger inputs.

use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::init::{Init, Rng};
use crate::layer::{Layer, Sequential};
use crate::shape::Layout;
use crate::tensor::Tensor;

/// Makes a net of convolutions, Flatten and Dense fully convolutional: every Dense becomes a
/// convolution whose kernel covers what was flattened (or has size 1 behind another Dense), Flatten
/// goes, and the net gives for larger inputs a map of outputs, `(batch, out, *positions)`. Nets
/// within the net are changed with it.
///
/// The net is run on a random input of shape `x` (in memory order, with its batch axis) before and
/// after, and must give the same numbers; what comes back is the worst error, as
/// `max|after - before| / max(1, max|before|)`.
///
/// The position `p` of a map is what the old net gives for the window at `p` times the product of
/// the strides, where no layer pads; a padding layer sees neighbours where it saw zeros.
///
/// # Errors
/// What a layer says to the shape; [`Error::Unsupported`] for a net that no layer of changes, or
/// whose outputs do not agree. The net is unchanged then.
///
/// ```
/// use ndconv::{Layout, Tensor, init::Rng, ops::Activation, remap::make_convolutional};
/// use ndconv::layer::{Conv2d, Dense, Flatten, Layer, Sequential};
/// let rng = &mut Rng::new(0);
/// let mut net = Sequential::<f32>::new()
///     .then(Conv2d::builder(1, 4, [3, 3]).build(rng)?)
///     .then(Flatten)
///     .then(Dense::new(4 * 6 * 6, 16, rng)?)
///     .then(Activation::Relu)
///     .then(Dense::new(16, 10, rng)?);
/// make_convolutional(&mut net, &[1, 1, 8, 8], Layout::ChannelsFirst)?;
/// let strip = Tensor::from_vec(&[1, 1, 8, 30], vec![0.5; 240])?;
/// assert_eq!(net.forward(&strip)?.shape(), [1, 10, 1, 23]);
/// # Ok::<(), ndconv::Error>(())
/// ```
pub fn make_convolutional<T: Element>(
    net: &mut Sequential<T>,
    x: &[usize],
    layout: Layout,
) -> Result<f64> {
    let mut replaced = Vec::new();
    plan(net, &mut Vec::new(), x.to_vec(), layout, &mut replaced)?;
    if replaced.is_empty() {
        return Err(Error::Unsupported {
            what: "a net without Flatten and Dense to make convolutional".into(),
        });
    }
    let probe = Init::Normal(1.0).tensor(x, 1, 1, &mut Rng::new(0))?;
    let probe: Tensor<T> = probe.with_layout(layout);
    let before = net.forward(&probe)?.cast::<f64>()?.to_vec()?;
    swap(net, &mut replaced);
    match compare::<T>(net, &probe, &before) {
        Ok(error) => Ok(error),
        Err(error) => {
            swap(net, &mut replaced);
            Err(error)
        }
    }
}

/// A layer that takes the place of another, which is found by its number in each net around it.
type Replacement<T> = (Vec<usize>, Box<dyn Layer<T>>);

/// Adds what changes in the layers within `net`, which stands at `place`; gives the shape that
/// comes out of the changed net for `shape`.
fn plan<T: Element>(
    net: &dyn Layer<T>,
    place: &mut Vec<usize>,
    mut shape: Vec<usize>,
    layout: Layout,
    replaced: &mut Vec<Replacement<T>>,
) -> Result<Vec<usize>> {
    for (i, layer) in net.inner().iter().enumerate() {
        place.push(i);
        shape = match layer.inner() {
            [] => {
                let sliding = layer.sliding(&shape, layout)?;
                let new = sliding.as_deref().unwrap_or(layer.as_ref());
                shape = new.output_shape(&shape, layout)?;
                replaced.extend(sliding.map(|new| (place.clone(), new)));
                shape
            }
            _ => plan(layer.as_ref(), place, shape, layout, replaced)?,
        };
        place.pop();
    }
    Ok(shape)
}

fn swap<T: Element>(net: &mut Sequential<T>, replaced: &mut [Replacement<T>]) {
    for (place, layer) in replaced {
        let (mut layers, mut path) = (net.inner_mut(), place.as_slice());
        while let Some((&i, inside)) = path.split_first() {
            let Some(there) = layers.get_mut(i) else {
                break;
            };
            if inside.is_empty() {
                std::mem::swap(there, layer);
                break;
            }
            layers = there.inner_mut();
            path = inside;
        }
    }
}

/// The error of a net's outputs, if they agree as closely as two orders of summation do.
fn compare<T: Element>(net: &Sequential<T>, x: &Tensor<T>, before: &[f64]) -> Result<f64> {
    let after = net
        .forward(x)?
        .to_layout(Layout::ChannelsFirst)?
        .cast::<f64>()?
        .to_vec()?;
    let scale = before.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    let worst = before
        .iter()
        .zip(&after)
        .fold(0.0f64, |m, (b, a)| m.max((b - a).abs()));
    let error = worst / scale;
    let allowed = match T::DTYPE {
        DType::F64 => 1e-11,
        DType::F32 => 1e-4,
        DType::F16 => 1e-2,
        DType::BF16 => 6e-2,
    };
    let comparable = before.iter().chain(&after).all(|v| v.is_finite());
    if after.len() == before.len() && comparable && error <= allowed {
        return Ok(error);
    }
    Err(Error::Unsupported {
        what: format!(
            "this net as a convolution: it gives other numbers (error {error:.1e}, {allowed:.0e} \
             allowed); a layer behind Flatten may depend on the shape"
        ),
    })
}
