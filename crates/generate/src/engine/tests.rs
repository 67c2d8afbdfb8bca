//! The decoder and the padded batch, compared with a complete pass for every token.

use candle_core::Device;
use vulpes_model::config::{BlockKind, Family, FeedForwardKind, LayerOverride, Positions, QkNorm};
use vulpes_model::{Head, ModelSection};

use super::*;

fn models() -> Vec<Transformer> {
    let small = |family| ModelSection {
        family: Some(family),
        n_layer: Some(2),
        n_head: Some(4),
        d_model: Some(24),
        context_len: Some(12),
        ..ModelSection::default()
    };
    let fox = ModelSection { family: Some(Family::Fox), context_len: Some(12), ..ModelSection::default() };
    let grouped = ModelSection { n_kv_head: Some(2), ..small(Family::Llama) };
    let windowed = ModelSection { window: Some(3), ..small(Family::Llama) };
    let squared = ModelSection {
        feed_forward: Some(FeedForwardKind::Relu2),
        positions: Some(Positions::Rotary),
        ..small(Family::Gpt2)
    };
    let windowed_gpt2 = ModelSection { window: Some(4), ..small(Family::Gpt2) };
    let windowed_fox = ModelSection { window: Some(2), ..fox.clone() };
    let one_group = ModelSection { n_kv_head: Some(1), window: Some(1), ..small(Family::Llama) };
    let unscaled = ModelSection { attention_scale: Some(1.0), ..small(Family::Gpt2) };
    let post = ModelSection { block: Some(BlockKind::Post), ..small(Family::Gpt2) };
    let exact = ModelSection { feed_forward: Some(FeedForwardKind::GeluErf), ..small(Family::Gpt2) };
    // A narrow window with its own RoPE angles, then a layer without positions, then one with the config's settings.
    let layers = vec![
        LayerOverride { window: Some(3), rope_theta: Some(50.0), ..LayerOverride::default() },
        LayerOverride { positions: Some(Positions::None), ..LayerOverride::default() },
        LayerOverride::default(),
    ];
    let mixed = ModelSection { n_layer: Some(4), layers: Some(layers), ..small(Family::Llama) };
    let sections = [
        fox,
        small(Family::Gpt2),
        grouped,
        windowed,
        squared,
        windowed_gpt2,
        windowed_fox,
        one_group,
        unscaled,
        post,
        exact,
        mixed,
        ModelSection { n_kv_head: Some(2), ..small(Family::Qwen2) },
        ModelSection { n_kv_head: Some(1), d_head: Some(10), ..small(Family::Qwen3) },
        ModelSection { n_kv_head: Some(2), ..small(Family::Olmo2) },
        ModelSection { n_layer: Some(4), ..small(Family::Smollm3) },
        ModelSection {
            residual_multiplier: Some(0.4),
            embedding_scale: Some(3.0),
            logit_divisor: Some(1.7),
            ..small(Family::Granite)
        },
        ModelSection { rotary_fraction: Some(0.4), ..small(Family::GptNeox) },
        ModelSection { qk_norm: Some(QkNorm::Head), ..small(Family::Phi) },
        ModelSection {
            n_layer: Some(3),
            layers: Some(vec![
                LayerOverride { window: Some(3), rope_theta: Some(50.0), ..LayerOverride::default() },
                LayerOverride::default(),
            ]),
            logit_softcap: Some(2.0),
            ..small(Family::Gemma3)
        },
    ];
    let model = |section: &ModelSection| {
        // Larger initial weights than usual, so that attention is far from uniform.
        let config = ModelSection { init_std: Some(0.3), ..section.clone() }.resolve(17, Head::NextToken);
        Transformer::init(&config, 5, DType::F32, &Device::Cpu).unwrap().without_gradients().unwrap()
    };
    sections.iter().map(model).collect()
}

/// The logits after `ids`, in one pass.
fn uncached(model: &Transformer, ids: &[u32]) -> Vec<f32> {
    let input = Input::new(ids, 1, &Device::Cpu).unwrap();
    let hidden = model.forward(&input, &mut Pass::inference()).unwrap();
    let logits = model.logits(&hidden, &mut Pass::inference()).unwrap().squeeze(0).unwrap();
    to_rows(&logits).unwrap().pop().unwrap()
}

fn assert_close(ours: &[f32], exact: &[f32], what: &str) {
    assert_eq!(ours.len(), exact.len());
    for (ours, exact) in ours.iter().zip(exact) {
        assert!((ours - exact).abs() < 1e-5 * (1.0 + exact.abs()), "{what}: {ours} and {exact}");
    }
}

#[test]
fn cache_does_not_change_prompts_of_different_lengths() {
    let prompts: [&[u32]; 3] = [&[1, 2, 3, 4, 5], &[6], &[7, 8, 9]];
    for (m, model) in models().iter().enumerate() {
        for with_decoder in [true, false] {
            let decoder = if with_decoder { Decoder::new(model, 2).unwrap() } else { None };
            assert_eq!(decoder.is_some(), with_decoder);
            let mut engine = Engine::with_decoder(model, &prompts, decoder).unwrap();
            let mut texts: Vec<Vec<u32>> = prompts.iter().map(|prompt| prompt.to_vec()).collect();
            for step in 0..7u32 {
                for (row, text) in texts.iter().enumerate() {
                    let what = format!("model {m}, decoder {with_decoder}, step {step}, row {row}");
                    assert_close(engine.logits(row), &uncached(model, text), &what);
                }
                let next: Vec<u32> = (0..3).map(|row| (step * 5 + row * 3) % 17).collect();
                texts.iter_mut().zip(&next).for_each(|(text, id)| text.push(*id));
                engine.push(&next.iter().map(|id| Some(*id)).collect::<Vec<_>>(), None).unwrap();
            }
        }
    }
}

#[test]
fn a_finished_row_does_not_change_the_others() {
    for model in &models() {
        for with_decoder in [true, false] {
            let decoder = if with_decoder { Decoder::new(model, 1).unwrap() } else { None };
            let mut engine = Engine::with_decoder(model, &[&[1, 2], &[3]], decoder).unwrap();
            engine.push(&[None, Some(4)], None).unwrap();
            engine.push(&[None, Some(5)], None).unwrap();
            assert_close(engine.logits(1), &uncached(model, &[3, 4, 5]), "after a row has finished");
        }
    }
}

#[test]
fn a_full_context_slides_to_its_newer_half() {
    for model in &models() {
        for with_decoder in [true, false] {
            let decoder = if with_decoder { Decoder::new(model, 3).unwrap() } else { None };
            let prompt: Vec<u32> = (0..14).map(|i| i % 17).collect();
            let mut engine = Engine::with_decoder(model, &[&prompt], decoder).unwrap();
            assert_eq!(engine.n_truncated(0), 2);
            assert_close(engine.logits(0), &uncached(model, &prompt[2..]), "the prompt's end");
            engine.push(&[Some(9)], None).unwrap();
            // Of the 15 tokens the last 6 stay: half of the context.
            assert_eq!(engine.n_truncated(0), 9);
            assert_close(engine.logits(0), &uncached(model, &[9, 10, 11, 12, 13, 9]), "the newer half");
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    for model in &models() {
        let logits = |threads| {
            let decoder = Decoder::new(model, threads).unwrap();
            let mut engine = Engine::with_decoder(model, &[&[1, 2, 3]], decoder).unwrap();
            engine.push(&[Some(4)], None).unwrap();
            engine.logits(0).iter().map(|logit| logit.to_bits()).collect::<Vec<_>>()
        };
        let one = logits(1);
        assert!([2, 3, 7].iter().all(|&threads| logits(threads) == one));
    }
}
