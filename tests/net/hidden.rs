//! Text from outside, with characters that a terminal obeys or hides, on every path by
//! which it comes out: none of them reaches text, JSON, metrics or a log as it is.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thimble::config::keys::KeyFile;
use thimble::limits::REASON_BYTES;
use thimble::repo::digest::set_digest;
use thimble::types::{Hostname, NodeId, NodeType, Nonce, RequestId, SwVersion, Text};
use thimble::visible::is_hidden;
use thimble::wire::frame::Role;
use thimble::wire::install::Outcome;
use thimble::wire::messages::{AgentInstallResp, AgentState, HelloAgentAck, Message, RequestState};

use crate::cluster::{Cluster, Node};
use crate::forge::{Forger, with_keys_of};
use crate::node::{Ended, SW_VERSION};
use crate::over::{Datagrams, To};
use crate::patch::Patch;
use crate::support::archive::{Tar, metadata};
use crate::wait;

/// What a peer may send: turns the direction, has no width, separates lines, is a tag, is a mark
/// of ours for red.
const OF_PEERS: &str = "\u{202e}\u{2066}\u{200b}\u{200c}\u{2028}\u{feff}\u{ad}\u{e0041}\u{fdd2}";
/// The same as it is shown.
const SHOWN: &str = "\\u{202e}\\u{2066}\\u{200b}\\u{200c}\\u{2028}\\u{feff}\\u{ad}\\u{e0041}\\u{fdd2}";
/// What a file's name may have besides: clears the screen, in two ways, and turns red.
const CONTROLS: &str = "\u{1b}[2J\u{9b}2J\u{1b}[31m\u{7f}";

/// Colour as thimble itself writes it.
const COLOURS: [&str; 5] = ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"];

/// Text of lines has no hidden character but those that end and indent them.
fn is_visible(what: &str, said: &str) {
    let found = said.chars().find(|c| is_hidden(*c) && !matches!(c, '\n' | '\t'));
    assert_eq!(found, None, "{what}: {said:?}");
}

/// The same of all texts of a document, as a program that reads it prints them.
fn is_visible_in(what: &str, value: &Value) {
    match value {
        Value::String(text) => is_visible(what, text),
        Value::Array(items) => items.iter().for_each(|item| is_visible_in(what, item)),
        Value::Object(members) => members.iter().for_each(|(key, member)| {
            is_visible(what, key);
            is_visible_in(what, member);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Checks how a command that runs with these options has ended; returns what it said.
fn is_clean(arguments: &[&str], ended: &Ended) -> String {
    let what = arguments.join(" ");
    let said = [&*ended.stdout, &*ended.stderr].concat();
    let plain = COLOURS.iter().fold(said.clone(), |said, colour| said.replace(colour, ""));
    is_visible(&what, if arguments.contains(&"--color=always") { &plain } else { &said });
    if arguments.contains(&"--json") && !ended.stdout.is_empty() {
        for line in ended.stdout.lines() {
            is_visible_in(&what, &serde_json::from_str(line).expect("a line is a document"));
        }
    }
    plain
}

/// Runs a command as text, in colour and as JSON. Each says the words.
fn says(node: &Node, arguments: &[&str], words: &[&str]) {
    for option in [&[][..], &["--color=always"], &["--json"]] {
        let arguments = [option, arguments].concat();
        let said = is_clean(&arguments, &node.thimble(&arguments));
        for word in words {
            let word = if option == ["--json"] { word.replace('\\', "\\\\") } else { (*word).to_owned() };
            assert!(said.contains(&word), "{arguments:?} has {word:?}: {said}");
        }
    }
}

/// Each line of a log is a whole one of thimble's.
fn log_is_visible(node: &Node, words: &[&str]) {
    let log = node.log();
    is_visible(&format!("the log of {}", node.name), &log);
    let foreign = log.lines().find(|line| !line.starts_with("thimble"));
    assert_eq!(foreign, None, "{log}");
    for word in words {
        assert!(log.contains(word), "the log of {} has {word:?}: {log}", node.name);
    }
}

/// The second agent's keys, in the hands of one that lies.
struct Liar {
    socket: Datagrams,
    forger: Forger,
}

impl Liar {
    fn new(cluster: &Cluster) -> Self {
        let forger = with_keys_of(&cluster.nodes[2], Role::Agent, None);
        Self { socket: Datagrams::serving(&cluster.stranger, Role::Agent), forger }
    }

    fn ack(&mut self, hostname: &str, request: Option<RequestId>) -> Message {
        Message::HelloAgentAck(HelloAgentAck {
            installed_digest: set_digest([]),
            hostname: Hostname::new(hostname).unwrap(),
            nodetype: NodeType::new("worker").unwrap(),
            sw_version: SwVersion::new(SW_VERSION).unwrap(),
            patch_failed: request.is_some(),
            state: if request.is_some() { AgentState::InstallFailed } else { AgentState::Idle },
            nonce: Nonce(1 + request.map_or(0, |request| request.0)),
            request_id: request.unwrap_or_default(),
            request: request.map_or(RequestState::None, |_| RequestState::Ended(Outcome::RolledBack)),
            ..HelloAgentAck::default()
        })
    }

    fn send(&mut self, message: &Message) {
        let datagram = self.forger.encode(message, NodeId(0));
        self.socket.send(&datagram, To::All(Role::Controller));
    }

    /// Answers the next install request with this reason.
    fn fails(&mut self, reason: &str) {
        let request_id = loop {
            let (datagram, _) = self.socket.recv();
            match self.forger.decode(&datagram).map(|received| received.message) {
                Ok(Message::AgentInstallReq(request)) => break request.request_id,
                Ok(Message::HelloAgent(_)) => {
                    let ack = self.ack("liar", None);
                    self.send(&ack);
                }
                _ => {}
            }
        };
        let reject_reason = Text::exact(reason).unwrap();
        let outcome = Some(Outcome::RolledBack);
        self.send(&Message::AgentInstallResp(AgentInstallResp {
            request_id,
            status: false,
            outcome,
            reject_reason,
            reboot_required: false,
        }));
        let ack = self.ack("liar", Some(request_id));
        self.send(&ack);
    }
}

#[test]
fn what_a_host_says_comes_out_escaped_and_a_host_without_a_name_is_refused() {
    need_root!();
    let mut cluster = Cluster::new("liar", 2).start();
    cluster.nodes[2].stop();
    let mut liar = Liar::new(&cluster);
    let id = KeyFile::read(&cluster.nodes[2].key_file()).unwrap().node.to_string();

    // Names are of visible ASCII. An empty one has its own counter.
    let named = liar.ack("nameless", None);
    for (name, reason) in [("", "no_hostname"), ("\u{202e}abcde", "body"), ("\u{1b}[2Jabcd", "body")] {
        let before = cluster.refused(reason);
        let datagram = liar.forger.encode_with(&named, b"\x08nameless", name.as_bytes());
        liar.socket.send(&datagram, To::All(Role::Controller));
        wait::until_true(&format!("{name:?} is refused"), || cluster.refused(reason) > before);
    }
    let known = cluster.json(&["query-hosts"])["hosts"].clone();
    let name =
        known.as_array().unwrap().iter().find(|host| host["node"] == *id).map(|host| &host["hostname"]);
    assert_eq!(name, Some(&Value::from("agent-2")), "{known}");

    let _patch = Patch::new(&cluster, "LIED-1").file("etc/lied", b"x").applied(&cluster);
    let ack = liar.ack("liar", None);
    liar.send(&ack);
    wait::until_true("the liar is known", || !cluster.nodes[0].host("liar").is_null());
    let reason = format!("no{OF_PEERS}space");
    let words = &[&*format!("no{SHOWN}space")];
    for option in [&[][..], &["--color=always"], &["--json"]] {
        let arguments = [option, &["host-install", "liar"]].concat();
        let ended = std::thread::scope(|scope| {
            let command = scope.spawn(|| cluster.thimble(&arguments));
            liar.fails(&reason);
            command.join().unwrap()
        });
        assert_eq!(ended.code, 1, "{ended:?}");
        let said = is_clean(&arguments, &ended);
        let word = if option == ["--json"] { words[0].replace('\\', "\\\\") } else { words[0].to_owned() };
        assert!(said.contains(&word), "{said}");
    }
    assert_eq!(cluster.nodes[0].host("liar")["reason"], words[0]);
    says(&cluster, &["query-hosts", "--wide"], words);
    for command in [&["query-hosts"][..], &["status"], &["metrics"], &["watch", "--until-done"]] {
        says(&cluster, command, &[]);
    }
    log_is_visible(&cluster, &[]);
}

/// Signs a patch and uploads it; it must be refused, and so must `verify`.
fn is_refused(cluster: &Cluster, file: &Path, content: &[u8], words: &[&str]) {
    fs::write(file, content).unwrap();
    cluster.signer.sign(file);
    let file = file.to_str().unwrap();
    says(cluster, &["verify", file], words);
    says(cluster, &["upload", file], words);
}

#[test]
fn what_is_in_a_patch_comes_out_escaped() {
    need_root!();
    let cluster = Cluster::new("hidden", 1).start();
    let agent = &cluster.nodes[1];
    let text = OF_PEERS.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect::<String>();
    let shown = |before: &str| format!("{before}{SHOWN}");
    let patch = Patch::new(&cluster, "HIDDEN-1")
        .metadata(&format!("description = \"description{text}\\nmore\"\nwarnings = \"warnings{text}\""))
        .metadata(&format!("install_instructions = \"instructions{text}\"\npackages = [\"package{text}\"]"))
        .metadata(&format!("config = [\"etc/name{text}\"]\nremove = [\"etc/gone{text}\"]"))
        .file(&format!("etc/name{OF_PEERS}"), b"one")
        .script("post-install", "exit 0");
    // The summary that the patch was made with comes first.
    let file = patch.make(&cluster);
    let odd = cluster.dir.join(format!("a{OF_PEERS}{CONTROLS}\n<0>b.patch"));
    fs::rename(file, &odd).unwrap();
    cluster.signer.sign_with_comments(&odd, b"-", format!("comment{OF_PEERS}").as_bytes());
    let file = odd.to_str().unwrap();
    let name = format!("a{SHOWN}\\u{{1b}}[2J\\u{{9b}}2J\\u{{1b}}[31m\\u{{7f}}\\n<0>b.patch");
    let verified = cluster.thimble(&["--json", "verify", file]);
    assert!(is_clean(&["--json"], &verified).contains(&shown("comment").replace('\\', "\\\\")));
    says(&cluster, &["verify", file], &[]);
    says(&cluster, &["upload", file], &[]);
    says(&cluster, &["verify", &format!("{file}.gone")], &[]);
    assert!(is_clean(&[], &cluster.thimble(&["verify", file])).contains(&name));
    let parts = ["description", "warnings", "instructions", "package", "/etc/name", "removes /etc/gone"];
    let words = parts.map(shown);
    says(&cluster, &["show", "HIDDEN-1"], &words.each_ref().map(String::as_str));
    let summary = cluster.dir.join("summary.patch");
    let about = format!("id = \"SUMMARY-1\"\nsw_version = \"{SW_VERSION}\"\nsummary = \"summary{text}\"\n");
    fs::write(&summary, Tar::default().file("metadata.toml", about.as_bytes()).gzip()).unwrap();
    cluster.signer.sign(&summary);
    says(&cluster, &["upload", summary.to_str().unwrap()], &[]);
    says(&cluster, &["query"], &[]);
    assert_eq!(cluster.json(&["query"])["patches"][1]["summary"], shown("summary"));
    cluster.thimble(&["apply", "HIDDEN-1"]).ok();
    cluster.thimble(&["host-install", "agent-1"]).ok();

    // A file changed by hand, whose notice has its name.
    fs::write(agent.root().join(format!("etc/name{OF_PEERS}")), "by hand").unwrap();
    let second = Patch::new(&cluster, "HIDDEN-2").metadata("requires = [\"HIDDEN-1\"]");
    let _second = second.file(&format!("etc/name{OF_PEERS}"), b"two").applied(&cluster);
    let ended = cluster.thimble(&["host-install", "agent-1"]);
    assert!(is_clean(&[], &ended).contains(&shown("/etc/name")), "{ended:?}");
    says(agent, &["status"], &[&shown("/etc/name")]);
    says(&cluster, &["query-hosts", "--wide"], &[&shown("/etc/name")]);
    log_is_visible(agent, &[&shown("/etc/name")]);
    // Another patch with the same path.
    let third =
        Patch::new(&cluster, "HIDDEN-3").file(&format!("etc/name{OF_PEERS}"), b"three").signed(&cluster);
    cluster.thimble(&["upload", third.to_str().unwrap()]);
    says(&cluster, &["apply", "HIDDEN-3"], &[]);

    // Members and keys that are refused. The middle of a long name is left out.
    const BEGIN: &str = "\\u{202e}\\u{2066}";
    let bad = cluster.dir.join("bad.patch");
    let refused = |tar: Tar, words: &[&str]| is_refused(&cluster, &bad, &tar.gzip(), words);
    let odd = format!("files/a{OF_PEERS}{CONTROLS}");
    refused(Tar::patch("BAD-1").file(&odd, b""), &[BEGIN, "control characters"]);
    refused(Tar::patch("BAD-1").symlink("files/link", &odd), &["control characters"]);
    refused(Tar::patch("BAD-1").hard_link("files/link", &format!("files/{OF_PEERS}")), &[BEGIN]);
    refused(Tar::patch("BAD-1").file(&format!("odd{OF_PEERS}"), b""), &[BEGIN]);
    refused(Tar::patch("BAD-1").script(&format!("scripts/odd{OF_PEERS}"), b""), &[BEGIN]);
    let pax = |name: &str| Tar::patch("BAD-1").pax(&[(name, "x")]).file("files/a", b"");
    refused(pax(&format!("SCHILY.xattr.trusted.odd{OF_PEERS}")), &[BEGIN]);
    for line in [
        format!("\"key{text}\\u001b[2J\" = 1"),
        format!("key{OF_PEERS} = 1"),
        format!("status = \"{OF_PEERS}\""),
        format!("config = [\"/etc/gone{text}\"]"),
        format!("remove = [\"/etc/gone{text}\", \"/etc/gone{text}\"]"),
    ] {
        let metadata = metadata("BAD-1") + &line + "\n";
        refused(Tar::default().file("metadata.toml", metadata.as_bytes()), &[]);
    }
    log_is_visible(&cluster, &[]);
}

#[test]
fn what_a_script_says_and_leaves_running_comes_out_escaped() {
    need_root!();
    let mut cluster = Cluster::new("last-words", 1).start();
    // In octal, as printf of every shell takes it.
    let octal = |text: &str| text.bytes().map(|byte| format!("\\{byte:03o}")).collect::<String>();
    let printed = octal(&format!("{OF_PEERS}{CONTROLS}\u{fffd}"));
    let fails = |id: &str, words: &str, name: &str, end: &str| {
        Patch::new(&cluster, id)
            .file(&format!("etc/{id}"), b"x")
            .script(name, &format!("printf '{words}'\n{end}"))
    };
    let words = format!("last{SHOWN}\\u{{1b}}[2J");
    let _said = fails("SAID-1", &format!("last{printed}\\377\\tx\\n"), "health", "exit 3").applied(&cluster);
    let ended = cluster.thimble(&["host-install", "agent-1"]);
    assert!(is_clean(&[], &ended).contains(&words), "{ended:?}");
    says(&cluster, &["query-hosts", "--wide"], &[&words]);
    says(&cluster.nodes[1], &["status"], &[&words]);
    log_is_visible(&cluster.nodes[1], &[&words]);
    cluster.thimble(&["remove", "SAID-1"]).ok();

    // What is too long for a reason is in the log as a whole, as the script has written it.
    let long = format!("{}{printed}\\n", "x".repeat(REASON_BYTES));
    let _long = fails("LONG-1", &long, "health", "exit 3").applied(&cluster);
    is_clean(&[], &cluster.thimble(&["host-install", "agent-1"]));
    log_is_visible(&cluster.nodes[1], &[&format!("xxx{SHOWN}\\u{{1b}}[2J")]);
    cluster.thimble(&["remove", "LONG-1"]).ok();

    // A process is called by the end of its program's path.
    let leave = "cp /bin/sleep \"$THIMBLE_ROOT/$n\"\n\"$THIMBLE_ROOT/$n\" 60 > /dev/null 2>&1 &";
    let leaves = format!("n=$(printf '{}')\n{leave}", octal("s\u{202e}\u{1b}"));
    let _left = fails("LEFT-1", "", "post-install", &leaves).applied(&cluster);
    let words = "left s\\u{202e}\\u{1b} running";
    let ended = cluster.thimble(&["host-install", "agent-1"]);
    assert!(is_clean(&[], &ended).contains(words), "{ended:?}");
    says(&cluster.nodes[1], &["status"], &[words]);
    log_is_visible(&cluster.nodes[1], &[words]);

    // The same without a daemon: a controller that installs on itself.
    cluster.nodes[0].stop();
    cluster.nodes[0].has_both_roles = true;
    cluster.nodes[0].write_config();
    says(&cluster, &["install-local"], &[words]);
    says(&cluster, &["guard"], &[]);
}

#[test]
fn what_is_typed_and_configured_comes_out_escaped() {
    need_root!();
    let mut cluster = Cluster::new("typed", 1);
    let path = format!("/tmp/lock{OF_PEERS}");
    cluster.nodes[1].settings.push(("agent", format!("lock_file = \"{path}\"")));
    let cluster = cluster.start();
    let agent = &cluster.nodes[1];
    says(agent, &["check-config"], &[&format!("/tmp/lock{SHOWN}")]);
    says(agent, &["status"], &[]);
    // A changed value is in the log of a reload.
    let text = fs::read_to_string(agent.config_file()).unwrap();
    fs::write(agent.config_file(), text.replace(&path, &format!("{path}2"))).unwrap();
    says(agent, &["reload"], &[]);
    log_is_visible(agent, &[&format!("/tmp/lock{SHOWN}2")]);
    let with = |line: &str| fs::write(agent.config_file(), format!("{text}\n{line}\n")).unwrap();
    for line in [
        format!("\"key{OF_PEERS}\" = 1"),
        format!("[section{OF_PEERS}]"),
        format!("[\"section{OF_PEERS}\\u001b\"]"),
        format!("key = {OF_PEERS}"),
        format!("hello_interval_ms = \"{OF_PEERS}\""),
    ] {
        with(&line);
        says(agent, &["check-config"], &[]);
        says(agent, &["reload"], &[]);
    }
    log_is_visible(agent, &[]);

    let odd = format!("x{OF_PEERS}{CONTROLS}\ny");
    let missing: PathBuf = Path::new("/nonexistent").join(&odd);
    let missing = missing.to_str().unwrap();
    for arguments in [
        &[&*odd][..],
        &["apply", &odd],
        &["host-install", &odd],
        &["drop-host", &odd],
        &["show", &odd],
        &["query", &odd],
        &["query", "--release", &odd],
        &["--color", &odd, "query"],
        &["--socket", missing, "query"],
        &["--config", missing, "check-config"],
        &["upload", missing],
        &["upload-dir", missing],
        &["verify", missing],
        &["verify", "--trust", missing, missing],
        &["keygen", "--node", &odd, "--from", missing],
        &["keygen", "--like", missing, "--from", cluster.key_file().to_str().unwrap()],
        &["decode", &odd],
        &["decode", "--key-file", missing, "00"],
        &["help", &odd],
        &["completions", &odd],
        &["completions", "words", "--", "apply", &odd],
    ] {
        says(&cluster, arguments, &[]);
    }
}
