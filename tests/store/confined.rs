//! What a worker can reach that its peer has taken over: a test build does what an attacker
//! would, with and without having given up its rights.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::Command;

use thimble::job::{Job, Report};
use thimble::types::NodeId;
use thimble::wire::session::SessionKeys;

use crate::support::Scratch;
use crate::support::controller::config;
use crate::support::peak::work_as;
use crate::support::sign::Signer;
use crate::sys::landlock_version;

/// What needs no kernel of a later version: a filter of system calls refuses it.
const REFUSED_BY_FILTER: [&str; 7] = [
    "leave a program",
    "give a file away",
    "run a program",
    "reach the control socket",
    "connect to a port",
    "signal another process",
    "make code",
];
/// What Landlock refuses, or to root where there is none, another root directory.
const REFUSED_ELSEWHERE: [&str; 5] = [
    "write another file",
    "change another file",
    "remove another file",
    "read another file",
    "list another directory",
];

/// What a worker with this job could do, by what it tried.
fn taken_over(job: &Job, is_unconfined: bool) -> Vec<(String, bool)> {
    let scratch = Scratch::new("taken-over");
    let signer = Signer::new(&scratch, "trusted");
    let (state, outside) = (scratch.join("state"), scratch.join("outside"));
    fs::create_dir(&state).unwrap();
    fs::create_dir(&outside).unwrap();
    for file in ["secret", "victim"] {
        fs::write(outside.join(file), "x").unwrap();
        fs::set_permissions(outside.join(file), Permissions::from_mode(0o600)).unwrap();
    }
    let path = scratch.join("thimble.toml");
    fs::write(&path, config(&state, &signer.public)).unwrap();
    let _socket = UnixListener::bind(outside.join("socket")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();

    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble"));
    command.env("THIMBLE_TAKEN_OVER", format!("{}:{port}:{}", outside.display(), std::process::id()));
    if is_unconfined {
        command.env("THIMBLE_UNCONFINED", "1");
    }
    let (ended, reports) = work_as(&mut command, &File::open(path).unwrap(), job, &[]);
    assert_eq!(ended.code, Some(0), "{reports:?}");
    let tried = reports.iter().filter_map(|report| match report {
        Report::Item(line) => {
            line.to_string().split_once(": ").map(|(what, how)| (what.to_owned(), how == "done"))
        }
        _ => None,
    });
    let tried: Vec<_> = tried.collect();
    let could = |what: &str| tried.iter().any(|(tried, is_done)| tried == what && *is_done);
    // What it says is so.
    assert_eq!(outside.join("written").exists(), could("write another file"), "{tried:?}");
    assert_eq!(outside.join("victim").exists(), !could("remove another file"), "{tried:?}");
    assert_eq!(state.join("taken-over").exists(), could("write its own file"), "{tried:?}");
    let mode = fs::metadata(outside.join("secret")).unwrap().mode() & 0o7777;
    assert_eq!(mode == 0o600, !could("leave a program"), "{tried:?}");
    tried
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn jobs() -> [(Job, &'static [&'static str]); 3] {
    let show = Job::Show { ids: [].into_iter().collect(), json: false };
    let (send_key, recv_key) = ([1; 32], [2; 32]);
    let session = SessionKeys { peer: NodeId(1), send_key, send_counter: 0, recv_key, recv_counter: 0 };
    [
        (Job::Fetch { session, patience_ms: 1_000 }, &[]),
        (show, &["read its own directory"]),
        (Job::Load { is_start: true }, &["read its own directory", "write its own file"]),
    ]
}

#[test]
fn a_worker_that_was_taken_over_reaches_nothing_but_its_files() {
    let mut refused = REFUSED_BY_FILTER.to_vec();
    match landlock_version().is_some() || is_root() {
        true => refused.extend(REFUSED_ELSEWHERE),
        false => eprintln!("SKIPPED: this kernel has no Landlock: what it refuses is not tested"),
    }
    for (job, allowed) in jobs() {
        let tried = taken_over(&job, false);
        assert_eq!(tried.len(), 15, "{tried:?}");
        for (what, is_done) in &tried {
            // One that needs no file has a filter that refuses all of it.
            if refused.contains(&what.as_str()) || allowed.is_empty() {
                assert!(!is_done, "{job:?} could {what}");
            } else if allowed.contains(&what.as_str()) {
                assert!(is_done, "{job:?} could not {what}");
            } else {
                assert!(landlock_version().is_none() || !is_done, "{job:?} could {what}");
            }
        }
    }
}

#[test]
fn without_being_confined_it_would_reach_everything() {
    if !is_root() {
        return eprintln!("SKIPPED: only root can do everything");
    }
    for (job, _) in jobs() {
        let tried = taken_over(&job, true);
        assert!(tried.len() == 15 && tried.iter().all(|(_, is_done)| *is_done), "{job:?}: {tried:?}");
    }
}
