//! A model's parameters under llama.cpp's names and in its order, and how their values are converted.

use super::architecture::{Architecture, HeadForm};
use crate::config::{Head, ModelConfig, NormKind, Positions};
use crate::layers::parameter_specs;
use crate::spec::{Kind, Part, Role};

/// Modules outside the blocks: this project's names, then llama.cpp's.
const OUTSIDE: &[(&str, &str)] = &[
    ("embedding.token", "token_embd"),
    ("embedding.position", "position_embd"),
    ("embedding.token_type", "token_types"),
    ("embedding.norm", "token_embd_norm"),
    ("norm", "output_norm"),
    ("head", "output"),
];

/// Modules inside a block, likewise.
const INSIDE: &[(&str, &str)] = &[
    ("attention.norm", "attn_norm"),
    ("attention.query", "attn_q"),
    ("attention.key", "attn_k"),
    ("attention.value", "attn_v"),
    ("attention.output", "attn_output"),
    ("attention.query_norm", "attn_q_norm"),
    ("attention.key_norm", "attn_k_norm"),
    ("attention.branch_norm", "post_attention_norm"),
    ("feed_forward.norm", "ffn_norm"),
    ("feed_forward.gate", "ffn_gate"),
    ("feed_forward.up", "ffn_up"),
    ("feed_forward.down", "ffn_down"),
    ("feed_forward.branch_norm", "post_ffw_norm"),
];

/// The conversion of a parameter to its tensor in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// Channels half a head apart become adjacent, in each of this many heads.
    SideBySide(usize),
    /// One is added.
    PlusOne,
    /// The first rows are dropped.
    Without(usize),
}

/// One tensor of the file.
#[derive(Debug)]
pub struct Target {
    /// Its name in the file.
    pub name: String,
    /// The parameters in it, concatenated by rows.
    pub parts: Vec<(String, Change)>,
}

/// Returns the tensors of a model's file.
pub fn targets(architecture: &Architecture, config: &ModelConfig) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for spec in parameter_specs(config) {
        let Some(name) = named(architecture, config, &spec.name) else { continue };
        let part = (spec.name, change(architecture, config, &spec.role));
        match targets.iter_mut().rev().take(4).find(|target| target.name == name) {
            Some(joined) => joined.parts.push(part),
            None => targets.push(Target { name, parts: vec![part] }),
        }
    }
    let is_tied = config.tied_head && config.head == Head::NextToken;
    if is_tied && matches!(architecture.head, HeadForm::Next { own: true, .. }) {
        let parts = vec![("embedding.token.weight".to_owned(), Change::None)];
        targets.push(Target { name: "output.weight".into(), parts });
    }
    targets
}

/// llama.cpp's name of a parameter; `None` if it has none.
fn named(architecture: &Architecture, config: &ModelConfig, ours: &str) -> Option<String> {
    let (module, last) = ours.rsplit_once('.')?;
    let find = |rows: &[(&str, &'static str)], wanted: &str| {
        rows.iter().find(|(ours, _)| *ours == wanted).map(|(_, theirs)| *theirs)
    };
    if let Some((layer, rest)) = module.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
        let theirs = find(architecture.names, rest).or_else(|| find(INSIDE, rest))?;
        return Some(format!("blk.{layer}.{theirs}.{last}"));
    }
    let theirs = match architecture.head {
        HeadForm::Encoder if module == "head" || module.starts_with("head.") => of_head(config, module)?,
        _ => find(OUTSIDE, module)?,
    };
    Some(format!("{theirs}.{last}"))
}

fn change(architecture: &Architecture, config: &ModelConfig, role: &Role) -> Change {
    match role.part {
        Part::Query if architecture.turns_neighbors => Change::SideBySide(config.n_head),
        Part::Key if architecture.turns_neighbors => Change::SideBySide(config.n_kv_head),
        Part::Norm if config.norm == NormKind::RmsPlusOne && role.kind == Kind::Scale => Change::PlusOne,
        Part::Position if config.positions == Positions::Counted => {
            Change::Without(config.n_position() - config.context_len)
        }
        _ => Change::None,
    }
}

/// llama.cpp's name of a module of an encoder's head; `None` if the module is left out.
fn of_head(config: &ModelConfig, module: &str) -> Option<&'static str> {
    match (config.head, module) {
        (Head::Classify { .. }, "head.pooler" | "head.transform") => Some("cls"),
        (Head::Classify { .. }, "head.norm") => Some("cls.norm"),
        (Head::Classify { .. }, "head.classifier") => Some("cls.output"),
        _ => None,
    }
}
