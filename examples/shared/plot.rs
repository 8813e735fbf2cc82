//! Learning curves as SVG.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

/// One diagram: a title, an axis, and a curve with a point an epoch for each name.
pub struct Panel<'a> {
    pub title: &'a str,
    pub axis: &'a str,
    /// Whether the axis is logarithmic.
    pub log: bool,
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
            draw(panel, &area)?;
        }
        root.present()?;
    }
    ndconv::io::write_atomically(path, svg.as_bytes())?;
    Ok(())
}

fn draw(panel: &Panel, area: &Area) -> Result<(), Box<dyn Error>> {
    // plotting the exponents spares a second coordinate type for the logarithmic axis
    let place = |y: f64| if panel.log { y.log10() } else { y };
    let points = |curve: &[f64]| -> Vec<(f64, f64)> {
        let numbered = curve.iter().enumerate();
        let placed = numbered.map(|(i, &y)| ((i + 1) as f64, place(y)));
        placed.filter(|(_, y)| y.is_finite()).collect() // a run that diverged has gaps
    };
    let all: Vec<f64> = panel
        .curves
        .iter()
        .flat_map(|(_, c)| points(c))
        .map(|p| p.1)
        .collect();
    let low = all.iter().copied().fold(f64::INFINITY, f64::min);
    let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let margin = ((high - low) * 0.05).max(1e-3);
    let epochs = panel.curves.iter().map(|(_, c)| c.len()).max().unwrap_or(0);

    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption(panel.title, ("sans-serif", 22))
        .x_label_area_size(48)
        .y_label_area_size(70)
        .build_cartesian_2d(1.0..epochs.max(2) as f64, low - margin..high + margin)?;
    let digits = |v: f64| {
        if v.abs() < 0.1 {
            format!("{v:.4}")
        } else {
            format!("{v:.2}")
        }
    };
    chart
        .configure_mesh()
        .x_desc("epoch")
        .y_desc(panel.axis)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|&y| {
            if panel.log {
                digits(10f64.powf(y))
            } else {
                digits(y)
            }
        })
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 17))
        .light_line_style(WHITE)
        .draw()?;
    for ((name, curve), colour) in panel.curves.iter().zip(COLOURS.into_iter().cycle()) {
        chart
            .draw_series(LineSeries::new(points(curve), colour.stroke_width(2)).point_size(2))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .label_font(("sans-serif", 16))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}
