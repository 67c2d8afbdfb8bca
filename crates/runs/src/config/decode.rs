//! Decodes a section of the tree into its struct, reporting all unknown keys and wrong types.
//!
//! serde stops at its first error. So the entry that the error points at is removed from the tree and the section is
//! decoded again, until there is no error.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

use super::aliases;
use super::fault::{Fault, Place};
use super::source::Source;

/// Decodes the section `name`; an absent section is an empty one.
pub(super) fn section<T: DeserializeOwned>(
    name: &str,
    source: &Source<'_>,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    let mut value = match source.tree.get(name) {
        Some(value) => value.clone(),
        None => Spanned::new(0..0, DeValue::Table(DeTable::new())),
    };
    if !value.get_ref().is_table() {
        let found = value.get_ref().type_str();
        faults.push(
            Fault::new(format!("`{name}` must be a section, found {found}")).on(name, "expected a section"),
        );
        return None;
    }
    let mut sound = true;
    loop {
        match T::deserialize(ValueDeserializer::from(value.clone())) {
            Ok(decoded) => return sound.then_some(decoded),
            Err(error) => {
                let missing = error.message().starts_with("missing field");
                let entry =
                    error.span().filter(|_| !missing).and_then(|span| take_out(&mut value, &span, name));
                // After a fault, a key may be missing only because it was removed.
                if sound || entry.is_some() {
                    faults.push(explain(name, &error, entry.as_ref()));
                }
                sound = false;
                // Nothing was removed: the same error would recur.
                entry.as_ref()?;
            }
        }
    }
}

/// The keys that the section `name` has.
pub(super) fn keys(name: &str, source: &Source<'_>) -> Vec<String> {
    match source.tree.get(name).map(Spanned::get_ref) {
        Some(DeValue::Table(table)) => table.keys().map(|key| key.get_ref().to_string()).collect(),
        _ => Vec::new(),
    }
}

/// Reports the tree's sections that aren't in `known`.
pub(super) fn unknown_sections(source: &Source<'_>, known: &[&str], faults: &mut Vec<Fault>) {
    for (key, value) in &source.tree {
        if known.contains(&key.get_ref().as_ref()) {
            continue;
        }
        let key_name = key.get_ref();
        let what = if value.get_ref().is_table() { "section" } else { "key outside any section" };
        let fault = Fault::new(format!("unknown {what} `{key_name}`"))
            .at(Some(Place::span(key.span(), "unknown")))
            .help(nearest(key_name, known).map_or_else(
                || format!("the sections are {}", known.join(", ")),
                |near| format!("the nearest known section is `{near}`"),
            ));
        faults.push(fault);
    }
}

/// A removed entry: its dotted path and the location of the error.
struct Entry {
    path: String,
    span: Range<usize>,
}

/// Removes the innermost entry whose key or value contains `span` from the table at `path`.
fn take_out(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>, path: &str) -> Option<Entry> {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let DeValue::Table(table) = value.get_mut() else { return None };
    // The span of a table with a header is the header alone: its entries are elsewhere, so it is entered first.
    for (key, value) in table.iter_mut() {
        if let Some(entry) = take_out(value, span, &format!("{path}.{}", key.get_ref())) {
            return Some(entry);
        }
    }
    let (key, _) = table.iter().find(|(key, value)| holds(key.span()) || holds(value.span()))?;
    let key = key.get_ref().as_ref().to_owned();
    table.remove(key.as_str());
    Some(Entry { path: format!("{path}.{key}"), span: span.clone() })
}

/// Converts serde's message to a fault, with the path of the value and the nearest accepted word.
fn explain(section: &str, error: &Error, entry: Option<&Entry>) -> Fault {
    let message = error.message().trim();
    let known = words(message);
    let (unknown, known) = match known.split_first() {
        Some((unknown, known)) if message.starts_with("unknown") => (unknown.as_str(), known),
        _ => ("", &known[..]),
    };
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let Some(entry) = entry else {
        return Fault::new(format!("[{section}] {message}")).on(section, "");
    };
    let place = |label: &str| Some(Place::span(entry.span.clone(), label));
    let path = &entry.path;
    if message.starts_with("unknown field") {
        let mut with_aliases = known.clone();
        aliases::of_section(section).for_each(|alias| with_aliases.push(alias));
        return Fault::new(format!("unknown key `{path}`")).at(place("unknown")).help(
            nearest(unknown, &with_aliases).map_or_else(
                || format!("the keys here are {}", known.join(", ")),
                |near| format!("the nearest known key is `{near}`"),
            ),
        );
    }
    if message.starts_with("unknown variant") {
        let fault = Fault::new(format!("{path} = \"{unknown}\" is not one of {}", known.join(", ")));
        return match nearest(unknown, &known) {
            Some(near) => fault.at(place("unknown")).help(format!("the nearest known value is \"{near}\"")),
            None => fault.at(place("unknown")),
        };
    }
    let (found, wanted) = message.split_once(", expected ").unwrap_or((message, ""));
    let Some((_, found)) = found.split_once(": ").filter(|_| !wanted.is_empty()) else {
        return Fault::new(format!("{path}: {message}")).at(place(""));
    };
    let wanted = in_toml(wanted);
    let fault = Fault::new(format!("{path}: expected {wanted}, found {}", in_toml(found)));
    let fault = fault.at(place(&format!("expected {wanted}")));
    // People often write a section's kind in place of the section.
    match found.strip_prefix("string ").filter(|_| wanted == "a section") {
        Some(word) => fault.help(format!("for example\n[{path}]\nkind = {word}")),
        None => fault,
    }
}

/// serde's name of a value or type, in the terms of TOML.
fn in_toml(words: &str) -> String {
    let bare = words.replace('`', "");
    let value = ["integer ", "floating point ", "boolean ", "string "];
    if let Some(value) = value.iter().find_map(|kind| bare.strip_prefix(kind)) {
        return value.to_owned();
    }
    match bare.as_str() {
        "u64" | "usize" | "u32" | "u8" => "an integer, 0 or more".to_owned(),
        "i64" | "isize" | "i32" => "an integer".to_owned(),
        "f64" | "f32" => "a number".to_owned(),
        "a boolean" | "boolean" => "true or false".to_owned(),
        "sequence" | "a sequence" => "a list".to_owned(),
        "map" | "a map" => "a section".to_owned(),
        other if other.starts_with("struct ") => "a section".to_owned(),
        other => match other.strip_prefix("an array of length ") {
            Some(length) => format!("a list of {length}"),
            None => other.to_owned(),
        },
    }
}

/// The words between backquotes.
fn words(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The known word nearest to `word`, if any is near.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let score = |candidate: &str| strsim::damerau_levenshtein(word, candidate);
    let best = known.iter().copied().min_by_key(|candidate| score(candidate))?;
    let contained = best.len() > 2 && (word.contains(best) || best.contains(word));
    (score(best) <= 1 + word.chars().count() / 3 || contained).then_some(best)
}
