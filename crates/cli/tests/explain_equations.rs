//! The sums on the page of `explain`, read in a real browser: the displayed numbers add up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::browser::{browser, in_browser};
use support::{Folder, TEXT};
use vulpes_model::config::Family;
use vulpes_model::{Head, ModelSection};

/// Every sum of the page, for every cell of every head.
const EVERY_SUM: &str = "const all={};\
const keep=()=>$$('[data-equation]').forEach(e=>{const text=Array.from(e.childNodes).filter(n=>n.nodeName!=='SMALL').map(n=>n.textContent).join('');\
all[e.textContent]={text,...JSON.parse(e.dataset.equation)}});\
const heads=$$('#heads button');const each=()=>Array.from($$('#map td.heat')).forEach(c=>{document.getElementById(c.id).click();keep();});\
if(heads.length>1){Array.from(heads).forEach(h=>{h.click();each();});}else each();\
return Object.values(all);";

/// Evaluates the text between the first and the last `=`: sums of products and quotients, parentheses, `exp(..)`.
fn read(text: &str) -> f64 {
    let plain = text.replace(" × ", "*").replace(" / ", "/").replace(" + ", "+").replace(" − ", "~");
    let plain: Vec<char> = plain.replace('−', "-").replace(' ', "").chars().collect();
    let mut at = 0;
    let value = summed(&plain, &mut at);
    assert_eq!(at, plain.len(), "{text}");
    value
}

fn summed(text: &[char], at: &mut usize) -> f64 {
    let mut value = multiplied(text, at);
    while let Some(sign) = text.get(*at).copied().filter(|c| ['+', '~'].contains(c)) {
        *at += 1;
        let next = multiplied(text, at);
        value += if sign == '+' { next } else { -next };
    }
    value
}

fn multiplied(text: &[char], at: &mut usize) -> f64 {
    let mut value = number(text, at);
    while let Some(sign) = text.get(*at).copied().filter(|c| ['*', '/'].contains(c)) {
        *at += 1;
        let next = number(text, at);
        value *= if sign == '*' { next } else { 1.0 / next };
    }
    value
}

fn number(text: &[char], at: &mut usize) -> f64 {
    let rest: String = text[*at..].iter().collect();
    for (open, function) in [("exp(", f64::exp as fn(f64) -> f64), ("(", |x| x)] {
        if rest.starts_with(open) {
            *at += open.len();
            let value = summed(text, at);
            assert_eq!(text[*at], ')');
            *at += 1;
            return function(value);
        }
    }
    let mut n = 0;
    for c in rest.chars() {
        let exponent = n > 0 && rest[..n].ends_with('e') && c == '-';
        if !(c.is_ascii_digit() || c == '.' || c == 'e' || exponent || (n == 0 && c == '-')) {
            break;
        }
        n += 1;
    }
    *at += n;
    rest[..n].parse().unwrap_or_else(|_| panic!("no number: {rest}"))
}

/// All numbers, exact and as displayed.
fn check(name: &str, sums: &Value) {
    let sums = sums.as_array().unwrap();
    assert!(sums.len() > 20, "{name}: only {} sums", sums.len());
    for sum in sums {
        let text = sum["text"].as_str().unwrap();
        let product = |term: &Value| -> f64 {
            term.as_array().unwrap().iter().map(|factor| factor.as_f64().unwrap()).product()
        };
        let (whole, result) = (
            sum["terms"].as_array().unwrap().iter().map(product).sum::<f64>(),
            sum["result"].as_f64().unwrap(),
        );
        assert!((whole - result).abs() < 1e-5 * (1.0 + result.abs()), "{name}: {text}: {whole} and {result}");
        let (left, shown) = text.rsplit_once(" = ").unwrap();
        let (_, shown_terms) = left.split_once(" = ").unwrap();
        let (again, shown) = (read(shown_terms), read(shown));
        assert!((shown - result).abs() < 6e-5 * (1.0 + result.abs()), "{name}: {text}");
        // Each displayed number is off by at most 5e-5, before it is multiplied.
        assert!((again - shown).abs() < 2e-3 * (1.0 + shown.abs()), "{name}: {text} comes to {again}");
    }
}

#[test]
fn sums_are_parsed_correctly() {
    assert!((read("0.5000 × (−2.0000) + 3.0000 − 1.0000") - 1.0).abs() < 1e-12);
    assert!((read("(1.0000 − (−2.0000)) / 1.5000 × 2.0000") - 4.0).abs() < 1e-12);
    assert!((read("exp(1.0000 − 1.0000) × 2.00e−5") - 2e-5).abs() < 1e-12);
}

mod needs_chromium {
    use super::*;

    #[test]
    #[ignore = "needs Chromium"]
    fn every_displayed_sum_adds_up() {
        let browser = browser();
        for (name, family, head, text) in [
            ("gpt2", Family::Gpt2, Head::NextToken, TEXT),
            ("llama", Family::Llama, Head::NextToken, TEXT),
            ("bert", Family::Bert, Head::MaskedToken, "The quick [MASK] fox"),
            ("labels", Family::Bert, Head::Classify { n_labels: 3 }, TEXT),
        ] {
            let folder = Folder::heads(&format!("sums-{name}"), family, head);
            let page = folder.0.join("page.html");
            folder.json(&["--text", text, "--html", page.to_str().unwrap()]);
            check(name, &in_browser(browser, &page, EVERY_SUM));
        }
        let wide = ModelSection {
            family: Some(Family::Gpt2),
            n_layer: Some(1),
            n_head: Some(2),
            d_model: Some(96),
            ..ModelSection::default()
        };
        for (name, folder) in
            [("fox", Folder::fox("sums-fox")), ("wide", Folder::new("sums-wide", wide, Head::NextToken))]
        {
            let page = folder.0.join("page.html");
            folder.json(&["--text", TEXT, "--html", page.to_str().unwrap()]);
            check(name, &in_browser(browser, &page, EVERY_SUM));
        }
    }

    #[test]
    #[ignore = "needs Chromium"]
    fn the_chosen_word_is_followed_to_its_own_prediction() {
        let browser = browser();
        let folder = Folder::heads("sums-row", Family::Gpt2, Head::NextToken);
        let page = folder.0.join("page.html");
        let value = folder.json(&["--text", TEXT, "--all-logits", "--html", page.to_str().unwrap()]);
        let script = "document.getElementById('open-0-1').click();document.getElementById('cell-1-0').click();\
        return {logit:Number(document.querySelector('#logits td[data-value]').dataset.value),step4:document.getElementById('step-4').textContent,\
        step6:document.getElementById('step-6').textContent,formulas:Array.from($$('.formula'),f=>f.textContent)};";
        let r = in_browser(browser, &page, script);
        let row: Vec<f64> =
            value["logits"][1].as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap()).collect();
        let greatest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert!((r["logit"].as_f64().unwrap() - greatest).abs() < 1e-5);
        let step4 = r["step4"].as_str().unwrap();
        assert!(step4.contains("z of “quick”") && !step4.contains("z of “fox”"), "{step4}");
        // The loss of that word is shown; the gradients are labeled as those of another.
        let step6 = r["step6"].as_str().unwrap();
        assert!(step6.contains("“brown”: the text goes on with it") && step6.contains("only for “fox”"));
        let formulas = r["formulas"].as_array().unwrap();
        assert!(formulas.iter().any(|formula| formula == "Q = Wq @ norm(x) + bq"), "{formulas:?}");
    }

    #[test]
    #[ignore = "needs Chromium"]
    fn a_model_without_a_head_has_a_page_too() {
        let folder = Folder::heads("sums-hidden", Family::Bert, Head::Hidden { pooler: false });
        let page = folder.0.join("page.html");
        folder.json(&["--text", TEXT, "--html", page.to_str().unwrap()]);
        let script =
            "return {summary:document.getElementById('summary').textContent,steps:$$('.steps h3').length};";
        let r = in_browser(browser(), &page, script);
        assert!(r["summary"].as_str().unwrap().contains("no head") && r["steps"] == 4, "{r}");
    }
}
