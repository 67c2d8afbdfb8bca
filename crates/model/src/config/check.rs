//! The consistency rules of a model's config.

use super::{
    BlockKind, FeedForwardKind, Head, InvalidKey, LayerOverride, MaskKind, ModelConfig, N_BUCKET, NormKind,
    Pooling, Positions, QkNorm,
};

/// The maximum number of rows of a bigram table.
const MOST_PAIRS: usize = 1 << 24;

pub(super) fn faults(config: &ModelConfig) -> Vec<InvalidKey> {
    let ModelConfig {
        family: _,
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
        attention_bias: _,
        attention_output_bias: _,
        feed_forward_bias: _,
        residual_multiplier,
        embedding_scale,
        embedding_norm,
        skip_first_norm,
        tied_head,
        n_token_type: _,
        head_bias,
        head_dense_bias: _,
        head_activation: _,
        classifier: _,
        pooling,
        logit_divisor,
        logit_softcap,
        head,
        dropout,
        init_std,
        embedding_init,
        head_init,
        branch_init,
        value_embeddings,
        bigrams,
    } = config;
    let mut faults = Vec::new();
    let mut wrong = |bad: bool, key: &str, message: String| {
        if bad {
            faults.push(InvalidKey { path: format!("model.{key}"), message });
        }
    };
    for (key, value) in [
        ("vocab_size", *vocab_size),
        ("n_layer", *n_layer),
        ("n_head", *n_head),
        ("n_kv_head", *n_kv_head),
        ("d_model", *d_model),
        ("d_head", *d_head),
        ("context_len", *context_len),
    ] {
        wrong(value == 0, key, format!("model.{key} = 0; at least 1 is needed"));
        wrong(value > 1 << 31, key, format!("model.{key} = {value} is too large to fit in memory"));
    }
    wrong(
        *n_kv_head > 0 && !n_head.is_multiple_of(*n_kv_head),
        "n_kv_head",
        format!("model.n_kv_head = {} does not divide model.n_head = {}", n_kv_head, n_head),
    );
    let (_, n_pair) = config.rotary_widths();
    wrong(
        *positions == Positions::Rotary && *rotary_fraction == 1.0 && *d_head % 2 == 1,
        "d_head",
        format!("model.d_head = {} is odd; rotary positions rotate pairs of channels", d_head),
    );
    wrong(
        !(0.0..=1.0).contains(rotary_fraction)
            || *positions == Positions::Rotary
                && *rotary_fraction < 1.0
                && (n_pair == 0 || 2 * n_pair > *d_head),
        "rotary_fraction",
        format!(
            "model.rotary_fraction = {rotary_fraction} of model.d_head = {d_head} channels must be at least one \
             pair, and no more pairs than a head has"
        ),
    );
    wrong(
        *rotary_fraction != 1.0 && *positions != Positions::Rotary,
        "rotary_fraction",
        "model.rotary_fraction needs model.positions = \"rotary\"".into(),
    );
    wrong(
        *positions == Positions::Counted && pad_id.is_none(),
        "pad_id",
        "model.positions = \"counted\" counts the tokens other than model.pad_id, so that must be set".into(),
    );
    wrong(
        pad_id.is_some_and(|id| id as usize >= *vocab_size && *vocab_size > 1),
        "pad_id",
        format!("model.pad_id = {} is beyond model.vocab_size = {vocab_size}", pad_id.unwrap_or(0)),
    );
    wrong(
        relative_bias.is_some_and(|rows| !(N_BUCKET..=1 << 31).contains(&rows)),
        "relative_bias",
        format!("model.relative_bias must be at least {N_BUCKET}, a row for each range of distances"),
    );
    for (key, value) in [
        ("residual_multiplier", Some(*residual_multiplier)),
        ("embedding_scale", Some(*embedding_scale)),
        ("logit_divisor", Some(*logit_divisor)),
        ("logit_softcap", *logit_softcap),
    ] {
        wrong(
            value.is_some_and(|value| value <= 0.0 || !value.is_finite()),
            key,
            format!("model.{key} must be greater than 0"),
        );
    }
    wrong(
        *logit_divisor != 1.0
            && (*head_bias == Some(true) || *head == Head::MaskedToken && head_bias.is_none()),
        "logit_divisor",
        "model.logit_divisor needs a head without a bias; set model.head_bias = false".into(),
    );
    wrong(
        *rope_theta <= 0.0 || !rope_theta.is_finite(),
        "rope_theta",
        format!("model.rope_theta = {} must be greater than 0", rope_theta),
    );
    wrong(
        rope_scaling.is_some() && *positions != Positions::Rotary,
        "rope_scaling",
        "model.rope_scaling needs model.positions = \"rotary\"".into(),
    );
    wrong(
        rope_scaling.is_some_and(|s| {
            s.factor < 1.0 || s.low_freq_factor <= 0.0 || s.high_freq_factor <= s.low_freq_factor || s.original_context_len == 0
        }),
        "rope_scaling",
        "model.rope_scaling needs factor ≥ 1, 0 < low_freq_factor < high_freq_factor and original_context_len ≥ 1".into(),
    );
    wrong(
        *window == Some(0),
        "window",
        "model.window = 0 leaves no keys to attend to; at least 1 is needed".into(),
    );
    wrong(
        attention_scale.is_some_and(|scale| scale <= 0.0 || !scale.is_finite()),
        "attention_scale",
        "model.attention_scale must be greater than 0; without it the scale is 1 / sqrt(model.d_head)".into(),
    );
    wrong(
        *feed_forward != FeedForwardKind::None && *d_ff == 0,
        "d_ff",
        "model.d_ff = 0; at least 1 is needed".into(),
    );
    wrong(
        *norm_eps < 0.0 || !norm_eps.is_finite(),
        "norm_eps",
        format!("model.norm_eps = {} must not be negative", norm_eps),
    );
    wrong(
        !(0.0..1.0).contains(dropout),
        "dropout",
        format!("model.dropout = {} is outside [0, 1)", *dropout),
    );
    wrong(
        *init_std <= 0.0 || !init_std.is_finite(),
        "init_std",
        format!("model.init_std = {} must be greater than 0", init_std),
    );
    for (key, factor) in [
        ("embedding_init", Some(*embedding_init)),
        ("head_init", Some(*head_init)),
        ("branch_init", *branch_init),
    ] {
        wrong(
            factor.is_some_and(|factor| factor < 0.0 || !factor.is_finite()),
            key,
            format!("model.{key} must be 0 or more"),
        );
    }
    wrong(
        *embedding_init == 0.0,
        "embedding_init",
        "model.embedding_init = 0 initializes all tokens alike; more than 0 is needed".into(),
    );
    wrong(
        *head_init != 1.0 && (*tied_head || !matches!(head, Head::NextToken | Head::MaskedToken)),
        "head_init",
        "model.head_init needs an untied vocabulary head: model.tied_head = false".into(),
    );
    wrong(
        *value_embeddings > *n_layer,
        "value_embeddings",
        format!("model.value_embeddings = {value_embeddings} is more than model.n_layer = {n_layer} layers"),
    );
    let looks_back = *mask == MaskKind::Causal && *positions != Positions::Counted;
    wrong(
        *bigrams && !looks_back,
        "bigrams",
        "model.bigrams needs model.mask = \"causal\", and positions that are not counted".into(),
    );
    wrong(
        *bigrams && vocab_size.saturating_mul(vocab_size + 1) > MOST_PAIRS,
        "bigrams",
        format!(
            "model.bigrams has a row for each pair of tokens, too many at model.vocab_size = {vocab_size}"
        ),
    );
    wrong(
        layers.len() > *n_layer,
        "layers",
        format!("model.layers has {} entries for model.n_layer = {n_layer} layers", layers.len()),
    );
    let bare = *block == BlockKind::Bare;
    wrong(
        bare && *feed_forward != FeedForwardKind::None,
        "feed_forward",
        "model.block = \"bare\" has only attention; use model.feed_forward = \"none\", or block = \"pre\""
            .into(),
    );
    wrong(
        bare && *norm != NormKind::None,
        "norm",
        "model.block = \"bare\" has no norm; use model.norm = \"none\", or block = \"pre\"".into(),
    );
    wrong(
        *norm == NormKind::None && (*qk_norm != QkNorm::None || *embedding_norm == Some(true)),
        "norm",
        "model.qk_norm and model.embedding_norm need a kind of norm; model.norm = \"none\" is set".into(),
    );
    wrong(
        bare && *residual_multiplier != 1.0,
        "residual_multiplier",
        "model.block = \"bare\" has no residual stream; use model.residual_multiplier = 1".into(),
    );
    wrong(
        *skip_first_norm && !matches!(block, BlockKind::Pre | BlockKind::Parallel | BlockKind::Sandwich),
        "skip_first_norm",
        "model.skip_first_norm needs blocks with a separate norm before attention: model.block = \"pre\", \
         \"parallel\" or \"sandwich\""
            .into(),
    );
    wrong(
        !bare && *norm == NormKind::None,
        "norm",
        "model.norm = \"none\" needs model.block = \"bare\"; use \"layer\" or \"rms\"".into(),
    );
    wrong(
        bare && *n_head * *d_head != *d_model && (*n_layer > 1 || *tied_head),
        "d_head",
        format!(
            "a bare block outputs context vectors of model.n_head · model.d_head = {}, but model.d_model = {} is needed",
            n_head * *d_head,
            d_model
        ),
    );
    wrong(
        bare && *head != Head::NextToken && *n_head * *d_head != *d_model,
        "d_head",
        "a bare block under this objective needs model.n_head · model.d_head = model.d_model".into(),
    );
    wrong(
        matches!(head, Head::Classify { .. }) && *mask == MaskKind::Causal && *pooling == Pooling::First,
        "mask",
        "objective.kind = \"classify\" reads the first token, which sees nothing under a causal mask; use \
         model.mask = \"full\", or model.pooling = \"last\""
            .into(),
    );
    wrong(
        *head == Head::MaskedToken && *mask == MaskKind::Causal,
        "mask",
        "objective.kind = \"masked_token\" needs tokens on both sides; use model.mask = \"full\"".into(),
    );
    wrong(
        matches!(head, Head::Classify { n_labels } if *n_labels < 2),
        "family",
        "classification needs at least 2 labels".into(),
    );
    faults.extend(layer_faults(layers, *positions));
    faults
}

/// The faults in the settings of single layers, given the model's positions.
fn layer_faults(layers: &[LayerOverride], positions: Positions) -> Vec<InvalidKey> {
    let mut faults = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        let LayerOverride { window, rope_theta, positions: own, rope_scaled } = layer;
        let mut wrong = |bad: bool, name: &str, message: &str| {
            if bad {
                let message = format!("model.layers[{at}].{name} {message}");
                faults.push(InvalidKey { path: "model.layers".into(), message });
            }
        };
        wrong(*window == Some(0), "window", "= 0 leaves no keys to attend to; at least 1 is needed");
        wrong(
            rope_theta.is_some_and(|theta| theta <= 0.0 || !theta.is_finite()),
            "rope_theta",
            "must be greater than 0",
        );
        wrong(
            rope_theta.is_some() && own.unwrap_or(positions) != Positions::Rotary,
            "rope_theta",
            "needs rotary positions in that layer",
        );
        wrong(
            rope_scaled.is_some() && own.unwrap_or(positions) != Positions::Rotary,
            "rope_scaled",
            "needs rotary positions in that layer",
        );
        wrong(
            own.is_some_and(|own| {
                own != positions && (own != Positions::None || positions != Positions::Rotary)
            }),
            "positions",
            "can only be \"none\", under model.positions = \"rotary\"",
        );
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::ModelSection;

    fn gpt2(change: impl Fn(&mut ModelConfig)) -> Vec<String> {
        let mut config = ModelSection::default().resolve(10, Head::NextToken);
        change(&mut config);
        config.faults().into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn each_rule_names_its_key() {
        assert_eq!(gpt2(|c| c.n_kv_head = 5), ["model.n_kv_head"]);
        assert_eq!(gpt2(|c| c.dropout = 1.0), ["model.dropout"]);
        assert_eq!(gpt2(|c| c.dropout = f64::NAN), ["model.dropout"]);
        assert_eq!(gpt2(|c| c.window = Some(0)), ["model.window"]);
        assert_eq!(gpt2(|c| c.norm = NormKind::None), ["model.norm"]);
        assert_eq!(gpt2(|c| c.block = BlockKind::Bare), ["model.feed_forward", "model.norm"]);
        assert_eq!(gpt2(|c| c.head = Head::MaskedToken), ["model.mask"]);
        assert_eq!(gpt2(|c| (c.positions, c.d_head) = (Positions::Rotary, 63)), ["model.d_head"]);
        assert_eq!(gpt2(|c| (c.n_layer, c.d_model) = (0, 0)), ["model.n_layer", "model.d_model"]);
    }
}
