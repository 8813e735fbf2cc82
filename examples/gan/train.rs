//! The two nets and their training.

use ndconv::init::{Init, Rng};
use ndconv::layer::{Conv2d, ConvTranspose2d, Dense, Dropout, Flatten, Layer, Mode, Sequential};
use ndconv::ops::{self, Activation};
use ndconv::optim::{Adam, Optimizer};
use ndconv::{Device, Padding, Tensor, loss};

use crate::shared::cli::Result;
use crate::shared::data::Images;

/// The length of the noise that an image is made from.
const NOISE: usize = 32;
/// The discriminator is told that a written digit is one with this probability alone, or it would
/// grow so sure that the generator could learn nothing from it.
const SMOOTH: f32 = 0.9;
const LEAKY: Activation = Activation::LeakyRelu { slope: 0.2 };

/// `(batch, NOISE, 1, 1)`.
pub fn noise_shape(batch: usize) -> [usize; 4] {
    [batch, NOISE, 1, 1]
}

/// Means over an epoch: two losses, and how likely written and made digits seemed to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    pub discriminator: f64,
    pub generator: f64,
    pub real: f64,
    pub fake: f64,
}

/// A generator and a discriminator in training.
pub struct Gan {
    pub generator: Sequential<f32>,
    pub discriminator: Sequential<f32>,
    optimizers: [Adam<f32>; 2],
    device: Device,
    batch: usize,
    rng: Rng,
}

impl Gan {
    pub fn new(
        [rows, columns]: [usize; 2],
        batch: usize,
        learning_rate: f64,
        device: Device,
        mut rng: Rng,
    ) -> Result<Self> {
        if !rows.is_multiple_of(4) || !columns.is_multiple_of(4) {
            let got = format!("{rows}x{columns}");
            return Err(format!("the nets expect sides that 4 divides, got {got}").into());
        }
        let mut generator = build_generator([rows / 4, columns / 4], &mut rng)?;
        let mut discriminator = build_discriminator([rows / 4, columns / 4], &mut rng)?;
        generator.move_to(&device)?;
        discriminator.move_to(&device)?;
        // the betas of the DCGAN paper: with 0.9 the first moment swings between the two players
        let adam = Adam::new(learning_rate)?.betas([0.5, 0.999])?;
        Ok(Gan {
            generator,
            discriminator,
            optimizers: [adam.clone(), adam],
            device,
            batch,
            rng,
        })
    }

    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        for optimizer in &mut self.optimizers {
            optimizer.set_learning_rate(learning_rate)?;
        }
        Ok(())
    }

    /// Whole batches alone, so that every step weighs the same.
    pub fn steps_per_epoch(&self, images: &Images) -> usize {
        images.len() / self.batch
    }

    /// Every image once, in random order.
    pub fn epoch(&mut self, images: &Images, mut stepped: impl FnMut()) -> Result<Score> {
        let steps = self.steps_per_epoch(images).max(1) as f64;
        let mut mean = Score::default();
        for numbers in self.rng.permutation(images.len()).chunks_exact(self.batch) {
            let score = self.step(&images.select(numbers))?;
            mean.discriminator += score.discriminator / steps;
            mean.generator += score.generator / steps;
            mean.real += score.real / steps;
            mean.fake += score.fake / steps;
            stepped();
        }
        Ok(mean)
    }

    /// One step of the discriminator, then one of the generator on the same made images.
    fn step(&mut self, real: &Images) -> Result<Score> {
        let (batch, seed) = (self.batch, self.rng.bits());
        self.discriminator.set_mode(Mode::Train { seed });
        let noise = noise(batch, &mut self.rng)?.to_device(&self.device)?;
        let made = self.generator.record(&noise)?;

        // written digits first, made ones behind them
        let mut x = pixels(real);
        x.extend(made.output().to_vec()?);
        let [rows, columns] = real.size;
        let x = Tensor::from_vec(&[2 * batch, 1, rows, columns], x)?.to_device(&self.device)?;
        let targets = [vec![SMOOTH; batch], vec![0.0; batch]].concat();
        let judged = self.discriminator.record(&x)?;
        let (discriminator, gradient) =
            loss::binary_cross_entropy(judged.output(), &self.column(targets)?)?;
        let gradients = self
            .discriminator
            .parameter_gradients_of(&judged, &gradient)?;
        let [generator_adam, discriminator_adam] = &mut self.optimizers;
        discriminator_adam.step(&mut self.discriminator, &gradients)?;

        // the generator wants its images taken for written ones; their gradient comes back through
        // the discriminator, whose parameters stay as they are
        let rejudged = self.discriminator.record(made.output())?;
        let ones = Tensor::full(&[batch, 1], 1.0, &self.device)?;
        let (generator, gradient) = loss::binary_cross_entropy(rejudged.output(), &ones)?;
        let gradient = self.discriminator.input_gradient_of(&rejudged, &gradient)?;
        let gradients = self.generator.parameter_gradients_of(&made, &gradient)?;
        generator_adam.step(&mut self.generator, &gradients)?;

        let taken = ops::activate(Activation::Sigmoid, judged.output())?.to_vec()?;
        let mean = |p: &[f32]| p.iter().map(|&p| f64::from(p)).sum::<f64>() / p.len() as f64;
        Ok(Score {
            discriminator,
            generator,
            real: mean(&taken[..batch]),
            fake: mean(&taken[batch..]),
        })
    }

    /// `(values, 1)` on the device.
    fn column(&self, values: Vec<f32>) -> Result<Tensor<f32>> {
        Ok(Tensor::from_vec(&[values.len(), 1], values)?.to_device(&self.device)?)
    }

    /// New images, values from -1 to 1.
    pub fn samples(&mut self, count: usize) -> Result<Vec<f32>> {
        let noise = noise(count, &mut self.rng)?.to_device(&self.device)?;
        Ok(self.generator.forward(&noise)?.to_vec()?)
    }
}

/// From noise to an image: first a window of a quarter of the sides, then twice as large twice.
fn build_generator(quarter: [usize; 2], rng: &mut Rng) -> Result<Sequential<f32>> {
    let double = |inputs, outputs, rng: &mut Rng| {
        ConvTranspose2d::builder(inputs, outputs, [4, 4])
            .stride([2, 2])
            .padding(Padding::Explicit([(1, 1); 2]))
            .init(Init::XavierNormal)
            .build(rng)
    };
    let first = ConvTranspose2d::builder(NOISE, 64, quarter).init(Init::XavierNormal);
    Ok(Sequential::new()
        .then(first.build(rng)?)
        .then(Activation::Relu)
        .then(double(64, 32, rng)?)
        .then(Activation::Relu)
        .then(double(32, 1, rng)?)
        .then(Activation::Tanh))
}

/// From an image to one logit: half as large twice, then a dense layer.
fn build_discriminator([rows, columns]: [usize; 2], rng: &mut Rng) -> Result<Sequential<f32>> {
    let halve = |inputs, outputs, rng: &mut Rng| {
        Conv2d::builder(inputs, outputs, [4, 4])
            .stride([2, 2])
            .padding(Padding::Explicit([(1, 1); 2]))
            .init(Init::KaimingNormal)
            .build(rng)
    };
    Ok(Sequential::new()
        .then(halve(1, 32, rng)?)
        .then(LEAKY)
        .then(halve(32, 64, rng)?)
        .then(LEAKY)
        .then(Flatten)
        .then(Dropout::new(0.3)?)
        .then(Dense::new(64 * rows * columns, 1, rng)?))
}

/// Normal noise, an image's in a row.
fn noise(batch: usize, rng: &mut Rng) -> ndconv::Result<Tensor<f32>> {
    Init::Normal(1.0).tensor(&noise_shape(batch), 1, 1, rng)
}

/// Paper is -1 and ink 1, as the generator's last layer has it.
fn pixels(images: &Images) -> Vec<f32> {
    let all = (0..images.len()).flat_map(|i| images.pixels(i));
    all.map(|&p| 2.0 * f32::from(p) / f32::from(images.peak) - 1.0)
        .collect()
}
