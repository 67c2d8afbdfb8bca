//! Draws config faults: the line at fault, a caret under the value, and what to do.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};
use vulpes_runs::config::{FaultSpan, Faults, LocatedFault};

/// Draws all faults, in the order of their locations, in color if `color` is set.
pub fn draw(faults: &Faults, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
    let (told, n_more) = faults.told();
    let mut drawn: Vec<String> = told.iter().map(|fault| draw_one(fault, faults, &renderer)).collect();
    if n_more > 0 {
        drawn.push(format!("and {n_more} more faults"));
    }
    drawn.join("\n\n")
}

fn draw_one(fault: &LocatedFault, all: &Faults, renderer: &Renderer) -> String {
    let mut group = Level::ERROR
        .primary_title(fault.title.as_str())
        .elements(std::iter::empty::<Snippet<'_, Annotation<'_>>>());
    let mut drawn: Vec<usize> = Vec::new();
    for FaultSpan { text: number, .. } in &fault.spans {
        let Some(text) = all.texts.get(*number).filter(|_| !drawn.contains(number)) else { continue };
        drawn.push(*number);
        // All spans of one text go into one snippet; the first span gets the caret.
        let here = fault.spans.iter().enumerate().filter(|(_, span)| span.text == *number);
        let marks = here.map(|(i, span)| {
            let kind = if i == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            kind.span(span.bytes.clone()).label(span.label.as_str())
        });
        group =
            group.element(Snippet::source(text.text.as_str()).path(text.path.as_str()).annotations(marks));
    }
    if let Some(help) = &fault.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    renderer.render(&[group])
}

#[cfg(test)]
mod tests {
    use vulpes_runs::RunConfig;

    use super::*;

    fn drawn(text: &str) -> String {
        draw(&RunConfig::parse("x.toml", text, &[]).expect_err("a fault"), false)
    }

    #[test]
    fn the_caret_is_under_the_key_or_value_at_fault() {
        let key = drawn("[train]\nsteps = 100\nbatch_row = 4\n");
        for part in [
            "error: unknown key `train.batch_row`",
            "--> x.toml:3:1",
            "3 | batch_row = 4\n  | ^^^^^^^^^ unknown",
            "help: the nearest known key is `batch_rows`",
        ] {
            assert!(key.contains(part), "{part} is not in\n{key}");
        }
        let value = drawn("[train]\nsteps = \"many\"\n");
        assert!(
            value.contains("2 | steps = \"many\"\n  |         ^^^^^^ expected an integer, 0 or more"),
            "{value}"
        );
        let section = drawn("[data]\ntokenizer = \"char\"\n");
        assert!(section.contains("help: for example"), "{section}");
        assert!(section.contains("[data.tokenizer]") && section.contains("kind = \"char\""), "{section}");
    }

    #[test]
    fn causes_come_before_consequences_and_at_most_ten_faults_are_drawn() {
        let both = drawn(
            "[data]\ntrain = \"a.txt\"\n[optimizer]\nlr = -1\n[train]\nsteps = 0\n[schedule]\nwarmup_steps = 5\n",
        );
        assert!(
            both.contains("optimizer.lr = -1 must be") && both.contains("train.steps = 0 must be"),
            "{both}"
        );
        assert_eq!(both.matches("error: ").count(), 2, "{both}");
        let unknown: String = (0..30).map(|i| format!("[x{i}]\n")).collect();
        let many = drawn(&unknown);
        assert!(many.matches("error: ").count() == 10 && many.ends_with(" more faults"), "{many}");
        let text = drawn(&"The quick brown fox.\n".repeat(154));
        assert!(text.matches("error: ").count() <= 3 && text.contains("is x.toml a config?"), "{text}");
    }

    #[test]
    fn faults_of_a_config_built_in_code_have_titles_and_help() {
        let mut config = RunConfig::default();
        config.train.steps = 0;
        let all = draw(&config.check().expect_err("a fault"), false);
        assert!(all.contains("error: train.steps = 0 must be at least 1"), "{all}");
        assert!(!all.contains("-->"), "{all}");
    }
}
