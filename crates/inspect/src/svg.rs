//! Attention maps as SVG, for papers and READMEs: one head with its tokens, or all heads as a grid.

use std::fmt::Write;

use crate::explanation::Explanation;
use crate::terminal::shown;

/// From weight 0 to 1, as on the page: one hue that darkens evenly, readable by the color-blind and in print.
const RAMP: [[f64; 3]; 2] = [[237.0, 241.0, 247.0], [11.0, 61.0, 145.0]];

/// The map of one head: rows are queries, columns keys, with tokens at the margins and the weights if they fit.
pub fn head_svg(explanation: &Explanation, layer: usize, head: usize) -> String {
    let (n, cell) = (explanation.tokens.len(), 34);
    let names: Vec<String> = explanation.pieces.iter().map(|token| escaped(&shown(token))).collect();
    let margin =
        20 + 8 * explanation.pieces.iter().map(|token| shown(token).chars().count()).max().unwrap_or(0);
    // The caption must fit below a map of few tokens, too.
    let (width, height) = ((margin + n * cell + 12).max(340), margin + n * cell + 74);
    let mut svg = open(width, height, &format!("Attention weights of layer {layer}, head {head}"));
    for (place, name) in names.iter().enumerate() {
        let middle = margin + place * cell + cell / 2;
        let _ = write!(svg, r#"<text x="{}" y="{}" text-anchor="end">{name}</text>"#, margin - 6, middle + 4);
        let _ = write!(
            svg,
            r#"<text transform="translate({} {}) rotate(-60)">{name}</text>"#,
            middle,
            margin - 6
        );
    }
    map(&mut svg, explanation, (layer, head), (margin, margin), cell, true);
    scale(&mut svg, 8, height - 54);
    let _ = write!(
        svg,
        r#"<text x="8" y="{}" class="note">layer {layer}, head {head}: rows are queries, columns keys, rows sum to 1</text></svg>"#,
        height - 12
    );
    svg
}

/// The maps of all heads: a row per layer, a column per head, the tokens on both axes, a color scale.
pub fn grid_svg(explanation: &Explanation) -> String {
    let n = explanation.tokens.len();
    // The names of many tokens would be too small to read; their positions are shown instead.
    let cell = (112 / n.max(1)).clamp(7, 28);
    let names: Vec<String> = explanation.pieces.iter().map(|token| escaped(&shown(token))).collect();
    let size = (cell + 2).clamp(7, 11);
    let longest = explanation.pieces.iter().map(|token| shown(token).chars().count()).max().unwrap_or(0);
    let label = 8 + longest * size * 6 / 10;
    let (step, left, top) = (n * cell + 14, 28 + label, 24 + label);
    let (n_layer, n_head) = (explanation.model.n_layer, explanation.model.n_head);
    let (width, height) = ((left + n_head * step).max(340), top + n_layer * step + 60);
    let mut svg = open(width, height, "Attention weights of all heads");
    for head in 0..n_head {
        let x = left + head * step;
        let _ = write!(svg, r#"<text x="{x}" y="14">head {head}</text>"#);
        for (place, name) in names.iter().enumerate() {
            let _ = write!(
                svg,
                r#"<text style="font-size:{size}px" transform="translate({} {}) rotate(-90)">{name}</text>"#,
                x + place * cell + (cell + size) / 2 - 1,
                top - 4
            );
        }
    }
    for layer in 0..n_layer {
        let y = top + layer * step;
        let _ = write!(
            svg,
            r#"<text transform="translate(14 {y}) rotate(-90)" text-anchor="end">layer {layer}</text>"#
        );
        for (place, name) in names.iter().enumerate() {
            let _ = write!(
                svg,
                r#"<text style="font-size:{size}px" text-anchor="end" x="{}" y="{}">{name}</text>"#,
                left - 4,
                y + place * cell + (cell + size) / 2 - 1
            );
        }
        for head in 0..n_head {
            map(&mut svg, explanation, (layer, head), (left + head * step, y), cell, false);
        }
    }
    scale(&mut svg, 8, height - 46);
    let _ = write!(
        svg,
        r#"<text x="8" y="{}" class="note">rows are queries, columns keys, rows sum to 1</text></svg>"#,
        height - 8
    );
    svg
}

/// The color scale.
fn scale(svg: &mut String, x: usize, y: usize) {
    let _ = write!(svg, r#"<text x="{x}" y="{}" class="note">weight</text>"#, y + 12);
    for (place, weight) in [0.0, 0.01, 0.1, 0.25, 0.5, 1.0].into_iter().enumerate() {
        let (at, ink) = (x + 42 + place * 30, if level(weight) > 0.6 { "#fff" } else { "#1a2330" });
        let _ = write!(
            svg,
            r#"<path d="M{at} {y}h30v16h-30z" fill="{}"/><text class="n" x="{}" y="{}" style="fill:{ink}">{weight}</text>"#,
            color(weight),
            at + 15,
            y + 11
        );
    }
    let at = x + 42 + 6 * 30 + 10;
    let _ = write!(
        svg,
        r##"<path d="M{at} {y}h20v16h-20z" fill="url(#masked)" stroke="#cfd5de"/><text x="{}" y="{}" class="note">masked</text>"##,
        at + 26,
        y + 12
    );
}

fn open(width: usize, height: usize, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\"><title>{title}</title><style>text{{font:12px sans-serif;fill:#333}}\
         .n{{font-size:9px;text-anchor:middle}}.note{{fill:#777;font-size:10px}}</style>\
         <defs><pattern id=\"masked\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><path d=\"M0 0V6\" stroke=\"#b9c1cc\"/></pattern></defs>\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    )
}

fn map(
    svg: &mut String,
    explanation: &Explanation,
    (layer, head): (usize, usize),
    (x, y): (usize, usize),
    cell: usize,
    with_numbers: bool,
) {
    let n = explanation.tokens.len();
    let _ = write!(
        svg,
        r##"<rect x="{x}" y="{y}" width="{0}" height="{0}" fill="url(#masked)" stroke="#dde1e7"/>"##,
        n * cell
    );
    for (q, row) in explanation.attentions[layer][head].iter().enumerate() {
        for (k, &weight) in row.iter().enumerate().filter(|(k, _)| explanation.mask(layer)[q][*k] == 1) {
            let (x, y) = (x + k * cell, y + q * cell);
            let _ = write!(
                svg,
                r#"<rect x="{x}" y="{y}" width="{cell}" height="{cell}" fill="{}"/>"#,
                color(f64::from(weight))
            );
            if with_numbers {
                let ink = if level(f64::from(weight)) > 0.6 { "#fff" } else { "#1a2330" };
                let (x, y) = (x + cell / 2, y + cell / 2 + 3);
                let _ =
                    write!(svg, r#"<text class="n" x="{x}" y="{y}" style="fill:{ink}">{weight:.2}</text>"#);
            }
        }
    }
}

/// How strongly a weight from 0 to 1 is drawn: small ones are visible, too.
fn level(weight: f64) -> f64 {
    weight.clamp(0.0, 1.0).powf(0.6)
}

/// The color of a weight.
fn color(weight: f64) -> String {
    let part = |c: usize| (RAMP[0][c] + (RAMP[1][c] - RAMP[0][c]) * level(weight)).round() as u8;
    format!("#{:02x}{:02x}{:02x}", part(0), part(1), part(2))
}

/// A text escaped for XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
