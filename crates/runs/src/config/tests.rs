//! Tests of config faults, one per kind.

use super::*;

const GOOD: &str = "\
[model]
family = \"fox\"

[data]
train = \"data/fox.txt\"

[train]
steps = 100
batch_rows = 4
";

fn faults(text: &str, overrides: &[&str]) -> Faults {
    let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
    RunConfig::parse("x.toml", text, &overrides).expect_err("a fault")
}

fn titles(text: &str, overrides: &[&str]) -> Vec<String> {
    faults(text, overrides).faults.iter().map(|fault| fault.title.clone()).collect()
}

fn good(overrides: &[&str]) -> RunConfig {
    let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
    RunConfig::parse("x.toml", GOOD, &overrides).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn a_valid_config_round_trips() {
    let config = good(&[]);
    assert_eq!((config.train.steps, config.train.batch_rows), (100, 4));
    let text = config.to_toml().expect("TOML");
    let back = RunConfig::parse("resolved", &text, &[]).expect("sound");
    assert!(config.unsaid.tokenizer && !back.unsaid.tokenizer, "a resolved config leaves nothing open");
    assert!(back.sample_given.len() > config.sample_given.len(), "every default is written out");
    assert_eq!(RunConfig { unsaid: config.unsaid, sample_given: Vec::new(), ..back }, config);
}

#[test]
fn an_unknown_key_is_shown_with_its_location_and_the_nearest_key() {
    let text = GOOD.replace("batch_rows", "batch_row");
    let drawn = faults(&text, &[]).to_string();
    assert!(drawn.contains("error: unknown key `train.batch_row`"), "{drawn}");
    assert!(drawn.contains("--> x.toml:9:1"), "{drawn}");
    let spans = &faults(&text, &[]).faults[0].spans;
    assert_eq!((&text[spans[0].bytes.clone()], spans[0].label.as_str()), ("batch_row", "unknown"));
    assert!(drawn.contains("help: the nearest known key is `batch_rows`"), "{drawn}");
}

#[test]
fn an_unknown_section_is_shown() {
    let drawn = faults(&GOOD.replace("[train]", "[trian]"), &[]).to_string();
    assert!(
        drawn.contains("unknown section `trian`") && drawn.contains("nearest known section is `train`"),
        "{drawn}"
    );
    assert_eq!(titles(&format!("steps = 3\n{GOOD}"), &[]), ["unknown key outside any section `steps`"]);
}

#[test]
fn a_wrong_type_is_shown_under_the_value() {
    let text = GOOD.replace("= 100", "= \"many\"");
    let found = faults(&text, &[]);
    let (drawn, spans) = (found.to_string(), &found.faults[0].spans);
    assert!(drawn.contains("train.steps: expected an integer, 0 or more, found \"many\""), "{drawn}");
    assert_eq!(
        (&text[spans[0].bytes.clone()], spans[0].label.as_str()),
        ("\"many\"", "expected an integer, 0 or more")
    );
    assert!(
        titles(GOOD, &["train.steps=-5"])[0]
            .contains("train.steps: expected an integer, 0 or more, found -5")
    );
    assert!(titles("model = 3", &[])[0].contains("`model` must be a section"));
}

#[test]
fn an_unknown_value_is_shown_with_the_known_ones() {
    let titles = titles(GOOD, &["schedule.kind=cosin"]);
    assert_eq!(titles, ["schedule.kind = \"cosin\" is not one of constant, cosine, linear, wsd"]);
    let drawn = faults(GOOD, &["schedule.kind=cosin"]).to_string();
    assert!(drawn.contains("nearest known value is \"cosine\""), "{drawn}");
}

#[test]
fn a_value_out_of_range_is_shown() {
    for (item, wanted) in [
        ("train.steps=0", "train.steps = 0 must be at least 1"),
        ("train.accumulate=0", "train.accumulate = 0 must be at least 1"),
        ("train.threads=0", "train.threads = 0 must be at least 1"),
        ("optimizer.lr=0", "optimizer.lr = 0 must be greater than 0"),
        ("optimizer.lr=nan", "optimizer.lr = NaN must be greater than 0"),
        ("optimizer.betas=[0.9, 1.5]", "optimizer.betas = 1.5 must be in [0, 1)"),
        ("optimizer.clip=-1", "optimizer.clip = -1 must not be negative (0 = no clipping)"),
        ("sample.top_p=1.5", "sample.top_p is 1.5; wanted 0 to 1; 1 keeps all"),
        ("model.dropout=1.5", "model.dropout = 1.5 is outside [0, 1)"),
    ] {
        assert_eq!(titles(GOOD, &[item]), [wanted]);
    }
}

#[test]
fn keys_that_contradict_each_other_are_shown_together() {
    let drawn = faults(
        GOOD,
        &[
            "model.n_head=5",
            "model.d_model=128",
            "schedule.warmup_steps=200",
            "schedule.min_lr=1",
            "train.shards=9",
        ],
    )
    .to_string();
    for wanted in [
        "model.n_head = 5 does not divide model.d_model = 128",
        "schedule.warmup_steps = 200 is more than train.steps = 100",
        "schedule.min_lr = 1 is greater than optimizer.lr = 0.001",
        "train.shards = 9 is more than train.batch_rows = 4",
    ] {
        assert!(drawn.contains(wanted), "{wanted} is not in\n{drawn}");
    }
}

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_the_text() {
    let text =
        "[model]\nfamily = \"foxx\"\nn_heads = 2\n[data]\ntrain = 5\n[train]\nsteps = 0\nbatch_rows = 2.5\n";
    let drawn = faults(text, &["optimizer.lr=-1", "nonsense"]).to_string();
    assert!(drawn.contains("`--set nonsense` is not of the form section.key=VALUE"), "{drawn}");
    let drawn = faults(text, &["optimizer.lr=-1"]).to_string();
    let places: Vec<Option<usize>> =
        ["model.family", "model.n_heads", "data.train", "train.batch_rows"].map(|key| drawn.find(key)).into();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{drawn}");
}

#[test]
fn broken_syntax_is_shown_with_its_location() {
    let drawn = faults("[model\nfamily = \"fox\"\n", &[]).to_string();
    assert!(drawn.contains("not valid TOML") && drawn.contains("x.toml:1:"), "{drawn}");
    assert!(faults("[train]\nsteps = 1\nsteps = 2\n", &[]).to_string().contains("x.toml:3:1"));
}

#[test]
fn overrides_are_toml_values_or_strings_and_are_checked() {
    let config =
        good(&["train.steps=7", "train.init_from=The quick", "model.n_layer = 1", "optimizer.lr=1e-2"]);
    assert_eq!((config.train.steps, config.optimizer.lr), (7, 1e-2));
    assert_eq!(config.train.init_from, "The quick");
    assert_eq!(good(&["train.init_from=\"7\""]).train.init_from, "7");
    assert_eq!(good(&["train.init_from=a\"b\nc"]).train.init_from, "a\"b\nc");
    assert_eq!(good(&["data.tokenizer.eos=</s>"]).data.tokenizer.eos.as_deref(), Some("</s>"));
    let drawn = faults(GOOD, &["train.stepz=7"]).to_string();
    assert!(drawn.contains("--> --set:1:7") && drawn.contains("nearest known key is `steps`"), "{drawn}");
    for bad in ["", "train.steps", "steps=3", "train..steps=3", "=3", "a b.c=1"] {
        assert!(titles(GOOD, &[bad])[0].contains("is not of the form"), "{bad}");
    }
}

#[test]
fn the_later_override_wins() {
    assert_eq!(good(&["train.steps=7", "train.steps=9"]).train.steps, 9);
}

#[test]
fn every_built_in_config_is_valid() {
    for (name, text) in crate::embedded::EMBEDDED {
        let config = RunConfig::parse(name, text, &[]).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(config.train.steps > 0);
    }
}

#[test]
fn early_ends_and_ramps_are_checked() {
    let wsd = "schedule.kind=wsd";
    for (sets, title) in [
        (&["schedule.decay_fraction=0.5"][..], "schedule.decay_fraction requires schedule.kind = \"wsd\""),
        (&["schedule.decay_shape=sqrt"], "schedule.decay_shape requires schedule.kind = \"wsd\""),
        (
            &[wsd, "schedule.decay_fraction=1.5"],
            "schedule.decay_fraction = 1.5 must be more than 0 and at most 1",
        ),
        (
            &[wsd, "schedule.decay_fraction=0.5", "schedule.decay_steps=9"],
            "schedule.decay_steps and schedule.decay_fraction both set the length of the cooldown",
        ),
        (&["train.ema=1"], "train.ema = 1 must be between 0 and 1"),
        (&["train.until_loss=nan"], "train.until_loss = NaN must be a number"),
        (&["train.budget_minutes=0"], "train.budget_minutes = 0 must be greater than 0"),
        (
            &["train.budget_minutes=1", "schedule.kind=cosine"],
            "train.budget_minutes leaves the number of steps open, and this schedule needs it from the start",
        ),
        (
            &["train.budget_minutes=1", "schedule.weight_decay=cosine"],
            "schedule.weight_decay = \"cosine\" needs the number of steps, which train.budget_minutes leaves open",
        ),
        (
            &["train.budget_minutes=1", "schedule.total_steps=9"],
            "schedule.total_steps and train.budget_minutes both set the end of the schedule",
        ),
        (&["train.len_from=4"], "train.len_from and train.len_ramp_steps go together"),
        (
            &["train.accumulate_ramp_steps=4"],
            "train.accumulate_from and train.accumulate_ramp_steps go together",
        ),
        (
            &["train.accumulate_ramp_steps=4", "train.accumulate_from=2"],
            "train.accumulate_from = 2 is more than train.accumulate = 1",
        ),
        (
            &["optimizer.kind=muon", "optimizer.muon.momentum_from=0.8"],
            "optimizer.muon.momentum_from and optimizer.muon.momentum_steps go together",
        ),
    ] {
        assert_eq!(titles(GOOD, sets), [title], "{sets:?}");
    }
    let config = good(&[wsd, "train.budget_minutes=1", "train.until_loss=1.5", "train.ema=0.9"]);
    assert_eq!((config.train.budget_minutes, config.train.until_loss), (Some(1.0), Some(1.5)));
}
