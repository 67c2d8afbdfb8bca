//! The effect of each row of a step on the loss of a question: dot products of gradients along the run.
//!
//! TracIn ([Pruthi et al. 2020](https://arxiv.org/abs/2002.08484), sec. 3.2) sums `η ∇ℓ(w, row) · ∇ℓ(w, question)` over
//! the steps that use the row: by how much the row's part of each update lowers the question's loss, to first order. An
//! update of AdamW is not a multiple of the gradient, so the question's gradient is divided by AdamW's denominator
//! ([Xia et al. 2024](https://arxiv.org/abs/2402.04333), LESS): `η ∇ℓ(w, row) · ∇ℓ(w, question) / (√v̂ + ε)`. The
//! momentum, which spreads an update over the steps after it, is left out. The row's gradient is the step's: with its
//! dropout, label smoothing, clipping and divisor.

use candle_core::Tensor;
use vulpes_data::Batch;
use vulpes_model::{Model, Pass};
use vulpes_ops::{CrossEntropyOptions, Gradients, backward, forward_for};

use crate::error::Result;
use crate::optimizer::Optimizer;
use crate::shard::{input, scalar};
use crate::step::{Stepper, shard, workers};

/// The effect of each row of step `step`, whose learning rate is `lr`, in nats: a positive effect lowers the question's
/// loss.
pub(crate) fn effects<M: Model>(
    stepper: &mut Stepper<M>,
    optimizer: &Optimizer,
    (step, lr): (u64, f64),
    batches: &[Batch],
    question: &Batch,
) -> Result<Vec<f64>> {
    let asked = asked(stepper, question)?;
    let (_, norm, gradients) = stepper.gradients(step, batches)?;
    let scale = optimizer.clip_scale(norm);
    let mut weighed: Vec<(&str, Tensor)> = Vec::new();
    for (name, gradient) in asked.iter() {
        if let Some(gradient) = gradient {
            weighed.push((name, optimizer.preconditioned(name, gradients, scale, gradient)?));
        }
    }
    let look = |row: &Gradients| -> candle_core::Result<f64> {
        let mut sum = 0.0;
        for (name, weighed) in &weighed {
            if let Some(gradient) = row.get(name) {
                sum += scalar(&(gradient * weighed)?.sum_all()?)?;
            }
        }
        Ok(lr * scale * sum)
    };
    each_row(stepper, step, batches, &look)
}

/// Applies `look` to each row's part of the gradients of a step.
fn each_row<M: Model, T: Send>(
    stepper: &mut Stepper<M>,
    step: u64,
    batches: &[Batch],
    look: &(dyn Fn(&Gradients) -> candle_core::Result<T> + Sync),
) -> Result<Vec<T>> {
    let rows: Vec<(&Batch, usize)> =
        batches.iter().flat_map(|batch| (0..batch.rows).map(move |row| (batch, row))).collect();
    let width = stepper.options.n_threads.min(rows.len()).max(1);
    // Not the step's buffers, which may be rounded.
    let sets = std::iter::repeat_with(|| Gradients::new(&stepper.parameters)).take(width);
    let mut sets = sets.collect::<candle_core::Result<Vec<_>>>()?;
    let pool = stepper.pool().filter(|_| width > 1);
    let shard = shard(stepper.model(), &stepper.options, step, batches, stepper.divisor(batches));
    let workers = workers(pool.as_deref(), &stepper.options, width);
    let mut found = Vec::with_capacity(rows.len());
    for wave in rows.chunks(width) {
        let run = |at: usize, set: &mut Gradients| {
            set.zero();
            let (batch, row) = wave[at];
            shard.run(batch, row, batch.rows, set)?;
            look(set)
        };
        found.extend(workers.on_each(&mut sets[..wave.len()], &run)?);
    }
    Ok(found)
}

/// The gradients of the loss of a question, outside of any step: without dropout, label smoothing or a divisor.
fn asked<M: Model>(stepper: &Stepper<M>, question: &Batch) -> Result<Gradients> {
    let model = stepper.model();
    let mut gradients = Gradients::new(&stepper.parameters)?;
    let input = input(question, &model.device())?;
    let loss = forward_for(&mut gradients, 1.0, || {
        model.loss_on(&input, &question.targets, &CrossEntropyOptions::default(), &mut Pass::inference())
    })?;
    backward(&loss.sum, &mut gradients)?;
    Ok(gradients)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use vulpes_data::IGNORED;
    use vulpes_model::config::Family;
    use vulpes_model::{Head, ModelSection, Transformer};

    use crate::*;

    use super::*;

    fn batch(seed: u32, rows: usize) -> Batch {
        let ids: Vec<u32> = (0..4 * rows as u32).map(|at| (seed + 5 * at * at + at) % 11).collect();
        let targets = ids.iter().map(|id| i64::from((id + seed) % 11)).collect();
        Batch {
            rows,
            len: 4,
            ids,
            targets,
            padding_mask: None,
            token_types: None,
            segments: None,
            positions: None,
            first_row: 0,
        }
    }

    fn training(kind: OptimizerKind, lr: f64, dropout: f64) -> Training {
        let section = ModelSection {
            family: Some(Family::Gpt2),
            n_layer: Some(1),
            n_head: Some(2),
            d_model: Some(8),
            context_len: Some(4),
            dropout: Some(dropout),
            init_std: Some(0.3),
            ..ModelSection::default()
        };
        let model =
            Transformer::init(&section.resolve(11, Head::NextToken), 3, DType::F64, &Device::Cpu).unwrap();
        // Without momentum and decay, an update is what the effects describe.
        let betas = [0.0, 0.9];
        let optimizer = OptimizerConfig {
            kind,
            lr,
            betas,
            momentum: 0.0,
            weight_decay: 0.0,
            clip: 0.3,
            ..OptimizerConfig::default()
        };
        let schedule = Schedule::new(
            &ScheduleConfig { kind: ScheduleKind::Constant, ..ScheduleConfig::default() },
            lr,
            9,
        );
        let options = TrainingOptions {
            optimizer,
            schedule,
            average: None,
            frozen: Default::default(),
            spike: SpikeRule { then: OnSpike::Keep, factor: 3.0, after: 50 },
            label_smoothing: 0.0,
            n_shards: 2,
            n_threads: 2,
            processes: Default::default(),
            precision: Precision::Float32,
            recompute: false,
            gradient_dtype: GradientDtype::Full,
            seed: 4,
            contrast: None,
            class_weights: Vec::new(),
        };
        Training::new(&model, options, State::start()).unwrap()
    }

    fn loss(training: &Training, question: &Batch) -> f64 {
        let found = training.evaluate(std::iter::once(Ok(question.clone()))).unwrap();
        found.loss * found.n_targets as f64
    }

    #[test]
    fn effects_sum_to_the_change_of_the_question_after_a_small_step() {
        let mut question = batch(3, 1);
        question.targets[..3].fill(IGNORED);
        for kind in [OptimizerKind::Sgd, OptimizerKind::Adamw] {
            let mut training = training(kind, 1e-5, 0.2);
            for step in 0..3 {
                let batches = [batch(step, 3), batch(step + 7, 2)];
                let effects = training.effects(&batches, &question).unwrap();
                assert_eq!(effects.len(), 5);
                let before = loss(&training, &question);
                training.advance(&batches).unwrap();
                let (fell, said) = (before - loss(&training, &question), effects.iter().sum::<f64>());
                assert!(
                    (fell - said).abs() < 0.01 * said.abs() + 1e-9,
                    "{kind:?}, step {step}: {fell:e}, {said:e}"
                );
            }
        }
    }

    #[test]
    fn leaving_a_row_out_removes_exactly_its_part_of_the_gradient() {
        let mut training = training(OptimizerKind::Sgd, 1e-2, 0.2);
        let whole = [batch(1, 4)];
        let divisor = training.divisor(&whole);
        let mut without = whole.clone();
        without[0].ask_nothing_of(2);
        let numbers = |gradients: &Gradients| -> Vec<f64> {
            let each = gradients.iter().filter_map(|(_, gradient)| gradient);
            each.flat_map(|gradient| gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap()).collect()
        };
        let stepper = training.stepper_mut();
        let all = numbers(stepper.gradients(1, &whole).unwrap().2);
        let less = numbers(stepper.gradients_over(1, &without, divisor).unwrap().2);
        let rows = each_row(stepper, 1, &whole, &|row: &Gradients| Ok(numbers(row))).unwrap();
        for (at, part) in rows[2].iter().enumerate() {
            assert!((all[at] - part - less[at]).abs() < 1e-12, "{at}");
        }
        // A step without targets has gradients, and they are zero.
        let mut nothing = whole.clone();
        (0..4).for_each(|row| nothing[0].ask_nothing_of(row));
        let (_, norm, zero) = stepper.gradients_over(1, &nothing, divisor).unwrap();
        assert!(norm == 0.0 && zero.reached().iter().all(|reached| *reached));
        assert!(numbers(zero).iter().all(|number| *number == 0.0));
    }
}
