//! The names of an adapter's tensors in all versions of PEFT.

/// The prefix of every name.
pub(super) const PREFIX: &str = "base_model.model.";

/// The role of an adapter's tensor in its module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A, `[r, i]`.
    A,
    /// B, `[o, r]`.
    B,
    /// The magnitude, `[o]`.
    Magnitude,
    /// A parameter of the module itself, by the last part of its name: `weight` or `bias`.
    Whole(String),
    /// A tensor that stays unchanged and is not read.
    Unused,
    /// Anything else.
    Unknown,
}

/// The path of the module that a tensor belongs to, and its role there.
pub(super) fn split(name: &str) -> (String, Part) {
    // Raw state dictionaries contain the adapter's name, which files omit.
    let plain = name.strip_prefix(PREFIX).unwrap_or(name).replace(".default", "");
    let endings = [
        (".lora_A.weight", Part::A),
        (".lora_B.weight", Part::B),
        (".lora_embedding_A", Part::A),
        (".lora_embedding_B", Part::B),
        (".lora_magnitude_vector.weight", Part::Magnitude),
        (".lora_magnitude_vector", Part::Magnitude),
    ];
    for (ending, part) in endings {
        if let Some(path) = plain.strip_suffix(ending) {
            return (path.to_owned(), part);
        }
    }
    let Some((path, last)) = plain.rsplit_once('.') else { return (plain, Part::Unknown) };
    if plain.contains(".original_module.") {
        return (path.to_owned(), Part::Unused);
    }
    let own = [".base_layer", ".modules_to_save"];
    let path = own.iter().find_map(|within| path.strip_suffix(within)).unwrap_or(path);
    match last {
        "weight" | "bias" if !path.contains(".lora_") => (path.to_owned(), Part::Whole(last.to_owned())),
        _ => (plain, Part::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_names_of_all_peft_versions_are_parsed() {
        let whole = |last: &str| Part::Whole(last.to_owned());
        for (name, path, part) in [
            (
                "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
                "model.layers.0.self_attn.q_proj",
                Part::A,
            ),
            ("base_model.model.a.q.lora_B.default.weight", "a.q", Part::B),
            ("base_model.model.model.embed_tokens.lora_embedding_A", "model.embed_tokens", Part::A),
            ("base_model.model.a.q.lora_magnitude_vector", "a.q", Part::Magnitude),
            ("base_model.model.a.q.lora_magnitude_vector.weight", "a.q", Part::Magnitude),
            ("base_model.model.a.q.base_layer.bias", "a.q", whole("bias")),
            ("base_model.model.a.q.bias", "a.q", whole("bias")),
            ("base_model.model.classifier.modules_to_save.default.weight", "classifier", whole("weight")),
            (
                "base_model.model.classifier.original_module.weight",
                "classifier.original_module",
                Part::Unused,
            ),
        ] {
            assert_eq!(split(name), (path.to_owned(), part), "{name}");
        }
        assert_eq!(split("base_model.model.a.q.lora_B.bias").1, Part::Unknown);
        assert_eq!(split("base_model.model.a.token_adapter.trainable_tokens_delta").1, Part::Unknown);
    }
}
