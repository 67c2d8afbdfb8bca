//! The section `[objective]`: what the model is asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Issue;

/// What the model is asked at each place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectiveKind {
    /// The token that comes next.
    #[default]
    NextToken,
    /// The tokens that were masked ([Devlin et al. 2018](https://arxiv.org/abs/1810.04805), section 3.1).
    MaskedToken,
    /// The label of the whole text.
    Classify,
    /// Which text belongs to which, of pairs of texts: the vectors of a pair are to be nearer than those of any other two
    /// in the step ([Henderson et al. 2017](https://arxiv.org/abs/1705.00652), section 4.4).
    Contrastive,
}

/// How the vectors of a text's tokens become one, in the words of sentence-transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingPooling {
    /// That of the first token.
    Cls,
    /// Their mean.
    Mean,
    /// Their sum over the square root of their number.
    MeanSqrtLenTokens,
    /// Their mean, each token weighing as much as its place counts from 1.
    #[serde(rename = "weightedmean")]
    WeightedMean,
    /// The greatest value of each channel.
    Max,
    /// That of the last token.
    #[serde(rename = "lasttoken")]
    LastToken,
}

/// The section `[objective]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// What is asked; unset: the next token, or for a model that comes from a folder what its head was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ObjectiveKind>,
    /// The share of tokens chosen for prediction, for `masked_token`.
    pub mask_probability: f64,
    /// Of the chosen tokens, the share replaced by the mask token.
    pub mask_share: f64,
    /// Of the chosen tokens, the share replaced by a random token; the rest stays as it is.
    pub random_share: f64,
    /// The share of the target's probability spread evenly over all tokens ([Szegedy et al. 2015](https://arxiv.org/abs/1512.00567), section 7).
    pub label_smoothing: f64,
    /// What cosines are multiplied by before the softmax, for `contrastive`.
    pub scale: f64,
    /// How the vectors of a text's tokens become one, for `contrastive`; unset: as the folder of `train.init_from` says,
    /// else `mean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<EmbeddingPooling>,
    /// Whether a text's vector is given with length 1, for `contrastive`; unset: as the folder of `train.init_from` says,
    /// else true. The loss is the same either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
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
        }
    }
}

impl ObjectiveConfig {
    /// What is asked, where nothing is said the next token.
    pub fn kind(&self) -> ObjectiveKind {
        self.kind.unwrap_or_default()
    }

    /// All faults that the values alone show.
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
