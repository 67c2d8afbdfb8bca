//! Text that the tokenizer can't say: how much of a corpus it is.

use crate::config::DataConfig;
use crate::corpus::{Cut, Reading, Sources, read};
use crate::error::{Error, Result};
use crate::tokenizer::{Tokenizer, Unsaid};

/// How many bytes of a corpus are looked at.
const LOOKED_AT: u64 = 1 << 15;
/// The share from which on it is worth a word.
const WORTH_A_WORD: f64 = 0.01;

/// A warning where the tokenizer can't say a share of a corpus, by the documents at its start.
///
/// # Errors
/// Where a file can't be read.
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
                    // What can't be encoded is reported, with its place, where all of it is.
                    Err(error) => fault = Some(error),
                }
            }
            // Ends the reading; nobody hears of it.
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
    if sum.share() < WORTH_A_WORD {
        return Ok(None);
    }
    let read = match tokenizer.unk_id().and_then(|unk| tokenizer.id_to_token(unk)) {
        Some(unk) => format!("is read as {unk}"),
        None => "is lost".to_owned(),
    };
    let percent = 100.0 * sum.share();
    Ok(Some(format!(
        "{}: {percent:.0} % of the text isn't in the tokenizer's vocabulary and {read}",
        sources.what
    )))
}
