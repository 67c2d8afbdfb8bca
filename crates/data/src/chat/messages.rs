//! A conversation, as read from a row of a file or from a JSON document.

use serde_json::{Map, Value};

use crate::corpus::short;

/// The roles that templates in general know.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Keys of rows in other formats, and how to convert them.
const OTHER_FORMS: [(&str, &str); 4] = [
    (
        "conversations",
        "rename it to messages, from to role, value to content, and human and gpt to user and assistant",
    ),
    ("conversation", "rename it to messages"),
    ("instruction", "rename the request to prompt and the answer to completion"),
    ("text", "data.kind = \"jsonl\" reads plain texts"),
];

/// Messages with their roles, and further input of a template.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// Each message with all its keys, unchanged: a template may read any.
    pub(super) messages: Vec<Map<String, Value>>,
    /// How many messages at the beginning are never learned, whatever their role.
    pub(super) n_given: usize,
    /// Tools, documents and switches for the template, by its names for them.
    pub(super) more: Map<String, Value>,
}

impl Conversation {
    /// An empty conversation.
    pub fn new() -> Self {
        Self { messages: Vec::new(), n_given: 0, more: Map::new() }
    }

    /// The conversation of a JSON document: a list of messages, or an object that holds `messages`, or `prompt` and
    /// `completion`.
    ///
    /// # Errors
    /// Returns what is wrong with it and what was wanted, for a person to read.
    pub fn of_json(value: Value) -> Result<Self, String> {
        match value {
            Value::Array(messages) => {
                let messages = messages_of(messages, "")?;
                Ok(Self { messages, ..Self::new() })
            }
            Value::Object(row) => Self::of_row(row),
            other => Err(format!("{} is not a conversation: {WANTED}", short(&other))),
        }
    }

    /// The conversation of one row.
    pub(crate) fn of_row(mut row: Map<String, Value>) -> Result<Self, String> {
        let mut conversation = Self::new();
        match (row.remove("messages"), row.remove("prompt"), row.remove("completion")) {
            (Some(messages), None, None) => {
                conversation.messages = messages_of(list(messages, "messages")?, "messages")?;
            }
            (None, Some(prompt), Some(completion)) => {
                conversation.messages = side(prompt, "prompt", "user")?;
                conversation.n_given = conversation.messages.len();
                conversation.messages.extend(side(completion, "completion", "assistant")?);
            }
            (None, prompt, completion) if prompt.is_some() != completion.is_some() => {
                let (has, lacks) =
                    if prompt.is_some() { ("prompt", "completion") } else { ("completion", "prompt") };
                return Err(format!("it has {has} and no {lacks}; {WANTED}"));
            }
            (Some(_), _, _) => return Err(format!("it has messages and prompt or completion: {WANTED}")),
            (None, _, _) => {
                let known = OTHER_FORMS.iter().find(|(key, _)| row.contains_key(*key));
                let keys: Vec<&str> = row.keys().map(String::as_str).collect();
                let has = if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
                let advice = known.map_or_else(String::new, |(key, advice)| format!(" ({key}: {advice})"));
                return Err(format!("it has neither messages nor prompt; it has {has}{advice}; {WANTED}"));
            }
        }
        for key in ["tools", "documents"] {
            conversation.more.extend(row.remove(key).map(|value| (key.to_owned(), value)));
        }
        if let Some(Value::Object(more)) = row.remove("chat_template_kwargs") {
            conversation.more.extend(more);
        }
        Ok(conversation)
    }

    /// Adds a message.
    pub fn push(&mut self, role: &str, content: &str) {
        let entry = |key: &str, value: &str| (key.to_owned(), Value::from(value));
        self.messages.push([entry("role", role), entry("content", content)].into_iter().collect());
    }

    /// Removes the last message.
    pub fn pop(&mut self) {
        self.messages.pop();
    }

    /// Removes the oldest turn: the first non-system message and all up to the user's next; returns whether another
    /// turn followed.
    pub fn forget_turn(&mut self) -> bool {
        let is_system = |role: &str| ["system", "developer"].contains(&role);
        let first = (0..self.len()).find(|&index| !is_system(self.role(index)));
        let next = first.and_then(|first| {
            (first + 1..self.len()).find(|&index| self.role(index) == "user").map(|next| first..next)
        });
        next.is_some_and(|turn| {
            self.messages.drain(turn);
            true
        })
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The role of a message.
    pub fn role(&self, index: usize) -> &str {
        self.messages.get(index).and_then(|message| message["role"].as_str()).unwrap_or_default()
    }

    /// The content of a message, if it has one.
    pub fn content(&self, index: usize) -> Option<&str> {
        self.messages.get(index)?.get("content")?.as_str()
    }

    /// The first `n` messages.
    pub(super) fn first(&self, n: usize) -> Self {
        Self { messages: self.messages[..n].to_vec(), ..self.clone() }
    }

    /// The same with `more` appended to a message's content.
    pub(super) fn with_more_in(&self, index: usize, more: &str) -> Option<Self> {
        let content = format!("{}{more}", self.content(index)?);
        let mut other = self.clone();
        other.messages[index].insert("content".to_owned(), content.into());
        Some(other)
    }

    /// Checks that every role is known to templates in general, or occurs in this one.
    pub(crate) fn check_roles(&self, template: &str) -> Result<(), String> {
        let unknown = (0..self.len())
            .find(|&index| !ROLES.contains(&self.role(index)) && !template.contains(self.role(index)));
        match unknown {
            None => Ok(()),
            Some(index) => Err(format!(
                "message {} has the role {:?}; known are {}, and those in the template",
                index + 1,
                self.role(index),
                ROLES.join(", ")
            )),
        }
    }
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

const WANTED: &str = "wanted {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}, {\"role\": \"assistant\", …}]}, or \
                      {\"prompt\": …, \"completion\": …}";

/// A prompt or a completion: a text, said by `role`, or messages.
fn side(value: Value, key: &str, role: &str) -> Result<Vec<Map<String, Value>>, String> {
    match value {
        Value::String(text) => {
            let mut one = Conversation::new();
            one.push(role, &text);
            Ok(one.messages)
        }
        other => messages_of(list(other, key)?, key),
    }
}

fn list(value: Value, key: &str) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(messages) => Ok(messages),
        other => Err(format!("{key} is {}; {WANTED}", short(&other))),
    }
}

fn messages_of(messages: Vec<Value>, key: &str) -> Result<Vec<Map<String, Value>>, String> {
    if messages.is_empty() {
        let what = if key.is_empty() { "the conversation" } else { key };
        return Err(format!("{what} is empty; wanted at least one message"));
    }
    messages.into_iter().enumerate().map(|(index, message)| message_of(message, index + 1)).collect()
}

/// One message, checked to have a role and content.
fn message_of(message: Value, number: usize) -> Result<Map<String, Value>, String> {
    let Value::Object(mut message) = message else {
        return Err(format!(
            "message {number} is {}; wanted an object with role and content",
            short(&message)
        ));
    };
    match message.get("role") {
        Some(Value::String(role)) if !role.is_empty() => {}
        Some(other) => return Err(format!("message {number} has the role {}; wanted a name", short(other))),
        None => {
            let keys: Vec<&str> = message.keys().map(String::as_str).collect();
            let has = if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
            return Err(format!("message {number} has no role; it has {has}"));
        }
    }
    let calls_tools = message.get("tool_calls").is_some_and(|calls| !calls.is_null());
    match message.get("content") {
        Some(Value::String(_)) => Ok(message),
        None | Some(Value::Null) if calls_tools => Ok(message),
        None | Some(Value::Null) => {
            Err(format!("message {number} has no content; wanted a text, which may be empty"))
        }
        Some(Value::Array(parts)) => {
            let text = joined(parts).map_err(|what| format!("message {number} has {what} {WANTED_PART}"))?;
            message.insert("content".to_owned(), text.into());
            Ok(message)
        }
        Some(other) => Err(format!("message {number} has the content {}; wanted a text", short(other))),
    }
}

const WANTED_PART: &str = "in its content; wanted a text, or a list of {\"type\": \"text\", \"text\": \"…\"}";

/// The text of a content that is a list of parts: joined, as templates that read such lists do.
fn joined(parts: &[Value]) -> Result<String, String> {
    let text = |(number, part): (usize, &Value)| match (part.get("type"), part.get("text")) {
        (Some(Value::String(kind)), Some(Value::String(text))) if kind == "text" => Ok(text.clone()),
        (Some(Value::String(kind)), _) if kind != "text" => Err(format!("a part {kind:?}, number {number},")),
        _ => Err(format!("{} as part {number}", short(part))),
    };
    match parts {
        [] => Err("no part".to_owned()),
        parts => (1..).zip(parts).map(text).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_of_both_forms_become_messages() {
        let plain = Conversation::of_json(json!({"prompt": "a", "completion": "b", "id": 7})).unwrap();
        assert_eq!(
            (plain.len(), plain.n_given, plain.role(1), plain.content(1)),
            (2, 1, "assistant", Some("b"))
        );
        let long = json!({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}],
                          "completion": "b", "tools": [1], "chat_template_kwargs": {"enable_thinking": false}});
        let long = Conversation::of_json(long).unwrap();
        assert_eq!((long.len(), long.n_given, long.more.len()), (3, 2, 2));
        let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]}]);
        assert_eq!(Conversation::of_json(parts).unwrap().content(0), Some("a b"));
    }

    #[test]
    fn invalid_conversations_are_reported() {
        for (row, wanted) in [
            (json!({"messages": []}), "is empty"),
            (json!({"messages": [{"content": "a"}]}), "message 1 has no role; it has content"),
            (json!({"messages": [{"role": "user"}]}), "message 1 has no content"),
            (json!({"messages": [{"role": "user", "content": 1}]}), "has the content 1"),
            (json!({"messages": [{"role": "user", "content": []}]}), "message 1 has no part in its content"),
            (json!({"messages": [{"role": "user", "content": [{}]}]}), "{} as part 1"),
            (json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}), "as part 1"),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}]}),
                "as part 2",
            ),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}),
                "message 1 has a part \"image_url\", number 1, in its content; wanted a text",
            ),
            (json!({"messages": "a"}), "messages is \"a\""),
            (json!({"prompt": "a"}), "it has prompt and no completion"),
            (json!({"conversations": []}), "rename it to messages"),
            (json!({}), "it has nothing"),
            (json!(3), "3 is not a conversation"),
        ] {
            let said = Conversation::of_json(row.clone()).unwrap_err();
            assert!(said.contains(wanted), "{row}: {said}");
        }
        let mut long = Conversation::new();
        for (role, content) in [
            ("system", "s"),
            ("user", "a"),
            ("assistant", "b"),
            ("user", "c"),
            ("assistant", "d"),
            ("user", "e"),
        ] {
            long.push(role, content);
        }
        assert!(long.forget_turn() && long.forget_turn() && !long.forget_turn());
        assert_eq!((long.len(), long.content(0), long.content(1)), (2, Some("s"), Some("e")));
        let mut odd = Conversation::new();
        odd.push("humann", "a");
        assert!(odd.check_roles("{{ x }}").unwrap_err().contains("message 1 has the role \"humann\""));
        assert!(odd.check_roles("{% if role == 'humann' %}").is_ok());
    }
}
