//! The fox: one layer, one causal head, and nothing else. Its folders are Vulpes' own.

use super::Definition;
use crate::config::{BlockKind, Family, FeedForwardKind, Head, MaskKind, ModelConfig, NormKind, Positions};

pub(super) static FAMILY: Definition = Definition { preset, folder: None };

/// What a config has where it is silent.
fn preset() -> ModelConfig {
    ModelConfig {
        family: Family::Fox,
        vocab_size: 1,
        n_layer: 1,
        n_head: 1,
        n_kv_head: 1,
        d_model: 16,
        d_head: 16,
        d_ff: 0,
        context_len: 16,
        block: BlockKind::Bare,
        norm: NormKind::None,
        norm_eps: 1e-5,
        positions: Positions::None,
        rope_theta: 10_000.0,
        rope_scaling: None,
        feed_forward: FeedForwardKind::None,
        mask: MaskKind::Causal,
        window: None,
        layers: Vec::new(),
        attention_scale: None,
        attention_bias: false,
        feed_forward_bias: false,
        tied_head: false,
        n_token_type: 0,
        head: Head::NextToken,
        dropout: 0.0,
        init_std: 0.25,
    }
}
