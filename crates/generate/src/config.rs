//! `[sample]`: sampling settings with llama.cpp's names, defaults and neutral values.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Sampling settings.
///
/// The chain runs in llama.cpp's order: penalties, top-k, top-p, min-p, temperature, draw. Each filter has a neutral
/// value, which switches it off.
///
/// # Examples
/// ```
/// use vulpes_generate::SampleConfig;
/// let config = SampleConfig { temp: 0.0, ..SampleConfig::default() };
/// assert!(config.is_greedy() && config.problems().is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    /// The maximum number of new tokens; -1 = until the end token.
    pub n: i64,
    /// Temperature: logits are divided by it; 0 = greedy, 1 = the model's own distribution.
    pub temp: f64,
    /// Keep the `top_k` most likely tokens; 0 = all.
    pub top_k: i64,
    /// Keep the most likely tokens that together reach this probability; 1 = all.
    pub top_p: f64,
    /// Keep tokens at least this fraction as likely as the most likely one; 0 = all.
    pub min_p: f64,
    /// Positive logits of recent tokens are divided by it, negative ones multiplied; 1 = off.
    pub repeat_penalty: f64,
    /// How many recent tokens the penalty applies to; 0 = off, -1 = the entire context.
    pub repeat_last_n: i64,
    /// Stop strings: each ends a sample, and is not part of it.
    pub stop: Vec<String>,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self {
            n: 128,
            temp: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            stop: Vec::new(),
        }
    }
}

/// An invalid value of a [`SampleConfig`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    /// The field, as in the `[sample]` section.
    pub key: &'static str,
    /// What is wrong with it, and what was wanted.
    pub message: String,
}

impl SampleConfig {
    /// Whether the most likely token is always taken, without a draw.
    pub fn is_greedy(&self) -> bool {
        self.temp <= 0.0
    }

    /// All values out of range; empty if the config is valid.
    pub fn problems(&self) -> Vec<InvalidSetting> {
        let mut problems = Vec::new();
        let mut check = |key, fine: bool, value: String, wanted: &str| {
            if !fine {
                problems.push(InvalidSetting { key, message: format!("is {value}; wanted {wanted}") });
            }
        };
        let in_unit = |value: f64| (0.0..=1.0).contains(&value);
        check("n", self.n >= -1, self.n.to_string(), "-1 (until the end token) or a count");
        check("temp", self.temp.is_finite(), self.temp.to_string(), "a number; 0 is greedy");
        check("top_k", self.top_k >= 0, self.top_k.to_string(), "0 (all) or a count");
        check("top_p", in_unit(self.top_p), self.top_p.to_string(), "0 to 1; 1 keeps all");
        check("min_p", in_unit(self.min_p), self.min_p.to_string(), "0 to 1; 0 keeps all");
        let penalty = self.repeat_penalty.is_finite() && self.repeat_penalty > 0.0;
        check("repeat_penalty", penalty, self.repeat_penalty.to_string(), "a number above 0; 1 is off");
        let last_n = self.repeat_last_n >= -1;
        check(
            "repeat_last_n",
            last_n,
            self.repeat_last_n.to_string(),
            "-1 (entire context), 0 (off) or a count",
        );
        check(
            "stop",
            self.stop.iter().all(|text| !text.is_empty()),
            "an empty text".into(),
            "stop strings that are not empty",
        );
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampler_defaults_are_frozen() {
        let config = SampleConfig::default();
        assert_eq!((config.temp, config.top_k, config.top_p, config.min_p), (0.8, 40, 0.95, 0.05));
        assert_eq!((config.repeat_penalty, config.repeat_last_n), (1.0, 64));
        assert!(config.problems().is_empty());
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let config = SampleConfig {
            n: -2,
            temp: f64::NAN,
            top_k: -1,
            top_p: 1.5,
            min_p: -0.1,
            repeat_penalty: 0.0,
            repeat_last_n: -2,
            stop: vec![String::new()],
        };
        let keys: Vec<_> = config.problems().into_iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["n", "temp", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "stop"]);
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<SampleConfig>(r#"{"temperatur": 1}"#).is_err());
    }
}
