//! Two panels: what a round costs in all, and what a heavy fence costs beside other threads.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::combinators::LogCoord;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::break_even::Model;
use crate::measure::Measured;
use crate::text::rounded;

const SIZE: (u32, u32) = (1060, 480);
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(45, 45, 45);
const GRID: RGBColor = RGBColor(230, 230, 230);
// Blue and orange, which people who cannot distinguish red and green can distinguish.
const ASYMMETRIC: RGBColor = RGBColor(0, 90, 170);
const SYMMETRIC: RGBColor = RGBColor(200, 85, 0);
const OTHER: RGBColor = RGBColor(130, 130, 130);
// Dark enough to stand out from both.
const BIASED: RGBColor = RGBColor(20, 20, 20);

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<LogCoord<f64>, LogCoord<f64>>>;

/// Another machine, as it was measured there.
#[derive(Debug, PartialEq)]
pub(crate) struct Other {
    name: String,
    model: Model,
}

impl Other {
    /// `NAME:LIGHT,FULL,HEAVY`: a round with `light_fence` and one with a full fence; a heavy fence, including what
    /// the interrupted threads lose. Nanoseconds.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, numbers) = text.split_once(':')?;
        let numbers: Vec<f64> =
            numbers.split(',').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [light, full, heavy] = numbers[..] else { return None };
        Some(Other {
            name: name.to_owned(),
            model: Model { light, full, heavy, instead: full - light },
        })
    }
}

pub(crate) fn draw(measured: &Measured, others: &[Other], note: &str, file: &Path) -> Result {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    // Opaque: it is read on dark pages as well.
    area.fill(&WHITE)?;
    let (panels, foot) = area.split_vertically(SIZE.1 - 34);
    let (left, right) = panels.split_horizontally(600);
    break_even(measured, others, &left)?;
    scale(measured, &right)?;
    const LINES: &str = "Lines on the left: the model. Blue: solid with Asymmetric, dashed with light_fence. Grey: \
                         with light_fence. The line of the bias, the right side and all dots: measured.";
    for (text, y) in [(LINES, 1), (note, 16)] {
        foot.draw(&Text::new(text.to_owned(), (22, y), (FONT, 14).into_font().color(&INK)))?;
    }
    area.present()?;
    Ok(())
}

fn break_even(measured: &Measured, others: &[Other], area: &Area<'_>) -> Result {
    let model = measured.model;
    let title = match model.crossing() {
        Some(rounds) => {
            format!(
                "Asymmetric is cheaper from {} light fences for each heavy one",
                rounded(rounds)
            )
        }
        None => "The light fence is no cheaper than a full one here".to_owned(),
    };
    let lowest = 10f64.powf(model.light.log10().floor());
    let mut chart = panel(
        area,
        &title,
        "light fences for each heavy one",
        "ns for a round of the reader, its share of the other side included",
        1.0..1e6,
        10.0,
        lowest..1e5,
    )?;
    if let Some(rounds) = model.crossing() {
        let line = [(rounds, lowest), (rounds, model.symmetric(rounds))];
        chart.draw_series(DashedLineSeries::new(line, 4, 4, INK.stroke_width(1)))?;
        label(
            &chart,
            &rounded(rounds),
            (rounds * 1.15, lowest * 1.15),
            INK,
            HPos::Left,
            VPos::Bottom,
        )?;
    }
    // The model of each pair, and its measured points.
    let xs = || (0..=120).map(|step| 10f64.powf(f64::from(step) / 20.0));
    let points = || measured.points.iter().map(|point| (point.rounds as f64, point));
    let symmetric: Vec<_> = points().map(|(x, point)| (x, point.symmetric)).collect();
    let asymmetric: Vec<_> = points().map(|(x, point)| (x, point.asymmetric)).collect();
    let biased: Vec<_> = points().map(|(x, point)| (x, point.biased)).collect();
    chart.draw_series(LineSeries::new(
        xs().map(|x| (x, model.symmetric(x))),
        SYMMETRIC.stroke_width(2),
    ))?;
    chart.draw_series(LineSeries::new(
        xs().map(|x| (x, model.asymmetric(x))),
        ASYMMETRIC.stroke_width(2),
    ))?;
    // The check that `light_fence` has and `Asymmetric` has not.
    let dynamic = Model { light: measured.dynamic, ..model };
    chart.draw_series(DashedLineSeries::new(
        xs().map(|x| (x, dynamic.asymmetric(x))),
        6,
        4,
        ASYMMETRIC.stroke_width(2),
    ))?;
    for (step, other) in (1..).zip(others) {
        let line = xs().map(|x| (x, other.model.asymmetric(x)));
        chart.draw_series(LineSeries::new(line, OTHER.stroke_width(1)))?;
        let line = xs().map(|x| (x, other.model.symmetric(x)));
        chart.draw_series(LineSeries::new(line, OTHER.stroke_width(1)))?;
        let crossing = other.model.crossing().map_or("never".to_owned(), rounded);
        let text = format!("grey: {}, from {crossing}", other.name);
        let at = (1.3, lowest * 1.15 * 1.9f64.powi(step - 1));
        label(&chart, &text, at, OTHER, HPos::Left, VPos::Bottom)?;
    }
    // A bias has no model: it is like one pair or the other, by how busy the rare side is.
    chart.draw_series(LineSeries::new(biased.clone(), BIASED.stroke_width(1)))?;
    for (points, color) in [(symmetric, SYMMETRIC), (asymmetric, ASYMMETRIC)] {
        chart.draw_series(points.into_iter().map(|at| Circle::new(at, 4, color.filled())))?;
    }
    chart.draw_series(biased.iter().map(|&at| Circle::new(at, 3, BIASED.filled())))?;
    let bias = "with a bias";
    label(&chart, bias, (8e4, model.symmetric(1e6) * 3.3), BIASED, HPos::Left, VPos::Center)?;
    let (full, both) = ("fence(SeqCst) on both sides", "light fence here, heavy fence there");
    label(&chart, full, (1.3, model.symmetric(1e6) * 0.4), SYMMETRIC, HPos::Left, VPos::Center)?;
    label(&chart, both, (40.0, model.asymmetric(25.0)), ASYMMETRIC, HPos::Left, VPos::Bottom)?;
    let at = (3e5, dynamic.asymmetric(1e6) * 2.6);
    label(&chart, "light_fence", at, ASYMMETRIC, HPos::Right, VPos::Bottom)?;
    let at = (9e5, model.asymmetric(1e6) * 0.6);
    label(&chart, "Asymmetric", at, ASYMMETRIC, HPos::Right, VPos::Top)
}

fn scale(measured: &Measured, area: &Area<'_>) -> Result {
    let lowest = 10f64.powf(measured.model.light.log10().floor());
    let mut chart = panel(
        area,
        "A light fence does not feel other threads",
        "other threads of the process",
        "ns",
        1.0..64.0,
        2.0,
        lowest..1e5,
    )?;
    for run in [true, false] {
        let beside = || measured.scale.iter().filter(move |scale| scale.run == run);
        let heavy: Vec<_> = beside().map(|scale| (scale.threads as f64, scale.heavy)).collect();
        let light: Vec<_> = beside().map(|scale| (scale.threads as f64, scale.light)).collect();
        let last = *heavy.last().ok_or("nothing was measured")?;
        for line in [&light, &heavy] {
            chart.draw_series(LineSeries::new(line.clone(), ASYMMETRIC.stroke_width(2)))?;
        }
        let dot = |at| Circle::new(at, 4, if run { ASYMMETRIC.filled() } else { WHITE.filled() });
        let rim = |at| Circle::new(at, 4, ASYMMETRIC.stroke_width(2));
        chart.draw_series(light.iter().chain(&heavy).map(|&at| dot(at)))?;
        chart.draw_series(light.iter().chain(&heavy).map(|&at| rim(at)))?;
        let (what, at) = if run {
            ("heavy fence, the others run", (last.0 * 1.2, last.1))
        } else {
            ("heavy fence, the others sleep", (1.1, last.1 * 1.9))
        };
        label(&chart, what, at, ASYMMETRIC, HPos::Left, VPos::Center)?;
        if !run {
            let at = (1.1, light[0].1 * 1.9);
            label(
                &chart,
                "a round with a light fence, run or sleep",
                at,
                ASYMMETRIC,
                HPos::Left,
                VPos::Center,
            )?;
        }
    }
    Ok(())
}

fn panel<'a>(
    area: &Area<'a>,
    title: &str,
    x: &str,
    y: &str,
    xs: Range<f64>,
    base: f64,
    ys: Range<f64>,
) -> Result<Chart<'a>> {
    // The title has a line of its own, above every label.
    let (head, area) = area.split_vertically(36);
    let bold = (FONT, 17).into_font().style(FontStyle::Bold).color(&INK);
    head.draw(&Text::new(title.to_owned(), (22, 10), bold))?;
    let mut chart = ChartBuilder::on(&area)
        .margin(14)
        .margin_right(24)
        .x_label_area_size(48)
        .y_label_area_size(70)
        .build_cartesian_2d(xs.log_scale().base(base), ys.log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_desc(x)
        .y_desc(y)
        .axis_desc_style((FONT, 14).into_font().color(&INK))
        .label_style((FONT, 13).into_font().color(&INK))
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()?;
    Ok(chart)
}

fn label(
    chart: &Chart<'_>,
    text: &str,
    at: (f64, f64),
    color: RGBColor,
    left: HPos,
    up: VPos,
) -> Result {
    let style = (FONT, 15).into_font().color(&color).pos(Pos::new(left, up));
    chart.plotting_area().draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

/// 1,000,000; below one as it is.
fn number(value: f64) -> String {
    if value < 1.0 { format!("{value}") } else { rounded(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_the_thousand() {
        assert_eq!(
            [0.1, 1.0, 100.0, 1_000.0, 1e6].map(number),
            ["0.1", "1", "100", "1,000", "1,000,000"]
        );
    }

    #[test]
    fn another_machine_is_a_name_and_three_numbers() {
        let other = Other::parse("Zen 5:0.31,4.81,14600").expect("as it is to be");
        assert_eq!(
            (other.name.as_str(), other.model.crossing().map(rounded)),
            ("Zen 5", Some("3,200".into()))
        );
        assert_eq!(
            [Other::parse("Zen 5"), Other::parse("Zen 5:1,2"), Other::parse(":a,b,c")],
            [None, None, None]
        );
    }

    #[test]
    fn a_measured_number_has_two_digits() {
        assert_eq!([3_234.6, 3.4, 96.0, 0.0].map(rounded), ["3,200", "3", "96", "0"]);
    }
}
