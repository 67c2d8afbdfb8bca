//! The forward pass of a page in a real browser: every family, switch and tokenizer against the model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use serde_json::{Value, json};
use support::browser::{browser, in_browser};
use support::live::{agrees, close, data_of, explained};
use support::{Folder, TEXT};
use vulpes_data::{Tokenizer, TokenizerConfig, TokenizerKind};
use vulpes_model::config::Family;
use vulpes_model::{Head, ModelSection, Transformer, folder};

/// The same model with some parameters changed, saved next to it.
fn changed(from: &Path, to: &Path, change: impl Fn(&str, &Tensor) -> Option<Tensor>) {
    let model = folder::load(from).unwrap().transformer;
    for (name, var) in model.parameters().iter() {
        if let Some(other) = change(name, var.as_tensor()) {
            var.set(&other).unwrap();
        }
    }
    folder::save(to, &model, &folder::Extra::default()).unwrap();
    if from.join("tokenizer.json").is_file() {
        std::fs::copy(from.join("tokenizer.json"), to.join("tokenizer.json")).unwrap();
    }
}

/// A matrix with the columns that read one head set to zero.
fn without_head(weight: &Tensor, head: usize, d_head: usize) -> Tensor {
    let keep = |i: usize| if (head * d_head..(head + 1) * d_head).contains(&i) { 0.0 } else { 1.0 };
    let keep: Vec<f32> = (0..weight.dim(1).unwrap()).map(keep).collect();
    weight.broadcast_mul(&Tensor::new(keep, weight.device()).unwrap()).unwrap()
}

const IDS: [&str; 2] = ["--ids", "5,9,12,7,30,21,6,17"];

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"))
}

mod needs_chromium {
    use super::*;

    /// Every family with all its switches; one browser reads all pages.
    #[test]
    #[ignore = "needs Chromium"]
    fn forward_pass_of_every_family_matches_the_model() {
        let place = tempfile::tempdir().unwrap();
        let inside =
            |parent: &str| std::fs::read_dir(fixtures().join(parent)).unwrap().map(|e| e.unwrap().path());
        let more = ["bert-cls", "bert-mlm", "gpt2-one", "gpt2-relu2", "llama-plain", "llama-stretched"];
        let mut folders: Vec<PathBuf> = inside("families").collect();
        folders.extend(more.map(|name| fixtures().join(name)));
        folders.retain(|folder| folder.join("config.json").is_file());
        folders.sort();
        assert!(folders.len() > 20, "{folders:?}");
        let (mut pages, mut wanted, mut without) = (Vec::new(), Vec::new(), Vec::new());
        for (i, folder) in folders.iter().enumerate() {
            let file = place.path().join(format!("{i}.html"));
            let file = file.to_str().unwrap();
            // The last layer's last head: its queries and keys have the most sources.
            let config = folder::load(folder).unwrap().config;
            let [layer, head] = [config.n_layer, config.n_head].map(|n| (n - 1).to_string());
            let cell = ["--html", file, "--layer", &layer, "--head", &head, "--cell", "6,2"];
            wanted.push(explained(folder, &[&IDS[..], &cell].concat()));
            // The same model with that head's output zeroed.
            let off = place.path().join(format!("{i}-off"));
            changed(folder, &off, |name, w| {
                let is_it = name == format!("blocks.{layer}.attention.output.weight");
                is_it.then(|| without_head(w, config.n_head - 1, w.dim(1).unwrap() / config.n_head))
            });
            without.push(explained(&off, &IDS)["logits"].clone());
            pages.push(data_of(Path::new(file)));
        }
        let script = format!(
            "return {}.map(p=>{{const plan=planted(p.live.plan,unpacked(p.live)),words=tokenizerOf(p.live.words);\
             const d=explainedBy(p,{{plan,words,labels:p.live.labels}},p.ids,freshState(''));\
             const x=p.way.layers.map((part,l)=>d.way.layers[l].opened.rows('x').map(row=>row.slice(0,8)));\
             return {{ids:d.ids,tokens:d.texts,logits:d.logits,next:d.answers(50),attentions:d.weights,position:d.position,x,\
             cell:d.originsOf(p.n_layer-1,p.n_head-1,6,2),\
             off:explainedBy(p,{{plan,words,labels:p.live.labels}},p.ids,{{...freshState(''),heads:new Set([`${{p.n_layer-1}}.${{p.n_head-1}}`])}}).logits}}}});",
            serde_json::to_string(&pages).unwrap().replace('<', "\\u003c")
        );
        let fox = Folder::fox("families");
        let page = fox.0.join("page.html");
        fox.json(&["--text", TEXT, "--html", page.to_str().unwrap()]);
        let said = in_browser(browser(), &page, &script);
        for (at, (said, wanted)) in said.as_array().unwrap().iter().zip(&wanted).enumerate() {
            let of = folders[at].display().to_string();
            close(&said["off"], &without[at], 1e-5, &format!("{of}, a head off"));
            agrees(said, wanted, &of);
            assert_eq!(said["position"], wanted["position"], "{of}");
            // The sources of the score, for any typed text.
            let (ours, exact) = (&said["cell"], &wanted["cell"]);
            assert_eq!(ours["sources"], exact["sources"], "{of}");
            close(&ours["parts"], &exact["parts"], 1e-5, &of);
            let number = |value: &Value| value.as_f64().unwrap_or(0.0);
            close(&json!(number(&ours["bias"])), &json!(number(&exact["bias"])), 1e-5, &of);
            for (ours, exact) in
                said["x"].as_array().unwrap().iter().zip(wanted["inputs"].as_array().unwrap())
            {
                let few = |rows: &Value| -> Value {
                    rows.as_array().unwrap().iter().map(|row| json!(row.as_array().unwrap()[..8])).collect()
                };
                close(ours, &few(exact), 1e-5, &of);
            }
        }
    }

    #[test]
    #[ignore = "needs Chromium"]
    fn switched_off_parts_act_as_zero_weights() {
        for (family, head, text) in [
            (Family::Gpt2, Head::NextToken, TEXT),
            (Family::Llama, Head::NextToken, TEXT),
            (Family::Bert, Head::MaskedToken, "The quick [MASK] fox"),
        ] {
            let whole = Folder::heads(&format!("off-{family:?}"), family, head);
            let page = whole.0.join("page.html");
            whole.json(&["--text", text, "--html", page.to_str().unwrap()]);
            let script = "const off=labels=>{document.getElementById('reset')?.click();\
                labels.forEach(label=>document.getElementById('switch-'+label).click());return vulpes.predict()};\
                return [off(['layer-0-head-1','layer-1-head-3']),off(['layer-1-feed-forward']),off(['layer-0-whole'])];";
            let said = in_browser(browser(), &page, script);
            let other = whole.0.join("other");
            let zero = |name: &str, parts: &[&str], w: &Tensor| {
                parts.iter().any(|part| name.starts_with(part)).then(|| w.zeros_like().unwrap())
            };
            let reference = |change: &dyn Fn(&str, &Tensor) -> Option<Tensor>| {
                changed(&whole.0, &other, change);
                explained(&other, &["--text", text])
            };
            let heads = reference(&|name, w| match name {
                "blocks.0.attention.output.weight" => Some(without_head(w, 1, 4)),
                "blocks.1.attention.output.weight" => Some(without_head(w, 3, 4)),
                _ => None,
            });
            agrees(&said[0], &heads, "heads");
            let inner = reference(&|name, w| zero(name, &["blocks.1.feed_forward.down"], w));
            agrees(&said[1], &inner, "feed-forward");
            // In a post-norm model a layer without its branches still has its norms.
            if family != Family::Bert {
                let parts = ["blocks.0.attention.output", "blocks.0.feed_forward.down"];
                let layer = reference(&|name, w| zero(name, &parts, w));
                close(&said[2]["logits"], &layer["logits"], 1e-5, "layer");
            }
        }
    }

    #[test]
    #[ignore = "needs Chromium"]
    fn tokenizers_match_the_models() {
        let tricky: Vec<String> =
            serde_json::from_slice(&std::fs::read(fixtures().join("tokenizers/tricky.json")).unwrap())
                .unwrap();
        let corpus: String = tricky.iter().flat_map(|text| [text.as_str(), " "]).collect();
        let trained = |kind, lowercase| {
            let config = TokenizerConfig {
                kind,
                lowercase,
                min_frequency: Some(1),
                vocab_size: Some(900),
                ..Default::default()
            };
            Tokenizer::train(
                &config,
                [corpus.as_str(), "The quick brown fox jumps over the lazy dog, isn't it?"],
            )
            .unwrap()
        };
        let file = |name: &str| Tokenizer::from_folder(fixtures().join("tokenizers").join(name)).unwrap();
        let tokenizers = [
            trained(TokenizerKind::Word, None),
            trained(TokenizerKind::Char, None),
            trained(TokenizerKind::Bpe, None),
            trained(TokenizerKind::Wordpiece, Some(true)),
            trained(TokenizerKind::Wordpiece, None),
            file("word"),
            file("bpe"),
            file("wordpiece"),
        ];
        let folder = Folder::fox("tokenizers");
        let page = folder.0.join("page.html");
        let mut pages = Vec::new();
        for tokenizer in &tokenizers {
            let section = ModelSection { family: Some(Family::Fox), d_model: Some(4), ..Default::default() };
            let config = section.resolve(tokenizer.vocab_size(), Head::NextToken);
            let model =
                Transformer::init(&config, 3, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
            folder::save(&folder.0, &model, &folder::Extra::default()).unwrap();
            tokenizer.save(folder.0.join("tokenizer.json")).unwrap();
            folder.json(&["--ids", "4", "--html", page.to_str().unwrap()]);
            pages.push(data_of(&page)["live"]["words"].clone());
        }
        let script = format!(
            "const all={};return {}.map(words=>{{const t=tokenizerOf(words);return all.map(text=>{{const ids=t.encode(text);\
             return {{ids,whole:t.decode(ids),plain:t.decode(ids,true),texts:ids.map(t.text)}}}})}});",
            serde_json::to_string(&tricky).unwrap().replace('<', "\\u003c"),
            serde_json::to_string(&pages).unwrap().replace('<', "\\u003c")
        );
        let said = in_browser(browser(), &page, &script);
        for (tokenizer, said) in tokenizers.iter().zip(said.as_array().unwrap()) {
            for (text, said) in tricky.iter().zip(said.as_array().unwrap()) {
                let ids = tokenizer.encode(text).unwrap();
                let texts: Vec<String> =
                    ids.iter().map(|&id| vulpes_generate::token_text(tokenizer, id)).collect();
                let exact = json!({"ids": ids, "whole": tokenizer.decode(&ids, false).unwrap(),
                    "plain": tokenizer.decode(&ids, true).unwrap(), "texts": texts});
                assert_eq!(said, &exact, "{text:?}");
            }
        }
    }

    /// More than 1 MB of float32 is stored as 8 bits with a scale per row, and the page says so.
    #[test]
    #[ignore = "needs Chromium"]
    fn larger_models_are_rounded_to_eight_bits_as_the_page_says() {
        let section = ModelSection {
            family: Some(Family::Llama),
            n_layer: Some(2),
            n_head: Some(4),
            d_model: Some(128),
            ..Default::default()
        };
        let folder = Folder::new("eight-bits", section, Head::NextToken);
        let page = folder.0.join("page.html");
        folder.json(&["--text", TEXT, "--html", page.to_str().unwrap()]);
        let other = folder.0.join("other");
        changed(&folder.0, &other, |_, w| {
            (w.rank() == 2).then(|| {
                let scale = (w.abs().unwrap().max_keepdim(1).unwrap() / 127.0).unwrap();
                w.broadcast_div(&scale).unwrap().round().unwrap().broadcast_mul(&scale).unwrap()
            })
        });
        let script = "return {said:vulpes.predict(),note:document.getElementById('live-exact').textContent};";
        let r = in_browser(browser(), &page, script);
        assert!(r["note"].as_str().unwrap().contains("8 bits"), "{r}");
        agrees(&r["said"], &explained(&other, &["--text", TEXT]), "rounded");
        assert!(std::fs::metadata(&page).unwrap().len() < 3_000_000);
    }
}
