//! `--json` writes what the operator's guide says, key by key.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use thimble::control::{HostState, PatchState, Reply, RequestStatus};
use thimble::repo::entry::EntryState;

use crate::controllers::status_of_two;
use crate::daemon::daemon;
use crate::support::Scratch;
use crate::{host, patch, thimble};

/// The keys in the guide's row that begins with `row`.
fn documented(row: &str) -> BTreeSet<String> {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide.md")).unwrap();
    let (_, guide) = guide.split_once("\n## JSON\n").unwrap();
    let row = guide.lines().find_map(|line| line.strip_prefix(&format!("| {row}"))).unwrap();
    let (_, document) = row.split_once(" | ").unwrap();
    let words = document.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    words.filter(|word| !word.is_empty() && *word != "text").map(str::to_owned).collect()
}

/// Collects the keys of a document at all levels.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            found.insert(key.clone());
            keys(value, found);
        }),
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

fn asked(command: &str, answer: Vec<Reply>) -> Value {
    let scratch = Scratch::new("cli");
    let daemon = daemon(&scratch, vec![answer]);
    let output = thimble(&scratch, &["--json", command]);
    daemon.join().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_guide_lists_every_key_and_no_other() {
    let patches = asked("query", vec![patch("P", EntryState::Applied, PatchState::Applied), Reply::End]);
    let hosts =
        asked("query-hosts", vec![host("a", 1, HostState::Idle, RequestStatus::None, ""), Reply::End]);
    let mut status = asked("status", status_of_two());
    let controller = status["controller"].take();
    status["counters"].take();
    for (row, document) in [("`query`", patches), ("`query-hosts`", hosts), ("its `controller`", controller)]
    {
        let mut found = BTreeSet::new();
        keys(&document, &mut found);
        assert_eq!(documented(row), found, "{row}");
    }
    let mut found: BTreeSet<String> = ["name", "count"].map(str::to_owned).into();
    keys(&status, &mut found);
    assert_eq!(documented("`status`"), found);
}
