//! What each family sets where the config is silent.

use super::{BlockKind, Family, FeedForwardKind, MaskKind, NormKind, Positions};

/// The settings of a family that are not sizes.
pub(super) struct Preset {
    pub(super) n_layer: usize,
    pub(super) n_head: usize,
    pub(super) d_model: usize,
    pub(super) context_len: usize,
    pub(super) block: BlockKind,
    pub(super) norm: NormKind,
    pub(super) norm_eps: f64,
    pub(super) positions: Positions,
    pub(super) feed_forward: FeedForwardKind,
    pub(super) mask: MaskKind,
    pub(super) attention_bias: bool,
    pub(super) feed_forward_bias: bool,
    pub(super) tied_head: bool,
    pub(super) n_token_type: usize,
    pub(super) dropout: f64,
    pub(super) init_std: f64,
}

impl Family {
    pub(super) fn preset(self) -> Preset {
        let gpt2 = Preset {
            n_layer: 12,
            n_head: 12,
            d_model: 768,
            context_len: 1024,
            block: BlockKind::Pre,
            norm: NormKind::Layer,
            norm_eps: 1e-5,
            positions: Positions::Learned,
            feed_forward: FeedForwardKind::GeluTanh,
            mask: MaskKind::Causal,
            attention_bias: true,
            feed_forward_bias: true,
            tied_head: true,
            n_token_type: 0,
            dropout: 0.0,
            init_std: 0.02,
        };
        match self {
            Family::Gpt2 => gpt2,
            Family::Fox => Preset {
                n_layer: 1,
                n_head: 1,
                d_model: 16,
                context_len: 16,
                block: BlockKind::Bare,
                norm: NormKind::None,
                positions: Positions::None,
                feed_forward: FeedForwardKind::None,
                attention_bias: false,
                feed_forward_bias: false,
                tied_head: false,
                init_std: 0.25,
                ..gpt2
            },
            Family::Bert => Preset {
                context_len: 512,
                block: BlockKind::Post,
                norm_eps: 1e-12,
                feed_forward: FeedForwardKind::GeluErf,
                mask: MaskKind::Full,
                n_token_type: 2,
                ..gpt2
            },
            Family::Llama => Preset {
                context_len: 2048,
                norm: NormKind::Rms,
                positions: Positions::Rotary,
                feed_forward: FeedForwardKind::Swiglu,
                attention_bias: false,
                feed_forward_bias: false,
                tied_head: false,
                ..gpt2
            },
        }
    }

    /// The feed-forward width where none is given: `4 d`, or for a gated one `8/3 d` rounded up to a multiple of 8,
    /// which has about as many parameters.
    pub(super) fn default_d_ff(feed_forward: FeedForwardKind, d_model: usize) -> usize {
        match feed_forward {
            FeedForwardKind::None => 0,
            FeedForwardKind::Swiglu => (8 * d_model).div_ceil(3).next_multiple_of(8),
            _ => 4 * d_model,
        }
    }
}
