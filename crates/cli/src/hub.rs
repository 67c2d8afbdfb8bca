//! Downloads a model named as on the hub if it isn't cached, with a progress bar.

use std::path::Path;

/// Returns the path, after downloading the model that it may name on the hub.
///
/// An existing path is not a name; nor is one whose first part is a local folder: that is a mistyped path.
#[cfg(feature = "hub")]
pub(crate) fn fetched(path: &Path, quiet: bool) -> anyhow::Result<&Path> {
    use vulpes_model::hub::{Hub, Name};

    let is_here = path.exists() || path.parent().is_some_and(Path::is_dir);
    let Some(name) = Name::of(path).filter(|_| !is_here) else { return Ok(path) };
    let hub = Hub::from_env();
    if hub.offline || hub.snapshot(&name).is_some_and(|snapshot| Hub::is_whole(&snapshot)) {
        return Ok(path);
    }
    let mut shown = bar::Shown::new(quiet);
    let fetched = hub.fetch(&name, &mut |fetched| shown.at(fetched));
    shown.finish();
    fetched?;
    Ok(path)
}

/// Returns the path: this program was built without downloads.
#[cfg(not(feature = "hub"))]
pub(crate) fn fetched(path: &Path, _quiet: bool) -> anyhow::Result<&Path> {
    Ok(path)
}

#[cfg(feature = "hub")]
mod bar {
    use std::time::{Duration, Instant};

    use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
    use vulpes_model::hub::Fetched;

    use crate::ending::say;

    /// The interval of plain lines, if standard error is not a terminal.
    const PLAIN_EVERY: Duration = Duration::from_secs(5);

    /// A progress bar for one file after the other.
    pub(super) struct Shown {
        quiet: bool,
        file: String,
        bar: ProgressBar,
        said: Instant,
    }

    impl Shown {
        pub(super) fn new(quiet: bool) -> Self {
            Self { quiet, file: String::new(), bar: ProgressBar::hidden(), said: Instant::now() }
        }

        pub(super) fn at(&mut self, fetched: &Fetched) {
            if self.quiet {
                return;
            }
            if self.file != fetched.file {
                self.finish();
                self.file = fetched.file.to_owned();
                let target = ProgressDrawTarget::stderr_with_hz(8);
                self.bar = ProgressBar::with_draw_target(fetched.n_bytes, target);
                let template = "{bar:24} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left: {msg}";
                if let Ok(style) = ProgressStyle::with_template(template) {
                    self.bar.set_style(style.progress_chars("=> "));
                }
                self.bar.set_message(self.file.clone());
            }
            self.bar.set_position(fetched.n_done);
            if self.bar.is_hidden() && self.said.elapsed() >= PLAIN_EVERY {
                self.said = Instant::now();
                let of = fetched.n_bytes.map_or(String::new(), |n| format!(" of {}", HumanBytes(n)));
                say(&format!("{}: {}{of}", self.file, HumanBytes(fetched.n_done)));
            }
        }

        pub(super) fn finish(&self) {
            self.bar.finish_and_clear();
        }
    }
}
