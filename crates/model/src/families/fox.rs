//! The fox: one layer, one causal head, and nothing else. Stored in Vulpes' own layout.

use super::Definition;
use super::base::off;
use crate::config::{BlockKind, Family, FeedForwardKind, ModelConfig, NormKind, Positions};

pub(super) static FAMILY: Definition = Definition { preset, folder: None };

/// The preset: what a config has by default.
fn preset() -> ModelConfig {
    ModelConfig {
        n_layer: 1,
        n_head: 1,
        n_kv_head: 1,
        d_model: 16,
        d_head: 16,
        d_ff: 0,
        context_len: 16,
        block: BlockKind::Bare,
        norm: NormKind::None,
        positions: Positions::None,
        feed_forward: FeedForwardKind::None,
        attention_bias: false,
        feed_forward_bias: false,
        tied_head: false,
        init_std: 0.25,
        ..off(Family::Fox)
    }
}
