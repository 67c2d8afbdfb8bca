//! A plan's contrastive training on pairs of texts: pooling, loss options, checks.

use vulpes_data::{EmbeddingPooling, ObjectiveConfig, ObjectiveKind};
use vulpes_model::folder::Sentence;
use vulpes_model::{Embedder, ModelConfig, TextPooling, parameter_specs};
use vulpes_trainer::Contrast;

use crate::config::TrainConfig;
use crate::error::{Error, Result};

/// Fills in the pooling if the config leaves it open: as `given` by the folder that the model comes from, else the
/// normalized mean. Texts are cut to `max_len`. `None` for another objective.
pub(super) fn settle(
    objective: &mut ObjectiveConfig,
    given: Option<&Sentence>,
    max_len: usize,
) -> Option<Sentence> {
    if objective.kind() != ObjectiveKind::Contrastive {
        return None;
    }
    let of_folder = given.map(|given| given.embedder);
    let default = of_folder.unwrap_or(Embedder { pooling: TextPooling::Mean, normalize: true });
    let pooling = objective.pooling.map_or(default.pooling, pooling);
    let normalize = objective.normalize.unwrap_or(default.normalize);
    objective.pooling = Some(word(pooling));
    objective.normalize = Some(normalize);
    Some(Sentence {
        embedder: Embedder { pooling, normalize },
        max_len: Some(max_len),
        settings: given.map(|given| given.settings.clone()).unwrap_or_default(),
    })
}

fn pooling(word: EmbeddingPooling) -> TextPooling {
    match word {
        EmbeddingPooling::Cls => TextPooling::Cls,
        EmbeddingPooling::Mean => TextPooling::Mean,
        EmbeddingPooling::MeanSqrtLenTokens => TextPooling::MeanSqrtLen,
        EmbeddingPooling::WeightedMean => TextPooling::WeightedMean,
        EmbeddingPooling::Max => TextPooling::Max,
        EmbeddingPooling::LastToken => TextPooling::Last,
    }
}

fn word(pooling: TextPooling) -> EmbeddingPooling {
    match pooling {
        TextPooling::Cls => EmbeddingPooling::Cls,
        TextPooling::Mean => EmbeddingPooling::Mean,
        TextPooling::MeanSqrtLen => EmbeddingPooling::MeanSqrtLenTokens,
        TextPooling::WeightedMean => EmbeddingPooling::WeightedMean,
        TextPooling::Max => EmbeddingPooling::Max,
        TextPooling::Last => EmbeddingPooling::LastToken,
    }
}

/// The options of the contrastive loss, from the objective.
pub(super) fn contrast(objective: &ObjectiveConfig, sentence: &Sentence) -> Contrast {
    Contrast { embedder: sentence.embedder, scale: objective.scale }
}

/// The parameters that text embeddings don't depend on: a pooler that came with the model.
pub(super) fn unread(model: &ModelConfig) -> impl Iterator<Item = String> {
    parameter_specs(model).into_iter().map(|spec| spec.name).filter(|name| name.starts_with("head."))
}

/// The number of texts in a row of the corpus.
pub(super) fn texts_of_row(objective: &ObjectiveConfig) -> usize {
    if objective.kind() == ObjectiveKind::Contrastive { 2 } else { 1 }
}

/// Checks that no step contains a pair twice, which would be its own negative, and that the settings suit embeddings.
///
/// # Errors
/// Returns an error if a step has more pairs than the corpus, or a film is requested.
pub(super) fn check_train(train: &TrainConfig, n_rows: u64) -> Result<()> {
    if train.film {
        let message = "train.film records predicted tokens, and a model of objective.kind = \"contrastive\" predicts \
                     none: leave it out";
        return Err(Error::Usage(message.to_owned()));
    }
    let of_step = (train.batch_rows as u64).saturating_mul(train.accumulate as u64);
    if of_step <= n_rows {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "a step takes {of_step} pairs (train.batch_rows = {}, train.accumulate = {}), and data.train has {n_rows}: \
         a pair would be its own negative; make train.batch_rows {n_rows} or less",
        train.batch_rows, train.accumulate
    )))
}
