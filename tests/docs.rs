//! What the documents for developers name exists: files, items in files, and, where the
//! code cites a document, that document and its section.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All documents, by their path from the package's root.
fn documents() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = docs.filter(|path| has_extension(path, "md")).collect();
    paths.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    paths
        .into_iter()
        .map(|path| (path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(&path).unwrap()))
        .collect()
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

/// All Rust files below these folders, by their path from the package's root.
fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut folders: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests/fuzz/target") {
                folders.push(path);
            } else if has_extension(&path, "rs") {
                let name = path.strip_prefix(root()).unwrap().to_owned();
                sources.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(sources.len() > 20, "the sources are not where this test looks for them");
    sources
}

/// The code spans of a document: text between single backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with("    ")).flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The links of a document whose text is a code span: that, and the target.
fn code_links(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("[`").skip(1).filter_map(|rest| {
        let (code, rest) = rest.split_once("`](")?;
        Some((code, rest.split_once(')')?.0))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a word stands in a line, for itself.
fn places<'t>(line: &'t str, word: &'t str) -> impl Iterator<Item = usize> + 't {
    line.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| !line[..*at].ends_with(is_word) && !line[at + word.len()..].starts_with(is_word))
}

/// Lines of code, without comments.
fn code(source: &str) -> impl Iterator<Item = &str> {
    source.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

/// Whether source defines this: as an item, a variant or a field.
fn defines(source: &str, name: &str) -> bool {
    const KEYWORDS: &[&str] =
        &["fn", "struct", "enum", "trait", "type", "const", "static", "mod", "macro_rules!"];
    code(source).any(|line| {
        let is_item = places(line, name).any(|at| {
            let before = line[..at].trim_end().rsplit(' ').next().unwrap_or_default();
            KEYWORDS.contains(&before)
        });
        // `Name,`, `Name(..`, `Name {`, `Name = ..`, `pub name: ..`.
        let member = line.strip_prefix("pub ").unwrap_or(line).strip_prefix(name);
        is_item
            || member
                .is_some_and(|rest| [",", "(", " {", ":", " =", ")"].iter().any(|end| rest.starts_with(end)))
    })
}

/// Whether source defines an item like `Type::method`: the last part, and it has the others.
fn has_item(source: &str, item: &str) -> bool {
    let parts: Vec<&str> = item.trim_end_matches("()").split("::").collect();
    let (last, owners) = parts.split_last().unwrap();
    defines(source, last)
        && owners.iter().all(|owner| code(source).any(|line| places(line, owner).next().is_some()))
}

#[test]
fn every_path_in_the_documents_is_there() {
    let folders = ["src/", "tests/", "benches/", "docs/", "config/", ".ci/"];
    let mut paths = 0;
    for (document, text) in documents() {
        for span in spans(&text).filter(|span| folders.iter().any(|folder| span.starts_with(folder))) {
            let path = span.split([' ', ':']).next().unwrap_or_default();
            assert!(root().join(path).exists(), "{}: there is no {path}", document.display());
            paths += 1;
        }
    }
    assert!(paths > 50, "the paths are not where this test looks for them: {paths}");
}

#[test]
fn every_item_in_the_documents_is_in_the_file_that_it_links_to() {
    let mut items = 0;
    for (document, text) in documents() {
        for (code, target) in code_links(&text).filter(|(_, target)| target.ends_with(".rs")) {
            let path = root().join(document.parent().unwrap()).join(target);
            let source = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {target}: {error}", document.display()));
            if !code.contains('/') {
                assert!(has_item(&source, code), "{}: {target} has no {code}", document.display());
                items += 1;
            }
        }
    }
    assert!(items > 80, "the items are not where this test looks for them: {items}");
}

#[test]
fn an_item_is_found_where_it_is_defined_and_nowhere_else() {
    let source = "/// Not `Gone`.\npub struct Map<'a> {\n    pub slots: u8,\n}\nimpl Map<'_> {\n    pub fn merge(&self) {}\n}\n\
                  enum State {\n    Idle,\n    Busy(u8),\n}\n// fn gone() {}\nlet x = other.call();\n";
    for item in ["Map", "Map::merge", "merge()", "Map::slots", "State::Idle", "Busy"] {
        assert!(has_item(source, item), "{item}");
    }
    for item in ["Gone", "gone", "call", "Other::merge", "Maps", "erge", "x"] {
        assert!(!has_item(source, item), "{item}");
    }
}

#[test]
fn every_document_that_the_code_cites_is_there_with_its_section() {
    let mut cited = 0;
    for (file, text) in sources(&["src", "tests", "benches"]) {
        let file = file.display();
        assert!(file.to_string() == "tests/docs.rs" || !text.contains("DESIGN"), "{file} cites DESIGN");
        // A citation may go on in the comment's next line.
        let text = text.replace("\n//! ", " ").replace("\n/// ", " ").replace("\n// ", " ");
        for rest in text.split("docs/").skip(1) {
            let Some((name, rest)) = rest.split_once(".md") else { continue };
            if name.is_empty() || !name.chars().all(|c| is_word(c) || c == '-') {
                continue;
            }
            let document = fs::read_to_string(root().join(format!("docs/{name}.md")))
                .unwrap_or_else(|error| panic!("{file}: docs/{name}.md: {error}"));
            if let Some(section) = rest.strip_prefix(", \"").and_then(|rest| rest.split('"').next()) {
                let is_there = document.lines().any(|line| line.trim_start_matches('#').trim() == section);
                assert!(is_there, "{file}: docs/{name}.md has no section \"{section}\"");
                cited += 1;
            }
        }
    }
    assert!(cited > 5, "the citations are not where this test looks for them: {cited}");
}

/// The alerts of the rule file: name, severity and all lines.
fn alerts() -> Vec<(String, String, String)> {
    let rules = fs::read_to_string(root().join("config/thimble.rules.yml")).unwrap();
    let of = |rule: &str| {
        let name = rule.lines().next().unwrap_or_default();
        let severity = rule.split_once("severity: ").and_then(|(_, rest)| rest.lines().next());
        (name.to_owned(), severity.unwrap_or_default().to_owned(), rule.to_owned())
    };
    rules.split("- alert: ").skip(1).map(of).collect()
}

#[test]
fn monitoring_explains_each_alert_rule_with_its_severity_and_no_other() {
    let text = fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `Thimble"));
    let explained: Vec<_> = rows
        .map(|row| {
            let (name, rest) = row.split_once("` | ").unwrap();
            (["Thimble", name].concat(), rest.split(" |").next().unwrap_or_default().to_owned())
        })
        .collect();
    let rules: Vec<_> = alerts().into_iter().map(|(name, severity, _)| (name, severity)).collect();
    assert!(rules.len() > 20, "the rules are not where this test looks for them");
    assert_eq!(explained, rules);
}

#[test]
fn each_alert_rule_says_what_is_wrong_and_what_to_do() {
    for (name, severity, rule) in alerts() {
        assert!(["critical", "warning", "info"].contains(&severity.as_str()), "{name}: {severity}");
        for part in [" expr: ", " summary: \"", "description: >-\n"] {
            assert_eq!(rule.matches(part).count(), 1, "{name}: {part}");
        }
    }
}

/// Whether code has one of these examples.
fn shows(source: &str, examples: &[&str]) -> bool {
    code(source).any(|line| examples.iter().any(|example| places(line, example).next().is_some()))
}

#[test]
fn every_list_of_files_to_edit_is_that_of_its_example() {
    let text = fs::read_to_string(root().join("docs/changing.md")).unwrap();
    let sources = sources(&["src"]);
    let mut lists = 0;
    for section in text.split("\n## ").filter(|section| section.contains("\nExample: ")) {
        let heading = section.lines().next().unwrap();
        let (examples, rest) = section.split_once("\nExample: ").unwrap().1.split_once('\n').unwrap();
        let examples: Vec<&str> = spans(examples).collect();
        let steps = rest.split_once("\nThen").map_or(rest, |(steps, _)| steps);
        let listed: Vec<&str> =
            code_links(steps).map(|(_, target)| target.trim_start_matches("../")).collect();
        for (file, source) in &sources {
            let file = file.to_str().unwrap();
            let is_test = file.ends_with("tests.rs") || file.contains("/tests/");
            let is_missing = !is_test && shows(source, &examples) && !listed.contains(&file);
            assert!(!is_missing, "{heading}: {file} has {examples:?} and is not listed");
        }
        // A step that begins with a file is of the example; one that begins with `If` may not be.
        let last_parts: Vec<&str> =
            examples.iter().filter_map(|example| example.rsplit("::").next()).collect();
        for step in steps.split(". [`").skip(1) {
            let (path, _) = step.split_once('`').unwrap();
            let Some((_, source)) = sources.iter().find(|(file, _)| file.to_str() == Some(path)) else {
                continue;
            };
            assert!(shows(source, &last_parts), "{heading}: {path} has none of {last_parts:?}");
            lists += 1;
        }
    }
    assert!(lists > 15, "the lists are not where this test looks for them: {lists}");
}

/// What the script of the page of figures writes to standard output.
fn page_sh(words: &[&str]) -> String {
    let output =
        Command::new(root().join("benches/figures/page.sh")).args(words).current_dir(root()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "page.sh {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_figures_in_the_documents_are_those_of_the_run_that_is_kept() {
    let made = std::env::temp_dir().join(format!("thimble-figures-{}", std::process::id()));
    fs::create_dir(&made).unwrap();
    page_sh(&["docs/figures.tsv", made.to_str().unwrap()]);
    let names: Vec<_> = fs::read_dir(&made).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let differs = |name: &&std::ffi::OsString| text(made.join(name)) != text(root().join("docs").join(name));
    let other: Vec<_> = names.iter().filter(differs).collect();
    fs::remove_dir_all(&made).unwrap();
    assert!(other.is_empty(), "another run's, in docs: {other:?}: make figures");
    assert_eq!(names.len(), 6, "the page and its plots");
    let rows = page_sh(&["--summary", "docs/figures.tsv"]);
    assert!(rows.lines().count() > 4, "the README's figures are not in the run that is kept:\n{rows}");
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&rows), "the README has other figures: make figures\n{rows}");
}
