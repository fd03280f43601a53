//! README.md, followed to the letter: its commands are typed on nodes of their own, in
//! its order, and what it shows is what came. So it cannot lie.

mod documents;
mod limits;
mod node;
mod readme;
mod scp;
mod screen;
mod shown;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use node::{Ended, Network, Node};
use readme::{Block, Typed};

/// What DESIGN promises to a person; this machine types faster.
const MOST: Duration = Duration::from_secs(600);
/// How long a person looks again before they call it broken.
const PATIENCE: Duration = Duration::from_secs(30);
/// And how long they wait where they are told to.
const WAIT: Duration = Duration::from_secs(100);

/// Past the test harness, which would swallow it: in one write, so that tests beside it
/// do not cut in.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All nodes, made when they are first spoken of.
struct Site {
    network: Network,
    nodes: BTreeMap<String, Node>,
}

impl Site {
    fn node(&mut self, name: &str) -> &mut Node {
        if !self.nodes.contains_key(name) {
            let node = Node::new(&mut self.network, name);
            self.nodes.insert(name.to_owned(), node);
        }
        self.nodes.get_mut(name).expect("it was just put there")
    }

    /// Types a command on one node, and copies what it asks to have copied.
    fn ended(&mut self, name: &str, command: &str) -> Ended {
        let roots: BTreeMap<String, PathBuf> =
            self.nodes.iter().map(|(name, node)| (name.clone(), node.root.clone())).collect();
        self.node(name).ended(command, |from, words| scp::copy(&roots, from, words))
    }

    /// Types a command, as often as a person would, until it says what README shows.
    fn follow(&mut self, name: &str, typed: &Typed) {
        let began = Instant::now();
        loop {
            let ended = self.ended(name, &typed.command);
            let wrong = if ended.code == typed.code {
                shown::differs(&typed.shown, &ended.lines)
            } else {
                Some(format!("it ended with {}, not with {}", ended.code, typed.code))
            };
            let Some(wrong) = wrong else { return };
            let patience = match () {
                () if ended.code != typed.code && ended.lines.concat().contains("try again in") => WAIT,
                () if typed.asks() => PATIENCE,
                () => Duration::ZERO,
            };
            if began.elapsed() >= patience {
                let Typed { line, command, shown, .. } = typed;
                panic!(
                    "README.md:{line}: {name}# {command}\n{wrong}\n--- README shows\n{}\n--- what came\n{}\n{}",
                    shown.join("\n"),
                    ended.lines.join("\n"),
                    self.node(name).log(),
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Site {
    /// What a daemon tells of itself is in the guide, line by line and name by name.
    fn is_explained(&mut self, name: &str) {
        let lines = documents::explained("Status");
        for line in self.ended(name, "thimble status").lines {
            let (label, _) = line.split_at(13.min(line.len()));
            // What follows the last line; and a test build has one more.
            if matches!(label.trim(), "" | "allocations") {
                continue;
            }
            assert!(lines.iter().any(|known| known == label.trim()), "not in the guide's Status: {line}");
        }
        let (metrics, counts) =
            (documents::explained("Metrics"), documents::explained("Refusals and other counts"));
        for line in self.ended(name, "thimble metrics").lines {
            let Some(name) = line.strip_prefix("# HELP thimble_").and_then(|rest| rest.split(' ').next())
            else {
                continue;
            };
            let is_known = metrics.iter().chain(&counts).any(|known| known == name);
            assert!(is_known, "not in the guide's Metrics, nor among the counts: {name}");
        }
    }
}

#[test]
fn the_readme_is_followed_to_the_letter() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return say("SKIPPED: README is not followed: needs root: tests/rig/as_root.sh COMMAND");
    }
    let text = fs::read_to_string(package().join("README.md")).unwrap();
    let blocks = readme::blocks(&text).unwrap_or_else(|error| panic!("{error}"));
    let makefile = fs::read_to_string(package().join("Makefile")).unwrap();
    let mut site = Site { network: Network::new(), nodes: BTreeMap::new() };
    // Whoever is spoken of is there from the beginning, as the machines of a person are.
    for name in blocks.iter().flat_map(Block::nodes) {
        site.node(name);
    }

    let began = Instant::now();
    let mut commands = 0;
    for block in &blocks {
        match block {
            Block::Make { line, targets } => {
                for target in targets {
                    let is_there = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
                    assert!(is_there, "README.md:{line}: the Makefile has no {target}");
                }
            }
            Block::File { nodes, path, text } => {
                for name in nodes {
                    site.node(name).write(path, text);
                }
            }
            Block::Session(session) => {
                for typed in session {
                    for name in &typed.nodes {
                        site.follow(name, typed);
                        commands += 1;
                    }
                }
            }
        }
    }
    let took = began.elapsed();
    for name in ["controller-0", "worker-0"] {
        site.is_explained(name);
    }
    assert!(took < MOST, "it took {took:?}");
    assert!(commands > 30, "the commands are not where this test looks for them");
    say(&format!("README.md: {commands} commands followed in {:.1} s", took.as_secs_f64()));
}
