//! Plots of sweeps.

use plotters::prelude::*;

/// A curve with error bars.
pub(crate) struct Curve {
    /// For the legend.
    pub(crate) name: String,
    /// x, y, and the interval of y; all above 0.
    pub(crate) points: Vec<(f64, f64, [f64; 2])>,
}

/// What a plot says beside its curves.
pub(crate) struct Labels {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    /// A vertical line, and its interval.
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
        // Nothing to show still has axes.
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
        .build_cartesian_2d((x0..x1).log_scale(), (y0..y1).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(&labels.x)
        .y_desc(&labels.y)
        .x_label_formatter(&|v| format!("{v:.1e}"))
        .y_label_formatter(&|v| format!("{v:.0e}"))
        .light_line_style(BLACK.mix(0.06))
        .draw()?;
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
            .draw_series(LineSeries::new(curve.points.iter().map(|p| (p.0, p.1)), colour.stroke_width(2)))?
            .label(&curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(curve.points.iter().map(|p| Circle::new((p.0, p.1), 3, colour.filled())))?;
        let bars = curve.points.iter().map(|p| PathElement::new([(p.0, p.2[0].max(y0)), (p.0, p.2[1])], colour));
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
