//! Pages with an embedded model in a real browser: interactive edits compared with the running model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use candle_core::{DType, Device};
use serde_json::{Value, json};
use support::browser::{Opened, browser, in_browser, in_page};
use support::live::{agrees, close, data_of};
use support::{Folder, TEXT};
use vulpes_data::{Tokenizer, TokenizerConfig, TokenizerKind};
use vulpes_model::config::Family;
use vulpes_model::{Head, ModelSection, Transformer, folder};

#[test]
fn the_page_embeds_the_model_unless_told_otherwise() {
    let folder = Folder::fox("live-or-not");
    let page = folder.0.join("page.html");
    let made = |args: &[&str]| {
        let output = folder.explain(&[&["--text", TEXT, "--html", page.to_str().unwrap()], args].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(made(&[]).0, Some(0));
    assert_eq!(data_of(&page)["live"]["is_exact"], true);
    made(&["--no-live"]);
    assert_eq!(data_of(&page)["live"], Value::Null);
    // For a tokenizer that the page doesn't support: only the text, and the reason.
    let file = folder.0.join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    json["normalizer"] = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    std::fs::write(&file, json.to_string()).unwrap();
    let (code, stderr) = made(&[]);
    assert!(code == Some(0) && stderr.contains("the normalizer Strip"), "{stderr}");
    assert_eq!(data_of(&page)["live"], Value::Null);
    let (code, stderr) = made(&["--live"]);
    assert!(code == Some(2) && stderr.contains("--live") && stderr.contains("Strip"), "{stderr}");
    let pairs = Folder::heads("live-pair", Family::Bert, Head::Classify { n_labels: 2 });
    let output = pairs.explain(&["--text", "The fox", "--pair", "the dog", "--html", page.to_str().unwrap()]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.contains("this is a pair"), "{stderr}");
}

mod needs_chromium {
    use super::*;

    #[test]
    #[ignore = "needs Chromium"]
    fn typed_text_goes_through_the_model() {
        let folder = Folder::heads("typed", Family::Gpt2, Head::NextToken);
        let page = folder.0.join("page.html");
        let first = folder.json(&["--text", TEXT, "--html", page.to_str().unwrap()]);
        let other = "The lazy dog jumps over";
        let second = folder.json(&["--text", other]);
        let script = format!(
            "const first=vulpes.predict(),box=document.getElementById('typed');box.value='{other}';box.oninput();\
             document.getElementById('open-1-2').click();document.getElementById('cell-4-1').click();\
             return {{first,second:vulpes.predict(),took:vulpes.took,chips:$$('#words button').length,score:v('score'),\
             context:JSON.parse(document.getElementById('context').dataset.value),\
             logits:Array.from($$('#logits td[data-value]'),td=>Number(td.dataset.value)),\
             lens:$$('#lens tbody tr').length,knock:$$('#knockout tbody tr').length,\
             says:document.getElementById('summary').textContent,address:vulpes.state(),\
             before:document.querySelector('#changed-says').textContent}};"
        );
        let r = in_browser(browser(), &page, &script);
        agrees(&r["first"], &first, "the page's own text");
        agrees(&r["second"], &second, "typed");
        // The arithmetic is for the typed text.
        close(&r["score"], &second["scores"][1][2][4][1], 1e-5, "score");
        close(&r["context"], &second["contexts"][1][2][4], 1e-5, "context");
        for (n, logit) in r["logits"].as_array().unwrap().iter().enumerate() {
            close(logit, &second["next"][n]["logit"], 1e-5, "logit");
        }
        assert_eq!((&r["chips"], &r["lens"], &r["knock"]), (&5.into(), &3.into(), &4.into()), "{r}");
        assert!(r["says"].as_str().unwrap().contains(second["next"][0]["text"].as_str().unwrap()), "{r}");
        assert!(r["before"].as_str().unwrap().contains(first["next"][0]["text"].as_str().unwrap()), "{r}");
        assert_eq!(r["address"], "text=The+lazy+dog+jumps+over");
    }

    #[test]
    #[ignore = "needs Chromium"]
    fn words_are_hidden_swapped_removed_and_sampled() {
        let folder = Folder::fox("words");
        let page = folder.0.join("page.html");
        let value = folder.json(&["--text", TEXT, "--target", "jumps", "--html", page.to_str().unwrap()]);
        let script = "const on=id=>document.getElementById(id).click(),word=t=>$$('#words button')[t].click(),text=()=>document.getElementById('typed').value;\
            const jumps=Number(vulpes.encode('jumps')[0]),ln=p=>Math.log(p.next.find(n=>n.id===jumps).probability);\
            const whole=ln(vulpes.predict());word(2);on('tool-hide');const hidden=ln(vulpes.predict())-whole,address=vulpes.state();\
            on('tool-hide');on('tool-left');const swapped=text(),moral=document.getElementById('moral').textContent;word(0);on('tool-out');const out=text(),without=vulpes.predict();\
            on('reset');document.getElementById('temperature').value=0;document.getElementById('temperature').oninput();on('draw');\
            const drawn=text();on('undraw');const back=text();on('reset');\
            document.getElementById('cell-3-1').click();const slide=document.getElementById('weight-set');slide.value=0.7;slide.oninput();\
            const row=vulpes.predict().attentions[0][0][3],told=vulpes.state(),why=document.getElementById('why').textContent;key(document.getElementById('cell-3-1'),'Delete');\
            on('switch-layer-0-head-0');const even=document.getElementById('moral').textContent,first=document.querySelector('#compared tbody td').textContent;on('reset');\
            return {moral,even,first,why,hidden,address,swapped,out,without,drawn,back,row,told,fresh:vulpes.state(),bar:document.getElementById('changed').hidden};";
        let r = in_browser(browser(), &page, script);
        // Hiding a word equals the program's knockout.
        close(&r["hidden"], &value["knockouts"][2]["change"], 1e-5, "hidden");
        assert_eq!((&r["address"], &r["fresh"]), (&json!("hide=2"), &json!("")), "{r}");
        assert_eq!(
            (&r["swapped"], &r["out"]),
            (&json!("The brown quick fox"), &json!("brown quick fox")),
            "{r}"
        );
        // The lessons are stated: the fox has no positions, and without its head it knows nothing.
        assert!(r["moral"].as_str().unwrap().contains("no positions"), "{r}");
        assert!(r["even"].as_str().unwrap().contains("equally likely"), "{r}");
        // Ties have no winner: the previously most likely word is shown, and a weight set by hand has no explanation.
        assert_eq!(r["first"], value["next"][0]["text"], "{r}");
        assert!(r["why"].as_str().unwrap().contains("set by hand to 0.7000"), "{r}");
        agrees(&r["without"], &folder.json(&["--text", "brown quick fox"]), "taken out");
        let likeliest = value["next"][0]["text"].as_str().unwrap();
        assert_eq!((&r["drawn"], &r["back"]), (&json!(format!("{TEXT} {likeliest}")), &json!(TEXT)), "{r}");
        // The row still sums to 1, and the other words keep their proportions.
        let (row, was) = (r["row"].as_array().unwrap(), &value["attentions"][0][0][3]);
        let number = |x: &Value| x.as_f64().unwrap();
        assert!((row.iter().map(number).sum::<f64>() - 1.0).abs() < 1e-12 && number(&row[1]) == 0.7, "{r}");
        close(
            &json!(number(&row[0]) / number(&row[2])),
            &json!(number(&was[0]) / number(&was[2])),
            1e-5,
            "shares",
        );
        assert_eq!((&r["told"], &r["bar"]), (&json!("set=0.0.3.1%3A0.7"), &json!(true)), "{r}");
    }

    /// Swaps any two words by button, keyboard and drag and drop, for word tokenizers and BPE. Settings move with the
    /// words.
    #[test]
    #[ignore = "needs Chromium"]
    fn any_two_words_can_be_swapped() {
        let script = "const on=id=>document.getElementById(id).click(),chips=()=>$$('#words button'),text=()=>document.getElementById('typed').value,\
            chip=word=>Array.from(chips()).find(c=>c.textContent.replace(/[^a-zA-Z]/g,'')===word),hidden=()=>Array.from($$('#words .hidden-word'),c=>c.textContent.replace(/[^a-zA-Z]/g,''));\
            chip('fox').click();on('tool-hide');on('tool-swap');const named=chip('The').getAttribute('aria-label'),note=document.querySelector('#word-tools .hint').textContent;chip('The').click();\
            const first={text:text(),hidden:hidden(),chosen:document.querySelector('#words [aria-pressed=true]').textContent.replace(/[^a-zA-Z]/g,'')};\
            on('tool-swap');key(document.activeElement,'Escape');const left=$$('#words.swapping').length;\
            on('tool-swap');key(document.activeElement,'ArrowRight');document.activeElement.click();const second={text:text(),hidden:hidden()};\
            const mouse=(at,name)=>at.dispatchEvent(new PointerEvent(name,{pointerType:'mouse',button:0,bubbles:true}));\
            mouse(chip('The'),'pointerdown');mouse(chip('quick'),'pointerover');const aimed=$$('#words .aim').length;mouse(chip('quick'),'pointerup');\
            return {named,note,first,left,second,aimed,last:text(),hidden:hidden()};";
        let words = Folder::fox("swap-words");
        let pairs = Folder::fox("swap-pairs");
        let config = TokenizerConfig {
            kind: TokenizerKind::Bpe,
            vocab_size: Some(300),
            min_frequency: Some(1),
            ..Default::default()
        };
        let tokenizer = Tokenizer::train(&config, [TEXT, "the lazy dog, The end"]).unwrap();
        let section =
            ModelSection { family: Some(Family::Fox), context_len: Some(32), ..ModelSection::default() };
        let config = section.resolve(tokenizer.vocab_size(), Head::NextToken);
        let model = Transformer::init(&config, 3, DType::F32, &Device::Cpu).unwrap();
        folder::save(&pairs.0, &model, &folder::Extra::default()).unwrap();
        tokenizer.save(pairs.0.join("tokenizer.json")).unwrap();
        for folder in [&words, &pairs] {
            let page = folder.0.join("page.html");
            folder.json(&["--text", TEXT, "--html", page.to_str().unwrap()]);
            let r = in_browser(browser(), &page, script);
            assert_eq!(
                r["first"],
                json!({"text": "fox quick brown The", "hidden": ["fox"], "chosen": "fox"})
            );
            assert!(r["named"].as_str().unwrap().contains("with “The”"), "{r}");
            assert!(r["note"].as_str().unwrap().contains("to swap with “fox”"), "{r}");
            assert_eq!((&r["left"], &r["aimed"]), (&json!(0), &json!(1)), "{r}");
            assert_eq!(r["second"], json!({"text": "brown quick fox The", "hidden": ["fox"]}), "{r}");
            assert_eq!((&r["last"], &r["hidden"]), (&json!("brown The fox quick"), &json!(["fox"])), "{r}");
        }
    }

    #[test]
    #[ignore = "needs Chromium"]
    fn a_link_restores_its_state_and_reports_what_it_cannot() {
        let folder = Folder::heads("link", Family::Gpt2, Head::NextToken);
        let page = folder.0.join("page.html");
        folder.json(&["--text", TEXT, "--html", page.to_str().unwrap()]);
        let fragment =
            "text=The+lazy+dog&off=0.1%2Clayer1%2C7.0&hide=1&temp=0.5&k=3&seed=9&set=1.2.2.0%3A0.25";
        let script = "document.querySelector('header nav a[href=\"#where\"]').click();\
            return {state:vulpes.state(),hash:location.hash,text:document.getElementById('typed').value,\
            off:Array.from($$('[aria-checked=false]'),e=>e.id),says:document.getElementById('typed-says').textContent,\
            hidden:$$('#words .hidden-word').length,rows:$$('#compared tbody tr').length};";
        let r = in_page(browser(), Opened { page: &page, width: None, fragment }, script);
        let heard = "text=The+lazy+dog&off=0.1%2Clayer1&set=1.2.2.0%3A0.25&hide=1&temp=0.5&k=3&seed=9";
        assert_eq!(r["state"], heard, "{r}");
        // The link's state stays in the address after navigation to a section.
        assert!(r["hash"].as_str().unwrap().contains("hide=1"), "{r}");
        assert_eq!((&r["text"], &r["hidden"]), (&json!("The lazy dog"), &json!(1)), "{r}");
        assert_eq!(r["off"], json!(["switch-layer-0-head-1", "switch-layer-1-whole"]), "{r}");
        assert!(r["says"].as_str().unwrap().contains("7.0"), "{r}");
    }

    /// On a phone, by keyboard, with a screen reader: nothing is cut off, everything is named and reachable.
    #[test]
    #[ignore = "needs Chromium"]
    fn page_fits_a_phone_and_everything_has_a_name() {
        for (name, family, head, text) in [
            ("gpt2", Family::Gpt2, Head::NextToken, TEXT),
            ("bert", Family::Bert, Head::MaskedToken, "The quick [MASK] fox"),
        ] {
            let folder = Folder::heads(&format!("phone-{name}"), family, head);
            let page = folder.0.join("page.html");
            folder.json(&["--text", text, "--html", page.to_str().unwrap()]);
            let script = "document.querySelector('[role=switch]').click();document.getElementById('draw').click();\
                const named=e=>e.textContent.trim()||e.getAttribute('aria-label')||(e.labels&&e.labels.length);\
                const wide=Array.from($$('body *')).filter(e=>!e.closest('.scroll,.bars,#changes,.choice,.skip')&&e.getBoundingClientRect().right>innerWidth+1);\
                return {width:innerWidth,over:document.documentElement.scrollWidth,wide:wide.map(e=>e.tagName+'#'+e.id+'.'+e.className),\
                unnamed:Array.from($$('button,input,select,textarea,[tabindex]')).filter(e=>!named(e)).map(e=>e.outerHTML),\
                status:$$('[role=status]').length,drawn:document.getElementById('drawn').textContent};";
            let r = in_page(browser(), Opened { page: &page, width: Some(390), fragment: "" }, script);
            assert_eq!(
                (&r["width"], &r["wide"], &r["unnamed"]),
                (&json!(390), &json!([]), &json!([])),
                "{name}: {r}"
            );
            assert!(
                r["over"].as_f64().unwrap() <= 390.0 && r["drawn"].as_str().unwrap().contains("Drawn"),
                "{name}: {r}"
            );
        }
    }
}
