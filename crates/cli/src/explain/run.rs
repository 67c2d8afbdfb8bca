//! What `explain` does, from reading the model to the page.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::{Context, anyhow};
use serde::Serialize;
use vulpes_data::Tokenizer;
use vulpes_generate::{Prompt, notes};
use vulpes_inspect::{
    Explanation, Extras, GradientFlow, Knockout, LensLayer, NextToken, Paper, Story, Subject, Update,
    explain, film_page, gradient_flow, grid_svg, head_svg, html_page, knockouts, logit_lens, one_update,
    print_explanation, print_gradients, print_knockouts, print_lens, print_update, print_walkthrough,
    projection, said, walkthrough, way,
};
use vulpes_model::Head;
use vulpes_model::folder::{self, Loaded};
use vulpes_runs::model_folder;

use super::args::Args;
use crate::ending::{Failure, say};
use crate::hub;

/// How many outputs a page lists for each token.
const LISTED: usize = 5;

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match (&args.model, &args.film, &args.html) {
        (Some(model), ..) => look(args, model),
        (None, Some(run), Some(file)) => write_file(file, &film_page(run)?),
        _ => {
            let walkthrough = walkthrough()?;
            if args.json {
                document(&walkthrough)
            } else {
                page(|paper| print_walkthrough(&walkthrough, paper))
            }
        }
    }
}

fn look(args: &Args, path: &Path) -> Result<(), Failure> {
    let folder = model_folder(hub::fetched(path, false)?)?;
    let loaded = folder::load(&folder)?;
    loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    let tokenizer = match &args.ids {
        Some(_) if !Tokenizer::is_in(&folder) => Tokenizer::numbers(loaded.config.vocab_size)?,
        _ => Tokenizer::from_folder(&folder)?,
    };
    tokenizer.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
    check_place("layer", args.layer, loaded.config.n_layer)?;
    check_place("head", args.head, loaded.config.n_head)?;
    let (ids, token_types) = ids_of(args, &tokenizer, &loaded)?;
    let model = loaded.transformer.without_gradients()?;
    let embedder = loaded.extra.sentence.as_ref().map(|own| own.embedder).unwrap_or_default();
    let subject = Subject { model: &model, tokenizer: &tokenizer, labels: &loaded.extra.labels, embedder };
    let explanation = explain(&subject, &ids, &token_types)?;
    let target = target_of(args, &subject, &explanation)?;
    let has_head = !matches!(loaded.config.head, Head::Hidden { .. });
    let gradients = match args.gradients || (args.html.is_some() && has_head) {
        true => Some(gradient_flow(&subject, &loaded.transformer, &explanation, target.id)?),
        false => None,
    };
    let update = match gradients {
        Some(_) => {
            one_update(&subject, &loaded.transformer, &explanation, args.target.as_ref().map(|_| target.id))?
        }
        None => None,
    };
    let wants_knockouts = has_head && (args.target.is_some() || args.html.is_some());
    let seen = Seen {
        lens: if has_head { logit_lens(&subject, &explanation)? } else { Vec::new() },
        knockouts: if wants_knockouts { knockouts(&subject, &explanation, target.id)? } else { Vec::new() },
        target,
        gradients,
        update,
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
            first: match (args.layer, args.head) {
                (None, None) => seen.explanation.most_telling(),
                (layer, head) => (layer.unwrap_or(0), head.unwrap_or(0)),
            },
            is_first_given: args.layer.is_some() || args.head.is_some(),
        };
        write_file(file, &html_page(&seen.explanation, &extras)?)?;
    }
    if args.json {
        return json(&seen, args);
    }
    if args.svg.is_some() || args.html.is_some() {
        return Ok(());
    }
    page(|paper| {
        print_explanation(&seen.explanation, args.layer, args.head, paper)?;
        if seen.lens.len() > 1 {
            print_lens(&seen.lens, &seen.explanation, paper)?;
        }
        if args.target.is_some() {
            print_knockouts(&seen.knockouts, &seen.target.text, &seen.explanation, paper)?;
        }
        seen.gradients.as_ref().map_or(Ok(()), |flow| print_gradients(flow, &seen.explanation, paper))?;
        seen.update.as_ref().map_or(Ok(()), |update| print_update(update, &seen.explanation, paper))
    })
}

/// All that was asked for about one text.
struct Seen {
    explanation: Explanation,
    lens: Vec<LensLayer>,
    knockouts: Vec<Knockout>,
    target: NextToken,
    gradients: Option<GradientFlow>,
    update: Option<Update>,
}

/// The token that was typed as the true one, else the likeliest.
fn target_of(args: &Args, subject: &Subject, explanation: &Explanation) -> Result<NextToken, Failure> {
    let logits = &explanation.logits[explanation.position.min(explanation.logits.len() - 1)];
    let id = match &args.target {
        None => explanation.next.first().map_or(0, |first| first.id),
        Some(_) if explanation.next.is_empty() => {
            return Err(Failure::usage(anyhow!("--target: this model has no head, so it predicts nothing")));
        }
        Some(text) => subject.output_id(text).ok_or_else(|| {
            Failure::usage(anyhow!(
                "--target {text:?} is no single token of this model's vocabulary (or label)"
            ))
        })?,
    };
    explanation.output(id, subject).ok_or_else(|| {
        Failure::usage(anyhow!("--target: the model has {} outputs, no number {id}", logits.len()))
    })
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
            "--{name} {place}: the model's {name}s go from 0 to {}",
            n.saturating_sub(1)
        ))),
        _ => Ok(()),
    }
}

/// The ids to read and which text of a pair each belongs to: as typed, or the text's, of which a model of next tokens
/// reads the end that fits its context.
fn ids_of(args: &Args, tokenizer: &Tokenizer, loaded: &Loaded) -> Result<(Vec<u32>, Vec<u32>), Failure> {
    if let Some(ids) = &args.ids {
        return Ok((ids.clone(), args.token_types.clone().unwrap_or_default()));
    }
    let continued = loaded.config.head == Head::NextToken;
    let text = args.text.as_deref().unwrap_or_default();
    if let Some(pair) = &args.pair {
        if continued || loaded.config.n_token_type < 2 {
            return Err(Failure::usage(anyhow!(
                "--pair: this model was made for single texts (it knows {} token types, and a pair has two)",
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
            "warning: the text has {n} tokens, the context holds {}: its first {n_left_out} are left out",
            n - n_left_out
        ));
        ids.drain(..n_left_out);
    }
    // A text for a vector is cut as in training.
    let most = loaded.extra.sentence.as_ref().map(|own| own.max_len.unwrap_or(usize::MAX));
    if let Some(most) = most.map(|most| most.min(loaded.config.context_len)).filter(|most| ids.len() > *most)
    {
        let n = ids.len();
        say(&format!(
            "warning: the text has {n} tokens, the model reads {most}: its last {} are cut off",
            n - most
        ));
        ids = tokenizer.encode_framed(text, None, Some(most))?.0;
    }
    Ok((ids, Vec::new()))
}

/// Everything as JSON, with the logits of the asked token or of all.
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

/// Writes a page to standard output, as wide as the terminal; colours only where they are wanted.
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
