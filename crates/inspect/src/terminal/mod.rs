//! Terminal output: headings, wrapped text, tables, heat maps.
//!
//! Colors are ANSI codes; the caller strips them if `NO_COLOR` is set or the output is not a terminal. Nothing is
//! conveyed by color alone.

mod heat;

use std::io::{Result, Write};

use anstyle::{AnsiColor, Style};

pub(crate) use heat::{heat, shade};

const HEADING: Style = AnsiColor::Cyan.on_default().bold();
const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

/// The output of a page, and its width.
pub struct Paper<'w> {
    out: &'w mut dyn Write,
    width: usize,
}

impl<'w> Paper<'w> {
    /// A page of `width` columns, limited to 40 to 100, as longer lines are hard to read.
    pub fn new(out: &'w mut dyn Write, width: usize) -> Self {
        Self { out, width: width.clamp(40, 100) }
    }

    /// The number of columns.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Whether there is room for bars next to numbers.
    pub(crate) fn is_wide(&self) -> bool {
        self.width >= 76
    }

    /// How many of the most likely words, 24 columns each, fit next to `taken` columns; at least one.
    pub(crate) fn words_beside(&self, taken: usize) -> usize {
        (self.width.saturating_sub(taken) / 24).clamp(1, 3)
    }

    /// A heading after an empty line.
    pub(crate) fn heading(&mut self, text: &str) -> Result<()> {
        writeln!(self.out)?;
        wrap(text, self.width).iter().try_for_each(|line| writeln!(self.out, "{HEADING}{line}{HEADING:#}"))
    }

    /// A smaller heading after an empty line.
    pub(crate) fn step(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "\n{STRONG}{text}{STRONG:#}")
    }

    /// A paragraph, wrapped.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        wrap(text, self.width).iter().try_for_each(|line| writeln!(self.out, "{line}"))
    }

    /// A note, wrapped, dimmed.
    pub(crate) fn note(&mut self, text: &str) -> Result<()> {
        wrap(text, self.width).iter().try_for_each(|line| writeln!(self.out, "{FAINT}{line}{FAINT:#}"))
    }

    /// A line without wrapping, indented.
    pub(crate) fn line(&mut self, line: &str) -> Result<()> {
        writeln!(self.out, "  {}", line.trim_end())
    }

    /// An empty line.
    pub(crate) fn blank(&mut self) -> Result<()> {
        writeln!(self.out)
    }

    /// A table, indented: the first column left-aligned, the others right-aligned; columns are as wide as needed.
    ///
    /// If the columns don't fit, the table is split into parts, each with the first column repeated.
    pub(crate) fn table(&mut self, header: &[&str], rows: &[Vec<Cell>]) -> Result<()> {
        let n = header.len();
        let widest =
            |c: usize| rows.iter().map(|row| row[c].width()).chain([columns(header[c])]).max().unwrap_or(0);
        let widths: Vec<usize> = (0..n).map(widest).collect();
        let mut first = 1;
        loop {
            let mut room = self.width.saturating_sub(2 + widths[0]);
            let mut last = first;
            while last < n && (last == first || room >= widths[last] + 2) {
                room = room.saturating_sub(widths[last] + 2);
                last += 1;
            }
            let shown: Vec<usize> = std::iter::once(0).chain(first..last).collect();
            if header.iter().any(|name| !name.is_empty()) {
                let names: Vec<String> =
                    shown.iter().map(|&c| aligned(header[c], widths[c], c == 0)).collect();
                self.line(&format!("{FAINT}{}{FAINT:#}", names.join("  ")))?;
            }
            for row in rows {
                let cells: Vec<String> = shown.iter().map(|&c| row[c].render(widths[c], c == 0)).collect();
                self.line(&cells.join("  "))?;
            }
            if last >= n {
                return Ok(());
            }
            first = last;
            self.blank()?;
        }
    }
}

/// A cell of a table: its text, and optionally a style.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }

    pub(crate) fn strong(text: impl Into<String>) -> Self {
        Self::styled(text, STRONG)
    }

    fn width(&self) -> usize {
        columns(&self.text)
    }

    fn render(&self, width: usize, left: bool) -> String {
        let text = aligned(&self.text, width, left);
        if self.style == Style::new() { text } else { format!("{}{text}{:#}", self.style, self.style) }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: Style::new() }
    }
}

/// The width of a text on a terminal, in columns.
pub(crate) fn columns(text: &str) -> usize {
    console::measure_text_width(text)
}

/// A number with this many decimals; one that rounds to zero has no sign.
pub(crate) fn fixed(value: impl Into<f64>, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.into());
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|c| matches!(c, b'0' | b'.')) => rest.to_owned(),
        _ => text,
    }
}

fn aligned(text: &str, width: usize, left: bool) -> String {
    let gap = " ".repeat(width.saturating_sub(columns(text)));
    if left { format!("{text}{gap}") } else { format!("{gap}{text}") }
}

/// Splits a text into lines of at most `width` columns, at spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && columns(line) + 1 + columns(word) > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A token on one line: control characters escaped, a leading space made visible, at most 16 columns.
pub(crate) fn shown(token: &str) -> String {
    let mut text: String = token
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_debug().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    if text.starts_with(' ') {
        text.replace_range(..1, "·");
    }
    if columns(&text) > 16 {
        text = text.chars().take(15).collect::<String>() + "…";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(width: usize, write: impl FnOnce(&mut Paper) -> Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut Paper::new(&mut out, width)).unwrap();
        console::strip_ansi_codes(std::str::from_utf8(&out).unwrap()).into_owned()
    }

    #[test]
    fn text_is_wrapped_at_the_width() {
        let text =
            page(40, |paper| paper.text("attention gives a weight to each word of a sequence, no more"));
        assert!(text.lines().count() == 2 && text.lines().all(|line| line.len() <= 40), "{text}");
    }

    #[test]
    fn wide_tables_are_split_with_the_first_column_repeated() {
        let header = ["word", "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"];
        let rows = [vec!["fox".into(), "1".into(), "2".into(), "3".into()]];
        let text = page(40, |paper| paper.table(&header, &rows));
        assert_eq!(text.matches("fox").count(), 2, "{text}");
        assert!(text.lines().all(|line| line.len() <= 40), "{text}");
        assert_eq!(page(100, |paper| paper.table(&header, &rows)).matches("fox").count(), 1);
    }

    #[test]
    fn rounded_zeros_have_no_sign() {
        let numbers = [(-0.0, "0.00"), (-0.004, "0.00"), (-0.006, "-0.01"), (1.5, "1.50"), (-10.0, "-10.00")];
        numbers.iter().for_each(|&(value, text)| assert_eq!(fixed(value, 2), text));
        assert_eq!(fixed(-0.2_f32, 0), "0");
        assert_eq!(fixed(f64::NEG_INFINITY, 2), "-inf");
    }

    #[test]
    fn tokens_are_shown_on_one_line() {
        assert_eq!(shown(" the\n"), "·the\\n");
        assert_eq!(columns(&shown(&"long ".repeat(9))), 16);
    }
}
