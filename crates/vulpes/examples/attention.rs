//! Prints the attention weights of a head as a matrix.
//!
//! `cargo run --release -p vulpes --example attention FOLDER [TEXT]`

use vulpes::prelude::*;

fn main() -> vulpes::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or(Error::msg("which model folder?"))?;
    let text = args.next().unwrap_or("Ahoy".into());

    let generator = Generator::open(folder)?;
    let ids = generator.tokenizer().encode(&text)?;
    let input = Input::new(&ids, 1, &Device::Cpu)?;

    let mut recorder = Recorder::of(&[Site::AttentionWeights(0)]);
    generator.model().forward(&input, &mut Pass::probed(&mut recorder))?;
    let weights = recorder.get(Site::AttentionWeights(0)).ok_or(Error::msg("the model has no attention"))?;

    // [rows, heads, queries, keys]: the first row's first head.
    let head: Vec<Vec<f32>> = weights.get(0)?.get(0)?.to_vec2()?;
    for (id, row) in ids.iter().zip(head) {
        let token = generator.tokenizer().id_to_token(*id).unwrap_or_default();
        let row: Vec<String> = row.iter().map(|weight| format!("{weight:.2}")).collect();
        println!("{token:>8}  {}", row.join(" "));
    }
    Ok(())
}
