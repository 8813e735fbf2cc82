//! Diagrams of curves as SVG, side by side.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};

pub use plotters::chart::SeriesLabelPosition;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One diagram.
pub struct Panel<'a> {
    pub title: &'a str,
    pub axes: [&'a str; 2],
    /// Which axes are logarithmic.
    pub log: [bool; 2],
    /// The corner that the curves leave free.
    pub legend: SeriesLabelPosition,
    /// Points in order, drawn as a line or, with a size, as dots.
    pub curves: Vec<(&'a str, Vec<(f64, f64)>, Option<u32>)>,
}

const SIZE: (u32, u32) = (1120, 480);
const COLOURS: [RGBColor; 6] = [
    RGBColor(40, 40, 40),
    RGBColor(220, 80, 30),
    RGBColor(0, 90, 181),
    RGBColor(20, 140, 90),
    RGBColor(150, 60, 160),
    RGBColor(190, 140, 0),
];

/// `target/NAME` in the package, made if need be.
pub fn folder(name: &str) -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let folder = package.unwrap_or_default().join("target").join(name);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

/// Draws the panels side by side into a file, whole or not at all.
pub fn write_svg(path: &Path, panels: &[Panel]) -> Result<()> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        for (panel, area) in panels.iter().zip(root.split_evenly((1, panels.len()))) {
            let [x, y] = [0, 1].map(|axis| bounds(panel, axis));
            match panel.log {
                [false, false] => draw(panel, &area, x, y)?,
                [false, true] => draw(panel, &area, x, y.log_scale())?,
                [true, false] => draw(panel, &area, x.log_scale(), y)?,
                [true, true] => draw(panel, &area, x.log_scale(), y.log_scale())?,
            }
        }
        root.present()?;
    }
    ndconv::io::write_atomically(path, svg.as_bytes())?;
    println!("wrote {}", path.display());
    Ok(())
}

fn drawable(panel: &Panel, curve: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let fits = |v: f64, log: bool| v.is_finite() && (v > 0.0 || !log);
    let points = curve.iter().copied();
    points
        .filter(|&(x, y)| fits(x, panel.log[0]) && fits(y, panel.log[1]))
        .collect()
}

/// What the curves cover of an axis, with some room above and below for the vertical one.
fn bounds(panel: &Panel, axis: usize) -> std::ops::Range<f64> {
    let curves = panel.curves.iter();
    let all = curves.flat_map(|(_, curve, _)| drawable(panel, curve));
    let values = all.map(|(x, y)| if axis == 0 { x } else { y });
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    match (low < high, panel.log[axis]) {
        (false, _) => 0.5..1.5,
        (true, true) if axis == 0 => low / 1.1..high * 1.1,
        (true, true) => low / 1.5..high * 5.0, // room for the legend
        (true, false) if axis == 0 => low..high,
        (true, false) => low - 0.05 * (high - low)..high + 0.08 * (high - low),
    }
}

fn draw<X, Y>(panel: &Panel, area: &DrawingArea<SVGBackend, Shift>, x: X, y: Y) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption(panel.title, ("sans-serif", 20))
        .x_label_area_size(48)
        .y_label_area_size(74)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(panel.axes[0])
        .y_desc(panel.axes[1])
        .x_label_formatter(&|x| number(*x))
        .y_label_formatter(&|y| number(*y))
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 16))
        .max_light_lines(1)
        .draw()?;
    for ((name, curve, dots), colour) in panel.curves.iter().zip(COLOURS.into_iter().cycle()) {
        let points = drawable(panel, curve);
        match *dots {
            Some(size) => {
                let dots = points
                    .into_iter()
                    .map(|p| Circle::new(p, size, colour.filled()));
                chart
                    .draw_series(dots)?
                    .label(*name)
                    .legend(move |(x, y)| Circle::new((x + 11, y), size, colour.filled()));
            }
            None => {
                chart
                    .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                    .label(*name)
                    .legend(move |(x, y)| {
                        PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3))
                    });
            }
        }
    }
    chart
        .configure_series_labels()
        .position(panel.legend.clone())
        .label_font(("sans-serif", 15))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// Short: three digits, or a power of ten.
fn number(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e5).contains(&value.abs()) {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
