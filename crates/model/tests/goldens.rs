//! Models of every family compared with transformers and torch: logits, hidden states, attention weights, gradients, a
//! loss curve, greedy continuations, padding on both sides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor, Var};
use common::golden::{Tensors, difference, floats, input, logits, loss, real, rows};
use common::{copy, device, json, name, tensors};
use vulpes_model::folder::{self, LoadOptions};
use vulpes_model::{Input, KvCache, Parameters, Pass, Recorder, Site, Transformer};
use vulpes_ops::{AdamwStep, Gradients, adamw, backward, grad_norm};

fn load(dir: &Path) -> Transformer {
    let options = LoadOptions { device: device(), ..LoadOptions::default() };
    folder::load_with(dir, &options).unwrap_or_else(|error| panic!("{}: {error}", dir.display())).transformer
}

fn logits_hidden_states_and_attention_match_transformers(dirs: Vec<PathBuf>) {
    for dir in dirs {
        let (model, golden) = (load(&dir), tensors(&dir.join("golden.safetensors")));
        let (real, what) = (real(&golden), name(&dir));
        let mut recorder = Recorder::everything();
        let mut pass = Pass::probed(&mut recorder);
        let input = input(&golden, false);
        let hidden = model.forward(&input, &mut pass).unwrap();
        let ours = model.logits(&model.read_by_head(&hidden, &input).unwrap(), &mut pass).unwrap();
        let off = difference(&ours, &golden["logits"], &rows(&model, &golden));
        assert!(off < 1e-4, "{what}: logits differ by {off}");

        let n_layer = model.config().n_layer;
        let after_norm = model.config().block.has_final_norm();
        for layer in 0..=n_layer {
            let site = match layer {
                0 => Site::Embedding,
                last if last == n_layer && after_norm => Site::Hidden,
                layer => Site::Block(layer - 1),
            };
            let theirs = &golden[&format!("hidden_states.{layer}")];
            let off = difference(recorder.get(site).unwrap(), theirs, &real);
            assert!(off < 1e-4, "{what}: hidden state {layer} differs by {off}");
        }
        for layer in 0..n_layer {
            // [b, h, t, s] to [b, t, h, s]: queries at real positions are compared.
            let by_query = |weights: &Tensor| weights.transpose(1, 2).unwrap().contiguous().unwrap();
            let ours = by_query(recorder.get(Site::AttentionWeights(layer)).unwrap());
            // (The folder with the longest rows omits them.)
            let Some(theirs) = golden.get(&format!("attentions.{layer}")) else { continue };
            let off = difference(&ours, &by_query(theirs), &real);
            assert!(off < 2e-5, "{what}: attention of layer {layer} differs by {off}");
        }
        // Probing does not change a bit of the result.
        let off = difference(&logits(&model, &input), &ours, &rows(&model, &golden));
        assert_eq!(off, 0.0, "{what}: probing changed the logits by {off}");
    }
}

fn loss_and_every_gradient_match_torch(dirs: Vec<PathBuf>) {
    for dir in dirs {
        let (model, golden, what) = (load(&dir), tensors(&dir.join("golden.safetensors")), name(&dir));
        let parameters: Vec<(String, Var)> =
            model.parameters().iter().map(|(name, var)| (name.to_string(), var.clone())).collect();
        let mut gradients = Gradients::new(&parameters).unwrap();
        let loss = loss(&model, &golden);
        let theirs = json(&dir.join("golden.json"))["loss_f64"].as_f64().unwrap();
        let off = (loss.to_scalar::<f32>().unwrap() as f64 - theirs).abs();
        assert!(off < 2e-5, "{what}: the loss differs by {off}");
        backward(&loss, &mut gradients).unwrap();

        // Saved like parameters, the gradients get transformers' names and layout.
        let as_parameters: BTreeMap<String, Var> = parameters
            .iter()
            .map(|(name, var)| {
                let gradient = gradients.get(name).cloned().unwrap_or_else(|| var.zeros_like().unwrap());
                (name.clone(), Var::from_tensor(&gradient).unwrap())
            })
            .collect();
        let out = tempfile::tempdir().unwrap();
        let renamed =
            Transformer::from_parameters(model.config(), Parameters::from_map(as_parameters)).unwrap();
        folder::save(out.path(), &renamed, &folder::Extra::default()).unwrap();
        let (ours, theirs) =
            (tensors(&out.path().join("model.safetensors")), tensors(&dir.join("grads.safetensors")));
        let norm = json(&dir.join("golden.json"))["grad_norm_f64"].as_f64().unwrap_or(1.0);
        assert_eq!(ours.len(), theirs.len(), "{what}");
        for (tensor, theirs) in &theirs {
            let largest = floats(theirs).into_iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
            let ours = ours.get(tensor).unwrap_or_else(|| panic!("{what}: nothing is called {tensor}"));
            let off = difference(ours, theirs, &[1]);
            let allowed = f64::max(2e-5 * f64::max(1.0, norm), 1e-4 * largest);
            assert!(off < allowed, "{what}: the gradient of {tensor} differs by {off} (largest {largest})");
        }
    }
}

fn twenty_steps_of_adamw_match_torch_losses(dirs: Vec<PathBuf>) {
    for dir in dirs {
        let (model, golden, what) = (load(&dir), tensors(&dir.join("golden.safetensors")), name(&dir));
        let settings = json(&dir.join("golden.json"))["adamw"].clone();
        let theirs: Vec<f64> =
            settings["loss_curve_f64"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let parameters: Vec<(String, Var)> =
            model.parameters().iter().map(|(name, var)| (name.to_string(), var.clone())).collect();
        let zeros = |var: &Var| Var::from_tensor(&var.zeros_like().unwrap()).unwrap();
        let moments: Vec<(Var, Var)> = parameters.iter().map(|(_, var)| (zeros(var), zeros(var))).collect();
        for (step, theirs) in theirs.iter().enumerate() {
            let loss = loss(&model, &golden);
            let off = (loss.to_scalar::<f32>().unwrap() as f64 - theirs).abs();
            assert!(off < 5e-5, "{what}: after {step} steps the loss differs by {off}");
            let mut gradients = Gradients::new(&parameters).unwrap();
            backward(&loss, &mut gradients).unwrap();
            let grad_scale = f64::min(1.0, 1.0 / (grad_norm(&gradients).unwrap() + 1e-6));
            for ((name, var), (m, v)) in parameters.iter().zip(&moments) {
                let number = |key: &str| settings[key].as_f64().unwrap();
                let update = AdamwStep {
                    lr: number("lr"),
                    beta1: settings["betas"][0].as_f64().unwrap(),
                    beta2: settings["betas"][1].as_f64().unwrap(),
                    eps: number("eps"),
                    weight_decay: if var.rank() >= 2 { number("weight_decay") } else { 0.0 },
                    step: step as u64 + 1,
                    grad_scale,
                };
                let gradient =
                    gradients.get(name).unwrap_or_else(|| panic!("{what}: {name} has no gradient"));
                adamw(var, m, v, gradient, &update).unwrap();
            }
        }
    }
}

/// The most likely next token of every row, from its last position.
fn next(model: &Transformer, input: &Input, cache: Option<&mut KvCache>) -> Vec<u32> {
    let pass = &mut Pass { cache, ..Pass::inference() };
    let hidden = model.forward(input, pass).unwrap();
    let last = hidden.narrow(1, hidden.dim(1).unwrap() - 1, 1).unwrap();
    model.logits(&last, pass).unwrap().squeeze(1).unwrap().argmax(1).unwrap().to_vec1().unwrap()
}

fn greedy_continuations_are_exact_with_and_without_a_cache(dirs: Vec<PathBuf>) {
    for dir in dirs {
        let (model, what) = (load(&dir).without_gradients().unwrap(), name(&dir));
        for case in json(&dir.join("golden.json"))["greedy"].as_array().unwrap() {
            let ids = |key: &str| -> Vec<u32> {
                case[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
            };
            let (prompt, new) = (ids("prompt"), ids("new_tokens"));
            let mut row = prompt.clone();
            // A windowed layer holds no more than its window.
            let mut cache = KvCache::of(model.config());
            let mut unread = prompt;
            for wanted in &new {
                let whole = next(&model, &Input::new(&row, 1, &device()).unwrap(), None)[0];
                let part = Input::new(&unread, 1, &device()).unwrap();
                let cached = next(&model, &part, Some(&mut cache))[0];
                assert_eq!((whole, cached), (*wanted, *wanted), "{what} after {} tokens", row.len());
                row.push(whole);
                unread = vec![whole];
            }
        }
    }
}

fn left_padding_does_not_change_logits_or_greedy_texts(dirs: Vec<PathBuf>) {
    for dir in dirs {
        let (model, what) = (load(&dir).without_gradients().unwrap(), name(&dir));
        let golden = tensors(&dir.join("golden_leftpad.safetensors"));
        let off = difference(&logits(&model, &input(&golden, true)), &golden["logits"], &real(&golden));
        assert!(off < 1e-4, "{what}: logits differ by {off}");

        // Batched greedy generation from prompts of different lengths, with a cache.
        let of = |name: &str| golden[&format!("gen_{name}")].to_dtype(DType::U32).unwrap();
        let new: Vec<Vec<u32>> = of("new_tokens").to_vec2().unwrap();
        let mut padding_mask: Vec<Vec<u32>> = of("attention_mask").to_vec2().unwrap();
        let rows = padding_mask.len();
        let flat = |padding_mask: &[Vec<u32>]| -> Vec<u8> {
            padding_mask.iter().flatten().map(|&real| real as u8).collect()
        };
        let places: Vec<u32> = padding_mask
            .iter()
            .flat_map(|row| {
                row.iter().scan(0, |seen, real| {
                    Some({
                        *seen += real;
                        u32::saturating_sub(*seen, 1)
                    })
                })
            })
            .collect();
        let mut lengths: Vec<u32> = padding_mask.iter().map(|row| row.iter().sum()).collect();
        let ids: Vec<u32> = of("input_ids").flatten_all().unwrap().to_vec1().unwrap();
        let mut input = Input::new(&ids, rows, &device()).unwrap().with_positions(&places).unwrap();
        input = input.with_padding_mask(flat(&padding_mask).into());
        let mut cache = KvCache::new(model.config().n_layer);
        for step in 0..new[0].len() {
            let tokens = next(&model, &input, Some(&mut cache));
            let wanted: Vec<u32> = new.iter().map(|row| row[step]).collect();
            assert_eq!(tokens, wanted, "{what}: token {step}");
            input = Input::new(&tokens, rows, &device()).unwrap().with_positions(&lengths).unwrap();
            padding_mask.iter_mut().for_each(|row| row.push(1));
            lengths.iter_mut().for_each(|length| *length += 1);
            input = input.with_padding_mask(flat(&padding_mask).into());
        }
    }
}

/// The configs that transformers 4 and 5 write for a model are read as the same model.
fn both_spellings_of_a_config_are_the_same_model(dirs: Vec<PathBuf>) {
    for dir in dirs {
        let (what, out) = (name(&dir), tempfile::tempdir().unwrap());
        copy(&dir, out.path());
        std::fs::copy(dir.join("config.v4.json"), out.path().join("config.json")).unwrap();
        let (new, old) = (folder::load(&dir).unwrap(), folder::load(out.path()).unwrap());
        assert_eq!(old.config, new.config, "{what}");
        assert_eq!(old.extra, new.extra, "{what}");
    }
}

fn every_file_variant_gives_the_expected_outputs(dirs: Vec<PathBuf>) {
    for dir in dirs {
        let (model, what) = (load(&dir), name(&dir));
        let expect = json(&dir.join("expect.json"));
        let golden = tensors(&dir.join(expect["base"].as_str().unwrap()).join("golden.safetensors"));
        let own = dir.join("expect.safetensors");
        let own = if own.is_file() { tensors(&own) } else { Tensors::new() };
        if let Some(pooled) = own.get("pooler_output") {
            let hidden = model.forward(&input(&golden, false), &mut Pass::inference()).unwrap();
            let last = &golden[&format!("hidden_states.{}", model.config().n_layer)];
            let off = difference(&hidden, last, &real(&golden));
            assert!(off < 1e-4, "{what}: hidden states differ by {off}");
            let ours = model.pooled(&hidden).unwrap().expect("the folder has a pooler");
            let off = difference(&ours, pooled, &vec![1; pooled.dims()[0]]);
            assert!(off < 1e-4, "{what}: the pooler's output differs by {off}");
            continue;
        }
        let own = own.get("logits").or(own.get("logits_float32_compute"));
        assert_eq!(own.is_none(), expect["same_outputs_as_base"].as_bool().unwrap(), "{what}");
        let theirs = own.unwrap_or(&golden["logits"]);
        let off = difference(&logits(&model, &input(&golden, false)), theirs, &rows(&model, &golden));
        assert!(off < 1e-4, "{what}: logits differ by {off}");
    }
}

tests_of_folders! {
    logits_hidden_states_and_attention_match_transformers(goldens);
    loss_and_every_gradient_match_torch(goldens);
    twenty_steps_of_adamw_match_torch_losses(goldens);
    greedy_continuations_are_exact_with_and_without_a_cache(causal);
    left_padding_does_not_change_logits_or_greedy_texts(causal);
    both_spellings_of_a_config_are_the_same_model(spelled_twice);
}

mod file_variants {
    use super::*;

    tests_of_folders! {
        but_families
        every_file_variant_gives_the_expected_outputs(variants);
    }
}
