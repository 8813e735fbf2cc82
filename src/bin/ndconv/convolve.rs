//! `ndconv convolve` and `ndconv correlate`: arrays and images.

use std::path::{Path, PathBuf};

use ndarray::{Array3, ArrayD, Axis, s};
use ndarray_npy::WritableElement;
use ndconv::signal::{Align, Boundary, Convolution, Method, Mode, Scalar};
use serde_json::json;

use crate::array::{self, Numbers};
use crate::exit::{Failure, Outcome};
use crate::image::{Kernel, Picture};
use crate::output::Output;
use crate::progress;

/// Convolve two arrays, or an image with a kernel; the second operand is reversed.
#[derive(clap::Args)]
#[command(after_help = "\
Arrays are .npy files of real, complex or whole numbers (computed as f64). Images are PNG files,
filtered as scipy.ndimage does: same size, reflected at the edges; a kernel whose taps cancel
(sobel-x, laplace) gives the size of the change.

Exit codes: 0 done, 2 a file or an argument is wrong.

Examples:
  ndconv convolve a.npy b.npy --mode same --align scipy -o c.npy
  ndconv convolve rows.npy taps.npy --axes 1 --method direct -o out.npy
  ndconv convolve --image photo.png --kernel gaussian:2.5 -o blurred.png
  ndconv convolve --image photo.png --kernel sobel-x -o edges.png")]
pub struct Convolve {
    #[command(flatten)]
    args: Args,
}

/// Correlate two arrays, or an image with a kernel; the second operand is conjugated.
#[derive(clap::Args)]
#[command(after_help = "\
See `ndconv convolve --help` for the files.

Exit codes: 0 done, 2 a file or an argument is wrong.

Examples:
  ndconv correlate a.npy b.npy --mode valid -o c.npy
  ndconv correlate --image photo.png --kernel template.npy -o match.npy")]
pub struct Correlate {
    #[command(flatten)]
    args: Args,
}

#[derive(clap::Args)]
struct Args {
    /// The first operand.
    #[arg(required_unless_present = "image", conflicts_with = "image")]
    a: Option<PathBuf>,
    /// The second operand; with fewer axes than the first it belongs to its last ones.
    #[arg(required_unless_present = "image")]
    b: Option<PathBuf>,
    /// A PNG image as the first operand.
    #[arg(long, value_name = "PNG", requires = "kernel")]
    image: Option<PathBuf>,
    /// gaussian:SIGMA, box:SIZE, sobel-x, sobel-y, laplace or a .npy file of 2 axes.
    #[arg(long, requires = "image")]
    kernel: Option<String>,
    /// Where to write: a .npy file, or for an image a .png file.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How much of the result to keep: full, same, valid [default: full, of an image same].
    #[arg(long)]
    mode: Option<Mode>,
    /// Whose alignment: numpy, scipy, scipy2d, ndimage, matlab, torch, causal [default: scipy, of
    /// an image ndimage].
    #[arg(long)]
    align: Option<Align>,
    /// auto, direct, fft, overlap-add.
    #[arg(long, default_value = "auto")]
    method: Method,
    /// Beyond the edges: constant, reflect, mirror, nearest, wrap [default: constant, of an image
    /// reflect].
    #[arg(long)]
    boundary: Option<String>,
    /// The value of --boundary constant.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    cval: f64,
    /// The axes to convolve, counted from 0; the others are batch axes [default: those of the
    /// second operand].
    #[arg(long, value_delimiter = ',')]
    axes: Option<Vec<usize>>,
    /// ndimage's shift of the kernel, one number or one per axis.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    origin: Vec<isize>,
    /// Print what was chosen and what came out as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy)]
enum Op {
    Convolve,
    Correlate,
}

impl Convolve {
    pub fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        self.args.run(Op::Convolve, out)
    }
}

impl Correlate {
    pub fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        self.args.run(Op::Correlate, out)
    }
}

impl Args {
    fn run(self, op: Op, out: &mut Output) -> Result<Outcome, Failure> {
        let report = match (&self.image, &self.kernel, &self.a, &self.b) {
            (Some(image), Some(kernel), ..) => self.filter(op, image, kernel)?,
            (_, _, Some(a), Some(b)) => self.arrays(op, a, b)?,
            _ => return Err(Failure::Usage("two arrays, or --image and --kernel".into())),
        };
        if self.json {
            out.json(&json!({
                "output": self.output.display().to_string(),
                "shape": report.shape,
                "method": report.method,
                "why": report.why,
            }))?;
        } else {
            let Report { shape, method, .. } = report;
            out.line(&format!("{}: {shape:?} by {method}", self.output.display()))?;
        }
        Ok(Outcome::Done)
    }

    fn convolution(&self, mode: Mode, align: Align, beyond: &str) -> Result<Convolution, Failure> {
        let boundary = match self.boundary.as_deref().unwrap_or(beyond) {
            "constant" => Boundary::Constant(self.cval),
            "reflect" => Boundary::Reflect,
            "mirror" => Boundary::Mirror,
            "nearest" => Boundary::Nearest,
            "wrap" => Boundary::Wrap,
            other => {
                return Err(Failure::Usage(format!(
                    "--boundary {other}: expected constant, reflect, mirror, nearest or wrap"
                )));
            }
        };
        Ok(Convolution::new(self.mode.unwrap_or(mode))
            .align(self.align.unwrap_or(align))
            .boundary(boundary)
            .method(self.method)
            .origin(&self.origin))
    }

    fn arrays(&self, op: Op, a: &Path, b: &Path) -> Result<Report, Failure> {
        let (a, b) = (Numbers::read(a)?, Numbers::read(b)?);
        let a = a.like(&b);
        let b = b.like(&a);
        let mut convolution = self.convolution(Mode::Full, Align::Scipy, "constant")?;
        if let Some(axes) = &self.axes {
            convolution = convolution.axes(axes);
        }
        match (a, b) {
            (Numbers::F32(a), Numbers::F32(b)) => self.compute(op, &convolution, &a, &b),
            (Numbers::F64(a), Numbers::F64(b)) => self.compute(op, &convolution, &a, &b),
            (Numbers::C64(a), Numbers::C64(b)) => self.compute(op, &convolution, &a, &b),
            (Numbers::C128(a), Numbers::C128(b)) => self.compute(op, &convolution, &a, &b),
            _ => Err(Failure::Usage("the operands have no common type".into())),
        }
    }

    fn compute<S: Scalar + WritableElement>(
        &self,
        op: Op,
        convolution: &Convolution,
        a: &ArrayD<S>,
        b: &ArrayD<S>,
    ) -> Result<Report, Failure> {
        let (z, mut report) = self.apply(op, convolution, a, b)?;
        report.shape = z.shape().to_vec();
        array::write(&self.output, &z)?;
        Ok(report)
    }

    fn apply<S: Scalar>(
        &self,
        op: Op,
        convolution: &Convolution,
        a: &ArrayD<S>,
        b: &ArrayD<S>,
    ) -> Result<(ArrayD<S>, Report), Failure> {
        let choice = convolution.choose_method(a, b)?;
        let method = match self.method {
            Method::Auto => choice.method,
            method => method,
        };
        let what = format!("{:?} * {:?} by {method}", a.shape(), b.shape());
        let z = progress::during(what, || match op {
            Op::Convolve => convolution.convolve(a, b),
            Op::Correlate => convolution.correlate(a, b),
        })?;
        let report = Report {
            shape: Vec::new(),
            method: method.to_string(),
            why: choice.to_string(),
        };
        Ok((z, report))
    }

    fn filter(&self, op: Op, image: &Path, kernel: &str) -> Result<Report, Failure> {
        let (picture, kernel) = (Picture::read(image)?, Kernel::parse(kernel)?);
        if self.axes.is_some() {
            return Err(Failure::Usage(
                "--axes is for arrays: an image has its own".into(),
            ));
        }
        let colours = picture
            .values
            .slice(s![..picture.colours(), .., ..])
            .to_owned()
            .into_dyn();
        let convolution = self.convolution(Mode::Same, Align::Ndimage, "reflect")?;
        let convolution = convolution.axes(&[1, 2]);
        let (z, mut report) = match &kernel {
            Kernel::Taps(taps) => {
                let taps = taps.clone().insert_axis(Axis(0)).into_dyn();
                self.apply(op, &convolution, &colours, &taps)?
            }
            Kernel::Separable(taps) => {
                let taps = ndarray::Array1::from(taps.clone());
                let row = taps
                    .clone()
                    .insert_axis(Axis(0))
                    .insert_axis(Axis(0))
                    .into_dyn();
                let column = taps.insert_axis(Axis(0)).insert_axis(Axis(2)).into_dyn();
                let (z, _) = self.apply(op, &convolution, &colours, &row)?;
                self.apply(op, &convolution, &z, &column)?
            }
        };
        report.shape = z.shape().to_vec();
        let extension = self
            .output
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "npy" => array::write(&self.output, &z)?,
            "png" => self.write_image(&picture, z, &kernel)?,
            _ => {
                return Err(Failure::Usage(format!(
                    "{}: an image is written as .png, its values as .npy",
                    self.output.display()
                )));
            }
        }
        Ok(report)
    }

    fn write_image(
        &self,
        picture: &Picture,
        z: ArrayD<f64>,
        kernel: &Kernel,
    ) -> Result<(), Failure> {
        let (_, height, width) = picture.values.dim();
        if z.shape()[1..] != [height, width] {
            let what = "a PNG result has the image's size: use --mode same, or write a .npy file";
            return Err(Failure::Usage(what.into()));
        }
        let z = if kernel.is_difference() {
            z.mapv(f64::abs)
        } else {
            z
        };
        let wrong = |e| Failure::Usage(format!("the result is no image: {e}"));
        let z: Array3<f64> = z.into_dimensionality().map_err(wrong)?;
        Ok(picture.write(&z, &self.output)?)
    }
}

/// What was done.
struct Report {
    shape: Vec<usize>,
    method: String,
    why: String,
}
