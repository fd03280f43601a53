//! Standard output: a command writes either text or one JSON document.

use std::fmt::Display;
use std::io::{self, IsTerminal, Stdout, Write};
use std::os::fd::AsRawFd;

use super::term::{self, Style};
use crate::json::Value;

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

    /// Writes text, unless JSON is wanted. On a terminal, lines break between words.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn text(&mut self, text: impl Display) -> io::Result<()> {
        if self.is_json { Ok(()) } else { self.shown(&text) }
    }

    fn shown(&mut self, text: &dyn Display) -> io::Result<()> {
        let text = text.to_string();
        match self.columns() {
            None => self.raw(text.as_bytes()),
            Some(columns) => self.raw(term::fold(&text, columns).as_bytes()),
        }
    }

    /// Writes a line of text, unless JSON is wanted.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        if self.is_json { Ok(()) } else { self.shown(&format_args!("{text}\n")) }
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

    /// Writes bytes unchanged, as text or JSON.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)?;
        self.stdout.flush()
    }
}
