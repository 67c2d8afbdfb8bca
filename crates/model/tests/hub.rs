//! Fetching from a faulty local hub: cut connections, wrong lengths, wrong bytes and refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod server;

use std::path::Path;

use server::{Fault, Server, TOKEN};
use vulpes_model::hub::{Error, Fetched, Hub, Name};
use vulpes_model::{folder, hub};

const NAME: &str = "org/small";

fn name(text: &str) -> Name {
    Name::of(Path::new(text)).unwrap()
}

/// A hub with an empty cache.
fn hub(server: &Server, cache: &Path) -> Hub {
    Hub {
        cache: cache.to_path_buf(),
        endpoint: server.endpoint(),
        token: Some(TOKEN.to_owned()),
        offline: false,
        pause: std::time::Duration::from_millis(1),
    }
}

/// A hub with a separate cache.
struct Place {
    dir: tempfile::TempDir,
    server: Server,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), server: Server::start() }
    }

    fn hub(&self) -> Hub {
        hub(&self.server, self.dir.path())
    }

    fn fetch(&self) -> Result<std::path::PathBuf, hub::Error> {
        self.hub().fetch(&name(NAME), &mut |_| {})
    }

    /// Every file in the cache that counts as a model's equals the hub's.
    fn check(&self) {
        let blobs = self.dir.path().join("models--org--small/blobs");
        for entry in std::fs::read_dir(blobs).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_none() {
                let content = std::fs::read(&path).unwrap();
                assert!(self.server.files().iter().any(|(_, own)| *own == content), "{}", path.display());
            }
        }
    }
}

#[test]
fn needed_files_are_fetched_once() {
    let place = Place::new();
    let mut told: Vec<(String, u64)> = Vec::new();
    let mut tell = |fetched: &Fetched| told.push((fetched.file.to_owned(), fetched.n_done));
    let snapshot = place.hub().fetch(&name(NAME), &mut tell).unwrap();
    assert_eq!(snapshot, place.hub().snapshot(&name(NAME)).unwrap());
    assert!(Hub::is_whole(&snapshot));
    for (file, content) in place.server.files() {
        let used = !["README.md", "pytorch_model.bin"].contains(&file.as_str());
        assert_eq!(std::fs::read(snapshot.join(&file)).ok(), used.then_some(content), "{file}");
    }
    assert!(folder::load(&snapshot).is_ok(), "the snapshot is a model folder");
    let weights = std::fs::metadata(snapshot.join("model.safetensors")).unwrap().len();
    assert_eq!(told.last().unwrap(), &("model.safetensors".to_owned(), weights));

    // The token goes to the hub, but not to the target of its redirect.
    let asked = place.server.asked();
    assert!(asked.iter().any(|line| line.starts_with("GET /cdn/")), "{asked:?}");
    for line in &asked {
        assert_eq!(line.contains(TOKEN), !line.starts_with("GET /cdn/"), "{line}");
    }
    let n_asked = asked.len();
    place.fetch().unwrap();
    let again = place.server.asked();
    assert_eq!(again.len(), n_asked + 1, "only the list of files: {:?}", &again[n_asked..]);
}

#[test]
fn shards_and_revisions_are_fetched_too() {
    let server = Server::sharded();
    let dir = tempfile::tempdir().unwrap();
    let snapshot = hub(&server, dir.path()).fetch(&name("org/small@v1/x"), &mut |_| {}).unwrap();
    assert!(folder::load(&snapshot).is_ok());
    assert!(snapshot.join("model-00002-of-00002.safetensors").is_file());
    let found = hub(&server, dir.path()).snapshot(&name("org/small@v1/x"));
    assert_eq!(found, Some(snapshot), "under the revision");
    assert_eq!(hub(&server, dir.path()).snapshot(&name(NAME)), None, "but under no other");
}

/// Connections cut after any number of bytes: each try resumes where the last one ended.
#[test]
fn interrupted_downloads_resume() {
    let place = Place::new();
    let n_bytes = place.server.content("model.safetensors").len();
    let cuts: Vec<usize> = (1..8).map(|i| n_bytes * i / 9 + i).collect();
    place.server.fault(cuts.iter().map(|cut| Fault::Cut(*cut)));
    place.fetch().unwrap();
    place.check();
    let ranges: Vec<String> =
        place.server.asked().into_iter().filter(|line| line.contains("/cdn/")).collect();
    assert_eq!(ranges.len(), cuts.len() + 1);
    assert!(!ranges[0].contains("range"));
    for (range, cut) in ranges[1..].iter().zip(&cuts) {
        assert!(range.contains(&format!("range: bytes={cut}-")), "{range}");
    }
}

/// A process that was interrupted left a part; the next one requests the rest.
#[test]
fn a_part_from_an_earlier_process_is_resumed() {
    let place = Place::new();
    place.server.fault((0..5).map(|_| Fault::Cut(1000)));
    let error = place.fetch().unwrap_err();
    assert!(matches!(error, Error::Cut { n_done: 1000, .. }), "{error}");
    assert!(error.to_string().contains("resumes from there"), "{error}");
    assert_eq!(place.hub().snapshot(&name(NAME)), None, "a partial snapshot has no reference");
    place.fetch().unwrap();
    let asked = place.server.asked();
    assert!(asked.last().unwrap().contains("range: bytes=1000-"), "{asked:?}");
    place.check();
}

#[test]
fn a_server_without_ranges_sends_the_file_again() {
    let place = Place::new();
    place.server.fault([Fault::Cut(1000), Fault::IgnoreRange]);
    place.fetch().unwrap();
    place.check();
}

/// A part of different content is detected and fetched again; a hub that stays wrong is refused.
#[test]
fn wrong_bytes_are_refused() {
    let place = Place::new();
    place.server.fault([Fault::Corrupt]);
    place.fetch().unwrap();
    place.check();

    let place = Place::new();
    place.server.fault([Fault::Corrupt, Fault::Corrupt]);
    let error = place.fetch().unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    place.check();
    assert_eq!(place.hub().snapshot(&name(NAME)), None);
    place.fetch().unwrap();

    // Small files have a digest, too: git's.
    let place = Place::new();
    place.server.fault_small([Fault::Corrupt, Fault::Corrupt]);
    let error = place.fetch().unwrap_err();
    assert!(matches!(&error, Error::Digest { file, .. } if file == "config.json"), "{error}");
}

#[test]
fn wrong_lengths_are_refused() {
    for fault in [Fault::Length(5), Fault::Length(-5)] {
        let place = Place::new();
        place.server.fault([fault]);
        let error = place.fetch().unwrap_err();
        assert!(matches!(error, Error::Length { .. }), "{error}");
        place.check();
        place.fetch().unwrap();
    }
    // An answer without a length may end too early or never.
    let place = Place::new();
    place.server.fault([Fault::Unsaid(-5), Fault::Unsaid(0)]);
    place.fetch().unwrap();
    let place = Place::new();
    place.server.fault([Fault::Unsaid(5)]);
    assert!(matches!(place.fetch().unwrap_err(), Error::Length { .. }));
    place.check();
}

#[test]
fn refusals_say_what_to_do() {
    for (fault, kind, words) in [
        (Fault::Status(404, "RepoNotFound"), "NotThere", &["no model org/small", "HF_TOKEN"][..]),
        (Fault::Status(401, "RepoNotFound"), "NotThere", &["status 401", "private"]),
        (
            Fault::Status(401, "GatedRepo"),
            "Gated",
            &["gated", "accept its conditions at http://127.0.0.1", "/org/small"],
        ),
        (Fault::Status(403, ""), "Gated", &["gated", "status 403"]),
    ] {
        let place = Place::new();
        place.server.fault_list([fault]);
        let error = place.fetch().unwrap_err();
        assert!(format!("{error:?}").starts_with(kind), "{error:?}");
        words.iter().for_each(|word| assert!(error.to_string().contains(word), "{word}: {error}"));
        assert_eq!(place.server.asked().len(), 1, "a refusal is not retried");
    }
    let place = Place::new();
    place.server.fault_list([Fault::Status(404, "RevisionNotFound")]);
    let error = place.hub().fetch(&name("org/small@v9"), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("org/small has no revision v9"), "{error}");
    let place = Place::new();
    place.server.fault([Fault::Status(403, "GatedRepo")]);
    assert!(matches!(place.fetch().unwrap_err(), Error::Gated { .. }), "a single file may be gated");
}

/// Too many requests and transient failures are retried, after the pause that the hub requests.
#[test]
fn transient_failures_are_retried() {
    let place = Place::new();
    place.server.fault_list([Fault::Status(429, ""), Fault::Status(503, ""), Fault::Hangup]);
    place.server.fault([Fault::Status(429, ""), Fault::Status(500, ""), Fault::Hangup]);
    place.fetch().unwrap();
    place.check();

    let place = Place::new();
    place.server.fault_list((0..5).map(|_| Fault::Status(429, "")));
    let error = place.fetch().unwrap_err();
    assert!(matches!(error, Error::TooMany { .. }), "{error}");
    let place = Place::new();
    place.server.fault((0..5).map(|_| Fault::Status(500, "")));
    let error = place.fetch().unwrap_err();
    assert!(matches!(&error, Error::Request { reason, .. } if reason == "status 500"), "{error}");
}

#[test]
fn unusable_hubs_and_models_are_reported() {
    let place = Place::new();
    place.server.fault_list([Fault::Page]);
    let error = place.fetch().unwrap_err().to_string();
    assert!(error.contains("is HF_ENDPOINT the address of a hub?"), "{error}");
    let server = Server::of(&[("config.json", b"{}".to_vec()), ("pytorch_model.bin", b"x".to_vec())]);
    let dir = tempfile::tempdir().unwrap();
    let error = hub(&server, dir.path()).fetch(&name(NAME), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("neither model.safetensors") && error.contains("pytorch_model.bin"), "{error}");
    let offline = Hub { offline: true, ..hub(&server, dir.path()) };
    let n_asked = server.asked().len();
    let error = offline.fetch(&name(NAME), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(server.asked().len(), n_asked);
    let gone = Hub { endpoint: "http://127.0.0.1:9".into(), ..hub(&server, dir.path()) };
    assert!(matches!(gone.fetch(&name(NAME), &mut |_| {}).unwrap_err(), Error::Request { .. }));
}

/// Concurrent fetches load a file once, and a file in place never disappears.
#[test]
fn concurrent_fetches_do_not_interfere() {
    let place = Place::new();
    std::thread::scope(|scope| {
        let all = [(); 8].map(|()| scope.spawn(|| place.fetch()));
        all.into_iter().for_each(|fetch| drop(fetch.join().unwrap().unwrap()));
    });
    place.check();
    assert!(folder::load(&place.hub().snapshot(&name(NAME)).unwrap()).is_ok());
    let n_weights = place.server.asked().iter().filter(|line| line.contains("GET /cdn/")).count();
    assert_eq!(n_weights, 1);
}
