//! Where a command's words leave: standard output, as text or as one JSON document, and
//! standard error. Nothing else of the command line writes there (`tests/tree` checks), and
//! every text is made visible here ([`crate::visible`]), whatever it was made of.

use std::fmt::Display;
use std::io::{self, IsTerminal, Stdout, Write};
use std::os::fd::AsRawFd;

use super::term::{self, KeyedLine, Screen, Style};
use crate::json::Value;
use crate::visible::Visible;

/// The writer of a command's result.
#[derive(Debug)]
pub struct Out {
    stdout: Stdout,
    is_json: bool,
    style: Style,
    /// The number of items written to the open list.
    list: Option<usize>,
}

impl Out {
    /// Standard output, as text without colour or as JSON.
    #[must_use]
    pub fn new(is_json: bool) -> Self {
        Self { stdout: io::stdout(), is_json, style: Style::default(), list: None }
    }

    /// Whether the result is written as JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.is_json
    }

    /// Sets the style of the text that follows.
    pub fn set_style(&mut self, style: Style) {
        self.style = style;
    }

    /// The style of text.
    #[must_use]
    pub fn style(&self) -> Style {
        self.style
    }

    /// The terminal's columns; `None` in a pipe or a file, where text is not folded.
    #[must_use]
    pub fn columns(&self) -> Option<usize> {
        term::columns(self.stdout.as_raw_fd()).filter(|_| !self.is_json)
    }

    /// Whether the output is text on a terminal.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.is_json && self.stdout.is_terminal()
    }

    /// Writes lines of text, unless JSON is wanted. On a terminal, lines break between words.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn text(&mut self, text: impl Display) -> io::Result<()> {
        if self.is_json { Ok(()) } else { self.shown(&text.to_string(), "") }
    }

    /// Writes one line of text, unless JSON is wanted. A newline in it is escaped.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        if self.is_json { Ok(()) } else { self.shown(&text.to_string(), "\n") }
    }

    /// Writes lines of text, also if JSON is wanted, and does not break them.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn always(&mut self, text: &str) -> io::Result<()> {
        self.raw(self.style.visible(text, true).as_bytes())
    }

    /// Writes several lines, or one with its `end`.
    fn shown(&mut self, text: &str, end: &str) -> io::Result<()> {
        let text = self.style.visible(text, end.is_empty()) + end;
        match self.columns() {
            None => self.raw(term::painted(&text).as_bytes()),
            Some(columns) => self.raw(term::painted(&term::fold(&text, columns)).as_bytes()),
        }
    }

    /// Shows a block of lines on its screen, unless JSON is wanted.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn block(&mut self, screen: &mut Screen, lines: &[KeyedLine], is_last: bool) -> io::Result<()> {
        let visible = |(key, line): &KeyedLine| (*key, self.style.visible(line, false));
        let lines: Vec<KeyedLine> = lines.iter().map(visible).collect();
        let text = if is_last { screen.finish(&lines) } else { screen.show(&lines) };
        if screen.is_live() { self.raw(term::painted(&text).as_bytes()) } else { self.text(text) }
    }

    /// Writes an escape sequence of ours, or nothing.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn control(&mut self, sequence: &'static str) -> io::Result<()> {
        self.raw(sequence.as_bytes())
    }

    /// Writes the document if JSON is wanted; otherwise `document` is not called. If a
    /// list is open, the members follow the list, so that output which an error cuts
    /// short is still a document with the error in it.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn json(&mut self, document: impl FnOnce() -> Value) -> io::Result<()> {
        if self.is_json { self.document(&document()) } else { Ok(()) }
    }

    // Not generic, like `one` and `shown`, so that it is compiled only once.
    fn document(&mut self, document: &Value) -> io::Result<()> {
        let mut text = document.to_string();
        if self.list.take().is_some() {
            let has_more = text.len() > "{}".len();
            text.replace_range(..1, if has_more { "]," } else { "]" });
        }
        text.push('\n');
        self.raw(text.as_bytes())
    }

    /// Opens a list of this name at the start of the document if JSON is wanted. Does
    /// nothing if it is open already.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn list(&mut self, name: &str) -> io::Result<()> {
        if self.is_json && self.list.is_none() {
            self.list = Some(0);
            write!(self.stdout, "{{\"{name}\":[")?;
        }
        Ok(())
    }

    /// Writes one item of the list of this name if JSON is wanted. Items are not kept in
    /// memory, so the list has no bound. [`json`](Self::json) ends it.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn item(&mut self, name: &str, item: impl FnOnce() -> Value) -> io::Result<()> {
        if self.is_json { self.one(name, &item()) } else { Ok(()) }
    }

    fn one(&mut self, name: &str, item: &Value) -> io::Result<()> {
        self.list(name)?;
        let Some(written) = &mut self.list else { return Ok(()) };
        let comma = if *written == 0 { "" } else { "," };
        *written += 1;
        write!(self.stdout, "{comma}{item}")
    }

    /// Ends the document after the list of this name, which may be empty.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn end_list(&mut self, name: &str) -> io::Result<()> {
        self.list(name)?;
        self.json(|| Value::Object(Vec::new()))
    }

    /// Writes a document that a worker has made, unchanged.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn made(&mut self, document: &[u8]) -> io::Result<()> {
        self.raw(document)
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)?;
        self.stdout.flush()
    }
}

/// Writes a line to standard error. On a terminal it breaks between words. An error is
/// ignored: the exit code still tells how the command ended.
pub fn note(line: impl Display) {
    let mut text = format!("{}\n", Visible(line));
    if let Some(columns) = term::columns(io::stderr().as_raw_fd()) {
        text = term::fold(&text, columns);
    }
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes a question to standard error, or the end of its line.
///
/// # Errors
/// Standard error cannot be written.
pub fn ask(question: &str) -> io::Result<()> {
    io::stderr().write_all(Style::default().visible(question, true).as_bytes())
}
