//! Epochs of training, and tests.

use ndconv::init::Rng;
use ndconv::layer::{Layer, Mode, Sequential};
use ndconv::optim::{Adam, Optimizer};
use ndconv::{Device, Result, Tensor, loss};

use crate::augment;
use crate::shared::data::Images;

/// How well a set of images is read: mean loss, and the share read right.
#[derive(Clone, Copy, Debug)]
pub struct Score {
    pub loss: f64,
    pub accuracy: f64,
}

/// A net that is being trained.
pub struct Trainer {
    pub net: Sequential<f32>,
    device: Device,
    optimizer: Adam<f32>,
    learning_rate: f64,
    epochs: usize,
    batch: usize,
    steps: usize,
    rng: Rng,
}

/// Images a test step; the result does not depend on it.
const TEST_BATCH: usize = 256;
const WEIGHT_DECAY: f64 = 0.02;

impl Trainer {
    pub fn new(
        net: Sequential<f32>,
        device: Device,
        epochs: usize,
        batch: usize,
        learning_rate: f64,
        rng: Rng,
    ) -> Result<Self> {
        Ok(Trainer {
            net,
            device,
            optimizer: Adam::decoupled(learning_rate, WEIGHT_DECAY)?,
            learning_rate,
            epochs,
            batch,
            steps: 0,
            rng,
        })
    }

    pub fn steps_per_epoch(&self, images: &Images) -> usize {
        images.len().div_ceil(self.batch)
    }

    /// Every image once, in random order and each a little askew.
    pub fn epoch(&mut self, images: &Images, mut stepped: impl FnMut()) -> Result<Score> {
        let total = self.epochs * self.steps_per_epoch(images);
        let mut sum = Sum::default();
        for numbers in self.rng.permutation(images.len()).chunks(self.batch) {
            let rate = self.learning_rate * schedule(self.steps, total);
            self.optimizer.set_learning_rate(rate)?;
            let batch = images.select(numbers);
            let x = augment::batch(&batch, &mut self.rng);
            let (x, targets) = self.tensor(&batch, x)?;

            let seed = self.rng.bits();
            self.net.set_mode(Mode::Train { seed });
            let tape = self.net.record(&x)?;
            let (loss, gradient) = loss::cross_entropy(tape.output(), &targets)?;
            let gradients = self.net.parameter_gradients_of(&tape, &gradient)?;
            self.optimizer.step(&mut self.net, &gradients)?;
            sum.add(loss, tape.output(), &targets)?;
            self.steps += 1;
            stepped();
        }
        Ok(sum.mean())
    }

    /// Reads every image as it is.
    pub fn test(&mut self, images: &Images) -> Result<Score> {
        self.net.set_mode(Mode::Eval);
        let mut sum = Sum::default();
        let numbers: Vec<usize> = (0..images.len()).collect();
        for numbers in numbers.chunks(TEST_BATCH) {
            let batch = images.select(numbers);
            let x = augment::plain(&batch);
            let (x, targets) = self.tensor(&batch, x)?;
            let logits = self.net.forward(&x)?;
            let (loss, _) = loss::cross_entropy(&logits, &targets)?;
            sum.add(loss, &logits, &targets)?;
        }
        Ok(sum.mean())
    }

    /// `(batch, 1, rows, columns)` and a class for each.
    fn tensor(&self, batch: &Images, x: Vec<f32>) -> Result<(Tensor<f32>, Vec<usize>)> {
        let [rows, columns] = batch.size;
        let x = Tensor::from_vec(&[batch.len(), 1, rows, columns], x)?.to_device(&self.device)?;
        Ok((x, batch.labels.iter().map(|&l| l.into()).collect()))
    }
}

/// The share of the highest learning rate: a short rise, while Adam's moments are still noise, then
/// half a cosine down to 0.
fn schedule(step: usize, steps: usize) -> f64 {
    let (step, steps) = (step as f64 + 1.0, steps as f64);
    let rise = (step / (0.05 * steps).max(1.0)).min(1.0);
    rise * 0.5 * (1.0 + (std::f64::consts::PI * step / (steps + 1.0)).cos())
}

/// Sums over the images seen so far.
#[derive(Default)]
struct Sum {
    loss: f64,
    right: usize,
    images: usize,
}

impl Sum {
    /// The mean loss of a batch, and its logits `(batch, classes)`.
    fn add(&mut self, loss: f64, logits: &Tensor<f32>, targets: &[usize]) -> Result<()> {
        let classes = logits.shape()[1];
        let rows = logits.to_vec()?;
        let read = rows.chunks_exact(classes).map(|row| {
            let best = (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            best.unwrap_or(0)
        });
        self.right += read
            .zip(targets)
            .filter(|(read, target)| read == *target)
            .count();
        self.loss += loss * targets.len() as f64;
        self.images += targets.len();
        Ok(())
    }

    fn mean(&self) -> Score {
        let images = self.images.max(1) as f64;
        Score {
            loss: self.loss / images,
            accuracy: self.right as f64 / images,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_rises_and_falls() {
        let rates: Vec<f64> = (0..100).map(|step| schedule(step, 100)).collect();
        assert!(rates[0] < 0.25 && rates[5] > 0.98 && rates[99] < 0.001);
        assert!(rates.iter().all(|r| (0.0..=1.0).contains(r)));
        assert!((0.0..=1.0).contains(&schedule(0, 1)));
    }

    #[test]
    fn the_largest_logit_is_the_digit_read() {
        let mut sum = Sum::default();
        let logits = [0.0, 2.0, 1.0, f32::NAN, -1.0, 0.0].to_vec();
        let logits = Tensor::from_vec(&[2, 3], logits).unwrap();
        sum.add(0.5, &logits, &[1, 2]).unwrap();
        let score = sum.mean();
        assert_eq!((score.loss, score.accuracy), (0.5, 0.5));
    }
}
