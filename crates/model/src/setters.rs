//! The keys of `[model]` as methods, for programs that describe a model without a config file.

use candle_core::{DType, Device};

use crate::config::{
    ActivationKind, BlockKind, ClassifierKind, Family, FeedForwardKind, Head, LayerOverride, MaskKind,
    NormKind, Pooling, Positions, QkNorm, RopeScaling,
};
use crate::section::ModelSection;
use crate::transformer::Transformer;

impl ModelSection {
    /// A section with a family's preset; each setter changes one key.
    ///
    /// # Examples
    /// ```
    /// use vulpes_model::{ModelSection, config::Family};
    ///
    /// let model = ModelSection::of(Family::Llama).n_layer(2).n_head(2).d_model(16).context_len(8).init(10, 42)?;
    /// assert_eq!(model.config().n_layer, 2);
    /// # Ok::<(), vulpes_model::Error>(())
    /// ```
    pub fn of(family: Family) -> Self {
        Self { family: Some(family), ..Self::default() }
    }

    /// A fresh model that predicts the next of `vocab_size` tokens, on the CPU in float32 ([`Transformer::init`] takes
    /// others).
    ///
    /// # Errors
    /// Returns an error if the keys contradict each other.
    pub fn init(&self, vocab_size: usize, seed: u64) -> crate::Result<Transformer> {
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(crate::Error::Config(faults));
        }
        Transformer::init(&self.resolve(vocab_size, Head::NextToken), seed, DType::F32, &Device::Cpu)
    }
}

/// A method for each key.
macro_rules! setters {
    ($($key:ident: $kind:ty,)*) => {
        impl ModelSection {
            $(
                #[doc = concat!("Sets `model.", stringify!($key), "` ([`crate::ModelConfig::", stringify!($key), "`]).")]
                #[must_use]
                pub fn $key(mut self, $key: $kind) -> Self {
                    self.$key = Some($key);
                    self
                }
            )*
        }

        /// The keys that have a setter.
        #[cfg(test)]
        const KEYS: &[&str] = &[$(stringify!($key)),*];
    };
}

setters! {
    vocab_size: usize,
    n_layer: usize,
    n_head: usize,
    n_kv_head: usize,
    d_model: usize,
    d_head: usize,
    d_ff: usize,
    context_len: usize,
    block: BlockKind,
    norm: NormKind,
    norm_eps: f64,
    positions: Positions,
    pad_id: u32,
    relative_bias: usize,
    rope_theta: f64,
    rotary_fraction: f64,
    rope_scaling: RopeScaling,
    feed_forward: FeedForwardKind,
    mask: MaskKind,
    window: usize,
    layers: Vec<LayerOverride>,
    attention_scale: f64,
    qk_norm: QkNorm,
    attention_bias: bool,
    attention_output_bias: bool,
    feed_forward_bias: bool,
    residual_multiplier: f64,
    embedding_scale: f64,
    embedding_norm: bool,
    skip_first_norm: bool,
    tied_head: bool,
    n_token_type: usize,
    head_bias: bool,
    head_dense_bias: bool,
    head_activation: ActivationKind,
    classifier: ClassifierKind,
    pooling: Pooling,
    logit_divisor: f64,
    logit_softcap: f64,
    dropout: f64,
    embedding_init: f64,
    head_init: f64,
    branch_init: f64,
    value_embeddings: usize,
    bigrams: bool,
    init_std: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_setter() {
        let all = ModelSection::from(&ModelSection::default().resolve(100, Head::NextToken));
        let schema = serde_json::to_value(schemars::schema_for!(ModelSection)).unwrap();
        let keys = schema["properties"].as_object().unwrap().keys().filter(|key| *key != "family");
        let without: Vec<&String> = keys.filter(|key| !KEYS.contains(&key.as_str())).collect();
        assert!(without.is_empty(), "{without:?}");
        assert_eq!(all.n_layer(3).n_layer, Some(3));
    }
}
