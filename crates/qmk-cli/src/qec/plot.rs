//! Plots of sweeps as SVG: curves with error bars on logarithmic axes.

use plotters::prelude::*;

/// A curve with error bars.
pub(crate) struct Curve {
    /// Name in the legend.
    pub(crate) name: String,
    /// x, y, and the interval of y; all above 0.
    pub(crate) points: Vec<(f64, f64, [f64; 2])>,
}

/// Title, axis labels and threshold of a plot.
pub(crate) struct Labels {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    /// Position of the vertical line that marks a threshold, and its interval.
    pub(crate) threshold: Option<(f64, [f64; 2])>,
}

/// Distinguishable by readers who do not see all colours (Okabe & Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A plot with two logarithmic axes, as SVG.
pub(crate) fn log_log(labels: &Labels, curves: &[Curve]) -> Result<String, String> {
    let mut text = String::new();
    draw(labels, curves, &mut text).map_err(|e| format!("plot: {e}"))?;
    Ok(text)
}

fn draw(labels: &Labels, curves: &[Curve], text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let all = || curves.iter().flat_map(|c| &c.points);
    let span = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(a, b), v| (a.min(v), b.max(v)));
        // A plot of no points still has axes.
        if low < high { (low / 1.1, high * 1.1) } else { (high.max(1e-6) / 2.0, high.max(1e-6) * 2.0) }
    };
    let (x0, x1) = span(&mut all().map(|p| p.0));
    let (y0, y1) = span(&mut all().flat_map(|p| p.2.into_iter().chain([p.1])).filter(|y| *y > 0.0));
    let root = SVGBackend::with_string(text, (860, 600)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&labels.title, ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(Logarithmic(x0, x1), Logarithmic(y0, y1))?;
    let mark = |v: &f64| format!("{v:.0e}");
    chart
        .configure_mesh()
        .x_desc(&labels.x)
        .y_desc(&labels.y)
        .x_label_formatter(&mark)
        .y_label_formatter(&mark)
        .bold_line_style(BLACK.mix(0.12))
        .draw()?;
    let at_least = |x: f64, y: f64| (x, y.max(y0));
    if let Some((at, [low, high])) = labels.threshold {
        let band = [low, high].map(|p| p.clamp(x0, x1));
        chart.draw_series([Rectangle::new([(band[0], y0), (band[1], y1)], BLACK.mix(0.12).filled())])?;
        let line = LineSeries::new([(at, y0), (at, y1)], BLACK.mix(0.6));
        chart
            .draw_series(line)?
            .label(format!("threshold {at:.3e}"))
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], BLACK.mix(0.6)));
    }
    for (i, curve) in curves.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(curve.points.iter().map(|p| at_least(p.0, p.1)), colour.stroke_width(2)))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(curve.points.iter().map(|p| Circle::new(at_least(p.0, p.1), 3, colour.filled())))?;
        let bars =
            curve.points.iter().map(|p| PathElement::new([at_least(p.0, p.2[0]), at_least(p.0, p.2[1])], colour));
        chart.draw_series(bars)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.4))
        .draw()?;
    root.present()?;
    Ok(())
}

/// A logarithmic axis between two positive values.
struct Logarithmic(f64, f64);

impl Ranged for Logarithmic {
    type FormatOption = plotters::coord::ranged1d::DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value / self.0).ln() / (self.1 / self.0).ln();
        from + (share * (to - from) as f64).round() as i32
    }

    fn key_points<H: plotters::coord::ranged1d::KeyPointHint>(&self, hint: H) -> Vec<f64> {
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => marks(self.0, self.1),
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.0..self.1
    }
}

/// Marks of a logarithmic axis: powers of ten, and where these are few, their doubles and fivefolds or all multiples.
fn marks(low: f64, high: f64) -> Vec<f64> {
    let factors: &[f64] = match (high / low).log10() {
        d if d < 1.0 => &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
        d if d < 4.0 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let decades = low.log10().floor() as i32..=high.log10().floor() as i32;
    let all = decades.flat_map(|d| factors.iter().map(move |f| f * 10f64.powi(d)));
    all.filter(|m| (low..=high).contains(m)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_axis_has_marks() {
        let rounded = |low, high| super::marks(low, high).iter().map(|m| format!("{m:.0e}")).collect::<Vec<_>>();
        assert_eq!(rounded(3.6e-3, 9.9e-3), ["4e-3", "5e-3", "6e-3", "7e-3", "8e-3", "9e-3"]);
        assert_eq!(rounded(4e-3, 0.3), ["5e-3", "1e-2", "2e-2", "5e-2", "1e-1", "2e-1"]);
        assert_eq!(rounded(2e-7, 1e-2), ["1e-6", "1e-5", "1e-4", "1e-3", "1e-2"]);
    }
}
