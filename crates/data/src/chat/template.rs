//! A compiled chat template that renders conversations.

use std::ops::Range;

use jiff::civil::DateTime;
use minijinja::Environment;
use minijinja::value::{Serde, Value};
use serde_json::{Map, Value as Json};

use super::generation::{self, MARKS};
use super::messages::Conversation;
use super::python::{Raised, environment};
use crate::error::{Error, Result};

/// The template's name within its environment.
const NAME: &str = "chat";

/// The format of a time.
const CLOCK: &str = "%Y-%m-%d %H:%M:%S";

/// A template that renders a conversation as text, in transformers' dialect of Jinja.
///
/// Its clock (`strftime_now`) is the machine's, or a fixed one ([`ChatTemplate::with_clock`]).
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    what: String,
    /// The special tokens by their names in templates, such as `eos_token`.
    tokens: Map<String, Json>,
    now: Option<DateTime>,
    marks_generation: bool,
}

/// Where the pieces of a rendered text end: one per expression and per literal part of the template.
pub(super) struct Pieces {
    pub(super) text: String,
    pub(super) ends: Vec<usize>,
}

impl ChatTemplate {
    /// Compiles a template; `what` names it in errors, `tokens` are the special tokens that it may name.
    ///
    /// # Errors
    /// Returns an error if the source is not valid Jinja.
    pub fn new(source: &str, what: &str, tokens: Map<String, Json>) -> Result<Self> {
        let environment = compiled(source, what, None)?;
        let marks_generation = generation::replaced(source).is_some();
        let (source, what) = (source.to_owned(), what.to_owned());
        Ok(Self { environment, source, what, tokens, now: None, marks_generation })
    }

    /// The same with a clock that shows `now`, such as `2026-01-31 12:00:00`.
    ///
    /// # Errors
    /// Returns an error if that is not a date and time.
    pub fn with_clock(mut self, now: &str) -> Result<Self> {
        let parsed = now.parse().map_err(|error| {
            let wanted = "wanted a date and a time, such as \"2026-01-31 12:00:00\"";
            Error::config("data.now", format!("{now:?}: {error}; {wanted}"))
        })?;
        self.environment = compiled(&self.source, &self.what, Some(parsed))?;
        self.now = Some(parsed);
        Ok(self)
    }

    /// The same with a special token under one of its names in templates, such as `eos_token`.
    #[must_use]
    pub fn with_token(mut self, name: &str, token: &str) -> Self {
        self.tokens.insert(name.to_owned(), token.into());
        self
    }

    /// What the machine's clock shows now, as [`ChatTemplate::with_clock`] takes it.
    pub fn now() -> String {
        jiff::ZonedDateTime::now().strftime(CLOCK).to_string()
    }

    /// Whether the text depends on the clock.
    pub fn reads_clock(&self) -> bool {
        self.source.contains("strftime_now")
    }

    /// What a fixed clock shows.
    pub fn clock(&self) -> Option<String> {
        Some(self.now?.strftime(CLOCK).to_string())
    }

    /// The special tokens that the template may name, such as `eos_token`.
    pub fn special_tokens(&self) -> &Map<String, Json> {
        &self.tokens
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The template's name in errors.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Whether the template itself marks what the model wrote, by `{% generation %}`.
    pub(super) fn marks_generation(&self) -> bool {
        self.marks_generation
    }

    /// The text of a conversation; with `add_generation_prompt` it ends where the model's answer is to begin.
    ///
    /// # Errors
    /// Returns an error if the template refuses the conversation (`raise_exception`), or can't render it.
    pub fn render(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<String> {
        Ok(self.run(conversation, add_generation_prompt, ["", ""])?.0)
    }

    /// The same, and where its pieces end.
    pub(super) fn render_in_pieces(&self, conversation: &Conversation) -> Result<Pieces> {
        let (text, ends) = self.run(conversation, false, ["", ""])?;
        Ok(Pieces { text, ends })
    }

    /// The text of a conversation and the parts of it within `{% generation %}`.
    pub(super) fn render_generation(
        &self,
        conversation: &Conversation,
    ) -> Result<(String, Vec<Range<usize>>)> {
        let text = self.render(conversation, false)?;
        // Two private-use characters that don't occur in it.
        let mut unused = ('\u{f0000}'..).filter(|&mark| !text.contains(mark));
        let marks = [unused.next().unwrap_or('\u{f0000}'), unused.next().unwrap_or('\u{f0001}')];
        let spelled = marks.map(String::from);
        let (marked, _) = self.run(conversation, false, [&spelled[0], &spelled[1]])?;
        match generation::unmarked(&marked, marks) {
            Some((unmarked, spans)) if unmarked == text => Ok((text, spans)),
            _ => {
                Err(self
                    .error("its {% generation %} can't be followed: it is nested, or filtered".to_owned()))
            }
        }
    }

    fn run(
        &self,
        conversation: &Conversation,
        add_generation_prompt: bool,
        marks: [&str; 2],
    ) -> Result<(String, Vec<usize>)> {
        let mut context = self.tokens.clone();
        let none = |key: &str| (key.to_owned(), Json::Null);
        context.extend([none("tools"), none("documents")]);
        context.extend(conversation.more.clone());
        context.insert("add_generation_prompt".to_owned(), add_generation_prompt.into());
        for (name, mark) in MARKS.iter().zip(marks) {
            context.insert((*name).to_owned(), mark.into());
        }
        let messages =
            conversation.messages.iter().map(|message| Value::from(Serde(message))).collect::<Value>();
        let context = context.into_iter().map(|(key, value)| (Value::from(key), Value::from(Serde(value))));
        let context = Value::from_pairs(context.chain([(Value::from("messages"), messages)]));
        let template = self.environment.get_template(NAME).map_err(|error| self.failed(&error))?;
        let (text, spans) = template.render_with_spans(context).map_err(|error| self.failed(&error))?;
        let ends = spans.iter().map(|span| span.output_range().end).collect();
        Ok((text, ends))
    }

    fn error(&self, message: String) -> Error {
        Error::Template { what: self.what.clone(), message }
    }

    /// An error of the template library, with the template's own message if it raised it.
    fn failed(&self, error: &minijinja::Error) -> Error {
        self.error(told(error))
    }
}

/// What went wrong in a template, and in which line of it.
fn told(error: &minijinja::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(one) = cause {
        if let Some(Raised(message)) = one.downcast_ref() {
            return format!("it refuses this conversation: {message}");
        }
        cause = one.source();
    }
    let words = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{words} (line {line} of the template)"),
        None => words,
    }
}

fn compiled(source: &str, what: &str, now: Option<DateTime>) -> Result<Environment<'static>> {
    let plain = generation::replaced(source).unwrap_or_else(|| source.to_owned());
    let compiled = environment(now).and_then(|mut environment| {
        environment.add_template_owned(NAME, plain)?;
        Ok(environment)
    });
    compiled.map_err(|error| {
        let message = format!("it can't be read: {}", told(&error));
        Error::Template { what: what.to_owned(), message }
    })
}
