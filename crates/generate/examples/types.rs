//! What weight types cost: the perplexity of a text in each, and agreement with float32's top token.
//!
//! `cargo run --release -p vulpes-generate --example types -- FOLDER TEXT`; without a text, one that the model
//! samples at temperature 1 is used.

use std::path::Path;

use vulpes_data::Tokenizer;
use vulpes_generate::{Request, SampleConfig, generate};
use vulpes_model::{Decoder, Feed, PackedType, Wanted, folder};

/// The maximum number of tokens evaluated.
const MOST: usize = 4_000;

/// The most likely token after each token of each piece, and the sum of −log p of the actual next tokens.
fn judge(decoder: &mut Decoder<'_>, pieces: &[Vec<u32>]) -> candle_core::Result<(Vec<u32>, f64)> {
    let n_vocab = decoder.config().vocab_size;
    let (mut best, mut sum) = (Vec::new(), 0.0);
    for piece in pieces {
        let mut row = decoder.empty_row();
        let ids = &piece[..piece.len() - 1];
        let logits = decoder.read(&mut [Feed { row: &mut row, ids, wanted: Wanted::All }])?;
        for (logits, &next) in logits.chunks_exact(n_vocab).zip(&piece[1..]) {
            let top = (0..n_vocab).fold(0, |a, b| if logits[b] > logits[a] { b } else { a });
            let most = f64::from(logits[top]);
            let all: f64 = logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
            sum += all.ln() + most - f64::from(logits[next as usize]);
            best.push(top as u32);
        }
    }
    Ok((best, sum))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(dir) = args.first().map(Path::new) else {
        return Err("usage: types FOLDER [TEXT]".into());
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let tokenizer = Tokenizer::from_folder(dir)?;
    let model = folder::load(dir)?.transformer.without_gradients()?;
    let context = model.config().context_len;
    let pieces: Vec<Vec<u32>> = match args.get(1) {
        Some(text) => {
            let ids = tokenizer.encode(&std::fs::read_to_string(text)?)?;
            ids[..ids.len().min(MOST)]
                .chunks(context)
                .filter(|piece| piece.len() > 1)
                .map(<[u32]>::to_vec)
                .collect()
        }
        None => {
            let start = tokenizer.start_id().ok_or("the tokenizer has no token that opens a text")?;
            let config = SampleConfig {
                n: context as i64 - 1,
                temp: 1.0,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
                ..SampleConfig::default()
            };
            let request = Request {
                prompts: vec![vec![start]; MOST / context + 1],
                config,
                seed: 1,
                first: 0,
                end_ids: Vec::new(),
                trace: false,
                lookup: false,
            };
            let samples = generate(&model, &tokenizer, &request, &mut |_, _| true)?;
            let ids = |sample: vulpes_generate::Sample| {
                std::iter::once(start).chain(sample.tokens.iter().map(|choice| choice.id)).collect()
            };
            samples.into_iter().map(ids).collect()
        }
    };
    let n: usize = pieces.iter().map(|piece| piece.len() - 1).sum();
    println!("| type | perplexity | ÷ float32's | same top token, of 1,000 |\n|---|--:|--:|--:|");
    let mut float = Decoder::new(&model, threads)?.ok_or("this model has no decoder")?;
    let (right, sum) = judge(&mut float, &pieces)?;
    let base = (sum / n as f64).exp();
    println!("| f32 | {base:.4} | 1 | 1,000 |");
    for (name, to) in [("bf16", PackedType::Bf16), ("q8_0", PackedType::Q8_0), ("q4_0", PackedType::Q4_0)] {
        let mut decoder =
            folder::load_decoder(dir, to, threads)?.decoder.ok_or("this model has no decoder")?;
        let (best, sum) = judge(&mut decoder, &pieces)?;
        let perplexity = (sum / n as f64).exp();
        let same = best.iter().zip(&right).filter(|(a, b)| a == b).count();
        println!(
            "| {name} | {perplexity:.4} | {:.4} | {:.0} |",
            perplexity / base,
            same as f64 / n as f64 * 1e3
        );
    }
    println!("\n{n} tokens in {} pieces", pieces.len());
    Ok(())
}
