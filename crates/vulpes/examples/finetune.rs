//! Fine-tunes a model folder on another text, with its tokenizer, and saves it in the same format.
//!
//! `cargo run --release -p vulpes --example finetune FOLDER [TEXT] [OUT]`

use vulpes::prelude::*;

fn main() -> vulpes::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or(Error::msg("which model folder?"))?;
    let text = args.next().unwrap_or("data/sailor.txt".into());
    let out = args.next().unwrap_or("runs/finetuned-by-hand".into());

    let base = Generator::open(&folder)?;
    let context_len = base.model().config().context_len.min(128);
    let data = DataConfig::text(text).open_with(base.tokenizer(), context_len, 1)?;
    // The embeddings are frozen.
    let names = base.model().parameters().iter().map(|(name, _)| name.to_owned());
    let options = TrainerOptions {
        steps: 20,
        frozen: names.filter(|name| name.starts_with("embedding.")).collect(),
        optimizer: OptimizerConfig::adamw(1e-3),
        ..Default::default()
    };
    let mut trainer = Trainer::new(base.model(), data, options)?;
    println!("validation loss before {:.3}", trainer.evaluate()?.loss);
    for step in &mut trainer {
        step?;
    }
    println!("validation loss after  {:.3}", trainer.evaluate()?.loss);
    Generator::new(trainer.model(), base.tokenizer().clone())?.with_config(base.config).save(&out)?;
    println!("saved in {out}");
    Ok(())
}
