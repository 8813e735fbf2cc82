//! Images as numbers for the net, plain or a little askew.

use ndconv::init::Rng;

use crate::shared::data::Images;

/// How far an image is moved at most: an angle in radians, a factor, a share of a side.
const TURN: f64 = 0.2;
const STRETCH: f64 = 0.12;
const SHIFT: f64 = 0.08;

/// The images as they are, ink being 1.
pub fn plain(images: &Images) -> Vec<f32> {
    let all = (0..images.len()).flat_map(|i| images.pixels(i));
    all.map(|&p| f32::from(p) / f32::from(images.peak))
        .collect()
}

/// The images, each turned, stretched and shifted at random, so that the net never sees the same
/// one twice: a digit stays the same digit, and a small set becomes a large one.
pub fn batch(images: &Images, rng: &mut Rng) -> Vec<f32> {
    let mut x = Vec::with_capacity(images.len() * images.size[0] * images.size[1]);
    for i in 0..images.len() {
        warp(images.pixels(i), images.size, rng, |ink| {
            x.push((ink / f64::from(images.peak)) as f32);
        });
    }
    x
}

/// Reads an image at the place where each pixel came from.
fn warp(pixels: &[u8], [rows, columns]: [usize; 2], rng: &mut Rng, mut emit: impl FnMut(f64)) {
    let mut within = |bound: f64| (2.0 * rng.uniform() - 1.0) * bound;
    let (sin, cos) = within(TURN).sin_cos();
    let stretch = [1.0 + within(STRETCH), 1.0 + within(STRETCH)];
    let sides = [rows as f64, columns as f64];
    let shift = sides.map(|side| within(SHIFT) * side);
    let centre = sides.map(|side| (side - 1.0) / 2.0);
    for r in 0..rows {
        for c in 0..columns {
            let (y, x) = (r as f64 - centre[0], c as f64 - centre[1]);
            let y_from = (cos * y - sin * x) * stretch[0] + centre[0] + shift[0];
            let x_from = (sin * y + cos * x) * stretch[1] + centre[1] + shift[1];
            emit(bilinear(pixels, [rows, columns], y_from, x_from));
        }
    }
}

/// The value between the four pixels around a place; there is no ink outside the image.
fn bilinear(pixels: &[u8], [rows, columns]: [usize; 2], y: f64, x: f64) -> f64 {
    let at = |r: f64, c: f64| {
        let inside = (0.0..rows as f64).contains(&r) && (0.0..columns as f64).contains(&c);
        if inside {
            pixels[r as usize * columns + c as usize].into()
        } else {
            0.0
        }
    };
    let (r, c) = (y.floor(), x.floor());
    let (down, right) = (y - r, x - c);
    let above = at(r, c) * (1.0 - right) + at(r, c + 1.0) * right;
    let below = at(r + 1.0, c) * (1.0 - right) + at(r + 1.0, c + 1.0) * right;
    above * (1.0 - down) + below * down
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::data;

    #[test]
    fn whole_places_are_pixels_and_outside_is_paper() {
        let pixels = [1, 2, 3, 4, 5, 6];
        for (i, &p) in pixels.iter().enumerate() {
            let (y, x) = ((i / 3) as f64, (i % 3) as f64);
            assert_eq!(bilinear(&pixels, [2, 3], y, x), f64::from(p));
        }
        assert_eq!(bilinear(&pixels, [2, 3], 0.5, 1.5), 4.0);
        assert_eq!(bilinear(&pixels, [2, 3], -0.5, 0.0), 0.5);
        assert_eq!(bilinear(&pixels, [2, 3], 0.0, 2.25), 2.25);
        assert_eq!(bilinear(&pixels, [2, 3], -1.0, 7.0), 0.0);
    }

    #[test]
    fn a_seed_gives_one_batch() {
        let images = data::digits().unwrap().select(&[0, 1, 2]);
        let askew = |seed| batch(&images, &mut Rng::new(seed));
        assert_eq!(askew(1), askew(1));
        assert_ne!(askew(1), askew(2));
        assert_eq!(askew(1).len(), plain(&images).len());
        assert!(askew(1).iter().all(|v| (0.0..=1.0).contains(v)));
    }
}
