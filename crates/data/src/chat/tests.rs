//! Templates of several styles: what of a conversation is learned, and what is refused.

use serde_json::{Map, Value, json};

use super::*;
use crate::config::{TokenizerConfig, TokenizerKind};
use crate::tokenizer::Tokenizer;

/// A tokenizer with one id per character, and some tags as special tokens.
fn letters() -> Tokenizer {
    let config = TokenizerConfig {
        kind: TokenizerKind::Char,
        special_tokens: vec!["<|user|>".into(), "<|end|>".into(), "<|text-end|>".into()],
        ..TokenizerConfig::default()
    };
    let all: String = (' '..='~').chain("\näöü🙂".chars()).collect();
    Tokenizer::train(&config, [all.as_str()]).unwrap()
}

fn conversation(messages: &[(&str, &str)]) -> Conversation {
    let mut conversation = Conversation::new();
    messages.iter().for_each(|(role, content)| conversation.push(role, content));
    conversation
}

fn template(source: &str) -> ChatTemplate {
    let tokens: Map<String, Value> = json!({"eos_token": "</s>"}).as_object().unwrap().clone();
    ChatTemplate::new(source, "test", tokens).unwrap()
}

/// The texts of the rows, with learned parts in brackets, or why there are none.
fn rows(source: &str, messages: &[(&str, &str)], max_len: usize) -> Vec<String> {
    match rows_within(&template(source), &letters(), &conversation(messages), max_len).unwrap() {
        Err(why) => vec![format!("refused: {why}")],
        Ok(RowsOf { rows, cut, .. }) => {
            let shown = rows.iter().map(|row| {
                let mut text = row.text.clone();
                for (start, end) in row.learned_bytes().into_iter().rev() {
                    text.insert(end, ']');
                    text.insert(start, '[');
                }
                text
            });
            let cut = (cut != Cut::default()).then(|| format!("{cut:?}"));
            shown.chain(cut).collect()
        }
    }
}

const ASKED: [(&str, &str); 4] = [("user", "a"), ("assistant", "b "), ("user", "c"), ("assistant", "ö")];

#[test]
fn answers_and_what_closes_them_are_learned() {
    let plain = ChatTemplate::built_in("plain").unwrap();
    assert_eq!(
        rows(plain, &ASKED, 99),
        ["User: a\nAssistant:[ b </s>]\nUser: c\nAssistant:[ ö</s>]\n"],
        "the content keeps its spaces; the newline after the closing token is not learned"
    );
    // Only a newline closes a turn.
    let bare = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}\
                {% if add_generation_prompt %}assistant: {% endif %}";
    assert_eq!(rows(bare, &ASKED, 99), ["user: a\nassistant: [b \n]user: c\nassistant: [ö\n]"]);
    assert_eq!(
        rows(bare, &[("user", "assistant: x\n"), ("assistant", "")], 99),
        ["user: assistant: x\n\nassistant: [\n]"]
    );
}

#[test]
fn tokens_at_the_end_of_the_text_do_not_split_the_row() {
    let ended = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}\
                 {% if add_generation_prompt %}<|assistant|>{% else %}<|text-end|>{% endif %}";
    let wanted =
        ["<|user|>a<|end|><|assistant|>[b <|end|>]<|user|>c<|end|><|assistant|>[ö<|end|><|text-end|>]"];
    assert_eq!(rows(ended, &ASKED, 99), wanted);
    // The same, written in one piece: tokens show where both agree.
    let in_one = format!("{{% set all %}}{ended}{{% endset %}}{{{{ all }}}}");
    assert_eq!(rows(&in_one, &ASKED, 99), wanted);
}

#[test]
fn a_template_that_rewrites_turns_splits_the_row() {
    let thinks = "{% for m in messages %}{{ '<' + m.role + '>' }}{% if loop.last and m.role == 'assistant' %}(){% endif %}\
                  {{ m.content + ';' }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    assert_eq!(
        rows(thinks, &ASKED, 99),
        ["<user>a;<assistant>[()b ;]", "<user>a;<assistant>b ;<user>c;<assistant>[()ö;]"]
    );
    assert_eq!(
        rows(thinks, &[("user", "a"), ("assistant", ""), ("user", "c")], 99),
        ["<user>a;<assistant>[();]"]
    );
    let system = "{{ messages[0].content if messages[-1].role == 'user' }}{% for m in messages[1:] %}{{ m.content }}{% endfor %}";
    let refused = rows(system, &[("system", "s"), ("user", "u"), ("assistant", "b")], 99);
    assert!(
        refused[0].contains("message 3 can't be located: the prompt before it is not a prefix"),
        "{refused:?}"
    );
}

#[test]
fn generation_tag_marks_what_is_learned() {
    let tagged = "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}\n<b>{{ m.content }};\n\
                  {%- endgeneration %}{% else %}{{ m.content }};{% endif %}{% endfor %}";
    assert_eq!(rows(tagged, &ASKED, 99), ["a;[<b>b ;]c;[<b>ö;]"]);
    let given = json!({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                                  {"role": "user", "content": "c"}], "completion": "d"});
    let given = Conversation::of_json(given).unwrap();
    let found = rows_within(&template(tagged), &letters(), &given, 99).unwrap().unwrap();
    assert_eq!(found.rows[0].text, "a;<b>b;c;<b>d;");
    assert_eq!(found.rows[0].learned_bytes(), [(9, 14)]);
    let never = "{% for m in messages %}{{ m.content }}{% if false %}{% generation %}{% endgeneration %}{% endif %}{% endfor %}";
    assert!(rows(never, &ASKED, 99)[0].contains("nothing in it is within {% generation %}"));
}

#[test]
fn too_long_rows_end_after_a_complete_turn() {
    let bare = "{% for m in messages %}{{ '<' + m.role + '>' + m.content + ';' }}{% endfor %}\
                {% if add_generation_prompt %}<assistant>{% endif %}";
    let first = "<user>a;<assistant>[b ;]";
    let n_first = first.len() - 2;
    assert_eq!(rows(bare, &ASKED, 99).len(), 1);
    let cut = "Cut { n_cut: 1, n_left_out: 0 }";
    assert_eq!(rows(bare, &ASKED, 41), [first, cut]);
    assert_eq!(rows(bare, &ASKED, n_first), [first, cut]);
    assert_eq!(rows(bare, &ASKED, n_first - 1), ["Cut { n_cut: 0, n_left_out: 1 }"]);
}

#[test]
fn rows_that_learn_nothing_or_everything_are_refused() {
    let plain = ChatTemplate::built_in("plain").unwrap();
    let refused = |source: &str, messages: &[(&str, &str)]| rows(source, messages, 99).remove(0);
    assert!(refused(plain, &[("user", "a")]).contains("no assistant message"));
    assert!(refused(plain, &[("bot", "a")]).contains("the role \"bot\""));
    assert!(refused("{{ messages[0].content }}", &ASKED[..2]).contains("nothing follows the prompt"));
    let all = "{% for m in messages %}{{ m.content }}{% endfor %}";
    assert!(
        refused(all, &[("user", ""), ("assistant", "bc")]).contains("every token of it would be learned")
    );
    let strict =
        "{% if messages[0].role != 'system' %}{{ raise_exception('a system message first') }}{% endif %}";
    let error =
        rows_within(&template(strict), &letters(), &conversation(&ASKED), 99).unwrap_err().to_string();
    assert_eq!(error, "chat template test: it refuses this conversation: a system message first");
}

#[test]
fn turns_hold_what_encloses_an_answer() {
    let of = |source: &str| Turns::of(&template(source), &letters()).unwrap();
    let id = |token: &str| letters().token_to_id(token);
    let plain = of(ChatTemplate::built_in("plain").unwrap());
    assert_eq!(plain, Turns { lead: " ".into(), end_id: None, end_text: Some("</s>".into()) });
    let tagged = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}\
                  {% if add_generation_prompt %}<|assistant|>{% else %}<|text-end|>{% endif %}";
    assert_eq!(of(tagged), Turns { lead: String::new(), end_id: id("<|end|>"), end_text: None });
    assert_eq!(of("{{ raise_exception('no') }}"), Turns::default());
}
