//! Strips of digits, and the windows on them that the net learns from.

use ndconv::init::Rng;
use ndconv::{Result, Tensor};

use crate::shared::data::Images;

/// The class of a window that no digit is in the middle of.
pub const BETWEEN: usize = 10;
/// Ten digits, and none.
pub const CLASSES: usize = 11;

/// Digits in a row, with gaps between them.
pub struct Strip {
    /// Rows and columns.
    pub size: [usize; 2],
    /// Ink, 0 to 1, row by row.
    pub ink: Vec<f32>,
    /// The first column and the class of every digit.
    pub places: Vec<(usize, usize)>,
    window: usize,
}

fn below(limit: usize, rng: &mut Rng) -> usize {
    ((rng.uniform() * limit as f64) as usize).min(limit.saturating_sub(1))
}

impl Strip {
    /// So many digits at random, one to five columns apart.
    pub fn random(images: &Images, digits: usize, rng: &mut Rng) -> Self {
        let [rows, columns] = images.size;
        let mut places = Vec::new();
        let mut numbers = Vec::new();
        let mut next = columns / 2 + below(3, rng);
        for _ in 0..digits {
            let number = below(images.len(), rng);
            places.push((next, usize::from(images.labels[number])));
            numbers.push(number);
            next += columns + 1 + below(5, rng);
        }
        let width = next + columns / 2;
        let mut ink = vec![0.0; rows * width];
        for (&(at, _), &number) in places.iter().zip(&numbers) {
            for (i, &value) in images.pixels(number).iter().enumerate() {
                let (row, column) = (i / columns, i % columns);
                ink[row * width + at + column] = f32::from(value) / f32::from(images.peak);
            }
        }
        Strip {
            size: [rows, width],
            ink,
            places,
            window: columns,
        }
    }

    /// `(1, 1, rows, columns)`.
    pub fn tensor(&self) -> Result<Tensor<f32>> {
        Tensor::from_vec(&[1, 1, self.size[0], self.size[1]], self.ink.clone())
    }

    /// Positions that a window can stand at.
    pub fn positions(&self) -> usize {
        self.size[1] - self.window + 1
    }

    fn window(&self, at: usize) -> impl Iterator<Item = f32> {
        let rows = self.ink.chunks_exact(self.size[1]);
        rows.flat_map(move |row| row[at..at + self.window].iter().copied())
    }

    /// Every window of the strip: `(positions, 1, rows, columns)`.
    pub fn all_windows(&self) -> Result<Tensor<f32>> {
        let shape = [self.positions(), 1, self.size[0], self.window];
        let ink = (0..self.positions()).flat_map(|at| self.window(at));
        Tensor::from_vec(&shape, ink.collect())
    }

    /// What stands at a window: a digit at most one column off the middle, or none within two.
    fn class(&self, at: usize) -> Option<usize> {
        let distance = |place: &&(usize, usize)| place.0.abs_diff(at);
        let nearest = self.places.iter().min_by_key(distance)?;
        match nearest.0.abs_diff(at) {
            0 | 1 => Some(nearest.1),
            2 => None,
            _ => Some(BETWEEN),
        }
    }
}

/// Windows of random strips with their classes, two digits for each one between.
pub fn batch(images: &Images, count: usize, rng: &mut Rng) -> Result<(Tensor<f32>, Vec<usize>)> {
    let [rows, columns] = images.size;
    let (mut ink, mut classes) = (Vec::new(), Vec::new());
    while classes.len() < count {
        let strip = Strip::random(images, 3, rng);
        let at = match classes.len() % 3 {
            0 => below(strip.positions(), rng),
            _ => strip.places[1].0 + below(3, rng) - 1,
        };
        if let Some(class) = strip.class(at) {
            ink.extend(strip.window(at));
            classes.push(class);
        }
    }
    Ok((Tensor::from_vec(&[count, 1, rows, columns], ink)?, classes))
}
