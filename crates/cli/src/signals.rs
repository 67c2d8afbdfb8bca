//! Stopping on signals: the first SIGINT or SIGTERM requests a checkpoint, the second exits at once.
//!
//! Exiting at once breaks nothing: a checkpoint is complete or absent at every moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(unix)]
use signal_hook::consts::SIGXFSZ;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The stop request by signal.
#[derive(Clone, Default)]
pub(crate) struct Signals {
    number: Arc<AtomicUsize>,
}

impl Signals {
    /// Catches SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// Returns an error if the system refuses the handlers.
    pub(crate) fn install() -> std::io::Result<Self> {
        let signals = Self::default();
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds `asked` unset and sets it, the second finds it set and exits.
            flag::register_conditional_shutdown(signal, 128 + signal, asked.clone())?;
            flag::register(signal, asked.clone())?;
            flag::register_usize(signal, signals.number.clone(), signal as usize)?;
        }
        // Exceeding the limit of `ulimit -f` is an error of that write, and doesn't end the process.
        #[cfg(unix)]
        flag::register(SIGXFSZ, Arc::default())?;
        Ok(signals)
    }

    /// The exit code of the received signal, 130 or 143; `None` if there was none.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        match self.number.load(Ordering::Relaxed) {
            0 => None,
            number => Some(128 + number as u8),
        }
    }
}
