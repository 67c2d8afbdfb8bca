//! RoBERTa: preset and folders, `RobertaModel`, `RobertaForMaskedLM` and `RobertaForSequenceClassification`.

use super::encoder::BertLike;
use super::heads::EncoderClasses;
use super::names::Names;
use super::{About, Definition, Folder, bert};
use crate::config::{ActivationKind, Family, ModelConfig, Positions};

pub(super) static FAMILY: Definition = Definition {
    preset: || preset(Family::Roberta),
    folder: Some(Folder {
        model_type: "roberta",
        about: ABOUT,
        names: NAMES,
        read: |reading| LIKE.read(reading),
        write: |config| LIKE.write(config),
    }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["RobertaForMaskedLM", "RobertaForSequenceClassification", "RobertaModel"],
    says: "as `bert`; positions count from `pad_token_id` on",
};

/// The preset: what a config has by default.
pub(super) fn preset(family: Family) -> ModelConfig {
    ModelConfig {
        family,
        vocab_size: 50_265,
        positions: Positions::Counted,
        pad_id: Some(1),
        norm_eps: 1e-5,
        n_token_type: 1,
        head_activation: Some(ActivationKind::GeluErf),
        ..bert::preset()
    }
}

/// The defaults of `config.json`.
pub(super) fn silent(family: Family) -> ModelConfig {
    ModelConfig { n_token_type: 2, norm_eps: 1e-12, ..preset(family) }
}

const LIKE: BertLike = BertLike {
    model_type: "roberta",
    classes: EncoderClasses {
        masked: &["RobertaForMaskedLM"],
        bare: "RobertaModel",
        classify: "RobertaForSequenceClassification",
        shown_by: ("lm_head.dense.weight", "classifier.out_proj.weight"),
    },
    silent: || silent(Family::Roberta),
    pad_id: None,
};

/// RoBERTa's tensors.
pub(super) const NAMES: Names = Names {
    first: &[("lm_head.bias", "lm_head.decoder.bias")],
    endings: &[("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")],
    stale: &["embeddings.position_ids", "embeddings.token_type_ids"],
    other_heads: &["*pooler.", "lm_head.", "classifier."],
    bare: &[("head.pooler", "*pooler.dense")],
    ..Names::new(
        "roberta.",
        "*encoder.layer",
        &[
            ("embedding.token", "*embeddings.word_embeddings"),
            ("embedding.position", "*embeddings.position_embeddings"),
            ("embedding.token_type", "*embeddings.token_type_embeddings"),
            ("embedding.norm", "*embeddings.LayerNorm"),
            ("head.transform", "lm_head.dense"),
            ("head.norm", "lm_head.layer_norm"),
            ("head.weight", "lm_head.decoder.weight"),
            ("head.bias", "lm_head.bias"),
            ("head.pooler", "classifier.dense"),
            ("head.classifier", "classifier.out_proj"),
        ],
        bert::BLOCK,
    )
};
