//! Convolving an image through its spectrum, what goes wrong without padding, and how to undo it.
//!
//! ```text
//! cargo run --release --example image_fft
//! cargo run --release --example image_fft -- photo.png
//! ```
//!
//! A shaken camera is a 2-D convolution. The product of two unpadded spectra is the *circular*
//! convolution: what leaves on one side comes in on the other. The linear one pads both to
//! `mA + mB - 1` first and crops. The circular one in turn has an inverse: exact, which blows the
//! noise up, or regularised (Wiener), which does not. `target/image_fft/sheet.png` has six pictures:
//!
//! ```text
//! scene              shaken (linear, same)     shaken (circular: wraps round)
//! noisy, circular    exact inverse             Wiener inverse
//! ```

use std::error::Error;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use image::{DynamicImage, GrayImage, ImageFormat, Luma};
use ndarray::{Array2, Ix2, Zip, s};
use ndconv::init::Rng;
use ndconv::signal::{Circular, CircularOperation, Convolution, Method, Mode};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Standard deviation of the camera's noise, of a range of 1.
const NOISE: f64 = 0.01;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("image_fft: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let scene = match std::env::args_os().nth(1) {
        Some(path) => read(path.into())?,
        None => scene(360, 480),
    };
    let kernel = shake(27);
    let (rows, columns) = scene.dim();
    println!(
        "scene {rows} x {columns}, kernel {} x {}",
        kernel.nrows(),
        kernel.ncols()
    );

    let same = |method| -> Result<Array2<f64>> {
        let start = Instant::now();
        let convolution = Convolution::new(Mode::Same).method(method);
        let shaken = convolution.convolve(&scene, &kernel)?;
        let time = start.elapsed().as_secs_f64() * 1e3;
        println!("linear, {method:?}: {time:.1} ms");
        Ok(shaken)
    };
    let (direct, linear) = (same(Method::Direct)?, same(Method::Fft)?);
    println!(
        "greatest difference between the two: {:.1e}",
        greatest(&direct, &linear, 0)
    );

    let wrapped = centred(&kernel, rows, columns)?;
    let over = Circular::over(&[0, 1]);
    let circular = over
        .convolve(&scene, &wrapped)?
        .into_dimensionality::<Ix2>()?;
    let reach = kernel.nrows() / 2;
    println!(
        "linear against circular: {:.2} at the edges, {:.1e} further than {reach} pixels inside",
        greatest(&linear, &circular, 0),
        greatest(&linear, &circular, reach)
    );

    let mut rng = Rng::new(0);
    let noisy = circular.mapv(|v| v + NOISE * rng.normal());
    let undo = |inverse: ndconv::Result<ndarray::ArrayD<f64>>| -> Result<Array2<f64>> {
        Ok(over.convolve(&noisy, &inverse?)?.into_dimensionality()?)
    };
    let exact = undo(over.inverse(CircularOperation::Convolve, &wrapped))?;
    let wiener = undo(over.wiener_inverse(CircularOperation::Convolve, &wrapped, 3e-3))?;
    for (name, picture) in [
        ("shaken", &noisy),
        ("exact inverse", &exact),
        ("Wiener", &wiener),
    ] {
        println!(
            "{name:<14} rms distance from the scene {:.4}",
            rms(picture, &scene)
        );
    }

    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let folder = package.unwrap_or_default().join("target/image_fft");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let path = folder.join("sheet.png");
    let sheet = sheet([[&scene, &linear, &circular], [&noisy, &exact, &wiener]]);
    let mut png = Cursor::new(Vec::new());
    DynamicImage::from(sheet).write_to(&mut png, ImageFormat::Png)?;
    ndconv::io::write_atomically(&path, png.get_ref())?;
    println!("wrote {}", path.display());
    Ok(())
}

fn read(path: PathBuf) -> Result<Array2<f64>> {
    let picture = image::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let grey = picture.into_luma8();
    let size = (grey.height() as usize, grey.width() as usize);
    if size.0.min(size.1) < 32 {
        return Err(format!("{}: smaller than 32 pixels", path.display()).into());
    }
    Ok(Array2::from_shape_fn(size, |(i, j)| {
        f64::from(grey.get_pixel(j as u32, i as u32).0[0]) / 255.0
    }))
}

/// A test chart: a sky with a sun, hills, a fence of ever thinner posts, a bright right edge.
fn scene(rows: usize, columns: usize) -> Array2<f64> {
    Array2::from_shape_fn((rows, columns), |(i, j)| {
        let (y, x) = (i as f64 / rows as f64, j as f64 / columns as f64);
        let sun = ((y - 0.25).powi(2) + (1.3 * (x - 0.7)).powi(2)).sqrt();
        let hill = 0.55 + 0.08 * (7.0 * x).sin() + 0.03 * (19.0 * x).cos();
        let posts = (2.0 * std::f64::consts::PI * 6.0 * (0.3 + x) * (0.3 + x)).sin() > 0.3;
        match () {
            () if x > 0.965 => 0.95,
            () if y > 0.72 && y < 0.93 && posts => 0.9,
            () if y > hill => 0.35 - 0.2 * (y - hill),
            () if sun < 0.1 => 1.0,
            () => 0.75 - 0.3 * y,
        }
    })
}

/// A bent path of the given extent, a little out of focus; it sums to 1.
fn shake(size: usize) -> Array2<f64> {
    let middle = size as f64 / 2.0;
    let mut kernel = Array2::zeros((size, size));
    for step in 0..400 {
        let t = f64::from(step) / 400.0;
        let y = middle + 0.35 * size as f64 * (2.2 * t - 1.1).sin();
        let x = middle + 0.4 * size as f64 * (t - 0.5) * (1.0 + t);
        let reach = |i: usize, at: f64| (-0.7 * (i as f64 + 0.5 - at).powi(2)).exp();
        kernel += &Array2::from_shape_fn((size, size), |(i, j)| reach(i, y) * reach(j, x));
    }
    let sum = kernel.sum();
    kernel / sum
}

/// The kernel with its centre at the origin of a picture of this size.
fn centred(kernel: &Array2<f64>, rows: usize, columns: usize) -> Result<Array2<f64>> {
    let (height, width) = kernel.dim();
    if height > rows || width > columns {
        return Err("the kernel is larger than the picture".into());
    }
    let mut wide = Array2::zeros((rows, columns));
    for ((i, j), &v) in kernel.indexed_iter() {
        let (i, j) = (i + rows - height / 2, j + columns - width / 2);
        wide[[i % rows, j % columns]] = v;
    }
    Ok(wide)
}

/// The greatest difference further than `margin` from the edges.
fn greatest(a: &Array2<f64>, b: &Array2<f64>, margin: usize) -> f64 {
    let (rows, columns) = a.dim();
    let inside = s![margin..rows - margin, margin..columns - margin];
    Zip::from(a.slice(inside))
        .and(b.slice(inside))
        .fold(0.0, |worst: f64, a, b| worst.max((a - b).abs()))
}

fn rms(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    ((a - b).mapv(|d| d * d).sum() / a.len() as f64).sqrt()
}

/// The pictures side by side with a white gap, grey levels 0 to 1.
fn sheet(pictures: [[&Array2<f64>; 3]; 2]) -> GrayImage {
    const GAP: usize = 8;
    let (rows, columns) = pictures[0][0].dim();
    let (height, width) = (2 * rows + 3 * GAP, 3 * columns + 4 * GAP);
    let mut sheet = GrayImage::from_pixel(width as u32, height as u32, Luma([255]));
    for (r, line) in pictures.iter().enumerate() {
        for (c, picture) in line.iter().enumerate() {
            let (top, left) = (GAP + r * (rows + GAP), GAP + c * (columns + GAP));
            for ((i, j), v) in picture.indexed_iter() {
                let level = (v.clamp(0.0, 1.0) * 255.0).round() as u8;
                sheet.put_pixel((left + j) as u32, (top + i) as u32, Luma([level]));
            }
        }
    }
    sheet
}
