//! Reads typed messages: with a line editor on a terminal, else line by line.

use std::io::{BufRead, IsTerminal, Write};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Editor as Lines, Helper};

/// The prompt for a message.
const PROMPT: &str = "> ";

/// The source of messages.
pub(super) enum Editor {
    /// A terminal, with line editing and history.
    Terminal(Box<Lines<Message, MemHistory>>),
    /// A pipe or a file.
    Pipe,
}

/// What was typed.
pub(super) enum Typed {
    Message(String),
    /// End of input: Ctrl-D, or the end of the file.
    End,
    /// Ctrl-C.
    Interrupt,
}

impl Editor {
    pub(super) fn new() -> std::io::Result<Self> {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return Ok(Self::Pipe);
        }
        let mut lines =
            Lines::with_history(Config::default(), MemHistory::new()).map_err(std::io::Error::other)?;
        lines.set_helper(Some(Message));
        Ok(Self::Terminal(Box::new(lines)))
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The next message, with continued lines joined.
    pub(super) fn read(&mut self) -> std::io::Result<Typed> {
        match self {
            Self::Terminal(lines) => match lines.readline(PROMPT) {
                Ok(typed) => {
                    lines.add_history_entry(typed.as_str()).map_err(std::io::Error::other)?;
                    Ok(Typed::Message(joined(&typed)))
                }
                Err(ReadlineError::Eof) => Ok(Typed::End),
                Err(ReadlineError::Interrupted) => Ok(Typed::Interrupt),
                Err(ReadlineError::Io(error)) => Err(error),
                Err(other) => Err(std::io::Error::other(other)),
            },
            Self::Pipe => {
                // If only standard output is redirected, the prompt still shows whose turn it is.
                if std::io::stdin().is_terminal() {
                    let mut err = std::io::stderr();
                    let _ = write!(err, "{PROMPT}").and_then(|()| err.flush());
                }
                let mut typed = String::new();
                while std::io::stdin().lock().read_line(&mut typed)? > 0 {
                    if typed.ends_with('\n') {
                        typed.pop();
                    }
                    if typed.ends_with('\r') {
                        typed.pop();
                    }
                    if !goes_on(&typed) {
                        return Ok(Typed::Message(joined(&typed)));
                    }
                    typed.push('\n');
                }
                match typed.is_empty() {
                    true => Ok(Typed::End),
                    false => Ok(Typed::Message(joined(&typed))),
                }
            }
        }
    }
}

/// Whether a message continues on the next line: it ends in a backslash.
fn goes_on(typed: &str) -> bool {
    typed.ends_with('\\')
}

/// A message without the backslashes at the ends of its lines.
fn joined(typed: &str) -> String {
    typed.replace("\\\n", "\n").trim_end_matches('\\').to_owned()
}

/// Decides when a message is complete.
pub(super) struct Message;

impl Validator for Message {
    fn validate(&self, typed: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if goes_on(typed.input()) { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

impl Completer for Message {
    type Candidate = String;
}

impl Hinter for Message {
    type Hint = String;
}

impl Highlighter for Message {}
impl Helper for Message {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_ends_in_a_backslash_continues() {
        assert!(goes_on("a\\") && !goes_on("a\\n"));
        assert_eq!(joined("a\\\nb\\\nc"), "a\nb\nc");
        assert_eq!(joined("a\\"), "a");
        assert_eq!(joined("C:\\dir"), "C:\\dir");
    }
}
