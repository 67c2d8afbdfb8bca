//! Finds what is learned of a rendered conversation: the assistant's turns and what closes them.
//!
//! A turn is found by rendering, never by a search for tags, which the messages themselves may contain. It is between
//! the prompt before it (the messages up to it, with the generation prompt) and the text of the messages up to and
//! including it, as both are prefixes of the complete text. If the first is not, or later turns change the rendering
//! of this one, the conversation is split into one row per answer. If only what follows the turn differs (a token at
//! the end of the complete text), the turn ends where both still agree, at the end of a piece of the template or of a
//! token.

use std::ops::Range;

use super::messages::Conversation;
use super::template::{ChatTemplate, Pieces};
use crate::error::{Error, Result};

/// A row before tokenization: its text, and the bytes of it that are learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextRow {
    pub(super) text: String,
    pub(super) learned: Vec<Range<usize>>,
    /// How many messages of the conversation each span needs: those up to and including its own.
    pub(super) n_messages: Vec<usize>,
}

/// The tokens of a text, as far as spans need them: id and bytes.
pub(super) type Tokens<'a> = &'a dyn Fn(&str) -> Result<Vec<(u32, Range<usize>)>>;

/// Why a turn could not be found in a text.
const NO_PREFIX: &str = "the prompt before it is not a prefix of the text of the conversation";
const REWRITTEN: &str = "the template renders it differently if other turns follow";

/// The rows of a conversation: one, or one per answer if the template rewrites earlier turns.
///
/// # Errors
/// Returns why no row can be made: the template refuses the conversation, there is no answer in it, or none can be
/// found in the text.
pub(super) fn rows(
    template: &ChatTemplate,
    conversation: &Conversation,
    tokens: Tokens<'_>,
) -> Result<std::result::Result<Vec<TextRow>, String>> {
    if let Err(message) = conversation.check_roles(template.source()) {
        return Ok(Err(message));
    }
    let answers: Vec<usize> = (conversation.n_given..conversation.len())
        .filter(|&index| conversation.role(index) == "assistant")
        .collect();
    let Some(&last) = answers.last() else {
        return Ok(Err("it has no assistant message, so nothing would be learned".to_owned()));
    };
    if template.marks_generation() {
        return generated(template, conversation, &answers);
    }
    let whole = Whole::of(template, conversation.clone())?;
    let found: std::result::Result<Vec<_>, String> =
        answers.iter().map(|&index| whole.turn(index, tokens)).collect::<Result<_>>()?;
    if let Ok(learned) = found {
        let n_messages = answers.iter().map(|index| index + 1).collect();
        return Ok(Ok(vec![TextRow { text: whole.pieces.text, learned, n_messages }]));
    }
    let mut split = Vec::new();
    for &index in &answers {
        let part;
        let whole = match index {
            _ if index == last && last + 1 == conversation.len() => &whole,
            _ => {
                part = Whole::of(template, conversation.first(index + 1))?;
                &part
            }
        };
        match whole.turn(index, tokens)? {
            Ok(span) => {
                let text = whole.pieces.text.clone();
                split.push(TextRow { text, learned: vec![span], n_messages: vec![index + 1] });
            }
            Err(why) => {
                return Ok(Err(format!("the answer in message {} can't be located: {why}", index + 1)));
            }
        }
    }
    Ok(Ok(split))
}

/// The row of a template that itself marks what the model wrote.
fn generated(
    template: &ChatTemplate,
    conversation: &Conversation,
    answers: &[usize],
) -> Result<std::result::Result<Vec<TextRow>, String>> {
    let (text, mut spans) = template.render_generation(conversation)?;
    let of_assistant: Vec<usize> =
        (0..conversation.len()).filter(|&index| conversation.role(index) == "assistant").collect();
    if spans.len() == of_assistant.len() {
        // Given answers are not learned.
        spans.drain(..of_assistant.len() - answers.len());
    } else if answers.len() < of_assistant.len() {
        return Ok(Err("its {% generation %} doesn't enclose each answer exactly once".to_owned()));
    }
    spans.retain(|span| !span.is_empty());
    if spans.is_empty() {
        return Ok(Err("nothing in it is within {% generation %}, so nothing would be learned".into()));
    }
    let n_messages = match spans.len() == answers.len() {
        true => answers.iter().map(|index| index + 1).collect(),
        false => vec![conversation.len(); spans.len()],
    };
    Ok(Ok(vec![TextRow { text, learned: spans, n_messages }]))
}

/// A rendered conversation.
struct Whole<'a> {
    template: &'a ChatTemplate,
    conversation: Conversation,
    pieces: Pieces,
}

impl<'a> Whole<'a> {
    fn of(template: &'a ChatTemplate, conversation: Conversation) -> Result<Self> {
        let pieces = template.render_in_pieces(&conversation)?;
        Ok(Self { template, conversation, pieces })
    }

    /// The bytes of an assistant message that are learned, or why they can't be located.
    fn turn(&self, index: usize, tokens: Tokens<'_>) -> Result<std::result::Result<Range<usize>, String>> {
        let text = self.pieces.text.as_str();
        let before = match self.template.render(&self.conversation.first(index), true) {
            Ok(before) => before,
            Err(Error::Template { message, .. }) => {
                return Ok(Err(format!("the prompt before it can't be rendered: {message}")));
            }
            Err(error) => return Err(error),
        };
        if !text.starts_with(&before) {
            return Ok(Err(NO_PREFIX.to_owned()));
        }
        let start = before.len();
        let content_end = self.content_end(index)?.filter(|&end| end >= start);
        let end = if index + 1 == self.conversation.len() {
            text.len()
        } else {
            let alone = Whole::of(self.template, self.conversation.first(index + 1))?;
            match text.starts_with(&alone.pieces.text) {
                true => alone.pieces.text.len(),
                false => match self.common_end(&alone, index, content_end, tokens)? {
                    Some(end) => end,
                    None => return Ok(Err(REWRITTEN.to_owned())),
                },
            }
        };
        let end = without_blanks(text, content_end.unwrap_or(start), end);
        match start < end {
            true => Ok(Ok(start..end)),
            false => Ok(Err("nothing follows the prompt before it".to_owned())),
        }
    }

    /// Where the content of a message ends in the text; `None` if it has none or the template doesn't show it exactly
    /// once.
    fn content_end(&self, index: usize) -> Result<Option<usize>> {
        let text = self.pieces.text.as_str();
        let Some(mark) = ('\u{f0000}'..).find(|&mark| !text.contains(mark)).map(String::from) else {
            return Ok(None);
        };
        let Some(longer) = self.conversation.with_more_in(index, &mark) else { return Ok(None) };
        let longer = match self.template.render(&longer, false) {
            Ok(longer) => longer,
            Err(Error::Template { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let after = longer.split_once(&mark).map(|(_, after)| after).filter(|after| !after.contains(&mark));
        Ok(after.filter(|after| text.ends_with(after)).map(|after| text.len() - after.len()))
    }

    /// Where a turn ends that reads the same alone (as the last message of `alone`) as in the complete text, though
    /// what follows differs; `None` if it doesn't.
    fn common_end(
        &self,
        alone: &Self,
        index: usize,
        content_end: Option<usize>,
        tokens: Tokens<'_>,
    ) -> Result<Option<usize>> {
        let (text, other) = (self.pieces.text.as_str(), alone.pieces.text.as_str());
        let Some(content_end) = content_end else { return Ok(None) };
        if alone.content_end(index)? != Some(content_end) || !other.is_char_boundary(content_end) {
            return Ok(None);
        }
        let n_same = text.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
        if n_same < content_end {
            return Ok(None);
        }
        let closes = content_end + 1..=n_same;
        let of_template =
            self.pieces.ends.iter().rev().find(|end| closes.contains(end) && alone.pieces.ends.contains(end));
        if let Some(end) = of_template {
            return Ok(Some(*end));
        }
        // A template that writes its text in one piece: the common prefix of tokens.
        let (own, others) = (tokens(text)?, tokens(other)?);
        let same = own.iter().zip(&others).take_while(|(own, other)| own == other);
        let end = same.map(|(own, _)| own.1.end).filter(|end| closes.contains(end)).max();
        Ok(end)
    }
}

/// The end of a turn without the whitespace after what closes it; whitespace is kept if nothing else closes the turn.
fn without_blanks(text: &str, content_end: usize, end: usize) -> usize {
    let closing = text.get(content_end..end).unwrap_or_default();
    match closing.trim_end().len() {
        0 => end,
        n => content_end + n,
    }
}
