//! Handles memory-mapped files that are truncated while in use: reading them raises SIGBUS.

/// Makes the process report a truncated mapped file and exit with code 1 instead of dying silently.
///
/// The data crate checks its files before it reads them and names a truncated one; this covers the moment in between.
///
/// # Errors
/// Returns an error if the system refuses the handler or the thread that waits for it.
#[cfg(unix)]
pub(crate) fn exit_on_sigbus() -> std::io::Result<()> {
    use std::io::Write as _;

    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGBUS])?;
    // The handler only wakes this thread. The thread that read the file gets the signal repeatedly until then.
    let wait = move || {
        if signals.forever().next().is_some() {
            let words = "error: a file of the token cache (data.cache) was truncated while in use; start again, \
                         with --resume if there is a checkpoint";
            let _ = writeln!(std::io::stderr(), "{words}");
            std::process::exit(1);
        }
    };
    std::thread::Builder::new().name("cut files".into()).spawn(wait)?;
    Ok(())
}

/// Other systems report truncated files in other ways, or not at all.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub(crate) fn exit_on_sigbus() -> std::io::Result<()> {
    Ok(())
}
