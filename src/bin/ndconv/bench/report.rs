//! The report: one page that needs nothing else, with a roofline plot and the table.

use std::fmt::Write as _;

use super::measure::LayerPass;
use super::{Bench, Measured};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1a1c20;--soft:#667;--line:#d5d8de;--paper:#fff;\
--forward:#2463c9;--dgrad:#c2571a;--wgrad:#1f8a5b}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ec;--soft:#9aa;--line:#3a3e46;--paper:#16181c;\
--forward:#7aa7f5;--dgrad:#f09a5f;--wgrad:#5fc998}}\
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:70rem;\
margin:2rem auto;padding:0 1rem}h1{font-size:1.4rem}p{color:var(--soft)}\
svg{width:100%;height:auto}svg text{fill:var(--soft);font-size:12px}\
.grid{stroke:var(--line)}.roof{stroke:var(--ink);stroke-width:1.5;fill:none}\
.forward{fill:var(--forward)}.dgrad{fill:var(--dgrad)}.wgrad{fill:var(--wgrad)}\
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;\
width:100%}th,td{padding:.2rem .6rem;border-bottom:1px solid var(--line);text-align:right;\
white-space:nowrap}th:nth-child(-n+5),td:nth-child(-n+5){text-align:left}";

/// The page.
pub fn page(bench: &Bench) -> String {
    let (names, rows) = bench.table();
    let title = format!("ndconv {} on {}", env!("CARGO_PKG_VERSION"), bench.device);
    let mut table = String::from("<thead><tr>");
    for name in names {
        let _ = write!(table, "<th>{}</th>", escape(name));
    }
    table += "</tr></thead><tbody>\n";
    for (cells, row) in rows.iter().zip(&bench.rows) {
        let _ = write!(
            table,
            "<tr class=\"row\" data-layer=\"{}\">",
            escape(&row.layer)
        );
        for cell in cells {
            let _ = write!(table, "<td>{}</td>", escape(cell));
        }
        table += "</tr>\n";
    }
    table += "</tbody>";
    let mut layers: Vec<&str> = bench.rows.iter().map(|row| &row.layer[..]).collect();
    layers.dedup();
    let ceilings = format!("Ceilings measured here: {}.", bench.ceilings.describe());
    let peer = bench.peer.as_deref().map_or(String::new(), |peer| {
        format!(" Peer: {peer}; a speed-up above 1 is in favour of ndconv.")
    });
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head>\n\
         <body data-layers=\"{layers}\" data-rows=\"{rows}\">\n<h1>{title}</h1>\n<p>{ceilings}{peer} \
         Times are medians; a multiplication and an addition count apart, padding counts as work, \
         operands and result count once in bytes.</p>\n{plot}\n\
         <div class=\"scroll\"><table>{table}</table></div>\n</body></html>\n",
        title = escape(&title),
        layers = layers.len(),
        rows = rows.len(),
        ceilings = escape(&ceilings),
        peer = escape(&peer),
        plot = plot(bench),
    )
}

/// Text inside an element or an attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 44.0;

/// A logarithmic axis from `low` to `high`, powers of ten, over a range of the picture.
struct Scale {
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let logs = values.filter(|v| v.is_finite() && *v > 0.0).map(f64::log10);
        let low = logs.clone().fold(f64::INFINITY, f64::min);
        let high = logs.fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = match low.is_finite() {
            true => (low.floor() as i32, high.ceil() as i32),
            false => (0, 1),
        };
        let high = high.max(low + 1);
        Scale {
            low,
            high,
            from,
            to,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        let part = ((value.log10() - low) / (high - low)).clamp(0.0, 1.0);
        self.from + part * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.low..=self.high).map(|power| 10f64.powi(power))
    }
}

/// GFLOP/s over operations per byte, under the roofs of the element types.
fn plot(bench: &Bench) -> String {
    let roofs: Vec<_> = bench
        .ceilings
        .matrix
        .iter()
        .map(|(d, rate)| (*d, rate / 1e9))
        .collect();
    let rates = bench.rows.iter().map(Measured::gflops);
    let y = Scale::over(
        rates.chain(roofs.iter().map(|(_, r)| *r)),
        HEIGHT - BOTTOM,
        TOP,
    );
    let ridge = |rate: f64| bench.ceilings.copy.map(|copy| rate * 1e9 / copy);
    let ridges = roofs.iter().filter_map(|(_, rate)| ridge(*rate));
    let x = bench.rows.iter().map(Measured::intensity).chain(ridges);
    let x = Scale::over(x, LEFT, WIDTH - RIGHT);

    let mut svg = format!(
        "<svg id=\"roofline\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Roofline: GFLOP/s over operations per byte\">\n"
    );
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    for tick in x.ticks() {
        let at = x.at(tick);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>",
            bottom + 16.0
        );
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            LEFT - 8.0,
            at + 4.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">operations per byte</text>\
         <text x=\"8\" y=\"16\">GFLOP/s</text>",
        HEIGHT - 8.0
    );
    for (number, (dtype, rate)) in roofs.iter().enumerate() {
        let label = right - 130.0 * number as f64; // side by side: the roofs can be close
        // the slope where memory is the bound, the flat part where arithmetic is
        let mut points = String::new();
        if let (Some(copy), Some(ridge)) = (bench.ceilings.copy, ridge(*rate)) {
            // the slope enters the picture at its left or at its lower edge
            let begin = 10f64
                .powi(x.low)
                .max(10f64.powi(y.low) * 1e9 / copy)
                .min(ridge);
            let _ = write!(
                points,
                "{:.1},{:.1} ",
                x.at(begin),
                y.at(begin * copy / 1e9)
            );
            let _ = write!(points, "{:.1},{:.1} ", x.at(ridge), y.at(*rate));
        } else {
            let _ = write!(points, "{LEFT},{:.1} ", y.at(*rate));
        }
        let _ = writeln!(
            svg,
            "<polyline class=\"roof\" points=\"{points}{right},{:.1}\"/>\
             <text x=\"{label}\" y=\"{:.1}\" text-anchor=\"end\">{dtype} {rate:.0} GFLOP/s</text>",
            y.at(*rate),
            y.at(*rate) - 6.0
        );
    }
    for row in &bench.rows {
        let (cx, cy, pass) = (x.at(row.intensity()), y.at(row.gflops()), row.pass.name());
        let label = format!(
            "{} {pass} {} {}: {:.2} GFLOP/s at {:.1} per byte",
            row.layer,
            row.dtype,
            row.layout,
            row.gflops(),
            row.intensity()
        );
        let _ = writeln!(
            svg,
            "<circle class=\"{pass}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\" fill-opacity=\"0.75\">\
             <title>{}</title></circle>",
            escape(&label)
        );
    }
    let passes = [LayerPass::Forward, LayerPass::Dgrad, LayerPass::Wgrad];
    for (number, pass) in passes.into_iter().map(LayerPass::name).enumerate() {
        let at = LEFT + 90.0 + 90.0 * number as f64;
        let _ = writeln!(
            svg,
            "<rect class=\"{pass}\" x=\"{at}\" y=\"6\" width=\"10\" height=\"10\"/>\
             <text x=\"{}\" y=\"16\">{pass}</text>",
            at + 16.0
        );
    }
    svg + "</svg>"
}
