//! Differentiable operations of a transformer on candle tensors.
#![doc = include_str!("../README.md")]

mod activation;
mod attention;
mod attention_layer;
mod biased_attention;
mod blocks;
mod cross_entropy;
pub mod decode;
mod dropout;
mod embedding;
mod feed_forward;
mod flat;
mod gradients;
mod instructions;
mod kernel;
mod linear;
mod linear_residual;
mod lm_head;
mod loss;
mod muon;
mod norm;
mod optimizer;
mod parts;
mod recompute;
mod rotary;
mod sink;
mod softmax;
mod stored;
mod sublayer;
mod tape;
pub mod threads;
mod tree;

/// The reference of every operation: the same mathematics in plain differentiable candle operations.
pub mod reference {
    pub use crate::activation::reference::{gelu_erf, gelu_tanh, relu, relu2, silu, swiglu};
    pub use crate::attention::reference::{attention, attention_pattern};
    pub use crate::attention_layer::reference::attention_layer;
    pub use crate::biased_attention::reference::biased_attention;
    pub use crate::cross_entropy::reference::cross_entropy;
    pub use crate::dropout::reference::dropout;
    pub use crate::embedding::reference::{embedding, embedding_sum};
    pub use crate::feed_forward::reference::feed_forward;
    pub use crate::linear::adapted::reference::adapted_linear;
    pub use crate::linear::reference::linear;
    pub use crate::linear_residual::reference::linear_residual;
    pub use crate::lm_head::reference::lm_head;
    pub use crate::muon::reference::{muon, orthogonalized};
    pub use crate::norm::reference::{layer_norm, rms_norm};
    pub use crate::optimizer::reference::{adamw, average, sgd};
    pub use crate::rotary::reference::rotary;
    pub use crate::softmax::reference::softmax;
    pub use crate::threads::with_reference;
}

pub use activation::{Activation, gelu_erf, gelu_tanh, relu, relu2, silu, swiglu};
pub use attention::mask::Mask;
pub use attention::{AttentionOptions, Pattern, attention, attention_pattern};
pub use attention_layer::unfused::{AttentionPart, Inside, attention_layer_unfused};
pub use attention_layer::{AttentionLayer, attention_layer};
pub use biased_attention::biased_attention;
pub use blocks::{of_blocks, takes_blocks, to_blocks_no_grad, widened};
pub use cross_entropy::cross_entropy;
pub use dropout::{Dropout, dropout};
pub use embedding::{embedding, embedding_sum};
pub use feed_forward::{FeedForward, feed_forward};
pub use flat::Flat;
pub use gradients::{Gradients, backward, forward_for, grad_norm, sum_gradients, sum_nodes};
pub use instructions::{has_bfloat16_products, simd};
pub use kernel::scratch::release_pages;
pub use linear::adapted::{adapted_linear, merged_no_grad};
pub use linear::linear;
pub use linear_residual::linear_residual;
pub use lm_head::lm_head;
pub use loss::{CrossEntropyOptions, Loss};
pub use muon::{MuonScaling, MuonStep, Orthogonalizer, muon, orthogonalized};
pub use norm::{layer_norm, rms_norm};
pub use optimizer::{AdamwItem, AdamwStep, Noise, SgdStep, adamw, adamw_all, average, sgd};
pub use parts::{Adapter, Linear, Norm, RotaryTables};
pub use recompute::recomputed;
pub use rotary::rotary;
pub use softmax::softmax;
pub use stored::stored;
pub use tree::{TreeSum, fold_tree, tree_nodes};
