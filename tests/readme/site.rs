//! All nodes, and the typing of a document's commands on them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::node::{Ended, Network, Node};
use super::readme::{self, Block, Typed};
use super::{documents, json, package, scp, shown};

/// How long a query is repeated.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a command is repeated that says when to try again.
const WAIT: Duration = Duration::from_secs(300);

/// All nodes, each made when it is first named.
pub struct Site {
    network: Network,
    nodes: BTreeMap<String, Node>,
    /// The number of commands that had the output and the exit code that are shown.
    pub commands: u32,
}

impl Site {
    pub fn new() -> Self {
        Self { network: Network::new(), nodes: BTreeMap::new(), commands: 0 }
    }

    fn node(&mut self, name: &str) -> &mut Node {
        if !self.nodes.contains_key(name) {
            let node = Node::new(&mut self.network, name);
            self.nodes.insert(name.to_owned(), node);
        }
        self.nodes.get_mut(name).expect("it was just inserted")
    }

    /// Follows a document, or only the section below a heading.
    pub fn follow(&mut self, file: &str, heading: Option<&str>) {
        let text = fs::read_to_string(package().join(file)).unwrap();
        let text = match heading {
            None => text,
            Some(heading) => {
                readme::section(&text, heading).unwrap_or_else(|| panic!("{file} has no {heading}"))
            }
        };
        let blocks = readme::blocks(&text).unwrap_or_else(|error| panic!("{file}, {error}"));
        // All nodes of the text exist from the beginning, as a person's machines do.
        for name in blocks.iter().flat_map(Block::nodes) {
            self.node(name);
        }
        for block in &blocks {
            match block {
                Block::Make { line, targets } => are_made(file, *line, targets),
                Block::File { nodes, path, text } => {
                    nodes.iter().for_each(|name| self.node(name).write(path, text));
                }
                Block::Session(session) => {
                    for typed in session {
                        typed.nodes.iter().for_each(|name| self.type_it(file, name, typed));
                    }
                }
            }
        }
    }

    /// Types a command, as often as a person would, until its output is what is shown.
    fn type_it(&mut self, file: &str, name: &str, typed: &Typed) {
        let began = Instant::now();
        loop {
            let ended = self.ended(name, &typed.command);
            let wrong = if ended.code == typed.code {
                shown::differs(&typed.shown, &ended.lines)
            } else {
                Some(format!("it ended with {}, not with {}", ended.code, typed.code))
            };
            let Some(wrong) = wrong else {
                self.commands += 1;
                return;
            };
            let patience = match () {
                () if ended.code != typed.code && ended.lines.concat().contains("try again in") => WAIT,
                () if typed.asks() => PATIENCE,
                () => Duration::ZERO,
            };
            if began.elapsed() >= patience {
                let Typed { line, command, shown, .. } = typed;
                panic!(
                    "{file}:{line}: {name}# {command}\n{wrong}\n--- shown\n{}\n--- output\n{}\n{}",
                    shown.join("\n"),
                    ended.lines.join("\n"),
                    self.node(name).log(),
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Types a command on one node, and carries out each scp of it.
    fn ended(&mut self, name: &str, command: &str) -> Ended {
        let roots: BTreeMap<String, PathBuf> =
            self.nodes.iter().map(|(name, node)| (name.clone(), node.root.clone())).collect();
        self.node(name).ended(command, |from, words| scp::copy(&roots, from, words))
    }

    /// Checks that every JSON document has the keys that the guide names.
    pub fn documents_are_explained(&mut self) {
        for (row, name, command) in json::ASKED {
            let lines = self.ended(name, &format!("thimble {command} --json 2>/dev/null")).lines;
            let differs = json::differs(row, &lines.concat());
            assert_eq!(differs, None, "{name}# thimble {command} --json");
        }
    }

    /// Checks that the guide has each line of a node's `status` and each of its metrics.
    pub fn is_explained(&mut self, name: &str) {
        let lines = documents::explained("Status");
        for line in self.ended(name, "thimble status").lines {
            let (label, _) = if line.starts_with("TROUBLE:") {
                line.split_at(8)
            } else {
                line.split_at(13.min(line.len()))
            };
            // The empty line at the end; and a line that only a test build has.
            if matches!(label.trim(), "" | "allocations") {
                continue;
            }
            assert!(lines.iter().any(|known| known == label.trim()), "not in the guide's Status: {line}");
        }
        let metrics = documents::explained("Metrics");
        let counts = documents::explained("Refusals and other counts");
        for line in self.ended(name, "thimble metrics").lines {
            let Some(rest) = line.strip_prefix("# HELP thimble_") else { continue };
            let name = rest.split(' ').next().unwrap_or_default();
            let is_known = metrics.iter().chain(&counts).any(|known| known == name);
            assert!(is_known, "not in the guide's Metrics, nor among the counts: {name}");
        }
    }
}

fn are_made(file: &str, line: usize, targets: &[String]) {
    let makefile = fs::read_to_string(package().join("Makefile")).unwrap();
    for target in targets {
        let is_there = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
        assert!(is_there, "{file}:{line}: the Makefile has no {target}");
    }
}
