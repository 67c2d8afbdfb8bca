//! The walkthrough page in a real browser: it starts with the program's numbers and reacts to changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::browser::{Opened, browser, in_browser, in_page};

fn close(ours: &Value, exact: &Value) -> bool {
    match (ours.as_array(), exact.as_array()) {
        (Some(ours), Some(exact)) => {
            ours.len() == exact.len() && ours.iter().zip(exact).all(|(ours, exact)| close(ours, exact))
        }
        _ => (ours.as_f64().unwrap() - exact.as_f64().unwrap()).abs() < 1e-12,
    }
}

mod needs_chromium {
    use super::*;

    #[test]
    #[ignore = "needs Chromium"]
    fn walkthrough_page_begins_with_the_programs_numbers_and_learns_as_it_does() {
        let place = tempfile::tempdir().unwrap();
        let page = place.path().join("walkthrough.html");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_explain"))
            .args(["--walkthrough", "--json", "--html", page.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        let script = "const on=id=>document.getElementById(id).click(),which=document.getElementById('which'),\
            says=()=>document.querySelector('#sentence .chip:last-child').textContent;\
            const play=i=>{which.value=i;which.onchange();const first=vulpes.pass(),says_first=says(),steps=[];\
            while(vulpes.pass().predicted!==[3,2][i]&&steps.length<50){on('update');const p=vulpes.pass();\
            steps.push({loss:p.loss,context:p.context,probabilities:p.probabilities})}\
            return {first,says_first,steps,says:says(),next:Array.from($$('#next tbody tr'),tr=>tr.children[2].textContent)}};\
            const both=[play(0),play(1)];which.value=0;which.onchange();\
            const slide=document.getElementById('weight-2');slide.value=0.8;slide.oninput();const moved=vulpes.pass();\
            on('back');document.getElementById('row-3').focus();key(document.activeElement,'ArrowUp');key(document.activeElement,'ArrowRight');\
            return {both,moved,row:vulpes.numbers().wout[3],logit:vulpes.pass().logits[3],shown:$$('#logits tbody tr')[3].children[3].textContent};";
        let r = in_browser(browser(), &page, script);
        for (ours, exact) in r["both"].as_array().unwrap().iter().zip(value["examples"].as_array().unwrap()) {
            for key in ["weights", "contributions", "context", "logits", "probabilities", "loss"] {
                assert!(close(&ours["first"][key], &exact[key]), "{key}: {ours} and {exact}");
            }
            for key in ["logits", "wout", "context", "values", "weights", "scores"] {
                let (ours, exact) = (&ours["first"]["gradients"][key], &exact["gradients"][key]);
                assert!(close(ours, exact), "gradient of {key}: {ours} and {exact}");
            }
            let steps = exact["steps"].as_array().unwrap();
            assert_eq!(ours["steps"].as_array().unwrap().len(), steps.len() - 1);
            for (ours, exact) in ours["steps"].as_array().unwrap().iter().zip(&steps[1..]) {
                for key in ["loss", "context", "probabilities"] {
                    assert!(close(&ours[key], &exact[key]), "{key}: {ours} and {exact}");
                }
            }
            assert_eq!((&ours["says_first"], &ours["says"]), (&exact["predicted"], &exact["target"]));
            let shown = ours["next"]
                .as_array()
                .unwrap()
                .iter()
                .zip(&steps[steps.len() - 1]["probabilities"].as_array().unwrap()[..]);
            for (shown, exact) in shown {
                assert_eq!(shown, &json!(format!("{:.4}", exact.as_f64().unwrap())));
            }
        }
        // After a weight is changed, the row sums to 1, and the context is its weighted sum.
        let moved = &r["moved"];
        let weights: Vec<f64> =
            moved["weights"].as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).collect();
        assert!(
            (weights.iter().sum::<f64>() - 1.0).abs() < 1e-12 && (weights[2] - 0.8).abs() < 1e-12,
            "{moved}"
        );
        let embeddings = [[0.1, 0.2], [0.4, 0.1], [0.3, 0.5], [0.8, 0.6]];
        let context = [0, 1].map(|c| weights.iter().zip(embeddings).map(|(w, v)| w * v[c]).sum::<f64>());
        assert!(close(&moved["context"], &json!(context)), "{moved}");
        // A row of Wout moved by the arrow keys.
        assert!(
            close(&r["row"], &json!([0.22, 0.92])) && close(&r["logit"], &json!(0.22 * 0.66 + 0.92 * 0.525)),
            "{r}"
        );
        assert_eq!(r["shown"], "0.6282");
        // Longer arrows are entirely visible, and a row follows the pointer.
        let script = "for(let i=0;i<40;i++)document.getElementById('update').click();\
            const plane=document.getElementById('plane').getBoundingClientRect(),grip=document.getElementById('row-3');\
            const out=Array.from($$('#plane .grip,#plane .tip'),e=>e.getBoundingClientRect()).filter(r=>r.left<plane.left||r.right>plane.right||r.top<plane.top||r.bottom>plane.bottom).length;\
            grip.setPointerCapture=()=>{};grip.hasPointerCapture=()=>true;const to=[plane.left+plane.width*0.6,plane.top+plane.height*0.4];\
            const at=name=>new PointerEvent(name,{bubbles:true,clientX:to[0],clientY:to[1]});\
            grip.dispatchEvent(at('pointerdown'));grip.dispatchEvent(at('pointermove'));const r=grip.getBoundingClientRect();\
            return {out,off:Math.hypot(r.left+r.width/2-to[0],r.top+r.height/2-to[1])};";
        let r = in_browser(browser(), &page, script);
        assert_eq!(r["out"], 0, "{r}");
        assert!(r["off"].as_f64().unwrap() < 1.0, "{r}");
        let script = "const wide=Array.from($$('body *')).filter(e=>!e.closest('.scroll,.skip')&&e.getBoundingClientRect().right>innerWidth+1);\
            return {width:innerWidth,wide:wide.map(e=>e.tagName+'#'+e.id),\
            unnamed:Array.from($$('button,input,select,[tabindex]')).filter(e=>!e.textContent&&!e.getAttribute('aria-label')&&!e.labels?.length).length};";
        let r = in_page(browser(), Opened { page: &page, width: Some(390), fragment: "" }, script);
        assert_eq!(r, json!({"width": 390, "wide": [], "unnamed": 0}));
    }
}
