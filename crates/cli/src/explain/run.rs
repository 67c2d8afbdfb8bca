//! The work of `explain`, from reading the model to the page.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, anyhow};
use serde::Serialize;
use vulpes_data::Tokenizer;
use vulpes_generate::{Prompt, notes};
use vulpes_inspect::{
    Explanation, Extras, GradientFlow, Knockout, LensLayer, NamedHead, NextToken, Origins, Paper, ScoreParts,
    Story, Subject, Taught, Update, explain, film_page, gradient_flow, grid_svg, head_habits, head_svg,
    knockouts, logit_lens, loss_gradients, one_update, origins, print_explanation, print_gradients,
    print_habits, print_knockouts, print_lens, print_origins, print_taught, print_update, print_walkthrough,
    projection, said, walkthrough, walkthrough_page, way,
};
use vulpes_model::Head;
use vulpes_model::folder::{LoadOptions, Loaded};

use super::args::Args;
use super::live::{live_of, page_of};
use super::teachers::{Searched, search};
use crate::ending::{Failure, say};
use crate::source::ModelSource;

/// The number of outputs listed per token.
const LISTED: usize = 5;

/// Runs `explain`; returns the exit code of the signal that stopped a search, else 0.
pub(crate) fn run(args: &Args) -> Result<u8, Failure> {
    match (&args.model, &args.film, &args.html) {
        (Some(model), ..) => return look(args, model),
        (None, Some(run), Some(file)) => write_file(file, &film_page(run)?)?,
        _ => {
            let walkthrough = walkthrough()?;
            if let Some(file) = &args.html {
                write_file(file, &walkthrough_page(&walkthrough)?)?;
            }
            if args.json {
                document(&walkthrough)?;
            } else if args.html.is_some() {
                // The page alone was requested.
            } else {
                page(|paper| print_walkthrough(&walkthrough, paper))?;
            }
        }
    }
    Ok(0)
}

fn look(args: &Args, path: &Path) -> Result<u8, Failure> {
    let source = ModelSource::find(path, args.adapter.as_deref())?;
    let loaded = source.load(LoadOptions::default())?;
    loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    let tokenizer = source.tokenizer(args.ids.is_some(), loaded.config.vocab_size)?;
    tokenizer.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
    check_place("layer", args.layer, loaded.config.n_layer)?;
    check_place("head", args.head, loaded.config.n_head)?;
    let (ids, token_types) = ids_of(args, &tokenizer, &loaded)?;
    let model = loaded.transformer.without_gradients()?;
    let embedder = loaded.extra.sentence.as_ref().map(|own| own.embedder).unwrap_or_default();
    let subject = Subject { model: &model, tokenizer: &tokenizer, labels: &loaded.extra.labels, embedder };
    let explanation = explain(&subject, &ids, &token_types)?;
    let target = target_of(args, &subject, &explanation)?;
    let taught = match args.teachers.map(|top| search(path, top, &explanation, &target)).transpose()? {
        None => None,
        Some(Searched::Found(taught)) => Some(*taught),
        Some(Searched::Stopped(code)) => return Ok(code),
    };
    let first = match (args.layer, args.head) {
        (None, None) => explanation.most_telling(),
        (layer, head) => (layer.unwrap_or(0), head.unwrap_or(0)),
    };
    let has_head = !matches!(loaded.config.head, Head::Hidden { .. });
    let (gradients, update) = match args.gradients || (args.html.is_some() && has_head) {
        true => {
            let learner = &loaded.transformer;
            let of_loss = loss_gradients(learner, &explanation, target.id)?;
            let truth = args.target.as_ref().map(|_| target.id);
            (
                Some(gradient_flow(&subject, learner, &explanation, &of_loss)?),
                one_update(&subject, learner, &explanation, truth, Some(&of_loss))?,
            )
        }
        false => (None, None),
    };
    let wants_knockouts = has_head && (args.target.is_some() || args.html.is_some());
    let seen = Seen {
        lens: if has_head { logit_lens(&subject, &explanation)? } else { Vec::new() },
        knockouts: if wants_knockouts { knockouts(&subject, &explanation, target.id)? } else { Vec::new() },
        target,
        gradients,
        update,
        habits: head_habits(&subject, &explanation.ids)?,
        cell: score_parts(args, &subject, &explanation, first)?,
        taught,
        explanation,
    };
    if let Some(file) = &args.svg {
        write_file(file, &svg_of(args, &seen.explanation))?;
    }
    if let Some(file) = &args.html {
        let extras = Extras {
            lens: seen.lens.clone(),
            knockouts: seen.knockouts.clone(),
            target: seen.target.clone(),
            is_target_given: args.target.is_some(),
            gradients: seen.gradients.clone(),
            update: seen.update.clone(),
            way: way(&model, &seen.explanation.input(&model)?)?,
            projection: projection(&subject, &seen.explanation, LISTED)?,
            said: said(&subject, &seen.explanation, LISTED),
            story: Story::of(path, &seen.explanation.ids),
            origins: origins_of_page(&subject, &seen.explanation, first)?,
            habits: seen.habits.clone(),
            taught: seen.taught.clone(),
            first,
            is_first_given: args.layer.is_some() || args.head.is_some(),
            live: live_of(args, &subject, &seen.explanation)?,
        };
        write_file(file, &page_of(args, &seen.explanation, extras)?)?;
    }
    if args.json {
        json(&seen, args)?;
        return Ok(0);
    }
    if args.svg.is_some() || args.html.is_some() {
        return Ok(0);
    }
    page(|paper| {
        print_explanation(&seen.explanation, args.layer, args.head, paper)?;
        print_origins(&seen.cell, &seen.explanation, paper)?;
        let shown = |named: &&NamedHead| {
            args.layer.is_none_or(|layer| layer == named.layer)
                && args.head.is_none_or(|head| head == named.head)
        };
        print_habits(seen.habits.iter().filter(shown), paper)?;
        if seen.lens.len() > 1 {
            print_lens(&seen.lens, &seen.explanation, paper)?;
        }
        if args.target.is_some() {
            print_knockouts(&seen.knockouts, &seen.target.text, &seen.explanation, paper)?;
        }
        seen.gradients.as_ref().map_or(Ok(()), |flow| print_gradients(flow, &seen.explanation, paper))?;
        seen.update.as_ref().map_or(Ok(()), |update| print_update(update, &seen.explanation, paper))?;
        seen.taught.as_ref().map_or(Ok(()), |taught| print_taught(taught, &seen.explanation, paper))
    })?;
    Ok(0)
}

/// All that was requested about one text.
struct Seen {
    explanation: Explanation,
    lens: Vec<LensLayer>,
    knockouts: Vec<Knockout>,
    target: NextToken,
    gradients: Option<GradientFlow>,
    update: Option<Update>,
    habits: Vec<NamedHead>,
    cell: ScoreParts,
    taught: Option<Taught>,
}

/// The parts of the score of the chosen cell; by default the one with the queried token's largest attention weight.
fn score_parts(
    args: &Args,
    subject: &Subject,
    explanation: &Explanation,
    (layer, head): (usize, usize),
) -> Result<ScoreParts, Failure> {
    let n = explanation.ids.len();
    let (query, key) = match args.cell {
        Some((query, key)) if query.max(key) >= n => {
            let last = n - 1;
            return Err(Failure::usage(anyhow!(
                "--cell {query},{key}: the text's positions are 0 to {last}"
            )));
        }
        Some(cell) => cell,
        None => {
            let row = &explanation.attentions[layer][head][explanation.position];
            let greatest = (0..n).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(0);
            (explanation.position, greatest)
        }
    };
    let places = if query == key { vec![query] } else { vec![query, key] };
    let split = origins(subject, explanation, &[(layer, head)], &places)?;
    let parts = split.first().and_then(|own| own.cell(explanation, query, key));
    parts.ok_or_else(|| Failure::failed(anyhow!("layer {layer}, head {head} has no score {query},{key}")))
}

/// The sources of the scores on a page: of every head if there are few, else of the one shown first.
fn origins_of_page(
    subject: &Subject,
    explanation: &Explanation,
    first: (usize, usize),
) -> Result<Vec<Origins>, Failure> {
    const FEW: usize = 16;
    let (n_layer, n_head) = (explanation.model.n_layer, explanation.model.n_head);
    let all = (0..n_layer).flat_map(|layer| (0..n_head).map(move |head| (layer, head)));
    let heads: Vec<(usize, usize)> = if n_layer * n_head <= FEW { all.collect() } else { vec![first] };
    Ok(origins(subject, explanation, &heads, &[])?)
}

/// The token of `--target`, else the most likely one.
fn target_of(args: &Args, subject: &Subject, explanation: &Explanation) -> Result<NextToken, Failure> {
    let logits = &explanation.logits[explanation.position.min(explanation.logits.len() - 1)];
    let id = match &args.target {
        None => explanation.next.first().map_or(0, |first| first.id),
        Some(_) if explanation.next.is_empty() => {
            return Err(Failure::usage(anyhow!("--target: this model has no head, so it predicts nothing")));
        }
        Some(text) => subject.output_id(text).ok_or_else(|| {
            Failure::usage(anyhow!("--target {text:?} is not a single token (or a label) of this model"))
        })?,
    };
    explanation
        .output(id, subject)
        .ok_or_else(|| Failure::usage(anyhow!("--target: no output {id}: the model has {}", logits.len())))
}

fn svg_of(args: &Args, explanation: &Explanation) -> String {
    let one = explanation.model.n_layer * explanation.model.n_head == 1;
    match (args.layer, args.head) {
        (None, None) if !one => grid_svg(explanation),
        (layer, head) => head_svg(explanation, layer.unwrap_or(0), head.unwrap_or(0)),
    }
}

fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).with_context(|| format!("{} can't be written", path.display()))?;
    say(&format!("wrote {} ({} KB)", path.display(), text.len().div_ceil(1000)));
    Ok(())
}

fn check_place(name: &str, place: Option<usize>, n: usize) -> Result<(), Failure> {
    match place {
        Some(place) if place >= n => Err(Failure::usage(anyhow!(
            "--{name} {place}: the model's {name}s are 0 to {}",
            n.saturating_sub(1)
        ))),
        _ => Ok(()),
    }
}

/// The ids to read and the text of a pair that each belongs to: as typed, or those of the text, which a causal model
/// cuts to the end that fits its context.
fn ids_of(args: &Args, tokenizer: &Tokenizer, loaded: &Loaded) -> Result<(Vec<u32>, Vec<u32>), Failure> {
    if let Some(ids) = &args.ids {
        return Ok((ids.clone(), args.token_types.clone().unwrap_or_default()));
    }
    let continued = loaded.config.head == Head::NextToken;
    let text = args.text.as_deref().unwrap_or_default();
    if let Some(pair) = &args.pair {
        if continued || loaded.config.n_token_type < 2 {
            return Err(Failure::usage(anyhow!(
                "--pair: this model reads single texts (it has {} token types, and a pair needs two)",
                loaded.config.n_token_type
            )));
        }
        return Ok(tokenizer.encode_framed(text, Some(pair), None)?);
    }
    let prompt = Prompt::from_text(text, tokenizer, continued)?;
    notes(&prompt, tokenizer).iter().for_each(|note| say(&format!("warning: {note}")));
    let mut ids = prompt.ids;
    let n_left_out = ids.len().saturating_sub(loaded.config.context_len);
    if n_left_out > 0 && continued {
        let n = ids.len();
        say(&format!(
            "warning: the text has {n} tokens, the context holds {}: its first {n_left_out} are dropped",
            n - n_left_out
        ));
        ids.drain(..n_left_out);
    }
    // A text to embed is cut as in training.
    let most = loaded.extra.sentence.as_ref().map(|own| own.max_len.unwrap_or(usize::MAX));
    if let Some(most) = most.map(|most| most.min(loaded.config.context_len)).filter(|most| ids.len() > *most)
    {
        let n = ids.len();
        say(&format!(
            "warning: the text has {n} tokens, the model reads {most}: its last {} are dropped",
            n - most
        ));
        ids = tokenizer.encode_framed(text, None, Some(most))?.0;
    }
    Ok((ids, Vec::new()))
}

/// Everything as JSON, with the logits of the queried token or of all.
fn json(seen: &Seen, args: &Args) -> Result<(), Failure> {
    let explanation = &seen.explanation;
    let mut value = serde_json::to_value(explanation)?;
    if explanation.next.is_empty() {
        value["logits"] = serde_json::json!([]);
    } else if !args.all_logits {
        let asked = explanation.position.min(explanation.logits.len() - 1);
        value["logits"] = serde_json::to_value(&explanation.logits[asked])?;
    }
    value["lens"] = serde_json::to_value(&seen.lens)?;
    value["cell"] = serde_json::to_value(&seen.cell)?;
    value["heads"] = serde_json::to_value(&seen.habits)?;
    if let Some(taught) = &seen.taught {
        value["teachers"] = serde_json::to_value(taught)?;
    }
    if args.target.is_some() || args.html.is_some() {
        value["target"] = serde_json::to_value(&seen.target)?;
        value["knockouts"] = serde_json::to_value(&seen.knockouts)?;
    }
    if let Some(gradients) = &seen.gradients {
        value["gradients"] = serde_json::to_value(gradients)?;
        value["update"] = serde_json::to_value(&seen.update)?;
    }
    document(&value)
}

fn document(value: &impl Serialize) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer(&mut out, value).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Writes a page to standard output, as wide as the terminal; in color only if supported.
fn page(write: impl FnOnce(&mut Paper) -> std::io::Result<()>) -> Result<(), Failure> {
    let terminal = console::Term::stdout();
    let typed = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let width = if std::io::stdout().is_terminal() {
        terminal.size_checked().map(|(_, w)| usize::from(w))
    } else {
        None
    };
    let mut out = anstream::AutoStream::auto(std::io::stdout().lock());
    let mut bytes = Vec::new();
    write(&mut Paper::new(&mut bytes, typed.or(width).unwrap_or(80)))?;
    out.write_all(&bytes)?;
    Ok(out.flush()?)
}
