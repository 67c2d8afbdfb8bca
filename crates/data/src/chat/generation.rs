//! The tag `{% generation %}`, with which a template itself marks what the model wrote.
//!
//! It is not part of Jinja. It is read as an `{% if true %}` that writes a mark at its beginning and its end if marks
//! are requested.

use std::ops::Range;

/// The variables whose values are the marks.
pub(super) const MARKS: [&str; 2] = ["_generation_begins", "_generation_ends"];

/// A template with each `{% generation %}` and `{% endgeneration %}` replaced by plain Jinja; `None` if it has none.
pub(super) fn replaced(source: &str) -> Option<String> {
    let mut text = String::with_capacity(source.len());
    let (mut rest, mut found) = (source, false);
    while let Some(at) = rest.find("{%").into_iter().chain(rest.find("{#")).min() {
        let (before, tag) = rest.split_at(at);
        text += before;
        let close = if tag.starts_with("{#") { "#}" } else { "%}" };
        let end = tag.find(close).map_or(tag.len(), |end| end + close.len());
        let (tag, after) = tag.split_at(end);
        match told(tag) {
            Some(plain) => {
                text += &plain;
                found = true;
            }
            None => text += tag,
        }
        rest = after;
    }
    text += rest;
    found.then_some(text)
}

/// The replacement of a generation tag, with its whitespace control at the outer ends.
fn told(tag: &str) -> Option<String> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let is_sign = |sign: &char| ['-', '+'].contains(sign);
    let left = inner.chars().next().filter(is_sign).map(String::from).unwrap_or_default();
    let right = inner[left.len()..].chars().last().filter(is_sign).map(String::from).unwrap_or_default();
    let [begins, ends] = MARKS;
    match inner[left.len()..inner.len() - right.len()].trim() {
        "generation" => Some(format!("{{%{left} if true %}}{{{{ {begins} }}}}{{% if true {right}%}}")),
        "endgeneration" => Some(format!("{{%{left} endif %}}{{{{ {ends} }}}}{{% endif {right}%}}")),
        _ => None,
    }
}

/// The text without its marks, and what was between them; `None` if the marks don't alternate.
pub(super) fn unmarked(marked: &str, marks: [char; 2]) -> Option<(String, Vec<Range<usize>>)> {
    let mut text = String::with_capacity(marked.len());
    let (mut spans, mut begun) = (Vec::new(), None);
    for char in marked.chars() {
        match (char == marks[0], char == marks[1], begun) {
            (true, _, None) => begun = Some(text.len()),
            (_, true, Some(start)) => {
                spans.push(start..text.len());
                begun = None;
            }
            (false, false, _) => text.push(char),
            _ => return None,
        }
    }
    begun.is_none().then_some((text, spans))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_become_plain_jinja_and_comments_stay() {
        let source = "{# {% generation %} #}a{%- generation -%}b{% endgeneration %}";
        let plain = replaced(source).unwrap();
        assert_eq!(
            plain,
            "{# {% generation %} #}a{%- if true %}{{ _generation_begins }}{% if true -%}b{% endif %}{{ _generation_ends \
             }}{% endif %}"
        );
        assert_eq!(replaced("{% if x %}generation{% endif %}"), None);
        assert_eq!(unmarked("ä<bc>d<e>", ['<', '>']), Some(("äbcde".to_owned(), vec![2..4, 5..6])));
        assert_eq!(unmarked("<<a>>", ['<', '>']), None);
        assert_eq!(unmarked("<a", ['<', '>']), None);
    }
}
