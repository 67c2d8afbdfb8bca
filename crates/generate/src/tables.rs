//! Next-token and fill-mask distributions of a prompt.

use serde::Serialize;
use vulpes_data::Tokenizer;
use vulpes_model::{Head, Input, ModelConfig, Pass, Transformer};

use crate::engine::to_rows;
use crate::error::Error;
use crate::next::{NextToken, next_tokens};
use crate::prompt::token_text;
use crate::sampler::{Choice, Sampler};
use crate::source::{Hand, Source, read_whole};

/// The most likely tokens for one mask.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MaskTable {
    /// The mask's position in the prompt, from 0.
    pub position: usize,
    /// The table, largest first.
    pub next: Vec<NextToken>,
}

/// The end of `ids` that fits into the context, and how many tokens were left out before it.
pub fn last_window<'a>(config: &ModelConfig, ids: &'a [u32]) -> (&'a [u32], usize) {
    let n_left_out = ids.len().saturating_sub(config.context_len);
    (&ids[n_left_out..], n_left_out)
}

/// The `n` most likely tokens after `ids`.
///
/// # Errors
/// Returns an error if the model predicts no next token, or an operation fails.
pub fn next_table<'m>(
    model: impl Into<Source<'m>>,
    tokenizer: &Tokenizer,
    ids: &[u32],
    n: usize,
) -> Result<Vec<NextToken>, Error> {
    let source = model.into();
    if source.head() != Head::NextToken {
        return Err(Error::Prompt("this model does not predict the next token".into()));
    }
    let window = &ids[ids.len().saturating_sub(source.context_len())..];
    let logits = match source {
        Source::Tensors(model) => logits_of(model, window)?.pop().unwrap_or_default(),
        Source::Decoder(decoder) => Hand::Lent(decoder).read_prompt(window)?.1,
        Source::Own(model) => read_whole(model, window)?,
    };
    next_tokens(&logits, n, &|id| token_text(tokenizer, id))
}

/// The `n` most likely tokens for each mask of `ids`.
///
/// # Errors
/// Returns an error if the model fills no masks, the prompt has none or is longer than the context, or an operation fails.
pub fn mask_tables(
    model: &Transformer,
    tokenizer: &Tokenizer,
    ids: &[u32],
    n: usize,
) -> Result<Vec<MaskTable>, Error> {
    let masks = masks(model, tokenizer, ids)?;
    let logits = logits_of(model, ids)?;
    let table = |&position: &usize| {
        let next = next_tokens(&logits[position], n, &|id| token_text(tokenizer, id))?;
        Ok(MaskTable { position, next })
    };
    masks.iter().map(table).collect()
}

/// Fills the masks of `ids` from left to right, each conditioned on those filled before it; returns the filled ids
/// and the choices.
///
/// # Errors
/// As for [`mask_tables`].
pub fn fill_masks(
    model: &Transformer,
    tokenizer: &Tokenizer,
    ids: &[u32],
    sampler: &Sampler,
    sample: u64,
) -> Result<(Vec<u32>, Vec<Choice>), Error> {
    let mut ids = ids.to_vec();
    let mut choices = Vec::new();
    for (step, position) in masks(model, tokenizer, &ids)?.into_iter().enumerate() {
        let logits = logits_of(model, &ids)?;
        let mut choice = sampler.choose(&logits[position], &[], (sample, step as u64))?;
        if let Some(trace) = &mut choice.trace {
            trace.name(&|id| token_text(tokenizer, id));
        }
        ids[position] = choice.id;
        choices.push(choice);
    }
    Ok((ids, choices))
}

fn masks(model: &Transformer, tokenizer: &Tokenizer, ids: &[u32]) -> Result<Vec<usize>, Error> {
    let fail = |message: String| Err(Error::Prompt(message));
    if model.config().head != Head::MaskedToken {
        return fail("this model does not fill masks".into());
    }
    let Some(mask) = tokenizer.mask_id() else {
        return fail("the model's tokenizer has no mask token".into());
    };
    let places: Vec<usize> = (0..ids.len()).filter(|&place| ids[place] == mask).collect();
    if places.is_empty() {
        let mask = tokenizer.id_to_token(mask).unwrap_or_default();
        return fail(format!(
            "this model fills masks, but the prompt has none: write {mask} for each missing word"
        ));
    }
    let context = model.config().context_len;
    if ids.len() > context {
        return fail(format!(
            "the prompt has {} tokens, but the model reads at most {context}; shorten it",
            ids.len()
        ));
    }
    Ok(places)
}

/// The logits at every position.
fn logits_of(model: &Transformer, ids: &[u32]) -> Result<Vec<Vec<f32>>, Error> {
    let input = Input::new(ids, 1, model.device())?;
    let hidden = model.forward(&input, &mut Pass::inference())?;
    Ok(to_rows(&model.logits(&hidden, &mut Pass::inference())?.squeeze(0)?)?)
}
