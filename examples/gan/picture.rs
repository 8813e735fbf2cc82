//! A grid of images as a PNG file.

use std::io::Cursor;
use std::path::Path;

use image::imageops::{FilterType, overlay, resize};
use image::{GrayImage, ImageFormat, Luma};

use crate::shared::cli::Result;

const COLUMNS: usize = 12;
const ROWS: usize = 8;
/// Images in a grid.
pub const COUNT: usize = COLUMNS * ROWS;
/// An image's longer side in the picture, and the gap between two, in pixels.
const SIDE: usize = 72;
const GAP: usize = 8;

/// Draws the first [`COUNT`] images, `size` values from -1 to 1 each, as ink on paper.
pub fn write_png(path: &Path, [rows, columns]: [usize; 2], values: &[f32]) -> Result<()> {
    // enlarged by a smooth filter: in 8x8 hard squares the eye sees the squares, not the digit
    let scaled = |side: usize| (side * SIDE / rows.max(columns)).max(1) as u32;
    let (width, height) = (scaled(columns), scaled(rows));
    let (step_x, step_y) = (
        i64::from(width) + GAP as i64,
        i64::from(height) + GAP as i64,
    );
    let side = |count: usize, step: i64| (count as i64 * step + GAP as i64) as u32;
    let mut picture = GrayImage::from_pixel(side(COLUMNS, step_x), side(ROWS, step_y), Luma([160]));
    for (i, digit) in values.chunks_exact(rows * columns).take(COUNT).enumerate() {
        let grey = digit
            .iter()
            .map(|v| (255.0 * (1.0 - v) / 2.0).round() as u8)
            .collect();
        let Some(small) = GrayImage::from_raw(columns as u32, rows as u32, grey) else {
            continue; // cannot be: the chunk has as many values as the image pixels
        };
        let large = resize(&small, width, height, FilterType::CatmullRom);
        let (x, y) = ((i % COLUMNS) as i64 * step_x, (i / COLUMNS) as i64 * step_y);
        overlay(&mut picture, &large, x + GAP as i64, y + GAP as i64);
    }
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    ndconv::io::write_atomically(path, png.get_ref())?;
    Ok(())
}
