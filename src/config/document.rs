//! Reads TOML that people write: the configuration, key files and patches' metadata. Each
//! value keeps its position, so that an error names the file, the line, the key and the
//! accepted values.
//!
//! Why our own: this is a layer over the parser of the `toml` crate. Derived serde structs would
//! report the parser's message, without the nearest known key and the accepted range.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::sections::{Item, Section, Value};
use crate::types::Name;

/// What is wrong with a configuration, key or metadata file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named.
    pub file: String,
    /// The line, counted from 1; `None` for an error about the whole file.
    pub line: Option<usize>,
    /// The key with its section, for example `network.ttl`; empty if no key is concerned.
    pub key: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The file itself: missing, unreadable, of the wrong mode. A sentence, with what to do.
    File(String),
    /// It is not TOML.
    Syntax(String),
    /// No such key or section.
    Unknown {
        /// The key that may have been meant.
        nearest: Option<&'static str>,
        /// All there are.
        known: &'static [&'static str],
    },
    /// The key must be there.
    Missing {
        /// What it takes.
        accepts: String,
    },
    /// The key does not accept the value.
    Unacceptable {
        /// The value as written, cut short where it is long.
        found: String,
        /// What the key takes.
        accepts: String,
    },
    /// The value conflicts with another. A sentence, with what to do.
    Conflict(String),
}

impl ConfigError {
    /// An error about a file as a whole.
    pub(crate) fn file(file: &str, sentence: String) -> Self {
        Self { file: file.to_owned(), line: None, key: String::new(), problem: Problem::File(sentence) }
    }

    /// Removes the value as written, which is a secret.
    pub(crate) fn without_value(mut self) -> Self {
        if let Problem::Unacceptable { found, .. } = &mut self.problem {
            "what it is".clone_into(found);
        }
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        let key = &self.key;
        match &self.problem {
            Problem::File(sentence) => write!(f, ": {sentence}"),
            Problem::Syntax(message) => write!(f, ": this is not TOML: {message}"),
            Problem::Unknown { nearest: Some(nearest), .. } => {
                write!(f, ": {key} is not known; did you mean {nearest}?")
            }
            Problem::Unknown { nearest: None, known } => {
                write!(f, ": {key} is not known; there are {}", known.join(", "))
            }
            Problem::Missing { accepts } => write!(f, ": {key} is missing; it takes {accepts}"),
            Problem::Unacceptable { found, accepts } => {
                write!(f, ": {key} cannot be {found}; it takes {accepts}")
            }
            Problem::Conflict(sentence) => write!(f, ": {key}: {sentence}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A parsed file.
pub(crate) struct Document<'t> {
    text: &'t str,
    file: &'t str,
    table: Section<'t>,
}

impl<'t> Document<'t> {
    /// Parses `text`; `file` is its name in errors, `known` its sections and
    /// the keys before the first of them.
    pub(crate) fn parse(
        text: &'t str,
        file: &'t str,
        known: &'static [&'static str],
    ) -> Result<Self, ConfigError> {
        let table = Section::parse(text).map_err(|(offset, sentence)| ConfigError {
            file: file.to_owned(),
            line: offset.map(|offset| line_at(text, offset)),
            key: String::new(),
            problem: Problem::Syntax(sentence),
        })?;
        let document = Self { text, file, table };
        document.top(known).refuse_unknown()?;
        Ok(document)
    }

    /// The keys before the first section.
    pub(crate) fn top(&self, known: &'static [&'static str]) -> ConfigSection<'_> {
        ConfigSection { document: self, name: Cow::Borrowed(""), table: Some(&self.table), known }
    }

    /// A section; empty if the file does not have it. Its keys must be among `known`.
    pub(crate) fn section(
        &self,
        name: &'static str,
        known: &'static [&'static str],
    ) -> Result<ConfigSection<'_>, ConfigError> {
        let table = match self.table.get(name) {
            None => None,
            Some(value) => Some(self.table_of(name, value)?),
        };
        let section = ConfigSection { document: self, name: Cow::Borrowed(name), table, known };
        section.refuse_unknown()?;
        Ok(section)
    }

    /// The sections `[name.KEY]`, each with its KEY, in the order of these.
    pub(crate) fn subsections(
        &self,
        name: &'static str,
        known: &'static [&'static str],
    ) -> Result<Vec<(&str, ConfigSection<'_>)>, ConfigError> {
        let Some(value) = self.table.get(name) else { return Ok(Vec::new()) };
        let mut sections = Vec::new();
        for (key, value) in self.table_of(name, value)?.iter() {
            let key: &str = &key.name;
            let full = format!("{name}.{key}");
            let table = Some(self.table_of(&full, value)?);
            let section = ConfigSection { document: self, name: Cow::Owned(full), table, known };
            section.refuse_unknown()?;
            let at = sections.partition_point(|(other, _)| *other < key);
            sections.insert(at, (key, section));
        }
        Ok(sections)
    }

    fn table_of<'d>(&'d self, name: &str, item: &'d Item<'t>) -> Result<&'d Section<'t>, ConfigError> {
        if let Value::Section(section) = &item.value {
            return Ok(section);
        }
        let accepts = format!("keys of its own, below a line [{name}]");
        let found = self.found(item);
        Err(self.error(Some(item.span.start), name.to_owned(), Problem::Unacceptable { found, accepts }))
    }

    /// A value as written, cut to its first line and 80 characters.
    fn found(&self, item: &Item<'_>) -> String {
        let written = &self.text[item.span.clone()];
        let line = written.lines().next().unwrap_or_default();
        let mut found: String = line.chars().take(80).collect();
        if found.len() < written.len() {
            found.push_str("...");
        }
        found
    }

    fn error(&self, offset: Option<usize>, key: String, problem: Problem) -> ConfigError {
        let line = offset.map(|offset| line_at(self.text, offset));
        ConfigError { file: self.file.to_owned(), line, key, problem }
    }
}

/// One table of a file.
pub(crate) struct ConfigSection<'d> {
    document: &'d Document<'d>,
    name: Cow<'static, str>,
    table: Option<&'d Section<'d>>,
    known: &'static [&'static str],
}

impl<'d> ConfigSection<'d> {
    fn refuse_unknown(&self) -> Result<(), ConfigError> {
        for (key, _) in self.table.iter().flat_map(|table| table.iter()) {
            let name: &str = &key.name;
            if !self.known.contains(&name) {
                let problem = Problem::Unknown { nearest: nearest(name, self.known), known: self.known };
                return Err(self.document.error(Some(key.at), self.full(name), problem));
            }
        }
        Ok(())
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Whether the file has the section.
    pub(crate) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the section has the key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    fn value(&self, key: &str) -> Option<&'d Item<'d>> {
        debug_assert!(self.known.contains(&key), "{key} is read but would be refused as unknown");
        self.table?.get(key)
    }

    /// The error for a required key that is absent, or has an empty value.
    pub(crate) fn missing(&self, key: &str, accepts: String) -> ConfigError {
        match self.value(key) {
            Some(value) => self.unacceptable(key, value, accepts),
            None => self.document.error(None, self.full(key), Problem::Missing { accepts }),
        }
    }

    /// The error for a value that conflicts with another.
    pub(crate) fn conflict(&self, key: &str, sentence: String) -> ConfigError {
        self.conflict_between(key, key, sentence)
    }

    /// The error for a value that conflicts with that of `other`. The line is that of
    /// `key`, or of `other` if `key` has its default.
    pub(crate) fn conflict_between(&self, key: &str, other: &str, sentence: String) -> ConfigError {
        let offset = self.value(key).or_else(|| self.value(other)).map(|value| value.span.start);
        self.document.error(offset, self.full(key), Problem::Conflict(sentence))
    }

    fn unacceptable(&self, key: &str, value: &Item<'_>, accepts: String) -> ConfigError {
        let found = self.document.found(value);
        let problem = Problem::Unacceptable { found, accepts };
        self.document.error(Some(value.span.start), self.full(key), problem)
    }

    /// A string converted by `read`, which returns `None` for an unacceptable value.
    pub(crate) fn parsed<T>(
        &self,
        key: &str,
        accepts: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let parsed = value.value.text().and_then(read);
        parsed.map(Some).ok_or_else(|| self.unacceptable(key, value, accepts.to_owned()))
    }

    /// A list of at most `most` strings, each converted by `read`.
    pub(crate) fn list<T>(
        &self,
        key: &str,
        most: usize,
        accepts: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        Ok(self.list_if_set(key, most, accepts, read)?.unwrap_or_default())
    }

    /// The same; `None` if the key is not set.
    pub(crate) fn list_if_set<T>(
        &self,
        key: &str,
        most: usize,
        accepts: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<Vec<T>>, ConfigError> {
        let mut list = Vec::new();
        let mut take = |text: &str| read(text).map(|item| list.push(item)).is_some();
        let is_set = self.each(key, most, accepts, &mut take)?;
        Ok(is_set.then_some(list))
    }

    /// Passes each text of a list to `take`, which says whether it is accepted. Whether the key is
    /// set. What is the same for lists of all kinds is here once.
    #[inline(never)]
    fn each(
        &self,
        key: &str,
        most: usize,
        accepts: &str,
        take: &mut dyn FnMut(&str) -> bool,
    ) -> Result<bool, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(false) };
        let accepts = || format!("a list of at most {most}, each {accepts}");
        let items = match &value.value {
            Value::List(items) if items.len() <= most => items,
            _ => return Err(self.unacceptable(key, value, accepts())),
        };
        for item in items {
            if !item.value.text().is_some_and(&mut *take) {
                return Err(self.unacceptable(key, item, accepts()));
            }
        }
        Ok(true)
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.value {
            Value::Boolean(boolean) => Ok(Some(boolean)),
            _ => Err(self.unacceptable(key, value, "true or false".to_owned())),
        }
    }

    /// A whole number in a range.
    pub(crate) fn integer(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = match &value.value {
            Value::Integer(digits, radix) => u64::from_str_radix(digits, *radix).ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        let accepts = || format!("a whole number from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| self.unacceptable(key, value, accepts()))
    }

    /// An absolute path.
    pub(crate) fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        self.parsed(key, "an absolute path", |text| {
            Some(PathBuf::from(text)).filter(|path| path.is_absolute() && !text.contains('\0'))
        })
    }

    /// A name of at most `N` bytes.
    pub(crate) fn name<const N: usize>(&self, key: &str) -> Result<Option<Name<N>>, ConfigError> {
        self.parsed(key, &name_of(N), |text| Name::new(text).ok())
    }

    /// An IPv4 multicast address.
    pub(crate) fn group(&self, key: &str) -> Result<Option<Ipv4Addr>, ConfigError> {
        let accepts = "a multicast address beyond 224.0.0.255, for example 239.255.84.72";
        self.parsed(key, accepts, |text| {
            let address: Ipv4Addr = text.parse().ok()?;
            let is_routing = address.octets()[..3] == [224, 0, 0];
            (address.is_multicast() && !is_routing).then_some(address)
        })
    }

    /// A multicast group of IPv6 that is not for one host alone.
    pub(crate) fn group6(&self, key: &str) -> Result<Option<Ipv6Addr>, ConfigError> {
        let accepts = "a multicast address of the link or wider, for example ff02::5448 or ff15::54:48";
        self.parsed(key, accepts, |text| {
            let address: Ipv6Addr = text.parse().ok()?;
            let (scope, [.., last]) = (address.octets()[1] & 0x0F, address.segments());
            // ff02::1, ::2 and others with a small number are the routers' and the hosts' own.
            let is_own =
                address.segments()[1..7] == [0; 6] && last < 0x100 && address.octets()[1] & 0x10 == 0;
            (address.is_multicast() && scope >= 2 && !is_own).then_some(address)
        })
    }
}

/// The description of a [`Name`] of at most `most` bytes.
pub(crate) fn name_of(most: usize) -> String {
    format!("a name of at most {most} letters, digits and . _ - + ~ : that starts with neither . nor -")
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The known word with the smallest edit distance from `word`, if it is close enough.
pub(crate) fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let closest = known.iter().map(|candidate| (edits(word, candidate), *candidate)).min()?;
    (closest.0 <= 1 + word.len() / 4).then_some(closest.1)
}

/// The Levenshtein distance of two words, in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.bytes().enumerate() {
            let exchanged = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_close_or_none() {
        let known = &["interface", "controller_port", "agent_port", "ttl"];
        assert_eq!(nearest("interfce", known), Some("interface"));
        assert_eq!(nearest("agent-port", known), Some("agent_port"));
        assert_eq!(nearest("agentport", known), Some("agent_port"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("colour", &[]), None);
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("same", "same"), 0);
    }
}
