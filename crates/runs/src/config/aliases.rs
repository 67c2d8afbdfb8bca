//! Aliases of config keys, as other frameworks name them. They are read, never written.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place};

/// Section, alias, the key's canonical name.
pub(super) const ALIASES: [(&str, &str, &str); 13] = [
    ("model", "block_size", "context_len"),
    ("model", "hidden_size", "d_model"),
    ("model", "n_embd", "d_model"),
    ("model", "num_attention_heads", "n_head"),
    ("model", "num_hidden_layers", "n_layer"),
    ("optimizer", "grad_clip", "clip"),
    ("optimizer", "learning_rate", "lr"),
    ("optimizer", "max_grad_norm", "clip"),
    ("train", "batch_size", "batch_rows"),
    ("train", "grad_accum_steps", "accumulate"),
    ("train", "gradient_accumulation_steps", "accumulate"),
    ("train", "max_seq_len", "max_len"),
    ("train", "max_steps", "steps"),
];

/// The canonical name of a key at a dotted `path`.
pub fn own_name(path: &str) -> String {
    let found = ALIASES.iter().find(|(section, other, _)| path == format!("{section}.{other}"));
    found.map_or_else(|| path.to_owned(), |(section, _, own)| format!("{section}.{own}"))
}

/// The aliases of the keys of a section.
pub(super) fn of_section(section: &str) -> impl Iterator<Item = &'static str> {
    ALIASES.iter().filter(move |(of, ..)| *of == section).map(|(_, other, _)| *other)
}

/// Replaces aliases in one text by canonical names; a key given under two names is a fault.
pub(super) fn rename(tree: &mut DeTable<'_>, faults: &mut Vec<Fault>) {
    for (section, other, own) in ALIASES {
        let Some(DeValue::Table(table)) = tree.get_mut(section).map(Spanned::get_mut) else { continue };
        let Some((key, value)) = table.remove_entry(other) else { continue };
        if table.contains_key(own) {
            let title = format!("`{section}.{other}` is an alias of `{section}.{own}`, which is also set");
            faults.push(
                Fault::new(title)
                    .at(Some(Place::span(key.span(), "duplicate key")))
                    .help("leave out one of the two"),
            );
            continue;
        }
        table.insert(Spanned::new(key.span(), own.into()), value);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{RunConfig, keys};

    use super::*;

    fn parse(text: &str, set: &[&str]) -> Result<RunConfig, String> {
        let set: Vec<String> = set.iter().map(|item| (*item).to_owned()).collect();
        let text = format!("[data]\ntrain = 'a.txt'\n{text}");
        RunConfig::parse("a.toml", &text, &set).map_err(|faults| faults.to_string())
    }

    #[test]
    fn aliases_are_read_and_canonical_names_written() {
        let text = "[train]\ngrad_accum_steps = 3\n[optimizer]\ngrad_clip = 0.5\n";
        let config = parse(text, &["train.batch_size=2"]).unwrap();
        assert_eq!((config.train.accumulate, config.train.batch_rows, config.optimizer.clip), (3, 2, 0.5));
        let written = config.to_toml().unwrap();
        assert!(written.contains("accumulate = 3") && !written.contains("grad_"), "{written}");
        // The command line takes precedence under either name.
        assert_eq!(parse(text, &["train.accumulate=5"]).unwrap().train.accumulate, 5);
        assert_eq!(own_name("train.grad_accum_steps"), "train.accumulate");
    }

    #[test]
    fn a_key_under_two_names_is_a_fault() {
        let error = parse("[train]\nsteps = 3\nmax_steps = 4\n", &[]).unwrap_err();
        assert!(
            error.contains("`train.max_steps` is an alias of `train.steps`, which is also set"),
            "{error}"
        );
        let error = parse("[train]\nmax_steps = -4\n", &[]).unwrap_err();
        assert!(error.contains("train.steps"), "{error}");
    }

    #[test]
    fn the_nearest_key_may_be_an_alias() {
        let error = parse("[train]\ngrad_acum_steps = 3\n", &[]).unwrap_err();
        assert!(error.contains("the nearest known key is `grad_accum_steps`"), "{error}");
    }

    #[test]
    fn every_alias_refers_to_an_existing_key() {
        let known: Vec<String> = keys().into_iter().map(|key| key.path).collect();
        for (section, other, own) in ALIASES {
            assert!(known.contains(&format!("{section}.{own}")), "{section}.{own}");
            assert!(!known.contains(&format!("{section}.{other}")), "{section}.{other}");
        }
    }
}
