//! The model config that the keys and tensors of a file describe.

use serde_json::{Map, Value};

use super::architecture::{ARCHITECTURES, Architecture, Biases, Factors, HeadForm};
use super::container::File;
use super::said::Said;
use super::{keys, layers};
use crate::config::{
    ActivationKind, BlockKind, FeedForwardKind, Head, MaskKind, ModelConfig, Pooling, RopeScaling,
    ScalingKind,
};
use crate::embedder::{Embedder, TextPooling};
use crate::families;
use crate::folder::{Error, Extra, Sentence};

/// Largest accepted context length, in tokens: position tables are this long.
const MOST_CONTEXT: usize = 1 << 22;

/// The model that a file describes, without its weights.
pub(super) struct Described {
    pub(super) architecture: &'static Architecture,
    pub(super) config: ModelConfig,
    pub(super) extra: Extra,
}

/// Returns the settings that llama.cpp has no key for and that differ from what a reader assumes.
pub fn unsaid(architecture: &Architecture, config: &ModelConfig) -> Map<String, Value> {
    let plain = plain(architecture);
    let mut more = Map::new();
    let mut say = |key: &str, value: Result<Value, serde_json::Error>| {
        more.extend(value.ok().map(|value| (key.to_owned(), value)));
    };
    if config.feed_forward != plain.feed_forward {
        say("feed_forward", serde_json::to_value(config.feed_forward));
    }
    if matches!(config.head, Head::Classify { .. }) && config.head_activation != plain.head_activation {
        say("head_activation", serde_json::to_value(config.head_activation));
    }
    if let Some(scaling) = config.rope_scaling.filter(|scaling| scaling.kind == ScalingKind::Llama3) {
        say("rope_scaling", serde_json::to_value(scaling));
    }
    more
}

/// The defaults of an architecture, for what its file leaves out.
fn plain(architecture: &Architecture) -> ModelConfig {
    let family = architecture.families.first().copied().unwrap_or(crate::config::Family::Llama);
    families::of(family).preset()
}

/// Reads the config of a file.
///
/// # Errors
/// Returns an error that lists everything unsupported, missing or contradictory.
pub(super) fn describe(file: &File) -> Result<Described, Error> {
    let wrong = |problem: String| file.wrong(vec![problem]);
    let kind = file.keys().get(keys::TYPE).and_then(Value::as_str);
    if let Some(kind) = kind.filter(|kind| *kind != "model") {
        return Err(wrong(format!(
            "is not a model: {} is {kind:?}; expected \"model\". Pass an adapter's folder with --adapter",
            keys::TYPE
        )));
    }
    let known = || ARCHITECTURES.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
    let name =
        file.keys().get(keys::ARCHITECTURE).and_then(Value::as_str).ok_or_else(|| {
            wrong(format!("has no key {}; expected one of {}", keys::ARCHITECTURE, known()))
        })?;
    let architecture = ARCHITECTURES.iter().find(|one| one.name == name).ok_or_else(|| {
        wrong(format!(
            "{} is {name:?}, which is not supported; expected one of {}. Use the model's folder instead",
            keys::ARCHITECTURE,
            known()
        ))
    })?;
    let mut said = Said::new(file.keys(), architecture.name);
    let config = config(file, architecture, &mut said);
    let extra = extra(&mut said, config.head);
    if said.problems.is_empty() {
        said.problems.extend(config.faults().into_iter().map(|fault| fault.message));
    }
    match said.problems.is_empty() {
        true => Ok(Described { architecture, config: config.canonical(), extra }),
        false => Err(file.wrong(said.problems)),
    }
}

fn config(file: &File, architecture: &Architecture, said: &mut Said) -> ModelConfig {
    let has = |name: &str| file.tensors().contains_key(name);
    let rows = |name: &str| file.tensors().get(name).and_then(|entry| entry.shape.first().copied());
    let plain = plain(architecture);
    let n_layer = said.count(keys::BLOCKS);
    let mut n_layer = said.needed(keys::BLOCKS, n_layer);
    let d_model = said.count(keys::WIDTH);
    let d_model = said.needed(keys::WIDTH, d_model);
    let n_head = said.count(keys::HEADS);
    let n_head = said.needed(keys::HEADS, n_head);
    let context_len = said.count(keys::CONTEXT);
    let d_ff = said.count(keys::FEED_FORWARD);
    let norm_eps = said.number(keys::norm_epsilon(architecture.norm));
    if n_layer > file.tensors().len() {
        // A table of names for this many layers might not fit in memory.
        let n = file.tensors().len();
        said.problems.push(format!("has {n_layer} layers by its keys, but only {n} tensors"));
        n_layer = n;
    }
    if context_len.is_some_and(|n| n > MOST_CONTEXT) {
        let name = architecture.name;
        said.problems.push(format!("{name}.{} is above {MOST_CONTEXT}: the file is damaged", keys::CONTEXT));
    }
    let d_head = said.count(keys::KEY_WIDTH).unwrap_or(d_model / n_head.max(1));
    if said.count(keys::VALUE_WIDTH).is_some_and(|width| width != d_head) {
        said.problems.push(format!(
            "has value heads of another width than key heads ({d_head}), which is not supported"
        ));
    }
    if said.count(keys::EXPERTS).is_some_and(|n| n > 0) {
        said.problems.push("is a mixture of experts, which is not supported".to_owned());
    }
    if said.flag(keys::CAUSAL).is_some_and(|causal| causal != (architecture.mask == MaskKind::Causal)) {
        let name = architecture.name;
        said.problems
            .push(format!("{name}.{} differs from the mask of {name}, which is not supported", keys::CAUSAL));
    }
    let joined = architecture.names.iter().any(|(_, theirs)| *theirs == "attn_qkv");
    let of_query = if joined { "blk.0.attn_qkv.bias" } else { "blk.0.attn_q.bias" };
    let attention_bias = architecture.biases == Biases::All || has(of_query);
    let output_bias = architecture.biases == Biases::All || has("blk.0.attn_output.bias");
    let (gemma, granite) = (architecture.factors == Factors::Gemma, architecture.factors == Factors::Granite);
    let wide = (d_model as f64 / n_head.max(1) as f64).sqrt().recip();
    let head = head(architecture, file);
    let parallel = said.flag(keys::PARALLEL).unwrap_or(true);
    let mut config = ModelConfig {
        vocab_size: rows("token_embd.weight").unwrap_or(0),
        n_layer,
        n_head,
        n_kv_head: said.count(keys::KV_HEADS).unwrap_or(n_head),
        d_model,
        d_head,
        d_ff: said.needed(keys::FEED_FORWARD, d_ff),
        context_len: said.needed(keys::CONTEXT, context_len),
        block: match architecture.blocks {
            [first, other] => {
                if parallel {
                    *first
                } else {
                    *other
                }
            }
            blocks => blocks.first().copied().unwrap_or(BlockKind::Pre),
        },
        norm: architecture.norm,
        norm_eps: said.needed(keys::norm_epsilon(architecture.norm), norm_eps),
        positions: architecture.positions.first().copied().unwrap_or(plain.positions),
        mask: architecture.mask,
        window: None,
        layers: Vec::new(),
        attention_scale: match architecture.factors {
            Factors::Granite => said.number(keys::SCORE_SCALE),
            // Gemma 3 27B, recognized by its number of layers.
            Factors::Gemma if n_layer == 62 => Some(wide),
            Factors::Gemma | Factors::Plain => None,
        },
        qk_norm: architecture.qk_norm,
        attention_bias,
        attention_output_bias: (output_bias != attention_bias).then_some(output_bias),
        feed_forward_bias: architecture.biases == Biases::All || has("blk.0.ffn_up.bias"),
        residual_multiplier: said.number(keys::RESIDUAL_SCALE).filter(|_| granite).unwrap_or(1.0),
        embedding_scale: match architecture.factors {
            Factors::Plain => 1.0,
            Factors::Gemma => (d_model as f64).sqrt(),
            Factors::Granite => said.number(keys::EMBEDDING_SCALE).unwrap_or(1.0),
        },
        embedding_norm: architecture.embedding_norm,
        skip_first_norm: architecture.name == "modern-bert" && !has("blk.0.attn_norm.weight"),
        tied_head: !has("output.weight"),
        n_token_type: rows("token_types.weight").unwrap_or(0),
        head_bias: matches!(architecture.head, HeadForm::Next { bias: true, .. }).then_some(true),
        logit_divisor: said.number(keys::LOGIT_SCALE).filter(|_| granite).unwrap_or(1.0),
        logit_softcap: said.number(keys::LOGIT_CAP).filter(|_| gemma),
        rope_scaling: None,
        head,
        ..plain
    };
    if matches!(head, Head::Classify { .. }) && architecture.name == "modern-bert" {
        config.pooling = Pooling::Mean;
    }
    lay_over(file, said, &mut config);
    layers::read(architecture, file, said, &mut config);
    config
}

/// Applies the settings that llama.cpp has no keys for to a config.
fn lay_over(file: &File, said: &mut Said, config: &mut ModelConfig) {
    let Some(value) = file.keys().get(keys::UNSAID) else { return };
    let object = value.as_str().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    let Some(object) = object else {
        said.problems.push(format!("{} is not a JSON object", keys::UNSAID));
        return;
    };
    for (key, value) in object {
        let is_read = match key.as_str() {
            "feed_forward" => serde_json::from_value::<FeedForwardKind>(value)
                .map(|kind| config.feed_forward = kind)
                .is_ok(),
            "head_activation" => serde_json::from_value::<Option<ActivationKind>>(value)
                .map(|kind| config.head_activation = kind)
                .is_ok(),
            "rope_scaling" => serde_json::from_value::<RopeScaling>(value)
                .map(|scaling| config.rope_scaling = Some(scaling))
                .is_ok(),
            _ => false,
        };
        if !is_read {
            said.problems.push(format!("{}: {key} is unknown or its value is invalid", keys::UNSAID));
        }
    }
}

/// The output head in the file.
fn head(architecture: &Architecture, file: &File) -> Head {
    match architecture.head {
        HeadForm::Next { .. } => Head::NextToken,
        HeadForm::Encoder => match file.tensors().get("cls.output.weight") {
            Some(entry) => Head::Classify { n_labels: entry.shape.first().copied().unwrap_or(0) },
            None => Head::Hidden { pooler: false },
        },
    }
}

/// The labels, and how the tokens of a text are pooled to one vector.
fn extra(said: &mut Said, head: Head) -> Extra {
    let mut extra = Extra::default();
    if let Head::Classify { n_labels } = head {
        let labels = said.texts(keys::LABELS).unwrap_or_default();
        if labels.len() == n_labels {
            extra.labels = labels;
        }
        return extra;
    }
    let pooling = match said.count(keys::POOLING) {
        Some(keys::FIRST) => TextPooling::Cls,
        Some(keys::LAST) => TextPooling::Last,
        _ => return extra,
    };
    extra.sentence =
        Some(Sentence { embedder: Embedder { pooling, ..Embedder::default() }, ..Sentence::default() });
    extra
}
