//! XLM-RoBERTa: RoBERTa's arithmetic and tensors under separate names, `XLMRobertaModel`, `XLMRobertaForMaskedLM` and
//! `XLMRobertaForSequenceClassification`.

use super::encoder::BertLike;
use super::heads::EncoderClasses;
use super::{About, Definition, Folder, roberta};
use crate::config::{Family, ModelConfig};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder {
        model_type: "xlm-roberta",
        about: ABOUT,
        names: roberta::NAMES,
        read: |reading| LIKE.read(reading),
        write: |config| LIKE.write(config),
    }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["XLMRobertaForMaskedLM", "XLMRobertaForSequenceClassification", "XLMRobertaModel"],
    says: "as `roberta`",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig { vocab_size: 250_002, ..roberta::preset(Family::XlmRoberta) }
}

const LIKE: BertLike = BertLike {
    model_type: "xlm-roberta",
    classes: EncoderClasses {
        masked: &["XLMRobertaForMaskedLM"],
        bare: "XLMRobertaModel",
        classify: "XLMRobertaForSequenceClassification",
        shown_by: ("lm_head.dense.weight", "classifier.out_proj.weight"),
    },
    silent: || ModelConfig { vocab_size: 30_522, ..roberta::silent(Family::XlmRoberta) },
    pad_id: None,
};
