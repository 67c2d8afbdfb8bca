//! A custom model that mixes each vector with the mean of those before it. `--example custom [OUT]`, twice: it resumes.
use vulpes::{candle, model, ops, prelude::*};

struct Mine(Parameters);

impl Model for Mine {
    fn parameters(&self) -> &Parameters {
        &self.0
    }
    fn with_parameters(&self, parameters: Parameters) -> model::Result<Self> {
        Ok(Self(parameters))
    }
    fn predict(&self, input: &Input, _: &mut Pass) -> candle::Result<Tensor> {
        let x = ops::embedding(&input.ids, &self.0.tensor("token")?)?;
        let earlier = Tensor::tril2(x.dim(1)?, x.dtype(), x.device())?;
        let mean = earlier.broadcast_div(&earlier.sum_keepdim(1)?)?.broadcast_matmul(&x)?;
        let mixed = ops::linear(&Tensor::cat(&[&x, &mean], 2)?, &self.0.tensor("mix")?, None)?;
        ops::linear(&(x + ops::silu(&mixed)?)?, &self.0.tensor("head")?, None)
    }
}

fn main() -> vulpes::Result<()> {
    let out = std::env::args().nth(1).unwrap_or("runs/custom".into());
    let data = DataConfig::text("data/fox.txt").validation_fraction(0.0).open(16, 1)?;
    let tokenizer = data.tokenizer().cloned().ok_or(Error::msg("the corpus has no tokenizer"))?;
    let token = ParameterSpec::embedding("token", data.vocab_size(), 32);
    let mix = ParameterSpec::matrix("mix", 0, [32, 64]);
    let head = ParameterSpec::matrix("head", 0, [data.vocab_size(), 32]);
    let mine = Mine(Parameters::draw(&[token, mix, head], 1, DType::F32, &Device::Cpu)?);

    let options = TrainerOptions { optimizer: OptimizerConfig::adamw(1e-2), steps: 60, ..Default::default() };
    let mut trainer = Trainer::new(&mine, data, options)?;
    println!("resumed after step {:?}", checkpoint::resume(&mut trainer, &out)?);
    for step in trainer.by_ref().take(40) {
        println!("loss {:.3}", step?.loss.loss);
    }
    checkpoint::save(&trainer, &out)?;
    println!("the quick{}", Generator::new(trainer.model(), tokenizer)?.text("the quick")?);
    Ok(())
}
