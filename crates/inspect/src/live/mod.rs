//! A model that a page can run: its architecture, weights and tokenizer, for the page's script.
//!
//! model → [`plan`] (the layers, with a number for each parameter) + [`weights`] (the values, as text) + [`words`]
//! (text to ids and back) → [`Live`], which the page contains.

mod plan;
mod weights;
mod words;

use serde_json::{Value, json};
use vulpes_model::Transformer;
use vulpes_model::config::NormKind;

use crate::error::Error;
use crate::explanation::Subject;

/// By default, pages contain the weights of models of up to this many parameters.
pub const LIVE_PARAMETERS: usize = 2_000_000;
/// The limit for any page: a browser can't handle more.
const MOST_PARAMETERS: usize = 50_000_000;

/// Everything that a page needs to run the model.
#[derive(Clone, Debug)]
pub struct Live {
    value: Value,
    size: usize,
}

/// Why a page can't run a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLive {
    /// It has too many parameters.
    #[error("the model has {0} parameters, but a page can contain at most {1}")]
    Large(usize, usize),
    /// The text is a pair.
    #[error("a page runs the model on single texts, but this is a pair")]
    Pair,
    /// Its tokenizer has a part that the page's script doesn't know.
    #[error("the page's script doesn't support a tokenizer with {0}")]
    Tokenizer(String),
    /// The model has a part that the page's script doesn't know.
    #[error("the page's script doesn't support {0}")]
    Part(&'static str),
    /// Together with the rest it would exceed the maximum size of a page.
    #[error("with its weights and vocabulary the page would take {0} KB; the maximum is 3 MB")]
    Full(usize),
}

impl Live {
    /// What a page needs to run the subject's model, or why it can't; with at most `at_most` parameters, if given.
    ///
    /// # Errors
    /// Returns an error if a parameter can't be read.
    pub fn of(subject: &Subject, at_most: Option<usize>) -> Result<Result<Self, NotLive>, Error> {
        let model: &Transformer = subject.model;
        let n_parameter: usize = model.layers().leaves().iter().map(|leaf| leaf.elem_count()).sum();
        let most = at_most.unwrap_or(MOST_PARAMETERS);
        if n_parameter > most {
            return Ok(Err(NotLive::Large(n_parameter, most)));
        }
        let config = model.config();
        for (has, part) in [
            (config.bigrams, "vectors of pairs of tokens (model.bigrams)"),
            (config.value_embeddings > 0, "vectors that are added to values (model.value_embeddings)"),
            (config.norm == NormKind::RmsBare, "norms without a scale (model.norm)"),
        ] {
            if has {
                return Ok(Err(NotLive::Part(part)));
            }
        }
        let words = match words::of(subject.tokenizer)? {
            Ok(words) => words,
            Err(part) => return Ok(Err(NotLive::Tokenizer(part))),
        };
        let packed = weights::packed(model)?;
        let value = json!({
            "n_parameter": n_parameter,
            "is_exact": packed.is_exact,
            "plan": plan::of(model.layers(), config),
            "leaves": packed.leaves,
            "floats": packed.floats,
            "bytes": packed.bytes,
            "words": words,
            "labels": subject.labels,
        });
        let size = value.to_string().len();
        Ok(Ok(Self { value, size }))
    }

    /// The data that the page's script reads.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// Its size in a page, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}
