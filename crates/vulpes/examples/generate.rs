//! Continues a text with any model folder (GPT-2's, a run's), streaming the output.
//!
//! `cargo run --release -p vulpes --example generate FOLDER [PROMPT]`

use std::io::Write;

use vulpes::prelude::*;

fn main() -> vulpes::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or(Error::msg("which model folder?"))?;
    let prompt = args.next().unwrap_or("Ahoy".into());

    let generator = Generator::open(folder)?.with_seed(7);
    print!("{prompt}");
    for text in generator.stream(&prompt)? {
        print!("{}", text?);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
