//! Names heads by what they do: measured on random texts, named by stated rules.
//!
//! Random tokens, each text repeated → the running model's attention weights → six scores per head → a name if one of
//! them is large enough. As the tokens are random, what a head does is due to positions and repetitions, not to
//! meaning. The rules and their sources are in this crate's README.

mod drawn;
mod measure;
mod page;

use serde::Serialize;

pub use measure::{Habit, HeadHabits, Pattern, habits_of};
pub use page::print;

use crate::error::Error;
use crate::explanation::Subject;

/// One head, its scores, and the resulting name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NamedHead {
    /// The layer.
    pub layer: usize,
    /// The head.
    pub head: usize,
    /// What it does; `None` if no rule applies.
    pub name: Option<Habit>,
    /// The scores that determine the name.
    #[serde(flatten)]
    pub habits: HeadHabits,
}

/// Measures and names every head, on random texts that begin and end with the special tokens that `ids` begin and end
/// with; empty if the context is too short for a text that repeats itself.
///
/// # Errors
/// Returns an error if an operation fails.
pub fn head_habits(subject: &Subject, ids: &[u32]) -> Result<Vec<NamedHead>, Error> {
    let texts = drawn::texts(subject, ids);
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let patterns = drawn::patterns(subject, &texts)?;
    let mut named = Vec::new();
    for (layer, heads) in patterns.iter().enumerate() {
        for (head, of_head) in heads.iter().enumerate() {
            let habits = habits_of(of_head);
            named.push(NamedHead { layer, head, name: habits.name(), habits });
        }
    }
    Ok(named)
}
