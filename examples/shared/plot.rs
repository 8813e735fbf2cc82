//! Learning curves as SVG.

use std::error::Error;
use std::path::Path;

pub use plotters::chart::SeriesLabelPosition;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// One diagram: a title, an axis, and a curve with a point an epoch for each name.
pub struct Panel<'a> {
    pub title: &'a str,
    pub axis: &'a str,
    /// Whether the axis is logarithmic.
    pub log: bool,
    /// The corner that the curves leave free.
    pub legend: SeriesLabelPosition,
    pub curves: Vec<(&'a str, Vec<f64>)>,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const SIZE: (u32, u32) = (1040, 440);
const COLOURS: [RGBColor; 3] = [
    RGBColor(0, 90, 181),
    RGBColor(220, 80, 30),
    RGBColor(20, 140, 90),
];

/// Draws the panels side by side into a file.
pub fn write_svg(path: &Path, panels: &[Panel]) -> Result<(), Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        for (panel, area) in panels.iter().zip(root.split_evenly((1, panels.len()))) {
            let (low, high) = bounds(panel);
            if panel.log {
                draw(panel, &area, (low / 1.3..high * 1.3).log_scale())?;
            } else {
                let margin = ((high - low) * 0.05).max(1e-3);
                draw(panel, &area, low - margin..high + margin)?;
            }
        }
        root.present()?;
    }
    ndconv::io::write_atomically(path, svg.as_bytes())?;
    Ok(())
}

/// The values that can be drawn; a run that diverged has gaps, and so has a logarithm of 0.
fn points(panel: &Panel, curve: &[f64]) -> Vec<(f64, f64)> {
    let numbered = curve.iter().enumerate().map(|(i, &y)| ((i + 1) as f64, y));
    numbered
        .filter(|(_, y)| y.is_finite() && y.abs() < 1e30 && (*y > 1e-30 || !panel.log))
        .collect()
}

/// The lowest and the highest value of all curves.
fn bounds(panel: &Panel) -> (f64, f64) {
    let curves = panel.curves.iter();
    let all = curves.flat_map(|(_, curve)| points(panel, curve));
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, y)| {
        (low.min(y), high.max(y))
    });
    if low <= high { (low, high) } else { (0.1, 1.0) }
}

fn draw<Y>(panel: &Panel, area: &Area, y_axis: Y) -> Result<(), Box<dyn Error>>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let curves = panel.curves.iter();
    let epochs = curves.map(|(_, curve)| curve.len()).max().unwrap_or(0);
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption(panel.title, ("sans-serif", 22))
        .x_label_area_size(48)
        .y_label_area_size(70)
        .build_cartesian_2d(1.0..epochs.max(2) as f64, y_axis)?;
    chart
        .configure_mesh()
        .x_desc("epoch")
        .y_desc(panel.axis)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| number(*y))
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 17))
        .max_light_lines(1)
        .draw()?;
    for ((name, curve), colour) in panel.curves.iter().zip(COLOURS.into_iter().cycle()) {
        let line = LineSeries::new(points(panel, curve), colour.stroke_width(2));
        chart
            .draw_series(line.point_size(2))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(panel.legend.clone())
        .label_font(("sans-serif", 16))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// Up to five decimals, without the zeros at the end.
fn number(value: f64) -> String {
    if value.abs() >= 1e5 {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.5}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
