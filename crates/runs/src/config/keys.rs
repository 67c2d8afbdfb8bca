//! The reference of all config keys, generated from the config structs: types, defaults, doc comments.

use schemars::schema_for;
use serde_json::{Map, Value};
use vulpes_model::ModelConfig;

use super::RunConfig;
use super::aliases::ALIASES;

/// One key of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its dotted path; `[]` stands for an entry of a list.
    pub path: String,
    /// The values it takes.
    pub wanted: String,
    /// Its default as TOML; `None` if no value is equivalent to leaving the key out.
    pub default: Option<String>,
    /// Its description, in Markdown.
    pub about: String,
    /// The words it takes, each with its meaning.
    pub words: Vec<(String, String)>,
}

/// Every key, section by section, in the order of the structs.
pub fn keys() -> Vec<Key> {
    let schema = schema_for!(RunConfig).to_value();
    // Each key of `[model]` overrides the `ModelConfig` field of that name, which has the description.
    let model = schema_for!(ModelConfig).to_value();
    let mut reader = Reader { schema: &schema, model: &model, keys: Vec::new() };
    if let Some(sections) = schema["properties"].as_object() {
        sections.iter().for_each(|(name, section)| reader.section(name, section, &section["default"]));
    }
    reader.keys
}

/// The reference as Markdown: a table per section.
pub fn keys_as_markdown() -> String {
    let mut text = String::new();
    let mut section = "";
    let keys = keys();
    for key in &keys {
        let own = section_of(&key.path);
        if own != section {
            section = own;
            text += &format!("\n### `[{section}]`\n\n| key | default | what it is |\n|---|---|---|\n");
        }
        let name = &key.path[section.len() + 1..];
        let default = key.default.as_ref().map_or(String::new(), |value| format!("`{value}`"));
        let words: String = key.words.iter().map(|(word, about)| format!("<br>`{word}`: {about}")).collect();
        let wanted = if words.is_empty() { format!(" ({})", key.wanted) } else { String::new() };
        let others = ALIASES.iter().filter(|(own, _, key)| *own == section && *key == name);
        let others: String = others.map(|(_, other, _)| format!("; also `{other}`")).collect();
        let row = format!("| `{name}` | {default} | {}{wanted}{others}{words} |\n", key.about);
        text += &row.replace(" | |", " | | ").replace("|  |", "| |");
    }
    text
}

/// The section that a key is written under.
pub fn section_of(path: &str) -> &str {
    let inner = path.find("[]").unwrap_or(path.len());
    path[..inner].rfind('.').map_or(path, |dot| &path[..dot])
}

struct Reader<'a> {
    schema: &'a Value,
    model: &'a Value,
    keys: Vec<Key>,
}

impl<'a> Reader<'a> {
    /// Follows a schema's reference, if any; an option resolves to its inner type.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let some = schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null"));
        let schema = some.unwrap_or(schema);
        let name = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/"));
        name.map_or(schema, |name| &self.schema["$defs"][name])
    }

    fn section(&mut self, path: &str, schema: &'a Value, defaults: &Value) {
        let Some(properties) = self.resolve(schema)["properties"].as_object() else { return };
        // Sections within the section come last, as they must in TOML.
        let (tables, values): (Vec<_>, Vec<_>) =
            properties.iter().partition(|(_, schema)| self.resolve(schema)["properties"].is_object());
        for (name, schema) in values {
            let default = schema.get("default").or(defaults.get(name)).filter(|value| !value.is_null());
            self.key(&format!("{path}.{name}"), name, schema, default);
        }
        for (name, schema) in tables {
            self.section(&format!("{path}.{name}"), schema, &defaults[name]);
        }
    }

    fn key(&mut self, path: &str, name: &str, schema: &'a Value, default: Option<&Value>) {
        let found = self.resolve(schema);
        let of_model = &self.model["properties"][name]["description"];
        let described =
            [&schema["description"], if path.starts_with("model.") { of_model } else { &Value::Null }];
        let about = described.iter().find_map(|text| text.as_str()).unwrap_or_default();
        let words = found["oneOf"].as_array().into_iter().flatten().filter_map(|one| {
            Some((one["const"].as_str()?.to_owned(), plain(one["description"].as_str().unwrap_or_default())))
        });
        let words: Vec<(String, String)> = words.collect();
        self.keys.push(Key {
            path: path.to_owned(),
            wanted: self.wanted(schema),
            default: default.map(Value::to_string),
            about: plain(about),
            words,
        });
        let items = self.resolve(&schema["items"]);
        if items["properties"].is_object() {
            self.section(&format!("{path}[]"), items, &Value::Null);
        }
    }

    /// Describes the values that `schema` accepts.
    fn wanted(&self, schema: &'a Value) -> String {
        let found = self.resolve(schema);
        if let Some(title) = found["title"].as_str() {
            return title.to_owned();
        }
        if let Some(words) = found["oneOf"].as_array() {
            let words: Vec<String> = words.iter().map(|one| one["const"].to_string()).collect();
            return words.join(", ");
        }
        let of = |kind: &str| match kind {
            "integer" if found["minimum"] == 0 => "an integer, 0 or more".to_owned(),
            "integer" => "an integer".to_owned(),
            "number" => "a number".to_owned(),
            "boolean" => "true or false".to_owned(),
            "string" => "a string".to_owned(),
            "array" => match (found["maxItems"].as_u64(), self.wanted(&found["items"])) {
                (Some(n), _) => format!("a list of {n} numbers"),
                (None, items) => format!("a list, each entry {items}"),
            },
            "object" => {
                let keys = found["properties"].as_object().map(Map::keys);
                format!("a table of {}", keys.into_iter().flatten().cloned().collect::<Vec<_>>().join(", "))
            }
            other => other.to_owned(),
        };
        match &found["type"] {
            Value::String(kind) => of(kind),
            Value::Array(kinds) => {
                kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").map_or(String::new(), of)
            }
            _ => String::new(),
        }
    }
}

/// A doc comment as running text: on one line, with links to code reduced to the code.
fn plain(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = line.as_str();
    let mut plain = String::new();
    while let Some((before, after)) = rest.split_once("[`") {
        let Some((code, end)) = after.split_once("`]") else { break };
        plain += before;
        plain += &format!("`{}`", code.rsplit("::").next().unwrap_or(code));
        rest = end;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_described_with_its_type() {
        let keys = keys();
        for key in &keys {
            assert!(key.about.len() > 3 && !key.wanted.is_empty(), "{key:?}");
            assert!(!key.about.contains("[`") && !key.about.contains('\n'), "{key:?}");
        }
        let key = |path: &str| keys.iter().find(|key| key.path == path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!(key("train.steps").default.as_deref(), Some("1000"));
        assert_eq!(key("optimizer.betas").wanted, "a list of 2 numbers");
        assert_eq!(key("model.n_head").about, "Number of query heads.");
        assert_eq!(key("data.tokenizer.kind").words[1].0, "char");
        assert_eq!(key("model.layers[].window").wanted, "an integer, 0 or more");
        assert_eq!(key("data.train").wanted, "a path, or a list of paths, globs and folders");
        assert_eq!(key("model.rope_scaling.factor").default, None);
        assert_eq!(section_of("model.layers[].window"), "model");
    }

    /// The keys of a config are exactly those that the reference lists.
    #[test]
    fn the_reference_lists_exactly_the_keys_of_a_config() {
        let keys = keys();
        let written = toml::Table::try_from(RunConfig::default()).unwrap();
        for (section, values) in &written {
            for (name, value) in values.as_table().unwrap().iter().filter(|(_, value)| !value.is_table()) {
                let path = format!("{section}.{name}");
                let key = keys.iter().find(|key| key.path == path).unwrap_or_else(|| panic!("{path}"));
                let default: toml::Table = format!("x = {}", key.default.as_ref().unwrap()).parse().unwrap();
                assert_eq!(default["x"], *value, "{path}");
            }
        }
    }
}
