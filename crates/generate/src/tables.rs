//! What a model says of a prompt as it stands: the likeliest next tokens, or those for each mask.

use serde::Serialize;
use vulpes_data::Tokenizer;
use vulpes_model::{Head, Input, Run, Transformer};

use crate::engine::to_rows;
use crate::error::Error;
use crate::next::{NextToken, next_tokens};
use crate::prompt::token_text;
use crate::sampler::{Choice, Sampler};

/// The likeliest tokens for one mask.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MaskTable {
    /// The mask's place in the prompt, from 0.
    pub position: usize,
    /// The table, greatest first.
    pub next: Vec<NextToken>,
}

/// The end of `ids` that the context has room for, and how many tokens were left out before it.
pub fn last_window<'a>(model: &Transformer, ids: &'a [u32]) -> (&'a [u32], usize) {
    let n_left_out = ids.len().saturating_sub(model.config().context_len);
    (&ids[n_left_out..], n_left_out)
}

/// The `n` likeliest tokens after `ids`.
///
/// # Errors
/// Where the model predicts no next token, or an operation fails.
pub fn next_table(
    model: &Transformer,
    tokenizer: &Tokenizer,
    ids: &[u32],
    n: usize,
) -> Result<Vec<NextToken>, Error> {
    if model.config().head != Head::NextToken {
        return Err(Error::Prompt("this model does not predict the next token".into()));
    }
    let (window, _) = last_window(model, ids);
    let logits = logits_of(model, window)?;
    next_tokens(logits.last().map_or(&[], Vec::as_slice), n, &|id| token_text(tokenizer, id))
}

/// The `n` likeliest tokens for each mask of `ids`.
///
/// # Errors
/// Where the model fills no masks, the prompt has none or is longer than the context, or an operation fails.
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

/// Fills the masks of `ids` from left to right, each seeing those filled before it; the filled ids and the choices.
///
/// # Errors
/// As [`mask_tables`].
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
            "this model fills masks, but the prompt has none: write {mask} for a word to be found"
        ));
    }
    let context = model.config().context_len;
    if ids.len() > context {
        return fail(format!(
            "the prompt has {} tokens, the model reads at most {context}: shorten it",
            ids.len()
        ));
    }
    Ok(places)
}

/// The logits at every position.
fn logits_of(model: &Transformer, ids: &[u32]) -> Result<Vec<Vec<f32>>, Error> {
    let input = Input::new(ids, 1, model.device())?;
    let hidden = model.forward(&input, &mut Run::inference())?;
    Ok(to_rows(&model.logits(&hidden, &mut Run::inference())?.squeeze(0)?)?)
}
