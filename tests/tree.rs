//! Rules of the source tree that no compiler lint can state: where `unsafe` may
//! stand, and how long a file may get.

use std::fs;
use std::path::{Path, PathBuf};

/// DESIGN: "no file grows past about 500 lines; one that wants to has two ideas in it".
const MOST_LINES: usize = 550;

/// All Rust files of the package, below `benches`, `src` and `tests`.
fn sources() -> Vec<PathBuf> {
    let mut folders =
        ["benches", "src", "tests"].map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).to_vec();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests/fuzz/target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(path);
            }
        }
    }
    assert!(sources.len() > 10, "the sources are not where this test looks for them");
    sources
}

/// The identifiers and keywords of Rust source, without those in comments and literals.
fn words(source: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let word = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        let taken = if word > 0 {
            words.push(&rest[..word]);
            // `r"` and `r#"` begin a literal without escapes.
            if matches!(&rest[..word], "r" | "br" | "cr") { word + raw_literal(&rest[word..]) } else { word }
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            literal(rest, '"')
        } else if first == '\'' && is_character(rest) {
            literal(rest, '\'')
        } else {
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    words
}

/// The length of the literal that `text` begins with, up to its closing quote.
fn literal(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the `"..."` or `#"..."#` that `text` begins with, or 0.
fn raw_literal(text: &str) -> usize {
    let hashes = text.len() - text.trim_start_matches('#').len();
    if !text[hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = hashes + 1;
    text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len())
}

/// The length of the block comment that `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Tells a character literal from a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')))
}

#[test]
fn unsafe_stands_in_sys_rs_alone() {
    let outside: Vec<_> = sources()
        .into_iter()
        .filter(|path| !path.ends_with("sys.rs"))
        .filter(|path| words(&fs::read_to_string(path).unwrap()).contains(&"unsafe"))
        .collect();
    assert!(outside.is_empty(), "`unsafe` outside of a sys.rs: {outside:?}");
}

#[test]
fn the_reader_of_words_skips_comments_and_literals() {
    let source = "fn a<'x>() { // unsafe\n /* unsafe /* */ unsafe */ \"\\\"unsafe\"; r#\"\"unsafe\"#; '\"'; b'\\''; let z; }";
    assert_eq!(words(source), ["fn", "a", "x", "r", "b", "let", "z"]);
    assert!(words("unsafe { x }").contains(&"unsafe"));
    assert!(words("let c = '\\\\'; unsafe {}").contains(&"unsafe"));
}

#[test]
fn no_file_has_two_ideas_in_it() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "more than {MOST_LINES} lines: {long:?}");
}
