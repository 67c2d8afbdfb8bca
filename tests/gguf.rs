//! `sample` and `explain` on GGUF files print the same as on the folder.

use crate::support::{FOX_BPE, Place, Said};

const LABELS: &str = r#"
[model]
n_layer = 1
n_head = 2
d_model = 32
d_ff = 64
context_len = 16
[objective]
kind = "classify"
[data]
train = "rows.csv"
validation = "rows.csv"
[data.tokenizer]
kind = "wordpiece"
vocab_size = 80
[optimizer]
lr = 1e-2
[train]
steps = 60
batch_rows = 4
"#;

fn sample(place: &Place, args: &[&str]) -> Said {
    place.run(env!("CARGO_BIN_EXE_sample"), args)
}

/// A trained model in `runs/NAME`, its rows in complete blocks, with these keys in addition to those of [`FOX_BPE`].
fn trained(place: &Place, name: &str, keys: &[&str]) -> String {
    place.trained(FOX_BPE, name, &[&["model.d_ff=64"], keys].concat())
}

fn export(place: &Place, model: &str, dtype: &str, out: &str) {
    let args = [model, "--to", "gguf", "--dtype", dtype, "--out", out];
    place.run(env!("CARGO_BIN_EXE_export"), &args).succeeds();
}

/// Sampled text with its trace, most likely next tokens, greedy text.
const ASKED: &[&[&str]] = &[
    &["The quick brown", "-n", "12", "--seed", "7", "--json"],
    &["--prompt", "The quick", "--prompt", " The lazy dog", "-n", "8", "--seed", "3", "--num-samples", "2"],
    &["The quick brown fox", "--next", "5", "--json"],
    &["jumps över", "-n", "40", "--temp", "0"],
    &["--ids", "5,9,20", "-n", "6", "--temp", "0", "--lookup"],
];

#[test]
fn a_gguf_file_prints_the_same_as_its_folder() {
    let place = Place::new();
    for (name, keys) in [
        ("gpt2", &["model.family=gpt2"][..]),
        ("llama", &["model.family=llama"]),
        ("qwen3", &["model.family=qwen3"]),
        ("gemma3", &["model.family=gemma3"]),
        ("letters", &["model.family=llama", "data.tokenizer={kind=\"char\"}"]),
    ] {
        let folder = trained(&place, name, keys);
        for dtype in ["f32", "q8_0", "q4_0"] {
            let file = format!("{name}-{dtype}.gguf");
            export(&place, &folder, dtype, &file);
            for asked in ASKED {
                let own = [&[folder.as_str(), "--dtype", dtype], *asked].concat();
                let own = sample(&place, &own);
                // Without --dtype, the file's own type is used.
                let theirs = sample(&place, &[&[file.as_str()], *asked].concat());
                assert_eq!((theirs.code, &theirs.stdout), (own.code, &own.stdout), "{file}: {asked:?}");
                own.succeeds();
            }
        }
        let half = format!("{name}-bf16.gguf");
        export(&place, &folder, "bf16", &half);
        let own = sample(&place, &[&[folder.as_str(), "--dtype", "bf16"], ASKED[0]].concat());
        assert_eq!(sample(&place, &[&[half.as_str()], ASKED[0]].concat()).succeeds().stdout, own.stdout);
        // --dtype overrides the file's type.
        let asked = [&["--dtype", "q8_0"], ASKED[0]].concat();
        let own = sample(&place, &[&[folder.as_str()], &asked[..]].concat());
        let file = format!("{name}-f32.gguf");
        assert_eq!(sample(&place, &[&[file.as_str()], &asked[..]].concat()).succeeds().stdout, own.stdout);
    }

    let page = |model: &str| {
        let args = ["--model", model, "--text", "The quick brown fox", "--json"];
        place.run(env!("CARGO_BIN_EXE_explain"), &args).succeeds().stdout.clone()
    };
    assert_eq!(page("llama-f32.gguf"), page("runs/llama"));
}

#[test]
fn chats_use_the_template_in_the_file() {
    let place = Place::new();
    let folder = trained(&place, "small", &["model.family=llama", "train.steps=2"]);
    let template = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}\
                    {% if add_generation_prompt %}<assistant>{% endif %}";
    place.write("runs/small/model/chat_template.jinja", template);
    export(&place, &folder, "f32", "a.gguf");
    place.write("chat.json", r#"[{"role": "user", "content": "The quick"}]"#);
    for more in [&[][..], &["--chat-template", "plain"]] {
        let asked =
            [&["--chat-file", "chat.json", "-n", "6", "--temp", "0", "--seed", "5", "--json"], more].concat();
        let own = sample(&place, &[&[folder.as_str()], &asked[..]].concat());
        let theirs = sample(&place, &[&["a.gguf"], &asked[..]].concat());
        assert_eq!(theirs.succeeds().stdout, own.succeeds().stdout);
    }
}

#[test]
fn a_classifier_in_a_file_prints_its_labels() {
    let place = Place::new();
    let rows: String = (0..8)
        .map(|n| if n % 2 == 0 { "a fine quick fox,good\n" } else { "a lazy dull dog,bad\n" })
        .collect();
    place.write("rows.csv", format!("text,label\n{rows}"));
    let folder = place.trained(LABELS, "labels", &["model.family=bert"]);
    export(&place, &folder, "f32", "labels.gguf");
    for text in ["a fine fox", "the dull dog", "unknown words"] {
        let own = sample(&place, &[&folder, text, "--json"]);
        assert_eq!(sample(&place, &["labels.gguf", text, "--json"]).succeeds().stdout, own.succeeds().stdout);
    }
    export(&place, &folder, "q8_0", "small.gguf");
    let said = sample(&place, &["small.gguf", "a fine fox"]);
    assert!(said.succeeds().stdout.contains("good"), "{}", said.stdout);
}

#[test]
fn unsupported_uses_of_a_file_are_reported() {
    let place = Place::new();
    let folder = trained(&place, "small", &["model.family=llama", "train.steps=2"]);
    export(&place, &folder, "f32", "a.gguf");
    let set = ["--config", "run.toml", "--set", "train.init_from=a.gguf", "--out", "runs/more"];
    place.train(&set).fails(
        2,
        &["a.gguf", "is a GGUF file, which only sample and explain read", "a model folder is needed"],
    );
    sample(&place, &["a.gguf", "--adapter", &folder, "The"])
        .fails(2, &["--adapter needs a model folder", "a.gguf is a GGUF file"]);
    let export_it = ["a.gguf", "--to", "hf", "--out", "b"];
    place.run(env!("CARGO_BIN_EXE_export"), &export_it).fails(2, &["is a GGUF file"]);
    sample(&place, &["nowhere.gguf", "The"]).fails(2, &["nowhere.gguf"]);
    let bytes = std::fs::read(place.path("a.gguf")).expect("a file");
    place.write("cut.gguf", &bytes[..bytes.len() / 2]);
    sample(&place, &["cut.gguf", "The"]).fails(1, &["cut.gguf: is truncated"]);
    place.write("text.gguf", "some text");
    sample(&place, &["text.gguf", "The"]).fails(1, &["text.gguf: is not a GGUF file"]);
    // Recognized by its first bytes, not its name.
    place.write("model.bin", &bytes);
    sample(&place, &["model.bin", "The", "--next", "3"]).succeeds();

    let without = [&folder, "--to", "gguf", "--no-tokenizer", "--out", "ids.gguf"];
    place.run(env!("CARGO_BIN_EXE_export"), &without).succeeds();
    sample(&place, &["ids.gguf", "The"]).fails(2, &["ids.gguf has no tokenizer: pass ids (--ids)"]);
    let own = sample(&place, &[&folder, "--ids", "4,9", "--next", "3", "--json"]);
    let theirs = sample(&place, &["ids.gguf", "--ids", "4,9", "--next", "3", "--json"]);
    let ids = |said: &Said| -> Vec<serde_json::Value> {
        let tokens = said.succeeds().json()["next"].as_array().expect("a list").clone();
        tokens.iter().map(|token| token["id"].clone()).collect()
    };
    assert_eq!(ids(&theirs), ids(&own));
}
