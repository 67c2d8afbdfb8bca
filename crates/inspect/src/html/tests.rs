//! The contents and the size of a page.

use vulpes_model::{Head, ModelSection, config::Family};

use super::*;
use crate::habits::HeadHabits;
use crate::origins::Source;
use crate::way::{Equation, Part};

/// The values of a layer in addition to its heads.
const LAYER: [&str; 11] =
    ["x", "norm(x)", "contexts", "attention", "y", "norm(y)", "up", "inner", "ff", "t", "z"];

#[test]
fn every_head_is_ordered_once_with_the_first_one_first() {
    let order = order(2, 3, (1, 2));
    assert_eq!(order[..3], [(1, 2), (0, 2), (0, 0)]);
    let mut all = order.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), order.len()), (6, 6));
}

#[test]
fn data_cannot_close_its_script_element() {
    let page = filled("<script><!--DATA--></script>", "", "t", &"</script><!--DATA-->").unwrap();
    assert_eq!(page.matches("</script>").count(), 1);
}

/// With causal and with full attention, and every part of the page as large as it gets.
#[test]
fn twelve_layers_of_twelve_heads_on_64_tokens_stay_below_3_mb() {
    for (family, head) in [(Family::Gpt2, Head::NextToken), (Family::Bert, Head::MaskedToken)] {
        let section = ModelSection { family: Some(family), ..ModelSection::default() };
        let (n, l, h, k, d) = (64, 12, 12, 64, 768);
        let grid = |rows: usize, columns: usize| vec![vec![vec![vec![0.123_456_79f32; columns]; rows]; h]; l];
        let line = NextToken {
            id: 50_000,
            text: "internationalisation".into(),
            probability: 1.0 / 3.0,
            logit: -123.456,
        };
        let mut config = section.resolve(50_257, head);
        (config.n_layer, config.n_head, config.n_kv_head, config.d_head) = (l, h, h, k);
        let causal = family == Family::Gpt2;
        let explanation = Explanation {
            model: config,
            tokens: vec!["internationalisation".into(); n],
            ids: vec![50_000; n],
            token_types: Vec::new(),
            position: n - 1,
            pieces: vec!["internationalisation".into(); n],
            word_starts: std::collections::BTreeSet::new(),
            formulas: Vec::new(),
            scale: 0.125,
            mask: Vec::new(),
            masks: vec![(0..n).map(|q| (0..n).map(|k| u8::from(k <= q || !causal)).collect()).collect()],
            kinds: vec![0; l],
            inputs: vec![vec![vec![0.123_456_79; d]; n]; l],
            scores: grid(n, n),
            attentions: grid(n, n),
            queries: grid(n, k),
            keys: grid(n, k),
            values: grid(n, k),
            contexts: grid(n, k),
            embedding: vec![0.0; 768],
            embedding_is: String::new(),
            logits: vec![vec![0.0; 10]; n],
            next: vec![line.clone(); 50],
        };
        let part = |names: &[&str]| Part {
            equations: names
                .iter()
                .map(|name| Equation {
                    name: (*name).into(),
                    formula: "(x − mean(x)) / √(var(x) + ε) × γ₁ + β₁".into(),
                    width: d,
                    values: vec![vec![0.123_456_79; 8]; n],
                })
                .collect(),
            parameters: BTreeMap::new(),
        };
        // All sources of the last layer, at all positions.
        let parts = |layer: usize, head: usize| Origins {
            layer,
            head,
            sources: (0..144).map(|at| Source::Head { layer: at / h, head: at % h }).collect(),
            places: (0..n).collect(),
            queries: vec![vec![vec![1.0 / 3.0; k]; n]; 144],
            keys: vec![vec![vec![1.0 / 3.0; k]; n]; 144],
            bias: None,
        };
        let lens = |after| LensLayer { after, next: vec![line.clone(); 5], probability: 1.0 / 3.0 };
        let flow = |i: usize| crate::gradients::Flow {
            name: format!("blocks.{i}.attention.query.weight"),
            norm: 1.0 / 3.0,
            share: 1.0 / 3.0,
        };
        let flows = |n: usize| (0..n).map(flow).collect::<Vec<_>>();
        let extras = Extras {
            lens: (0..13).map(|layer| lens(format!("block {layer}"))).collect(),
            knockouts: (0..63).map(|position| Knockout { position, change: -1.0 / 3.0 }).collect(),
            target: line.clone(),
            is_target_given: true,
            gradients: Some(GradientFlow {
                target: line.clone(),
                loss: 1.0 / 3.0,
                norm: 1.0 / 3.0,
                roles: flows(9),
                parts: flows(27),
                parameters: flows(200),
            }),
            way: Way {
                embedding: part(&["token", "position", "x"]),
                layers: vec![part(&LAYER); l],
                head: part(&["z", "hidden"]),
            },
            projection: Some(Projection {
                ids: (0..320).collect(),
                width: d,
                rows: vec![vec![0.1; 8]; 320],
                bias: None,
                is_tied: true,
            }),
            said: vec![
                Said { next: vec![line.clone(); 5], log_sum: -1.0 / 3.0, truth: Some(line.clone()) };
                n
            ],
            update: None,
            story: None,
            origins: vec![parts(11, 3), parts(10, 3)],
            habits: (0..l * h)
                .map(|at| NamedHead {
                    layer: at / h,
                    head: at % h,
                    name: None,
                    habits: HeadHabits::default(),
                })
                .collect(),
            taught: None,
            first: (11, 3),
            is_first_given: true,
            live: None,
        };
        let page = page(&explanation, &extras).unwrap();
        assert!(page.len() < 3_000_000, "{} bytes", page.len());
        // The selected head and one of each layer have their vectors.
        assert!((0..12).all(|layer| page.contains(&format!("\"{layer}.3\":"))), "{family:?}");
    }
}
