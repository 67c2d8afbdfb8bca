//! Runs on another device match the CPU's; `.ci/cuda check` runs these with `VULPES_DEVICE=cuda`.

mod needs_device {
    use serde_json::Value;

    use crate::support::Place;

    fn device() -> String {
        std::env::var("VULPES_DEVICE").expect("VULPES_DEVICE names the device to compare with the CPU")
    }

    fn losses(place: &Place, run: &str) -> Vec<f64> {
        let metrics = place.read(&format!("{run}/metrics.jsonl"));
        let loss = |line: &str| serde_json::from_str::<Value>(line).expect("JSON").get("loss")?.as_f64();
        metrics.lines().filter_map(loss).collect()
    }

    #[track_caller]
    fn assert_close(there: &[f64], here: &[f64], n: usize, tolerance: f64) {
        assert_eq!((there.len(), here.len()), (n, n));
        let off = there.iter().zip(here).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("largest difference of {n} losses: {off:e}");
        assert!(off < tolerance, "losses differ by {off:e}: {there:?} and {here:?}");
    }

    /// Twenty steps of a config on the device and on the CPU.
    fn follows_the_cpu(config: &str, settings: &[&str]) {
        let place = Place::new();
        let settings: Vec<&str> = settings.iter().flat_map(|set| ["--set", *set]).collect();
        for (out, device) in [("there", device().as_str()), ("here", "cpu")] {
            let args = ["--config", config, "--quiet", "--device", device, "--out", out];
            place.train(&[&args[..], &settings].concat()).succeeds();
        }
        assert_close(&losses(&place, "there"), &losses(&place, "here"), 20, 1e-4);
    }

    #[test]
    #[ignore = "needs VULPES_DEVICE"]
    fn twenty_steps_of_the_fox_have_the_cpus_losses() {
        follows_the_cpu("fox.toml", &["train.steps=20"]);
    }

    /// A small GPT-2 with dropout, accumulation, shards and clipping.
    #[test]
    #[ignore = "needs VULPES_DEVICE"]
    fn twenty_steps_with_dropout_have_the_cpus_losses() {
        follows_the_cpu("small.toml", &["train.steps=20"]);
    }

    /// A GPU's sums may use a different order each time: the losses agree, but not bit for bit.
    #[test]
    #[ignore = "needs VULPES_DEVICE"]
    fn a_resumed_run_continues_where_it_stopped() {
        let place = Place::new();
        let device = device();
        let base = ["--config", "small.toml", "--quiet", "--device", &device];
        place.train(&[&base[..], &["--out", "whole"]].concat()).succeeds();
        let half = ["--out", "half", "--set", "train.steps=6", "--set", "schedule.total_steps=12"];
        place.train(&[&base[..], &half].concat()).succeeds();
        let rest = ["--out", "half", "--resume", "--set", "schedule.total_steps=12"];
        place.train(&[&base[..], &rest].concat()).succeeds();
        assert_close(&losses(&place, "half"), &losses(&place, "whole"), 12, 1e-5);
    }
}
