//! `explain` on small models: JSON, terminal output, SVG, and refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::{Folder, TEXT};
use vulpes_model::Head;
use vulpes_model::config::Family;

#[test]
fn json_has_the_documented_shape() {
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
fn the_terminal_shows_every_step_of_one_head_and_a_summary_of_all() {
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
    // What stands before Q in this model, a norm and a bias, is said.
    assert!(one.contains("x is the output of layer 0") && one.contains("Q = Wq @ norm(x) + bq"), "{one}");
    assert!(one.contains("attention = Wo @ contexts + bo") && one.contains("y = x + attention"), "{one}");
    let flow = folder.explain(&["--text", TEXT, "--target", "jumps", "--gradients"]);
    let flow = String::from_utf8(flow.stdout).unwrap();
    assert!(flow.contains("block 1: attention") && flow.contains("What \"jumps\" depends on"), "{flow}");
    assert!(flow.contains("Q = Wq @ norm(x) + bq") && !flow.contains("Wq @ embedding"), "{flow}");
}

#[test]
fn a_narrow_terminal_or_none_gets_complete_lines_without_color() {
    let folder = Folder::heads("narrow", Family::Gpt2, Head::NextToken);
    let text = "The quick brown fox jumps over";
    for args in [&[][..], &["--layer", "1", "--head", "2"], &["--target", "the", "--gradients"]] {
        for width in [40, 60, 100] {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_explain"))
                .args(["--model", folder.0.to_str().unwrap(), "--text", text])
                .args(args)
                .env("COLUMNS", width.to_string())
                .output()
                .unwrap();
            let page = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success() && !page.contains('\u{1b}') && page.contains("Next word"));
            let wide = page.lines().find(|line| line.chars().count() > width);
            assert_eq!(wide, None, "{args:?} at {width}");
        }
    }
}

#[test]
fn json_names_every_equation_of_every_layer() {
    let value = Folder::heads("formulas", Family::Llama, Head::NextToken).json(&["--text", TEXT]);
    let formulas = value["formulas"].as_array().unwrap();
    assert_eq!(formulas.len(), 2);
    for formula in ["Q₀ = Wq @ norm(x)", "Q = rotate(Q₀)", "y = x + attention", "inner = silu(gate) × up"]
    {
        assert!(
            formulas[1].as_array().unwrap().iter().any(|said| said == formula),
            "{formula}: {formulas:?}"
        );
    }
    assert_eq!(value["pieces"].as_array().unwrap().len(), 4);
}

#[test]
fn json_splits_a_score_and_names_heads() {
    let folder = Folder::heads("cell", Family::Gpt2, Head::NextToken);
    let value = folder.json(&["--text", TEXT, "--layer", "1", "--head", "2", "--cell", "3,1"]);
    let (cell, number) = (&value["cell"], |value: &serde_json::Value| value.as_f64().unwrap());
    let parts = cell["parts"].as_array().unwrap();
    let sum: f64 = parts.iter().flat_map(|row| row.as_array().unwrap()).map(number).sum();
    assert!((sum - number(&value["scores"][1][2][3][1])).abs() < 1e-4, "{cell}");
    assert_eq!((&cell["sources"][2], &cell["sources"][7]), (&"head 0.0".into(), &"biases".into()));
    assert_eq!((parts.len(), &cell["query"], &cell["key"]), (8, &3.into(), &1.into()));
    let heads = value["heads"].as_array().unwrap();
    assert_eq!((heads.len(), &heads[6]["layer"], &heads[6]["head"]), (8, &1.into(), &2.into()));
    assert!(number(&heads[6]["spread_out"]) > 0.0);
    let page = folder.explain(&["--text", TEXT, "--layer", "1", "--head", "2", "--cell", "3,1"]);
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains("Why \"fox\" looks at \"quick\"") && page.contains("the other 52"), "{page}");
}

#[test]
fn unsupported_requests_are_refused() {
    let folder = Folder::heads("refused", Family::Gpt2, Head::NextToken);
    for (args, word) in [
        (&["--text", TEXT, "--layer", "2"][..], "0 to 1"),
        (&["--text", TEXT, "--head", "4"], "0 to 3"),
        (&["--text", TEXT, "--cell", "4,0"], "0 to 3"),
        (&["--text", TEXT, "--target", "jumps", "--teachers", "0"], "at least 1"),
        (&["--text", TEXT, "--target", "jumps", "--teachers", "2"], "config.toml"),
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
fn gradient_shares_sum_to_one_and_knockouts_are_computed() {
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
    // The logit lens of the last block is the model itself.
    let lens = value["lens"].as_array().unwrap();
    assert_eq!(lens.len(), 3);
    assert!(
        (lens[2]["probability"].as_f64().unwrap() - value["next"][0]["probability"].as_f64().unwrap()).abs()
            < 1e-6
    );
}

#[test]
fn a_classifier_is_explained_at_its_first_token_with_its_own_head() {
    let folder = Folder::heads("classify", Family::Bert, Head::Classify { n_labels: 3 });
    let value = folder.json(&["--text", TEXT, "--target", "LABEL_1", "--gradients"]);
    assert_eq!((&value["position"], value["next"].as_array().unwrap().len()), (&0.into(), 3));
    let knocked: Vec<u64> =
        value["knockouts"].as_array().unwrap().iter().map(|k| k["position"].as_u64().unwrap()).collect();
    assert_eq!(knocked, [1, 2, 3]);
    let roles = value["gradients"]["roles"].as_array().unwrap();
    let has = |name: &str| roles.iter().any(|role| role["name"] == name);
    assert!(has("Wout") && has("embeddings") && !has("embeddings, Wout too"), "{roles:?}");
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
    // Every map has its columns named, every row of maps its rows; a scale, and masked cells unlike those of weight 0.
    assert_eq!(grid.matches(">quick<").count(), 4 + 2);
    assert!(grid.contains(">masked<") && grid.matches("url(#masked)").count() == 8 + 1, "{grid}");
    assert!(grid.starts_with("<svg") && grid.ends_with("</svg>"));
}
