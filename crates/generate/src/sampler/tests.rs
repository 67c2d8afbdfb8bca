//! The chain against hand-computed cases, its stated probabilities against many draws, and its trace.

use super::*;

const OFF: SampleConfig = SampleConfig {
    n: 1,
    temp: 1.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    repeat_last_n: 64,
    stop: Vec::new(),
};

/// The ids of the last stage of a traced choice.
fn survivors(config: SampleConfig, logits: &[f32], history: &[u32]) -> Vec<u32> {
    let choice = Sampler::new(config, 1).with_trace().choose(logits, history, (0, 0)).unwrap();
    let trace = choice.trace.unwrap();
    trace.stages.last().unwrap().candidates.iter().map(|candidate| candidate.id).collect()
}

/// Logits of the probabilities 0.05, 0.5, 0.15, 0.3.
fn logits() -> Vec<f32> {
    [0.05f32, 0.5, 0.15, 0.3].iter().map(|p| p.ln()).collect()
}

#[test]
fn filters_equal_those_of_llama_cpp() {
    assert_eq!(survivors(OFF, &logits(), &[]), [1, 3, 2, 0]);
    assert_eq!(survivors(SampleConfig { top_k: 2, ..OFF }, &logits(), &[]), [1, 3]);
    assert_eq!(survivors(SampleConfig { top_k: 9, ..OFF }, &logits(), &[]), [1, 3, 2, 0]);
    // 0.5 alone is less than 0.6; with 0.3 it is reached.
    assert_eq!(survivors(SampleConfig { top_p: 0.6, ..OFF }, &logits(), &[]), [1, 3]);
    assert_eq!(survivors(SampleConfig { top_p: 0.0, ..OFF }, &logits(), &[]), [1]);
    // At least 0.25 times as likely as 0.5: 0.125.
    assert_eq!(survivors(SampleConfig { min_p: 0.25, ..OFF }, &logits(), &[]), [1, 3, 2]);
    assert_eq!(survivors(SampleConfig { temp: 0.0, ..OFF }, &logits(), &[]), [1]);
    assert_eq!(survivors(SampleConfig { temp: -1.0, ..OFF }, &logits(), &[]), [1]);
}

#[test]
fn top_p_is_relative_to_what_top_k_left() {
    // Of {0.5, 0.3}, 0.5 is 0.625: enough for 0.6 alone.
    let config = SampleConfig { top_k: 2, top_p: 0.6, ..OFF };
    assert_eq!(survivors(config, &logits(), &[]), [1]);
}

#[test]
fn temperature_is_applied_last() {
    let config = SampleConfig { temp: 0.5, top_p: 0.6, ..OFF };
    let trace = Sampler::new(config, 1).with_trace().choose(&logits(), &[], (0, 0)).unwrap().trace.unwrap();
    let names: Vec<_> = trace.stages.iter().map(|stage| stage.filter).collect();
    assert_eq!(names, ["model", "top_k", "top_p", "min_p", "temp"]);
    // (0.5², 0.3²) / Σ: the filters before it saw the untempered probabilities.
    let last = &trace.stages[4].candidates;
    assert_eq!(last.len(), 2);
    assert!((last[0].probability - 0.25 / 0.34).abs() < 1e-6);
}

#[test]
fn the_penalty_divides_positive_and_multiplies_negative_logits_once() {
    let config = SampleConfig { repeat_penalty: 2.0, repeat_last_n: 2, ..OFF };
    let penalised = filter::penalise(&[4.0, -1.0, 3.0, 8.0], &[3, 0, 1, 0, 1], &config);
    assert_eq!(penalised.as_ref(), [2.0, -2.0, 3.0, 8.0]);
    let whole = SampleConfig { repeat_last_n: -1, ..config.clone() };
    assert_eq!(filter::penalise(&[4.0, -1.0, 3.0, 8.0], &[3], &whole).as_ref(), [4.0, -1.0, 3.0, 4.0]);
    let off = SampleConfig { repeat_last_n: 0, ..config };
    assert_eq!(filter::penalise(&[4.0], &[0], &off).as_ref(), [4.0]);
    // A token without a logit (of another vocabulary) is not an error.
    assert_eq!(filter::penalise(&[4.0], &[7], &whole).as_ref(), [4.0]);
}

#[test]
fn greedy_takes_the_first_of_ties_with_and_without_a_trace() {
    let sampler = Sampler::new(SampleConfig { temp: 0.0, ..SampleConfig::default() }, 1);
    let plain = sampler.choose(&[1.0, 3.0, 3.0], &[], (0, 0)).unwrap();
    let traced = sampler.with_trace().choose(&[1.0, 3.0, 3.0], &[], (0, 0)).unwrap();
    assert_eq!((plain.id, plain.rank, plain.drawn_with), (1, 1, 1.0));
    assert_eq!((traced.id, traced.rank, traced.drawn_with), (1, 1, 1.0));
    assert!(traced.trace.unwrap().draw.is_none());
}

#[test]
fn choices_depend_on_seed_sample_and_step_alone() {
    let logits = vec![0.0; 1000];
    let ids = |seed, sample| -> Vec<u32> {
        let sampler = Sampler::new(OFF, seed);
        (0..8).map(|step| sampler.choose(&logits, &[], (sample, step)).unwrap().id).collect()
    };
    assert_eq!(ids(5, 0), ids(5, 0));
    assert_ne!(ids(5, 0), ids(6, 0));
    assert_ne!(ids(5, 0), ids(5, 1));
}

/// Pearson's chi-squared of 40,000 draws against the stated probabilities, for several chains.
#[test]
fn draws_follow_the_stated_probabilities() {
    let logits: Vec<f32> = (0..12).map(|i| ((i * 7) % 12) as f32 * 0.3).collect();
    let configs = [
        OFF,
        SampleConfig { temp: 1.7, ..OFF },
        SampleConfig { top_k: 5, temp: 0.7, ..OFF },
        SampleConfig { repeat_penalty: 1.5, ..SampleConfig::default() },
    ];
    for (i, config) in configs.into_iter().enumerate() {
        let sampler = Sampler::new(config.clone(), 11);
        let stated = Sampler::new(config, 11).with_trace().choose(&logits, &[7, 3], (0, 0)).unwrap();
        let stated = stated.trace.unwrap().stages.pop().unwrap().candidates;
        let n = 40_000u64;
        let mut counts = vec![0u64; logits.len()];
        for step in 0..n {
            let choice = sampler.choose(&logits, &[7, 3], (i as u64, step)).unwrap();
            counts[choice.id as usize] += 1;
        }
        let expected = |p: f64| p * n as f64;
        let term = |c: &trace::Listed| {
            (counts[c.id as usize] as f64 - expected(c.probability)).powi(2) / expected(c.probability)
        };
        let chi_squared: f64 = stated.iter().map(term).sum();
        // The 99.9th percentile for 11 degrees of freedom is 31.3; fewer degrees have a lower one.
        assert!(chi_squared < 31.3, "chain {i}: {chi_squared}");
        assert_eq!(
            stated.iter().map(|c| counts[c.id as usize]).sum::<u64>(),
            n,
            "chain {i} drew a filtered token"
        );
    }
}

#[test]
fn the_trace_reproduces_the_choice() {
    let logits: Vec<f32> = (0..50).map(|i| ((i * 31) % 50) as f32 * 0.1).collect();
    let sampler =
        Sampler::new(SampleConfig { repeat_penalty: 1.3, ..SampleConfig::default() }, 3).with_trace();
    for step in 0..200 {
        let choice = sampler.choose(&logits, &[1, 2, 49], (0, step)).unwrap();
        let trace = choice.trace.unwrap();
        let draw = trace.draw.unwrap();
        let mut sum = 0.0;
        let followed = trace.stages.last().unwrap().candidates.iter().find(|candidate| {
            sum += candidate.probability;
            sum > draw
        });
        let followed = followed.unwrap();
        assert_eq!((followed.id, followed.probability), (choice.id, choice.drawn_with));
        assert!((trace.interval[0]..trace.interval[1]).contains(&draw));
        assert!(trace.stages.windows(2).all(|pair| pair[0].after == pair[1].before));
    }
}

#[test]
fn invalid_logits_are_refused() {
    let sampler = Sampler::new(OFF, 1);
    assert!(matches!(sampler.choose(&[0.0, f32::NAN], &[], (0, 0)), Err(Error::Logit { id: 1, .. })));
    assert!(matches!(sampler.choose(&[f32::INFINITY], &[], (0, 0)), Err(Error::Logit { id: 0, .. })));
    assert!(matches!(sampler.choose(&[], &[], (0, 0)), Err(Error::NoCandidate)));
    assert!(matches!(sampler.choose(&[f32::NEG_INFINITY], &[], (0, 0)), Err(Error::NoCandidate)));
    // A single impossible token is allowed: its probability is 0.
    assert_eq!(sampler.choose(&[f32::NEG_INFINITY, 0.0], &[], (0, 0)).unwrap().id, 1);
}

#[test]
fn extreme_settings_choose_the_greedy_token() {
    let logits = [1.0, 3.0, -2.0, 2.5];
    for config in [
        SampleConfig { temp: 1e-40, ..SampleConfig::default() },
        SampleConfig { temp: 1e-320, top_k: 0, top_p: 1.0, min_p: 0.0, ..SampleConfig::default() },
    ] {
        let choice = Sampler::new(config, 3).choose(&logits, &[], (0, 0)).unwrap();
        assert_eq!((choice.id, choice.drawn_with), (1, 1.0));
    }
    // A huge penalty makes recent tokens the least likely, one near 0 the most likely.
    for (repeat_penalty, wanted) in [(1e38, 3), (1e300, 3), (1e-45, 1), (1e-300, 1)] {
        let config = SampleConfig { repeat_penalty, temp: 0.1, ..SampleConfig::default() };
        let sampler = Sampler::new(config, 3).with_trace();
        let choice = sampler.choose(&logits, &[1], (0, 0)).unwrap();
        assert_eq!(choice.id, wanted, "{repeat_penalty}");
        assert!(choice.drawn_with.is_finite());
    }
}
