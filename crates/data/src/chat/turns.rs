//! How a template begins and ends an answer, used by generation.

use super::messages::Conversation;
use super::spans;
use super::template::ChatTemplate;
use super::tokens::tokens_of;
use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// What a template puts before and after the content of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// What comes between the prompt and the content: with some templates a space.
    pub lead: String,
    /// The special token that closes an answer, if there is one.
    pub end_id: Option<u32>,
    /// The text that closes an answer, if no special token does.
    pub end_text: Option<String>,
}

/// The placeholder content to look for.
const CONTENT: &str = "qzjx";

impl Turns {
    /// What `template` puts around an answer, found with a short conversation; empty if it refuses that one.
    ///
    /// # Errors
    /// Returns an error if the tokenizer can't read the template's text.
    pub fn of(template: &ChatTemplate, tokenizer: &Tokenizer) -> Result<Self> {
        let mut conversation = Conversation::new();
        conversation.push("user", "a");
        let Ok(prompt) = template.render(&conversation, true) else { return Ok(Self::default()) };
        // As an earlier turn: after the last one a template may end the complete text.
        conversation.push("assistant", CONTENT);
        conversation.push("user", "b");
        let tokens = |text: &str| tokens_of(tokenizer, text);
        let Ok(Ok(rows)) = spans::rows(template, &conversation, &tokens) else { return Ok(Self::default()) };
        let first = rows.first().and_then(|row| Some((row, row.learned.first()?)));
        let found = first.and_then(|(row, span)| Some((row, row.text.find(CONTENT)?, span)));
        let Some((row, content, span)) = found else { return Ok(Self::default()) };
        let lead = row.text.get(prompt.len()..content).filter(|_| row.text.starts_with(&prompt));
        let closing = content + CONTENT.len()..span.end;
        let end_id = tokens(&row.text)?
            .into_iter()
            .find(|(id, bytes)| closing.contains(&bytes.start) && tokenizer.is_special(*id))
            .map(|(id, _)| id);
        let text = row.text.get(closing).unwrap_or_default();
        let end_text = (end_id.is_none() && !text.is_empty()).then(|| text.to_owned());
        Ok(Self { lead: lead.unwrap_or_default().to_owned(), end_id, end_text })
    }
}
