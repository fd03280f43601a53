//! Standard output, of which a command writes either text or one JSON document.

use std::fmt::Display;
use std::io::{self, IsTerminal, Stdout, Write};

use super::json::Value;
use super::term::{self, Style};

/// Where a command's result goes.
#[derive(Debug)]
pub struct Out {
    stdout: Stdout,
    is_json: bool,
    style: Style,
}

impl Out {
    /// Standard output, as text without colour or as JSON.
    #[must_use]
    pub fn new(is_json: bool) -> Self {
        Self { stdout: io::stdout(), is_json, style: Style::default() }
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
        term::columns().filter(|_| !self.is_json)
    }

    /// Whether someone watches: text, on a terminal.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.is_json && self.stdout.is_terminal()
    }

    /// Writes text where text is wanted.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn text(&mut self, text: impl Display) -> io::Result<()> {
        if self.is_json { Ok(()) } else { self.raw(text.to_string().as_bytes()) }
    }

    /// Writes a line of text where text is wanted.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        self.text(format_args!("{text}\n"))
    }

    /// Writes the document where JSON is wanted. Made only then.
    ///
    /// # Errors
    /// Standard output is closed or cannot be written.
    pub fn json(&mut self, document: impl FnOnce() -> Value) -> io::Result<()> {
        if self.is_json { self.raw(format!("{}\n", document()).as_bytes()) } else { Ok(()) }
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
