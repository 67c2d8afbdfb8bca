//! Heads by the classes in `architectures`, for decoders and encoders of all families.

use serde_json::Value;

use super::Reading;
use super::fields::Fields;
use super::words::{architecture, read_labels};
use crate::config::Head;

/// A decoder family's classes in transformers.
pub(super) struct Classes {
    /// With the projection to the vocabulary.
    pub(super) causal: &'static str,
    /// Without a head.
    pub(super) bare: &'static str,
    /// With labels; `None` where transformers has none.
    pub(super) classify: Option<&'static str>,
}

/// An encoder family's classes in transformers.
pub(super) struct EncoderClasses {
    /// With the projection to the vocabulary; the first is written.
    pub(super) masked: &'static [&'static str],
    /// Without a head.
    pub(super) bare: &'static str,
    /// With labels.
    pub(super) classify: &'static str,
    /// A tensor that only folders with the masked head contain, and one that only a classifier's do.
    pub(super) shown_by: (&'static str, &'static str),
}

/// A decoder's head by `architectures`, or by its tensors if that key is absent. `head_name` is the projection to the
/// vocabulary, as folders name it.
///
/// A tied head is always usable, and is read as a head.
pub(super) fn read_causal_head(
    reading: &mut Reading,
    classes: &Classes,
    tied: bool,
    head_name: &str,
) -> Head {
    let class = architecture(&mut reading.fields);
    let bare = class.is_none() || class == Some(classes.bare);
    if class.is_some() && class == classes.classify
        || class.is_none() && classes.classify.is_some() && (reading.has)("score.weight")
    {
        return classified(reading);
    }
    if class == Some(classes.causal) || bare && (tied || (reading.has)(head_name)) {
        return Head::NextToken;
    }
    if !bare {
        let mut known = vec![classes.causal, classes.bare];
        known.extend(classes.classify);
        refuse(&mut reading.fields, class, &known);
    }
    Head::Hidden { pooler: false }
}

/// The class of a decoder with this head; `None` where there is none.
pub(super) fn causal_class(classes: &Classes, head: Head) -> Option<&'static str> {
    match head {
        Head::NextToken => Some(classes.causal),
        Head::Classify { .. } => classes.classify,
        Head::Hidden { pooler: false } => Some(classes.bare),
        Head::Hidden { pooler: true } | Head::MaskedToken => None,
    }
}

/// An encoder's head by `architectures`, or by its tensors if that key is absent.
pub(super) fn read_encoder_head(reading: &mut Reading, classes: &EncoderClasses, pooler: &str) -> Head {
    let has = reading.has;
    let hidden = Head::Hidden { pooler: has(&format!("{pooler}.weight")) || has(&format!("{pooler}.bias")) };
    match architecture(&mut reading.fields) {
        Some(class) if classes.masked.contains(&class) => Head::MaskedToken,
        Some(class) if class == classes.classify => classified(reading),
        Some(class) if class == classes.bare => hidden,
        None if has(classes.shown_by.0) => Head::MaskedToken,
        None if has(classes.shown_by.1) => classified(reading),
        None => hidden,
        class => {
            let mut known = vec![classes.bare];
            known.extend(classes.masked);
            known.push(classes.classify);
            refuse(&mut reading.fields, class, &known);
            hidden
        }
    }
}

/// The class of an encoder with this head; `None` where there is none.
pub(super) fn encoder_class(classes: &EncoderClasses, head: Head) -> Option<&'static str> {
    match head {
        Head::MaskedToken => classes.masked.first().copied(),
        Head::Classify { .. } => Some(classes.classify),
        Head::Hidden { .. } => Some(classes.bare),
        Head::NextToken => None,
    }
}

/// A classifier of the labels that `config.json` lists, two by default as in transformers.
fn classified(reading: &mut Reading) -> Head {
    reading.labels = read_labels(&mut reading.fields);
    let fields = &mut reading.fields;
    if let Some(other) = fields.text("problem_type").filter(|kind| *kind != "single_label_classification") {
        fields.complain(format!(
            "problem_type = {other:?} is not implemented; \"single_label_classification\" is"
        ));
    }
    Head::Classify { n_labels: if reading.labels.is_empty() { 2 } else { reading.labels.len() } }
}

fn refuse(fields: &mut Fields, class: Option<&str>, known: &[&str]) {
    let (last, others) = known.split_last().unwrap_or((&"", &[]));
    fields.complain(format!(
        "architectures = [{:?}] is not implemented; {} and {last} are",
        class.unwrap_or_default(),
        others.join(", ")
    ));
}

/// The padding's id, if the head depends on it; `silent` by default.
pub(super) fn pad_id(fields: &Fields, head: Head, silent: Option<u32>) -> Option<u32> {
    matches!(head, Head::Classify { .. }).then(|| written_pad_id(fields, silent)).flatten()
}

/// The padding's id in `config.json`, `silent` if absent; null means `None`.
pub(super) fn written_pad_id(fields: &Fields, silent: Option<u32>) -> Option<u32> {
    if fields.is_null("pad_token_id") {
        return None;
    }
    match fields.get("pad_token_id") {
        // A value that is not a token id is refused where the special tokens are read.
        Some(value) => Value::as_u64(value).and_then(|id| u32::try_from(id).ok()),
        None => silent,
    }
}
