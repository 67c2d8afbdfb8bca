//! The memory of a training that asks for little.

use crate::support::{Place, peak_kb};

/// A model that is nearly all table, so that little else is in memory: 25.7 million parameters.
const TABLE: &str = r#"
[model]
family = "gpt2"
n_layer = 1
n_head = 1
d_model = 64
context_len = 16
vocab_size = 400000

[data]
train = "fox.txt"

[data.tokenizer]
kind = "char"

[optimizer]
state_dtype = "bfloat16"

[train]
steps = 3
batch_rows = 2
dtype = "bfloat16"
recompute = true
gradient_dtype = "bfloat16"
eval_every = 2
checkpoint_every = 2
"#;

/// Weights, both moment estimates and gradients take 10 bytes per parameter. In addition there are, one after another,
/// the table's gradient in float32 (4 bytes) with the logits, what an evaluation needs, and what a checkpoint needs:
/// none of them stays in memory for the next.
#[test]
#[cfg(target_os = "linux")]
fn gradients_in_bfloat16_keep_the_process_small() {
    let place = Place::new();
    place.write("fox.txt", "The quick brown fox jumps over the lazy dog. ".repeat(40));
    place.write("table.toml", TABLE);
    let most_kb = peak_kb(place.start(&["--config", "table.toml", "--out", "run", "--quiet"]));
    let by_parameters = 14 * 25_700_000 / 1024;
    assert!((by_parameters / 2..by_parameters + 150_000).contains(&most_kb), "{most_kb} kB");
}
