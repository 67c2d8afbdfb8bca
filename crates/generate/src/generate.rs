//! The loop: choose a token for each row, show its text, feed it back, until every row has ended.

use vulpes_data::{DecodeStream, Tokenizer};
use vulpes_model::config::MaskKind;
use vulpes_model::{Head, Transformer};

use crate::config::SampleConfig;
use crate::engine::Engine;
use crate::error::Error;
use crate::prompt::token_text;
use crate::sampler::{Choice, Sampler};
use crate::stop::StopTexts;

/// What is to be continued, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompts in ids, of any lengths; each is continued by itself.
    pub prompts: Vec<Vec<u32>>,
    /// How tokens are chosen, and how many.
    pub config: SampleConfig,
    /// All draws follow from it: prompt number i draws from stream `first + i` of the seed.
    pub seed: u64,
    /// The number of the first prompt, where others were continued before under the same seed.
    pub first: u64,
    /// Tokens that end a text; they are not part of it.
    pub end_ids: Vec<u32>,
    /// Whether each choice is traced.
    pub trace: bool,
}

/// Why a text ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// As many tokens as were asked for.
    Length,
    /// The model chose an end token, this one.
    End(u32),
    /// This stop text appeared.
    Stop(String),
}

/// One continued prompt.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The new text, without the prompt, the end token and the stop text.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// The chosen tokens; the end token is the last where there is one.
    pub tokens: Vec<Choice>,
    /// How many tokens of the beginning the model no longer saw at the end.
    pub n_forgotten: usize,
}

/// Continues every prompt of `request`.
///
/// `show` is told each new stretch of text as soon as it is certain, with the number of its prompt: whole characters
/// only, and nothing that may belong to a stop text. It says whether to go on.
///
/// # Errors
/// Where the model predicts no next token, a setting is out of its range, or an operation fails.
pub fn generate(
    model: &Transformer,
    tokenizer: &Tokenizer,
    request: &Request,
    show: &mut dyn FnMut(usize, &str) -> bool,
) -> Result<Vec<Sample>, Error> {
    check_continues(model)?;
    if let Some(problem) = request.config.problems().into_iter().next() {
        return Err(Error::Config { key: problem.key, message: problem.message });
    }
    let sampler = Sampler::new(request.config.clone(), request.seed);
    let sampler = if request.trace { sampler.with_trace() } else { sampler };
    let rows = request.prompts.iter().enumerate();
    let mut rows: Vec<Row> =
        rows.map(|(n, prompt)| Row::new(n, prompt, tokenizer, request)).collect::<Result<_, _>>()?;
    let prompts: Vec<&[u32]> = request.prompts.iter().map(Vec::as_slice).collect();
    let mut engine = Engine::new(model, &prompts)?;
    let mut goes_on = true;
    while goes_on {
        let mut next = vec![None; rows.len()];
        for (row, next) in rows.iter_mut().zip(&mut next).filter(|(row, _)| row.finish.is_none()) {
            let text = row.choose(&sampler, engine.logits(row.number), request)?;
            goes_on &= text.is_empty() || show(row.number, &text);
            *next = row.history.last().copied().filter(|_| row.finish.is_none());
        }
        goes_on &= next.iter().any(Option::is_some);
        if goes_on {
            engine.push(&next)?;
        }
    }
    Ok(rows.into_iter().map(|row| row.sample(&engine, tokenizer)).collect())
}

/// Whether a model can continue a text at all.
///
/// # Errors
/// Where it predicts no next token, or its tokens see those after them.
pub fn check_continues(model: &Transformer) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::Prompt(why.to_owned()));
    match (model.config().head, model.config().mask) {
        (Head::NextToken, MaskKind::Causal) => Ok(()),
        (Head::NextToken, MaskKind::Full) => refuse(
            "this model was trained under a full mask: each of its words sees those after it, so it can't continue a \
             text; --next shows what it makes of one",
        ),
        _ => refuse("this model does not predict the next token, so it can't continue a text"),
    }
}

/// A prompt on its way to a [`Sample`].
struct Row<'a> {
    number: usize,
    /// Prompt and chosen tokens.
    history: Vec<u32>,
    stream: DecodeStream<'a>,
    stops: StopTexts<'a>,
    sample: Vec<Choice>,
    text: String,
    finish: Option<Finish>,
}

impl<'a> Row<'a> {
    fn new(
        number: usize,
        prompt: &[u32],
        tokenizer: &'a Tokenizer,
        request: &'a Request,
    ) -> Result<Self, Error> {
        if prompt.is_empty() {
            return Err(Error::Prompt("a prompt is empty: give it at least one token".into()));
        }
        let mut stream = tokenizer.decode_stream(true);
        // How the first new token is joined to the text can depend on the tokens before it.
        for &id in &prompt[prompt.len().saturating_sub(8)..] {
            // An unknown word has no text of its own, but what comes after it stands apart from it as from any word.
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
            finish: (request.config.n == 0).then_some(Finish::Length),
        })
    }

    /// Chooses the next token; the text that became certain by it.
    fn choose(&mut self, sampler: &Sampler, logits: &[f32], request: &Request) -> Result<String, Error> {
        let place = (request.first.wrapping_add(self.number as u64), self.sample.len() as u64);
        let choice = sampler.choose(logits, &self.history, place)?;
        let id = choice.id;
        self.sample.push(choice);
        self.history.push(id);
        let mut certain = String::new();
        if request.end_ids.contains(&id) {
            self.finish = Some(Finish::End(id));
        } else {
            let piece = self.stream.push(id)?.unwrap_or_default();
            let shown = self.stops.push(&piece);
            certain = shown.text;
            self.finish = shown.stopped_by.map(|stop| Finish::Stop(stop.to_owned()));
        }
        if self.finish.is_none() && usize::try_from(request.config.n).is_ok_and(|n| self.sample.len() >= n) {
            self.finish = Some(Finish::Length);
        }
        if matches!(self.finish, Some(Finish::Length | Finish::End(_))) {
            let late = self.stops.push(&self.stream.finish()?);
            certain += &late.text;
            match late.stopped_by {
                Some(stop) => self.finish = Some(Finish::Stop(stop.to_owned())),
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
            finish: self.finish.unwrap_or(Finish::Length),
            tokens: self.sample,
            n_forgotten: engine.n_forgotten(self.number),
        }
    }
}
