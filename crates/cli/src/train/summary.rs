//! The end-of-run summary: results, the model's location, and what to try next.

use std::fmt::Write as _;
use std::path::Path;

use vulpes_data::{Columns, DataConfig, DataKind, ObjectiveKind, embedded, for_each_row};
use vulpes_runs::{Plan, Summary, operations, quoted, thousands};
use vulpes_trainer::Evaluation;

use crate::called::called;
use crate::labels::label_table;

/// Floating-point operations from which they are reported.
const WORTH_SAYING: f64 = 1e13;
/// The number of words of a suggested prompt.
const PROMPT_WORDS: usize = 4;
/// The number of words of a suggested text to classify.
const SENTENCE_WORDS: usize = 20;

/// The summary of a finished or stopped run.
pub(crate) fn of_run(plan: &Plan, summary: &Summary) -> String {
    if summary.loss.is_none() && summary.stopped.is_none() {
        return nothing_left(plan, summary);
    }
    let mut text = match (summary.stopped, &summary.diverged) {
        (None, None) => "done".to_owned(),
        (None, Some(_)) => "ended without learning anything".to_owned(),
        (Some(code), _) => format!("stopped by {}", if code == 130 { "SIGINT" } else { "SIGTERM" }),
    };
    let _ = write!(text, ": {} steps in {:.1} s", summary.step, summary.elapsed_s);
    if let Some(loss) = summary.loss {
        let _ = write!(text, ", loss {loss:.4}");
    }
    if let Some(found) = &summary.evaluation {
        let _ = write!(text, ", {}", measured(found));
    }
    if let Some(best) = summary.best {
        let _ = write!(text, "; best validation loss {:.4} at step {}", best.val_loss, best.step);
    }
    if summary.flops >= WORTH_SAYING {
        let (tokens, flops) = (thousands(summary.tokens as f64), operations(summary.flops));
        let _ = write!(text, "; {tokens} tokens, {flops}");
    }
    if summary.skipped_steps > 0 {
        let _ = write!(text, "; {} steps skipped", summary.skipped_steps);
    }
    if let Some(found) = &summary.evaluation {
        text.push_str(&of_labels(found, plan.dataset.labels()));
    }
    let run = quoted(&summary.run.display().to_string());
    let _ = write!(text, "\nmodel: {}", summary.run.join("model").display());
    if summary.stopped.is_some() {
        text.push_str("\ncontinue with the same command and --resume");
        return text;
    }
    if summary.diverged.is_some() {
        return text;
    }
    if plan.config.data.kind == DataKind::Chat {
        let _ = write!(text, "\ntry:\n  {} --model {run} --chat", called("sample"));
        return text;
    }
    let reads_whole = is_read_whole(plan.config.objective.kind());
    let any_text = if reads_whole { "a text" } else { "The" };
    let text_of_corpus = prompt(plan).unwrap_or_else(|| any_text.to_owned());
    let prompt = quoted(&text_of_corpus);
    text.push_str("\ntry:");
    let next = if reads_whole { "" } else { " --next 5" };
    let _ = write!(text, "\n  {} --model {run} --prompt {prompt}{next}", called("sample"));
    let _ = write!(text, "\n  {} --model {run} --text {prompt}", called("explain"));
    text
}

/// The summary of a resumed run that had no step left to do.
fn nothing_left(plan: &Plan, summary: &Summary) -> String {
    format!(
        "nothing to do: all {} steps are done; for more steps, raise train.steps, for example --set train.steps={}\n\
         model: {}",
        summary.step,
        plan.config.train.steps.max(summary.step).saturating_mul(2),
        summary.run.join("model").display()
    )
}

/// The output of `--eval`.
pub(crate) fn of_evaluation(step: u64, found: &Evaluation, labels: &[String]) -> String {
    format!("step {step}: {}, {} targets{}", measured(found), found.n_targets, of_labels(found, labels))
}

/// Precision, recall and F1 of each label, one line each; empty if there are no labels.
fn of_labels(found: &Evaluation, labels: &[String]) -> String {
    if found.labels.is_empty() {
        return String::new();
    }
    let table = label_table(&found.labels, labels);
    format!("\n{}", table.trim_end())
}

/// A perplexity in its significant digits.
pub(super) fn perplexity_of(value: f64) -> String {
    if value < 1e6 { format!("{value:.3}") } else { format!("{value:.2e}") }
}

fn measured(found: &Evaluation) -> String {
    let mut text = format!("validation loss {:.4}", found.loss);
    if let Some(perplexity) = found.perplexity {
        let _ = write!(text, ", perplexity {}", perplexity_of(perplexity));
    }
    if let Some(accuracy) = found.accuracy {
        let _ = write!(text, ", accuracy {accuracy:.4}");
    }
    if let Some(macro_f1) = found.macro_f1 {
        let _ = write!(text, ", macro-F1 {macro_f1:.4}");
    }
    if let Some(recall) = found.recall_at_1 {
        let _ = write!(text, ", recall@1 {recall:.4}");
    }
    text
}

/// Whether the objective is about entire texts, not tokens.
fn is_read_whole(objective: ObjectiveKind) -> bool {
    matches!(objective, ObjectiveKind::Classify | ObjectiveKind::Contrastive)
}

/// The first words of the corpus, the last one masked for a masked model; for a classifier a longer text.
fn prompt(plan: &Plan) -> Option<String> {
    let objective = plan.config.objective.kind();
    let text = beginning(&plan.config.data)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let line = text.lines().find(|line| line.split_whitespace().count() > 1)?;
    let all: Vec<&str> = line.split_whitespace().collect();
    if is_read_whole(objective) {
        return Some(all[..all.len().min(SENTENCE_WORDS)].join(" "));
    }
    let mut words: Vec<String> =
        all.iter().take(PROMPT_WORDS.min(all.len() - 1)).map(|word| (*word).to_owned()).collect();
    if objective == ObjectiveKind::MaskedToken {
        let tokenizer = plan.dataset.tokenizer()?;
        *words.last_mut()? = tokenizer.id_to_token(tokenizer.mask_id()?)?;
        words.extend(all.get(words.len()).map(|word| (*word).to_owned()));
    }
    Some(words.join(" "))
}

/// The beginning of the corpus: the first kilobytes of a text, or the first row of a table.
fn beginning(data: &DataConfig) -> Option<String> {
    let path = data.train.0.first()?;
    if data.kind == DataKind::Text {
        return match std::fs::read(path) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned()),
            Err(_) => embedded(path).map(str::to_owned),
        };
    }
    if Some(data.kind) != DataKind::by_ending(path) {
        return None;
    }
    let columns = Columns { text: data.text_column.clone(), ..Columns::default() };
    match for_each_row(Path::new(path), &columns, &mut |row| Err(First(Some(row.text.to_owned())))) {
        Err(First(text)) => text,
        Ok(()) => None,
    }
}

/// The text of a first row; stops the reading.
struct First(Option<String>);

impl From<vulpes_data::Error> for First {
    fn from(_: vulpes_data::Error) -> Self {
        Self(None)
    }
}
