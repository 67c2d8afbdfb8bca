//! Custom programs compute what `train` computes, and resume bit for bit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use vulpes::candle::Result as CandleResult;
use vulpes::prelude::*;
use vulpes::runs::config::RunConfig;
use vulpes::runs::{Plan, PlanOptions, Session};
use vulpes::{data, model, ops};

/// Rows of 16 characters of the sailor's text, shuffled by `seed`.
fn sailor(seed: u64) -> Dataset {
    DataConfig::text("data/sailor.txt").tokenized_by(TokenizerKind::Char).open(16, seed).unwrap()
}

fn drawn(specs: &[ParameterSpec]) -> Parameters {
    Parameters::draw(specs, 1, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn a_trainer_has_the_losses_of_the_train_program() {
    let text = "
        [model]
        family = 'llama'
        n_layer = 2
        n_head = 2
        d_model = 16
        context_len = 16
        dropout = 0.1
        [data]
        train = 'data/sailor.txt'
        validation_fraction = 0.1
        tokenizer = { kind = 'char' }
        [optimizer]
        lr = 3e-3
        [schedule]
        kind = 'cosine'
        warmup_steps = 3
        [train]
        steps = 12
        batch_rows = 6
        accumulate = 2
        shards = 3
        seed = 5
    ";
    let config = RunConfig::parse("inline", text, &[]).unwrap();
    let plan = Plan::new(config, &PlanOptions::default(), &()).unwrap();
    let (mut session, _) = Session::start(&plan).unwrap();
    let mut batches =
        data::Batches::new(plan.dataset.clone(), session.training.state.cursor, 6, data::Rank::default());
    let theirs: Vec<u64> = (0..12)
        .map(|_| {
            let micro = [batches.next_batch().unwrap(), batches.next_batch().unwrap()];
            session.training.advance(&micro).unwrap().loss.loss.to_bits()
        })
        .collect();

    for threads in [1, 3] {
        let data = sailor(5);
        let section =
            ModelSection::of(Family::Llama).n_layer(2).n_head(2).d_model(16).context_len(16).dropout(0.1);
        let options = TrainerOptions {
            steps: 12,
            batch_rows: 6,
            accumulate: 2,
            optimizer: OptimizerConfig::adamw(3e-3),
            schedule: ScheduleConfig::cosine(3),
            seed: 5,
            shards: 3,
            threads,
            ..Default::default()
        };
        let model = section.init(data.vocab_size(), 5).unwrap();
        let trainer = Trainer::new(&model, data, options).unwrap();
        let ours: Vec<u64> = trainer.map(|step| step.unwrap().loss.loss.to_bits()).collect();
        assert_eq!(ours, theirs, "{threads} threads");
    }
}

/// A custom model: an embedding table, dropout, a projection to the vocabulary.
struct Mine(Parameters);

impl Model for Mine {
    fn parameters(&self) -> &Parameters {
        &self.0
    }

    fn with_parameters(&self, parameters: Parameters) -> model::Result<Self> {
        Ok(Self(parameters))
    }

    fn predict(&self, input: &Input, pass: &mut Pass) -> CandleResult<Tensor> {
        let x = ops::embedding(&input.ids, &self.0.tensor("token")?)?;
        let x = match pass.dropout_at("token", 0, 0.2) {
            Some(dropout) => ops::dropout(&x, &dropout)?,
            None => x,
        };
        ops::linear(&x, &self.0.tensor("head")?, None)
    }
}

fn trainer(steps: u64, shards: usize, frozen: &[&str]) -> Trainer<Mine> {
    let data = sailor(1);
    let token = ParameterSpec::embedding("token", data.vocab_size(), 8);
    let head = ParameterSpec::matrix("head", 0, [data.vocab_size(), 8]);
    let mine = Mine(drawn(&[token, head]));
    let options = TrainerOptions {
        steps,
        shards,
        frozen: frozen.iter().map(|name| (*name).to_owned()).collect(),
        optimizer: OptimizerConfig::adamw(1e-2),
        ..Default::default()
    };
    Trainer::new(&mine, data, options).unwrap()
}

#[test]
fn resume_is_bit_exact_for_a_custom_model() {
    let whole: Vec<u64> = trainer(20, 2, &[]).map(|step| step.unwrap().loss.loss.to_bits()).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut first = trainer(20, 2, &[]);
    assert_eq!(checkpoint::resume(&mut first, dir.path()).unwrap(), None);
    let mut losses: Vec<u64> = first.by_ref().take(7).map(|step| step.unwrap().loss.loss.to_bits()).collect();
    checkpoint::save(&first, dir.path()).unwrap();
    // Steps after the checkpoint are lost with the process.
    first.next().unwrap().unwrap();
    let mut second = trainer(20, 2, &[]);
    assert_eq!(checkpoint::resume(&mut second, dir.path()).unwrap(), Some(7));
    losses.extend(second.by_ref().map(|step| step.unwrap().loss.loss.to_bits()));
    assert_eq!(losses, whole);
    assert!(second.evaluate().unwrap().loss < f64::from_bits(whole[0]));
    assert!(second.next().is_none());
}

#[test]
fn a_checkpoint_of_another_model_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = trainer(2, 1, &[]);
    one.next().unwrap().unwrap();
    checkpoint::save(&one, dir.path()).unwrap();
    let data = sailor(1);
    let token = ParameterSpec::embedding("token", data.vocab_size(), 4);
    let head = ParameterSpec::matrix("head", 0, [data.vocab_size(), 4]);
    let other = Mine(drawn(&[token, head]));
    let mut other = Trainer::new(&other, data, TrainerOptions::default()).unwrap();
    let error = checkpoint::resume(&mut other, dir.path()).unwrap_err().to_string();
    assert!(error.contains("`param.head`"), "{error}");
}

#[test]
fn frozen_parameters_are_unchanged_and_unused_ones_are_named() {
    let mut one = trainer(3, 1, &["token"]);
    let numbers = |trainer: &Trainer<Mine>| {
        trainer.model().parameters().get("token").unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let before = numbers(&one);
    assert!(one.by_ref().all(|step| step.is_ok()));
    assert_eq!(numbers(&one), before);

    /// A model that doesn't use its head.
    struct Forgetful(Parameters);
    impl Model for Forgetful {
        fn parameters(&self) -> &Parameters {
            &self.0
        }
        fn with_parameters(&self, parameters: Parameters) -> model::Result<Self> {
            Ok(Self(parameters))
        }
        fn predict(&self, input: &Input, _: &mut Pass) -> CandleResult<Tensor> {
            ops::embedding(&input.ids, &self.0.tensor("token")?)
        }
    }
    let data = sailor(1);
    let token = ParameterSpec::embedding("token", data.vocab_size(), data.vocab_size());
    let head = ParameterSpec::matrix("head", 0, [4, 4]);
    let model = Forgetful(drawn(&[token, head]));
    let mut trainer = Trainer::new(&model, data, TrainerOptions::default()).unwrap();
    match trainer.next().unwrap().unwrap_err() {
        vulpes::trainer::Error::Census(census) => assert_eq!(census.severed, ["head"]),
        other => panic!("{other}"),
    }
    assert!(trainer.next().is_none());
}

#[test]
fn freezing_an_unknown_parameter_is_an_error() {
    let data = sailor(1);
    let token = ParameterSpec::embedding("token", data.vocab_size(), 8);
    let head = ParameterSpec::matrix("head", 0, [data.vocab_size(), 8]);
    let options = TrainerOptions { frozen: ["tokne".to_owned()].into(), ..Default::default() };
    match Trainer::new(&Mine(drawn(&[token, head])), data, options).err() {
        Some(vulpes::trainer::Error::Frozen { name, known }) => {
            assert_eq!((name.as_str(), known), ("tokne", vec!["token".to_owned(), "head".to_owned()]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_generators_text_equals_its_stream() {
    let mut trainer = trainer(30, 1, &[]);
    assert!(trainer.by_ref().all(|step| step.is_ok()));
    let tokenizer = trainer.dataset().tokenizer().unwrap().clone();
    let generator = Generator::new(trainer.model(), tokenizer).unwrap();
    let generator = generator.with_config(SampleConfig { n: 12, ..Default::default() }).with_seed(3);
    let mut texts = generator.stream("Ahoy").unwrap();
    let pieces: Vec<String> = texts.by_ref().map(|text| text.unwrap()).collect();
    assert_eq!(pieces.concat(), generator.text("Ahoy").unwrap());
    assert_eq!(texts.sample().unwrap().tokens.len(), 12);
}
