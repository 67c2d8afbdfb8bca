//! Files that are cut short while they are mapped: reading what is gone raises SIGBUS, which ends a process without a word.

/// Has the process say what happened, and exit with code 1, where a mapped file is cut short under it.
///
/// The data looks at its files before it reads them and names the one that was cut; this is for the moment in between.
///
/// # Errors
/// Returns an error if the system refuses the handler or the thread that waits for it.
#[cfg(unix)]
pub(crate) fn exit_on_sigbus() -> std::io::Result<()> {
    use std::io::Write as _;

    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGBUS])?;
    // The handler only wakes this thread. The thread that read the file meets the signal again and again until then.
    let wait = move || {
        if signals.forever().next().is_some() {
            let words = "error: a file of the token cache (data.cache) was cut short while it was read; start again, \
                         with --resume if there is a checkpoint";
            let _ = writeln!(std::io::stderr(), "{words}");
            std::process::exit(1);
        }
    };
    std::thread::Builder::new().name("cut files".into()).spawn(wait)?;
    Ok(())
}

/// Other systems tell of cut files in other ways, or not at all.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub(crate) fn exit_on_sigbus() -> std::io::Result<()> {
    Ok(())
}
