//! The memory of a training that asks for little.

use crate::support::{Place, peak_kb};

/// The config of a training that takes little memory, with these lines for the model and for the training.
fn config(model: &str, train: &str) -> String {
    format!(
        r#"
[model]
family = "gpt2"
{model}

[data]
train = "fox.txt"

[data.tokenizer]
kind = "char"

[optimizer]
state_dtype = "bfloat16"

[train]
threads = 2
dtype = "bfloat16"
recompute = true
gradient_dtype = "bfloat16"
{train}
"#
    )
}

/// Weights, both moment estimates and gradients take 10 bytes per parameter. In addition there are, one after another,
/// the table's gradient in float32 (4 bytes) with the logits, what an evaluation needs, and what a checkpoint needs:
/// none of them stays in memory for the next.
#[test]
#[cfg(target_os = "linux")]
fn gradients_in_bfloat16_keep_the_process_small() {
    let place = Place::new();
    place.write("fox.txt", "The quick brown fox jumps over the lazy dog. ".repeat(40));
    // Nearly all table, so that little else is in memory: 25.7 million parameters.
    let model = "n_layer = 1\nn_head = 1\nd_model = 64\ncontext_len = 16\nvocab_size = 400000";
    let train = "steps = 3\nbatch_rows = 2\neval_every = 2\ncheckpoint_every = 2";
    place.write("table.toml", config(model, train));
    let most_kb = peak_kb(place.start(&["--config", "table.toml", "--out", "run", "--quiet"]));
    let by_parameters = 14 * 25_700_000 / 1024;
    assert!((by_parameters / 2..by_parameters + 75_000).contains(&most_kb), "{most_kb} kB");
}

/// What a block adds to the memory of a recomputed step: its parameters, and its input, once.
#[test]
#[cfg(target_os = "linux")]
fn a_recomputed_block_keeps_its_input_alone() {
    let place = Place::new();
    place.write("fox.txt", "The quick brown fox jumps over the lazy dog. ".repeat(400));
    let [few_kb, many_kb] = [8, 28].map(|n_layer| {
        // Activations larger than weights, in a single shard.
        let model = format!("n_layer = {n_layer}\nn_head = 2\nd_model = 64\ncontext_len = 256");
        place.write("deep.toml", config(&model, "steps = 2\nbatch_rows = 32\nshards = 1"));
        let args = ["--config", "deep.toml", "--out", "run", "--overwrite", "--quiet"];
        peak_kb(place.start(&args))
    });
    let input_kb = 4 * 32 * 256 * 64 / 1024;
    let parameters_kb = 10 * 12 * 64 * 64 / 1024;
    let block_kb = (many_kb - few_kb) / 20;
    assert!((input_kb..parameters_kb + input_kb * 3 / 2).contains(&block_kb), "{block_kb} kB");
}
