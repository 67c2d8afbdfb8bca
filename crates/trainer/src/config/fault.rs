//! What is wrong with a config: what, where, what was wanted, and what to do, drawn with a caret under the place.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};

use super::source::{Source, Texts};

/// One fault of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    title: String,
    places: Vec<Place>,
    help: Option<String>,
}

/// Where a fault lies: a dotted path, or a span of the text where no path leads there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    at: At,
    label: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    Path(String),
    Span(Range<usize>),
}

impl Place {
    pub(super) fn span(span: Range<usize>, label: impl Into<String>) -> Self {
        Self { at: At::Span(span), label: label.into() }
    }
}

impl Fault {
    /// A fault that `title` says in one line.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), places: Vec::new(), help: None }
    }

    /// A fault that another crate found at a dotted `path`.
    pub fn message(path: &str, message: String) -> Self {
        let title = if message.contains(path) { message } else { format!("{path}: {message}") };
        Self::new(title).on(path, "")
    }

    /// A value that is not what it must be: `model.n_head = 0 must be at least 1`.
    pub fn value(path: &str, value: impl std::fmt::Display, wanted: &str) -> Self {
        Self::new(format!("{path} = {value} {wanted}")).on(path, wanted)
    }

    /// Puts the caret under the value at a dotted `path`; more calls add more places.
    pub fn on(mut self, path: &str, label: impl Into<String>) -> Self {
        self.places.push(Place { at: At::Path(path.to_owned()), label: label.into() });
        self
    }

    /// What to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn at(mut self, place: Option<Place>) -> Self {
        self.places.extend(place);
        self
    }

    /// The line that says what is wrong.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Where the first place stands in the texts, for sorting.
    fn offset(&self, source: &Source<'_>) -> usize {
        self.spans(source).first().map_or(usize::MAX, |(span, _)| span.start)
    }

    fn spans(&self, source: &Source<'_>) -> Vec<(Range<usize>, &str)> {
        let span = |place: &Place| match &place.at {
            At::Path(path) => source.span(path),
            At::Span(span) => Some(span.clone()),
        };
        self.places.iter().filter_map(|place| Some((span(place)?, place.label.as_str()))).collect()
    }

    fn draw(&self, texts: &Texts, source: &Source<'_>, renderer: &Renderer) -> String {
        let mut group = Level::ERROR
            .primary_title(self.title.as_str())
            .elements(std::iter::empty::<Snippet<'_, Annotation<'_>>>());
        let spans = self.spans(source);
        let mut drawn: Vec<*const super::source::Text> = Vec::new();
        for (span, _) in &spans {
            let Some((text, _)) = texts.locate(span) else { continue };
            if drawn.contains(&std::ptr::from_ref(text)) {
                continue;
            }
            drawn.push(text);
            // All places of one text go into one snippet; the first of all is what the caret stands under.
            let here = spans.iter().enumerate().filter_map(|(i, (span, label))| {
                let (owner, local) = texts.locate(span)?;
                let kind = if i == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                std::ptr::eq(owner, text).then(|| kind.span(local).label(*label))
            });
            group = group.element(Snippet::source(text.as_str()).path(text.path.as_str()).annotations(here));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

/// Draws all faults, in the order of their places, with colours where `colour` says so.
pub(super) fn draw_all(faults: &[Fault], texts: &Texts, source: &Source<'_>, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
    let mut sorted: Vec<&Fault> = faults.iter().collect();
    sorted.sort_by_key(|fault| fault.offset(source));
    let drawn: Vec<String> = sorted.iter().map(|fault| fault.draw(texts, source, &renderer)).collect();
    drawn.join("\n\n")
}
