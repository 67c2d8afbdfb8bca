//! Conversations: rendered to text by a model's chat template, with the spans to be learned.
//!
//! [`Conversation`] → [`ChatTemplate`] → text and the spans of the answers ([`spans::rows`]) → ids, each learned or
//! not ([`tokens::TokenRow`]). [`Turns`] tells generation how an answer begins and ends.

mod folder;
mod generation;
mod messages;
mod python;
mod spans;
mod template;
#[cfg(test)]
mod tests;
mod tokens;
mod turns;

pub use messages::Conversation;
pub use template::ChatTemplate;
pub(crate) use tokens::{Cut, RowsOf, rows_within, stretches};
pub use turns::Turns;
