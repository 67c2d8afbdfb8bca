//! The rules of `[adapter]`, and of the keys of `[train]` that go with it.

use vulpes_model::adapter::{AdapterSection, BaseDtype};

use super::fault::Fault;
use super::sections::{DTypeName, TrainConfig};

/// The faults of `[adapter]` and `train.adapter`.
pub(super) fn faults(adapter: Option<&AdapterSection>, train: Option<&TrainConfig>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let from_scratch = train.is_some_and(TrainConfig::is_from_scratch);
    if from_scratch && train.is_some_and(|train| train.adapter.is_some()) {
        let title = "train.adapter needs an existing model, and train.init_from names none";
        faults.push(
            Fault::new(title).on("train.adapter", "of which model?").help("give train.init_from = \"DIR\""),
        );
    }
    let Some(adapter) = adapter else { return faults };
    for (key, message) in adapter.problems() {
        let path = format!("adapter.{key}");
        faults.push(Fault::new(format!("{path} {message}")).on(&path, ""));
    }
    let Some(train) = train else { return faults };
    if from_scratch {
        let title = "[adapter] needs an existing model, and train.init_from names none";
        faults
            .push(Fault::new(title).on("adapter", "of which model?").help("give train.init_from = \"DIR\""));
    }
    if !train.freeze.is_empty() {
        let title = "train.freeze has no effect with [adapter], which freezes the entire model";
        faults.push(
            Fault::new(title)
                .on("train.freeze", "no effect")
                .help("adapter.also_train lists what is trained in addition to the adapter"),
        );
    }
    if adapter.base_dtype != BaseDtype::Float32 && train.dtype == DTypeName::Float64 {
        let title =
            "adapter.base_dtype other than \"float32\" requires train.dtype = \"float32\" or \"bfloat16\"";
        faults.push(Fault::new(title).on("adapter.base_dtype", "").on("train.dtype", ""));
    }
    faults
}
