//! Measures how much of a corpus the tokenizer's vocabulary doesn't cover.

use crate::config::DataConfig;
use crate::corpus::{Cut, Reading, Sources, read};
use crate::error::{Error, Result};
use crate::tokenizer::{Tokenizer, Unsaid};

/// How many bytes of a corpus are checked.
pub(super) const LOOKED_AT: u64 = 1 << 15;
/// The share above which a warning is given.
const WORTH_A_WORD: f64 = 0.01;

/// A warning if the vocabulary doesn't cover a share of a corpus, measured on its first documents.
///
/// # Errors
/// Returns an error if a file can't be read.
pub(super) fn warning(data: &DataConfig, sources: &Sources, tokenizer: &Tokenizer) -> Result<Option<String>> {
    let mut sum = Unsaid::default();
    let reading = Reading { config: data, labels: false, cut: Cut::Blanks, look: None };
    for source in &sources.files {
        let mut fault = None;
        let read = read(source, &reading, &mut |document| {
            for text in [Some(document.text), document.pair].into_iter().flatten() {
                let end = text.floor_char_boundary((LOOKED_AT - sum.of.min(LOOKED_AT)) as usize);
                match tokenizer.unsaid(&text[..end]) {
                    Ok(one) => sum = Unsaid { lost: sum.lost + one.lost, of: sum.of + one.of },
                    // What can't be encoded is reported, with its position, by the full tokenization.
                    Err(error) => fault = Some(error),
                }
            }
            // Ends the reading; this error is dropped.
            if sum.of >= LOOKED_AT / 2 || fault.is_some() {
                return Err(Error::config("data", "enough was read"));
            }
            Ok(())
        });
        if sum.of >= LOOKED_AT / 2 || fault.is_some() {
            break;
        }
        read?;
    }
    Ok(told(sum, &sources.what, tokenizer))
}

/// The warning for an uncovered share; `None` if it is too small.
pub(super) fn told(sum: Unsaid, what: &str, tokenizer: &Tokenizer) -> Option<String> {
    if sum.share() < WORTH_A_WORD {
        return None;
    }
    let read = match tokenizer.unk_id().and_then(|unk| tokenizer.id_to_token(unk)) {
        Some(unk) => format!("is read as {unk}"),
        None => "is lost".to_owned(),
    };
    let percent = 100.0 * sum.share();
    Some(format!("{what}: {percent:.0} % of the text isn't in the tokenizer's vocabulary and {read}"))
}
