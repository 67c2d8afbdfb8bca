//! Models of every family and head, with the switches that their layouts can express, for transformers to load.
#![allow(unreachable_pub, reason = "helpers of a test file")]

use vulpes_model::config::{
    ActivationKind, BlockKind, Family, FeedForwardKind, LayerOverride, MaskKind, NormKind, Pooling,
    Positions, QkNorm, RopeScaling, ScalingKind,
};
use vulpes_model::{Head, ModelConfig, ModelSection};

/// The vocabulary size of each of them.
pub const VOCABULARY: usize = 43;

fn section(family: Family) -> ModelSection {
    ModelSection {
        family: Some(family),
        n_layer: Some(2),
        n_head: Some(3),
        d_model: Some(36),
        context_len: Some(16),
        init_std: Some(0.2),
        ..ModelSection::default()
    }
}

/// The cases: the auto class, the class that transformers should choose, the model.
pub fn models() -> Vec<Tried> {
    let gpt2 = section(Family::Gpt2);
    let bert = section(Family::Bert);
    let llama = section(Family::Llama);
    let scaling = RopeScaling {
        kind: ScalingKind::Llama3,
        factor: 4.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context_len: 8,
    };
    let (causal, masked) = (Head::NextToken, Head::MaskedToken);
    let classes = Head::Classify { n_labels: 5 };
    let of = |section: &ModelSection, head| section.resolve(VOCABULARY, head);
    vec![
        ("AutoModelForCausalLM", "GPT2LMHeadModel", of(&gpt2, causal)),
        // Without a head; a tied one is always usable, and would be read as a head.
        (
            "AutoModel",
            "GPT2Model",
            of(&ModelSection { tied_head: Some(false), ..gpt2.clone() }, Head::Hidden { pooler: false }),
        ),
        (
            "AutoModelForCausalLM",
            "GPT2LMHeadModel",
            of(
                &ModelSection {
                    feed_forward: Some(FeedForwardKind::Relu2),
                    tied_head: Some(false),
                    d_ff: Some(50),
                    ..gpt2.clone()
                },
                causal,
            ),
        ),
        ("AutoModelForCausalLM", "LlamaForCausalLM", of(&llama, causal)),
        ("AutoModel", "LlamaModel", of(&llama, Head::Hidden { pooler: false })),
        (
            "AutoModelForCausalLM",
            "LlamaForCausalLM",
            of(
                &ModelSection {
                    n_kv_head: Some(1),
                    d_head: Some(10),
                    tied_head: Some(true),
                    attention_bias: Some(true),
                    feed_forward_bias: Some(true),
                    rope_theta: Some(300.0),
                    rope_scaling: Some(scaling),
                    norm_eps: Some(1e-3),
                    ..llama.clone()
                },
                causal,
            ),
        ),
        ("AutoModelForMaskedLM", "BertForMaskedLM", of(&bert, masked)),
        (
            "AutoModelForMaskedLM",
            "BertForMaskedLM",
            of(
                &ModelSection {
                    feed_forward: Some(FeedForwardKind::GeluTanh),
                    tied_head: Some(false),
                    n_token_type: Some(3),
                    ..bert.clone()
                },
                masked,
            ),
        ),
        ("AutoModelForSequenceClassification", "BertForSequenceClassification", of(&bert, classes)),
        ("AutoModel", "BertModel", of(&bert, Head::Hidden { pooler: true })),
    ]
    .into_iter()
    .chain(decoders())
    .chain(encoders())
    .collect()
}

type Tried = (&'static str, &'static str, ModelConfig);

/// The decoders with each switch of their layout that differs from the default.
fn decoders() -> Vec<Tried> {
    let (causal, labels) = (Head::NextToken, Head::Classify { n_labels: 5 });
    let windowed = |window| LayerOverride { window: Some(window), ..LayerOverride::default() };
    let local = LayerOverride { rope_theta: Some(50.0), rope_scaled: Some(false), ..windowed(4) };
    let bag = LayerOverride { positions: Some(Positions::None), ..LayerOverride::default() };
    let stretched = Some(RopeScaling::linear(2.5));
    let of = |section: ModelSection, head| {
        // Classifiers find the last token by the padding's id.
        let pad_id = matches!(head, Head::Classify { .. }).then_some(0);
        ModelSection { pad_id, ..section }.resolve(VOCABULARY, head)
    };
    let lm = "AutoModelForCausalLM";
    let cls = "AutoModelForSequenceClassification";
    let gemma = ModelSection {
        n_layer: Some(3),
        n_kv_head: Some(1),
        d_head: Some(10),
        layers: Some(vec![local, LayerOverride::default()]),
        attention_scale: Some(1.0 / 5f64.sqrt()),
        logit_softcap: Some(3.0),
        rope_scaling: stretched,
        ..section(Family::Gemma3)
    };
    let neox = ModelSection { rotary_fraction: Some(0.4), ..section(Family::GptNeox) };
    vec![
        (cls, "LlamaForSequenceClassification", of(section(Family::Llama), labels)),
        (cls, "GPT2ForSequenceClassification", of(section(Family::Gpt2), labels)),
        (lm, "Qwen2ForCausalLM", of(section(Family::Qwen2), causal)),
        (
            lm,
            "Qwen2ForCausalLM",
            of(
                ModelSection {
                    n_kv_head: Some(1),
                    d_head: Some(10),
                    tied_head: Some(false),
                    layers: Some(vec![windowed(3), LayerOverride::default()]),
                    feed_forward: Some(FeedForwardKind::GegluTanh),
                    rope_scaling: stretched,
                    ..section(Family::Qwen2)
                },
                causal,
            ),
        ),
        (cls, "Qwen2ForSequenceClassification", of(section(Family::Qwen2), labels)),
        (
            lm,
            "Qwen3ForCausalLM",
            of(
                ModelSection {
                    d_model: Some(40),
                    d_head: Some(14),
                    attention_bias: Some(true),
                    window: Some(4),
                    ..section(Family::Qwen3)
                },
                causal,
            ),
        ),
        ("AutoModel", "Qwen3Model", {
            let untied = ModelSection { tied_head: Some(false), ..section(Family::Qwen3) };
            of(untied, Head::Hidden { pooler: false })
        }),
        (
            lm,
            "Olmo2ForCausalLM",
            of(
                ModelSection {
                    n_kv_head: Some(1),
                    attention_bias: Some(true),
                    tied_head: Some(true),
                    ..section(Family::Olmo2)
                },
                causal,
            ),
        ),
        (
            lm,
            "SmolLM3ForCausalLM",
            of(
                ModelSection {
                    n_layer: Some(3),
                    layers: Some(vec![bag, windowed(5), LayerOverride { window: Some(5), ..bag }]),
                    feed_forward_bias: Some(true),
                    ..section(Family::Smollm3)
                },
                causal,
            ),
        ),
        (
            lm,
            "GraniteForCausalLM",
            of(
                ModelSection {
                    residual_multiplier: Some(0.4),
                    embedding_scale: Some(3.0),
                    logit_divisor: Some(1.7),
                    attention_scale: Some(0.3),
                    feed_forward_bias: Some(true),
                    ..section(Family::Granite)
                },
                causal,
            ),
        ),
        (lm, "GPTNeoXForCausalLM", of(neox.clone(), causal)),
        (
            lm,
            "GPTNeoXForCausalLM",
            of(
                ModelSection {
                    block: Some(BlockKind::Pre),
                    attention_bias: Some(false),
                    tied_head: Some(true),
                    rotary_fraction: Some(1.0),
                    feed_forward: Some(FeedForwardKind::Relu),
                    ..neox.clone()
                },
                causal,
            ),
        ),
        (cls, "GPTNeoXForSequenceClassification", of(neox, labels)),
        (lm, "PhiForCausalLM", of(section(Family::Phi), causal)),
        (
            lm,
            "PhiForCausalLM",
            of(
                ModelSection { qk_norm: Some(QkNorm::Head), n_kv_head: Some(1), ..section(Family::Phi) },
                causal,
            ),
        ),
        (lm, "Gemma3ForCausalLM", of(gemma.clone(), causal)),
        (lm, "Gemma3ForCausalLM", of(section(Family::Gemma3), causal)),
        ("AutoModel", "Gemma3TextModel", {
            let both_sides = ModelSection { mask: Some(MaskKind::Full), ..gemma.clone() };
            of(ModelSection { logit_softcap: None, ..both_sides }, Head::Hidden { pooler: false })
        }),
        (cls, "Gemma3TextForSequenceClassification", of(gemma, labels)),
    ]
}

/// The encoders likewise.
fn encoders() -> Vec<Tried> {
    let (masked, labels) = (Head::MaskedToken, Head::Classify { n_labels: 5 });
    let of = |section: ModelSection, head| section.resolve(VOCABULARY, head);
    let mlm = "AutoModelForMaskedLM";
    let cls = "AutoModelForSequenceClassification";
    let roberta = ModelSection { pad_id: Some(0), n_token_type: Some(2), ..section(Family::Roberta) };
    let xlm = ModelSection { pad_id: Some(0), tied_head: Some(false), ..section(Family::XlmRoberta) };
    let local = LayerOverride { window: Some(3), rope_theta: Some(50.0), ..LayerOverride::default() };
    let modern = ModelSection {
        n_layer: Some(3),
        layers: Some(vec![local, LayerOverride::default()]),
        norm: Some(NormKind::Layer),
        attention_bias: Some(true),
        feed_forward_bias: Some(true),
        head_dense_bias: Some(true),
        head_activation: Some(ActivationKind::Relu),
        feed_forward: Some(FeedForwardKind::Swiglu),
        ..section(Family::Modernbert)
    };
    let mean = ModelSection { pooling: Some(Pooling::Mean), ..section(Family::Modernbert) };
    let unbiased = ModelSection { head_bias: Some(false), ..section(Family::Modernbert) };
    vec![
        (mlm, "RobertaForMaskedLM", of(roberta.clone(), masked)),
        (cls, "RobertaForSequenceClassification", of(roberta.clone(), labels)),
        ("AutoModel", "RobertaModel", of(roberta, Head::Hidden { pooler: true })),
        (mlm, "XLMRobertaForMaskedLM", of(xlm, masked)),
        (mlm, "DistilBertForMaskedLM", of(section(Family::Distilbert), masked)),
        (
            cls,
            "DistilBertForSequenceClassification",
            of(
                ModelSection { feed_forward: Some(FeedForwardKind::Relu), ..section(Family::Distilbert) },
                labels,
            ),
        ),
        ("AutoModel", "DistilBertModel", of(section(Family::Distilbert), Head::Hidden { pooler: false })),
        (
            mlm,
            "MPNetForMaskedLM",
            of(ModelSection { relative_bias: Some(35), ..section(Family::Mpnet) }, masked),
        ),
        (cls, "MPNetForSequenceClassification", of(section(Family::Mpnet), labels)),
        ("AutoModel", "MPNetModel", of(section(Family::Mpnet), Head::Hidden { pooler: true })),
        (mlm, "ModernBertForMaskedLM", of(modern.clone(), masked)),
        (mlm, "ModernBertForMaskedLM", of(unbiased, masked)),
        (cls, "ModernBertForSequenceClassification", of(modern, labels)),
        (cls, "ModernBertForSequenceClassification", of(mean, labels)),
        ("AutoModel", "ModernBertModel", of(section(Family::Modernbert), Head::Hidden { pooler: false })),
    ]
}
