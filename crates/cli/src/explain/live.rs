//! Decides whether a page embeds the model, and makes the page.

use anyhow::anyhow;
use vulpes_inspect::{
    Explanation, Extras, LIVE_PARAMETERS, Live, MOST_OF_A_PAGE, NotLive, Subject, html_page,
};

use super::args::Args;
use crate::ending::{Failure, say};

/// The model for the page, if requested or small enough.
pub(super) fn live_of(
    args: &Args,
    subject: &Subject,
    explanation: &Explanation,
) -> Result<Option<Live>, Failure> {
    if args.no_live {
        return Ok(None);
    }
    let live = match explanation.token_types.is_empty() {
        true => Live::of(subject, (!args.live).then_some(LIVE_PARAMETERS))?,
        false => Err(NotLive::Pair),
    };
    match live {
        Ok(live) => Ok(Some(live)),
        Err(why) if args.live => Err(Failure::usage(anyhow!("--live: {why}"))),
        Err(why) => {
            say_why(&why);
            Ok(None)
        }
    }
}

/// The page; without the model if that would make it too large and `--live` isn't set.
pub(super) fn page_of(args: &Args, explanation: &Explanation, mut extras: Extras) -> Result<String, Failure> {
    let page = html_page(explanation, &extras)?;
    if page.len() <= MOST_OF_A_PAGE || extras.live.is_none() {
        return Ok(page);
    }
    let full = NotLive::Full(page.len().div_ceil(1000));
    if args.live {
        say(&format!("warning: {full}: written nevertheless"));
        return Ok(page);
    }
    say_why(&full);
    extras.live = None;
    Ok(html_page(explanation, &extras)?)
}

fn say_why(why: &NotLive) {
    let anyway = match why {
        NotLive::Large(..) | NotLive::Full(_) => " (--live embeds the model nevertheless)",
        NotLive::Tokenizer(_) | NotLive::Part(_) | NotLive::Pair => "",
    };
    say(&format!("note: the page shows this text only: {why}{anyway}"));
}
