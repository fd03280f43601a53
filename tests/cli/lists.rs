//! Lists are written row by row, can be filtered, and are whole documents even if the
//! answer is cut off.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use serde_json::Value;
use thimble::control::{Currency, ErrorKind, HostFilter, HostState, Reply, Request, RequestStatus};
use thimble::limits;
use thimble::types::Reason;
use thimble::wire::install::Outcome;

use crate::daemon::{daemon, receive, send};
use crate::support::Scratch;
use crate::{host, refused, text, thimble};

fn idle(node: u64) -> Reply {
    host(&format!("host-{node}"), node, HostState::Idle, RequestStatus::None, "")
}

fn spawn(dir: &Path, words: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble"));
    command.current_dir(dir).args(["--socket", "sock"]).args(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The number of hosts in a command's output.
fn hosts_in(said: &[u8]) -> usize {
    said.windows(7).filter(|seven| seven == b"\"node\":").count()
}

/// Reads a command's output until it has `rows` more hosts.
fn read_rows(child: &mut Child, said: &mut Vec<u8>, rows: usize) {
    let stdout = child.stdout.as_mut().unwrap();
    let mut part = [0; 64 * 1024];
    let (mut found, mut looked_at) = (0, said.len());
    while found < rows {
        let got = stdout.read(&mut part).unwrap();
        assert_ne!(got, 0, "it ended after {}", text(said));
        said.extend_from_slice(&part[..got]);
        found += hosts_in(&said[looked_at..]);
        // A match may be cut in two at the end.
        looked_at = said.len().saturating_sub(6).max(looked_at);
    }
}

#[test]
fn hosts_are_written_as_they_arrive_and_a_failure_still_ends_the_document() {
    let endings: [(Option<Reply>, i32, &str); 2] = [
        (refused(ErrorKind::Refused, "the map is being read again").pop(), 1, "the map is being read again"),
        (None, 3, "before its answer was complete"),
    ];
    for (ending, code, words) in endings {
        let scratch = Scratch::new("cli");
        let listener = UnixListener::bind(scratch.join("sock")).unwrap();
        let (go_on, may_go_on) = channel::<()>();
        let daemon = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            receive(&mut stream);
            send(&mut stream, &Reply::End);
            receive(&mut stream);
            (0..40).for_each(|node| send(&mut stream, &idle(node)));
            may_go_on.recv().unwrap();
            if let Some(ending) = ending {
                send(&mut stream, &ending);
            }
        });
        let mut child = spawn(&scratch, &["--json", "query-hosts"]);
        let mut said = Vec::new();
        // The daemon has not ended its answer, and will not before these are read.
        read_rows(&mut child, &mut said, 30);
        go_on.send(()).unwrap();
        child.stdout.as_mut().unwrap().read_to_end(&mut said).unwrap();
        daemon.join().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        let document: Value = serde_json::from_slice(&said).unwrap();
        assert_eq!(document["hosts"].as_array().unwrap().len(), 40);
        assert_eq!(document["exit_code"], code);
        assert!(document["error"].as_str().unwrap().contains(words), "{document}");
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
    }
}

/// The peak resident memory of a process, in KiB.
fn peak_kib(child: &Child) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_long_list_takes_no_more_memory_than_a_short_one() {
    let scratch = Scratch::new("cli");
    let listener = UnixListener::bind(scratch.join("sock")).unwrap();
    let (end, may_end) = channel::<()>();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        receive(&mut stream);
        send(&mut stream, &Reply::End);
        receive(&mut stream);
        (0..limits::HOSTS_MOST as u64).for_each(|node| send(&mut stream, &idle(node)));
        may_end.recv().unwrap();
        send(&mut stream, &Reply::End);
    });
    let mut child = spawn(&scratch, &["--json", "query-hosts"]);
    let mut said = Vec::new();
    read_rows(&mut child, &mut said, 10);
    let at_first = peak_kib(&child);
    // The last rows are still in the command's buffer.
    let most = limits::HOSTS_MOST - 10 - hosts_in(&said);
    read_rows(&mut child, &mut said, most);
    let at_last = peak_kib(&child);
    end.send(()).unwrap();
    child.stdout.as_mut().unwrap().read_to_end(&mut said).unwrap();
    daemon.join().unwrap();
    assert!(child.wait().unwrap().success());
    let document: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(document["hosts"].as_array().unwrap().len(), limits::HOSTS_MOST);
    assert!(at_last < at_first + 512, "{at_first} KiB at first, {at_last} KiB at last");
}

#[test]
fn an_empty_list_is_a_document() {
    for (command, key) in [("query-hosts", "hosts"), ("query", "patches")] {
        let scratch = Scratch::new("cli");
        let asked = daemon(&scratch, vec![vec![Reply::End]]);
        let output = thimble(&scratch, &["--json", command]);
        asked.join().unwrap();
        assert_eq!(text(&output.stdout), format!("{{\"{key}\":[]}}\n"));
        assert_eq!(output.status.code(), Some(0));
    }
}

#[test]
fn one_filter_is_sent_to_the_daemon_and_several_are_joined_with_or() {
    let rows = || {
        let failed = RequestStatus::Ended(Outcome::RolledBack);
        let mut rows = vec![
            host("broken", 1, HostState::InstallFailed, failed, "health: exit status 1"),
            host("gone", 2, HostState::Lost, RequestStatus::None, ""),
            host("busy", 3, HostState::Idle, RequestStatus::Waiting, ""),
            host("fine", 4, HostState::Idle, RequestStatus::None, ""),
        ];
        for row in &mut rows {
            let Reply::Host(row) = row else { unreachable!() };
            row.current = Currency::Current;
        }
        rows.push(Reply::End);
        rows
    };
    for (options, asked, listed) in [
        (&[][..], HostFilter::All, &["broken", "busy", "fine", "gone"][..]),
        (&["--failed"], HostFilter::Failed, &["broken"]),
        (&["--lost"], HostFilter::Lost, &["gone"]),
        (&["--at-work"], HostFilter::AtWork, &["busy"]),
        (&["--not-current"], HostFilter::NotCurrent, &[]),
        (&["--failed", "--lost"], HostFilter::All, &["broken", "gone"]),
        (&["--at-work", "--lost", "--not-current"], HostFilter::All, &["busy", "gone"]),
    ] {
        let scratch = Scratch::new("cli");
        // This daemon sends all hosts, whatever the filter.
        let daemon = daemon(&scratch, vec![rows()]);
        let output = thimble(&scratch, &[&["query-hosts"], options].concat());
        let requests = daemon.join().unwrap();
        assert!(matches!(requests[..], [Request::QueryHosts { filter }] if filter == asked), "{requests:?}");
        let lines = text(&output.stdout).lines().skip(2);
        let names: Vec<&str> = lines.map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(names, listed, "{options:?}");
    }
}

#[test]
fn a_wide_table_has_more_columns() {
    let scratch = Scratch::new("cli");
    let failed = RequestStatus::Ended(Outcome::RolledBack);
    let Reply::Host(mut row) = host("w", 0x1f, HostState::InstallFailed, failed, "health: exit status 1")
    else {
        unreachable!()
    };
    row.age_ms = 61_000;
    let asked = daemon(&scratch, vec![vec![Reply::Host(row), Reply::End]]);
    let output = thimble(&scratch, &["query-hosts", "--wide"]);
    asked.join().unwrap();
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    let columns: Vec<&str> = lines[0].split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
    assert_eq!(columns[..2], ["Hostname", "IP Address"]);
    assert_eq!(columns[6..], ["Node ID", "Node Type", "Heard", "Install", "Reason"]);
    let behind = lines[2].split("install-failed").nth(1).unwrap();
    assert_eq!(
        behind.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>(),
        ["000000000000001f", "worker", "1 min 1 s ago", "rolled-back", "health: exit status 1"]
    );
}

#[test]
fn a_host_that_is_sent_twice_is_shown_once() {
    let scratch = Scratch::new("cli");
    let asked = daemon(&scratch, vec![vec![idle(7), idle(3), idle(7), Reply::End]]);
    let output = thimble(&scratch, &["query-hosts"]);
    asked.join().unwrap();
    assert_eq!(text(&output.stdout).lines().count(), 2 + 2, "{}", text(&output.stdout));
}

#[test]
fn a_show_that_is_cut_off_prints_an_error_document() {
    let scratch = Scratch::new("cli");
    let half = Reply::Output(heapless::Vec::from_slice(br#"{"patches":[{"id":"P1","#).unwrap());
    let reason = Reason::truncated("the disk is gone");
    let answer = vec![half, Reply::Error { kind: ErrorKind::Refused, reason }];
    let asked = daemon(&scratch, vec![answer]);
    let output = thimble(&scratch, &["--json", "show", "P1"]);
    asked.join().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"], "the disk is gone");
}
