//! The special tokens of a tokenizer, by their names in files.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokenizers::tokenizer::Tokenizer as Inner;

use super::frame::Frames;
use super::seams::Seams;
use crate::corpus::Cut;

/// The ids of the tokens with a role, and of all special tokens in ascending order.
#[derive(Clone, Debug)]
pub(super) struct Special {
    pub(super) unk: Option<u32>,
    pub(super) pad: Option<u32>,
    pub(super) mask: Option<u32>,
    /// Opens a text.
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) all: Vec<u32>,
    pub(super) n_ids: usize,
    /// The tokens that the tokenizer puts around a text, if any.
    pub(super) frames: Option<Frames>,
    /// Where a text may be cut without changing its tokens.
    pub(super) cut: Cut,
    /// Where a piece of text may be cut further.
    pub(super) seams: Option<Seams>,
}

const UNK: [&str; 3] = ["[UNK]", "<unk>", "<|unk|>"];
const PAD: [&str; 4] = ["[PAD]", "<pad>", "<|pad|>", "<|padding|>"];
const MASK: [&str; 3] = ["[MASK]", "<mask>", "<|mask|>"];
const EOS: [&str; 7] = ["[EOS]", "</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<|im_end|>", "[SEP]"];

impl Special {
    pub(super) fn find(inner: &Inner, json: &str) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| inner.token_to_id(name));
        let file: File = serde_json::from_str(json).unwrap_or_default();
        let named = file.model.unk_token.as_deref().and_then(|token| inner.token_to_id(token));
        let mut all: Vec<u32> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| id)
            .collect();
        all.sort_unstable();
        let n_ids = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        Self {
            unk: named.or(file.model.unk_id).or_else(|| first(&UNK)),
            pad: first(&PAD),
            mask: first(&MASK),
            bos: None,
            eos: first(&EOS),
            all,
            n_ids,
            cut: cut(&file),
            seams: seams(&file),
            frames: Frames::of(inner),
        }
    }

    /// Sets the tokens given by a folder's files: by name in `tokenizer_config.json` and `special_tokens_map.json`,
    /// by id in `config.json` and `generation_config.json`; the first file with the token takes precedence.
    pub(super) fn state(&mut self, inner: &Inner, by_name: &[Value], by_id: &[Value]) {
        let named = |key: &str| {
            by_name.iter().find_map(|file| {
                let token = file[key].as_str().or_else(|| file[key]["content"].as_str())?;
                inner.token_to_id(token)
            })
        };
        let stated = |key: &str| {
            let id = |value: &Value| {
                u32::try_from(value.as_i64()?).ok().filter(|&id| inner.id_to_token(id).is_some())
            };
            by_id.iter().find_map(|file| match &file[key] {
                Value::Array(ids) => ids.iter().find_map(id),
                one => id(one),
            })
        };
        self.unk = named("unk_token").or(self.unk);
        self.pad = named("pad_token").or_else(|| stated("pad_token_id")).or(self.pad);
        self.mask = named("mask_token").or(self.mask);
        self.bos = named("bos_token").or_else(|| stated("bos_token_id")).or(self.bos);
        // BERT has no end token; [SEP] is used instead.
        self.eos = named("eos_token").or_else(|| stated("eos_token_id")).or(self.eos);
    }
}

/// The parts of a `tokenizer.json` that the loaded tokenizer doesn't expose; the vocabulary is skipped.
#[derive(Default, Deserialize)]
struct File {
    added_tokens: Vec<Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    model: Model,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Model {
    r#type: Option<String>,
    unk_token: Option<String>,
    /// Unigram models have the id itself.
    unk_id: Option<u32>,
    merges: Option<Vec<IgnoredAny>>,
}

/// Where a text may be cut without changing its tokens, as far as `tokenizer.json` shows.
///
/// The splitters listed here end every word before whitespace, unless a normalizer or an added token crosses it. If
/// in doubt, nothing is cut.
fn cut(file: &File) -> Cut {
    let plain = |token: &Value| {
        let spaced = token["content"].as_str().is_none_or(|content| content.contains(char::is_whitespace));
        !spaced && token["lstrip"] != Value::Bool(true) && token["rstrip"] != Value::Bool(true)
    };
    let normal = match &file.normalizer {
        Value::Null => true,
        normalizer => {
            matches!(normalizer["type"].as_str(), Some("BertNormalizer" | "Lowercase" | "NFC" | "NFD"))
        }
    };
    if !normal || !file.added_tokens.iter().all(plain) {
        return Cut::Never;
    }
    let of_splitter = |splitter: &Value| match splitter["type"].as_str() {
        Some("ByteLevel") if splitter["use_regex"] == Value::Bool(false) => Cut::Never,
        Some("ByteLevel") if splitter["add_prefix_space"] != Value::Bool(false) => Cut::Words,
        Some("ByteLevel" | "Whitespace" | "WhitespaceSplit" | "BertPreTokenizer") => Cut::Blanks,
        _ => Cut::Never,
    };
    let splitter = &file.pre_tokenizer;
    let no_merges = file.model.merges.as_ref().is_some_and(Vec::is_empty);
    match splitter["type"].as_str() {
        Some("Sequence") => of_splitter(&splitter["pretokenizers"][0]),
        // Characters without a splitter: any cut would do, except inside special tokens.
        None if file.model.r#type.as_deref() == Some("BPE") && no_merges => Cut::Blanks,
        _ => of_splitter(splitter),
    }
}

/// Where pieces of a text may be cut further: known for the splitters with simple rules.
fn seams(file: &File) -> Option<Seams> {
    let of_splitter = |splitter: &Value| match splitter["type"].as_str() {
        Some("ByteLevel") => Some(Seams::byte_level()),
        Some("BertPreTokenizer" | "Whitespace") => Some(Seams::words()),
        _ => None,
    };
    let splitter = match file.pre_tokenizer["type"].as_str() {
        Some("Sequence") => &file.pre_tokenizer["pretokenizers"][0],
        _ => &file.pre_tokenizer,
    };
    let added = file.added_tokens.iter().filter_map(|token| token["content"].as_str());
    (cut(file) == Cut::Blanks).then(|| of_splitter(splitter))?.map(|seams| seams.sparing(added))
}
