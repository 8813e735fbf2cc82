//! The strip and its heat map as one PNG file.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};

use crate::shared::cli::Result;
use crate::shared::data::Images;
use crate::strip::{BETWEEN, Strip};

/// Pixels of a column of the strip, and of a row of the map.
const CELL: usize = 10;
const ROW: usize = 32;
/// Room for the digits that name the rows, and around everything.
const LABEL: usize = 40;
const MARGIN: usize = 12;

/// Draws the strip, below it a row a digit with the chance of that digit at every position of the
/// window's middle, and a mark around the digits that are there.
pub fn write_png(path: &Path, strip: &Strip, chances: &[f32], images: &Images) -> Result<()> {
    let [rows, columns] = strip.size;
    let top = MARGIN + rows * CELL + MARGIN;
    let width = LABEL + columns * CELL + 2 * MARGIN;
    let height = top + BETWEEN * ROW + MARGIN;
    let mut picture = RgbImage::from_pixel(width as u32, height as u32, Rgb([255; 3]));
    let left = MARGIN + LABEL;

    let mut fill = |x: usize, y: usize, w: usize, h: usize, colour: Rgb<u8>| {
        for (x, y) in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            if x < width && y < height {
                picture.put_pixel(x as u32, y as u32, colour);
            }
        }
    };
    for (i, ink) in strip.ink.iter().enumerate() {
        let (row, column) = (i / columns, i % columns);
        fill(
            left + column * CELL,
            MARGIN + row * CELL,
            CELL,
            CELL,
            grey(*ink),
        );
    }
    for class in 0..BETWEEN {
        let y = top + class * ROW;
        for (i, ink) in mean(images, class).into_iter().enumerate() {
            let [_, side] = images.size;
            fill(MARGIN + i % side * 3, y + 3 + i / side * 3, 3, 3, grey(ink));
        }
        let positions = strip.positions();
        // a window is drawn where its middle column is
        let shift = (columns - positions) / 2;
        fill(left, y, columns * CELL, ROW - 1, heat(0.0));
        for position in 0..positions {
            let x = left + (position + shift) * CELL;
            fill(
                x,
                y,
                CELL,
                ROW - 1,
                heat(chances[class * positions + position]),
            );
        }
        for &(at, _) in strip.places.iter().filter(|(_, label)| *label == class) {
            let (x, w) = (left + (at + shift - 1) * CELL, 3 * CELL);
            let mark = Rgb([30, 110, 200]);
            fill(x, y, w, 2, mark);
            fill(x, y + ROW - 3, w, 2, mark);
            fill(x, y, 2, ROW - 1, mark);
            fill(x + w - 2, y, 2, ROW - 1, mark);
        }
    }
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, ImageFormat::Png)?;
    ndconv::io::write_atomically(path, &png.into_inner())?;
    Ok(())
}

fn grey(ink: f32) -> Rgb<u8> {
    Rgb([(255.0 * (1.0 - ink.clamp(0.0, 1.0))) as u8; 3])
}

/// From a pale ground to dark red.
fn heat(chance: f32) -> Rgb<u8> {
    let chance = chance.clamp(0.0, 1.0);
    let between = |from: f32, to: f32| (from + (to - from) * chance) as u8;
    Rgb([
        between(246.0, 150.0),
        between(244.0, 10.0),
        between(238.0, 30.0),
    ])
}

/// What a digit looks like on average: the name of its row.
fn mean(images: &Images, class: usize) -> Vec<f32> {
    let mut sum = vec![0.0; images.size[0] * images.size[1]];
    let numbers = (0..images.len()).filter(|&i| usize::from(images.labels[i]) == class);
    let mut count = 0.0f32;
    for number in numbers {
        count += 1.0;
        for (s, &v) in sum.iter_mut().zip(images.pixels(number)) {
            *s += f32::from(v) / f32::from(images.peak);
        }
    }
    sum.iter().map(|s| s / count.max(1.0)).collect()
}
