//! Compares the documents with the table of commands: what they name exists, and what
//! exists they name.

use std::fs;
use std::path::{Path, PathBuf};

use thimble::cli::command::Command;
use thimble::cli::commands::{self, GLOBAL};
use thimble::cli::parse;

use super::{package, readme};

/// The documents for operators, each with its path.
fn documents() -> Vec<(String, String)> {
    let docs = fs::read_dir(package().join("docs")).unwrap();
    let mut paths: Vec<_> = docs.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.extend(["README.md", "CHANGELOG.md"].map(|name| package().join(name)));
    paths.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap())).collect()
}

/// The inline code of a text: between single backticks, which may break over a line.
/// Indented blocks do not count.
fn quoted(text: &str) -> Vec<String> {
    let prose: String =
        text.lines().filter(|line| !line.starts_with("    ")).flat_map(|line| [line, "\n"]).collect();
    prose.split("\n\n").flat_map(|words| words.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The words of a command line up to a redirection, pipe or comment of the shell.
fn words(line: &str) -> Vec<&str> {
    let is_the_shell_s =
        |word: &str| word.starts_with(['>', '|', '&', '#', ';', '<']) || word.starts_with("2>");
    line.split_whitespace().take_while(|word| !is_the_shell_s(word)).collect()
}

/// The error with which a command line is refused, if it is. The brackets of optional
/// words are ignored, and the name of a command alone is accepted.
fn refused(line: &str) -> Option<String> {
    let line = line.replace(['[', ']'], " ");
    let words = words(&line).split_off(1);
    if commands::find(&words.join(" ")).is_some() {
        return None;
    }
    parse::parse(words.into_iter().map(Into::into)).err().map(|error| error.message)
}

#[test]
fn every_command_line_in_the_documents_parses() {
    let mut lines = 0;
    for (file, text) in documents() {
        let typed =
            text.lines().filter_map(|line| Some(readme::prompt(line.strip_prefix("    ")?)?.1.to_owned()));
        for line in typed.chain(quoted(&text)).filter(|line| line.starts_with("thimble ")) {
            assert_eq!(refused(&line), None, "{file}: {line}");
            lines += 1;
        }
    }
    assert!(lines > 60, "the command lines are not where this test looks for them: {lines}");
}

#[test]
fn every_option_in_the_documents_exists() {
    let has = |command: &Command, name: &str| {
        command.options.iter().chain(GLOBAL).any(|option| option.name == name)
    };
    let mut options = 0;
    for (file, text) in documents() {
        for code in quoted(&text) {
            let code = code.replace(['[', ']'], " ");
            let mut words = words(&code).into_iter().skip_while(|word| *word == "thimble").peekable();
            let first = words.peek().copied().unwrap_or_default();
            let two = words.clone().take(2).collect::<Vec<_>>().join(" ");
            let command = commands::find(&two).or_else(|| commands::find(first));
            let is_of_thimble = command.is_some() || code.starts_with("--");
            for word in words.filter(|_| is_of_thimble) {
                let Some(name) = word.strip_prefix("--") else { continue };
                let name = name.split('=').next().unwrap_or_default();
                let exists = match command {
                    Some(command) => has(command, name),
                    None => commands::all().any(|command| has(command, name)),
                };
                assert!(exists, "{file}: `{code}`: there is no --{name}");
                options += 1;
            }
        }
    }
    assert!(options > 10, "the options are not where this test looks for them: {options}");
}

/// The words in backticks in the first column of the guide's tables below a heading.
pub fn explained(heading: &str) -> Vec<String> {
    let guide = fs::read_to_string(package().join("docs/guide.md")).unwrap();
    let (_, section) = guide.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The text of all source files below a folder, one after the other.
fn all_source(folder: &str) -> String {
    let mut text = String::new();
    let mut left = vec![package().join(folder)];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    text
}

#[test]
fn the_guide_lists_exactly_the_alerts_of_the_daemon() {
    let source = all_source("src/daemon");
    // Join string literals that are continued on the next line.
    let words = source.split("\\\n").map(str::trim_start).collect::<String>().replace("\\\"", "\"");
    let guide = fs::read_to_string(package().join("docs/guide.md")).unwrap();
    let (_, table) = guide.split_once("| trouble | what to do |\n|---|---|\n").unwrap();
    let rows = table.lines().map_while(|line| line.strip_prefix("| ")?.split(" |").next());
    let rows: Vec<&str> = rows.collect();
    assert!(rows.len() > 20, "the guide's table of troubles was not found");
    for row in &rows {
        assert!(words.contains(&format!("\"{row}")), "no alert starts with: {row}");
    }
    let mut alerts = 0;
    let literals = words.split("found.push(format_args!(").skip(1).chain(words.split("symptom: ").skip(1));
    for alert in literals.filter_map(|rest| rest.trim_start().strip_prefix('"')) {
        let is_known = alert.starts_with('{') || rows.iter().any(|row| alert.starts_with(row));
        assert!(is_known, "not in the guide: {}", &alert[..60.min(alert.len())]);
        alerts += 1;
    }
    assert!(alerts > 20, "the alerts were not found in the source: {alerts}");
}

/// A heading's anchor in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_has_a_target() {
    let mut links = 0;
    for (file, text) in documents() {
        let dir = Path::new(&file).parent().unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { PathBuf::from(&file) } else { dir.join(path) };
            assert!(target.exists(), "{file}: {link} has no target");
            if !heading.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let is_there = text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(is_there, "{file}: there is no heading for {link}");
            }
            links += 1;
        }
    }
    assert!(links > 20, "the links are not where this test looks for them: {links}");
}

#[test]
fn every_command_has_a_line_in_the_guide_that_names_its_options() {
    let all: String = documents().into_iter().map(|(_, text)| text).collect();
    for command in commands::all() {
        let row = |line: &&str| line.starts_with(&format!("| `{}", command.name));
        let is_its = |line: &&str| line[3 + command.name.len()..].starts_with([' ', '`']);
        let row =
            all.lines().filter(row).find(is_its).unwrap_or_else(|| panic!("no line for {}", command.name));
        for option in command.options {
            assert!(row.contains(&format!("--{}", option.name)), "{row}: --{} is missing", option.name);
        }
    }
    for option in GLOBAL {
        assert!(all.contains(&format!("`--{}", option.name)), "--{} is missing", option.name);
    }
}
