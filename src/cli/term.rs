//! The terminal: colour, progress bars, and a block of lines that is redrawn in place.
//! Elsewhere (a pipe, a file, `TERM=dumb`) text is plain, and only the changed lines of a
//! block are written.
//!
//! Why our own: a few escape sequences and one `ioctl` are all that is used of a
//! terminal. A crate such as `crossterm` or `indicatif` brings input, threads and
//! terminals that no node has.

use std::env;
use std::io::{self, IsTerminal};
use std::iter::repeat_n;
use std::os::fd::{AsRawFd, RawFd};

use super::sys;
use crate::visible::{self, is_hidden};

/// The values of `--color`.
pub const WHEN: &str = "auto|always|never";

/// What stands in text for a change of colour or weight, until the text is written: so an
/// escape sequence that comes from outside is not taken for one of ours.
const MARKS: [(char, &str); 5] = [
    ('\u{fdd0}', "\x1b[0m"),
    ('\u{fdd1}', "\x1b[1m"),
    ('\u{fdd2}', "\x1b[31m"),
    ('\u{fdd3}', "\x1b[32m"),
    ('\u{fdd4}', "\x1b[33m"),
];

fn sequence(c: char) -> Option<&'static str> {
    MARKS.iter().find(|(mark, _)| *mark == c).map(|(_, sequence)| *sequence)
}

/// Colour and weight, or neither. `Style::default()` is plain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    is_on: bool,
}

impl Style {
    /// The style for standard output. `when` is the value of `--color`. With `auto` or
    /// without a value, a terminal gets colour unless `NO_COLOR` is set and not empty (<https://no-color.org>).
    #[must_use]
    pub fn new(when: Option<&str>) -> Self {
        let is_on = match when {
            Some("always") => true,
            Some("never") => false,
            _ => is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Self { is_on }
    }

    /// Bold, for headings and names.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.painted('\u{fdd1}', text)
    }

    /// Red, for failures.
    #[must_use]
    pub fn red(self, text: &str) -> String {
        self.painted('\u{fdd2}', text)
    }

    /// Green, for success.
    #[must_use]
    pub fn green(self, text: &str) -> String {
        self.painted('\u{fdd3}', text)
    }

    /// Yellow, for warnings.
    #[must_use]
    pub fn yellow(self, text: &str) -> String {
        self.painted('\u{fdd4}', text)
    }

    fn painted(self, mark: char, text: &str) -> String {
        match self.is_on && !text.is_empty() {
            true => format!("{mark}{text}\u{fdd0}"),
            false => text.to_owned(),
        }
    }

    /// Text with its hidden characters escaped. Marks of colour stay, if there is colour,
    /// and newline and tab, if it may have several lines.
    #[must_use]
    pub fn visible(self, text: &str, has_lines: bool) -> String {
        let is_kept = |c| has_lines && matches!(c, '\n' | '\t') || self.is_on && sequence(c).is_some();
        let mut shown = String::with_capacity(text.len());
        // A string takes all that is written.
        let _ = visible::write(&mut shown, text, &is_kept);
        shown
    }
}

/// Visible text as a terminal takes it: marks become escape sequences.
#[must_use]
pub fn painted(text: &str) -> String {
    let mut painted = String::with_capacity(text.len());
    for c in text.chars() {
        match sequence(c) {
            Some(sequence) => painted.push_str(sequence),
            None => painted.push(c),
        }
    }
    painted
}

/// Whether standard output is a terminal that understands escape sequences.
fn is_terminal() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The columns of the terminal with this descriptor; `None` if it is not a terminal, where
/// text is not fitted to a width.
#[must_use]
pub fn columns(fd: RawFd) -> Option<usize> {
    sys::terminal_size(fd).map(|(columns, _)| columns)
}

/// `[#####.....]`: `width` columns in all, the brackets among them. Full at 100 %
/// and not before.
#[must_use]
pub fn bar(percent: u8, width: usize) -> String {
    let inside = width.saturating_sub(2);
    let full = inside * usize::from(percent.min(100)) / 100;
    format!("[{:.<inside$}]", "#".repeat(full))
}

/// The columns that a character takes as it is shown.
fn columns_of(c: char) -> usize {
    match c {
        _ if sequence(c).is_some() => 0,
        _ if is_hidden(c) => visible::shown_bytes(c),
        // Scripts with wide characters start here. Some narrow ones count as two columns
        // too, which only makes a line shorter.
        '\u{1100}'.. => 2,
        _ => 1,
    }
}

/// The columns that a line takes, marks of colour not counted.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// Cuts a visible line to `columns`. Marks of colour are kept, also after the cut, so that
/// colour is switched off again.
#[must_use]
pub fn cut(text: &str, columns: usize) -> String {
    let mut taken = 0;
    let is_kept = |c: &char| {
        let width = columns_of(*c);
        taken += width;
        width == 0 || taken <= columns
    };
    text.chars().filter(is_kept).collect()
}

/// Writes `head`, and beside it, from column `indent` on, the words of `text`, in
/// lines of at most `columns`. A wider head has a line of its own above them.
/// Words joined by a no-break space stay together; a word too long for a line is not broken.
pub fn hang(to: &mut String, head: &str, text: &str, indent: usize, columns: usize) {
    to.push_str(head);
    let mut at = width(head);
    if at > 0 && at >= indent {
        to.push('\n');
        at = 0;
    }
    to.extend(repeat_n(' ', indent - at));
    flow(to, indent, text, indent, columns);
    to.push('\n');
}

/// Writes the words of `text` from column `at` on. Further lines start at `indent`.
fn flow(to: &mut String, mut at: usize, text: &str, indent: usize, columns: usize) {
    for (place, word) in text.split(' ').enumerate() {
        let wide = width(word);
        if place > 0 && at + 1 + wide > columns {
            to.push('\n');
            to.extend(repeat_n(' ', indent));
            at = indent;
        } else if place > 0 {
            to.push(' ');
            at += 1;
        }
        to.push_str(&word.replace('\u{a0}', " "));
        at += wide;
    }
}

/// Folds text for a terminal between words. A folded line continues at its last column
/// (after two or more spaces), else with a small indent.
#[must_use]
pub fn fold(text: &str, columns: usize) -> String {
    let mut folded = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        if width(line) <= columns {
            folded.push_str(line);
        } else {
            let leading = line.len() - line.trim_start_matches(' ').len();
            // A column that begins beyond two thirds leaves no room for words.
            let last = line.rmatch_indices("  ").map(|(at, gap)| at + gap.len());
            let mut ends = last.filter(|at| *at > leading && !line[*at..].starts_with(' '));
            let column = ends.find(|at| width(&line[..*at]) <= columns * 2 / 3);
            let head = &line[..column.unwrap_or(leading)];
            let indent = column.map_or(leading + 2, |_| width(head));
            folded.push_str(head);
            flow(&mut folded, width(head), &line[head.len()..], indent, columns);
        }
        folded.push_str(end);
    }
    folded
}

/// A line of a block and its key, such as a node id. Without a terminal, changes are
/// found by key.
pub type KeyedLine = (u64, String);

/// Shows a block of lines: redrawn on a terminal, otherwise each changed line is written.
#[derive(Debug)]
pub struct Screen {
    is_live: bool,
    /// The widths of the lines on the terminal.
    drawn: Vec<usize>,
    /// Without a terminal: the last line written for each key.
    shown: Vec<KeyedLine>,
}

impl Screen {
    /// An empty screen. `is_wanted` is [`Out::is_live`](super::out::Out::is_live). A dumb
    /// terminal is treated like a pipe.
    #[must_use]
    pub fn new(is_wanted: bool) -> Self {
        Self { is_live: is_wanted && is_terminal(), drawn: Vec::new(), shown: Vec::new() }
    }

    /// Whether the block is redrawn in place.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// The text that shows `lines`, which are visible text, cut to the terminal's current size: a wrapped line, or
    /// more lines than the terminal has, could not be redrawn.
    #[must_use]
    pub fn show(&mut self, lines: &[KeyedLine]) -> String {
        match self.size() {
            None => self.changes(lines),
            Some(size) => self.redraw(size, lines),
        }
    }

    /// As [`show`](Self::show), for the last time; long lines are folded.
    #[must_use]
    pub fn finish(&mut self, lines: &[KeyedLine]) -> String {
        match self.size() {
            None => self.changes(lines),
            Some((columns, _)) => self.end(columns, lines),
        }
    }

    /// The terminal's columns and lines, queried each time because it may be resized.
    /// 80 by 24 if unknown.
    fn size(&self) -> Option<(usize, usize)> {
        self.is_live.then(|| sys::terminal_size(io::stdout().as_raw_fd()).unwrap_or((80, 24)))
    }

    fn redraw(&mut self, (columns, height): (usize, usize), lines: &[KeyedLine]) -> String {
        // The cursor is on the line below the block.
        let room = height.saturating_sub(1).max(1);
        let fitting = if lines.len() <= room { lines.len() } else { room - 1 };
        let mut block: Vec<String> = lines[..fitting].iter().map(|(_, line)| cut(line, columns)).collect();
        if fitting < lines.len() {
            block.push(cut(&format!("({} more lines)", lines.len() - fitting), columns));
        }
        let mut text = self.up(columns);
        for line in &block {
            // Cleared before writing: after a line as wide as the terminal the cursor
            // is still on its last character.
            text.push_str("\x1b[K");
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("\x1b[J");
        self.drawn = block.iter().map(|line| width(line)).collect();
        text
    }

    fn end(&mut self, columns: usize, lines: &[KeyedLine]) -> String {
        // Everything is cleared first, because wrapped lines may overwrite lines below.
        let mut text = self.up(columns) + "\x1b[J";
        for (_, line) in lines {
            text.push_str(&fold(line, columns));
            text.push('\n');
        }
        self.drawn.clear();
        text
    }

    /// Moves the cursor to the block's first line.
    fn up(&self, columns: usize) -> String {
        // A terminal that became narrower has wrapped the lines.
        match self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum() {
            0usize => String::new(),
            up => format!("\x1b[{up}A\r"),
        }
    }

    fn changes(&mut self, lines: &[KeyedLine]) -> String {
        let mut text = String::new();
        for (key, line) in lines {
            match self.shown.iter_mut().find(|(shown, _)| shown == key) {
                Some((_, shown)) if shown == line => continue,
                Some((_, shown)) => shown.clone_from(line),
                None => self.shown.push((*key, line.clone())),
            }
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: Style = Style { is_on: true };

    fn screen(is_live: bool) -> Screen {
        Screen { is_live, drawn: Vec::new(), shown: Vec::new() }
    }

    fn lines(texts: &[&str]) -> Vec<KeyedLine> {
        texts.iter().enumerate().map(|(place, text)| (place as u64, (*text).to_owned())).collect()
    }

    #[test]
    fn colour_is_two_sequences_around_the_text_or_nothing() {
        assert_eq!(painted(&ON.red("Failed")), "\x1b[31mFailed\x1b[0m");
        assert_eq!(
            painted(&(ON.bold("a") + &ON.green("b") + &ON.yellow("c"))),
            "\x1b[1ma\x1b[0m\x1b[32mb\x1b[0m\x1b[33mc\x1b[0m"
        );
        assert_eq!(ON.red(""), "");
        assert_eq!(Style::default().red("Failed"), "Failed");
        assert_eq!(Style::new(Some("always")), ON);
        assert_eq!(Style::new(Some("never")), Style::default());
    }

    #[test]
    fn an_escape_sequence_from_outside_is_not_taken_for_ours() {
        let text = ON.red("a\x1b[31mb\nc");
        assert_eq!(painted(&ON.visible(&text, false)), "\x1b[31ma\\u{1b}[31mb\\nc\x1b[0m");
        assert_eq!(painted(&ON.visible(&text, true)), "\x1b[31ma\\u{1b}[31mb\nc\x1b[0m");
        assert_eq!(Style::default().visible("\u{fdd2}", true), "\\u{fdd2}");
    }

    #[test]
    fn a_bar_is_full_only_at_100_percent() {
        for (percent, shown) in [
            (0, "[..........]"),
            (9, "[..........]"),
            (10, "[#.........]"),
            (50, "[#####.....]"),
            (99, "[#########.]"),
            (100, "[##########]"),
            (255, "[##########]"),
        ] {
            assert_eq!(bar(percent, 12), shown);
        }
        assert_eq!(bar(50, 3), "[.]");
        assert_eq!(bar(50, 0), "[]");
    }

    #[test]
    fn a_cut_counts_columns_and_leaves_escape_sequences_whole() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("é\u{1f980}x", 3), "é\u{1f980}");
        assert_eq!(cut("é\u{1f980}x", 2), "é");
        let red = ["a", &ON.red("Failed"), "z"].concat();
        assert_eq!(painted(&cut(&red, 3)), "a\x1b[31mFa\x1b[0m");
        assert_eq!(width(&red), 8);
        assert_eq!(cut("a\u{202e}b", 8), "a", "it is shown as an escape of 8 columns");
        assert_eq!(width("日本"), 4);
    }

    #[test]
    fn text_hangs_beside_its_head_and_no_word_is_broken() {
        let hung = |head, text, indent| {
            let mut to = String::new();
            hang(&mut to, head, text, indent, 12);
            to
        };
        assert_eq!(hung("up:", "a bc def gh", 4), "up: a bc def\n    gh\n");
        assert_eq!(hung("usage:", "a", 4), "usage:\n    a\n");
        assert_eq!(hung("", "one [--two\u{a0}X]", 0), "one\n[--two X]\n");
        assert_eq!(hung("a", "0123456789abc d", 2), "a 0123456789abc\n  d\n");
    }

    #[test]
    fn a_long_line_goes_on_in_its_last_column() {
        let folded = |line: &str| fold(line, 24);
        assert_eq!(folded("short\n\nenough for one line here\n"), "short\n\nenough for one line here\n");
        assert_eq!(folded("up        18 s, incarnation 7\n"), "up        18 s,\n          incarnation 7\n");
        assert_eq!(
            folded("  key:    a bc  d, incarnation"),
            "  key:    a bc  d,\n                incarnation"
        );
        assert_eq!(folded("TROUBLE: the disk is stalled"), "TROUBLE: the disk is\n  stalled");
        assert_eq!(folded("    Summary:            of a patch"), "    Summary:           \n      of a patch");
        assert_eq!(
            painted(&folded(&(ON.red("TROUBLE:") + " the disk is offline"))),
            "\x1b[31mTROUBLE:\x1b[0m the disk is\n  offline"
        );
    }

    #[test]
    fn without_a_terminal_only_changes_are_written() {
        let mut screen = screen(false);
        assert_eq!(screen.show(&lines(&["a: asked", "b: asked"])), "a: asked\nb: asked\n");
        assert_eq!(screen.show(&lines(&["a: asked", "b: asked"])), "");
        assert_eq!(screen.show(&lines(&["a: asked", "b: installed"])), "b: installed\n");
        assert_eq!(screen.finish(&lines(&["a: lost", "b: installed"])), "a: lost\n");
    }

    #[test]
    fn on_a_terminal_the_block_is_redrawn_and_each_line_cut() {
        let mut screen = screen(true);
        let mut drawn = |texts: &[&str]| screen.redraw((10, 24), &lines(texts));
        assert_eq!(drawn(&["a: asked, no answer", "b"]), "\x1b[Ka: asked, \n\x1b[Kb\n\x1b[J");
        assert_eq!(drawn(&["a: 42%", "b"]), "\x1b[2A\r\x1b[Ka: 42%\n\x1b[Kb\n\x1b[J");
        // A removed line is cleared.
        assert_eq!(drawn(&["a: done"]), "\x1b[2A\r\x1b[Ka: done\n\x1b[J");
        assert_eq!(drawn(&[]), "\x1b[1A\r\x1b[J");
        assert_eq!(drawn(&["c"]), "\x1b[Kc\n\x1b[J");
    }

    #[test]
    fn a_block_never_has_as_many_lines_as_the_terminal() {
        let mut screen = screen(true);
        let many = lines(&["1", "2", "3", "4"]);
        let mut drawn = |height| screen.redraw((20, height), &many).replace("\x1b[K", "");
        assert_eq!(drawn(4), "1\n2\n(2 more lines)\n\x1b[J");
        assert_eq!(drawn(5), "\x1b[3A\r1\n2\n3\n4\n\x1b[J");
        assert_eq!(drawn(1), "\x1b[4A\r(4 more lines)\n\x1b[J");
    }

    #[test]
    fn lines_wrapped_by_a_narrower_terminal_are_overwritten() {
        let mut screen = screen(true);
        let _ = screen.redraw((12, 24), &lines(&["123456789012", "", "1234567"]));
        // 3 lines for the first, 1 for the empty one, 2 for the last.
        assert_eq!(screen.redraw((5, 24), &lines(&["x"])), "\x1b[6A\r\x1b[Kx\n\x1b[J");
    }

    #[test]
    fn finish_clears_the_block_and_writes_all_lines_folded() {
        let mut screen = screen(true);
        let _ = screen.redraw((9, 3), &lines(&["a: asked, no answer yet", "b", "c"]));
        let text = screen.end(9, &lines(&["a: rejected: Node must be locked.", "b", "c"]));
        assert_eq!(text, "\x1b[2A\r\x1b[Ja:\n  rejected:\n  Node\n  must be\n  locked.\nb\nc\n");
        assert_eq!(screen.redraw((9, 3), &lines(&["d"])), "\x1b[Kd\n\x1b[J");
    }
}
