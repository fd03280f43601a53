//! The sections and values of a TOML file, each with its position.
//!
//! The library `toml_parser` reads TOML; this only puts its events in order. The crate `toml` does that as
//! well, with maps, floats and times that no file of ours has: 20 KB of the program. A test holds both to
//! the same answers.

use std::borrow::Cow;
use std::mem;
use std::ops::Range;

use toml_parser::decoder::ScalarKind;
use toml_parser::parser::{Event, EventKind, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, Expected, ParseError, Source, Span};

/// How deep lists and sections may be within each other: more than any file needs.
const MOST_DEPTH: u32 = 16;

/// A value, and where it is in the file.
#[derive(Debug)]
pub(super) struct Item<'t> {
    /// As written. That of a section is its first header or key.
    pub span: Range<usize>,
    pub value: Value<'t>,
}

/// What a key has.
#[derive(Debug)]
pub(super) enum Value<'t> {
    Text(Cow<'t, str>),
    Boolean(bool),
    /// Its digits, with their sign and without underscores and prefix, and their base.
    Integer(Cow<'t, str>, u32),
    List(Vec<Item<'t>>),
    Section(Section<'t>),
    /// What no key takes: a float, a time, an array of sections.
    Other,
}

impl Value<'_> {
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

/// How a section was begun, which says what may be added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// By a header of a section within it: it may have a header of its own.
    Within,
    /// By its header.
    Header,
    /// By a dotted key.
    Dotted,
    /// In braces, which hold all of it.
    Inline,
}

/// A name, and where it is in the file.
#[derive(Debug)]
pub(super) struct Key<'t> {
    pub name: Cow<'t, str>,
    pub at: usize,
}

/// Keys with their values, in the order of the file.
#[derive(Debug)]
pub(super) struct Section<'t> {
    keys: Vec<(Key<'t>, Item<'t>)>,
    begun: Begun,
}

impl<'t> Section<'t> {
    /// Reads a file.
    ///
    /// # Errors
    /// What is not TOML, and where.
    pub(super) fn parse(text: &'t str) -> Result<Self, (Option<usize>, String)> {
        let source = Source::new(text);
        let mut error: Option<ParseError> = None;
        let mut builder = Builder {
            source,
            root: Section::new(Begun::Header),
            keys: Vec::new(),
            header: Vec::new(),
            is_of_array: false,
            open: Vec::new(),
        };
        // A fault of the grammar is told before one of a key or value.
        let mut events: Vec<Event> = Vec::new();
        let mut checked = ValidateWhitespace::new(&mut events, source);
        let mut bounded = RecursionGuard::new(&mut checked, MOST_DEPTH);
        parse_document(&source.lex().into_vec(), &mut bounded, &mut error);
        events.iter().for_each(|event| builder.on(event, &mut error));
        match error {
            None => Ok(builder.root),
            Some(error) => Err((error.unexpected().map(|span| span.start()), sentence(&error))),
        }
    }

    fn new(begun: Begun) -> Self {
        Self { keys: Vec::new(), begun }
    }

    /// What a key has; `None` if it is not there.
    pub(super) fn get(&self, name: &str) -> Option<&Item<'t>> {
        self.iter().find(|(key, _)| key.name == name).map(|(_, item)| item)
    }

    /// All keys, in the order of the file.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Key<'t>, Item<'t>)> {
        self.keys.iter()
    }

    /// The section at `path`, begun so if it is not there; `None` if one of the path is another value, or a
    /// section to which nothing may be added so.
    fn at(&mut self, path: &[Key<'t>], begun: Begun, span: &Range<usize>) -> Option<&mut Self> {
        let Some((key, rest)) = path.split_first() else { return Some(self) };
        let place = self.keys.iter().position(|(other, _)| other.name == key.name).unwrap_or_else(|| {
            let value = Value::Section(Section::new(begun));
            self.keys.push((key.clone(), Item { span: span.clone(), value }));
            self.keys.len() - 1
        });
        let (_, Item { value: Value::Section(section), .. }) = &mut self.keys[place] else { return None };
        let may_be_added_to = match begun {
            Begun::Dotted => section.begun == Begun::Dotted,
            _ => section.begun != Begun::Inline,
        };
        if may_be_added_to { section.at(rest, begun, span) } else { None }
    }

    /// Adds a value; `None` if the key is there already, or its path leads elsewhere.
    fn insert(&mut self, mut path: Vec<Key<'t>>, item: Item<'t>) -> Option<()> {
        let last = path.pop()?;
        let section = self.at(&path, Begun::Dotted, &item.span)?;
        if section.get(&last.name).is_some() {
            return None;
        }
        section.keys.push((last, item));
        Some(())
    }
}

impl Clone for Key<'_> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), at: self.at }
    }
}

/// What is begun and not yet ended, the innermost last.
enum Open<'t> {
    /// A key whose value follows.
    Key(Vec<Key<'t>>),
    List(usize, Vec<Item<'t>>),
    Inline(usize, Section<'t>),
}

/// Puts the events of the parser in order.
struct Builder<'t> {
    source: Source<'t>,
    root: Section<'t>,
    /// Of the key or header that is being read.
    keys: Vec<Key<'t>>,
    /// Of the section whose keys follow.
    header: Vec<Key<'t>>,
    /// They are of an array of sections, which no file of ours has: they are read and dropped.
    is_of_array: bool,
    open: Vec<Open<'t>>,
}

impl<'t> Builder<'t> {
    /// Takes a value that is complete.
    fn take(&mut self, item: Item<'t>, errors: &mut dyn ErrorSink) {
        match self.open.pop() {
            Some(Open::List(start, mut items)) => {
                items.push(item);
                self.open.push(Open::List(start, items));
            }
            Some(Open::Key(path)) => {
                let at = path.last().map_or(0, |key| key.at);
                let inserted = match self.open.last_mut() {
                    Some(Open::Inline(_, section)) => section.insert(path, item),
                    _ if self.is_of_array => Some(()),
                    _ => {
                        let section = self.root.at(&self.header, Begun::Within, &item.span);
                        section.and_then(|section| section.insert(path, item))
                    }
                };
                if inserted.is_none() {
                    duplicate(at, errors);
                }
            }
            // A value without a key: the parser has told.
            other => self.open.extend(other),
        }
    }

    fn on(&mut self, event: &Event, errors: &mut dyn ErrorSink) {
        let (start, end) = (event.span().start(), event.span().end());
        match event.kind() {
            EventKind::StdTableOpen => self.is_of_array = false,
            EventKind::ArrayTableOpen => self.is_of_array = true,
            EventKind::StdTableClose | EventKind::ArrayTableClose => self.begin_section(start, errors),
            EventKind::SimpleKey => {
                let mut name = Cow::Borrowed("");
                if let Some(raw) = self.source.get(event) {
                    raw.decode_key(&mut name, errors);
                }
                self.keys.push(Key { name, at: start });
            }
            EventKind::KeyValSep => self.open.push(Open::Key(mem::take(&mut self.keys))),
            EventKind::Scalar => {
                let Some(raw) = self.source.get(event) else { return };
                let mut decoded = Cow::Borrowed("");
                let value = match raw.decode_scalar(&mut decoded, errors) {
                    ScalarKind::String => Value::Text(decoded),
                    ScalarKind::Boolean(boolean) => Value::Boolean(boolean),
                    ScalarKind::Integer(radix) => Value::Integer(decoded, radix.value()),
                    ScalarKind::Float | ScalarKind::DateTime => Value::Other,
                };
                self.take(Item { span: start..end, value }, errors);
            }
            EventKind::ArrayOpen => self.open.push(Open::List(start, Vec::new())),
            EventKind::InlineTableOpen => self.open.push(Open::Inline(start, Section::new(Begun::Inline))),
            EventKind::ArrayClose | EventKind::InlineTableClose => {
                let (start, value) = match self.open.pop() {
                    Some(Open::List(start, items)) => (start, Value::List(items)),
                    Some(Open::Inline(start, section)) => (start, Value::Section(section)),
                    _ => return,
                };
                self.take(Item { span: start..end, value }, errors);
            }
            EventKind::KeySep
            | EventKind::ValueSep
            | EventKind::Whitespace
            | EventKind::Comment
            | EventKind::Newline
            | EventKind::Error => {}
        }
    }

    /// A header is complete.
    fn begin_section(&mut self, at: usize, errors: &mut dyn ErrorSink) {
        self.header = mem::take(&mut self.keys);
        let span = at..at;
        let Some((last, path)) = self.header.split_last() else { return };
        let may_begin = if self.is_of_array {
            // One more of the same array, or the first.
            let array = Item { span: span.clone(), value: Value::Other };
            self.root.at(path, Begun::Within, &span).is_some_and(|parent| match parent.get(&last.name) {
                Some(item) => matches!(item.value, Value::Other),
                None => parent.insert(vec![last.clone()], array).is_some(),
            })
        } else {
            self.root
                .at(&self.header, Begun::Within, &span)
                .is_some_and(|section| mem::replace(&mut section.begun, Begun::Header) == Begun::Within)
        };
        if !may_begin {
            duplicate(at, errors);
        }
    }
}

fn duplicate(at: usize, errors: &mut dyn ErrorSink) {
    errors.report_error(ParseError::new("duplicate key").with_unexpected(Span::new_unchecked(at, at)));
}

/// What is wrong, and what would be right.
fn sentence(error: &ParseError) -> String {
    let mut sentence = error.description().to_owned();
    let Some(expected) = error.expected() else { return sentence };
    sentence.push_str(", expected ");
    for (i, expected) in expected.iter().enumerate() {
        let before = if i == 0 { "" } else { ", " };
        sentence.push_str(before);
        match expected {
            Expected::Literal("\n") => sentence.push_str("newline"),
            Expected::Literal(literal) => sentence.extend(["`", literal, "`"]),
            Expected::Description(words) => sentence.push_str(words),
            _ => sentence.push_str("something else"),
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use toml::Spanned;
    use toml::de::{DeTable, DeValue};

    use super::*;

    fn is_same(ours: &Item<'_>, theirs: &Spanned<DeValue<'_>>) -> bool {
        match (&ours.value, theirs.get_ref()) {
            (Value::Text(text), DeValue::String(other)) => text == other && ours.span == theirs.span(),
            (Value::Boolean(boolean), DeValue::Boolean(other)) => boolean == other,
            (Value::Integer(digits, radix), DeValue::Integer(other)) => {
                digits == other.as_str() && *radix == other.radix()
            }
            (Value::List(items), DeValue::Array(others)) => {
                items.len() == others.len()
                    && items.iter().zip(others.iter()).all(|(item, other)| is_same(item, other))
                    && ours.span == theirs.span()
            }
            (Value::Section(section), DeValue::Table(table)) => is_same_section(section, table),
            (Value::Other, DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_)) => true,
            _ => false,
        }
    }

    fn is_same_section(ours: &Section<'_>, theirs: &DeTable<'_>) -> bool {
        ours.keys.len() == theirs.len()
            && theirs
                .iter()
                .all(|(key, value)| ours.get(key.get_ref()).is_some_and(|item| is_same(item, value)))
    }

    /// Whether it is read. Both read it as the same, or both refuse it; of several faults they may name different ones.
    fn check(text: &str) -> bool {
        match (Section::parse(text), DeTable::parse(text)) {
            (Ok(ours), Ok(theirs)) => {
                assert!(is_same_section(&ours, theirs.get_ref()), "{text}\n{ours:?}\n{theirs:?}");
                true
            }
            (Err(_), Err(_)) => false,
            (ours, theirs) => panic!("{text}\n{ours:?}\n{theirs:?}"),
        }
    }

    #[test]
    fn files_are_read_as_the_crate_toml_reads_them() {
        for text in [
            "",
            "a = 1\nb = \"x\\ty\"\nc = 'lit'\nd = true\ne = [1, 'two', [3]]\n",
            "a = 0x1F\nb = 1_000\nc = -5\nd = 1.5\ne = 1979-05-27\nf = inf\n",
            "[a]\nx = 1\n[a.b]\ny = 2\n[c.d]\nz = 3\n[c]\n",
            "a.b.c = 1\na.b.d = 2\n\"quoted key\" = 3\n",
            "a = { b = 1, c.d = 2, e = {} }\n",
            "[[a]]\nx = 1\n[[a]]\nx = 2\n",
            "a = \"\"\"\nmany\nlines\"\"\"\nb = [\n1, # one\n2,\n]\n",
        ] {
            assert!(check(text), "{text}");
        }
        for text in [
            "a = 1\na = 2\n",
            "[a]\n[a]\n",
            "a = 1\n[a]\n",
            "a = {}\n[a.b]\n",
            "a = {}\na.b = 1\n",
            "a.b = 1\n[a]\n",
            "[a]\nb.c = 1\n[a.b]\n",
            "[a.b]\n[a]\nb.c = 1\n",
            "a = [1]\n[[a]]\n",
            "[[a]]\n[a]\n",
            "a = \"open\n",
            "a = \n",
            "a\n",
            "[a\n",
            "= 1\n",
            "a = 1 b = 2\n",
            "a = {b = 1\n",
            "a = 0o9\n",
        ] {
            assert!(!check(text), "{text}");
            let ((at, sentence), error) =
                (Section::parse(text).unwrap_err(), DeTable::parse(text).unwrap_err());
            let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count();
            assert_eq!(
                at.map(line),
                error.span().map(|span| line(span.start)),
                "{text}\n{sentence}\n{error}"
            );
            assert!(
                sentence == error.message() || sentence == "duplicate key",
                "{text}\n{sentence}\n{error}"
            );
        }
    }

    #[test]
    fn files_made_of_anything_are_read_alike() {
        const PARTS: [&str; 28] = [
            "a",
            "b",
            "c",
            ".",
            " = ",
            " = ",
            "1",
            "'x'",
            "\"y\"",
            "[",
            "]",
            "\n",
            "\n",
            "\n",
            "{",
            "}",
            ",",
            " ",
            "# c\n",
            "true",
            "[a]\n",
            "[a.b]\n",
            "[b]\n",
            "a = 1\n",
            "b.c = 2\n",
            "c = { a = 1 }\n",
            "\"",
            "0x",
        ];
        let (mut state, mut read) = (7_u64, 0);
        for _ in 0..20_000 {
            let mut text = String::new();
            loop {
                // Knuth's constants for a linear congruence of 64 bits.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let draw = (state >> 33) as usize;
                text.push_str(PARTS[draw % PARTS.len()]);
                if (draw / PARTS.len()).is_multiple_of(8) {
                    break;
                }
            }
            read += usize::from(check(&text));
        }
        assert!(read > 1_000, "{read}");
    }

    #[test]
    fn what_is_deeper_than_any_file_is_refused() {
        let deep = |depth| format!("a = {}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Section::parse(&deep(MOST_DEPTH as usize)).is_ok());
        assert!(Section::parse(&deep(10_000)).is_err());
    }
}
