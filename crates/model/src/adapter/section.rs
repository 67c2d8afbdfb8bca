//! The `[adapter]` section of a config file.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// The kind of adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// `W + scale · B A` with low-rank A and B ([Hu et al. 2021](https://arxiv.org/abs/2106.09685)).
    #[default]
    Lora,
}

/// The dtype in which the frozen base weights are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BaseDtype {
    /// The dtype of training: float32.
    #[default]
    #[serde(alias = "f32")]
    Float32,
    /// Matrices and tables in bfloat16, widened where they are used: half the memory. CPU only.
    #[serde(alias = "bf16")]
    Bfloat16,
    /// Matrices and tables in blocks of 32 8-bit values, widened where they are used: a bit more than a quarter of the
    /// memory; a matrix whose row length is not a multiple of 32 stays float32. CPU only.
    #[serde(alias = "q8")]
    Q8_0,
}

/// Which modules are adapted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    /// One glob, or `"all-linear"`.
    One(String),
    /// Globs.
    Many(Vec<String>),
}

impl Targets {
    /// The name for every projection of the blocks.
    pub const ALL_LINEAR: &'static str = "all-linear";

    /// The globs.
    pub fn patterns(&self) -> &[String] {
        match self {
            Self::One(pattern) => std::slice::from_ref(pattern),
            Self::Many(patterns) => patterns,
        }
    }
}

impl JsonSchema for Targets {
    fn schema_name() -> Cow<'static, str> {
        "Targets".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "title": r#""all-linear", a glob, or a list of globs"# })
    }
}

/// `[adapter]`: trains a small change of a model whose own weights stay frozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterSection {
    /// The kind of adapter.
    pub kind: AdapterKind,
    /// The inner dimension, between A and B.
    pub rank: usize,
    /// The change is scaled by `alpha / rank`.
    pub alpha: f64,
    /// The modules to adapt: globs over their names or over their names in the model's folder, matched against the full
    /// name or from a dot on; `"all-linear"` = every projection of the blocks.
    pub targets: Targets,
    /// The dropout probability on an adapter's input in training.
    pub dropout: f64,
    /// Whether the change is scaled by `alpha / √rank` instead ([Kalajdzievski 2023](https://arxiv.org/abs/2312.03732)).
    pub rslora: bool,
    /// Whether each output of an adapted module has its own magnitude
    /// ([Liu et al. 2024](https://arxiv.org/abs/2402.09353)): slightly better at low ranks, and slower.
    pub dora: bool,
    /// Modules that are trained in full and saved with the adapter: globs, as for `targets`. A head that the model's
    /// folder lacks is always among them.
    pub also_train: Vec<String>,
    /// The dtype in which the frozen base weights are held.
    pub base_dtype: BaseDtype,
}

impl Default for AdapterSection {
    fn default() -> Self {
        Self {
            kind: AdapterKind::Lora,
            rank: 8,
            alpha: 16.0,
            targets: Targets::One(Targets::ALL_LINEAR.to_owned()),
            dropout: 0.0,
            rslora: false,
            dora: false,
            also_train: Vec::new(),
            base_dtype: BaseDtype::Float32,
        }
    }
}

impl AdapterSection {
    /// What is wrong with the section by itself: each key with its value and the values allowed.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.rank == 0 {
            problems.push(("rank", "= 0 must be at least 1".to_owned()));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            problems.push(("alpha", format!("= {} must be greater than 0", self.alpha)));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            problems.push(("dropout", format!("= {} must be 0 or more and below 1", self.dropout)));
        }
        if self.targets.patterns().is_empty() {
            problems.push(("targets", "= [] names no module; use \"all-linear\", or globs".to_owned()));
        }
        problems
    }
}
