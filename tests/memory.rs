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
threads = 2
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
    assert!((by_parameters / 2..by_parameters + 75_000).contains(&most_kb), "{most_kb} kB");
}

/// A model of `n_layer` blocks, whose activations are larger than its weights.
fn deep(n_layer: usize) -> String {
    format!(
        r#"
[model]
family = "gpt2"
n_layer = {n_layer}
n_head = 2
d_model = 64
context_len = 256

[data]
train = "fox.txt"

[data.tokenizer]
kind = "char"

[optimizer]
state_dtype = "bfloat16"

[train]
steps = 2
threads = 2
batch_rows = 32
shards = 1
dtype = "bfloat16"
recompute = true
gradient_dtype = "bfloat16"
"#
    )
}

/// What a block adds to the memory of a recomputed step: its parameters, and its input, once.
#[test]
#[cfg(target_os = "linux")]
fn a_recomputed_block_keeps_its_input_alone() {
    let place = Place::new();
    place.write("fox.txt", "The quick brown fox jumps over the lazy dog. ".repeat(400));
    let [few_kb, many_kb] = [8, 28].map(|n_layer| {
        place.write("deep.toml", deep(n_layer));
        let args = ["--config", "deep.toml", "--out", "run", "--overwrite", "--quiet"];
        peak_kb(place.start(&args))
    });
    let input_kb = 4 * 32 * 256 * 64 / 1024;
    let parameters_kb = 10 * 12 * 64 * 64 / 1024;
    let block_kb = (many_kb - few_kb) / 20;
    assert!((input_kb..parameters_kb + input_kb * 3 / 2).contains(&block_kb), "{block_kb} kB");
}
