//! A running model, looked at: attention maps, the walkthrough, the way to a prediction.
//!
//! ids → model under a probe → [`Explanation`] → terminal, JSON. [`walkthrough`] runs the worked example of attention
//! through the model's own operations, in float64.
//!
//! Knows nothing of optimizers or training.

mod error;
mod explanation;
mod terminal;
mod walkthrough;

pub use error::Error;
pub use explanation::{Explanation, NextToken, Subject, explain, print as print_explanation};
pub use terminal::Paper;
pub use walkthrough::{
    Difference, Example, GradientsOf, Step, Walkthrough, print as print_walkthrough, walkthrough,
};
