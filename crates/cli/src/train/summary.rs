//! The end-of-run summary: what it reached, where the model is, and what to try next.

use std::fmt::Write as _;
use std::path::Path;

use vulpes_data::{Columns, DataConfig, DataKind, ObjectiveKind, embedded, for_each_row};
use vulpes_runs::{Plan, Summary, quoted};
use vulpes_trainer::Evaluation;

use crate::called::called;

/// How many words of the corpus a suggested prompt has.
const PROMPT_WORDS: usize = 4;
/// How many words of a text that gets a label.
const SENTENCE_WORDS: usize = 20;

/// What a finished or stopped run says.
pub(crate) fn of_run(plan: &Plan, summary: &Summary) -> String {
    if summary.loss.is_none() && summary.stopped.is_none() {
        return nothing_left(plan, summary);
    }
    let mut text = match (summary.stopped, &summary.diverged) {
        (None, None) => "done".to_owned(),
        (None, Some(_)) => "ended, and learned nothing".to_owned(),
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
    if summary.skipped_steps > 0 {
        let _ = write!(text, "; {} steps skipped", summary.skipped_steps);
    }
    let run = quoted(&summary.run.display().to_string());
    let _ = write!(text, "\nmodel: {}", summary.run.join("model").display());
    if summary.stopped.is_some() {
        text.push_str("\ngo on with the same command and --resume");
        return text;
    }
    if summary.diverged.is_some() {
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

/// What a resumed run says that had no step left to do.
fn nothing_left(plan: &Plan, summary: &Summary) -> String {
    format!(
        "nothing to do: all {} steps were done before; for more of them, raise train.steps, as in --set train.steps={}\n\
         model: {}",
        summary.step,
        plan.config.train.steps.max(summary.step).saturating_mul(2),
        summary.run.join("model").display()
    )
}

/// An evaluation as `--eval` prints it.
pub(crate) fn of_evaluation(step: u64, found: &Evaluation) -> String {
    format!("step {step}: {}, {} targets", measured(found), found.n_targets)
}

/// A perplexity in as many digits as say something.
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

/// Whether a model is asked about whole texts, not about tokens.
fn is_read_whole(objective: ObjectiveKind) -> bool {
    matches!(objective, ObjectiveKind::Classify | ObjectiveKind::Contrastive)
}

/// The first words of the corpus, the last one masked where masked words are asked; of a classifier's a whole sentence.
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

/// The beginning of the corpus: of a text its first kilobytes, of a table its first row.
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

/// The text of a first row, after which no other is read.
struct First(Option<String>);

impl From<vulpes_data::Error> for First {
    fn from(_: vulpes_data::Error) -> Self {
        Self(None)
    }
}
