//! What `explain` does, from reading the model to the page.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::anyhow;
use serde::Serialize;
use vulpes_data::Tokenizer;
use vulpes_inspect::{
    Explanation, Paper, Subject, explain, print_explanation, print_walkthrough, walkthrough,
};
use vulpes_model::folder::{self, Loaded};

use super::{Args, Failure};

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.model {
        Some(model) => look(args, model),
        None => {
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
    let folder = folder::resolve(path)?;
    let loaded = folder::load(&folder)?;
    loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let tokenizer = Tokenizer::from_folder(&folder)?;
    check_place("layer", args.layer, loaded.config.n_layer)?;
    check_place("head", args.head, loaded.config.n_head)?;
    let ids = ids_of(args, &tokenizer, &loaded)?;
    let model = loaded.transformer.without_gradients()?;
    let subject = Subject { model: &model, tokenizer: &tokenizer, labels: &loaded.extra.labels };
    let explanation = explain(&subject, &ids)?;
    if args.json {
        return json(&explanation, args.all_logits);
    }
    page(|paper| print_explanation(&explanation, args.layer, args.head, paper))
}

fn check_place(name: &str, place: Option<usize>, n: usize) -> Result<(), Failure> {
    match place {
        Some(place) if place >= n => Err(Failure::Usage(anyhow!(
            "--{name} {place}: the model's {name}s go from 0 to {}",
            n.saturating_sub(1)
        ))),
        _ => Ok(()),
    }
}

/// The ids to read: as typed, or the text's, of which a model of next tokens reads the end that fits its context.
fn ids_of(args: &Args, tokenizer: &Tokenizer, loaded: &Loaded) -> Result<Vec<u32>, Failure> {
    if let Some(ids) = &args.ids {
        return Ok(ids.clone());
    }
    let encoded = tokenizer.encode_detailed(args.text.as_deref().unwrap_or_default(), true)?;
    if !encoded.unknown.is_empty() {
        let words: Vec<String> = encoded.unknown.iter().map(|word| format!("{word:?}")).collect();
        let unk = tokenizer.unk_id().and_then(|id| tokenizer.id_to_token(id)).unwrap_or_default();
        eprintln!("warning: not in the vocabulary, read as {unk}: {}", words.join(", "));
    }
    let mut ids = encoded.ids;
    let continued = loaded.config.head == vulpes_model::Head::NextToken;
    if continued && ids.len() > 1 && ids.last().copied() == tokenizer.eos_id() {
        ids.pop();
    }
    let n_left_out = ids.len().saturating_sub(loaded.config.context_len);
    if n_left_out > 0 && continued {
        let n = ids.len();
        eprintln!(
            "warning: the text has {n} tokens, the context holds {}: its first {n_left_out} are left out",
            n - n_left_out
        );
        ids.drain(..n_left_out);
    }
    Ok(ids)
}

/// The explanation as JSON, with the logits of the asked token or of all.
fn json(explanation: &Explanation, all_logits: bool) -> Result<(), Failure> {
    let mut value = serde_json::to_value(explanation)?;
    if !all_logits {
        let asked = explanation.position.min(explanation.logits.len() - 1);
        value["logits"] = serde_json::to_value(&explanation.logits[asked])?;
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
