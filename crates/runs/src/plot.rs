//! `loss.svg`: training and validation loss over the tokens read, as a self-contained plot.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 412.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 32.0;
const BOTTOM: f64 = 60.0;

/// Points beyond this many are thinned by averaging neighbors.
const MAX_POINTS: usize = 1000;

/// Draws the two curves, each a list of tokens read and loss; values that are not finite are left out.
///
/// `tokens` has the tokens read up to each step, for the axis of steps and the marker of the best one.
pub(crate) fn loss_svg(
    title: &str,
    train: &[(u64, f64)],
    validation: &[(u64, f64)],
    tokens: &BTreeMap<u64, u64>,
) -> String {
    let best =
        validation.iter().filter(|point| point.1.is_finite()).min_by(|a, b| a.1.total_cmp(&b.1)).copied();
    let train = thin(train);
    let validation = thin(validation);
    let all = || train.iter().chain(&validation);
    let (x_low, x_high) = range(all().map(|point| point.0), 0.0, 1.0);
    let (y_low, y_high) = range(all().map(|point| point.1), 0.0, 1.0);
    let (y_low, y_high, y_step) = nice(y_low.min(0.0).max(y_low * 0.9), y_high);
    let (_, _, x_step) = nice(x_low, x_high);
    let x = |value: f64| LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
        escape(title)
    );
    for tick in ticks(y_low, y_high, y_step) {
        let at = y(tick);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            label(tick)
        );
    }
    for tick in ticks(x_low, x_high, x_step) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(tick),
            HEIGHT - BOTTOM + 18.0,
            count(tick)
        );
    }
    let (first, last) = (tokens.keys().next().copied(), tokens.keys().next_back().copied());
    if let (Some(first), Some(last)) = (first.filter(|_| tokens.len() > 1), last) {
        let (_, _, step) = nice(first as f64, last as f64);
        for tick in ticks(first as f64, last as f64, step.max(1.0)) {
            let Some((_, read)) = tokens.range(..=tick as u64).next_back() else { continue };
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
                x(*read as f64),
                HEIGHT - BOTTOM + 36.0,
                count(tick)
            );
        }
        let _ = writeln!(svg, "<text x=\"6\" y=\"{:.1}\" fill=\"#666\">steps</text>", HEIGHT - BOTTOM + 36.0);
    }
    let _ = writeln!(svg, "<text x=\"6\" y=\"{:.1}\">tokens</text>", HEIGHT - BOTTOM + 18.0);
    for (place, (points, color, name)) in
        [(&train, "#4477aa", "training loss"), (&validation, "#cc6611", "validation loss")]
            .into_iter()
            .enumerate()
    {
        if points.is_empty() {
            continue;
        }
        let line: Vec<String> = points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        let legend = WIDTH - RIGHT - 270.0 + 140.0 * place as f64;
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>\n\
             <path d=\"M{:.1} 16h18\" stroke=\"{color}\" stroke-width=\"3\"/>\
             <text x=\"{legend}\" y=\"20\" fill=\"{color}\">{name}</text>",
            line.join(" "),
            legend - 24.0
        );
    }
    if let Some((read, loss)) = best {
        let step =
            tokens.iter().find(|(_, tokens)| **tokens == read).map(|(step, _)| format!(" at step {step}"));
        let (at, height) = (x(read as f64), y(loss));
        let text = format!("best {loss:.4}{}", step.unwrap_or_default());
        // Next to the marker, on the side that has room, and below it unless the training curve is there.
        let width = 7.0 * text.len() as f64;
        let is_left = at > WIDTH * 0.6;
        let (anchor, beside) = if is_left { ("end", at - 8.0) } else { ("start", at + 8.0) };
        let columns = if is_left { beside - width..=beside } else { beside..=beside + width };
        let is_taken =
            train.iter().any(|(a, b)| columns.contains(&x(*a)) && (height..height + 20.0).contains(&y(*b)));
        let line = if is_taken { height - 8.0 } else { height + 16.0 };
        // A white outline keeps it legible on top of a curve.
        let _ = writeln!(
            svg,
            "<circle cx=\"{at:.1}\" cy=\"{height:.1}\" r=\"4\" fill=\"#cc6611\"/>\
             <text x=\"{beside:.1}\" y=\"{line:.1}\" text-anchor=\"{anchor}\" fill=\"#cc6611\" stroke=\"white\" \
             stroke-width=\"3\" paint-order=\"stroke\">{text}</text>",
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn thin(points: &[(u64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> =
        points.iter().filter(|point| point.1.is_finite()).map(|point| (point.0 as f64, point.1)).collect();
    let chunk = finite.len().div_ceil(MAX_POINTS).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        (chunk.iter().map(|p| p.0).sum::<f64>() / n, chunk.iter().map(|p| p.1).sum::<f64>() / n)
    };
    finite.chunks(chunk).map(mean).collect()
}

fn range(values: impl Iterator<Item = f64>, low: f64, high: f64) -> (f64, f64) {
    let (a, b) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    match b - a {
        width if width > 0.0 => (a, b),
        _ if a.is_finite() => (a - 0.5, a + 0.5),
        _ => (low, high),
    }
}

/// The range widened to multiples of a round step, and the step.
fn nice(low: f64, high: f64) -> (f64, f64, f64) {
    let rough = (high - low) / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough).unwrap_or(rough);
    ((low / step).floor() * step, (high / step).ceil() * step, step)
}

fn ticks(low: f64, high: f64, step: f64) -> impl Iterator<Item = f64> {
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(move |n| n as f64 * step)
}

fn label(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A count in thousands, millions and so on.
fn count(value: f64) -> String {
    let units = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    match units.into_iter().find(|(unit, _)| value.abs() >= *unit) {
        Some((unit, name)) => label(value / unit) + name,
        None => label(value),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_curves_are_drawn() {
        let tokens = BTreeMap::from([(1, 1), (2, 2), (3, 3), (4, 4)]);
        let train = [(1, 4.0), (2, 3.0), (3, f64::NAN), (4, 2.0)];
        let svg = loss_svg("a < b", &train, &[(2, 2.5), (4, 3.5)], &tokens);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(
            svg.contains("a &lt; b")
                && svg.contains(">tokens<")
                && svg.contains("validation loss")
                && svg.contains(">steps<")
                && svg.contains("best 2.5000 at step 2")
                && !svg.contains("NaN")
        );
    }

    /// The label's distance below its marker.
    #[test]
    fn the_label_avoids_the_training_curve() {
        for (trained, wanted) in [(2.4, -8.0), (3.0, 16.0), (0.5, 16.0)] {
            let train: Vec<(u64, f64)> = (1..=100).map(|at| (at, trained)).collect();
            let svg = loss_svg("t", &train, &[(50, 4.0), (100, 2.5)], &BTreeMap::new());
            let number = |before: &str| -> f64 {
                let from = svg.find("<circle").unwrap();
                let from = from + svg[from..].find(before).unwrap() + before.len();
                svg[from..].split('"').next().unwrap().parse().unwrap()
            };
            assert_eq!((number(" y=\"") - number("cy=\"")).round(), wanted, "{trained}");
        }
    }

    #[test]
    fn counts_are_short() {
        assert_eq!(
            [0.0, 500.0, 1_500.0, 200_000.0, 1_500_000.0, 2e9, 1e12].map(count),
            ["0", "500", "1.5 k", "200 k", "1.5 M", "2 G", "1 T"]
        );
    }

    #[test]
    fn odd_inputs_give_valid_plots() {
        for (train, validation) in [
            (vec![], vec![]),
            (vec![(1, 2.0)], vec![]),
            (vec![(1, 2.0), (2, 2.0)], vec![(2, f64::INFINITY)]),
            ((0..100_000).map(|i| (i, 1.0 / (1.0 + i as f64))).collect(), vec![]),
        ] {
            let svg = loss_svg("t", &train, &validation, &BTreeMap::new());
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(svg.len() < 40_000);
        }
    }
}
