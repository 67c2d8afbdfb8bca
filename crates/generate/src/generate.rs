//! The generation loop: choose a token per row, show its text, feed it back, until all rows end.

use vulpes_data::{DecodeStream, Tokenizer};
use vulpes_model::config::MaskKind;
use vulpes_model::{Head, ModelConfig};

use crate::config::SampleConfig;
use crate::engine::Engine;
use crate::error::Error;
use crate::lookup::Lookup;
use crate::prompt::token_text;
use crate::sampler::{Choice, Sampler};
use crate::source::Source;
use crate::stop::StopTexts;

/// What to continue, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompts in ids, of any lengths; each is continued independently.
    pub prompts: Vec<Vec<u32>>,
    /// The sampling settings.
    pub config: SampleConfig,
    /// The seed of all draws: prompt number i draws from stream `first + i` of it.
    pub seed: u64,
    /// The number of the first prompt, if others were continued before with the same seed.
    pub first: u64,
    /// Tokens that end a text; they are not part of it.
    pub end_ids: Vec<u32>,
    /// Whether each choice is traced.
    pub trace: bool,
    /// Whether the next tokens are guessed from the text's own repetitions and read several at once, if the model has
    /// a decoder; the output is the same.
    pub lookup: bool,
}

/// Why a text ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The requested number of tokens was reached.
    Length,
    /// The model chose this end token.
    End(u32),
    /// This stop string appeared.
    Stop(String),
}

/// One continued prompt.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The new text, without the prompt, the end token and the stop string.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The chosen tokens, including the end token if there is one.
    pub tokens: Vec<Choice>,
    /// How many tokens of the beginning the model no longer saw at the end.
    pub n_truncated: usize,
}

/// Continues every prompt of `request`.
///
/// `show` receives each new piece of text as soon as it is certain, with the number of its prompt: complete
/// characters only, and nothing that may belong to a stop string. It returns whether to go on.
///
/// # Errors
/// Returns an error if the model predicts no next token, a setting is out of range, or an operation fails.
pub fn generate<'m>(
    model: impl Into<Source<'m>>,
    tokenizer: &Tokenizer,
    request: &Request,
    show: &mut dyn FnMut(usize, &str) -> bool,
) -> Result<Vec<Sample>, Error> {
    let mut continuing = Continuing::new(model.into(), tokenizer, request)?;
    while continuing.step(show)? {}
    Ok(continuing.finish())
}

/// Prompts being continued.
pub(crate) struct Continuing<'m> {
    tokenizer: &'m Tokenizer,
    request: Request,
    sampler: Sampler,
    rows: Vec<Row<'m>>,
    engine: Engine<'m>,
    lookups: Vec<Lookup>,
}

impl<'m> Continuing<'m> {
    /// Reads the prompts.
    ///
    /// # Errors
    /// As for [`generate`].
    pub(crate) fn new(
        source: Source<'m>,
        tokenizer: &'m Tokenizer,
        request: &Request,
    ) -> Result<Self, Error> {
        if let Some(config) = source.config() {
            check_continues(&config)?;
        }
        if let Some(problem) = request.config.problems().into_iter().next() {
            return Err(Error::Config { key: problem.key, message: problem.message });
        }
        let sampler = Sampler::new(request.config.clone(), request.seed);
        let sampler = if request.trace { sampler.with_trace() } else { sampler };
        let rows = request.prompts.iter().enumerate();
        let rows: Vec<Row> =
            rows.map(|(n, prompt)| Row::new(n, prompt, tokenizer, request)).collect::<Result<_, _>>()?;
        let prompts: Vec<&[u32]> = request.prompts.iter().map(Vec::as_slice).collect();
        let engine = Engine::new(source, &prompts)?;
        let lookups = vec![Lookup::default(); if request.lookup { rows.len() } else { 0 }];
        Ok(Self { tokenizer, request: request.clone(), sampler, rows, engine, lookups })
    }

    /// Chooses a token for each unfinished row, passes the text that became certain to `show`, and reads the tokens;
    /// returns whether there is more to come.
    ///
    /// # Errors
    /// Returns an error if an operation fails.
    pub(crate) fn step(&mut self, show: &mut dyn FnMut(usize, &str) -> bool) -> Result<bool, Error> {
        let Self { request, sampler, rows, engine, lookups, .. } = self;
        let mut goes_on = true;
        let mut next = vec![None; rows.len()];
        for (row, next) in rows.iter_mut().zip(&mut next).filter(|(row, _)| row.finish_reason.is_none()) {
            loop {
                let text = row.choose(sampler, engine.logits(row.number), request)?;
                goes_on &= text.is_empty() || show(row.number, &text);
                *next = row.history.last().copied().filter(|_| row.finish_reason.is_none());
                if !goes_on || !next.is_some_and(|token| engine.has_read(row.number, token)) {
                    break;
                }
            }
        }
        goes_on &= next.iter().any(Option::is_some);
        if goes_on {
            engine.push(&next, request.lookup.then_some(lookups))?;
        }
        Ok(goes_on)
    }

    /// The sample of each prompt.
    pub(crate) fn finish(self) -> Vec<Sample> {
        let Self { rows, engine, tokenizer, .. } = self;
        rows.into_iter().map(|row| row.sample(&engine, tokenizer)).collect()
    }
}

/// Checks that a model can continue a text.
///
/// # Errors
/// Returns an error if it predicts no next token, or its tokens see those after them.
pub fn check_continues(config: &ModelConfig) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::Prompt(why.to_owned()));
    match (config.head, config.mask) {
        (Head::NextToken, MaskKind::Causal) => Ok(()),
        (Head::NextToken, MaskKind::Full) => refuse(
            "this model was trained with full attention: each of its tokens sees those after it, so it \
             can't continue a text; --next shows its predictions for one",
        ),
        _ => refuse("this model does not predict the next token, so it can't continue a text"),
    }
}

/// A prompt that becomes a [`Sample`].
struct Row<'a> {
    number: usize,
    /// Prompt and chosen tokens.
    history: Vec<u32>,
    stream: DecodeStream<'a>,
    stops: StopTexts,
    sample: Vec<Choice>,
    text: String,
    finish_reason: Option<FinishReason>,
}

impl<'a> Row<'a> {
    fn new(
        number: usize,
        prompt: &[u32],
        tokenizer: &'a Tokenizer,
        request: &Request,
    ) -> Result<Self, Error> {
        if prompt.is_empty() {
            return Err(Error::Prompt("a prompt is empty; at least one token is needed".into()));
        }
        let mut stream = tokenizer.decode_stream(true);
        // How the first new token is joined to the text can depend on the tokens before it.
        for &id in &prompt[prompt.len().saturating_sub(8)..] {
            // An unknown word has no text of its own, but a space follows it as it follows any word.
            let is_unknown = Some(id) == tokenizer.unk_id();
            stream.push(if is_unknown { tokenizer.any_word().unwrap_or(id) } else { id })?;
        }
        Ok(Self {
            number,
            history: prompt.to_vec(),
            stream,
            stops: StopTexts::new(&request.config.stop),
            sample: Vec::new(),
            text: String::new(),
            finish_reason: (request.config.n == 0).then_some(FinishReason::Length),
        })
    }

    /// Chooses the next token and returns the text that became certain.
    fn choose(&mut self, sampler: &Sampler, logits: &[f32], request: &Request) -> Result<String, Error> {
        let place = (request.first.wrapping_add(self.number as u64), self.sample.len() as u64);
        let choice = sampler.choose(logits, &self.history, place)?;
        let id = choice.id;
        self.sample.push(choice);
        self.history.push(id);
        let mut certain = String::new();
        if request.end_ids.contains(&id) {
            self.finish_reason = Some(FinishReason::End(id));
        } else {
            let piece = self.stream.push(id)?.unwrap_or_default();
            let shown = self.stops.push(&piece);
            certain = shown.text;
            self.finish_reason = shown.stopped_by.map(FinishReason::Stop);
        }
        if self.finish_reason.is_none()
            && usize::try_from(request.config.n).is_ok_and(|n| self.sample.len() >= n)
        {
            self.finish_reason = Some(FinishReason::Length);
        }
        if matches!(self.finish_reason, Some(FinishReason::Length | FinishReason::End(_))) {
            let late = self.stops.push(&self.stream.finish()?);
            certain += &late.text;
            match late.stopped_by {
                Some(stop) => self.finish_reason = Some(FinishReason::Stop(stop)),
                None => certain += &self.stops.finish(),
            }
        }
        self.text += &certain;
        Ok(certain)
    }

    fn sample(mut self, engine: &Engine, tokenizer: &Tokenizer) -> Sample {
        for trace in self.sample.iter_mut().filter_map(|choice| choice.trace.as_mut()) {
            trace.name(&|id| token_text(tokenizer, id));
        }
        Sample {
            text: self.text,
            finish_reason: self.finish_reason.unwrap_or(FinishReason::Length),
            tokens: self.sample,
            n_truncated: engine.n_truncated(self.number),
        }
    }
}
