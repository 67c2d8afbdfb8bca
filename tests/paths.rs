//! Links are followed once, nothing is deleted through them, and no name in a folder leads out of it.

use std::os::unix::fs::symlink;

use vulpes_runs::checkpoint::{self, manifest::Manifest};

use crate::support::Place;

#[test]
fn resume_follows_a_linked_checkpoint_and_pruning_keeps_its_target() {
    let place = Place::new();
    let digest = place.train(&["--config", "small.toml", "--json"]).succeeds().json()["digest"].clone();
    let set = ["--out", "part", "--set", "train.steps=6", "--set", "schedule.total_steps=12"];
    place.train(&[&["--config", "small.toml"][..], &set].concat()).succeeds();
    // The newest checkpoint was moved to another disk, and a link left in its place.
    let (link, elsewhere) = (place.path("part/checkpoints/step-00000006"), place.path("elsewhere"));
    std::fs::rename(&link, &elsewhere).expect("renamed");
    symlink(&elsewhere, &link).expect("a link");
    place.train(&["--check", "part"]).succeeds();
    let whole = checkpoint::verify(&link).expect("whole");
    assert_eq!(whole.path, elsewhere.canonicalize().expect("a path"), "what was verified is what is read");
    let resumed =
        ["--config", "small.toml", "--out", "part", "--resume", "--json", "--set", "train.keep_last=1"];
    let resumed =
        [&resumed[..], &["--set", "train.keep_best=0", "--set", "schedule.total_steps=12"]].concat();
    assert_eq!(place.train(&resumed).succeeds().json()["digest"], digest);
    assert!(link.symlink_metadata().is_err(), "the link is pruned as a checkpoint is");
    checkpoint::verify(&elsewhere).expect("its target is not");
}

#[test]
fn broken_links_and_links_in_checkpoints_are_damage() {
    let place = Place::new();
    place.train(&["--config", "small.toml"]).succeeds();
    let newest = place.path("runs/small/checkpoints/step-00000012");
    let file = newest.join("model.safetensors");
    std::fs::rename(&file, place.path("outside.safetensors")).expect("renamed");
    symlink(place.path("outside.safetensors"), &file).expect("a link");
    let before = place.path("runs/small/checkpoints/step-00000009");
    std::fs::remove_dir_all(&before).expect("removed");
    symlink(&before, &before).expect("a link to itself");
    let said = place.train(&["--check", "runs/small"]);
    assert_eq!(said.code, 1);
    for wanted in ["model.safetensors: is not a plain file", "step-00000009", "step-00000006: whole"] {
        assert!(said.stdout.contains(wanted), "{wanted}: {}", said.stdout);
    }
    place.train(&["--config", "small.toml", "--resume"]).fails(0, &["is damaged", "resuming after step 6"]);
}

#[test]
fn manifest_refuses_outside_paths_and_oversized_files() {
    let place = Place::new();
    place.train(&["--config", "small.toml", "--set", "train.steps=3"]).succeeds();
    let folder = place.path("runs/small/checkpoints/step-00000003");
    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    for outside in ["../config.json", "/etc/passwd", "..", "a/b", "a\\\\b"] {
        let forged = text.replacen("\"config.json\"", &format!("\"{outside}\""), 1);
        assert_ne!(forged, text);
        std::fs::write(folder.join("manifest.json"), forged).expect("written");
        let fault = Manifest::read(&folder).expect_err("refused");
        assert!(
            fault.contains("is not a plain file name") || fault.contains("differs from what was written"),
            "{fault}"
        );
    }
    // Files that claim to be large are not read into memory.
    std::fs::write(folder.join("manifest.json"), text).expect("written");
    for (name, words) in [("manifest.json", "too long for a manifest"), ("train_state.json", "instead of")] {
        let good = std::fs::read(folder.join(name)).expect("a file");
        let file = std::fs::OpenOptions::new().write(true).open(folder.join(name)).expect("a file");
        file.set_len(1 << 40).expect("a file with a hole");
        let fault = checkpoint::verify(&folder).expect_err("refused").to_string();
        assert!(fault.contains(name) && fault.contains(words), "{fault}");
        assert!(name == "manifest.json" || checkpoint::read_state(&folder).is_err());
        std::fs::write(folder.join(name), good).expect("written");
    }
    checkpoint::verify(&folder).expect("intact again");
}
