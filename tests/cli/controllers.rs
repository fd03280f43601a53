//! The commands that concern several controllers: commit, purge, drop-controller and
//! `status`.

use serde_json::Value;
use thimble::control::{
    BlobRow, Currency, ErrorKind, HostState, NeighbourRow, Reply, Request, RequestStatus, StatusRow,
    WorkerRow, WorkerTask,
};
use thimble::repo::entry::EntryState;
use thimble::types::{Digest, Hash, Hostname, NodeId, PatchId, Reason, Text};

use crate::daemon::daemon;
use crate::support::Scratch;
use crate::{host, refused, text, thimble};

fn line(words: &str) -> Reply {
    Reply::Line(Reason::truncated(words))
}

fn status() -> Reply {
    Reply::Status(StatusRow {
        node: NodeId(5),
        hostname: Hostname::new("controller-0").unwrap(),
        is_controller: true,
        transport: Text::truncated("udp"),
        version: Text::truncated("0.1.0"),
        uptime_ms: 1,
        incarnation: 9,
        patches: 1,
        repo_digest: Digest([1; 32]),
        op_counter: 4,
        is_started: true,
        is_incomplete: true,
        blobs_missing: 1,
        entries: 1024,
        entries_most: 1024,
        tombstones: 1023,
        hosts_most: 64,
        alerts: [Reason::truncated("Incomplete: the file of P1 is not here.")].into_iter().collect(),
        memory_bytes: 1,
        ..StatusRow::default()
    })
}

fn neighbour(node: u64, name: &str) -> Reply {
    Reply::Neighbour(NeighbourRow {
        node: NodeId(node),
        hostname: Hostname::new(name).unwrap(),
        address: Text::truncated("10.0.0.9"),
        age_ms: Some(3_000),
        way: None,
        lost: None,
        is_lost: false,
        is_synced: false,
        op_counter: 4,
        blobs_missing: 0,
        trouble: Reason::truncated("it refused the session"),
    })
}

/// The answer to `status` of a controller that knows two others.
pub fn status_of_two() -> Vec<Reply> {
    let blob = BlobRow {
        id: PatchId::new("P1").unwrap(),
        hash: Hash([7; 32]),
        is_wanted: true,
        reason: Reason::truncated("its signature is of a key that is not trusted here"),
    };
    let replaced = Reply::Replaced(Reason::truncated("P2: your change (Applied, no. 3) was replaced"));
    let others = [neighbour(2, "controller-2"), neighbour(1, "controller-1")];
    let lost = host("worker-9", 9, HostState::Lost, RequestStatus::None, "");
    let worker = Reply::Worker(WorkerRow {
        work: WorkerTask::Merge,
        node: Some(NodeId(2)),
        hostname: Hostname::new("controller-2").unwrap(),
        age_ms: 1,
        silent_ms: 1,
        is_stalled: false,
    });
    let besides = [Reply::Blob(blob), replaced, lost, worker, Reply::End];
    [status()].into_iter().chain(others).chain(besides).collect()
}

#[test]
fn a_commit_with_yes_is_sent_and_the_daemon_s_lines_are_printed() {
    let scratch = Scratch::new("cli");
    let daemon = daemon(&scratch, vec![vec![line("P1 is now committed"), line("Durable here."), Reply::End]]);
    let output = thimble(&scratch, &["commit", "P1", "--yes", "--force"]);
    let requests = daemon.join().unwrap();
    let [Request::Change { to: EntryState::Committed, ids, force: true, .. }] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(ids[0].as_str(), "P1");
    assert_eq!(text(&output.stdout), "P1 is now committed\nDurable here.\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_commit_of_all_sends_no_ids() {
    let scratch = Scratch::new("cli");
    let daemon = daemon(&scratch, vec![vec![Reply::End]]);
    assert_eq!(thimble(&scratch, &["commit", "--all", "--yes"]).status.code(), Some(0));
    let requests = daemon.join().unwrap();
    assert!(matches!(&requests[..], [Request::Change { ids, force: false, .. }] if ids.is_empty()));
}

#[test]
fn a_commit_without_a_terminal_or_yes_is_not_sent() {
    let scratch = Scratch::new("cli");
    for words in [&["commit", "P1"][..], &["commit", "--all"], &["--json", "commit", "P1"]] {
        let output = thimble(&scratch, words);
        // No daemon runs: a command that asked it would exit with 3.
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let said = text(&output.stderr);
        assert!(said.contains("a commit is final") && said.contains("--yes"), "{said}");
    }
    let wrong = thimble(&scratch, &["commit", "--all", "P1", "--yes"]);
    assert!(text(&wrong.stderr).contains("commit takes ID or --all, not both"));
}

#[test]
fn a_change_that_others_have_not_confirmed_succeeds() {
    let scratch = Scratch::new("cli");
    let unconfirmed = "Durable here; controller-1 has not confirmed it yet.";
    let daemon = daemon(&scratch, vec![vec![line("P1 is now applied"), line(unconfirmed), Reply::End]]);
    let output = thimble(&scratch, &["apply", "P1"]);
    daemon.join().unwrap();
    assert!(text(&output.stdout).ends_with(&format!("{unconfirmed}\n")));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn purge_and_drop_controller_print_the_daemon_s_answer() {
    let scratch = Scratch::new("cli");
    let asked = daemon(&scratch, vec![vec![line("2 entries are dropped"), Reply::End]]);
    let output = thimble(&scratch, &["--json", "purge"]);
    assert!(matches!(asked.join().unwrap()[..], [Request::Purge]));
    assert_eq!(text(&output.stdout), "{\"lines\":[\"2 entries are dropped\"]}\n");

    let scratch = Scratch::new("cli");
    let answer =
        refused(ErrorKind::Refused, "No controller c9 is known: thimble status lists those that are.");
    let asked = daemon(&scratch, vec![answer]);
    let output = thimble(&scratch, &["drop-controller", "c9"]);
    let requests = asked.join().unwrap();
    assert!(matches!(&requests[..], [Request::DropController { controller }] if controller.as_str() == "c9"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("No controller c9 is known"), "{}", text(&output.stderr));
}

#[test]
fn status_prints_troubles_first_and_controllers_by_name() {
    let scratch = Scratch::new("cli");
    let asked = daemon(&scratch, vec![status_of_two()]);
    let output = thimble(&scratch, &["status"]);
    asked.join().unwrap();
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines[0], "TROUBLE: Incomplete: the file of P1 is not here.");
    assert!(
        lines[1].starts_with("TROUBLE: The repository is nearly full: 1024 of at most 1024"),
        "{lines:?}"
    );
    assert!(lines.contains(&"replaced      P2: your change (Applied, no. 3) was replaced"), "{lines:?}");
    let others: Vec<&&str> = lines.iter().filter(|line| line.starts_with("controller ")).collect();
    assert!(others[0].contains("controller-1 0000000000000001 at 10.0.0.9: not synced"), "{others:?}");
    assert!(
        others[1].contains("controller-2") && others[1].ends_with("it refused the session"),
        "{others:?}"
    );
    let missing = "missing       the file of P1, which hosts need: its signature is of a key that";
    assert!(lines.iter().any(|line| line.starts_with(missing)), "{lines:?}");

    let scratch = Scratch::new("cli");
    let asked = daemon(&scratch, vec![status_of_two()]);
    let output = thimble(&scratch, &["--json", "status"]);
    asked.join().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["troubles"].as_array().unwrap().len(), 2);
    let controller = &json["controller"];
    assert_eq!(controller["neighbours"][0]["hostname"], "controller-1");
    assert_eq!(controller["neighbours"][0]["trouble"], "it refused the session");
    assert_eq!(controller["missing"][0]["id"], "P1");
    assert_eq!(controller["replaced"][0], "P2: your change (Applied, no. 3) was replaced");
    assert_eq!(controller["incomplete"], true);
}

#[test]
fn hosts_of_an_incomplete_controller_are_neither_current_nor_out_of_date() {
    let scratch = Scratch::new("cli");
    let Reply::Host(mut row) = host("a", 1, HostState::Idle, RequestStatus::None, "") else { unreachable!() };
    row.current = Currency::Unknown;
    let asked = daemon(&scratch, vec![vec![Reply::Host(row), Reply::End]]);
    let output = thimble(&scratch, &["query-hosts"]);
    asked.join().unwrap();
    let row = text(&output.stdout).lines().nth(2).unwrap().to_owned();
    assert_eq!(row.split_whitespace().nth(2), Some("n/a"), "{row}");
}
