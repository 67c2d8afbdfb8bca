//! Fetching from a hub that misbehaves: a server on this machine that cuts connections, gives wrong lengths and wrong
//! bytes, and says no in every way that a hub does.
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

/// A hub whose cache is empty.
fn hub(server: &Server, cache: &Path) -> Hub {
    Hub {
        cache: cache.to_path_buf(),
        endpoint: server.endpoint(),
        token: Some(TOKEN.to_owned()),
        offline: false,
        pause: std::time::Duration::from_millis(1),
    }
}

/// A hub in a cache of its own.
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

    /// Nothing in the cache counts as a file of a model that isn't what the hub has.
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
fn what_a_model_needs_is_fetched_once_and_read() {
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
    assert!(folder::load(&snapshot).is_ok(), "a model folder as any other");
    let weights = std::fs::metadata(snapshot.join("model.safetensors")).unwrap().len();
    assert_eq!(told.last().unwrap(), &("model.safetensors".to_owned(), weights));

    // The token goes to the hub, and not to where it sends on to.
    let asked = place.server.asked();
    assert!(asked.iter().any(|line| line.starts_with("GET /cdn/")), "{asked:?}");
    for line in &asked {
        assert_eq!(line.contains(TOKEN), !line.starts_with("GET /cdn/"), "{line}");
    }
    let n_asked = asked.len();
    place.fetch().unwrap();
    let again = place.server.asked();
    assert_eq!(again.len(), n_asked + 1, "the list of files alone: {:?}", &again[n_asked..]);
}

#[test]
fn shards_and_revisions_are_fetched_too() {
    let server = Server::sharded();
    let dir = tempfile::tempdir().unwrap();
    let snapshot = hub(&server, dir.path()).fetch(&name("org/small@v1/x"), &mut |_| {}).unwrap();
    assert!(folder::load(&snapshot).is_ok());
    assert!(snapshot.join("model-00002-of-00002.safetensors").is_file());
    let found = hub(&server, dir.path()).snapshot(&name("org/small@v1/x"));
    assert_eq!(found, Some(snapshot), "under the revision's name");
    assert_eq!(hub(&server, dir.path()).snapshot(&name(NAME)), None, "and under no other");
}

/// Cut after any number of bytes, again and again: each try takes up where the last one ended.
#[test]
fn a_cut_connection_is_taken_up_again() {
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

/// A process that ended in the middle left a part; the next one asks for the rest.
#[test]
fn a_part_of_another_time_is_kept_and_completed() {
    let place = Place::new();
    place.server.fault((0..5).map(|_| Fault::Cut(1000)));
    let error = place.fetch().unwrap_err();
    assert!(matches!(error, Error::Cut { n_done: 1000, .. }), "{error}");
    assert!(error.to_string().contains("goes on from there"), "{error}");
    assert_eq!(place.hub().snapshot(&name(NAME)), None, "no name stands for a part");
    place.fetch().unwrap();
    let asked = place.server.asked();
    assert!(asked.last().unwrap().contains("range: bytes=1000-"), "{asked:?}");
    place.check();
}

#[test]
fn a_server_without_ranges_gives_the_whole_again() {
    let place = Place::new();
    place.server.fault([Fault::Cut(1000), Fault::IgnoreRange]);
    place.fetch().unwrap();
    place.check();
}

/// A part that belongs to other content than the hub names is noticed, and fetched anew; a hub that stays wrong is refused.
#[test]
fn wrong_bytes_never_count() {
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

    // Small files have their digest, too: git's.
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
    // Without a length of its own an answer may end too early or never.
    let place = Place::new();
    place.server.fault([Fault::Unsaid(-5), Fault::Unsaid(0)]);
    place.fetch().unwrap();
    let place = Place::new();
    place.server.fault([Fault::Unsaid(5)]);
    assert!(matches!(place.fetch().unwrap_err(), Error::Length { .. }));
    place.check();
}

#[test]
fn every_no_says_what_to_do() {
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
        assert_eq!(place.server.asked().len(), 1, "a no is a no");
    }
    let place = Place::new();
    place.server.fault_list([Fault::Status(404, "RevisionNotFound")]);
    let error = place.hub().fetch(&name("org/small@v9"), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("org/small has no revision v9"), "{error}");
    let place = Place::new();
    place.server.fault([Fault::Status(403, "GatedRepo")]);
    assert!(matches!(place.fetch().unwrap_err(), Error::Gated { .. }), "a file may be gated alone");
}

/// Too many requests, and a hub that stumbles: asked again, after the pause that it names.
#[test]
fn what_passes_is_waited_for() {
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
fn what_is_no_hub_or_no_model_is_said() {
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

/// Two at once fetch a file once.
#[test]
fn two_processes_at_once_do_not_disturb_each_other() {
    let place = Place::new();
    std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| place.fetch()));
        both.into_iter().for_each(|fetch| drop(fetch.join().unwrap().unwrap()));
    });
    place.check();
    assert!(folder::load(&place.hub().snapshot(&name(NAME)).unwrap()).is_ok());
    let n_weights = place.server.asked().iter().filter(|line| line.contains("GET /cdn/")).count();
    assert_eq!(n_weights, 1);
}
