//! GGUF keys of a tokenizer, the kinds of tokens, and the rest of a `tokenizer.json`.

use serde_json::Value;

/// The kind of tokenizer: `gpt2`, `llama`, `bert`, `t5`, or `none`.
pub const KIND: &str = "tokenizer.ggml.model";
/// The tokens, in llama.cpp's spelling.
pub const TOKENS: &str = "tokenizer.ggml.tokens";
/// The kind of each token ([`TokenKind`]).
pub const TOKEN_KINDS: &str = "tokenizer.ggml.token_type";
/// The merges of a byte-level BPE.
pub const MERGES: &str = "tokenizer.ggml.merges";
/// The character map of the normalizer.
pub const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
/// The chat template.
pub const TEMPLATE: &str = "tokenizer.chat_template";
/// The rest of the `tokenizer.json`, for which llama.cpp has no keys, as JSON.
pub const REST: &str = "vulpes.tokenizer";

/// The replacement of a space in SentencePiece's pieces.
pub const BLANK: &str = "\u{2581}";

/// The key of a special token: `bos`, `eos`, `unknown`, …
pub fn task(name: &str) -> String {
    format!("tokenizer.ggml.{name}_token_id")
}

/// `llama_token_type` of llama.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Normal = 1,
    /// The unknown token.
    Unknown = 2,
    /// A special token.
    Control = 3,
    /// An added token: matched before the text is split.
    UserDefined = 4,
    /// An embedding row without a token.
    Unused = 5,
    /// A single byte.
    Byte = 6,
}

impl TokenKind {
    /// The kind with this number.
    pub(super) fn of(number: i64) -> Option<Self> {
        let all = [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];
        all.into_iter().find(|kind| *kind as i64 == number)
    }
}

/// Returns a `tokenizer.json` without what llama.cpp has keys for: tokens, merges, scores and the character map.
pub fn rest(json: &Value) -> Value {
    let mut rest = json.clone();
    for key in ["vocab", "merges"] {
        if let Some(model) = rest["model"].as_object_mut() {
            model.remove(key);
        }
    }
    for charsmap in charsmaps(&mut rest["normalizer"]) {
        *charsmap = Value::Null;
    }
    rest
}

/// The character maps in a normalizer, at any depth.
pub(super) fn charsmaps(normalizer: &mut Value) -> Vec<&mut Value> {
    let is_table = normalizer["type"] == "Precompiled";
    let Some(object) = normalizer.as_object_mut() else { return Vec::new() };
    if is_table {
        return object.get_mut("precompiled_charsmap").into_iter().collect();
    }
    let steps = object.get_mut("normalizers").and_then(Value::as_array_mut);
    steps.into_iter().flatten().flat_map(charsmaps).collect()
}
