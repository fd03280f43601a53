//! Text from outside as it is shown. A peer, a patch, a script or a file's name may have
//! characters that a terminal obeys, or that nobody sees. Each of them is shown as an
//! escape, such as `\u{202e}` or `\n`, and none is dropped.
//!
//! [`is_hidden`] is the one list of them. What is escaped already stays as it is, so text
//! may pass here more than once. For that reason a backslash of the text itself is not
//! escaped: a text with the eight characters `\u{202e}` in it looks like one with U+202E.
//!
//! Joiners (U+200C, U+200D) and marks of direction are escaped too, though words in
//! Persian or Hindi need them: such a word is shown with the escape in it.

use core::fmt::{self, Write};

/// Whether a terminal would obey a character, or show nothing for it:
///
/// - controls: C0 with newline and tab, DEL, C1;
/// - line and paragraph separators, marks of interlinear text;
/// - what Unicode calls default ignorable: marks of direction, what has no width, fillers,
///   variation selectors, tags;
/// - the noncharacters U+FDD0 to U+FDEF, which programs use inside, as ours does for colour.
#[must_use]
pub const fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fdd0}'..='\u{fdef}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// How many bytes a character takes where it is shown.
#[must_use]
pub fn shown_bytes(c: char) -> usize {
    if is_hidden(c) { c.escape_default().len() } else { c.len_utf8() }
}

/// Writes `text` with its hidden characters escaped, except those that `keeps` names.
///
/// # Errors
/// Those of `to`.
pub fn write(to: &mut dyn Write, text: &str, keeps: &dyn Fn(char) -> bool) -> fmt::Result {
    text.chars().try_for_each(|c| match is_hidden(c) && !keeps(c) {
        true => write!(to, "{}", c.escape_default()),
        false => to.write_char(c),
    })
}

/// What this displays, on one line: every hidden character is escaped.
#[derive(Clone, Copy, Debug)]
pub struct Visible<D>(pub D);

impl<D: fmt::Display> fmt::Display for Visible<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Passes on what is written to it, every hidden character escaped in one piece.
#[derive(Debug)]
pub struct Escaping<'w, W>(pub &'w mut W);

impl<W: Write> Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(self.0, text, &|_| false)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_character_of_the_class_is_escaped_and_no_other() {
        // Written out once more, as in the issue and in Unicode's DerivedCoreProperties.
        let classes: [(&str, &[(u32, u32)]); 9] = [
            ("C0", &[(0, 0x1f)]),
            ("DEL and C1", &[(0x7f, 0x9f)]),
            ("direction", &[(0x61c, 0x61c), (0x200e, 0x200f), (0x202a, 0x202e), (0x2066, 0x2069)]),
            (
                "no width",
                &[(0x200b, 0x200d), (0x2060, 0x2065), (0x206a, 0x206f), (0xfeff, 0xfeff), (0xad, 0xad)],
            ),
            (
                "fillers",
                &[(0x34f, 0x34f), (0x115f, 0x1160), (0x17b4, 0x17b5), (0x3164, 0x3164), (0xffa0, 0xffa0)],
            ),
            ("separators", &[(0x2028, 0x2029), (0xfff0, 0xfffb)]),
            ("variations", &[(0x180b, 0x180f), (0xfe00, 0xfe0f), (0xe0000, 0xe0fff)]),
            ("shorthand and music", &[(0x1bca0, 0x1bca3), (0x1d173, 0x1d17a)]),
            ("ours", &[(0xfdd0, 0xfdef)]),
        ];
        let is_listed = |c: char| {
            let mut ranges = classes.iter().flat_map(|(_, ranges)| *ranges);
            ranges.any(|(first, last)| (*first..=*last).contains(&u32::from(c)))
        };
        for c in '\0'..=char::MAX {
            let shown = Visible(c).to_string();
            if is_listed(c) {
                assert!(is_hidden(c), "{c:?}");
                assert_eq!(shown, c.escape_default().to_string());
                assert!(
                    shown.starts_with('\\') && shown.is_ascii() && shown.len() == shown_bytes(c),
                    "{c:?}"
                );
            } else {
                assert!(!is_hidden(c), "{c:?}");
                assert_eq!((shown.chars().eq([c]), shown.len()), (true, shown_bytes(c)), "{c:?}");
            }
        }
    }

    #[test]
    fn what_is_escaped_stays_and_what_is_kept_stays() {
        let text = "a\u{202e}b\u{1b}[2J\u{9b}\u{200c}\u{2028}\u{e0041}\n\té \u{1f980}\\";
        let shown = "a\\u{202e}b\\u{1b}[2J\\u{9b}\\u{200c}\\u{2028}\\u{e0041}\\n\\té \u{1f980}\\";
        assert_eq!(Visible(text).to_string(), shown);
        assert_eq!(Visible(shown).to_string(), shown);
        let mut lines = std::string::String::new();
        write(&mut lines, text, &|c| c == '\n').unwrap();
        assert_eq!(lines, shown.replace("\\n", "\n"));
    }
}
