//! `--teachers`: the training rows that an answer depends on.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vulpes_data::{Batch, IGNORED};
use vulpes_inspect::{Explanation, NextToken, Taught, TaughtRow};
use vulpes_model::Head;
use vulpes_runs::config::RunConfig;
use vulpes_runs::{
    Error, Moment, Plan, PlanOptions, Question, Teacher, TeacherOptions, TeacherProgress, Teachers, teachers,
    tokenizer_folder,
};
use vulpes_trainer::STACK_BYTES;

use crate::ending::{Failure, say};
use crate::process::fit_memory;
use crate::signals::Signals;

/// The interval of plain lines, if standard error is not a terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// The result of the search.
pub(super) enum Searched {
    /// The rows.
    Found(Box<Taught>),
    /// Stopped by a signal, with this exit code.
    Stopped(u8),
}

/// Finds and proves the `top` rows that `target` depends on.
pub(super) fn search(
    path: &Path,
    top: usize,
    explanation: &Explanation,
    target: &NextToken,
) -> Result<Searched, Failure> {
    if matches!(explanation.model.head, Head::Hidden { .. }) {
        return Err(Failure::usage(anyhow!("--teachers: this model has no head, so it predicts nothing")));
    }
    if top == 0 {
        return Err(Failure::usage(anyhow!("--teachers 0: must be at least 1")));
    }
    let signals = Signals::install()?;
    let question = Question {
        ids: explanation.ids.clone(),
        token_types: explanation.token_types.clone(),
        position: explanation.position,
        answer: target.id,
    };
    let work = || -> vulpes_runs::Result<Option<Taught>> {
        let moment = Moment::of(path)?;
        let plan = plan(&moment)?;
        let mut shown = Shown::new();
        let found = teachers(
            &plan,
            &moment,
            &question,
            &mut TeacherOptions {
                top,
                stop: &|| signals.exit_code().is_some(),
                hear: &mut |progress| shown.at(progress),
            },
        );
        shown.finish();
        found?.map(|found| taught(found, &plan, target)).transpose()
    };
    // candle's backward pass recurses once per operation.
    let done = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("teachers".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(Error::Numbers("the search ended early".to_owned())))
    });
    match done? {
        Some(taught) => Ok(Searched::Found(Box::new(taught))),
        None => {
            say(
                "stopped; the results are kept in the run's folder (teachers/): the same command continues from \
                 there",
            );
            Ok(Searched::Stopped(signals.exit_code().unwrap_or(1)))
        }
    }
}

/// The result, with the texts of the rows.
fn taught(found: Teachers, plan: &Plan, target: &NextToken) -> vulpes_runs::Result<Taught> {
    let row = |found: Teacher| -> vulpes_runs::Result<TaughtRow> {
        let Teacher { row, uses, effect, without, together } = found;
        Ok(TaughtRow { row, text: text_of(plan, row)?, uses, effect, without, together })
    };
    let Teachers { step, n_rows, n_proved, probability, rows, without_all, every, agreement } = found;
    Ok(Taught {
        target: target.clone(),
        step,
        n_rows,
        n_proved,
        probability,
        rows: rows.into_iter().map(row).collect::<vulpes_runs::Result<_>>()?,
        without_all,
        every: every.into_iter().map(row).collect::<vulpes_runs::Result<_>>()?,
        agreement,
    })
}

/// The plan of the moment's run.
fn plan(moment: &Moment) -> vulpes_runs::Result<Plan> {
    let path = moment.run_dir().join("config.toml");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Error::Config { path: path.clone(), reason: format!("can't be read: {error}") })?;
    let config = RunConfig::parse(&path.display().to_string(), &text, &[])?;
    fit_memory(&config.train);
    let run_dir = moment.run_dir().to_path_buf();
    let checkpoint = tokenizer_folder(&run_dir);
    Plan::new(config, &PlanOptions { run_dir, checkpoint, ..PlanOptions::default() }, &())
}

/// The text of a training row, with the target of its last position.
fn text_of(plan: &Plan, number: u64) -> vulpes_runs::Result<String> {
    let row: Batch = plan.dataset.row(number)?;
    let real = |place: usize| row.padding_mask.as_ref().is_none_or(|mask| mask[place] != 0);
    let mut ids: Vec<u32> =
        (0..row.ids.len()).filter(|place| real(*place)).map(|place| row.ids[place]).collect();
    if plan.model.head == Head::NextToken {
        let last = row.targets.iter().rev().find(|target| **target != IGNORED);
        ids.extend(last.and_then(|target| u32::try_from(*target).ok()));
    }
    match plan.dataset.tokenizer() {
        Some(tokenizer) => {
            let text = tokenizer.decode(&ids, true)?;
            Ok(match (plan.model.head, row.targets.first()) {
                (Head::Classify { .. }, Some(label)) => {
                    let labels = plan.dataset.labels();
                    let name = usize::try_from(*label).ok().and_then(|label| labels.get(label));
                    format!("{}: {text}", name.map_or_else(|| label.to_string(), Clone::clone))
                }
                _ => text,
            })
        }
        None => Ok(ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")),
    }
}

/// The progress of the search on standard error: a bar on a terminal, otherwise plain lines.
struct Shown {
    bar: ProgressBar,
    said: Instant,
    is_proving: bool,
}

impl Shown {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(8));
        if let Ok(style) = ProgressStyle::with_template("{bar:16} {pos}/{len} {wide_msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar, said: Instant::now(), is_proving: false }
    }

    fn at(&mut self, progress: TeacherProgress) {
        let (done, of, what) = match progress {
            TeacherProgress::Finding { step, of } => {
                (step, of, "steps of the run repeated, its rows compared")
            }
            TeacherProgress::Proving { done, of } => {
                if !std::mem::replace(&mut self.is_proving, true) {
                    self.bar.reset();
                }
                (done as u64, of as u64, "trainings without a row")
            }
        };
        self.bar.set_length(of);
        self.bar.set_position(done);
        self.bar.set_message(format!("{what}; Ctrl-C keeps the results"));
        if self.bar.is_hidden() && (self.said.elapsed() >= PLAIN_EVERY || done == of) {
            self.said = Instant::now();
            say(&format!("{done}/{of} {what}"));
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
