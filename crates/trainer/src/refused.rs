//! Refusals of a training: models without true gradients, and steps that must not be applied.

use std::fmt;

/// The parameters without a true gradient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Neither trained nor declared frozen.
    pub untrained: Vec<String>,
    /// No gradient reaches them.
    pub severed: Vec<String>,
    /// The gradient has an infinity or a NaN.
    pub not_finite: Vec<String>,
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { untrained, severed, not_finite } = self;
        let quoted =
            |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let mut wrong = Vec::new();
        if !untrained.is_empty() {
            wrong.push(format!("not trained and not in train.freeze: {}", quoted(untrained)));
        }
        if !severed.is_empty() {
            wrong.push(format!(
                "no gradient reaches {}: an operation between {} and the loss has no backward pass; to freeze a \
                 parameter, add it to train.freeze",
                quoted(severed),
                if severed.len() == 1 { "it" } else { "them" },
            ));
        }
        wrong.extend(not_finite.iter().map(|name| format!("the gradient of `{name}` is not finite")));
        f.write_str(&wrong.join("; "))
    }
}

/// A step that must not be applied. The training is unchanged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FailedStep {
    /// The loss or a gradient is not finite.
    #[error(
        "step {step}: loss {loss}, gradient norm {grad_norm}: not finite, not applied{}",
        named(parameters)
    )]
    NotFinite {
        /// The step.
        step: u64,
        /// Its loss.
        loss: f64,
        /// The gradients' global norm.
        grad_norm: f64,
        /// The parameters whose gradient is not finite.
        parameters: Vec<String>,
    },
    /// The loss spiked, and `train.on_spike` says to stop.
    #[error("step {step}: the loss spiked to {loss:.4}, more than {factor} times the running mean {mean:.4}")]
    Spike {
        /// The step.
        step: u64,
        /// Its loss.
        loss: f64,
        /// `train.spike_factor`.
        factor: f64,
        /// The running mean of the losses before it.
        mean: f64,
    },
}

impl FailedStep {
    /// The parameters whose gradient is not finite.
    pub fn parameters(&self) -> &[String] {
        match self {
            Self::NotFinite { parameters, .. } => parameters,
            Self::Spike { .. } => &[],
        }
    }
}

/// The part of a message about parameters whose gradient is not finite.
fn named(parameters: &[String]) -> String {
    match parameters {
        [] => String::new(),
        [one] => format!("; the gradient of `{one}` is not finite"),
        [first, rest @ ..] => {
            format!("; the gradients of `{first}` and {} other parameters are not finite", rest.len())
        }
    }
}
