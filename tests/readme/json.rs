//! The keys of `--json` documents are those that the guide names.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::package;

/// The commands whose documents are checked: the row in the guide, the node of README's
/// cluster, and the command.
pub const ASKED: [(&str, &str, &str); 21] = [
    ("query", "controller-0", "query"),
    ("query-hosts", "controller-0", "query-hosts"),
    ("ping", "controller-0", "ping worker-0"),
    ("what-requires", "controller-0", "what-requires HELLO-1"),
    ("query-dependencies", "controller-0", "query-dependencies HELLO-1"),
    ("is-applied", "controller-0", "is-applied HELLO-1"),
    ("is-available", "controller-0", "is-available HELLO-1"),
    ("commit --dry-run", "controller-0", "commit HELLO-1 --dry-run"),
    ("show", "controller-0", "show HELLO-1"),
    ("apply", "controller-0", "apply HELLO-1"),
    ("host-install HOST..", "controller-0", "host-install worker-0"),
    ("host-install-async", "controller-0", "host-install-async worker-0"),
    ("status", "controller-0", "status"),
    ("metrics", "worker-0", "metrics"),
    ("reload", "worker-0", "reload"),
    ("guard", "worker-0", "guard"),
    ("verify", "controller-0", "verify HELLO-1.patch"),
    ("keygen", "controller-0", "keygen --node x --from /etc/thimble/thimble.key -o x.key"),
    ("check-config", "worker-0", "check-config"),
    ("version", "maker", "version"),
    ("any that fails", "worker-0", "install-local"),
];

/// The names on the first level of `{a, b: [{c}]}`.
fn named(document: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut depth, mut name, mut is_name) = (0, String::new(), true);
    for c in document.chars() {
        if depth == 1 && is_name && (c.is_ascii_alphanumeric() || c == '_') {
            name.push(c);
        } else if !name.is_empty() {
            names.insert(std::mem::take(&mut name));
            is_name = false;
        }
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' if depth == 1 => return names,
            '}' | ']' => depth -= 1,
            ',' if depth == 1 => is_name = true,
            _ => {}
        }
    }
    names
}

/// How a document's keys differ from what the guide says of `row`.
pub fn differs(row: &str, document: &str) -> Option<String> {
    let guide = fs::read_to_string(package().join("docs/guide.md")).unwrap();
    let (_, table) = guide.split_once("\n## JSON\n").unwrap();
    let is_its = |line: &&str| {
        let what = line.split(" | ").next().unwrap_or_default();
        what.strip_prefix("| ") == Some(row) || what.contains(&format!("`{row}`"))
    };
    let Some(line) = table.lines().find(is_its) else {
        return Some("the guide has no line for it".to_owned());
    };
    let said = named(line.split_once(" | ").map_or("", |(_, document)| document));
    let Ok(Value::Object(keys)) = serde_json::from_str(document) else {
        return Some(format!("it is not a JSON object: {document}"));
    };
    let keys: BTreeSet<String> = keys.keys().cloned().collect();
    (keys != said).then(|| format!("it has {keys:?}, and the guide says {said:?}"))
}

#[test]
fn the_names_of_a_document_are_those_of_its_first_level() {
    let names = named("`{a_1, b: [{c, d}], e: null or {f}, g}`, or `{h}` |");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a_1", "b", "e", "g"]);
}
