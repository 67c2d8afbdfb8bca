//! Adapters written by PEFT, compared with PEFT and torch: logits, merged logits, gradients, twenty steps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[macro_use]
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Tensor, Var};
use common::golden::{Tensors, difference, floats, input, logits, loss, real, rows};
use common::{device, json, name, tensors};
use serde_json::Value;
use vulpes_model::config::Head;
use vulpes_model::folder::{self, Extra, LoadOptions};
use vulpes_model::{PackedType, Parameters, Transformer};
use vulpes_ops::{AdamwStep, Gradients, adamw, backward, grad_norm};

/// An adapter's golden, its base model, and the batch that both were run on.
struct Case {
    what: String,
    adapter: PathBuf,
    base: PathBuf,
    golden: Value,
    batch: Tensors,
}

impl Case {
    fn of(adapter: &Path) -> Self {
        let golden = json(&adapter.join("golden.json"));
        let home = adapter.parent().unwrap();
        let base = golden["base"].as_str().unwrap();
        let places = [home.join("bases").join(base), home.with_file_name(base)];
        let base = places.iter().find(|place| place.is_dir()).unwrap().clone();
        let keys = ["input_ids", "attention_mask", "token_type_ids", "labels"];
        let batch = keys.iter().filter(|key| golden[**key].is_array());
        let batch = batch.map(|key| ((*key).to_owned(), whole_numbers(&golden[*key]))).collect();
        Self { what: name(adapter), adapter: adapter.to_path_buf(), base, golden, batch }
    }

    fn load(&self) -> Transformer {
        let options = LoadOptions { device: device(), ..LoadOptions::default() };
        let loaded = folder::load_adapted(&self.base, &self.adapter, &options);
        loaded.unwrap_or_else(|error| panic!("{}: {error}", self.what)).transformer
    }

    /// Logits of all rows, or of only the first, which is all that some goldens contain.
    fn off(&self, ours: &Tensor, theirs: &Tensor, model: &Transformer) -> f64 {
        let n = theirs.dims()[0];
        let all = rows(model, &self.batch);
        let real = &all[..all.len() / ours.dims()[0] * n];
        difference(&ours.narrow(0, 0, n).unwrap(), theirs, real)
    }

    /// The trainable parameters by name.
    fn trained(&self, model: &Transformer) -> Vec<(String, Var)> {
        let spec = model.adapter().unwrap();
        let all = model.parameters().iter().filter(|(name, _)| spec.trains(name));
        all.map(|(name, var)| (name.to_owned(), var.clone())).collect()
    }

    /// The tensors of the file written for a model like `model` with other values of its trainable parameters.
    fn written(&self, model: &Transformer, values: &BTreeMap<String, Tensor>) -> Tensors {
        let numbers = |(name, var): (&str, &Var)| match values.get(name) {
            Some(tensor) => (name.to_owned(), Var::from_tensor(tensor).unwrap()),
            None => (name.to_owned(), var.clone()),
        };
        let parameters = Parameters::from_map(model.parameters().iter().map(numbers).collect());
        let spec = model.adapter().unwrap().clone();
        let model = Transformer::adapted(model.config(), spec, parameters).unwrap();
        let out = tempfile::tempdir().unwrap();
        folder::save_adapter(out.path(), &model, "base", &Extra::default()).unwrap();
        tensors(&out.path().join("adapter_model.safetensors"))
    }
}

fn whole_numbers(lists: &Value) -> Tensor {
    let numbers =
        |list: &Value| list.as_array().unwrap().iter().map(|x| x.as_i64().unwrap()).collect::<Vec<_>>();
    match lists[0].is_array() {
        true => {
            let rows: Vec<Vec<i64>> = lists.as_array().unwrap().iter().map(numbers).collect();
            Tensor::new(rows, &device()).unwrap()
        }
        false => Tensor::new(numbers(lists), &device()).unwrap(),
    }
}

/// Our name of a tensor that others name differently.
fn as_ours(name: &str) -> String {
    let name = name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector");
    name.strip_suffix(".modules_to_save.weight").map_or(name.clone(), |path| format!("{path}.weight"))
}

fn logits_are_pefts_with_the_adapter_beside_and_merged(dirs: Vec<PathBuf>) {
    for case in dirs.iter().map(|dir| Case::of(dir)) {
        let (model, golden) = (case.load(), tensors(&case.adapter.join("golden.safetensors")));
        let input = input(&case.batch, false);
        let off = case.off(&logits(&model, &input), &golden["logits"], &model);
        assert!(off < 1e-4, "{}: logits differ by {off}", case.what);

        let options =
            LoadOptions { device: device(), adapter: Some(case.adapter.clone()), ..LoadOptions::default() };
        let merged = folder::load_with(&case.base, &options).unwrap().transformer;
        assert!(merged.adapter().is_none());
        let off = case.off(&logits(&merged, &input), &golden["logits_merged"], &model);
        assert!(off < 1e-4, "{}: merged logits differ by {off}", case.what);
        let n_trained: usize = case.trained(&model).iter().map(|(_, var)| var.elem_count()).sum();
        assert_eq!(n_trained as u64, case.golden["n_trainable"].as_u64().unwrap(), "{}", case.what);
    }
}

fn gradients_are_torchs_and_the_base_has_none(dirs: Vec<PathBuf>) {
    for case in dirs.iter().map(|dir| Case::of(dir)) {
        let model = case.load();
        let spec = model.adapter().unwrap().clone();
        let frozen = model.with_trainable(&|name| spec.trains(name)).unwrap();
        let mut gradients = Gradients::new(&case.trained(&model)).unwrap();
        let loss = loss(&frozen, &case.batch);
        let theirs = case.golden["loss_with_adapter_f64"].as_f64().unwrap();
        let off = (loss.to_scalar::<f32>().unwrap() as f64 - theirs).abs();
        assert!(off < 2e-5, "{}: the loss differs by {off}", case.what);
        let store = loss.backward().unwrap();
        let base = model.parameters().iter().filter(|(name, _)| !spec.trains(name));
        base.for_each(|(name, var)| {
            assert!(store.get(var).is_none(), "{}: {name} has a gradient", case.what)
        });
        backward(&loss, &mut gradients).unwrap();

        let ours: BTreeMap<String, Tensor> = gradients
            .iter()
            .map(|(name, gradient)| (name.to_owned(), gradient.unwrap_or_else(|| panic!("{name}")).clone()))
            .collect();
        let (ours, theirs) = (case.written(&model, &ours), tensors(&case.adapter.join("grads.safetensors")));
        assert_eq!(ours.len(), theirs.len(), "{}", case.what);
        for (name, theirs) in &theirs {
            let ours =
                ours.get(&as_ours(name)).unwrap_or_else(|| panic!("{}: nothing is called {name}", case.what));
            let off = difference(ours, theirs, &[1]);
            assert!(off < 5e-5, "{}: the gradient of {name} differs by {off}", case.what);
        }
    }
}

fn twenty_steps_are_torchs(dirs: Vec<PathBuf>) {
    for dir in &dirs {
        let case = Case::of(dir);
        let model = case.load();
        let spec = model.adapter().unwrap().clone();
        let frozen = model.with_trainable(&|name| spec.trains(name)).unwrap();
        let settings = &case.golden["adamw"];
        let number = |key: &str| settings[key].as_f64().unwrap();
        let trained = case.trained(&model);
        let zeros = |var: &Var| Var::from_tensor(&var.zeros_like().unwrap()).unwrap();
        let moments: Vec<(Var, Var)> = trained.iter().map(|(_, var)| (zeros(var), zeros(var))).collect();
        let decays: BTreeMap<String, bool> =
            model.specs().into_iter().map(|spec| (spec.name, spec.role.decays())).collect();
        let curve = settings["loss_curve_f64"].as_array().unwrap();
        assert_eq!(curve.len(), 21);
        for (step, theirs) in curve.iter().enumerate() {
            let loss = loss(&frozen, &case.batch);
            let off = (loss.to_scalar::<f32>().unwrap() as f64 - theirs.as_f64().unwrap()).abs();
            assert!(off < 5e-5, "{}: after {step} steps the loss differs by {off}", case.what);
            if step == 20 {
                break;
            }
            let mut gradients = Gradients::new(&trained).unwrap();
            backward(&loss, &mut gradients).unwrap();
            let grad_scale = f64::min(1.0, 1.0 / (grad_norm(&gradients).unwrap() + 1e-6));
            for ((name, var), (m, v)) in trained.iter().zip(&moments) {
                let update = AdamwStep {
                    lr: number("lr"),
                    beta1: settings["betas"][0].as_f64().unwrap(),
                    beta2: settings["betas"][1].as_f64().unwrap(),
                    eps: number("eps"),
                    weight_decay: if decays[name] { number("weight_decay") } else { 0.0 },
                    step: step as u64 + 1,
                    grad_scale,
                };
                adamw(var, m, v, gradients.get(name).unwrap(), &update).unwrap();
            }
        }
        let after: BTreeMap<String, Tensor> =
            trained.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        let (ours, theirs) =
            (case.written(&model, &after), tensors(&case.adapter.join("adapter_after_20.safetensors")));
        let bounds = &case.golden["peft_f32_vs_f64_max_abs"]["adapter_after_20"];
        for (name, theirs) in &theirs {
            // The gradient of a key's bias is noise, which Adam's steps make large.
            if name.ends_with("c_attn.base_layer.bias") {
                continue;
            }
            let allowed = 10.0 * bounds[name].as_f64().or(bounds.as_f64()).unwrap() + 1e-5;
            let off = difference(&ours[&as_ours(name)], theirs, &[1]);
            assert!(
                off < allowed,
                "{}: {name} differs by {off} after 20 steps, more than {allowed}",
                case.what
            );
        }
        // Their adapter after twenty steps yields their logits; ours differs by as much as its steps' rounding.
        let (again, golden) =
            (tempfile::tempdir().unwrap(), tensors(&case.adapter.join("golden.safetensors")));
        for (from, to) in [
            ("adapter_config.json", "adapter_config.json"),
            ("adapter_after_20.safetensors", "adapter_model.safetensors"),
        ] {
            std::fs::copy(case.adapter.join(from), again.path().join(to)).unwrap();
        }
        let model = Case { adapter: again.path().to_path_buf(), ..case }.load();
        let case = Case::of(dir);
        let off = case.off(&logits(&model, &input(&case.batch, false)), &golden["logits_after_20"], &model);
        assert!(off < 1e-4, "{}: logits after 20 steps differ by {off}", case.what);
    }
}

/// An adapter that was read is written as the same adapter, bit for bit.
fn an_adapter_round_trips(dirs: Vec<PathBuf>) {
    for case in dirs.iter().map(|dir| Case::of(dir)) {
        let model = case.load();
        let out = tempfile::tempdir().unwrap();
        folder::save_adapter(out.path(), &model, "base", &Extra::default()).unwrap();
        let options = LoadOptions { device: device(), ..LoadOptions::default() };
        let again = folder::load_adapted(&case.base, out.path(), &options);
        let again = again.unwrap_or_else(|error| panic!("{}: {error}", case.what)).transformer;
        assert_eq!(again.adapter(), model.adapter(), "{}", case.what);
        for ((name, one), (_, other)) in model.parameters().iter().zip(again.parameters().iter()) {
            assert_eq!(floats(one), floats(other), "{}: {name}", case.what);
        }
    }
}

tests_of_folders! {
    but_families
    logits_are_pefts_with_the_adapter_beside_and_merged(adapters);
    gradients_are_torchs_and_the_base_has_none(adapters);
    twenty_steps_are_torchs(adapters);
    an_adapter_round_trips(adapters);
}

/// A fresh adapter changes nothing, with or without a magnitude.
#[test]
fn a_fresh_adapter_does_not_change_the_logits() {
    use vulpes_model::adapter::{AdapterSection, Targets};
    for (base, token) in [("llama-tiny", true), ("gpt2-tiny", false)] {
        let dir = common::fixtures().join("lora/bases").join(base);
        let model = folder::load(&dir).unwrap().transformer;
        for dora in [false, true] {
            let mut targets = vec![Targets::ALL_LINEAR.to_owned()];
            targets.extend((token && !dora).then(|| "embedding.token".to_owned()));
            let section =
                AdapterSection { targets: Targets::Many(targets), dora, ..AdapterSection::default() };
            let spec = section.choose(model.config(), &[]).unwrap().spec;
            let adapted = folder::with_new_adapter(&model, spec, 7).unwrap();
            let ids = vulpes_model::Input::new(&[1, 5, 9, 2], 1, &device()).unwrap();
            let off = difference(&logits(&adapted, &ids), &logits(&model, &ids), &[1; 4]);
            assert!(off < if dora { 1e-4 } else { 1e-12 }, "{base}: {off}");
            assert!(matches!(model.config().head, Head::NextToken));
        }
    }
}

/// Merging and packing yields the same as packing the merged folder.
#[test]
fn packing_a_merged_model_equals_packing_its_folder() {
    let lora = common::fixtures().join("lora");
    let (base, adapter) = (lora.join("bases/llama-tiny"), lora.join("llama-patterns"));
    let merged = tempfile::tempdir().unwrap();
    let options = LoadOptions { adapter: Some(adapter.clone()), ..LoadOptions::default() };
    let whole = folder::load_with(&base, &options).unwrap().transformer;
    folder::save(merged.path(), &whole, &Extra::default()).unwrap();
    for to in [PackedType::Bf16, PackedType::Q8_0] {
        let bits = |loaded: folder::LoadedDecoder| -> Vec<u32> {
            let mut decoder = loaded.decoder.unwrap();
            let mut row = decoder.empty_row();
            decoder.read_prompt(&mut row, &[1, 5, 9, 2]).unwrap().iter().map(|x| x.to_bits()).collect()
        };
        let ours = bits(folder::load_decoder_merged(&base, &adapter, to, 2).unwrap());
        assert_eq!(ours, bits(folder::load_decoder(merged.path(), to, 1).unwrap()), "{to:?}");
        assert_ne!(ours, bits(folder::load_decoder(&base, to, 1).unwrap()), "{to:?}");
    }
}

#[test]
fn adapter_tensors_that_do_not_fit_the_base_model_are_named() {
    let lora = common::fixtures().join("lora");
    let error = |base: &str, adapter: &str| {
        let options = LoadOptions { adapter: Some(lora.join(adapter)), ..LoadOptions::default() };
        folder::load_with(&lora.join("bases").join(base), &options).unwrap_err().to_string()
    };
    let text = error("gpt2-tiny", "llama-patterns");
    assert!(
        text.contains("doesn't fit the model")
            && text.contains("unexpected: base_model.model.model.layers.0"),
        "{text}"
    );
    assert!(real(&Case::of(&lora.join("llama-patterns")).batch).iter().all(|real| *real == 1));
}
