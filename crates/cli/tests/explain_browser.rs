//! The pages of `explain` in a real browser: clicks, typing and displayed values.
//!
//! Chromium opens the page headless, a script acts in it as a person would, and what it reads is compared with
//! `explain --json` for the same model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::browser::{browser, in_browser};
use support::{Folder, TEXT};
use vulpes_model::Head;
use vulpes_model::config::Family;

/// Checks that a number on the page equals the running model's to 1e-6.
#[track_caller]
fn close(ours: &Value, exact: &Value) {
    match (ours.as_array(), exact.as_array()) {
        (Some(ours), Some(exact)) => {
            assert_eq!(ours.len(), exact.len());
            ours.iter().zip(exact).for_each(|(ours, exact)| close(ours, exact));
        }
        _ => {
            let (ours, exact) = (ours.as_f64().unwrap(), exact.as_f64().unwrap());
            assert!((ours - exact).abs() < 1e-6 * (1.0 + exact.abs()), "{ours} and {exact}");
        }
    }
}

mod needs_chromium {
    use super::*;

    #[test]
    #[ignore = "needs Chromium"]
    fn opened_cell_shows_the_models_arithmetic() {
        let browser = browser();
        for (name, family, head, text) in [
            ("gpt2", Family::Gpt2, Head::NextToken, TEXT),
            ("llama", Family::Llama, Head::NextToken, TEXT),
            ("bert", Family::Bert, Head::MaskedToken, "The quick [MASK] fox"),
        ] {
            let folder = Folder::heads(&format!("page-{name}"), family, head);
            let page = folder.0.join("page.html");
            let value = folder.json(&["--text", text, "--target", "jumps", "--html", page.to_str().unwrap()]);
            // First what the page shows for the queried word, then a cell of a head.
            let script = "const first={next:document.querySelector('#next td').textContent,\
            logits:Array.from($$('#logits td[data-value]'),td=>Number(td.dataset.value)),\
            flow:Array.from($$('#gradient tbody td:first-child'),td=>td.textContent),\
            update:Array.from($$('#update tbody tr'),tr=>[1,2].map(i=>Number(tr.children[i].textContent))),why:document.getElementById('why').textContent};\
            document.getElementById('open-1-2').click();document.getElementById('cell-3-1').click();\
            return {...first,product:v('product'),score:v('score'),weight:v('weight'),context:JSON.parse(document.getElementById('context').dataset.value),\
            title:document.getElementById('cell-title').textContent,pressed:$$('#heads [aria-pressed=true]').length,\
            steps:Array.from($$('.steps h3'),h=>h.textContent),map:document.getElementById('cell-3-1').textContent,\
            lens:$$('#lens tbody tr').length,knock:$$('#knockout tbody tr').length};";
            let r = in_browser(browser, &page, script);
            close(&r["score"], &value["scores"][1][2][3][1]);
            close(&r["weight"], &value["attentions"][1][2][3][1]);
            close(&r["context"], &value["contexts"][1][2][3]);
            let (product, scale) = (r["product"].as_f64().unwrap(), value["scale"].as_f64().unwrap());
            close(&json!(product * scale), &value["scores"][1][2][3][1]);
            let weight = value["attentions"][1][2][3][1].as_f64().unwrap();
            assert_eq!(r["map"], format!("{weight:.2}"), "{name}");
            assert_eq!(r["next"], value["next"][0]["text"], "{name}");
            // One update, as done by the running model.
            let outputs = value["update"]["outputs"].as_array().unwrap();
            assert_eq!(r["update"].as_array().unwrap().len(), outputs.len(), "{name}");
            for (row, pair) in r["update"].as_array().unwrap().iter().zip(outputs) {
                for of in 0..2 {
                    let (shown, exact) =
                        (row[of].as_f64().unwrap(), pair[of]["probability"].as_f64().unwrap());
                    assert!((shown - exact).abs() < 6e-5, "{name}: {shown} and {exact}");
                }
            }
            assert!(r["why"].as_str().unwrap().contains("Its query says"), "{name}");
            // The seed's six steps, in its order and words.
            let steps = [
                "Step 1Get Embeddings",
                "Step 2Compute Attention",
                "Step 3Compute Weighted Sum (Context Vector)",
                "Step 4Output Projection",
                "Step 5Softmax → Prediction",
                "Step 6Backpropagation",
            ];
            assert_eq!(r["steps"], json!(steps), "{name}");
            for (n, logit) in r["logits"].as_array().unwrap().iter().enumerate() {
                close(logit, &value["next"][n]["logit"]);
            }
            assert_eq!(r["logits"].as_array().unwrap().len(), 5, "{name}");
            assert_eq!((&r["lens"], &r["knock"], &r["pressed"]), (&3.into(), &3.into(), &1.into()), "{name}");
            for part in ["Wq", "Wk", "Wv", "Wo", "Wout", "embeddings"] {
                let listed = |flow: &Value| flow.as_str().unwrap().contains(part);
                assert!(r["flow"].as_array().unwrap().iter().any(listed), "{name}: {part}");
            }
            assert!(r["title"].as_str().unwrap().contains("fox"), "{name}");
        }
    }

    #[test]
    #[ignore = "needs Chromium"]
    fn a_score_is_split_over_its_sources_and_heads_have_measurements() {
        let browser = browser();
        for (family, head) in [(Family::Gpt2, Head::NextToken), (Family::Llama, Head::NextToken)] {
            let folder = Folder::heads(&format!("page-origins-{family:?}"), family, head);
            let page = folder.0.join("page.html");
            let typed = ["--text", TEXT, "--layer", "1", "--head", "2", "--cell", "3,1"];
            let value = folder.json(&[&typed[..], &["--html", page.to_str().unwrap()]].concat());
            let script = "document.getElementById('cell-3-1').click();\
            return {score:v('origins-score'),title:document.getElementById('origins-title').textContent,\
            cells:Array.from($$('#parts tbody tr:not(.total)'),tr=>Array.from(tr.querySelectorAll('.part'),td=>td.textContent)),\
            sources:Array.from($$('#parts tbody th'),th=>th.textContent),heads:$$('#habit-table tbody tr').length,\
            taught:document.getElementById('taught-section').hidden};";
            let r = in_browser(browser, &page, script);
            let parts = value["cell"]["parts"].as_array().unwrap();
            close(&r["score"], &value["scores"][1][2][3][1]);
            let sources = value["cell"]["sources"].as_array().unwrap();
            assert_eq!(r["sources"].as_array().unwrap()[..sources.len()], sources[..]);
            for (row, exact) in r["cells"].as_array().unwrap().iter().zip(parts) {
                for (shown, exact) in row.as_array().unwrap().iter().zip(exact.as_array().unwrap()) {
                    let number: f64 = shown.as_str().unwrap().replace('−', "-").parse().unwrap();
                    assert!((number - exact.as_f64().unwrap()).abs() < 6e-5, "{shown} and {exact}");
                }
            }
            assert_eq!((&r["heads"], &r["taught"]), (&json!(8), &json!(true)));
            assert!(r["title"].as_str().unwrap().contains("quick"), "{r}");
        }
    }

    #[test]
    #[ignore = "needs Chromium"]
    fn page_is_usable_by_keyboard() {
        let browser = browser();
        let folder = Folder::heads("page-keys", Family::Gpt2, Head::NextToken);
        let page = folder.0.join("page.html");
        let value = folder.json(&["--text", TEXT, "--html", page.to_str().unwrap()]);
        let script = "const at=()=>document.activeElement.id;\
        document.getElementById('open-0-0').focus();key(document.activeElement,'ArrowDown');key(document.activeElement,'ArrowRight');\
        const head=at();document.getElementById('cell-3-3').focus();key(document.activeElement,'ArrowLeft');key(document.activeElement,'ArrowUp');\
        const cell=at();key(document.activeElement,'ArrowRight');\
        return {head,cell,edge:at(),weight:v('weight'),stops:$$('#heads [tabindex=\"0\"]').length+$$('#map [tabindex=\"0\"]').length,\
        unnamed:Array.from($$('button,[tabindex]')).filter(e=>!e.textContent&&!e.getAttribute('aria-label')).length};";
        let r = in_browser(browser, &page, script);
        assert_eq!((&r["head"], &r["cell"]), (&json!("open-1-1"), &json!("cell-2-2")));
        // To the right of the diagonal is masked: the keys don't move there.
        assert_eq!(r["edge"], "cell-2-2");
        close(&r["weight"], &value["attentions"][1][1][2][2]);
        // Heads and cells have one tab stop each.
        assert_eq!((&r["stops"], &r["unnamed"]), (&json!(2), &json!(0)));
    }

    #[test]
    #[ignore = "needs Chromium"]
    fn packed_maps_equal_the_models_weights() {
        let browser = browser();
        let folder = Folder::heads("page-weights", Family::Bert, Head::MaskedToken);
        let page = folder.0.join("page.html");
        let text = "The quick [MASK] fox jumps over the";
        let value = folder.json(&["--text", text, "--html", page.to_str().unwrap()]);
        let script = "const data=JSON.parse(document.getElementById('data').textContent);\
        return data.weights.map(layer=>layer.map(text=>weightsOf(text,data.masks[0])));";
        close(&in_browser(browser, &page, script), &value["attentions"]);
    }

    #[test]
    #[ignore = "needs Chromium"]
    fn film_slider_shows_each_step() {
        let browser = browser();
        let folder = Folder::fox("film");
        let tokens = ["The", "quick", "brown", "fox"];
        let ids = folder.json(&["--text", TEXT])["ids"].clone();
        let seen = |angle: f64, right: bool| {
            let next =
                if right { json!({"id": 9, "text": "jumps"}) } else { json!({"id": 3, "text": "dog"}) };
            let mut next = next;
            next["probability"] = json!(0.75);
            json!({"attentions": [[[[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.1, 0.1, 0.7, 0.1]]]],
               "entropies": [[0.9]], "next": [next], "probability": if right { 0.75 } else { 0.01 },
               "angle": angle, "length": 1.0})
        };
        let probe = json!({"text": "The quick brown fox jumps", "ids": ids, "tokens": tokens, "position": 3, "target": 9,
                       "answer": "jumps"});
        let lines = [
            json!({"probes": [probe]}),
            json!({"step": 0, "val_loss": null, "probes": [seen(88.0, false)]}),
            json!({"step": 50, "val_loss": 2.5, "probes": [seen(40.0, true)]}),
        ];
        // A run folder whose model is this one.
        let run = folder.0.join("run");
        std::fs::create_dir_all(&run).unwrap();
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        std::fs::write(run.join("film.jsonl"), lines.join("\n")).unwrap();
        let page = folder.0.join("film.html");
        let output = Command::new(env!("CARGO_BIN_EXE_explain"))
            .args(["--film", run.to_str().unwrap(), "--html", page.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let script = "const slider=document.getElementById('step'),look=()=>({at:document.getElementById('at').textContent,\
        says:document.querySelector('#sentence .chip:last-child').textContent,verdict:document.getElementById('verdict').textContent});\
        const first=look();slider.value=1;slider.oninput();return {first,last:look(),arrows:$$('#fan .arrow').length,cells:$$('#heads td.heat').length};";
        let r = in_browser(browser, &page, script);
        assert_eq!((&r["first"]["says"], &r["last"]["says"]), (&json!("dog"), &json!("jumps")));
        assert!(
            r["last"]["at"].as_str().unwrap().contains("2.5")
                && r["last"]["verdict"].as_str().unwrap().contains("Right")
        );
        assert_eq!((&r["arrows"], &r["cells"]), (&json!(2), &json!(10)));

        std::fs::copy(run.join("film.jsonl"), folder.0.join("film.jsonl")).unwrap();
        let page = folder.0.join("story.html");
        folder.json(&["--text", TEXT, "--html", page.to_str().unwrap()]);
        let script = "return {hidden:document.getElementById('story-section').hidden,arrows:$$('#fan .arrow').length};";
        assert_eq!(in_browser(browser, &page, script), json!({"hidden": false, "arrows": 2}));
    }
}
