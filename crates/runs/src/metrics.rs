//! `metrics.jsonl`: one JSON object per line, the record of a run's metrics that other files are made from.
//!
//! A training line has `step loss lr grad_norm tokens step_ms data_wait_ms tokens_per_s elapsed_s` (`tokens` counts
//! from the start of the run; `data_wait_ms` is the part of `step_ms` in which the step waited for its rows), an
//! evaluation line `step tokens val_loss` and its metric. A number that is not finite is `null`, and its name is in the
//! list `not_finite`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use vulpes_trainer::Evaluation;

/// The file's name in a run folder.
pub(crate) const METRICS: &str = "metrics.jsonl";

/// The metrics of one training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLine {
    /// The step, from 1.
    pub step: u64,
    /// Mean loss over the step's targets.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Tokens read since the start of the run.
    pub tokens: u64,
    /// Milliseconds that the step took.
    pub step_ms: f64,
    /// Milliseconds of it spent waiting for rows.
    pub data_wait_ms: f64,
    /// Tokens per second.
    pub tokens_per_s: f64,
    /// Seconds since the start of the run, without pauses.
    pub elapsed_s: f64,
    /// Whether the update was dropped because the loss spiked.
    pub skipped: bool,
}

/// A run's metrics file, open for more lines.
pub(crate) struct Metrics {
    file: File,
    path: PathBuf,
}

impl Metrics {
    /// Opens the metrics of the run in `dir`, cut back to what was written up to `step`.
    ///
    /// Lines beyond it belong to steps that will be repeated.
    ///
    /// # Errors
    /// Returns an error if a file operation fails.
    pub(crate) fn open(dir: &Path, step: u64) -> io::Result<Self> {
        let path = dir.join(METRICS);
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(&path)?;
        let kept = kept_bytes(&mut file, step)?;
        file.set_len(kept)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file, path })
    }

    /// Adds a training line.
    ///
    /// # Errors
    /// Returns an error if a file operation fails.
    pub(crate) fn step(&mut self, line: &StepLine) -> io::Result<()> {
        let mut object = Object::new(line.step);
        object.number("loss", line.loss);
        object.number("lr", line.lr);
        object.number("grad_norm", line.grad_norm);
        object.map.insert("tokens".into(), line.tokens.into());
        object.number("step_ms", round(line.step_ms, 3));
        object.number("data_wait_ms", round(line.data_wait_ms, 3));
        object.number("tokens_per_s", round(line.tokens_per_s, 1));
        object.number("elapsed_s", round(line.elapsed_s, 3));
        if line.skipped {
            object.map.insert("skipped".into(), true.into());
        }
        self.write(object)
    }

    /// Adds an evaluation line.
    ///
    /// # Errors
    /// Returns an error if a file operation fails.
    pub(crate) fn evaluation(&mut self, step: u64, tokens: u64, found: &Evaluation) -> io::Result<()> {
        let mut object = Object::new(step);
        object.map.insert("tokens".into(), tokens.into());
        object.number("val_loss", found.loss);
        if let Some(perplexity) = found.perplexity {
            object.number("val_perplexity", perplexity);
        }
        if let Some(accuracy) = found.accuracy {
            object.number("val_accuracy", accuracy);
        }
        if let Some(macro_f1) = found.macro_f1 {
            object.number("val_macro_f1", macro_f1);
        }
        if let Some(recall) = found.recall_at_1 {
            object.number("val_recall_at_1", recall);
        }
        self.write(object)
    }

    /// Waits until all lines are on the disk.
    ///
    /// # Errors
    /// Returns an error if a file operation fails.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Does `work`, which adds lines here and elsewhere; if it fails, its lines are removed, and it can be retried.
    ///
    /// # Errors
    /// Returns an error if `work` fails.
    pub(crate) fn all_or_nothing(
        &mut self,
        work: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        work(self).inspect_err(|_| {
            let _ = cut(&mut self.file, before);
        })
    }

    fn write(&mut self, object: Object) -> io::Result<()> {
        let mut line = object.into_value().to_string();
        line.push('\n');
        append(&mut self.file, line.as_bytes())
    }
}

/// One line under construction.
struct Object {
    map: Map<String, Value>,
    not_finite: Vec<Value>,
}

impl Object {
    fn new(step: u64) -> Self {
        Self { map: Map::from_iter([("step".to_owned(), step.into())]), not_finite: Vec::new() }
    }

    fn number(&mut self, name: &str, value: f64) {
        if !value.is_finite() {
            self.not_finite.push(name.into());
        }
        self.map.insert(name.to_owned(), json!(value));
    }

    fn into_value(mut self) -> Value {
        if !self.not_finite.is_empty() {
            self.map.insert("not_finite".to_owned(), Value::Array(self.not_finite));
        }
        Value::Object(self.map)
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// Appends a record to a file; if that fails, a partial record is removed again.
///
/// # Errors
/// Returns an error if a file operation fails.
pub(crate) fn append(file: &mut File, record: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(record).inspect_err(|_| {
        let _ = cut(file, before);
    })
}

/// Truncates a file to `length` and seeks to its end.
fn cut(file: &mut File, length: u64) -> io::Result<()> {
    file.set_len(length)?;
    file.seek(SeekFrom::End(0)).map(|_| ())
}

/// The bytes up to the end of the last line of a step up to `step`; lines after it belong to later steps or were cut
/// short. An unreadable line in between is kept, for the sake of those after it.
fn kept_bytes(file: impl Read, step: u64) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut line, mut end, mut kept) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        end += reader.read_until(b'\n', &mut line)? as u64;
        if !line.ends_with(b"\n") {
            return Ok(kept);
        }
        let value = serde_json::from_slice::<Value>(&line).ok();
        match value.and_then(|value| value.get("step")?.as_u64()) {
            Some(of_step) if of_step > step => return Ok(kept),
            Some(_) => kept = end,
            None => {}
        }
    }
}

/// Training and validation losses by step, read from a metrics file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curves {
    /// Step and training loss.
    pub(crate) train: Vec<(u64, f64)>,
    /// Step and validation loss.
    pub(crate) validation: Vec<(u64, f64)>,
    /// Step and gradient norm.
    pub(crate) grad_norm: Vec<(u64, f64)>,
    /// The tokens read up to each logged step.
    pub(crate) tokens: BTreeMap<u64, u64>,
}

impl Curves {
    /// Reads the curves of the run in `dir`; empty if there is no file. Broken lines are skipped.
    pub(crate) fn read(dir: &Path) -> Self {
        let text = std::fs::read(dir.join(METRICS)).unwrap_or_default();
        let mut curves = Self::default();
        let lines = text.split(|byte| *byte == b'\n');
        for line in lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
            let Some(step) = line.get("step").and_then(Value::as_u64) else { continue };
            let number = |name: &str| line.get(name).map(|value| value.as_f64().unwrap_or(f64::NAN));
            curves.train.extend(number("loss").map(|loss| (step, loss)));
            curves.validation.extend(number("val_loss").map(|loss| (step, loss)));
            curves.grad_norm.extend(number("grad_norm").map(|norm| (step, norm)));
            curves.tokens.extend(line.get("tokens").and_then(Value::as_u64).map(|tokens| (step, tokens)));
        }
        curves
    }

    /// Converts points by step to points by tokens read.
    pub(crate) fn over_tokens(&self, points: &[(u64, f64)]) -> Vec<(u64, f64)> {
        let at = |step| self.tokens.range(..=step).next_back().map_or(0, |(_, &tokens)| tokens);
        points.iter().map(|&(step, value)| (at(step), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, loss: f64) -> StepLine {
        StepLine {
            step,
            loss,
            lr: 0.1,
            grad_norm: 1.0,
            tokens: step * 10,
            step_ms: 1.23456,
            data_wait_ms: 0.01,
            tokens_per_s: 99.0,
            elapsed_s: 0.5,
            skipped: false,
        }
    }

    #[test]
    fn lines_after_the_checkpoint_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(dir.path(), 0).unwrap();
        for step in 1..=4 {
            metrics.step(&line(step, 1.0 / step as f64)).unwrap();
        }
        let before = std::fs::read_to_string(metrics.path()).unwrap();
        // A line that a crash cut short.
        std::fs::write(metrics.path(), format!("{before}{{\"step\": 5, \"lo")).unwrap();
        drop(metrics);
        drop(Metrics::open(dir.path(), 9).unwrap());
        assert_eq!(std::fs::read_to_string(dir.path().join(METRICS)).unwrap(), before);
        let mut metrics = Metrics::open(dir.path(), 2).unwrap();
        metrics.step(&line(3, 1.0 / 3.0)).unwrap();
        metrics.step(&line(4, 0.25)).unwrap();
        assert_eq!(std::fs::read_to_string(metrics.path()).unwrap(), before);
        let curves = Curves::read(dir.path());
        assert_eq!(curves.train, [(1, 1.0), (2, 0.5), (3, 1.0 / 3.0), (4, 0.25)]);
        assert_eq!(curves.over_tokens(&[(1, 1.0), (4, 0.25), (9, 0.2)]), [(10, 1.0), (40, 0.25), (40, 0.2)]);
    }

    #[test]
    fn a_damaged_line_loses_no_other_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(dir.path(), 0).unwrap();
        (1..=4).for_each(|step| metrics.step(&line(step, 0.5)).unwrap());
        let mut bytes = std::fs::read(metrics.path()).unwrap();
        let at = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 3;
        bytes[at] = 0xff;
        std::fs::write(metrics.path(), &bytes).unwrap();
        drop(Metrics::open(dir.path(), 4).unwrap());
        assert_eq!(std::fs::read(dir.path().join(METRICS)).unwrap(), bytes);
        let steps: Vec<u64> = Curves::read(dir.path()).train.iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, [1, 3, 4]);
    }

    #[test]
    fn failed_work_leaves_no_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(dir.path(), 0).unwrap();
        metrics.step(&line(1, 0.5)).unwrap();
        let before = std::fs::read(metrics.path()).unwrap();
        let full = || Err(io::ErrorKind::StorageFull.into());
        let fails = |metrics: &mut Metrics| metrics.step(&line(2, 0.5)).and_then(|()| full());
        assert!(metrics.all_or_nothing(fails).is_err());
        assert_eq!(std::fs::read(metrics.path()).unwrap(), before);
        metrics.all_or_nothing(|metrics| metrics.step(&line(2, 0.5))).unwrap();
        assert_eq!(Curves::read(dir.path()).train, [(1, 0.5), (2, 0.5)]);
    }

    #[test]
    fn values_that_are_not_finite_are_null_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(dir.path(), 0).unwrap();
        metrics.step(&StepLine { grad_norm: f64::INFINITY, ..line(1, f64::NAN) }).unwrap();
        let text = std::fs::read_to_string(metrics.path()).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["loss"], &value["not_finite"]), (&Value::Null, &json!(["loss", "grad_norm"])));
        assert!(Curves::read(dir.path()).train[0].1.is_nan());
    }
}
