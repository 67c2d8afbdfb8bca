//! Where one document of plain text ends and the next begins.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// What one document of plain text is: `"file"`, `"line"`, or `{ marker = "..." }`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DocumentConfig {
    /// Each file is a document.
    #[default]
    File,
    /// Each line that is not blank is a document, without its newline.
    Line,
    /// Documents are separated by a marker; blank ones are skipped.
    Marker(String),
}

impl Serialize for DocumentConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::File => serializer.serialize_str("file"),
            Self::Line => serializer.serialize_str("line"),
            Self::Marker(marker) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("marker", marker)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for DocumentConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DocumentVisitor;
        impl<'de> Visitor<'de> for DocumentVisitor {
            type Value = DocumentConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"file\", \"line\" or { marker = \"...\" }")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<DocumentConfig, E> {
                match word {
                    "file" => Ok(DocumentConfig::File),
                    "line" => Ok(DocumentConfig::Line),
                    other => Err(E::unknown_variant(other, &["file", "line", "{ marker = \"...\" }"])),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DocumentConfig, A::Error> {
                let mut marker = None;
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "marker" => marker = Some(map.next_value()?),
                        other => return Err(A::Error::unknown_field(other, &["marker"])),
                    }
                }
                marker.map(DocumentConfig::Marker).ok_or_else(|| A::Error::missing_field("marker"))
            }
        }
        deserializer.deserialize_any(DocumentVisitor)
    }
}

impl schemars::JsonSchema for DocumentConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DocumentConfig".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "title": r#""file", "line" or { marker = "..." }"# })
    }
}
