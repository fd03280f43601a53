//! Rules of the source tree that no compiler lint can state: which folder may import
//! which, where `unsafe` may stand, and how long a file may get.

mod circles;
mod layers;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

/// No file grows past about 500 lines; one that wants to has two ideas in it.
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

#[test]
fn no_number_is_cut_in_a_sys_rs() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sys = sources();
    sys.retain(|path| path.starts_with(&src) && path.ends_with("sys.rs"));
    assert!(sys.len() > 10, "they are not found: {sys:?}");
    let lint = "#![deny(clippy::cast_possible_truncation)]";
    let without: Vec<_> =
        sys.iter().filter(|path| !fs::read_to_string(path).unwrap().contains(lint)).collect();
    assert!(without.is_empty(), "without `{lint}`: {without:?}");
}

#[test]
fn unsafe_stands_in_sys_rs_alone() {
    let outside: Vec<_> = sources()
        .into_iter()
        .filter(|path| !path.ends_with("sys.rs"))
        .filter(|path| source::code(&fs::read_to_string(path).unwrap()).words().any(|word| word == "unsafe"))
        .collect();
    assert!(outside.is_empty(), "`unsafe` outside of a sys.rs: {outside:?}");
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

/// Where a command's words leave, and what else has standard output or error in its hand:
/// the question whether it is a terminal, a key file that goes to a pipe, the log.
const OUTPUTS: [&str; 5] =
    ["src/cli/out.rs", "src/cli/confirm.rs", "src/cli/term.rs", "src/cli/keygen.rs", "src/daemon/log.rs"];

#[test]
fn words_leave_by_one_door_each() {
    let doors = ["stdout()", "stderr()", "println!", "eprintln!", "print!", "eprint!"];
    let writes = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        doors.iter().any(|door| code.contains(door))
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let inside = |path: &PathBuf| path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
    let is_checked = |path: &str| path.starts_with("src/") && !path.contains("/tests");
    let mut found: Vec<_> = sources().iter().filter(|path| writes(path)).map(inside).collect();
    // A failpoint is in test builds alone.
    found.retain(|path| is_checked(path) && path != "src/failpoint.rs" && !OUTPUTS.contains(&path.as_str()));
    assert!(found.is_empty(), "what they write is not made visible: use cli::out or log: {found:?}");
}
