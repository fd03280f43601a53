//! JSON, as `--json` writes it. One document per command, on one line.
//!
//! The shapes are stable: keys are added, never renamed or dropped. The operator's
//! guide (docs/guide.md) lists them by command; a test holds it to that.
//!
//! A text has its hidden characters escaped ([`crate::visible`]), so that a program which
//! prints it, such as `jq -r`, sends none of them to a terminal. Only newline and tab stay
//! what they are.
//!
//! Why our own: all that is needed is to write one tree of values, with its keys in the
//! order in which they are documented. `serde_json` is a parser as well, and its values
//! sort their keys unless a further crate is brought.

use std::fmt::{self, Write};

use crate::visible::is_hidden;

/// A JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Unknown or absent.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number. Readers that keep numbers as doubles are exact up to
    /// 2^53, so 64-bit identities are written as text.
    Number(u64),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Value>),
    /// Values by name, in the order of the documentation.
    Object(Vec<(&'static str, Value)>),
    /// Values by names that are data.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// A text: what `value` displays as.
    pub fn text(value: impl fmt::Display) -> Self {
        Self::Text(value.to_string())
    }

    /// A list.
    pub fn list(values: impl IntoIterator<Item = Self>) -> Self {
        Self::List(values.into_iter().collect())
    }

    /// An object.
    pub fn object(members: impl Into<Vec<(&'static str, Self)>>) -> Self {
        Self::Object(members.into())
    }

    /// An object whose names are data.
    pub fn map<K: Into<String>>(members: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Map(members.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// A value that may be absent.
    #[must_use]
    pub fn or_null(value: Option<Self>) -> Self {
        value.unwrap_or(Self::Null)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Number(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Number(value.into())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(text) => write_text(f, text),
            Self::List(values) => {
                f.write_char('[')?;
                for (place, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if place == 0 { "" } else { "," })?;
                }
                f.write_char(']')
            }
            Self::Object(members) => write_members(f, &mut members.iter().map(|(key, value)| (*key, value))),
            Self::Map(members) => {
                write_members(f, &mut members.iter().map(|(key, value)| (key.as_str(), value)))
            }
        }
    }
}

fn write_members(
    f: &mut fmt::Formatter<'_>,
    members: &mut dyn Iterator<Item = (&str, &Value)>,
) -> fmt::Result {
    f.write_char('{')?;
    for (place, (key, value)) in members.enumerate() {
        f.write_str(if place == 0 { "" } else { "," })?;
        write_text(f, key)?;
        write!(f, ":{value}")?;
    }
    f.write_char('}')
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            // Twice: what a reader unescapes is still escaped.
            _ if is_hidden(c) => write!(f, "\\{}", c.escape_default())?,
            _ => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_json() {
        let value = Value::object([
            ("a", Value::list([Value::Null, true.into(), 7u32.into()])),
            ("b", Value::object([("c", Value::text("d"))])),
            ("e", Value::list([])),
        ]);
        assert_eq!(value.to_string(), r#"{"a":[null,true,7],"b":{"c":"d"},"e":[]}"#);
        assert_eq!(Value::from(u64::MAX).to_string(), "18446744073709551615");
    }

    #[test]
    fn quotes_and_hidden_characters_are_escaped() {
        let text = "a\"b\\c\n\r\t\u{0}\u{1b}[2J\u{7f}\u{9b}\u{2028}\u{202e}\u{e0041}é🦀";
        let json = r#""a\"b\\c\n\\r\t\\u{0}\\u{1b}[2J\\u{7f}\\u{9b}\\u{2028}\\u{202e}\\u{e0041}é🦀""#;
        assert_eq!(Value::text(text).to_string(), json);
        assert_eq!(Value::object([("k\"", Value::Null)]).to_string(), r#"{"k\"":null}"#);
    }
}
