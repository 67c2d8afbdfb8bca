//! The `[model]` section of a config file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{
    ActivationKind, BlockKind, ClassifierKind, Family, FeedForwardKind, Head, InvalidKey, LayerOverride,
    MaskKind, ModelConfig, NormKind, Pooling, Positions, QkNorm, RopeScaling,
};
use crate::families;

/// The model in a config file: the family, and the settings that differ from its preset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "each field is the Option of ModelConfig's field of that name")]
pub struct ModelSection {
    pub family: Option<Family>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_layer: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_head: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_kv_head: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_model: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_head: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_ff: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_len: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<BlockKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<NormKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_eps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Positions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_bias: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotary_fraction: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed_forward: Option<FeedForwardKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<MaskKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<LayerOverride>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qk_norm: Option<QkNorm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_output_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed_forward_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residual_multiplier: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_norm: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_first_norm: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied_head: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_token_type: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dense_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_activation: Option<ActivationKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier: Option<ClassifierKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_divisor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_softcap: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_std: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_init: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_init: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch_init: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_embeddings: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bigrams: Option<bool>,
}

impl ModelSection {
    /// The complete config: this section over its family's preset (GPT-2's by default).
    ///
    /// `vocab_size` is the tokenizer's; a `vocab_size` in the section takes precedence and may be larger. The result may
    /// still contradict itself: see [`ModelConfig::faults`].
    pub fn resolve(&self, vocab_size: usize, head: Head) -> ModelConfig {
        let Self {
            family,
            vocab_size: own_vocab_size,
            n_layer,
            n_head,
            n_kv_head,
            d_model,
            d_head,
            d_ff,
            context_len,
            block,
            norm,
            norm_eps,
            positions,
            pad_id,
            relative_bias,
            rope_theta,
            rotary_fraction,
            rope_scaling,
            feed_forward,
            mask,
            window,
            layers,
            attention_scale,
            qk_norm,
            attention_bias,
            attention_output_bias,
            feed_forward_bias,
            residual_multiplier,
            embedding_scale,
            embedding_norm,
            skip_first_norm,
            tied_head,
            n_token_type,
            head_bias,
            head_dense_bias,
            head_activation,
            classifier,
            pooling,
            logit_divisor,
            logit_softcap,
            dropout,
            init_std,
            embedding_init,
            head_init,
            branch_init,
            value_embeddings,
            bigrams,
        } = self;
        let preset = families::of(family.unwrap_or(Family::Gpt2)).preset();
        let d_model = d_model.unwrap_or(preset.d_model);
        let n_head = n_head.unwrap_or(preset.n_head);
        let feed_forward = feed_forward.unwrap_or(preset.feed_forward);
        ModelConfig {
            family: preset.family,
            vocab_size: own_vocab_size.unwrap_or(vocab_size),
            n_layer: n_layer.unwrap_or(preset.n_layer),
            n_head,
            n_kv_head: n_kv_head.unwrap_or(n_head),
            d_model,
            d_head: d_head.unwrap_or(d_model / n_head.max(1)),
            d_ff: d_ff.unwrap_or_else(|| feed_forward.default_width(d_model)),
            context_len: context_len.unwrap_or(preset.context_len),
            block: block.unwrap_or(preset.block),
            norm: norm.unwrap_or(preset.norm),
            norm_eps: norm_eps.unwrap_or(preset.norm_eps),
            positions: positions.unwrap_or(preset.positions),
            pad_id: pad_id.or(preset.pad_id),
            relative_bias: relative_bias.or(preset.relative_bias),
            rope_theta: rope_theta.unwrap_or(preset.rope_theta),
            rotary_fraction: rotary_fraction.unwrap_or(preset.rotary_fraction),
            rope_scaling: rope_scaling.or(preset.rope_scaling),
            feed_forward,
            mask: mask.unwrap_or(preset.mask),
            window: window.or(preset.window),
            // A preset's pattern is cut to the number of layers.
            layers: layers.clone().unwrap_or_else(|| match n_layer {
                Some(n_layer) => preset.layers.into_iter().take(*n_layer).collect(),
                None => preset.layers,
            }),
            attention_scale: attention_scale.or(preset.attention_scale),
            qk_norm: qk_norm.unwrap_or(preset.qk_norm),
            attention_bias: attention_bias.unwrap_or(preset.attention_bias),
            attention_output_bias: attention_output_bias.or(preset.attention_output_bias),
            feed_forward_bias: feed_forward_bias.unwrap_or(preset.feed_forward_bias),
            residual_multiplier: residual_multiplier.unwrap_or(preset.residual_multiplier),
            embedding_scale: embedding_scale.unwrap_or_else(|| match preset.embedding_scale {
                // An embedding scale of √d_model follows the width.
                root if root == (preset.d_model as f64).sqrt() => (d_model as f64).sqrt(),
                factor => factor,
            }),
            embedding_norm: embedding_norm.or(preset.embedding_norm),
            skip_first_norm: skip_first_norm.unwrap_or(preset.skip_first_norm),
            tied_head: tied_head.unwrap_or(preset.tied_head),
            n_token_type: n_token_type.unwrap_or(preset.n_token_type),
            head_bias: head_bias.or(preset.head_bias),
            head_dense_bias: head_dense_bias.unwrap_or(preset.head_dense_bias),
            head_activation: head_activation.or(preset.head_activation),
            classifier: classifier.unwrap_or(preset.classifier),
            pooling: pooling.unwrap_or(preset.pooling),
            logit_divisor: logit_divisor.unwrap_or(preset.logit_divisor),
            logit_softcap: logit_softcap.or(preset.logit_softcap),
            head,
            dropout: dropout.unwrap_or(preset.dropout),
            init_std: init_std.unwrap_or(preset.init_std),
            embedding_init: embedding_init.unwrap_or(preset.embedding_init),
            head_init: head_init.unwrap_or(preset.head_init),
            branch_init: branch_init.or(preset.branch_init),
            value_embeddings: value_embeddings.unwrap_or(preset.value_embeddings),
            bigrams: bigrams.unwrap_or(preset.bigrams),
        }
        .canonical()
    }

    /// Faults that only the written section shows: a derived `d_head` that is not an integer.
    pub fn faults(&self) -> Vec<InvalidKey> {
        let preset = families::of(self.family.unwrap_or(Family::Gpt2)).preset();
        let (d_model, n_head) =
            (self.d_model.unwrap_or(preset.d_model), self.n_head.unwrap_or(preset.n_head));
        if self.d_head.is_none() && n_head > 0 && d_model % n_head != 0 {
            let message = format!(
                "model.n_head = {n_head} does not divide model.d_model = {d_model}; or set model.d_head"
            );
            return vec![InvalidKey { path: "model.n_head".into(), message }];
        }
        Vec::new()
    }
}

impl From<&ModelConfig> for ModelSection {
    /// The section that resolves to exactly this config.
    fn from(config: &ModelConfig) -> Self {
        let ModelConfig {
            family,
            vocab_size,
            n_layer,
            n_head,
            n_kv_head,
            d_model,
            d_head,
            d_ff,
            context_len,
            block,
            norm,
            norm_eps,
            positions,
            pad_id,
            relative_bias,
            rope_theta,
            rotary_fraction,
            rope_scaling,
            feed_forward,
            mask,
            window,
            layers,
            attention_scale,
            qk_norm,
            attention_bias,
            attention_output_bias,
            feed_forward_bias,
            residual_multiplier,
            embedding_scale,
            embedding_norm,
            skip_first_norm,
            tied_head,
            n_token_type,
            head_bias,
            head_dense_bias,
            head_activation,
            classifier,
            pooling,
            logit_divisor,
            logit_softcap,
            head: _,
            dropout,
            init_std,
            embedding_init,
            head_init,
            branch_init,
            value_embeddings,
            bigrams,
        } = config;
        Self {
            family: Some(*family),
            vocab_size: Some(*vocab_size),
            n_layer: Some(*n_layer),
            n_head: Some(*n_head),
            n_kv_head: Some(*n_kv_head),
            d_model: Some(*d_model),
            d_head: Some(*d_head),
            d_ff: Some(*d_ff),
            context_len: Some(*context_len),
            block: Some(*block),
            norm: Some(*norm),
            norm_eps: Some(*norm_eps),
            positions: Some(*positions),
            pad_id: *pad_id,
            relative_bias: *relative_bias,
            rope_theta: Some(*rope_theta),
            rotary_fraction: Some(*rotary_fraction),
            rope_scaling: *rope_scaling,
            feed_forward: Some(*feed_forward),
            mask: Some(*mask),
            window: *window,
            // An empty list removes a preset's pattern.
            layers: (!layers.is_empty() || !families::of(*family).preset().layers.is_empty())
                .then(|| layers.clone()),
            attention_scale: *attention_scale,
            qk_norm: Some(*qk_norm),
            attention_bias: Some(*attention_bias),
            attention_output_bias: *attention_output_bias,
            feed_forward_bias: Some(*feed_forward_bias),
            residual_multiplier: Some(*residual_multiplier),
            embedding_scale: Some(*embedding_scale),
            embedding_norm: *embedding_norm,
            skip_first_norm: Some(*skip_first_norm),
            tied_head: Some(*tied_head),
            n_token_type: Some(*n_token_type),
            head_bias: *head_bias,
            head_dense_bias: Some(*head_dense_bias),
            head_activation: *head_activation,
            classifier: Some(*classifier),
            pooling: Some(*pooling),
            logit_divisor: Some(*logit_divisor),
            logit_softcap: *logit_softcap,
            dropout: Some(*dropout),
            init_std: Some(*init_std),
            embedding_init: Some(*embedding_init).filter(|factor| *factor != 1.0),
            head_init: Some(*head_init).filter(|factor| *factor != 1.0),
            branch_init: *branch_init,
            value_embeddings: Some(*value_embeddings).filter(|every| *every > 0),
            bigrams: Some(*bigrams).filter(|is_on| *is_on),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_round_trips() {
        for family in families::FAMILIES.iter().map(|definition| definition.preset().family) {
            let section = ModelSection { family: Some(family), ..ModelSection::default() };
            let config = section.resolve(100, Head::NextToken);
            assert_eq!(config.faults(), [], "{family:?}");
            assert_eq!(ModelSection::from(&config).resolve(7, Head::NextToken), config);
        }
    }

    #[test]
    fn an_n_head_that_does_not_divide_d_model_is_refused() {
        let section = ModelSection { d_model: Some(128), n_head: Some(5), ..ModelSection::default() };
        assert_eq!(section.faults()[0].path, "model.n_head");
        assert!(section.faults()[0].message.contains("model.n_head = 5 does not divide model.d_model = 128"));
        assert_eq!(ModelSection { d_head: Some(7), ..section }.faults(), []);
    }
}
