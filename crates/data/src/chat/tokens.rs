//! Conversation rows as tokens, each learned or not, cut to complete turns if they are too long.

use std::ops::Range;

use super::messages::Conversation;
use super::spans::{self, TextRow};
use super::template::ChatTemplate;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// A row of a conversation, ready to learn from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenRow {
    pub(crate) ids: Vec<u32>,
    /// Whether each token is a target.
    pub(crate) learned: Vec<bool>,
    pub(crate) text: String,
    /// The bytes of the text that each token covers; those between two tokens belong to the second.
    pub(crate) bytes: Vec<Range<usize>>,
}

/// What was cut of a conversation that was too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Rows that end after an earlier turn.
    pub(crate) n_cut: usize,
    /// Rows of which not even the first answer fits.
    pub(crate) n_left_out: usize,
}

/// The rows of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowsOf {
    pub(crate) rows: Vec<TokenRow>,
    pub(crate) cut: Cut,
    /// The index of the first message that the template leaves out.
    pub(crate) unseen: Option<usize>,
}

/// The rows of a conversation, none longer than `max_len` tokens.
///
/// The text is encoded without the tokenizer's own special tokens: the template has written them. A token is learned
/// if its first character is in a learned span.
///
/// # Errors
/// Those of [`spans::rows`]; also if everything in a row would be learned.
pub(crate) fn rows_within(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    conversation: &Conversation,
    max_len: usize,
) -> Result<std::result::Result<RowsOf, String>> {
    let tokens = |text: &str| tokens_of(tokenizer, text);
    let text_rows = match spans::rows(template, conversation, &tokens)? {
        Ok(rows) => rows,
        Err(why) => return Ok(Err(why)),
    };
    let unseen = text_rows.last().map(|row| unseen(template, conversation, &row.text)).transpose()?.flatten();
    let (mut rows, mut cut) = (Vec::new(), Cut::default());
    for text_row in &text_rows {
        let row = TokenRow::of(tokenizer, text_row)?;
        if let Err(why) = row.check() {
            return Ok(Err(why));
        }
        if row.ids.len() <= max_len {
            rows.push(row);
            continue;
        }
        // A row of a single answer has no earlier turn to end after.
        let earlier = if text_rows.len() == 1 { &text_row.n_messages[..] } else { &[] };
        let room = row.bytes.get(max_len).map_or(0, |bytes| bytes.start);
        let fits = |at: &usize| text_row.learned[*at].end <= room;
        let mut shorter = None;
        for at in (0..earlier.len().saturating_sub(1)).rev().filter(fits) {
            let part = conversation.first(earlier[at]);
            let Ok(part) = spans::rows(template, &part, &tokens)? else { continue };
            let [only] = part.as_slice() else { continue };
            let row = TokenRow::of(tokenizer, only)?;
            if row.ids.len() <= max_len && row.check().is_ok() {
                shorter = Some(row);
                break;
            }
        }
        match shorter {
            Some(row) => {
                rows.push(row);
                cut.n_cut += 1;
            }
            None => cut.n_left_out += 1,
        }
    }
    Ok(Ok(RowsOf { rows, cut, unseen }))
}

/// The first message without which the text would be the same.
fn unseen(template: &ChatTemplate, conversation: &Conversation, text: &str) -> Result<Option<usize>> {
    for index in 0..conversation.len() {
        let content = conversation.content(index).map(str::trim).filter(|content| !content.is_empty());
        if content.is_none_or(|content| text.contains(content)) {
            continue;
        }
        // Its text is not in the output: a filter may have changed it.
        let Some(longer) = conversation.with_more_in(index, "\u{f0000}") else { continue };
        match template.render(&longer, false) {
            Ok(longer) if longer == template.render(conversation, false)? => return Ok(Some(index)),
            Ok(_) | Err(Error::Template { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The tokens of a text as the template wrote it: id and bytes.
pub(super) fn tokens_of(tokenizer: &Tokenizer, text: &str) -> Result<Vec<(u32, Range<usize>)>> {
    let encoded = tokenizer.encode_detailed(text, false)?;
    let bytes = encoded.offsets.iter().map(|&(start, end)| start..end);
    Ok(encoded.ids.into_iter().zip(bytes).collect())
}

impl TokenRow {
    fn of(tokenizer: &Tokenizer, row: &TextRow) -> Result<Self> {
        let encoded = tokenizer.encode_detailed(&row.text, false)?;
        if let Some(piece) = encoded.unknown.first().filter(|_| tokenizer.unk_id().is_none()) {
            return Err(Error::tokenizer("encode", format!("the vocabulary has no token for {piece:?}")));
        }
        let bytes = extents(&encoded.offsets);
        let is_learned = |(extent, offsets): (&Range<usize>, &(usize, usize))| {
            // Some tokenizers have no offsets for a token of whitespace alone.
            let first = if offsets.0 == offsets.1 { extent.start } else { offsets.0 };
            row.learned.iter().any(|span| span.contains(&first))
        };
        let learned = bytes.iter().zip(&encoded.offsets).map(is_learned).collect();
        Ok(Self { ids: encoded.ids, learned, text: row.text.clone(), bytes })
    }

    /// Checks that something is learned, and not everything.
    fn check(&self) -> std::result::Result<(), String> {
        match (
            self.learned.iter().skip(1).any(|&learned| learned),
            self.learned.iter().all(|&learned| learned),
        ) {
            (false, _) => Err("no token of it would be learned".to_owned()),
            (_, true) => {
                Err("every token of it would be learned: the template puts nothing before the answer".into())
            }
            (true, false) => Ok(()),
        }
    }

    /// The learned bytes of the text, as spans.
    #[cfg(test)]
    pub(super) fn learned_bytes(&self) -> Vec<(usize, usize)> {
        stretches(&self.bytes, &self.learned)
    }
}

/// The bytes of the tokens with `wanted`, with adjacent ones merged.
pub(crate) fn stretches(bytes: &[Range<usize>], wanted: &[bool]) -> Vec<(usize, usize)> {
    let mut all: Vec<(usize, usize)> = Vec::new();
    let mut goes_on = false;
    for (bytes, &wanted) in bytes.iter().zip(wanted) {
        match all.last_mut().filter(|_| goes_on && wanted) {
            Some(last) => last.1 = last.1.max(bytes.end),
            None if wanted => all.push((bytes.start, bytes.end)),
            None => {}
        }
        goes_on = wanted;
    }
    all
}

/// The bytes that tokens cover; those between two tokens (whitespace that a tokenizer leaves out of its offsets)
/// belong to the second.
fn extents(offsets: &[(usize, usize)]) -> Vec<Range<usize>> {
    let mut end_before = 0;
    let extent = |&(start, end): &(usize, usize)| {
        let extent = start.min(end_before)..end;
        // Each of several tokens of one character covers it.
        let extent = if start < end_before { start..end } else { extent };
        end_before = end_before.max(end);
        extent
    };
    offsets.iter().map(extent).collect()
}
