//! Tokenizers without `tokenizer.json`: `vocab.txt` (WordPiece), `vocab.json` with `merges.txt` (BPE).
//!
//! They are assembled as transformers does.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::splitters::QWEN_2;

/// The kinds of older tokenizers, by their class in transformers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Bert,
    Mpnet,
    Gpt2,
    Roberta,
    Qwen2,
}

impl Kind {
    /// The kind named by `tokenizer_config.json`, else the usual one of the model, else that of the files.
    fn of(tokenizer_class: Option<&str>, model_type: Option<&str>, has_words: bool) -> Option<Self> {
        Some(match tokenizer_class.map(|class| class.trim_end_matches("Fast")) {
            Some("BertTokenizer" | "DistilBertTokenizer" | "ElectraTokenizer") => Self::Bert,
            Some("MPNetTokenizer") => Self::Mpnet,
            Some("GPT2Tokenizer" | "CodeGenTokenizer" | "GPTNeoXTokenizer") => Self::Gpt2,
            Some("RobertaTokenizer") => Self::Roberta,
            Some("Qwen2Tokenizer") => Self::Qwen2,
            Some("PreTrainedTokenizer" | "TokenizersBackend") | None => match model_type {
                Some("mpnet") => Self::Mpnet,
                Some("roberta") => Self::Roberta,
                Some("qwen2" | "qwen3") => Self::Qwen2,
                _ if has_words => Self::Bert,
                _ => Self::Gpt2,
            },
            Some(_) => return None,
        })
    }

    /// The default special tokens.
    fn tokens(self) -> Value {
        match self {
            Self::Bert => json!({
                "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
                "mask_token": "[MASK]",
            }),
            Self::Mpnet => json!({
                "bos_token": "<s>", "eos_token": "</s>", "unk_token": "[UNK]", "sep_token": "</s>", "pad_token": "<pad>",
                "cls_token": "<s>", "mask_token": {"content": "<mask>", "lstrip": true},
            }),
            Self::Gpt2 => json!({
                "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
            }),
            Self::Roberta => json!({
                "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>",
                "cls_token": "<s>", "mask_token": "<mask>",
            }),
            Self::Qwen2 => json!({
                "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
            }),
        }
    }

    fn reads_words(self) -> bool {
        matches!(self, Self::Bert | Self::Mpnet)
    }
}

/// Whether a folder holds a tokenizer of an older kind.
pub(super) fn is_in(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has("vocab.txt") || has("vocab.json") && has("merges.txt")
}

/// Converts the older files of a folder to a `tokenizer.json`, and adds transformers' default special tokens to
/// `config`, its `tokenizer_config.json`.
///
/// # Errors
/// Returns an error if a file can't be read, or the named class is none of those above.
pub(super) fn read(folder: &Path, config: &mut Value, model_type: Option<&str>) -> Result<Vec<u8>> {
    let has_words = folder.join("vocab.txt").is_file();
    let vocabulary = folder.join(if has_words { "vocab.txt" } else { "vocab.json" });
    let class = config["tokenizer_class"].as_str().map(str::to_owned);
    let kind =
        Kind::of(class.as_deref(), model_type, has_words).filter(|kind| kind.reads_words() == has_words);
    let Some(kind) = kind else {
        let problem = format!(
            "tokenizer_class = {:?} is not read from it; BertTokenizer and MPNetTokenizer are read from vocab.txt, \
             GPT2Tokenizer, RobertaTokenizer and Qwen2Tokenizer from vocab.json and merges.txt",
            class.unwrap_or_default()
        );
        return Err(Error::tokenizer(vocabulary.display(), problem));
    };
    if !config.is_object() {
        *config = json!({});
    }
    for (key, token) in kind.tokens().as_object().into_iter().flatten() {
        if config[key].is_null() {
            config[key] = token.clone();
        }
    }
    let name =
        |key: &str| config[key].as_str().or(config[key]["content"].as_str()).unwrap_or_default().to_owned();
    let text = |path: &Path| std::fs::read_to_string(path).map_err(|source| Error::read(path, source));
    let words: Map<String, Value> = match has_words {
        true => {
            text(&vocabulary)?.lines().enumerate().map(|(id, word)| (word.to_owned(), id.into())).collect()
        }
        false => serde_json::from_str(&text(&vocabulary)?)
            .map_err(|error| Error::tokenizer(vocabulary.display(), error))?,
    };
    let flag = |key: &str, silent: bool| config[key].as_bool().unwrap_or(silent);
    let framed = |key: &str| -> Result<Value> {
        let token = name(key);
        match words.get(&token) {
            Some(id) => Ok(json!([token, id])),
            None => {
                let problem = format!("has no {token:?}, which frames a text as {key}");
                Err(Error::tokenizer(vocabulary.display(), problem))
            }
        }
    };
    let roberta = || -> Result<Value> {
        let (sep, cls) = (framed("sep_token")?, framed("cls_token")?);
        let space = kind == Kind::Roberta && flag("add_prefix_space", false);
        Ok(json!({
            "type": "RobertaProcessing", "sep": sep, "cls": cls, "trim_offsets": flag("trim_offsets", true),
            "add_prefix_space": space,
        }))
    };
    let frame = match kind {
        Kind::Bert => {
            let (cls, sep) = (framed("cls_token")?, framed("sep_token")?);
            let special =
                |token: &Value, type_id: u8| json!({"SpecialToken": {"id": token[0], "type_id": type_id}});
            let text = |name: &str, type_id: u8| json!({"Sequence": {"id": name, "type_id": type_id}});
            let known = |token: &Value| json!({"id": token[0], "ids": [token[1]], "tokens": [token[0]]});
            let mut tokens = Map::new();
            for token in [&cls, &sep] {
                tokens.insert(token[0].as_str().unwrap_or_default().to_owned(), known(token));
            }
            let single = [special(&cls, 0), text("A", 0), special(&sep, 0)];
            let pair = [&single[..], &[text("B", 1), special(&sep, 1)]].concat();
            json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
        }
        Kind::Mpnet | Kind::Roberta => roberta()?,
        Kind::Gpt2 | Kind::Qwen2 => Value::Null,
    };
    let bytes = |use_regex: bool| {
        let space = flag("add_prefix_space", false);
        json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": use_regex})
    };
    let (normalizer, splitter) = match kind {
        Kind::Bert | Kind::Mpnet => (
            json!({
                "type": "BertNormalizer", "clean_text": true, "strip_accents": config["strip_accents"].as_bool(),
                "handle_chinese_chars": flag("tokenize_chinese_chars", true),
                "lowercase": flag("do_lower_case", true),
            }),
            json!({"type": "BertPreTokenizer"}),
        ),
        Kind::Gpt2 | Kind::Roberta => (Value::Null, bytes(true)),
        Kind::Qwen2 => {
            let pattern = json!({"Regex": QWEN_2});
            let split = json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false});
            (json!({"type": "NFC"}), json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]}))
        }
    };
    let (model, decoder) = if has_words {
        let model = json!({
            "type": "WordPiece", "unk_token": name("unk_token"), "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": words,
        });
        (model, json!({"type": "WordPiece", "prefix": "##", "cleanup": true}))
    } else {
        let path = folder.join("merges.txt");
        let merges: Vec<Value> = text(&path)?
            .lines()
            .filter(|line| !line.starts_with("#version"))
            .filter_map(|line| line.split_once(' ').map(|(left, right)| json!([left, right])))
            .collect();
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": words, "merges": merges,
        });
        let decoder =
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        (model, decoder)
    };
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": normalizer,
        "pre_tokenizer": splitter, "post_processor": frame, "decoder": decoder, "model": model,
    });
    Ok(whole.to_string().into_bytes())
}
