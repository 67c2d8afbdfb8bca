//! A plan's checks of evaluation settings, and its class weights.

use vulpes_data::{ClassWeights, Cursor, Dataset, ObjectiveConfig, ObjectiveKind};
use vulpes_model::config::MaskKind;
use vulpes_model::{Head, ModelConfig};

use crate::config::{Metric, RunConfig};
use crate::error::{Error, Result};

/// Rows read at a time to count labels.
const AT_ONCE: usize = 256;

/// Checks that `train.metric`, `train.patience` and `train.prompts` fit the objective and the data.
///
/// # Errors
/// Returns an error that names the key and what it needs.
pub(super) fn check(config: &RunConfig, model: &ModelConfig, n_validation_rows: u64) -> Result<()> {
    let (train, kind) = (&config.train, config.objective.kind());
    let (word, of) = match train.metric {
        Metric::Loss => ("loss", true),
        Metric::Accuracy => {
            ("accuracy", matches!(kind, ObjectiveKind::Classify | ObjectiveKind::MaskedToken))
        }
        Metric::MacroF1 => ("macro_f1", kind == ObjectiveKind::Classify),
        Metric::RecallAt1 => ("recall_at1", kind == ObjectiveKind::Contrastive),
    };
    if !of {
        return Err(Error::Usage(format!(
            "train.metric = \"{word}\" is not a metric of this objective; use \"loss\""
        )));
    }
    let without = n_validation_rows == 0;
    let needs = [("train.patience", train.patience.is_some()), ("train.prompts", !train.prompts.is_empty())];
    if let Some((key, _)) = needs.iter().find(|(_, is_set)| *is_set && without) {
        return Err(Error::Usage(format!(
            "{key} needs evaluations: set data.validation or data.validation_fraction"
        )));
    }
    let continues = model.head == Head::NextToken && model.mask == MaskKind::Causal;
    if !(continues || train.prompts.is_empty()) {
        return Err(Error::Usage(
            "train.prompts needs a model that predicts the next token: leave it out".to_owned(),
        ));
    }
    Ok(())
}

/// The weight of each label, by index; empty if all are equal.
///
/// # Errors
/// Returns an error if a table names an unknown label, or the rows can't be read.
pub(super) fn class_weights(objective: &ObjectiveConfig, dataset: &Dataset) -> Result<Vec<f64>> {
    let labels = dataset.labels();
    match &objective.class_weights {
        None => Ok(Vec::new()),
        Some(ClassWeights::Table(table)) => {
            if let Some(unknown) = table.keys().find(|label| !labels.contains(label)) {
                return Err(Error::Usage(format!(
                    "objective.class_weights has unknown label {unknown:?}; known labels: {}",
                    labels.join(", ")
                )));
            }
            Ok(labels.iter().map(|label| table.get(label).copied().unwrap_or(1.0)).collect())
        }
        Some(ClassWeights::Named(_)) => {
            let mut counts = vec![0u64; labels.len()];
            let n = dataset.n_rows();
            for index in (0..n).step_by(AT_ONCE) {
                let rows = AT_ONCE.min((n - index) as usize);
                for target in dataset.batch(Cursor { epoch: 0, index }, rows)?.targets {
                    if let Some(count) = usize::try_from(target).ok().and_then(|label| counts.get_mut(label))
                    {
                        *count += 1;
                    }
                }
            }
            let n_labels = counts.iter().filter(|count| **count > 0).count() as f64;
            let weight = |count: &u64| if *count == 0 { 1.0 } else { n as f64 / (n_labels * *count as f64) };
            Ok(counts.iter().map(weight).collect())
        }
    }
}
