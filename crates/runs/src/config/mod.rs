//! A run's config: one TOML file in sections; all faults are reported at once.
//!
//! text and `--set` overrides → one tree with spans (`source`) → a struct per section (`decode`) → ranges and rules
//! between keys (`sections`, and the crates that own the other sections) → [`RunConfig`], or all faults (`fault`) with
//! the spans of the text that they lie in (`located`).

mod adapter;
mod aliases;
mod decode;
mod fault;
mod keys;
mod located;
mod sections;
mod source;
mod steps;

pub use aliases::own_name;
pub use fault::Fault;
pub use keys::{Key, keys, keys_as_markdown, section_of};
pub use located::{FaultSpan, Faults, FaultyText, LocatedFault};
pub use sections::{DTypeName, Metric, OnFullDisk, TrainConfig};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vulpes_data::{DataConfig, ObjectiveConfig, ObjectiveKind};
use vulpes_generate::SampleConfig;
use vulpes_model::adapter::AdapterSection;
use vulpes_model::config::{Family, MaskKind};
use vulpes_model::{Head, ModelSection};
use vulpes_trainer::{OptimizerConfig, ScheduleConfig};

use source::{Source, Texts};

/// Everything that decides a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// `[model]`: the transformer.
    pub model: ModelSection,
    /// `[data]`: where the text comes from and how it becomes rows of ids.
    pub data: DataConfig,
    /// `[objective]`: the training objective.
    pub objective: ObjectiveConfig,
    /// `[optimizer]`: how gradients become updates.
    pub optimizer: OptimizerConfig,
    /// `[schedule]`: the learning rate over the steps.
    pub schedule: ScheduleConfig,
    /// `[train]`: the run.
    pub train: TrainConfig,
    /// `[adapter]`: an adapter (LoRA) trained on a frozen model; absent = the model itself is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterSection>,
    /// `[sample]`: default sampling settings; written to `generation_config.json`.
    pub sample: SampleConfig,
    /// The keys of `[sample]` that were set: they take precedence over a model folder's settings.
    #[serde(skip)]
    #[schemars(skip)]
    pub sample_given: Vec<String>,
    /// The keys of `[adapter]` that were set: an existing adapter must agree with them.
    #[serde(skip)]
    #[schemars(skip)]
    pub adapter_given: Vec<String>,
    /// What its file leaves for the run to choose; nothing for a config built in code.
    #[serde(skip)]
    #[schemars(skip)]
    pub unsaid: Unsaid,
}

/// What a config file leaves for the run to choose by its corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsaid {
    /// All of `[model]`.
    pub model: bool,
    /// All of `[data.tokenizer]`.
    pub tokenizer: bool,
    /// Both `data.validation` and `data.validation_fraction`.
    pub validation: bool,
}

impl RunConfig {
    /// Reads a config from `text`, which came from `path`, with `overrides` of the form `section.key=VALUE` on top.
    ///
    /// # Errors
    /// Returns all faults at once: syntax, unknown keys, wrong types, values out of range, keys that contradict each
    /// other.
    pub fn parse(path: &str, text: &str, overrides: &[String]) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let texts = Texts::gather(path, text, overrides, &mut faults);
        let source = Source::parse(&texts, &mut faults);
        // After a syntax error, the tree says nothing about the keys.
        let config = if faults.is_empty() { Self::decode(&source, &mut faults) } else { None };
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(Faults::locate(&faults, &texts, &source)),
        }
    }

    /// Checks a config, however it was built, by the rules of [`RunConfig::parse`].
    ///
    /// # Errors
    /// Returns an error with all faults at once: values out of range, keys that contradict each other.
    pub fn check(&self) -> Result<(), Faults> {
        let mut faults = adapter::faults(self.adapter.as_ref(), Some(&self.train));
        faults.extend(rules(
            Some(&self.model),
            Some(&self.data),
            Some(&self.objective),
            Some(&self.optimizer),
            Some(&self.schedule),
            Some(&self.train),
            Some(&self.sample),
        ));
        if faults.is_empty() {
            return Ok(());
        }
        Err(Faults::without_text(faults))
    }

    fn decode(source: &Source<'_>, faults: &mut Vec<Fault>) -> Option<Self> {
        let known = ["model", "data", "objective", "optimizer", "schedule", "train", "adapter", "sample"];
        decode::unknown_sections(source, &known, faults);
        let mut model: Option<ModelSection> = decode::section("model", source, faults);
        let mut data: Option<DataConfig> = decode::section("data", source, faults);
        let mut objective: Option<ObjectiveConfig> = decode::section("objective", source, faults);
        let optimizer: Option<OptimizerConfig> = decode::section("optimizer", source, faults);
        let schedule: Option<ScheduleConfig> = decode::section("schedule", source, faults);
        let train: Option<TrainConfig> = decode::section("train", source, faults);
        let sample: Option<SampleConfig> = decode::section("sample", source, faults);
        // The bare heading is enough for an adapter.
        let adapter: Option<Option<AdapterSection>> = match source.tree.get("adapter").is_some() {
            true => decode::section("adapter", source, faults).map(Some),
            false => Some(None),
        };
        let unsaid = Unsaid {
            model: !source.says("model"),
            tokenizer: !source.says("data.tokenizer"),
            validation: !source.says("data.validation") && !source.says("data.validation_fraction"),
        };
        if let Some(data) = data.as_mut().filter(|_| !source.says("data.kind"))
            && let Some(kind) = data.kind_by_ending()
        {
            data.kind = kind;
        }
        let from_scratch = train.as_ref().is_none_or(TrainConfig::is_from_scratch);
        if let Some(objective) = objective.as_mut().filter(|_| from_scratch) {
            objective.kind = Some(objective.kind());
        }
        let asks_next =
            objective.as_ref().is_none_or(|objective| objective.kind() == ObjectiveKind::NextToken);
        if let Some(model) = model.as_mut().filter(|_| unsaid.model && from_scratch && !asks_next) {
            model.family = Some(Family::Bert);
        }
        faults.extend(rules(
            model.as_ref(),
            data.as_ref(),
            objective.as_ref(),
            optimizer.as_ref(),
            schedule.as_ref(),
            train.as_ref(),
            sample.as_ref(),
        ));
        faults.extend(adapter::faults(adapter.as_ref().and_then(Option::as_ref), train.as_ref()));
        Some(Self {
            model: model?,
            data: data?,
            objective: objective?,
            optimizer: optimizer?,
            schedule: schedule?,
            train: train?,
            adapter: adapter?,
            sample: sample?,
            unsaid,
            sample_given: decode::keys("sample", source),
            adapter_given: decode::keys("adapter", source),
        })
    }

    /// The rules between `[model]`, `[data]` and `[objective]`, for a model that is known.
    pub(crate) fn faults_between(&self) -> Vec<Fault> {
        between(Some(&self.model), Some(&self.data), Some(&self.objective))
    }

    /// The config as TOML text, every default written out.
    ///
    /// # Errors
    /// Returns an error if a value can't be written as TOML, which doesn't occur in a parsed config.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

/// Checks all rules within and between the sections that could be read.
fn rules(
    model: Option<&ModelSection>,
    data: Option<&DataConfig>,
    objective: Option<&ObjectiveConfig>,
    optimizer: Option<&OptimizerConfig>,
    schedule: Option<&ScheduleConfig>,
    train: Option<&TrainConfig>,
    sample: Option<&SampleConfig>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    // Rules within a section don't depend on other sections.
    if let Some(objective) = objective {
        let issues = objective.issues().into_iter();
        faults.extend(issues.map(|issue| Fault::message(&issue.path, issue.message)));
    }
    // A model folder's kind and objective are known once it is opened.
    if train.is_none_or(TrainConfig::is_from_scratch) {
        faults.extend(between(model, data, objective));
    }
    if let (Some(optimizer), Some(schedule), Some(train)) = (optimizer, schedule, train) {
        faults.extend(sections::faults(optimizer, train));
        faults.extend(steps::faults(optimizer, schedule, train));
    }
    if let (Some(objective), Some(train)) = (objective, train) {
        faults.extend(lone_pair(objective, train));
    }
    if let Some(sample) = sample {
        let problems = sample.problems().into_iter();
        faults.extend(problems.map(|problem| {
            let path = format!("sample.{}", problem.key);
            Fault::new(format!("{path} {}", problem.message)).on(&path, "")
        }));
    }
    causes(faults)
}

/// Removes faults between keys of which one has a fault by itself: they are consequences.
fn causes(mut faults: Vec<Fault>) -> Vec<Fault> {
    let alone: Vec<String> = faults.iter().filter_map(|fault| fault.only_path().map(str::to_owned)).collect();
    faults.retain(|fault| {
        fault.only_path().is_some() || !fault.paths().any(|path| alone.iter().any(|of| of == path))
    });
    faults
}

/// Checks the rules between `[model]`, `[data]` and `[objective]`.
fn between(
    model: Option<&ModelSection>,
    data: Option<&DataConfig>,
    objective: Option<&ObjectiveConfig>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(model) = model {
        let mut found = model.faults();
        if let Some(objective) = objective.filter(|_| found.is_empty()) {
            found = model.resolve(1, head(objective, 2)).faults();
        }
        faults.extend(found.into_iter().map(|fault| Fault::message(&fault.path, fault.message)));
    }
    let Some(objective) = objective else { return faults };
    if let Some(data) = data {
        let issues = data.issues(objective).into_iter();
        faults.extend(issues.map(|issue| Fault::message(&issue.path, issue.message)));
    }
    if objective.kind() == ObjectiveKind::Contrastive
        && let Some(model) = model
        && model.resolve(1, head(objective, 2)).mask == MaskKind::Causal
    {
        let title = "objective.kind = \"contrastive\" needs a model with full attention, and this one's is \
                     causal";
        faults.push(
            Fault::new(title).on("objective.kind", "").on("model.family", "").help(
                "use an encoder, as model.family = \"bert\" or \"modernbert\"; or model.mask = \"full\"",
            ),
        );
    }
    if objective.kind() == ObjectiveKind::NextToken
        && model.is_some_and(|model| {
            model.mask.is_none() && model.resolve(1, Head::NextToken).mask == MaskKind::Full
        })
    {
        let title = "objective.kind = \"next_token\" under model.mask = \"full\" would see the token that it must \
                     predict";
        faults.push(Fault::new(title).on("objective.kind", "").on("model.mask", "").help(
            "use objective.kind = \"masked_token\" or model.mask = \"causal\"; to see it happen, set \
                       model.mask = \"full\" explicitly",
        ));
    }
    faults
}

/// The fault of a step of a single pair, which has no negatives.
pub(crate) fn lone_pair(objective: &ObjectiveConfig, train: &TrainConfig) -> Option<Fault> {
    (objective.kind() == ObjectiveKind::Contrastive && train.batch_rows == 1 && train.accumulate == 1).then(
        || {
            Fault::new(
                "train.batch_rows = 1 with objective.kind = \"contrastive\" has no negatives: they are \
             the other pairs of a step",
            )
            .on("train.batch_rows", "pairs of a micro-batch")
            .help("use 2 or more, or train.accumulate; 32 or more train better")
        },
    )
}

/// The head that an objective needs.
pub(crate) fn head(objective: &ObjectiveConfig, n_labels: usize) -> Head {
    match objective.kind() {
        ObjectiveKind::NextToken => Head::NextToken,
        ObjectiveKind::MaskedToken => Head::MaskedToken,
        ObjectiveKind::Classify => Head::Classify { n_labels },
        ObjectiveKind::Contrastive => Head::Hidden { pooler: false },
    }
}

#[cfg(test)]
mod tests;
