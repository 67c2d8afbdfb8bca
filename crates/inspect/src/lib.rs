//! A running model, looked at: attention maps, the walkthrough, the way to a prediction.
//!
//! ids → model under a probe → [`Explanation`] → terminal, JSON, SVG, one offline HTML page. [`logit_lens`],
//! [`knockouts`] and [`gradient_flow`] say how a prediction forms, what it hangs on and who learns from it;
//! [`one_update`] teaches the model one answer and shows the next.
//! [`walkthrough`] runs the worked example of attention through the model's own operations, in float64.
//!
//! Knows nothing of optimizers or training.

mod error;
mod explanation;
mod gradients;
mod html;
mod influence;
mod influence_page;
mod svg;
mod terminal;
mod update;
mod walkthrough;
mod way;

pub use error::{Error, Result};
pub use explanation::{Explanation, Said, Subject, explain, print as print_explanation, said};
pub use gradients::{Flow, GradientFlow, gradient_flow};
pub use html::{Extras, Story, film_page, page as html_page};
pub use influence::{Knockout, LensLayer, Projection, knockouts, logit_lens, projection};
pub use influence_page::{print_gradients, print_knockouts, print_lens, print_update};
pub use svg::{grid_svg, head_svg};
pub use terminal::Paper;
pub use update::{Update, one_update};
pub use vulpes_generate::NextToken;
pub use walkthrough::{
    Difference, Example, GradientsOf, Step, Walkthrough, print as print_walkthrough, walkthrough,
};
pub use way::{Equation, Parameter, Part, Way, way};
