//! Layers one after another, the tape that a training step keeps, and the summary table.

use std::fmt;

use super::pool::gradient;
use super::{Gradients, Layer, Mode};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::init::mix;
use crate::ops::Activation;
use crate::shape::Layout;
use crate::tensor::Tensor;

/// Layers one after another.
///
/// Parameters are named by the layer's number, as in PyTorch: `0.weight`, `0.bias`, `2.weight`.
///
/// ```
/// use ndconv::{Tensor, init::Rng, layer::{Conv2d, Dense, Flatten, Layer, MaxPool2d, Sequential}};
/// use ndconv::ops::Activation;
/// let rng = &mut Rng::new(0);
/// let net = Sequential::<f32>::new()
///     .then(Conv2d::builder(1, 8, [3, 3]).build(rng)?)
///     .then(Activation::Relu)
///     .then(MaxPool2d::new([2, 2]))
///     .then(Flatten)
///     .then(Dense::new(8 * 3 * 3, 10, rng)?);
/// let x = Tensor::from_vec(&[2, 1, 8, 8], vec![0.1; 128])?;
/// let tape = net.record(&x)?; // keeps what the backward pass needs
/// assert_eq!(tape.output().shape(), [2, 10]);
/// let gradients = net.parameter_gradients_of(&tape, tape.output())?;
/// assert_eq!(gradients.len(), net.parameters().len());
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Sequential<T> {
    layers: Vec<Box<dyn Layer<T>>>,
}

/// What a forward pass leaves for the backward pass: the input of every layer, and the output.
///
/// ```
/// use ndconv::{Tensor, layer::{Flatten, Sequential}};
/// let net = Sequential::<f32>::new().then(Flatten);
/// let tape = net.record(&Tensor::from_vec(&[1, 2, 2], vec![1.0; 4])?)?;
/// assert_eq!(tape.output().shape(), [1, 4]);
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tape<T> {
    inputs: Vec<Tensor<T>>,
    output: Tensor<T>,
}

impl<T> Tape<T> {
    /// What the last layer gave.
    pub fn output(&self) -> &Tensor<T> {
        &self.output
    }
}

impl<T: Element> Sequential<T> {
    /// No layers yet: what comes in goes out.
    pub fn new() -> Self {
        Sequential { layers: Vec::new() }
    }

    /// With one more layer at the end.
    pub fn then(mut self, layer: impl Layer<T> + 'static) -> Self {
        self.push(Box::new(layer));
        self
    }

    /// Adds a layer at the end.
    pub fn push(&mut self, layer: Box<dyn Layer<T>>) {
        self.layers.push(layer);
    }

    /// The layers in order.
    pub fn layers(&self) -> &[Box<dyn Layer<T>>] {
        &self.layers
    }

    /// The forward pass, keeping every layer's input.
    ///
    /// # Errors
    /// What a layer reports.
    pub fn record(&self, x: &Tensor<T>) -> Result<Tape<T>> {
        let mut inputs = Vec::with_capacity(self.layers.len());
        let mut output = x.clone();
        while let Some(layer) = self.layers.get(inputs.len()) {
            // max(x, 0) is positive where x is, and that is all that its gradient asks: so the
            // backward pass of the ReLU can do with its output
            let fused = self.activation_after(inputs.len());
            let fused = fused.filter(|&activation| activation == Activation::Relu);
            let next = match fused {
                Some(activation) => layer.forward_activated(&output, activation)?,
                None => layer.forward(&output)?,
            };
            inputs.push(std::mem::replace(&mut output, next));
            if fused.is_some() {
                inputs.push(output.clone());
            }
        }
        Ok(Tape { inputs, output })
    }

    /// The activation that layer `i + 1` is.
    fn activation_after(&self, i: usize) -> Option<Activation> {
        self.layers.get(i + 1)?.as_activation()
    }

    /// The backward pass of a recorded forward pass.
    ///
    /// # Errors
    /// What a layer reports; [`Error::Argument`] for another net's tape.
    pub fn backward_of(&self, tape: &Tape<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        let (input, parameters) = self.walk_back(tape, dy, 0)?;
        Ok(Gradients { input, parameters })
    }

    /// [`Sequential::backward_of`] without the gradient in the net's input: what a training step
    /// needs.
    ///
    /// # Errors
    /// As [`Sequential::backward_of`].
    pub fn parameter_gradients_of(&self, tape: &Tape<T>, dy: &Tensor<T>) -> Result<Vec<Tensor<T>>> {
        let Some(first) = self
            .layers
            .iter()
            .position(|layer| !layer.parameters().is_empty())
        else {
            return Ok(Vec::new());
        };
        let (dy, rest) = self.walk_back(tape, dy, first + 1)?;
        let mut gradients = self.layers[first].parameter_gradients(&tape.inputs[first], &dy)?;
        gradients.extend(rest);
        Ok(gradients)
    }

    /// [`Sequential::backward_of`] without the gradients in the parameters, for a net that is not
    /// trained itself.
    ///
    /// # Errors
    /// As [`Sequential::backward_of`].
    pub fn input_gradient_of(&self, tape: &Tape<T>, dy: &Tensor<T>) -> Result<Tensor<T>> {
        self.check_tape(tape)?;
        let mut dy = dy.clone();
        for (layer, x) in self.layers.iter().zip(&tape.inputs).rev() {
            dy = layer.input_gradient(x, &dy)?;
        }
        Ok(dy)
    }

    /// From the last layer back to number `stop`: the gradient in its input, and the parameter
    /// gradients of those layers in order.
    fn walk_back(
        &self,
        tape: &Tape<T>,
        dy: &Tensor<T>,
        stop: usize,
    ) -> Result<(Tensor<T>, Vec<Tensor<T>>)> {
        self.check_tape(tape)?;
        let mut dy = dy.clone();
        let mut parameters = Vec::new(); // last layer first
        for (layer, x) in self.layers.iter().zip(&tape.inputs).skip(stop).rev() {
            let gradients = layer.backward(x, &dy)?;
            parameters.push(gradients.parameters);
            dy = gradients.input;
        }
        Ok((dy, parameters.into_iter().rev().flatten().collect()))
    }

    fn check_tape(&self, tape: &Tape<T>) -> Result<()> {
        if tape.inputs.len() != self.layers.len() {
            let expected = format!("the tape of a net of {} layers", self.layers.len());
            return Err(Error::argument("tape", expected, tape.inputs.len()));
        }
        Ok(())
    }

    /// A table of the layers for an input of this shape, in memory order.
    ///
    /// # Errors
    /// The first layer that does not take what comes to it.
    ///
    /// ```
    /// use ndconv::{Layout, init::Rng, layer::{Conv1d, Sequential}};
    /// let conv = Conv1d::builder(1, 32, [11]).build(&mut Rng::new(0))?;
    /// let summary = Sequential::<f32>::new().then(conv).summary(&[1, 1, 9000], Layout::ChannelsFirst)?;
    /// assert_eq!(summary.rows[0].output_shape, [1, 32, 8990]);
    /// assert_eq!(summary.parameters(), 32 * 11 + 32);
    /// println!("{summary}");
    /// # Ok::<(), ndconv::Error>(())
    /// ```
    pub fn summary(&self, x: &[usize], layout: Layout) -> Result<Summary> {
        let mut shape = x.to_vec();
        let mut rows = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            shape = layer.output_shape(&shape, layout)?;
            rows.push(SummaryRow {
                layer: layer.describe(),
                output_shape: shape.clone(),
                parameters: layer.parameters().iter().map(|(_, p)| p.len()).sum(),
            });
        }
        Ok(Summary {
            input_shape: x.to_vec(),
            rows,
        })
    }
}

impl<T: Element> Layer<T> for Sequential<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let (mut y, mut done) = (x.clone(), 0);
        while let Some(layer) = self.layers.get(done) {
            (y, done) = match self.activation_after(done) {
                Some(activation) => (layer.forward_activated(&y, activation)?, done + 2),
                None => (layer.forward(&y)?, done + 1),
            };
        }
        Ok(y)
    }

    /// Runs the forward pass again: [`Sequential::record`] and [`Sequential::backward_of`] save
    /// that.
    fn backward(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Gradients<T>> {
        if self.layers.is_empty() {
            return Ok(gradient(dy.clone()));
        }
        self.backward_of(&self.record(x)?, dy)
    }

    fn input_gradient(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Tensor<T>> {
        self.input_gradient_of(&self.record(x)?, dy)
    }

    fn parameter_gradients(&self, x: &Tensor<T>, dy: &Tensor<T>) -> Result<Vec<Tensor<T>>> {
        self.parameter_gradients_of(&self.record(x)?, dy)
    }

    fn output_shape(&self, x: &[usize], layout: Layout) -> Result<Vec<usize>> {
        let mut shape = x.to_vec();
        for layer in &self.layers {
            shape = layer.output_shape(&shape, layout)?;
        }
        Ok(shape)
    }

    fn describe(&self) -> String {
        format!("Sequential({} layers)", self.layers.len())
    }

    fn parameters(&self) -> Vec<(String, &Tensor<T>)> {
        let layers = self.layers.iter().enumerate();
        layers
            .flat_map(|(i, layer)| numbered(i, layer.parameters()))
            .collect()
    }

    fn parameters_mut(&mut self) -> Vec<(String, &mut Tensor<T>)> {
        let layers = self.layers.iter_mut().enumerate();
        layers
            .flat_map(|(i, layer)| numbered(i, layer.parameters_mut()))
            .collect()
    }

    fn inner(&self) -> &[Box<dyn Layer<T>>] {
        &self.layers
    }

    fn inner_mut(&mut self) -> &mut [Box<dyn Layer<T>>] {
        &mut self.layers
    }

    /// Every layer gets its own seed, or two dropouts would drop the same elements.
    fn set_mode(&mut self, mode: Mode) {
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.set_mode(match mode {
                Mode::Eval => Mode::Eval,
                Mode::Train { seed } => Mode::Train {
                    seed: mix(seed, i as u64),
                },
            });
        }
    }
}

fn numbered<P>(i: usize, parameters: Vec<(String, P)>) -> impl Iterator<Item = (String, P)> {
    parameters
        .into_iter()
        .map(move |(name, p)| (format!("{i}.{name}"), p))
}

/// What [`Sequential::summary`] tells; `Display` prints it as a table.
///
/// ```
/// use ndconv::{Layout, layer::{Flatten, Sequential}};
/// let summary = Sequential::<f32>::new().then(Flatten).summary(&[1, 2, 3], Layout::ChannelsFirst)?;
/// assert!(summary.to_string().contains("Flatten"));
/// # Ok::<(), ndconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The shape that goes in.
    pub input_shape: Vec<usize>,
    /// One row a layer.
    pub rows: Vec<SummaryRow>,
}

/// One layer of a [`Summary`].
///
/// ```
/// use ndconv::layer::SummaryRow;
/// let row = SummaryRow { layer: "Flatten".into(), output_shape: vec![1, 6], parameters: 0 };
/// assert_eq!(row.output_shape[1], 6);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryRow {
    /// The layer and its options.
    pub layer: String,
    /// The shape that comes out, in memory order.
    pub output_shape: Vec<usize>,
    /// How many numbers the layer learns.
    pub parameters: usize,
}

impl Summary {
    /// How many numbers the net learns.
    pub fn parameters(&self) -> usize {
        self.rows.iter().map(|r| r.parameters).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["layer", "output shape", "parameters"].map(String::from);
        let input = [
            "input".to_string(),
            format!("{:?}", self.input_shape),
            String::new(),
        ];
        let layers = self.rows.iter().map(|r| {
            let parameters = thousands(r.parameters);
            [r.layer.clone(), format!("{:?}", r.output_shape), parameters]
        });
        let total = [
            "total".to_string(),
            String::new(),
            thousands(self.parameters()),
        ];
        let rows: Vec<[String; 3]> = [head, input]
            .into_iter()
            .chain(layers)
            .chain([total])
            .collect();
        let width = [0, 1, 2].map(|c| rows.iter().map(|r| r[c].len()).max().unwrap_or(0));
        let rule = "-".repeat(width.iter().sum::<usize>() + 4);
        for (i, [layer, shape, parameters]) in rows.iter().enumerate() {
            if i == 1 || i + 1 == rows.len() {
                writeln!(f, "{rule}")?;
            }
            let [a, b, c] = width;
            writeln!(f, "{layer:<a$}  {shape:<b$}  {parameters:>c$}")?;
        }
        Ok(())
    }
}

/// A number with commas between groups of three digits.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
