//! The validation losses of a run over its tokens and its time, from its metrics.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// One evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Tokens read before it.
    pub(super) tokens: f64,
    /// Seconds of work before it.
    pub(super) secs: f64,
    /// The validation loss.
    pub(super) loss: f64,
}

/// The evaluations of a run, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Curve(Vec<Point>);

impl Curve {
    /// Reads the evaluations of the run in `dir`.
    ///
    /// # Errors
    /// Returns an error if there are no metrics.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("metrics.jsonl");
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self::of(&text))
    }

    fn of(text: &str) -> Self {
        let (mut points, mut secs) = (Vec::new(), 0.0);
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let number = |name: &str| line.get(name).and_then(Value::as_f64);
            // An evaluation follows the line of its step.
            secs = number("elapsed_s").unwrap_or(secs);
            if let (Some(loss), Some(tokens)) = (number("val_loss"), number("tokens")) {
                points.push(Point { tokens, secs, loss });
            }
        }
        Self(points)
    }

    /// The last evaluation.
    pub(super) fn last(&self) -> Option<Point> {
        self.0.last().copied()
    }

    /// The lowest loss.
    pub(super) fn lowest(&self) -> Option<f64> {
        self.0.iter().map(|point| point.loss).reduce(f64::min)
    }

    /// The loss where `of` equals `wanted`, linearly interpolated between evaluations; `None` outside of them.
    pub(super) fn at(&self, of: fn(&Point) -> f64, wanted: f64) -> Option<f64> {
        let after = self.0.iter().position(|point| of(point) >= wanted)?;
        let b = self.0[after];
        if of(&b) == wanted {
            return Some(b.loss);
        }
        let a = self.0[after.checked_sub(1)?];
        let share = (wanted - of(&a)) / (of(&b) - of(&a));
        Some(a.loss + share * (b.loss - a.loss))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_interpolated_between_evaluations() {
        let curve = Curve::of(
            "{\"step\":1,\"loss\":4.0,\"tokens\":10,\"elapsed_s\":1.5}\n\
             {\"step\":1,\"tokens\":10,\"val_loss\":3.0}\n\
             not a line\n\
             {\"step\":2,\"loss\":3.0,\"tokens\":20,\"elapsed_s\":3.5}\n\
             {\"step\":2,\"tokens\":20,\"val_loss\":2.0}\n",
        );
        assert_eq!(curve.last(), Some(Point { tokens: 20.0, secs: 3.5, loss: 2.0 }));
        assert_eq!(curve.at(|point| point.tokens, 15.0), Some(2.5));
        assert_eq!(curve.at(|point| point.secs, 3.0), Some(2.25));
        assert_eq!(curve.at(|point| point.tokens, 10.0), Some(3.0));
        assert_eq!((curve.at(|point| point.tokens, 9.0), curve.at(|point| point.tokens, 21.0)), (None, None));
        assert_eq!(curve.lowest(), Some(2.0));
    }
}
