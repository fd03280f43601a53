//! Rust source as far as these rules need it: its words, and the paths that it names.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Source without its comments and literals: spaces stand in their places.
pub struct Code(String);

/// Takes comments and literals out of source.
pub fn code(source: &str) -> Code {
    let mut code = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let word = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        let (kept, taken) = if word > 0 {
            // `r"` and `r#"` begin a literal without escapes.
            let literal =
                if matches!(&rest[..word], "r" | "br" | "cr") { raw_literal(&rest[word..]) } else { 0 };
            (word, word + literal)
        } else if rest.starts_with("//") {
            (0, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            (0, block_comment(rest))
        } else if first == '"' {
            (0, literal(rest, '"'))
        } else if first == '\'' && is_character(rest) {
            (0, literal(rest, '\''))
        } else {
            (first.len_utf8(), first.len_utf8())
        };
        code.push_str(&rest[..kept]);
        if kept < taken {
            code.push(' ');
        }
        rest = &rest[taken..];
    }
    Code(code)
}

impl Code {
    /// Its identifiers and keywords.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.tokens().filter(|token| is_word(token))
    }

    /// Words, `::`, and every other character that is no space.
    fn tokens(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.0.as_str();
        std::iter::from_fn(move || {
            rest = rest.trim_start();
            let first = rest.chars().next()?;
            let word = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
            let len = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            let (token, behind) = rest.split_at(len);
            rest = behind;
            Some(token)
        })
    }

    /// Every path of two or more names, and every path of a `use`, each with the inline
    /// modules that it stands in.
    pub fn paths(&self) -> Vec<(Vec<String>, Vec<String>)> {
        let tokens: Vec<&str> = self.tokens().collect();
        let (mut paths, mut inline, mut depth, mut at) = (Vec::new(), Vec::new(), 0, 0);
        while at < tokens.len() {
            match tokens[at] {
                "use" => {
                    let end = (at..tokens.len()).find(|end| tokens[*end] == ";").unwrap_or(tokens.len());
                    let mut found = Vec::new();
                    use_tree(&tokens[at + 1..end], &mut 0, &[], &mut found);
                    paths.extend(found.into_iter().map(|path| (modules(&inline), path)));
                    at = end;
                }
                "mod" if tokens.get(at + 2) == Some(&"{") => {
                    inline.push((depth, tokens[at + 1].to_owned()));
                    at += 1;
                }
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.retain(|(outside, _)| *outside < depth);
                }
                word if is_word(word) && tokens.get(at + 1) == Some(&"::") => {
                    let mut path = vec![word.to_owned()];
                    while tokens.get(at + 1) == Some(&"::")
                        && tokens.get(at + 2).is_some_and(|name| is_word(name))
                    {
                        path.push(tokens[at + 2].to_owned());
                        at += 2;
                    }
                    paths.push((modules(&inline), path));
                }
                _ => {}
            }
            at += 1;
        }
        paths
    }
}

fn modules(inline: &[(i32, String)]) -> Vec<String> {
    inline.iter().map(|(_, name)| name.clone()).collect()
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Takes one tree of a `use` apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn use_tree(tokens: &[&str], at: &mut usize, before: &[String], paths: &mut Vec<Vec<String>>) {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(*at) {
        *at += 1;
        match *token {
            "{" => {
                while tokens.get(*at).is_some_and(|token| *token != "}") {
                    use_tree(tokens, at, &path, paths);
                }
                *at += 1;
                path.clear();
            }
            "}" => {
                *at -= 1;
                break;
            }
            "," => break,
            // What an item is called here does not matter.
            "as" => *at += 1,
            "::" => {}
            name => path.push(name.to_owned()),
        }
    }
    if !path.is_empty() {
        paths.push(path);
    }
}

/// A file's module, from the crate's root.
pub type Module = Vec<String>;

/// All modules below `src` that have a file of their own, but the root.
pub fn modules_of_src() -> HashMap<Module, (PathBuf, Code)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = super::sources().into_iter().filter(|path| path.starts_with(&src));
    let modules = files.map(|path| {
        let below = path.strip_prefix(&src).unwrap().with_extension("");
        let mut module: Module = below.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        module.pop_if(|name| name == "mod");
        let code = code(&fs::read_to_string(&path).unwrap());
        (module, (below, code))
    });
    modules.filter(|(module, _)| *module != ["lib"] && *module != ["main"]).collect()
}

/// The module that a path leads into, as far as it has a file; `None` where the path
/// leads out of the crate or to the module that it stands in.
pub fn resolve(
    module: &Module,
    inline: &[String],
    path: &[String],
    is_file: impl Fn(&[String]) -> bool,
) -> Option<Module> {
    let mut at: Module = module.iter().chain(inline).cloned().collect();
    let mut names = path;
    match names[0].as_str() {
        "crate" => {
            at.clear();
            names = &names[1..];
        }
        "self" => names = &names[1..],
        "super" => {
            while names.first().is_some_and(|name| name == "super") {
                at.pop();
                names = &names[1..];
            }
        }
        name => {
            at.push(name.to_owned());
            let is_child = is_file(&at);
            at.pop();
            if !is_child {
                return None;
            }
        }
    }
    for name in names {
        at.push(name.clone());
        if !is_file(&at) {
            at.pop();
            break;
        }
    }
    while !at.is_empty() && !is_file(&at) {
        at.pop();
    }
    (at != *module).then_some(at)
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

#[cfg(test)]
fn words(source: &str) -> Vec<String> {
    code(source).words().map(str::to_owned).collect()
}

#[test]
fn comments_and_literals_hold_no_words() {
    let source = "fn a<'x>() { // unsafe\n /* unsafe /* */ unsafe */ \"\\\"unsafe\"; r#\"\"unsafe\"#; '\"'; b'\\''; let z; }";
    assert_eq!(words(source), ["fn", "a", "x", "r", "b", "let", "z"]);
    assert!(words("unsafe { x }").contains(&"unsafe".to_owned()));
    assert!(words("let c = '\\\\'; unsafe {}").contains(&"unsafe".to_owned()));
}

#[test]
fn a_use_is_taken_apart_and_a_path_has_its_inline_module() {
    let code = code("use a::{self, b::{c, d as e}, f::*}; mod tests { use super::g; } fn h() { i::j(); k }");
    let paths: Vec<_> =
        code.paths().into_iter().map(|(inline, path)| (inline.join("::"), path.join("::"))).collect();
    let expected = [
        ("", "a::self"),
        ("", "a::b::c"),
        ("", "a::b::d"),
        ("", "a::f::*"),
        ("tests", "super::g"),
        ("", "i::j"),
    ];
    assert_eq!(paths, expected.map(|(inline, path)| (inline.to_owned(), path.to_owned())));
}
