//! Generates the model's answer to a conversation.

use std::io::Write;

use anyhow::anyhow;
use vulpes_data::{ChatTemplate, Conversation, Error, Turns};
use vulpes_generate::{Request, Sample, SampleConfig, generate};

use crate::ending::Failure;
use crate::sample::args::Args;
use crate::sample::inputs::Inputs;

/// Answers conversations with a inputs's model.
pub(super) struct Answerer<'a> {
    pub(super) inputs: &'a Inputs,
    template: ChatTemplate,
    turns: Turns,
    config: SampleConfig,
    end_ids: Vec<u32>,
    /// Whether the number of new tokens is set.
    has_n: bool,
    trace: bool,
    lookup: bool,
}

/// An answer, and its inputs.
pub(super) struct Answer {
    pub(super) prompt_ids: Vec<u32>,
    /// The model's message, without the template's prefix.
    pub(super) content: String,
    pub(super) sample: Sample,
    /// The number of messages dropped from the context.
    pub(super) n_truncated: usize,
}

impl<'a> Answerer<'a> {
    pub(super) fn new(inputs: &'a Inputs, args: &Args) -> Result<Self, Failure> {
        let tokenizer = &inputs.tokenizer;
        let named = args.chat_template.as_deref();
        let template = inputs.source.template(named, tokenizer);
        let template = template.map_err(|error| match error {
            Error::Config { message, .. } => Failure::usage(anyhow!(message)),
            error => Failure::failed(error),
        })?;
        let turns = Turns::of(&template, tokenizer)?;
        let mut config = inputs.config.clone();
        config.stop.extend(turns.end_text.clone());
        let mut end_ids = inputs.end_ids.clone();
        end_ids.extend(turns.end_id);
        let has_n = args.n.is_some() || inputs.n_is_given;
        Ok(Self { inputs, template, turns, config, end_ids, has_n, trace: args.json, lookup: args.lookup })
    }

    /// The model's answer to a conversation, number `number` of this seed; `show` receives each piece of it and returns
    /// whether to continue.
    ///
    /// # Errors
    /// Returns an error if the template refuses the conversation, or an operation fails.
    pub(super) fn answer(
        &self,
        conversation: &Conversation,
        number: u64,
        show: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Answer, Failure> {
        let context = self.inputs.model.config().context_len;
        let new = if self.has_n { usize::try_from(self.config.n).unwrap_or(usize::MAX) } else { usize::MAX };
        let (prompt_ids, n_truncated) = self.prompt(conversation, context - new.min(context / 4))?;
        let mut config = self.config.clone();
        if !self.has_n {
            // While the entire conversation fits the context.
            config.n = context.saturating_sub(prompt_ids.len()).max(1) as i64;
        }
        let request = Request {
            prompts: vec![prompt_ids.clone()],
            config,
            seed: self.inputs.seed,
            first: number,
            end_ids: self.end_ids.clone(),
            trace: self.trace,
            lookup: self.lookup,
        };
        let mut lead = Lead { wanted: &self.turns.lead, held: Some(String::new()) };
        let samples =
            generate(self.inputs.model.source(), &self.inputs.tokenizer, &request, &mut |_, text| {
                let text = lead.pass(text);
                text.is_empty() || show(&text)
            })?;
        show(&lead.rest());
        let sample =
            samples.into_iter().next().ok_or_else(|| Failure::failed(anyhow!("no answer was made")))?;
        let text = sample.text.as_str();
        let content = text.strip_prefix(self.turns.lead.as_str()).unwrap_or(text).to_owned();
        Ok(Answer { prompt_ids, content, sample, n_truncated })
    }

    /// [`Answerer::answer`], streamed to `out` and ended by a newline; `stop` is called at each piece.
    ///
    /// # Errors
    /// See [`Answerer::answer`]; also the errors of `out`.
    pub(super) fn write(
        &self,
        conversation: &Conversation,
        number: u64,
        out: &mut dyn Write,
        stop: &dyn Fn() -> bool,
    ) -> Result<Answer, Failure> {
        let mut written = Ok(());
        let answer = self.answer(conversation, number, &mut |text| {
            if written.is_ok() {
                written = write!(out, "{text}").and_then(|()| out.flush());
            }
            written.is_ok() && !stop()
        })?;
        written?;
        writeln!(out)?;
        out.flush()?;
        Ok(answer)
    }

    /// The ids of a conversation up to the answer, at most `room`: the oldest messages after the system's are dropped
    /// until they fit; also the number dropped.
    fn prompt(&self, conversation: &Conversation, room: usize) -> Result<(Vec<u32>, usize), Failure> {
        let ids_of = |conversation: &Conversation| -> Result<Vec<u32>, Failure> {
            let text = self.template.render(conversation, true).map_err(Failure::usage)?;
            Ok(self.inputs.tokenizer.encode(&text)?)
        };
        let mut ids = ids_of(conversation)?;
        let (mut shorter, mut n_truncated) = (conversation.clone(), 0);
        // An answer is dropped with its question, so that roles keep alternating.
        while ids.len() > room && shorter.forget_turn() {
            let Ok(fewer) = ids_of(&shorter) else { break };
            n_truncated = conversation.len() - shorter.len();
            ids = fewer;
        }
        if ids.is_empty() {
            return Err(Failure::usage(anyhow!("the template renders this conversation as an empty text")));
        }
        Ok((ids, n_truncated))
    }
}

/// The template's prefix of an answer, held back until it is matched.
struct Lead<'a> {
    wanted: &'a str,
    /// The text held back; `None` once the content has begun.
    held: Option<String>,
}

impl Lead<'_> {
    /// The content in this piece of text.
    fn pass(&mut self, text: &str) -> String {
        let Some(held) = &mut self.held else { return text.to_owned() };
        held.push_str(text);
        if self.wanted.starts_with(held.as_str()) && self.wanted.len() > held.len() {
            return String::new();
        }
        let content = held.strip_prefix(self.wanted).unwrap_or(held).to_owned();
        self.held = None;
        content
    }

    /// The text still held back at the end.
    fn rest(&mut self) -> String {
        self.held.take().filter(|held| self.wanted != held).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_removed_however_it_is_split() {
        let shown = |wanted: &str, parts: &[&str]| -> String {
            let mut lead = Lead { wanted, held: Some(String::new()) };
            let text: String = parts.iter().map(|part| lead.pass(part)).collect();
            text + &lead.rest()
        };
        assert_eq!(shown(" ", &[" Hi", " you"]), "Hi you");
        assert_eq!(shown("", &["Hi"]), "Hi");
        assert_eq!(shown("<think>\n", &["<thi", "nk>", "\na"]), "a");
        assert_eq!(shown("<think>\n", &["<thi", "s>"]), "<this>");
        assert_eq!(shown("<think>", &["<th"]), "<th");
        assert_eq!(shown(" ", &[" "]), "");
    }
}
