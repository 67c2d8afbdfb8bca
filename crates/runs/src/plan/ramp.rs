//! What each step of a run reads: the number of micro-batches and the length of their rows.

use vulpes_data::{Batch, Batches, ObjectiveKind};

use super::Plan;
use crate::config::RunConfig;
use crate::error::{Error, Result};

impl Plan {
    /// The number of micro-batches of `step` (from 1), which grows linearly from `train.accumulate_from`.
    pub(crate) fn micro_batches(&self, step: u64) -> usize {
        let train = &self.config.train;
        match train.accumulate_from {
            Some(from) if step <= train.accumulate_ramp_steps => {
                let done = (step - 1) as f64 / train.accumulate_ramp_steps as f64;
                let grown = (train.accumulate - from + 1) as f64 * done;
                from + (grown as usize).min(train.accumulate - from)
            }
            _ => train.accumulate,
        }
    }

    /// The number of pieces that the rows of `step` are cut into.
    pub(crate) fn pieces(&self, step: u64) -> usize {
        let train = &self.config.train;
        match train.len_from {
            Some(from) if step <= train.len_ramp_steps => {
                let most = (self.dataset.longest_row() / from.max(1)).max(1);
                let n_doubling = f64::from(most.ilog2());
                let doublings = n_doubling * (step - 1) as f64 / train.len_ramp_steps as f64;
                most >> (doublings as u32)
            }
            _ => 1,
        }
    }

    /// The micro-batches of `step`.
    ///
    /// # Errors
    /// Returns the errors of the data.
    pub(crate) fn batches_of(&self, step: u64, batches: &mut Batches) -> Result<Vec<Batch>> {
        let pieces = self.pieces(step);
        let one = |_| Ok(batches.next_batch()?.cut(pieces));
        (0..self.micro_batches(step)).map(one).collect()
    }
}

/// Checks that `train.len_from` and `train.until_loss` fit the objective and the data.
///
/// # Errors
/// Returns an error that names the key and what it needs.
pub(super) fn check(config: &RunConfig, longest_row: usize, n_validation_rows: u64) -> Result<()> {
    let train = &config.train;
    if train.until_loss.is_some() && n_validation_rows == 0 {
        return Err(Error::Usage(
            "train.until_loss needs evaluations: set data.validation or data.validation_fraction".to_owned(),
        ));
    }
    let Some(from) = train.len_from else { return Ok(()) };
    if !matches!(config.objective.kind(), ObjectiveKind::NextToken | ObjectiveKind::MaskedToken) {
        return Err(Error::Usage(
            "train.len_from works for token-level objectives only; this one reads entire texts: leave it out"
                .to_owned(),
        ));
    }
    let whole = longest_row / from;
    if !longest_row.is_multiple_of(from) || !whole.is_power_of_two() {
        return Err(Error::Usage(format!(
            "train.len_from = {from} doubled repeatedly doesn't reach the rows' {longest_row} tokens; use {}",
            longest_row / 4
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanOptions;

    fn plan(sets: &[&str]) -> Result<Plan> {
        let text = crate::EMBEDDED.iter().find(|(name, _)| *name == "fox-multihead.toml").unwrap().1;
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let config = RunConfig::parse("fox-multihead.toml", text, &sets)?;
        let options = PlanOptions { device: Some("cpu".to_owned()), ..PlanOptions::default() };
        Plan::new(config, &options, &())
    }

    #[test]
    fn micro_batches_grow_linearly_to_accumulate() {
        let of = |plan: &Plan| (1..=10).map(|step| plan.micro_batches(step)).collect::<Vec<_>>();
        let ramp = ["train.accumulate=4", "train.accumulate_from=2", "train.accumulate_ramp_steps=6"];
        assert_eq!(of(&plan(&ramp).unwrap()), [2, 2, 3, 3, 4, 4, 4, 4, 4, 4]);
        assert_eq!(of(&plan(&ramp[..1]).unwrap()), [4; 10]);
    }

    #[test]
    fn row_length_doubles_up_to_the_full_length() {
        let sets =
            ["train.len_from=4", "train.len_ramp_steps=6", "data.rows=windows", "model.context_len=16"];
        let found = plan(&sets).unwrap();
        let pieces: Vec<usize> = (1..=8).map(|step| found.pieces(step)).collect();
        assert_eq!(pieces, [4, 4, 4, 2, 2, 2, 1, 1]);
        let wrong = plan(&["train.len_from=5", "train.len_ramp_steps=6", "model.context_len=16"]);
        assert!(wrong.err().unwrap().to_string().contains("doubled repeatedly"));
    }
}
