//! Masked tokens: which are hidden, and how ([Devlin et al. 2018](https://arxiv.org/abs/1810.04805), section 3.1).

use vulpes_random::Stream;

use super::row::Row;
use crate::batch::IGNORED;
use crate::config::ObjectiveConfig;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// How tokens are masked.
#[derive(Clone, Debug)]
pub(super) struct Masking {
    probability: f64,
    mask_share: f64,
    random_share: f64,
    tokenizer: Tokenizer,
    mask: u32,
    n_ids: u64,
}

impl Masking {
    pub(super) fn new(config: &ObjectiveConfig, tokenizer: Option<&Tokenizer>) -> Result<Self> {
        let no_mask = |message: &str| Error::config("objective.kind", format!("\"masked_token\" {message}"));
        let tokenizer = tokenizer
            .ok_or_else(|| no_mask("needs a tokenizer with a mask token, or rows of ids with labels"))?;
        let mask = tokenizer
            .mask_id()
            .ok_or_else(|| no_mask("needs a mask token, and the tokenizer has neither [MASK] nor <mask>"))?;
        Ok(Self {
            probability: config.mask_probability,
            mask_share: config.mask_share,
            random_share: config.random_share,
            tokenizer: tokenizer.clone(),
            mask,
            n_ids: tokenizer.vocab_size() as u64,
        })
    }

    /// Chooses tokens, each with the configured probability and at least one per row, makes them targets and hides
    /// them; special tokens are neither chosen nor drawn.
    pub(super) fn apply(&self, row: &mut Row, stream: &mut Stream) {
        row.targets = vec![IGNORED; row.ids.len()];
        let real = |row: &Row, place: usize| row.padding_mask.as_ref().is_none_or(|mask| mask[place] != 0);
        let open: Vec<usize> = (0..row.ids.len())
            .filter(|&place| real(row, place) && !self.tokenizer.is_special(row.ids[place]))
            .collect();
        let mut chosen: Vec<usize> =
            open.iter().copied().filter(|_| stream.uniform_f64() < self.probability).collect();
        if chosen.is_empty() && !open.is_empty() {
            chosen.push(open[stream.below(open.len() as u64) as usize]);
        }
        for place in chosen {
            row.targets[place] = i64::from(row.ids[place]);
            let draw = stream.uniform_f64();
            if draw < self.mask_share {
                row.ids[place] = self.mask;
            } else if draw < self.mask_share + self.random_share {
                row.ids[place] = self.random(stream);
            }
        }
    }

    fn random(&self, stream: &mut Stream) -> u32 {
        loop {
            let id = stream.below(self.n_ids) as u32;
            // A vocabulary of special tokens alone could not have yielded a token to hide.
            if !self.tokenizer.is_special(id) {
                return id;
            }
        }
    }
}
