//! Trains a four-layer Llama on a text file with AdamW and a cosine schedule, then evaluates, saves and samples it.
//!
//! `cargo run --release -p vulpes --example train [TEXT] [OUT]`

use vulpes::prelude::*;

fn main() -> vulpes::Result<()> {
    let mut args = std::env::args().skip(1);
    let text = args.next().unwrap_or("data/sailor.txt".into());
    let out = args.next().unwrap_or("runs/sailor-by-hand".into());

    let data = DataConfig::text(text).tokenized_by(TokenizerKind::Char).open(64, 1)?;
    let tokenizer = data.tokenizer().cloned().ok_or(Error::msg("the corpus has no tokenizer"))?;
    let model = ModelSection::of(Family::Llama)
        .n_layer(4)
        .n_head(4)
        .d_model(64)
        .context_len(64)
        .init(data.vocab_size(), 42)?;

    let options = TrainerOptions {
        steps: 100,
        batch_rows: 8,
        optimizer: OptimizerConfig::adamw(3e-3),
        schedule: ScheduleConfig::cosine(10),
        ..Default::default()
    };
    let mut trainer = Trainer::new(&model, data, options)?;
    for step in &mut trainer {
        let step = step?;
        println!("loss {:.3}  learning rate {:.1e}", step.loss.loss, step.lr);
    }
    println!("validation loss {:.3}", trainer.evaluate()?.loss);

    let generator = Generator::new(trainer.model(), tokenizer)?;
    generator.save(&out)?;
    println!("Ahoy{}\nsaved in {out}", generator.text("Ahoy")?);
    Ok(())
}
