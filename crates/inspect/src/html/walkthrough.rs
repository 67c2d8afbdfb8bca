//! The worked example as an interactive page: change its values and see everything that depends on them.

use super::filled;
use crate::walkthrough::Walkthrough;

const TEMPLATE: &str = include_str!("page/walkthrough.html");
const SCRIPT: &str = concat!(
    include_str!("page/base.js"),
    include_str!("page/walkthrough/toy.js"),
    include_str!("page/walkthrough/steps.js"),
    include_str!("page/walkthrough/play.js")
);

/// The page of the worked example.
///
/// # Errors
/// Returns an error if the numbers can't be written as JSON.
pub fn walkthrough_page(walkthrough: &Walkthrough) -> serde_json::Result<String> {
    filled(TEMPLATE, SCRIPT, "The quick brown fox jumps", walkthrough)
}
