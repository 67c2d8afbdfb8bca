//! The `[model]` section of a config file.

use super::*;

/// What a config file says of the model: the family, and whatever is to differ from its preset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    pub rope_theta: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed_forward: Option<FeedForwardKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<MaskKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed_forward_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied_head: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_token_type: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_std: Option<f64>,
}

impl ModelSection {
    /// The whole model: this section over its family's preset (GPT-2's where none is named).
    ///
    /// `vocab_size` is the tokenizer's; a `vocab_size` in the section goes first and may be larger. The result may
    /// still contradict itself: see [`ModelConfig::faults`].
    pub fn resolve(&self, vocab_size: usize, head: Head) -> ModelConfig {
        let family = self.family.unwrap_or(Family::Gpt2);
        let preset = family.preset();
        let d_model = self.d_model.unwrap_or(preset.d_model);
        let n_head = self.n_head.unwrap_or(preset.n_head);
        let feed_forward = self.feed_forward.unwrap_or(preset.feed_forward);
        ModelConfig {
            family,
            vocab_size: self.vocab_size.unwrap_or(vocab_size),
            n_layer: self.n_layer.unwrap_or(preset.n_layer),
            n_head,
            n_kv_head: self.n_kv_head.unwrap_or(n_head),
            d_model,
            d_head: self.d_head.unwrap_or(d_model / n_head.max(1)),
            d_ff: self.d_ff.unwrap_or_else(|| Family::default_d_ff(feed_forward, d_model)),
            context_len: self.context_len.unwrap_or(preset.context_len),
            block: self.block.unwrap_or(preset.block),
            norm: self.norm.unwrap_or(preset.norm),
            norm_eps: self.norm_eps.unwrap_or(preset.norm_eps),
            positions: self.positions.unwrap_or(preset.positions),
            rope_theta: self.rope_theta.unwrap_or(10_000.0),
            rope_scaling: self.rope_scaling,
            feed_forward,
            mask: self.mask.unwrap_or(preset.mask),
            window: self.window,
            attention_scale: self.attention_scale,
            attention_bias: self.attention_bias.unwrap_or(preset.attention_bias),
            feed_forward_bias: self.feed_forward_bias.unwrap_or(preset.feed_forward_bias),
            tied_head: self.tied_head.unwrap_or(preset.tied_head),
            n_token_type: self.n_token_type.unwrap_or(preset.n_token_type),
            head,
            dropout: self.dropout.unwrap_or(preset.dropout),
            init_std: self.init_std.unwrap_or(preset.init_std),
        }
    }

    /// Faults that only the written section shows: `d_head` left to a division that doesn't come out even.
    pub fn faults(&self) -> Vec<Fault> {
        let preset = self.family.unwrap_or(Family::Gpt2).preset();
        let (d_model, n_head) =
            (self.d_model.unwrap_or(preset.d_model), self.n_head.unwrap_or(preset.n_head));
        if self.d_head.is_none() && n_head > 0 && d_model % n_head != 0 {
            let message = format!(
                "model.n_head = {n_head} does not divide model.d_model = {d_model}; or set model.d_head"
            );
            return vec![Fault { path: "model.n_head".into(), message }];
        }
        Vec::new()
    }
}

impl From<&ModelConfig> for ModelSection {
    /// The section that resolves to exactly this config.
    fn from(config: &ModelConfig) -> Self {
        Self {
            family: Some(config.family),
            vocab_size: Some(config.vocab_size),
            n_layer: Some(config.n_layer),
            n_head: Some(config.n_head),
            n_kv_head: Some(config.n_kv_head),
            d_model: Some(config.d_model),
            d_head: Some(config.d_head),
            d_ff: Some(config.d_ff),
            context_len: Some(config.context_len),
            block: Some(config.block),
            norm: Some(config.norm),
            norm_eps: Some(config.norm_eps),
            positions: Some(config.positions),
            rope_theta: Some(config.rope_theta),
            rope_scaling: config.rope_scaling,
            feed_forward: Some(config.feed_forward),
            mask: Some(config.mask),
            window: config.window,
            attention_scale: config.attention_scale,
            attention_bias: Some(config.attention_bias),
            feed_forward_bias: Some(config.feed_forward_bias),
            tied_head: Some(config.tied_head),
            n_token_type: Some(config.n_token_type),
            dropout: Some(config.dropout),
            init_std: Some(config.init_std),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_sound_and_survives_the_way_back() {
        for family in [Family::Fox, Family::Gpt2, Family::Bert, Family::Llama] {
            let section = ModelSection { family: Some(family), ..ModelSection::default() };
            let config = section.resolve(100, Head::NextToken);
            assert_eq!(config.faults(), [], "{family:?}");
            assert_eq!(ModelSection::from(&config).resolve(7, Head::NextToken), config);
        }
    }

    #[test]
    fn an_uneven_division_is_named() {
        let section = ModelSection { d_model: Some(128), n_head: Some(5), ..ModelSection::default() };
        assert_eq!(section.faults()[0].path, "model.n_head");
        assert!(section.faults()[0].message.contains("model.n_head = 5 does not divide model.d_model = 128"));
        assert_eq!(ModelSection { d_head: Some(7), ..section }.faults(), []);
    }
}
