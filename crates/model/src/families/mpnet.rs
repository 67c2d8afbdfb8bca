//! MPNet: preset and folders, `MPNetModel`, `MPNetForMaskedLM` and `MPNetForSequenceClassification`.

use super::encoder::BertLike;
use super::heads::EncoderClasses;
use super::names::Names;
use super::{About, Definition, Folder, roberta};
use crate::config::{Family, ModelConfig};

pub(super) static FAMILY: Definition = Definition {
    preset,
    folder: Some(Folder {
        model_type: "mpnet",
        about: ABOUT,
        names: NAMES,
        read: |reading| LIKE.read(reading),
        write: |config| LIKE.write(config),
    }),
};

/// The description in README.
const ABOUT: About = About {
    classes: &["MPNetForMaskedLM", "MPNetForSequenceClassification", "MPNetModel"],
    says: "as `bert`, without token types; learned relative position biases",
};

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig {
        vocab_size: 30_527,
        n_token_type: 0,
        relative_bias: Some(32),
        ..roberta::preset(Family::Mpnet)
    }
}

const LIKE: BertLike = BertLike {
    model_type: "mpnet",
    classes: EncoderClasses {
        masked: &["MPNetForMaskedLM"],
        bare: "MPNetModel",
        classify: "MPNetForSequenceClassification",
        shown_by: ("lm_head.dense.weight", "classifier.out_proj.weight"),
    },
    silent: || ModelConfig { norm_eps: 1e-12, ..preset() },
    // Regardless of pad_token_id.
    pad_id: Some(1),
};

/// MPNet's tensors.
const NAMES: Names = Names {
    first: &[("lm_head.bias", "lm_head.decoder.bias")],
    stale: &["embeddings.position_ids"],
    other_heads: &["*pooler.", "lm_head.", "classifier."],
    bare: &[("head.pooler", "*pooler.dense")],
    ..Names::new(
        "mpnet.",
        "*encoder.layer",
        &[
            ("embedding.token", "*embeddings.word_embeddings"),
            ("embedding.position", "*embeddings.position_embeddings"),
            ("embedding.norm", "*embeddings.LayerNorm"),
            ("relative_bias", "*encoder.relative_attention_bias"),
            ("head.transform", "lm_head.dense"),
            ("head.norm", "lm_head.layer_norm"),
            ("head.weight", "lm_head.decoder.weight"),
            ("head.bias", "lm_head.bias"),
            ("head.pooler", "classifier.dense"),
            ("head.classifier", "classifier.out_proj"),
        ],
        &[
            ("attention.query", "attention.attn.q"),
            ("attention.key", "attention.attn.k"),
            ("attention.value", "attention.attn.v"),
            ("attention.output", "attention.attn.o"),
            ("attention.norm", "attention.LayerNorm"),
            ("feed_forward.up", "intermediate.dense"),
            ("feed_forward.down", "output.dense"),
            ("feed_forward.norm", "output.LayerNorm"),
        ],
    )
};
