//! Explains a running model: attention maps, logit lens, knockouts, gradients, HTML pages.
#![doc = include_str!("../README.md")]

mod error;
mod explanation;
mod gradients;
mod habits;
mod html;
mod influence;
mod influence_page;
mod live;
mod origins;
mod pack;
mod svg;
mod taught;
mod terminal;
mod update;
mod walkthrough;
mod way;

pub use error::{Error, Result};
pub use explanation::{Explanation, Said, Subject, explain, print as print_explanation, said};
pub use gradients::{Flow, GradientFlow, LossGradients, gradient_flow, loss_gradients};
pub use habits::{Habit, HeadHabits, NamedHead, Pattern, habits_of, head_habits, print as print_habits};
pub use html::{Extras, MOST as MOST_OF_A_PAGE, Story, film_page, page as html_page, walkthrough_page};
pub use influence::{Knockout, LensLayer, Projection, knockouts, logit_lens, projection};
pub use influence_page::{print_gradients, print_knockouts, print_lens, print_update};
pub use live::{LIVE_PARAMETERS, Live, NotLive};
pub use origins::{Origins, ScoreParts, Source, origins, print as print_origins};
pub use svg::{grid_svg, head_svg};
pub use taught::{Taught, TaughtRow, print as print_taught};
pub use terminal::Paper;
pub use update::{Update, one_update};
pub use vulpes_generate::NextToken;
pub use walkthrough::{
    Difference, Example, GradientsOf, Step, Walkthrough, print as print_walkthrough, walkthrough,
};
pub use way::{Equation, Parameter, Part, Way, way};
