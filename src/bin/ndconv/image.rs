//! PNG images as arrays, and the kernels that have names.

use std::io::Cursor;
use std::path::Path;

use image::{ColorType, DynamicImage, ImageFormat, ImageReader};
use ndarray::{Array2, Array3, s};
use ndconv::signal::kernel;
use ndconv::{Error, Result};

use crate::array::Numbers;
use crate::exit::Failure;

/// An image as `(channels, height, width)`, in the units of its file: 0 to 255 or to 65535.
pub struct Picture {
    pub values: Array3<f64>,
    alpha: bool,
    deep: bool,
}

fn malformed(path: &Path, reason: impl ToString) -> Error {
    Error::Format {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

impl Picture {
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let reader = ImageReader::open(path)
            .map_err(io)?
            .with_guessed_format()
            .map_err(io)?;
        let image = reader.decode().map_err(|e| malformed(path, e))?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let color = image.color();
        let deep = color.bytes_per_pixel() / color.channel_count() > 1;
        let samples: Vec<f64> = match &image {
            DynamicImage::ImageLuma16(i) => i.iter().map(|&v| v.into()).collect(),
            DynamicImage::ImageLumaA16(i) => i.iter().map(|&v| v.into()).collect(),
            DynamicImage::ImageRgb16(i) => i.iter().map(|&v| v.into()).collect(),
            DynamicImage::ImageRgba16(i) => i.iter().map(|&v| v.into()).collect(),
            other => other.as_bytes().iter().map(|&v| v.into()).collect(),
        };
        let channels = usize::from(color.channel_count());
        let interleaved = Array3::from_shape_vec((height, width, channels), samples)
            .map_err(|e| malformed(path, e))?;
        let planes = interleaved.permuted_axes([2, 0, 1]);
        Ok(Picture {
            values: planes.as_standard_layout().into_owned(),
            alpha: color.has_alpha(),
            deep,
        })
    }

    /// The channels that a filter changes: all but transparency.
    pub fn colours(&self) -> usize {
        self.values.dim().0 - usize::from(self.alpha)
    }

    /// This picture with other colours of the same size, as a PNG. Values are rounded and cut off
    /// at the ends of the range.
    pub fn write(&self, colours: &Array3<f64>, path: &Path) -> Result<()> {
        let mut values = self.values.clone();
        values
            .slice_mut(s![..self.colours(), .., ..])
            .assign(colours);
        let (channels, height, width) = values.dim();
        let samples = values.permuted_axes([1, 2, 0]);
        let largest = if self.deep { 65535.0 } else { 255.0 };
        let bytes: Vec<u8> = samples
            .iter()
            .flat_map(|v| {
                let v = v.round().clamp(0.0, largest) as u16; // NaN is black
                let wide = v.to_ne_bytes();
                if self.deep {
                    wide.to_vec()
                } else {
                    vec![v as u8]
                }
            })
            .collect();
        let color = match (channels, self.deep) {
            (1, false) => ColorType::L8,
            (2, false) => ColorType::La8,
            (3, false) => ColorType::Rgb8,
            (_, false) => ColorType::Rgba8,
            (1, true) => ColorType::L16,
            (2, true) => ColorType::La16,
            (3, true) => ColorType::Rgb16,
            (_, true) => ColorType::Rgba16,
        };
        let mut file = Cursor::new(Vec::new());
        let (w, h) = (width as u32, height as u32);
        image::write_buffer_with_format(&mut file, &bytes, w, h, color, ImageFormat::Png)
            .map_err(|e| malformed(path, e))?;
        ndconv::io::write_atomically(path, file.get_ref())
    }
}

/// A kernel for images: one array, or one set of taps for both axes.
pub enum Kernel {
    Taps(Array2<f64>),
    Separable(Vec<f64>),
}

impl Kernel {
    /// `gaussian:SIGMA`, `box:SIZE`, `sobel-x`, `sobel-y`, `laplace`, or an `.npy` file.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let number = |text: &str| -> Result<f64, Failure> {
            let wrong = || Failure::Usage(format!("--kernel {text}: expected a number after ':'"));
            text.split_once(':')
                .and_then(|(_, n)| n.parse().ok())
                .ok_or_else(wrong)
        };
        Ok(match text.split(':').next().unwrap_or_default() {
            "gaussian" => Kernel::Separable(kernel::gaussian(number(text)?)?),
            "box" => {
                let size = number(text)?;
                // checked by `mean`; a fraction or a negative number is 0 there
                let size = if size.fract() == 0.0 {
                    size as usize
                } else {
                    0
                };
                kernel::mean(size)?;
                Kernel::Separable(vec![1.0 / size as f64; size])
            }
            "sobel-x" => Kernel::Taps(kernel::sobel_x()),
            "sobel-y" => Kernel::Taps(kernel::sobel_y()),
            "laplace" => Kernel::Taps(kernel::laplace()),
            _ if text.ends_with(".npy") => Kernel::Taps(from_file(Path::new(text))?),
            _ => {
                return Err(Failure::Usage(format!(
                    "--kernel {text}: expected gaussian:SIGMA, box:SIZE, sobel-x, sobel-y, \
                     laplace or a .npy file"
                )));
            }
        })
    }

    /// Whether the taps cancel, so that the result is a change and has either sign.
    pub fn is_difference(&self) -> bool {
        match self {
            Kernel::Taps(taps) => taps.sum().abs() < 1e-9 * taps.mapv(f64::abs).sum(),
            Kernel::Separable(_) => false,
        }
    }
}

fn from_file(path: &Path) -> Result<Array2<f64>> {
    let taps = match Numbers::read(path)? {
        Numbers::F64(taps) => taps,
        Numbers::F32(taps) => taps.mapv(f64::from),
        _ => return Err(malformed(path, "a kernel for images must be real")),
    };
    let axes = taps.ndim();
    let wrong = |_| {
        malformed(
            path,
            format!("a kernel for images has 2 axes, this one {axes}"),
        )
    };
    taps.into_dimensionality().map_err(wrong)
}
