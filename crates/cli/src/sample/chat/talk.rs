//! Interactive chat: one message, one answer, and so on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;
use signal_hook::flag;
use vulpes_data::Conversation;

use super::answer::Answerer;
use super::editor::{Editor, Typed};
use crate::ending::{Failure, say};

/// Exit code after SIGINT.
const INTERRUPTED: u8 = 130;

const HELP: &str = "\
A line that ends in \\ continues on the next. The arrow keys recall earlier messages.
Ctrl-C ends an answer; at the prompt it ends the program, as Ctrl-D does.
/new   starts a new conversation
/help  shows this help";

/// Chats until the input ends; returns the exit code.
pub(super) fn talk(answerer: &Answerer<'_>) -> Result<u8, Failure> {
    let leaves = Arc::new(AtomicBool::new(true));
    // In this order: during an answer, the first Ctrl-C finds the flag unset and sets it, and a second one exits.
    flag::register_conditional_shutdown(SIGINT, i32::from(INTERRUPTED), leaves.clone())?;
    flag::register(SIGINT, leaves.clone())?;
    let mut editor = Editor::new()?;
    if editor.is_terminal() {
        say(&format!("{}: /help for help, Ctrl-D to exit", answerer.inputs.source.path().display()));
        answerer.inputs.say_seed();
    }
    let mut conversation = Conversation::new();
    let mut n_answers = 0;
    loop {
        let typed = match editor.read()? {
            Typed::Message(typed) => typed,
            Typed::End => return Ok(0),
            Typed::Interrupt => return Ok(INTERRUPTED),
        };
        match typed.trim() {
            "" => continue,
            "/help" => {
                say(HELP);
                continue;
            }
            "/new" => {
                conversation = Conversation::new();
                say("a new conversation");
                continue;
            }
            _ => conversation.push("user", &typed),
        }
        leaves.store(false, Ordering::Relaxed);
        let answered = answer(answerer, &conversation, n_answers, &leaves);
        let was_stopped = leaves.swap(true, Ordering::Relaxed);
        n_answers += 1;
        match answered {
            Ok(content) if was_stopped && content.trim().is_empty() => conversation.pop(),
            Ok(content) => conversation.push("assistant", &content),
            Err(failure) if editor.is_terminal() => {
                // A message that can't be answered is removed; the conversation continues.
                failure.tell()?;
                conversation.pop();
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Streams the model's answer on separate lines; returns its text.
fn answer(
    answerer: &Answerer<'_>,
    conversation: &Conversation,
    number: u64,
    leaves: &AtomicBool,
) -> Result<String, Failure> {
    let stop = || leaves.load(Ordering::Relaxed);
    let answer = answerer.write(conversation, number, &mut std::io::stdout().lock(), &stop)?;
    if answer.n_truncated > 0 {
        say(&format!(
            "note: the conversation is longer than the context: the first {} messages were dropped",
            answer.n_truncated
        ));
    }
    Ok(answer.content)
}
