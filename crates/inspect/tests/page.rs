//! `explain` on small models: the JSON, the terminal, and the page in a real browser.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use candle_core::{DType, Device};
use serde_json::Value;
use vulpes_data::{Tokenizer, TokenizerConfig};
use vulpes_model::config::Family;
use vulpes_model::{Head, ModelSection, Transformer, folder};

const TEXT: &str = "The quick brown fox";

/// A folder with a tiny untrained model and its tokenizer; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, section: ModelSection, head: Head) -> Self {
        let text = "The quick brown fox jumps over the lazy dog .";
        let tokenizer = Tokenizer::train(&TokenizerConfig::default(), [text]).unwrap();
        let section = ModelSection { context_len: Some(8), init_std: Some(0.4), ..section };
        let model =
            Transformer::init(&section.resolve(tokenizer.vocab_size(), head), 3, DType::F32, &Device::Cpu)
                .unwrap();
        let path = std::env::temp_dir().join(format!("vulpes-explain-{name}-{}", std::process::id()));
        folder::save(&path, &model, &folder::Extra::default()).unwrap();
        tokenizer.save(path.join("tokenizer.json")).unwrap();
        Self(path)
    }

    fn fox(name: &str) -> Self {
        Self::new(
            name,
            ModelSection { family: Some(Family::Fox), ..ModelSection::default() },
            Head::NextToken,
        )
    }

    fn heads(name: &str, family: Family, head: Head) -> Self {
        let section = ModelSection {
            family: Some(family),
            n_layer: Some(2),
            n_head: Some(4),
            n_kv_head: (family == Family::Llama).then_some(2),
            d_model: Some(16),
            ..ModelSection::default()
        };
        Self::new(name, section, head)
    }

    fn explain(&self, args: &[&str]) -> Output {
        let output =
            Command::new(env!("CARGO_BIN_EXE_explain")).arg("--model").arg(&self.0).args(args).output();
        output.unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.explain(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn json_has_the_shape_that_others_build_on() {
    let folder = Folder::heads("json", Family::Llama, Head::NextToken);
    let value = folder.json(&["--text", TEXT, "--all-logits"]);
    assert_eq!(value["tokens"], serde_json::json!(["The", "quick", "brown", "fox"]));
    assert_eq!((value["logits"].as_array().unwrap().len(), value["ids"].as_array().unwrap().len()), (4, 4));
    let vocabulary = value["logits"][0].as_array().unwrap().len();
    let last = folder.json(&["--text", TEXT]);
    assert_eq!(last["logits"], value["logits"][3]);
    assert_eq!(last["logits"].as_array().unwrap().len(), vocabulary);
    let attentions = value["attentions"].as_array().unwrap();
    assert_eq!((attentions.len(), attentions[0].as_array().unwrap().len()), (2, 4));
    for (q, row) in attentions[1][3].as_array().unwrap().iter().enumerate() {
        let row: Vec<f64> = row.as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).collect();
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        assert!(row[q + 1..].iter().all(|w| *w == 0.0), "a word looks ahead: {row:?}");
    }
    let next = value["next"].as_array().unwrap();
    assert!(next.windows(2).all(|pair| pair[0]["logit"].as_f64() >= pair[1]["logit"].as_f64()));
    // The same ids give the same answer as the text.
    let ids: Vec<String> = value["ids"].as_array().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(folder.json(&["--ids", &ids.join(",")])["attentions"], value["attentions"]);
}

#[test]
fn the_terminal_shows_every_step_of_one_head_and_all_heads_in_brief() {
    let output = Folder::fox("terminal").explain(&["--text", TEXT]);
    let text = String::from_utf8(output.stdout).unwrap();
    let order =
        ["Tokens", "scores q·k", "Mask", "Attention weights", "Context vector of \"fox\"", "Next word"];
    let places: Vec<usize> =
        order.iter().map(|title| text.find(title).unwrap_or_else(|| panic!("{title}"))).collect();
    assert!(places.is_sorted() && text.contains("1.000"), "{text}");

    let folder = Folder::heads("brief", Family::Gpt2, Head::NextToken);
    let brief = String::from_utf8(folder.explain(&["--text", TEXT]).stdout).unwrap();
    assert!(brief.contains("in brief") && brief.contains("1.3"), "{brief}");
    let one =
        String::from_utf8(folder.explain(&["--text", TEXT, "--layer", "1", "--head", "3"]).stdout).unwrap();
    assert!(one.contains("Layer 1, head 3") && one.contains("Context vector"), "{one}");
    let flow = folder.explain(&["--text", TEXT, "--target", "jumps", "--gradients"]);
    let flow = String::from_utf8(flow.stdout).unwrap();
    assert!(flow.contains("block 1: attention") && flow.contains("What \"jumps\" hangs on"), "{flow}");
}

#[test]
fn what_can_not_be_shown_is_refused() {
    let folder = Folder::heads("refused", Family::Gpt2, Head::NextToken);
    for (args, word) in [
        (&["--text", TEXT, "--layer", "2"][..], "0 to 1"),
        (&["--text", TEXT, "--head", "4"], "0 to 3"),
        (&["--ids", "99"], "99"),
        (&["--ids", "1,1,1,1,1,1,1,1,1"], "at most 8"),
        (&["--text", TEXT, "--target", "zebra"], "zebra"),
    ] {
        let output = folder.explain(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(word) && output.stdout.is_empty(), "{args:?}: {stderr}");
    }
}

#[test]
fn gradients_are_whole_and_knock_outs_are_real() {
    let folder = Folder::heads("flow", Family::Gpt2, Head::NextToken);
    let value = folder.json(&["--text", TEXT, "--target", "jumps", "--gradients"]);
    let flow = &value["gradients"];
    let share = |list: &str| -> f64 {
        flow[list].as_array().unwrap().iter().map(|p| p["share"].as_f64().unwrap()).sum()
    };
    assert!((share("parts") - 1.0).abs() < 1e-9 && (share("parameters") - 1.0).abs() < 1e-9);
    let probability = flow["target"]["probability"].as_f64().unwrap();
    assert!((flow["loss"].as_f64().unwrap() + probability.ln()).abs() < 1e-5);
    let knockouts = value["knockouts"].as_array().unwrap();
    assert_eq!(knockouts.len(), 3);
    assert!(knockouts.iter().all(|k| k["change"].as_f64().unwrap().abs() > 1e-9));
    // The lens of the last block is the model itself.
    let lens = value["lens"].as_array().unwrap();
    assert_eq!(lens.len(), 3);
    assert!(
        (lens[2]["probability"].as_f64().unwrap() - value["next"][0]["probability"].as_f64().unwrap()).abs()
            < 1e-6
    );
}

#[test]
fn svg_is_well_formed_and_shows_every_allowed_cell() {
    let folder = Folder::heads("svg", Family::Gpt2, Head::NextToken);
    let file = folder.0.join("map.svg");
    let path = file.to_str().unwrap();
    assert!(folder.explain(&["--text", TEXT, "--svg", path, "--layer", "0", "--head", "1"]).status.success());
    let one = std::fs::read_to_string(&file).unwrap();
    // Background, frame, and ten cells on and below the diagonal.
    assert_eq!(one.matches("<rect").count(), 12);
    assert!(folder.explain(&["--text", TEXT, "--svg", path]).status.success());
    let grid = std::fs::read_to_string(&file).unwrap();
    assert_eq!(grid.matches("<rect").count(), 1 + 8 * 11);
    assert!(grid.starts_with("<svg") && grid.ends_with("</svg>"));
}

/// Chromium, where there is one.
fn browser() -> Option<&'static str> {
    let there = |name: &&str| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find(there)
}

/// What `script` leaves in the page's `#probe` after the page's own script has run.
fn in_browser(browser: &str, page: &Path, script: &str) -> Value {
    let html = std::fs::read_to_string(page).unwrap();
    let watch = "<script>window.faults=[];addEventListener('error',e=>faults.push(String(e.message)));\
                 addEventListener('securitypolicyviolation',e=>faults.push(e.blockedURI));</script><style>";
    let probe = format!(
        "<pre id=probe></pre><script>{{const r=(()=>{{{script}}})();\
         document.getElementById('probe').textContent=JSON.stringify({{faults,requests:performance.getEntriesByType('resource').length,r}});}}</script></body>"
    );
    let probed = page.with_extension("probed.html");
    std::fs::write(&probed, html.replacen("<style>", watch, 1).replace("</body>", &probe)).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", page.with_extension("profile").display()))
        .arg(format!("file://{}", probed.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8(output.stdout).unwrap();
    let text = dom.split_once("<pre id=\"probe\">").unwrap().1.split_once("</pre>").unwrap().0;
    serde_json::from_str(
        &text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"),
    )
    .unwrap()
}

#[test]
fn the_page_does_its_arithmetic_in_a_browser() {
    let Some(browser) = browser() else {
        eprintln!("SKIPPED: there is no Chromium here, so the page was not opened");
        return;
    };
    for (name, folder) in [
        ("llama", Folder::heads("page-llama", Family::Llama, Head::NextToken)),
        ("bert", Folder::heads("page-bert", Family::Bert, Head::MaskedToken)),
    ] {
        let page = folder.0.join("page.html");
        let text = if name == "bert" { "The quick [MASK] fox" } else { TEXT };
        let value = folder.json(&["--text", text, "--html", page.to_str().unwrap()]);
        let script = "document.getElementById('open-1-2').click();document.getElementById('cell-3-1').click();\
            const v=id=>Number(document.getElementById(id).dataset.value);\
            return {score:v('score'),weight:v('weight'),context:JSON.parse(document.getElementById('context').dataset.value),\
            title:document.getElementById('cell-title').textContent,next:document.querySelector('#next td').textContent,\
            lens:document.querySelectorAll('#lens tbody tr').length,knock:document.querySelectorAll('#knockout tbody tr').length,\
            flow:document.querySelectorAll('#gradient tbody tr').length,\
            pressed:document.querySelectorAll('#heads [aria-pressed=true]').length};";
        let seen = in_browser(browser, &page, script);
        assert_eq!(seen["faults"], serde_json::json!([]), "{name}");
        assert_eq!(seen["requests"], 0, "{name}");
        let r = &seen["r"];
        let close = |ours: &Value, exact: &Value| {
            let (ours, exact) = (ours.as_f64().unwrap(), exact.as_f64().unwrap());
            assert!((ours - exact).abs() < 1e-6, "{name}: {ours} and {exact}");
        };
        close(&r["score"], &value["scores"][1][2][3][1]);
        close(&r["weight"], &value["attentions"][1][2][3][1]);
        for (ours, exact) in
            r["context"].as_array().unwrap().iter().zip(value["contexts"][1][2][3].as_array().unwrap())
        {
            close(ours, exact);
        }
        assert_eq!(r["next"], value["next"][0]["text"], "{name}");
        assert_eq!((&r["lens"], &r["knock"], &r["pressed"]), (&3.into(), &3.into(), &1.into()), "{name}");
        assert!(r["flow"].as_u64().unwrap() > 5 && r["title"].as_str().unwrap().contains("fox"), "{name}");
    }
}
