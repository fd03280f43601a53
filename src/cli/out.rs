//! Standard output, of which a command writes either text or one JSON document.

use std::fmt::Display;
use std::io::{self, IsTerminal, Stdout, Write};
use std::os::fd::AsRawFd;

use super::term::{self, Style};
use crate::json::Value;

/// Where a command's result goes.
#[derive(Debug)]
pub struct Out {
    stdout: Stdout,
    is_json: bool,
    style: Style,
    /// How many are written of the list that is open.
    list: Option<usize>,
}

impl Out {
    /// Standard output, as text without colour or as JSON.
    #[must_use]
    pub fn new(is_json: bool) -> Self {
        Self { stdout: io::stdout(), is_json, style: Style::default(), list: None }
    }

    /// Whether the result is wanted as JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.is_json
    }

    /// Text from here on is coloured by this.
    pub fn set_style(&mut self, style: Style) {
        self.style = style;
    }

    /// How text is coloured.
    #[must_use]
    pub fn style(&self) -> Style {
        self.style
    }

    /// The columns that text has; `None` where it has as many as it likes, in a pipe
    /// or a file.
    #[must_use]
    pub fn columns(&self) -> Option<usize> {
        term::columns(self.stdout.as_raw_fd()).filter(|_| !self.is_json)
    }

    /// Whether someone watches: text, on a terminal.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.is_json && self.stdout.is_terminal()
    }

    /// Writes text where text is wanted; on a terminal, lines break between words.
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

    /// Writes a line of text where text is wanted.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        if self.is_json { Ok(()) } else { self.shown(&format_args!("{text}\n")) }
    }

    /// Writes the document where JSON is wanted. Made only then. Where a list is open,
    /// the document's members go behind the list: so one that ends in the middle is
    /// still a document, and says why.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn json(&mut self, document: impl FnOnce() -> Value) -> io::Result<()> {
        if self.is_json { self.document(&document()) } else { Ok(()) }
    }

    // Compiled once, not for every command, as are `one` and `shown`.
    fn document(&mut self, document: &Value) -> io::Result<()> {
        let mut text = document.to_string();
        if self.list.take().is_some() {
            let has_more = text.len() > "{}".len();
            text.replace_range(..1, if has_more { "]," } else { "]" });
        }
        text.push('\n');
        self.raw(text.as_bytes())
    }

    /// Begins the document with a list of this name where JSON is wanted, and goes on
    /// with it where it has begun.
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

    /// Writes one of the list of this name where JSON is wanted. It is not kept, so a
    /// list may be as long as it likes; [`json`](Self::json) ends it.
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

    /// Ends the document after the list of this name, be it empty.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn end_list(&mut self, name: &str) -> io::Result<()> {
        self.list(name)?;
        self.json(|| Value::Object(Vec::new()))
    }

    /// Writes bytes that are already what is wanted.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)?;
        self.stdout.flush()
    }
}
