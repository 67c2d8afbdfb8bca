//! BERT: preset and folders, `BertModel`, `BertForMaskedLM`, `BertForPreTraining` and
//! `BertForSequenceClassification`.

use super::base::off;
use super::encoder::BertLike;
use super::heads::EncoderClasses;
use super::names::Names;
use super::{About, Definition, Folder};
use crate::config::{BlockKind, Family, FeedForwardKind, MaskKind, ModelConfig};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder {
        model_type: "bert",
        about: ABOUT,
        names: NAMES,
        read: |reading| LIKE.read(reading),
        write: |config| LIKE.write(config),
    }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["BertForMaskedLM", "BertForPreTraining", "BertForSequenceClassification", "BertModel"],
    says: "activations as `gpt2`; tied or untied decoder; any number of token types; two labels or more; with or without its pooler. The next-sentence head of pre-training is ignored",
};

/// The preset: what a config has by default.
pub(super) fn preset() -> ModelConfig {
    ModelConfig {
        vocab_size: 30_522,
        context_len: 512,
        block: BlockKind::Post,
        norm_eps: 1e-12,
        feed_forward: FeedForwardKind::GeluErf,
        mask: MaskKind::Full,
        n_token_type: 2,
        ..off(Family::Bert)
    }
}

const LIKE: BertLike = BertLike {
    model_type: "bert",
    classes: EncoderClasses {
        masked: &["BertForMaskedLM", "BertForPreTraining"],
        bare: "BertModel",
        classify: "BertForSequenceClassification",
        shown_by: ("cls.predictions.transform.dense.weight", "classifier.weight"),
    },
    silent: preset,
    pad_id: None,
};

/// The modules of a block, by the names of BERT and its relatives.
pub(super) const BLOCK: &[(&str, &str)] = &[
    ("attention.query", "attention.self.query"),
    ("attention.key", "attention.self.key"),
    ("attention.value", "attention.self.value"),
    ("attention.output", "attention.output.dense"),
    ("attention.norm", "attention.output.LayerNorm"),
    ("feed_forward.up", "intermediate.dense"),
    ("feed_forward.down", "output.dense"),
    ("feed_forward.norm", "output.LayerNorm"),
];

/// BERT's tensors. Old files converted from TensorFlow call a norm's weight and bias gamma and beta.
const NAMES: Names = Names {
    // With an untied decoder the bias in use is the decoder's; with a tied one, both are the same.
    first: &[("cls.predictions.bias", "cls.predictions.decoder.bias")],
    endings: &[("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")],
    stale: &["embeddings.position_ids", "embeddings.token_type_ids"],
    other_heads: &["*pooler.", "cls.", "classifier."],
    ..Names::new(
        "bert.",
        "*encoder.layer",
        &[
            ("embedding.token", "*embeddings.word_embeddings"),
            ("embedding.position", "*embeddings.position_embeddings"),
            ("embedding.token_type", "*embeddings.token_type_embeddings"),
            ("embedding.norm", "*embeddings.LayerNorm"),
            ("head.transform", "cls.predictions.transform.dense"),
            ("head.norm", "cls.predictions.transform.LayerNorm"),
            ("head.weight", "cls.predictions.decoder.weight"),
            ("head.bias", "cls.predictions.bias"),
            ("head.pooler", "*pooler.dense"),
            ("head.classifier", "classifier"),
        ],
        BLOCK,
    )
};
