//! Finds the chat templates of a model folder, and the one that is meant.

use std::path::Path;

use serde_json::{Map, Value};

use super::template::ChatTemplate;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// The built-in templates, by name.
const BUILT_IN: [(&str, &str); 1] = [("plain", include_str!("plain.jinja"))];

/// The name of a folder's only template.
const DEFAULT: &str = "default";

/// The special tokens that a template may name.
const TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

impl ChatTemplate {
    /// The file of a model folder that holds its template.
    pub const FILE: &'static str = "chat_template.jinja";

    /// The template called `named`: one of the folder's, a built-in one, or a file; without a name the folder's own.
    ///
    /// # Errors
    /// Returns an error if there is none, listing the known ones, or if it can't be read.
    pub fn find(folder: Option<&Path>, named: Option<&str>, tokenizer: Option<&Tokenizer>) -> Result<Self> {
        let (source, what) = found(folder, named)?;
        Self::new(&source, &what, tokens(folder, tokenizer)?)
    }

    /// The source of a folder's default template; `None` if there is none or it can't be read.
    pub fn source_of(folder: &Path) -> Option<String> {
        templates(folder).ok()?.into_iter().find(|(name, _)| name == DEFAULT).map(|(_, source)| source)
    }

    /// A template with this source, named `what` in errors, and the special tokens of a tokenizer.
    ///
    /// # Errors
    /// Returns an error if it can't be parsed.
    pub fn of_tokenizer(source: &str, what: &str, tokenizer: &Tokenizer) -> Result<Self> {
        Self::new(source, what, tokens(None, Some(tokenizer))?)
    }

    /// The source of a built-in template.
    pub fn built_in(name: &str) -> Option<&'static str> {
        BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, source)| *source)
    }
}

/// The source of the template that is meant, and its name for errors.
fn found(folder: Option<&Path>, named: Option<&str>) -> Result<(String, String)> {
    let own = folder.map(templates).transpose()?.unwrap_or_default();
    let wanted = named.unwrap_or(DEFAULT);
    if let Some((_, source)) = own.iter().find(|(name, _)| name == wanted) {
        let folder = folder.map_or_else(String::new, |folder| folder.display().to_string());
        let what = if named.is_some() { format!("{wanted:?} of {folder}") } else { format!("of {folder}") };
        return Ok((source.clone(), what));
    }
    let carried: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    let names: Vec<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
    let offer =
        format!("data.template = {0:?} (sample: --chat-template {0}) works with any model", BUILT_IN[0].0);
    let Some(named) = named else {
        let whose = folder.map_or_else(|| "the model".to_owned(), |folder| folder.display().to_string());
        let message = match names.as_slice() {
            [] => format!("{whose} has no chat template; {offer}, or give the path of a template"),
            names => {
                format!("{whose} has several chat templates: choose {} (data.template)", names.join(", "))
            }
        };
        return Err(Error::config("data.template", message));
    };
    if let Some(source) = ChatTemplate::built_in(named) {
        return Ok((source.to_owned(), format!("{named:?}")));
    }
    let path = Path::new(named);
    if path.is_file() {
        return Ok((text_of(path)?, named.to_owned()));
    }
    let known = names.iter().chain(&carried).copied().collect::<Vec<_>>().join(", ");
    let message = format!("{named:?} is neither a file nor the name of a template; known names: {known}");
    Err(Error::config("data.template", message))
}

/// All templates of a folder by name: `chat_template.jinja`, those in `additional_chat_templates`, and those of
/// `tokenizer_config.json`; files take precedence.
fn templates(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    let file = folder.join(ChatTemplate::FILE);
    if file.is_file() {
        all.push((DEFAULT.to_owned(), text_of(&file)?));
    }
    let mut more: Vec<_> = std::fs::read_dir(folder.join("additional_chat_templates"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jinja"))
        .collect();
    more.sort();
    for path in more {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        all.push((name, text_of(&path)?));
    }
    let add = |all: &mut Vec<(String, String)>, name: &str, source: &str| {
        if !all.iter().any(|(known, _)| known == name) {
            all.push((name.to_owned(), source.to_owned()));
        }
    };
    match read_json(&folder.join("tokenizer_config.json"))?.get("chat_template") {
        Some(Value::String(source)) => add(&mut all, DEFAULT, source),
        Some(Value::Array(named)) => {
            for one in named {
                if let (Some(name), Some(source)) = (one["name"].as_str(), one["template"].as_str()) {
                    add(&mut all, name, source);
                }
            }
        }
        _ => {}
    }
    // A single template is the default, whatever its name.
    if let [(name, _)] = all.as_mut_slice() {
        DEFAULT.clone_into(name);
    }
    Ok(all)
}

/// The special tokens that the template may name: from the folder's files or, without them, from the tokenizer.
fn tokens(folder: Option<&Path>, tokenizer: Option<&Tokenizer>) -> Result<Map<String, Value>> {
    let mut tokens = Map::new();
    let mut is_said = false;
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        let Some(folder) = folder else { continue };
        let file = read_json(&folder.join(name))?;
        is_said |= !file.is_empty();
        for key in TOKENS {
            let value = file.get(key);
            let token = value.and_then(|value| value.as_str().or_else(|| value["content"].as_str()));
            if let Some(token) = token.filter(|_| !tokens.contains_key(key)) {
                tokens.insert(key.to_owned(), token.into());
            }
        }
    }
    if let Some(tokenizer) = tokenizer {
        let ids = [
            ("bos_token", tokenizer.bos_id()),
            ("eos_token", tokenizer.eos_id()),
            ("unk_token", tokenizer.unk_id()),
            ("pad_token", tokenizer.pad_id()),
        ];
        for (key, id) in ids.iter().filter(|_| !is_said) {
            if let Some(token) = id.and_then(|id| tokenizer.id_to_token(id)) {
                tokens.insert((*key).to_owned(), token.into());
            }
        }
    }
    Ok(tokens)
}

/// The object of a JSON file; an empty one if there is no such file.
fn read_json(path: &Path) -> Result<Map<String, Value>> {
    if !path.is_file() {
        return Ok(Map::new());
    }
    let bytes = std::fs::read(path).map_err(|source| Error::read(path, source))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::tokenizer(path.display(), error))
}

fn text_of(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| Error::read(path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Conversation;

    fn rendered(folder: &Path, named: Option<&str>) -> String {
        let mut conversation = Conversation::new();
        conversation.push("user", "a");
        let template = ChatTemplate::find(Some(folder), named, None);
        template
            .and_then(|template| template.render(&conversation, true))
            .unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn templates_are_found_by_file_name_and_path() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let none = rendered(folder.path(), None);
        assert!(none.contains("has no chat template; data.template = \"plain\" (sample"), "{none}");
        write(
            "tokenizer_config.json",
            r#"{"chat_template": "one{{ eos_token }}", "eos_token": {"content": "E"}}"#,
        );
        assert_eq!(rendered(folder.path(), None), "oneE");
        let several =
            r#"{"chat_template": [{"name": "x", "template": "X"}, {"name": "y", "template": "Y"}]}"#;
        write("tokenizer_config.json", several);
        let many = rendered(folder.path(), None);
        assert!(many.contains("several chat templates: choose x, y"), "{many}");
        assert_eq!(rendered(folder.path(), Some("y")), "Y");
        write("additional_chat_templates/y.jinja", "Z");
        write("chat_template.jinja", "file{{ bos_token }}");
        assert_eq!(
            (rendered(folder.path(), None), rendered(folder.path(), Some("y"))),
            ("file".into(), "Z".into())
        );
        assert_eq!(rendered(folder.path(), Some("plain")), "User: a\nAssistant:");
        write("own.jinja", "{{ messages[0]['content'] }}!\n");
        let own = folder.path().join("own.jinja").display().to_string();
        assert_eq!(rendered(folder.path(), Some(&own)), "a!");
        let wrong = rendered(folder.path(), Some("z"));
        assert!(wrong.contains("known names: default, y, x, plain"), "{wrong}");
        write("own.jinja", "{% if %}");
        assert!(rendered(folder.path(), Some(&own)).contains("it can't be read: "));
        write("own.jinja", "a\n{{ raise_exception('never') }}");
        assert!(rendered(folder.path(), Some(&own)).contains("it refuses this conversation: never"));
    }
}
