//! sw-patch's other commands: queries about patches, the dry run and the confirmation of a
//! commit, the asynchronous install.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use thimble::control::{ErrorKind, HostState, PatchState, Reply, Request, RequestStatus};
use thimble::limits;
use thimble::repo::entry::EntryState;
use thimble::types::{NodeId, PatchId, Reason, SwVersion};
use thimble::wire::install::Outcome;

use crate::daemon::daemon;
use crate::support::Scratch;
use crate::{host, patch, refused, text, thimble};

fn id(text: &str) -> PatchId {
    PatchId::new(text).unwrap()
}

/// A command's output for this answer, and its request.
fn asks(words: &[&str], answer: Vec<Reply>) -> (Output, Request) {
    let scratch = Scratch::new("cli");
    let asked = daemon(&scratch, vec![answer]);
    let output = thimble(&scratch, words);
    let mut requests = asked.join().unwrap();
    assert_eq!(requests.len(), 1, "{requests:?}");
    (output, requests.remove(0))
}

#[test]
fn what_requires_lists_for_each_patch_those_that_require_it() {
    let pair = |of, by| Reply::RequiredBy { id: id(of), by: id(by) };
    let answer = || vec![pair("A", "B"), pair("A", "C"), pair("D", "A"), Reply::End];
    let (output, request) = asks(&["what-requires", "D", "A", "LONE"], answer());
    assert!(matches!(&request, Request::WhatRequires { ids } if ids.len() == 3), "{request:?}");
    let expected = "D is required by: A\nA is required by: B, C\nLONE is not required by any patches.\n";
    assert_eq!(text(&output.stdout), expected);
    let (output, _) = asks(&["--json", "what-requires", "A", "LONE"], answer());
    let expected = r#"{"patches":[{"id":"A","required_by":["B","C"]},{"id":"LONE","required_by":[]}]}"#;
    assert_eq!(text(&output.stdout).trim_end(), expected);
}

#[test]
fn query_dependencies_prints_an_id_per_line_and_absent_ones_on_stderr() {
    let answer = || {
        let here = Reply::Required { id: id("BASE"), state: Some(EntryState::Applied) };
        vec![Reply::Required { id: id("ABSENT"), state: None }, here, Reply::End]
    };
    let (output, request) = asks(&["query-dependencies", "P", "--recursive"], answer());
    assert!(matches!(request, Request::Requires { is_recursive: true, .. }), "{request:?}");
    assert_eq!(text(&output.stdout), "ABSENT\nBASE\n");
    assert_eq!(text(&output.stderr), "not in the repository: ABSENT\n");
    assert_eq!(output.status.code(), Some(0));
    let (output, request) = asks(&["--json", "query-dependencies", "P"], answer());
    assert!(matches!(request, Request::Requires { is_recursive: false, .. }), "{request:?}");
    let expected =
        r#"{"dependencies":[{"id":"ABSENT","repo_state":null},{"id":"BASE","repo_state":"Applied"}]}"#;
    assert_eq!(text(&output.stdout).trim_end(), expected);
}

#[test]
fn is_applied_and_is_available_are_true_only_of_all_and_name_the_others() {
    let answer = |rows: &[(&str, PatchState)]| {
        let rows = rows.iter().map(|(id, state)| patch(id, EntryState::Applied, *state));
        rows.chain([Reply::End]).collect::<Vec<_>>()
    };
    let both = answer(&[("A", PatchState::Applied), ("C", PatchState::Committed)]);
    let (output, request) = asks(&["is-applied", "A", "C"], both);
    assert!(matches!(&request, Request::Patches { ids } if ids.len() == 2), "{request:?}");
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("True\n", ""));
    assert_eq!(output.status.code(), Some(0));

    let some = || answer(&[("A", PatchState::Applied), ("B", PatchState::PartialApply)]);
    let (output, _) = asks(&["is-applied", "A", "B", "GONE"], some());
    assert_eq!(text(&output.stdout), "False\n");
    assert_eq!(text(&output.stderr), "not applied: B (Partial-Apply), GONE (not in the repository)\n");
    assert_eq!(output.status.code(), Some(1));

    let (output, _) = asks(&["--json", "is-applied", "A", "GONE"], some());
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["applied"], false);
    let [applied, gone] = &document["patches"].as_array().unwrap()[..] else { panic!("{document}") };
    assert_eq!(
        (applied["applied"].as_bool(), applied["patch_state"].as_str()),
        (Some(true), Some("Applied"))
    );
    assert!(gone["applied"] == false && gone["patch_state"].is_null(), "{gone}");
    assert_eq!(output.status.code(), Some(1));

    let (output, _) = asks(&["is-available", "A"], answer(&[("A", PatchState::Available)]));
    assert_eq!((text(&output.stdout), output.status.code()), ("True\n", Some(0)));
    let (output, _) = asks(&["is-available", "A"], answer(&[("A", PatchState::NotApplicable)]));
    assert_eq!((text(&output.stdout), output.status.code()), ("False\n", Some(1)));
    assert_eq!(text(&output.stderr), "not available: A (n/a)\n");
}

fn would_commit(ids: &[&str], hosts: u32, refusal: &str) -> Vec<Reply> {
    let rows = ids.iter().map(|id| patch(id, EntryState::Applied, PatchState::Applied));
    let first = Reply::Commitment { hosts, refusal: Reason::truncated(refusal) };
    [first].into_iter().chain(rows).chain([Reply::End]).collect()
}

#[test]
fn a_dry_run_shows_what_would_be_committed_and_sends_no_change() {
    let (output, request) =
        asks(&["commit", "P2", "--dry-run", "--force"], would_commit(&["P1", "P2"], 3, ""));
    let Request::WouldCommit { ids, force: true } = request else { panic!("{request:?}") };
    assert_eq!(ids[..], [id("P2")]);
    let said = text(&output.stdout);
    assert!(
        said.starts_with("The following patches would be committed:\n    P1\n    P2\n\n3 hosts"),
        "{said}"
    );
    assert!(said.contains("The repository frees nothing"), "{said}");
    assert_eq!(output.status.code(), Some(0));

    let (output, _) = asks(&["--json", "commit", "--all", "--dry-run"], would_commit(&["P1"], 1, ""));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((document["patches"][0]["id"].as_str(), document["hosts"].as_u64()), (Some("P1"), Some(1)));
    assert_eq!(document["would_be_done"], true);

    let (output, _) = asks(&["commit", "--all", "--dry-run"], would_commit(&[], 0, ""));
    assert_eq!((text(&output.stdout), output.status.code()), ("Nothing to commit.\n", Some(0)));
}

#[test]
fn a_dry_run_of_a_refused_commit_shows_the_patches_and_the_reason() {
    let answer = || would_commit(&["P1"], 0, "P1 is not on host w1 yet.");
    let (output, _) = asks(&["commit", "P1", "--dry-run"], answer());
    assert!(text(&output.stdout).contains("    P1\n"));
    assert_eq!(text(&output.stderr), "thimble: the commit would be refused: P1 is not on host w1 yet.\n");
    assert_eq!(output.status.code(), Some(1));
    let (output, _) = asks(&["--json", "commit", "P1", "--dry-run"], answer());
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["patches"][0]["id"], "P1");
    assert_eq!((document["would_be_done"].as_bool(), document["exit_code"].as_u64()), (Some(false), Some(1)));

    let unknown = refused(ErrorKind::Refused, "P9 is not in the repository.");
    let (output, _) = asks(&["--json", "commit", "P9", "--dry-run"], unknown);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"], "P9 is not in the repository.");
}

/// Runs a command on a terminal of its own, and types an answer.
fn types(dir: &Path, words: &str, answer: &str) -> (String, Option<i32>) {
    let line = format!("{} --socket sock {words}", env!("CARGO_BIN_EXE_thimble"));
    let mut command = Command::new("script");
    command.current_dir(dir).args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (text(&output.stdout).replace('\r', ""), output.status.code())
}

#[test]
fn a_commit_shows_its_patches_asks_and_commits_what_was_shown() {
    let scratch = Scratch::new("cli");
    let done = vec![Reply::Line(Reason::truncated("P1 is now committed")), Reply::End];
    let asked = daemon(&scratch, vec![would_commit(&["P1", "P2"], 2, ""), done]);
    let (said, code) = types(&scratch, "commit --all", "y\n");
    let requests = asked.join().unwrap();
    assert!(matches!(&requests[0], Request::WouldCommit { ids, .. } if ids.is_empty()), "{requests:?}");
    let Request::Change { to: EntryState::Committed, ids, .. } = &requests[1] else { panic!("{requests:?}") };
    assert_eq!(ids[..], [id("P1"), id("P2")], "no patch that was applied meanwhile");
    let (shown, question) = (said.find("    P2\n").unwrap(), said.find("Commit? [y/N]").unwrap());
    assert!(shown < question && said.contains("P1 is now committed"), "{said}");
    assert_eq!(code, Some(0));
}

#[test]
fn a_commit_that_is_declined_or_would_be_refused_is_not_sent() {
    for (refusal, words) in
        [("", "not confirmed"), ("P1 is not on host w1 yet.", "would be refused: P1 is not on")]
    {
        let scratch = Scratch::new("cli");
        let asked = daemon(&scratch, vec![would_commit(&["P1"], 0, refusal)]);
        let (said, code) = types(&scratch, "commit P1", "n\n");
        assert_eq!(asked.join().unwrap().len(), 1);
        assert!(said.contains(words), "{said}");
        assert_eq!(said.contains("[y/N]"), refusal.is_empty(), "{said}");
        assert_eq!(code, Some(1));
    }
}

/// Applied patches, every second one for another release.
fn releases(count: usize) -> Vec<Reply> {
    let rows = (0..count).map(|at| {
        let mut row = patch(&format!("P{at:03}"), EntryState::Applied, PatchState::Applied);
        let Reply::Patch(inside) = &mut row else { unreachable!() };
        inside.sw_version = SwVersion::new(if at % 2 == 0 { "25.03" } else { "24.09" }).unwrap();
        row
    });
    let available = patch("Z", EntryState::Available, PatchState::Available);
    rows.chain([available, Reply::End]).collect()
}

#[test]
fn a_commit_of_a_release_takes_only_its_applied_patches() {
    let scratch = Scratch::new("cli");
    let done = vec![Reply::Line(Reason::truncated("done")), Reply::End];
    let asked = daemon(&scratch, vec![releases(4), done]);
    let output = thimble(&scratch, &["commit", "--all", "--release", "25.03", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let requests = asked.join().unwrap();
    let Request::Change { ids, .. } = &requests[1] else { panic!("{requests:?}") };
    assert_eq!(ids[..], [id("P000"), id("P002")]);

    // If there are none, no commit is sent: one without ids would mean all.
    for option in ["--yes", "--dry-run"] {
        let (output, request) = asks(&["commit", "--all", "--release", "1.0", option], releases(4));
        assert!(matches!(request, Request::Query));
        assert!(text(&output.stdout).starts_with("Nothing to "), "{}", text(&output.stdout));
        assert_eq!(output.status.code(), Some(0));
        let (output, _) = asks(&["--json", "commit", "--all", "--release", "1.0", option], releases(4));
        assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok(), "{}", text(&output.stdout));
    }
    let too_many = releases(2 * limits::COMMAND_NAMES + 2);
    let (output, _) = asks(&["commit", "--all", "--release", "25.03", "--yes"], too_many);
    assert!(text(&output.stderr).contains("129 patches for 25.03 are applied"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(1));

    let alone = thimble(&scratch, &["commit", "P1", "--release", "25.03", "--yes"]);
    assert_eq!(alone.status.code(), Some(2));
}

#[test]
fn host_install_names_hosts_that_were_not_asked_and_ignores_their_earlier_outcome() {
    let answer = || {
        let reason =
            Reason::truncated("gone: it is lost: nothing was heard from it for long, so it was not asked.");
        vec![
            Reply::NotAsked { node: NodeId(2), is_busy: false, reason },
            host("a", 1, HostState::Idle, RequestStatus::Ended(Outcome::Installed), ""),
            host("gone", 2, HostState::Lost, RequestStatus::Ended(Outcome::Installed), ""),
            Reply::End,
        ]
    };
    let (output, _) = asks(&["host-install", "a", "gone"], answer());
    let said = text(&output.stdout);
    assert!(said.starts_with("gone: it is lost"), "{said}");
    assert!(said.ends_with("a: installed\n1 of 1 installed, 1 not asked\n"), "{said}");
    assert_eq!(output.status.code(), Some(1));
    let (output, _) = asks(&["--json", "host-install", "a", "gone"], answer());
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["hosts"].as_array().unwrap().len(), 1);
    assert!(document["lines"][0].as_str().unwrap().starts_with("gone: "));
}

#[test]
fn host_install_async_says_how_to_watch_and_does_not_wait() {
    let answer = || {
        let reason = Reason::truncated("busy: an install is under way there already.");
        vec![
            Reply::NotAsked { node: NodeId(2), is_busy: true, reason },
            host("a", 1, HostState::Idle, RequestStatus::Waiting, ""),
            host("busy", 2, HostState::Idle, RequestStatus::Waiting, ""),
            Reply::End,
        ]
    };
    let (output, request) = asks(&["host-install-async", "a", "busy", "--force"], answer());
    assert!(
        matches!(&request, Request::HostInstall { hosts, force: true } if hosts.len() == 2),
        "{request:?}"
    );
    let said = text(&output.stdout);
    assert!(
        said.starts_with("busy: an install is under way there already.\na: asked to install\n"),
        "{said}"
    );
    assert!(said.contains("thimble query-hosts") && !said.contains("busy: asked"), "{said}");
    assert_eq!(text(&output.stderr), "thimble: not asked to install: busy\n");
    assert_eq!(output.status.code(), Some(1));
    let (output, _) = asks(&["--json", "host-install-async", "a", "busy"], answer());
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["hosts"].as_array().unwrap().len(), 2);
    assert_eq!(document["lines"][0], "busy: an install is under way there already.");

    // The first installs may have ended before a long list is sent.
    let ended = RequestStatus::Ended(Outcome::Installed);
    let all = vec![host("a", 1, HostState::Idle, ended, ""), Reply::End];
    let (output, _) = asks(&["--json", "host-install-async", "a"], all);
    assert_eq!(output.status.code(), Some(0));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["hosts"][0]["install"], "installed");
    assert_eq!(document["lines"].as_array().map(Vec::len), Some(0));
}
