//! The section `[objective]`: the training objective.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::Issue;

/// What each position predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveKind {
    /// The next token.
    #[default]
    NextToken,
    /// The tokens that were masked ([Devlin et al. 2018](https://arxiv.org/abs/1810.04805), section 3.1).
    MaskedToken,
    /// The label of the text.
    Classify,
    /// Which texts of pairs belong together: the vectors of a pair are to be nearer than those of any other two texts
    /// in the step ([Henderson et al. 2017](https://arxiv.org/abs/1705.00652), section 4.4).
    Contrastive,
}

/// How the vectors of a text's tokens are pooled, with the names of sentence-transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingPooling {
    /// That of the first token.
    Cls,
    /// Their mean.
    Mean,
    /// Their sum divided by the square root of their number.
    MeanSqrtLenTokens,
    /// Their mean, weighted by the token's position, counted from 1.
    #[serde(rename = "weightedmean")]
    WeightedMean,
    /// The largest value of each channel.
    Max,
    /// That of the last token.
    #[serde(rename = "lasttoken")]
    LastToken,
}

/// The weight of each label's loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// `"balanced"`: the number of rows divided by the number of labels times the number of rows with the label
    /// ([King and Zeng 2001](https://doi.org/10.1093/oxfordjournals.pan.a004868)).
    Named(String),
    /// A weight per named label.
    Table(BTreeMap<String, f64>),
}

impl ClassWeights {
    /// What is wrong with the value itself.
    fn problem(&self) -> Option<String> {
        match self {
            Self::Named(word) if word == "balanced" => None,
            Self::Named(word) => {
                Some(format!("{word:?}: wanted \"balanced\", or a table of labels and weights"))
            }
            Self::Table(table) => table
                .iter()
                .find(|(_, weight)| !(weight.is_finite() && **weight > 0.0))
                .map(|(label, weight)| format!("{label} = {weight}: a weight must be greater than 0")),
        }
    }
}

impl JsonSchema for ClassWeights {
    fn schema_name() -> Cow<'static, str> {
        "ClassWeights".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "title": r#""balanced", or a table of labels and weights"# })
    }
}

/// The section `[objective]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// The objective; unset: next token, or the one that the head of an initial model was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ObjectiveKind>,
    /// The share of tokens chosen for prediction, for `masked_token`.
    pub mask_probability: f64,
    /// The share of the chosen tokens replaced by the mask token.
    pub mask_share: f64,
    /// The share of the chosen tokens replaced by a random token; the rest stays unchanged.
    pub random_share: f64,
    /// The share of the target's probability that is spread evenly over all tokens
    /// ([Szegedy et al. 2015](https://arxiv.org/abs/1512.00567), section 7).
    pub label_smoothing: f64,
    /// The factor of the cosines before the softmax, for `contrastive`.
    pub scale: f64,
    /// How the vectors of a text's tokens are pooled, for `contrastive`; unset: as in the folder of
    /// `train.init_from`, else `mean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<EmbeddingPooling>,
    /// Whether a text's vector is normalized to length 1, for `contrastive`; unset: as in the folder of
    /// `train.init_from`, else true. The loss is the same either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// The weight of each label's loss, for `classify`: `"balanced"` = each label has the same total weight, or a
    /// table of labels and weights (default 1); unset: all equal. Validation losses are unweighted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            kind: None,
            mask_probability: 0.15,
            mask_share: 0.8,
            random_share: 0.1,
            label_smoothing: 0.0,
            scale: 20.0,
            pooling: None,
            normalize: None,
            class_weights: None,
        }
    }
}

impl ObjectiveConfig {
    /// The objective; next token if unset.
    pub fn kind(&self) -> ObjectiveKind {
        self.kind.unwrap_or_default()
    }

    /// All issues that the values alone show.
    pub fn issues(&self) -> Vec<Issue> {
        let mut issues = Vec::new();
        let mut range = |key: &str, value: f64, good: bool, wanted: &str| {
            if !good {
                issues.push(Issue::new(
                    &format!("objective.{key}"),
                    format!("{value} is out of range: {wanted}"),
                ));
            }
        };
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let p = self.mask_probability;
        range("mask_probability", p, p > 0.0 && p <= 1.0, "more than 0 and at most 1");
        range("mask_share", self.mask_share, share(self.mask_share), "0 to 1");
        range("random_share", self.random_share, share(self.random_share), "0 to 1");
        let sum = self.mask_share + self.random_share;
        range("mask_share", sum, sum <= 1.0 + 1e-9, "mask_share + random_share must be at most 1");
        let smoothing = self.label_smoothing;
        range("label_smoothing", smoothing, (0.0..1.0).contains(&smoothing), "0 or more, and less than 1");
        range("scale", self.scale, self.scale > 0.0 && self.scale.is_finite(), "a finite number above 0");
        let defaults = Self::default();
        if self.kind.is_some_and(|kind| kind != ObjectiveKind::Contrastive) {
            let given = [
                ("scale", self.scale != defaults.scale),
                ("pooling", self.pooling.is_some()),
                ("normalize", self.normalize.is_some()),
            ];
            for (key, _) in given.iter().filter(|(_, given)| *given) {
                let message =
                    "has no effect: only objective.kind = \"contrastive\" makes one vector of a text";
                issues.push(Issue::new(&format!("objective.{key}"), message));
            }
        }
        match &self.class_weights {
            Some(_) if self.kind.is_some_and(|kind| kind != ObjectiveKind::Classify) => {
                let message = "has no effect: only objective.kind = \"classify\" has labels";
                issues.push(Issue::new("objective.class_weights", message));
            }
            Some(weights) => {
                issues.extend(weights.problem().map(|words| Issue::new("objective.class_weights", words)));
            }
            None => {}
        }
        if self.kind.is_some_and(|kind| kind != ObjectiveKind::MaskedToken) {
            let given = [
                ("mask_probability", self.mask_probability != defaults.mask_probability),
                ("mask_share", self.mask_share != defaults.mask_share),
                ("random_share", self.random_share != defaults.random_share),
            ];
            for (key, _) in given.iter().filter(|(_, given)| *given) {
                let message = "has no effect: only objective.kind = \"masked_token\" masks";
                issues.push(Issue::new(&format!("objective.{key}"), message));
            }
        }
        issues
    }
}
