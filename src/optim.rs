//! Optimisers: SGD, Adam and AdamW.
//!
//! For `f16` and `bf16` parameters each optimiser keeps an `f32` master copy, so that updates
//! smaller than a rounding step add up instead of being lost.

use crate::element::Element;
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::ops::{AdamStep, SgdStep, adam_step, sgd_step};
use crate::tensor::Tensor;

/// Updates a layer's parameters from their gradients.
///
/// ```
/// use ndconv::optim::{Adam, Optimizer, Sgd};
/// let mut optimisers: Vec<Box<dyn Optimizer<f32>>> =
///     vec![Box::new(Sgd::new(0.1)?.momentum(0.9)?), Box::new(Adam::new(0.1)?)];
/// for optimiser in &mut optimisers {
///     optimiser.set_learning_rate(optimiser.learning_rate() / 2.0)?;
///     assert_eq!(optimiser.learning_rate(), 0.05);
/// }
/// # Ok::<(), ndconv::Error>(())
/// ```
pub trait Optimizer<T: Element> {
    /// One step; `gradients` are in the order of [`Layer::parameters`].
    ///
    /// # Errors
    /// [`Error::Shape`] when the gradients are not the layer's, or when the layer is not the one
    /// of the earlier steps. The layer is unchanged then.
    fn step(&mut self, layer: &mut dyn Layer<T>, gradients: &[Tensor<T>]) -> Result<()>;

    /// The factor of every update.
    fn learning_rate(&self) -> f64;

    /// Changes the factor of every update, as a schedule does.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that is negative or not finite.
    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()>;
}

/// Stochastic gradient descent with momentum, as PyTorch defines it: `g += weight_decay * w`,
/// `v = momentum * v + g`, `w -= learning_rate * v`, or with Nesterov
/// `w -= learning_rate * (g + momentum * v)`.
///
/// ```
/// use ndconv::{Tensor, init::Rng, layer::{Dense, Layer}, optim::{Optimizer, Sgd}};
/// let mut dense = Dense::<f32>::new(2, 1, &mut Rng::new(0))?;
/// let before = dense.weight().to_vec()?;
/// let gradients = [Tensor::from_vec(&[1, 2], vec![1.0, 0.0])?, Tensor::from_vec(&[1], vec![0.0])?];
/// Sgd::new(0.5)?.step(&mut dense, &gradients)?;
/// assert_eq!(dense.weight().to_vec()?, [before[0] - 0.5, before[1]]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sgd<T: Element> {
    step: SgdStep,
    state: Vec<SgdState<T>>,
}

#[derive(Clone, Debug)]
struct SgdState<T: Element> {
    velocity: Tensor<T::Acc>,
    master: Option<Tensor<T::Acc>>,
}

impl<T: Element> Sgd<T> {
    /// Without momentum or weight decay.
    ///
    /// # Errors
    /// [`Error::Argument`] for a learning rate that is negative or not finite.
    pub fn new(learning_rate: f64) -> Result<Self> {
        Ok(Sgd {
            step: SgdStep {
                learning_rate: non_negative("learning rate", learning_rate)?,
                momentum: 0.0,
                nesterov: false,
                weight_decay: 0.0,
            },
            state: Vec::new(),
        })
    }

    /// With this momentum, 0.9 being usual.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that is negative or not finite.
    pub fn momentum(mut self, momentum: f64) -> Result<Self> {
        self.step.momentum = non_negative("momentum", momentum)?;
        Ok(self)
    }

    /// With Nesterov's look-ahead.
    pub fn nesterov(mut self) -> Self {
        self.step.nesterov = true;
        self
    }

    /// With L2 regularisation.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that is negative or not finite.
    pub fn weight_decay(mut self, weight_decay: f64) -> Result<Self> {
        self.step.weight_decay = non_negative("weight decay", weight_decay)?;
        Ok(self)
    }
}

impl<T: Element> Optimizer<T> for Sgd<T> {
    fn step(&mut self, layer: &mut dyn Layer<T>, gradients: &[Tensor<T>]) -> Result<()> {
        prepare(layer, gradients, &mut self.state, |w| {
            Ok(SgdState {
                velocity: Tensor::zeros(w.shape(), &w.device())?,
                master: master(w)?,
            })
        })?;
        check_state(layer, self.state.iter().map(|s| &s.velocity))?;
        let parameters = layer.parameters_mut();
        for (((_, w), g), s) in parameters.into_iter().zip(gradients).zip(&mut self.state) {
            sgd_step(self.step, g, &mut s.velocity, s.master.as_mut(), w)?;
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.step.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        self.step.learning_rate = non_negative("learning rate", learning_rate)?;
        Ok(())
    }
}

/// Adam (Kingma and Ba, 2015) and AdamW (Loshchilov and Hutter, 2019).
///
/// ```
/// use ndconv::{Tensor, init::Rng, layer::Dense, optim::{Adam, Optimizer}};
/// let mut dense = Dense::<f32>::new(1, 1, &mut Rng::new(0))?;
/// let before = dense.weight().to_vec()?[0];
/// let gradients = [Tensor::from_vec(&[1, 1], vec![5.0])?, Tensor::from_vec(&[1], vec![0.0])?];
/// Adam::new(0.1)?.step(&mut dense, &gradients)?;
/// // the first step has the size of the learning rate, whatever the gradient
/// assert!((dense.weight().to_vec()?[0] - (before - 0.1)).abs() < 1e-6);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "AdamW")]
pub struct Adam<T: Element> {
    learning_rate: f64,
    betas: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
    decoupled: bool,
    steps: u64,
    state: Vec<AdamState<T>>,
}

#[derive(Clone, Debug)]
struct AdamState<T: Element> {
    moments: [Tensor<T::Acc>; 2],
    master: Option<Tensor<T::Acc>>,
}

impl<T: Element> Adam<T> {
    /// With betas 0.9 and 0.999, epsilon 1e-8 and no weight decay.
    ///
    /// # Errors
    /// [`Error::Argument`] for a learning rate that is negative or not finite.
    pub fn new(learning_rate: f64) -> Result<Self> {
        Ok(Adam {
            learning_rate: non_negative("learning rate", learning_rate)?,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            steps: 0,
            state: Vec::new(),
        })
    }

    /// AdamW: weight decay acts on the weight itself instead of the gradient.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that is negative or not finite.
    pub fn decoupled(learning_rate: f64, weight_decay: f64) -> Result<Self> {
        let mut adam = Adam::new(learning_rate)?.weight_decay(weight_decay)?;
        adam.decoupled = true;
        Ok(adam)
    }

    /// The decay of the two moments.
    ///
    /// # Errors
    /// [`Error::Argument`] unless both are in [0, 1).
    pub fn betas(mut self, betas: [f64; 2]) -> Result<Self> {
        if let Some(beta) = betas.iter().find(|b| !(0.0..1.0).contains(*b)) {
            return Err(Error::argument("beta", "0 <= beta < 1", beta));
        }
        self.betas = betas;
        Ok(self)
    }

    /// What is added to the root of the second moment.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that is negative or not finite.
    pub fn epsilon(mut self, epsilon: f64) -> Result<Self> {
        self.epsilon = non_negative("epsilon", epsilon)?;
        Ok(self)
    }

    /// With L2 regularisation, which goes through the moments as any gradient does.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that is negative or not finite.
    pub fn weight_decay(mut self, weight_decay: f64) -> Result<Self> {
        self.weight_decay = non_negative("weight decay", weight_decay)?;
        Ok(self)
    }
}

impl<T: Element> Optimizer<T> for Adam<T> {
    fn step(&mut self, layer: &mut dyn Layer<T>, gradients: &[Tensor<T>]) -> Result<()> {
        prepare(layer, gradients, &mut self.state, |w| {
            let zeros = || Tensor::zeros(w.shape(), &w.device());
            Ok(AdamState {
                moments: [zeros()?, zeros()?],
                master: master(w)?,
            })
        })?;
        check_state(layer, self.state.iter().map(|s| &s.moments[0]))?;
        self.steps += 1;
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let step = AdamStep {
            learning_rate: self.learning_rate,
            betas: self.betas,
            correction: self.betas.map(|beta| 1.0 - beta.powi(steps)),
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            decoupled: self.decoupled,
        };
        let parameters = layer.parameters_mut();
        for (((_, w), g), s) in parameters.into_iter().zip(gradients).zip(&mut self.state) {
            adam_step(step, g, &mut s.moments, s.master.as_mut(), w)?;
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        self.learning_rate = non_negative("learning rate", learning_rate)?;
        Ok(())
    }
}

/// Checks the gradients, and makes the state at the first step.
fn prepare<T: Element, S>(
    layer: &dyn Layer<T>,
    gradients: &[Tensor<T>],
    state: &mut Vec<S>,
    new: impl Fn(&Tensor<T>) -> Result<S>,
) -> Result<()> {
    let parameters = layer.parameters();
    if parameters.len() != gradients.len() {
        let expected = format!("one for each of the {} parameters", parameters.len());
        return Err(Error::shape("gradients", expected, gradients.len()));
    }
    for ((name, w), g) in parameters.iter().zip(gradients) {
        if w.shape() != g.shape() || w.layout() != g.layout() {
            let expected = format!("{:?} in {} order", w.shape(), w.layout());
            let got = format!("{:?} in {} order", g.shape(), g.layout());
            return Err(Error::shape(format!("gradient of {name}"), expected, got));
        }
    }
    if state.is_empty() {
        *state = parameters
            .iter()
            .map(|(_, w)| new(w))
            .collect::<Result<_>>()?;
    }
    Ok(())
}

/// Checks that the optimiser's state belongs to this layer.
fn check_state<'a, T: Element>(
    layer: &dyn Layer<T>,
    state: impl ExactSizeIterator<Item = &'a Tensor<T::Acc>>,
) -> Result<()> {
    let parameters = layer.parameters();
    if parameters.len() != state.len() {
        let expected = format!(
            "the layer of the earlier steps, with {} parameters",
            state.len()
        );
        return Err(Error::shape("optimiser", expected, parameters.len()));
    }
    for ((name, w), s) in parameters.iter().zip(state) {
        if w.shape() != s.shape() {
            let expected = format!("{:?}, as in the earlier steps", s.shape());
            return Err(Error::shape(name.clone(), expected, w.shape()));
        }
    }
    Ok(())
}

/// The wider copy of a parameter whose type is too short to take small steps.
fn master<T: Element>(w: &Tensor<T>) -> Result<Option<Tensor<T::Acc>>> {
    if T::DTYPE == <T::Acc as Element>::DTYPE {
        return Ok(None);
    }
    w.cast().map(Some)
}

fn non_negative(name: &'static str, value: f64) -> Result<f64> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(Error::argument(
            name,
            "a finite number of at least 0",
            value,
        ))
    }
}
