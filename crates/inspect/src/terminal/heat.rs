//! Values from 0 to 1 as shades: a background for color terminals, a glyph for all terminals.

use anstyle::{Ansi256Color, Style};

/// From dark blue to yellow in steps of equal lightness, readable by the color-blind; xterm's palette.
const STEPS: [u8; 10] = [17, 18, 24, 30, 29, 35, 71, 107, 143, 221];

/// A background for a `value` from 0 to 1, with a foreground that is readable on it.
pub(crate) fn heat(value: f64) -> Style {
    let step = ((value.clamp(0.0, 1.0) * STEPS.len() as f64) as usize).min(STEPS.len() - 1);
    let foreground = if step < 5 { 255 } else { 16 };
    Style::new()
        .bg_color(Some(Ansi256Color(STEPS[step]).into()))
        .fg_color(Some(Ansi256Color(foreground).into()))
}

/// A glyph for a `value` from 0 to 1.
pub(crate) fn shade(value: f64) -> char {
    const GLYPHS: [char; 6] = ['·', '░', '▒', '▓', '█', '█'];
    GLYPHS[((value.clamp(0.0, 1.0) * 5.0).ceil() as usize).min(5)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_values_are_never_lighter() {
        let glyphs: Vec<char> = (0..=10).map(|i| shade(f64::from(i) / 10.0)).collect();
        assert_eq!((glyphs[0], glyphs[1], glyphs[10]), ('·', '░', '█'));
        assert_ne!(heat(0.0), heat(1.0));
        assert_eq!(heat(f64::NAN), heat(0.0));
    }
}
