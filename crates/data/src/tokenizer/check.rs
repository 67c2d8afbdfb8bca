//! Checks of a `tokenizer.json` before the `tokenizers` crate reads it.

use serde_json::Value;

/// The largest id allowed is twice the number of tokens plus this: every table of tokens is as long as the largest
/// id.
const SPARE_IDS: u64 = 1 << 20;

/// Reads the file as JSON and checks what the library doesn't.
///
/// The library panics on a faulty decoder, and on a template with a token that it doesn't describe; and it needs
/// memory and time for all ids up to the largest.
///
/// # Errors
/// Returns what is wrong, for a person to read.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    let json: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let added = json["added_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_added = added.iter().map(|token| (token["content"].as_str(), token["id"].as_u64()));
    let vocab = json["model"]["vocab"].as_object();
    let of_vocab = vocab.into_iter().flatten().map(|(token, id)| (Some(token.as_str()), id.as_u64()));
    let n_pieces = json["model"]["vocab"].as_array().map_or(0, Vec::len);
    let (mut n, mut greatest) = (n_pieces as u64, ("", 0));
    for (token, id) in of_added.chain(of_vocab) {
        n += 1;
        if id.is_some_and(|id| id > greatest.1) {
            greatest = (token.unwrap_or_default(), id.unwrap_or_default());
        }
    }
    let (token, id) = greatest;
    if id > 2 * n + SPARE_IDS {
        return Err(format!("the id of {token:?} is {id}, but there are {n} tokens"));
    }
    templates(&json["post_processor"])?;
    Ok(json)
}

/// Checks that a template, anywhere among the post-processors, refers only to what exists.
fn templates(processor: &Value) -> Result<(), String> {
    let inner = processor["processors"].as_array().map(Vec::as_slice).unwrap_or_default();
    inner.iter().try_for_each(templates)?;
    for (name, texts) in [("single", &["A"][..]), ("pair", &["A", "B"])] {
        let pieces = processor[name].as_array().map(Vec::as_slice).unwrap_or_default();
        for piece in pieces {
            if let Some(id) = piece["SpecialToken"]["id"].as_str() {
                let token = &processor["special_tokens"][id];
                let count = |what: &str| token[what].as_array().map(Vec::len);
                if count("ids").is_none() || count("ids") != count("tokens") {
                    return Err(format!(
                        "the post-processor's {name:?} refers to {id:?}, which is missing from its \
                         special_tokens"
                    ));
                }
            }
            if let Some(id) = piece["Sequence"]["id"].as_str()
                && !texts.contains(&id)
            {
                return Err(format!(
                    "the post-processor's {name:?} refers to a text {id:?}, which doesn't exist"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn post_processor_templates_with_missing_parts_are_refused() {
        let with = |single: &str, tokens: &str| {
            let template = format!(
                r#"{{"type": "TemplateProcessing", "single": [{single}], "pair": [{{"Sequence": {{"id": "B", "type_id": 0}}}}],
                "special_tokens": {tokens}}}"#
            );
            read(
                format!(r#"{{"post_processor": {{"type": "Sequence", "processors": [{template}]}}}}"#)
                    .as_bytes(),
            )
        };
        let cls = r#"{"SpecialToken": {"id": "[CLS]", "type_id": 0}}"#;
        let described = r#"{"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}"#;
        assert!(with(cls, described).is_ok());
        assert!(with(cls, "{}").unwrap_err().contains("\"[CLS]\""));
        assert!(with(cls, r#"{"[CLS]": {"id": "[CLS]", "ids": [2, 3], "tokens": ["[CLS]"]}}"#).is_err());
        let error = with(r#"{"Sequence": {"id": "B", "type_id": 0}}"#, "{}").unwrap_err();
        assert!(error.contains("a text \"B\""), "{error}");
    }

    #[test]
    fn an_id_far_beyond_the_others_is_refused() {
        let with = |vocab: &str, added: &str| {
            read(format!(r#"{{"added_tokens": {added}, "model": {{"vocab": {vocab}}}}}"#).as_bytes())
        };
        assert!(with(r#"{"a": 0, "b": 300000}"#, r#"[{"id": 1000000, "content": "c"}]"#).is_ok());
        assert!(with(r#"[["a", -1.5], ["b", -2]]"#, "null").is_ok());
        let error = with(r#"{"a": 0, "b": 4294967295}"#, "[]").unwrap_err();
        assert_eq!(error, "the id of \"b\" is 4294967295, but there are 2 tokens");
        assert!(with("{}", r#"[{"id": 2000000000, "content": "c"}]"#).is_err());
        assert!(read(br#"["\ud800"]"#).is_err() && read(b"7").is_ok());
    }
}
