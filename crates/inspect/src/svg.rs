//! Attention maps as SVG, for papers and readmes: one head with its tokens, or all heads as a grid.

use std::fmt::Write;

use crate::explanation::Explanation;
use crate::terminal::shown;

/// From weight 0 to 1, as on the page: one hue that darkens evenly, readable by the colour-blind and in print.
const RAMP: [[f64; 3]; 2] = [[237.0, 241.0, 247.0], [11.0, 61.0, 145.0]];

/// The map of one head: rows are queries, columns keys, with the tokens beside them and the numbers where they fit.
pub fn head_svg(explanation: &Explanation, layer: usize, head: usize) -> String {
    let (n, cell) = (explanation.tokens.len(), 34);
    let names: Vec<String> = explanation.tokens.iter().map(|token| escaped(&shown(token))).collect();
    let margin =
        20 + 8 * explanation.tokens.iter().map(|token| shown(token).chars().count()).max().unwrap_or(0);
    // The caption is to fit below a map of few tokens, too.
    let (width, height) = ((margin + n * cell + 12).max(340), margin + n * cell + 34);
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
    let _ = write!(
        svg,
        r#"<text x="8" y="{}" class="note">layer {layer}, head {head}: rows ask, columns answer, rows sum to 1</text></svg>"#,
        height - 12
    );
    svg
}

/// The maps of all heads: a row for each layer, a column for each head.
pub fn grid_svg(explanation: &Explanation) -> String {
    let n = explanation.tokens.len();
    let cell = (96 / n.max(1)).max(1);
    let (step, margin) = (n * cell + 12, 46);
    let (n_layer, n_head) = (explanation.model.n_layer, explanation.model.n_head);
    let mut svg = open(margin + n_head * step, margin + n_layer * step, "Attention weights of all heads");
    for head in 0..n_head {
        let _ = write!(svg, r#"<text x="{}" y="34">head {head}</text>"#, margin + head * step);
    }
    for layer in 0..n_layer {
        let y = margin + layer * step;
        let _ = write!(
            svg,
            r#"<text transform="translate(34 {}) rotate(-90)" text-anchor="end">layer {layer}</text>"#,
            y
        );
        for head in 0..n_head {
            map(&mut svg, explanation, (layer, head), (margin + head * step, y), cell, false);
        }
    }
    svg + "</svg>"
}

fn open(width: usize, height: usize, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\"><title>{title}</title><style>text{{font:12px sans-serif;fill:#333}}\
         .n{{font-size:9px;text-anchor:middle}}.note{{fill:#777;font-size:10px}}</style>\
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
        r##"<rect x="{x}" y="{y}" width="{0}" height="{0}" fill="#fff" stroke="#dde1e7"/>"##,
        n * cell
    );
    for (q, row) in explanation.attentions[layer][head].iter().enumerate() {
        for (k, &weight) in row.iter().enumerate().filter(|(k, _)| explanation.mask[q][*k] == 1) {
            let (x, y) = (x + k * cell, y + q * cell);
            let _ = write!(
                svg,
                r#"<rect x="{x}" y="{y}" width="{cell}" height="{cell}" fill="{}"/>"#,
                colour(f64::from(weight))
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

/// How strongly a weight of 0 to 1 is drawn: small ones are seen, too.
fn level(weight: f64) -> f64 {
    weight.clamp(0.0, 1.0).powf(0.6)
}

/// The colour of a weight.
fn colour(weight: f64) -> String {
    let part = |c: usize| (RAMP[0][c] + (RAMP[1][c] - RAMP[0][c]) * level(weight)).round() as u8;
    format!("#{:02x}{:02x}{:02x}", part(0), part(1), part(2))
}

/// A text as XML may hold it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
