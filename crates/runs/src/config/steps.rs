//! The rules of `[schedule]`, and of the keys of `[train]` for ramps and early ends.

use vulpes_trainer::{DecayPath, DecayShape, OptimizerConfig, ScheduleConfig, ScheduleKind};

use super::fault::Fault;
use super::sections::TrainConfig;

/// The faults of these keys.
pub(super) fn faults(
    optimizer: &OptimizerConfig,
    schedule: &ScheduleConfig,
    train: &TrainConfig,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    schedule_faults(optimizer, schedule, train, &mut faults);
    ramp_faults(train, &mut faults);
    budget_faults(schedule, train, &mut faults);
    faults
}

/// The faults of `[schedule]` with respect to steps and learning rate.
fn schedule_faults(o: &OptimizerConfig, s: &ScheduleConfig, t: &TrainConfig, faults: &mut Vec<Fault>) {
    let total = s.total_steps.unwrap_or(t.steps);
    let total_key = if s.total_steps.is_some() { "schedule.total_steps" } else { "train.steps" };
    if !(s.min_lr.is_finite() && s.min_lr >= 0.0) {
        faults.push(Fault::value("schedule.min_lr", s.min_lr, "must not be negative"));
    } else if s.min_lr > o.lr {
        let title = format!("schedule.min_lr = {} is greater than optimizer.lr = {}", s.min_lr, o.lr);
        faults.push(Fault::new(title).on("schedule.min_lr", "the end").on("optimizer.lr", "the peak"));
    }
    if s.total_steps == Some(0) {
        faults.push(Fault::value("schedule.total_steps", 0, "must be at least 1"));
    }
    if s.warmup_steps > total {
        let title = format!("schedule.warmup_steps = {} is more than {total_key} = {total}", s.warmup_steps);
        faults.push(Fault::new(title).on("schedule.warmup_steps", "the warm-up").on(total_key, "the total"));
    }
    cooldown_faults(s, faults);
    match s.decay_steps {
        Some(_) if s.kind != ScheduleKind::Wsd => {
            let title = "schedule.decay_steps requires schedule.kind = \"wsd\"";
            faults.push(
                Fault::new(title).on("schedule.decay_steps", "no effect").on("schedule.kind", "not wsd"),
            );
        }
        Some(decay) if s.warmup_steps <= total && decay > total - s.warmup_steps => {
            let title = format!(
                "schedule.decay_steps = {decay} and schedule.warmup_steps = {} are more than {total_key} = {total}",
                s.warmup_steps
            );
            faults.push(Fault::new(title).on("schedule.decay_steps", "").on(total_key, ""));
        }
        _ => {}
    }
}

/// The faults of the cooldown keys.
fn cooldown_faults(s: &ScheduleConfig, faults: &mut Vec<Fault>) {
    let is_wsd = s.kind == ScheduleKind::Wsd;
    let given = [
        ("decay_fraction", s.decay_fraction.is_some()),
        ("decay_shape", s.decay_shape != DecayShape::Linear),
    ];
    for (key, _) in given.iter().filter(|(_, is_given)| *is_given && !is_wsd) {
        let path = format!("schedule.{key}");
        let title = format!("{path} requires schedule.kind = \"wsd\"");
        faults.push(Fault::new(title).on(&path, "no effect").on("schedule.kind", "not wsd"));
    }
    let Some(fraction) = s.decay_fraction else { return };
    if !(fraction > 0.0 && fraction <= 1.0) {
        faults.push(Fault::value("schedule.decay_fraction", fraction, "must be more than 0 and at most 1"));
    }
    if s.decay_steps.is_some() {
        let title = "schedule.decay_steps and schedule.decay_fraction both set the length of the cooldown";
        faults.push(
            Fault::new(title).on("schedule.decay_steps", "").on("schedule.decay_fraction", "set one of them"),
        );
    }
}

/// The faults of the ramp keys.
fn ramp_faults(t: &TrainConfig, faults: &mut Vec<Fault>) {
    for (from, steps, is_from, n_steps) in [
        ("accumulate_from", "accumulate_ramp_steps", t.accumulate_from.is_some(), t.accumulate_ramp_steps),
        ("len_from", "len_ramp_steps", t.len_from.is_some(), t.len_ramp_steps),
    ] {
        if is_from != (n_steps > 0) {
            let (from, steps) = (format!("train.{from}"), format!("train.{steps}"));
            let (given, missing) = if is_from { (&from, &steps) } else { (&steps, &from) };
            let title = format!("{from} and {steps} go together");
            faults.push(Fault::new(title).on(given, format!("{missing} is missing")));
        }
    }
    if let Some(from) = t.accumulate_from.filter(|from| *from > t.accumulate) {
        let title =
            format!("train.accumulate_from = {from} is more than train.accumulate = {}", t.accumulate);
        faults.push(
            Fault::new(title)
                .on("train.accumulate_from", "the first steps")
                .on("train.accumulate", "the later ones"),
        );
    }
    if let Some(ema) = t.ema.filter(|ema| !(*ema > 0.0 && *ema < 1.0)) {
        faults.push(Fault::value("train.ema", ema, "must be between 0 and 1"));
    }
    if let Some(loss) = t.until_loss.filter(|loss| !loss.is_finite()) {
        faults.push(Fault::value("train.until_loss", loss, "must be a number"));
    }
}

/// The faults of `train.budget_minutes` with respect to the schedule.
fn budget_faults(s: &ScheduleConfig, t: &TrainConfig, faults: &mut Vec<Fault>) {
    let Some(minutes) = t.budget_minutes else { return };
    if !(minutes.is_finite() && minutes > 0.0) {
        faults.push(Fault::value("train.budget_minutes", minutes, "must be greater than 0"));
    }
    let key = "train.budget_minutes";
    if !matches!(s.kind, ScheduleKind::Wsd | ScheduleKind::Constant) {
        let title =
            "train.budget_minutes leaves the number of steps open, and this schedule needs it from the start";
        let help = "use schedule.kind = \"wsd\", whose cooldown begins when its share of the time is left";
        faults.push(Fault::new(title).on(key, "").on("schedule.kind", "").help(help));
    }
    if s.weight_decay == DecayPath::Cosine {
        let title = "schedule.weight_decay = \"cosine\" needs the number of steps, which train.budget_minutes \
                     leaves open";
        faults.push(Fault::new(title).on("schedule.weight_decay", "").on(key, "").help("use \"follow_lr\""));
    }
    if s.total_steps.is_some() {
        let title = "schedule.total_steps and train.budget_minutes both set the end of the schedule";
        faults.push(Fault::new(title).on("schedule.total_steps", "").on(key, "set one of them"));
    }
}
