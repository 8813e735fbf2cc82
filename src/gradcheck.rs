//! Gradients held against difference quotients, for any layer.

use crate::error::{Error, Result};
use crate::init::Rng;
use crate::layer::Layer;
use crate::tensor::Tensor;

/// How far a layer's gradients are from difference quotients.
///
/// ```
/// use ndconv::{Tensor, gradcheck, init::Rng, layer::Conv1d};
/// let mut conv = Conv1d::<f64>::builder(2, 3, [3]).build(&mut Rng::new(0))?;
/// let x = Tensor::from_vec(&[1, 2, 5], (0..10).map(f64::from).collect())?;
/// // a convolution is bilinear, so a step of 1 leaves rounding alone
/// let check = gradcheck(&mut conv, &x, 1.0)?;
/// assert!(check.worst() < 1e-12, "{check:?}");
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GradientCheck {
    /// The scaled error of the gradient in the input.
    pub input: f64,
    /// The scaled error of the gradient in each parameter, by name.
    pub parameters: Vec<(String, f64)>,
}

impl GradientCheck {
    /// The greatest of all errors; infinite where a gradient is NaN.
    pub fn worst(&self) -> f64 {
        let parameters = self.parameters.iter().map(|(_, error)| *error);
        parameters.fold(self.input, f64::max)
    }
}

/// Compares [`Layer::backward`] with central differences of [`Layer::forward`].
///
/// For a fixed random `dy`, every element of the input and of the parameters is moved by `step` up
/// and down, and `<dy, y>` compared: `max|gradient - quotient| / max(1, max|quotient|)`. A step
/// around 1e-5 suits smooth layers, 1 those that are linear in each of their tensors.
///
/// The layer's parameters are moved and put back.
///
/// # Errors
/// What the layer reports; [`Error::Argument`] for a step that is not a positive number.
pub fn gradcheck(layer: &mut dyn Layer<f64>, x: &Tensor<f64>, step: f64) -> Result<GradientCheck> {
    if !(step.is_finite() && step > 0.0) {
        return Err(Error::argument("step", "a positive number", step));
    }
    let y = layer.forward(x)?;
    let mut rng = Rng::new(0);
    let weights: Vec<f64> = (0..y.len()).map(|_| rng.normal()).collect();
    let mut dy = y;
    dy.overwrite(&weights)?;
    let gradients = layer.backward(x, &dy)?;

    let mut moved = x.clone();
    let input = worst_error(x, &gradients.input, step, |values| {
        moved.overwrite(values)?;
        inner(&dy, &layer.forward(&moved)?)
    })?;
    let originals: Vec<(String, Tensor<f64>)> = layer
        .parameters()
        .into_iter()
        .map(|(name, parameter)| (name, parameter.clone()))
        .collect();
    if originals.len() != gradients.parameters.len() {
        let expected = format!("{} gradients, one a parameter", originals.len());
        return Err(Error::shape(
            "backward",
            expected,
            gradients.parameters.len(),
        ));
    }
    let mut parameters = Vec::new();
    for (i, (name, original)) in originals.into_iter().enumerate() {
        let error = worst_error(&original, &gradients.parameters[i], step, |values| {
            if let Some((_, parameter)) = layer.parameters_mut().into_iter().nth(i) {
                parameter.overwrite(values)?;
            }
            inner(&dy, &layer.forward(x)?)
        });
        if let Some((_, parameter)) = layer.parameters_mut().into_iter().nth(i) {
            *parameter = original;
        }
        parameters.push((name, error?));
    }
    Ok(GradientCheck { input, parameters })
}

/// The scaled error of `gradient` against the difference quotients of `value` at `at`.
fn worst_error(
    at: &Tensor<f64>,
    gradient: &Tensor<f64>,
    step: f64,
    mut value: impl FnMut(&[f64]) -> Result<f64>,
) -> Result<f64> {
    if gradient.shape() != at.shape() {
        let expected = format!("{:?}", at.shape());
        return Err(Error::shape("gradient", expected, gradient.shape()));
    }
    let mut values = at.to_vec()?;
    let (mut greatest, mut scale) = (0.0f64, 1.0f64);
    for (i, gradient) in gradient.to_vec()?.into_iter().enumerate() {
        let original = values[i];
        values[i] = original + step;
        let up = value(&values)?;
        values[i] = original - step;
        let down = value(&values)?;
        values[i] = original;
        let quotient = (up - down) / (2.0 * step);
        let error = (gradient - quotient).abs();
        greatest = greatest.max(if error.is_nan() { f64::INFINITY } else { error });
        scale = scale.max(quotient.abs());
    }
    Ok(greatest / scale)
}

fn inner(a: &Tensor<f64>, b: &Tensor<f64>) -> Result<f64> {
    Ok(a.to_vec()?
        .iter()
        .zip(b.to_vec()?)
        .map(|(a, b)| a * b)
        .sum())
}
