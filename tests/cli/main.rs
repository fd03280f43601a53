//! The command line as a script uses it: the real binary, and a daemon with prepared
//! answers.

#[path = "../support/mod.rs"]
mod support;

mod controllers;
mod daemon;
mod exits;
mod json;
mod lists;
mod uploads;
mod verbs;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use thimble::control::{
    Currency, ErrorKind, HostRow, HostState, PatchRow, PatchState, Reply, Request, RequestStatus,
};
use thimble::repo::entry::EntryState;
use thimble::types::{Digest, Hash, Hostname, NodeId, NodeType, PatchId, Reason, SwVersion, Text};
use thimble::wire::install::{Outcome, Step};

use daemon::{daemon, receive, send};
use support::Scratch;
use support::archive::Tar;
use support::sign::Signer;

fn thimble(dir: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble"));
    command.current_dir(dir).args(["--socket", "sock"]).args(words).stdin(Stdio::null());
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn refused(kind: ErrorKind, reason: &str) -> Vec<Reply> {
    vec![Reply::Error { kind, reason: Reason::truncated(reason) }]
}

fn patch(id: &str, repo_state: EntryState, patch_state: PatchState) -> Reply {
    Reply::Patch(PatchRow {
        id: PatchId::new(id).unwrap(),
        reboot_required: true,
        sw_version: SwVersion::new("24.09").unwrap(),
        repo_state,
        patch_state,
        hash: Hash([1; 32]),
        size_bytes: 1,
        summary: Text::truncated(""),
        blocked_by: None,
        hosts_with: 0,
        hosts_concerned: 0,
    })
}

fn host(name: &str, node: u64, state: HostState, install: RequestStatus, reason: &str) -> Reply {
    Reply::Host(HostRow {
        node: NodeId(node),
        hostname: Hostname::new(name).unwrap(),
        address: Text::truncated("10.0.0.1"),
        nodetype: NodeType::new("worker").unwrap(),
        current: Currency::OutOfDate,
        reboot_required: false,
        sw_version: SwVersion::new("24.09").unwrap(),
        state,
        lost: None,
        age_ms: 1,
        way: None,
        installed_digest: Digest([0; 32]),
        install,
        reason: Reason::truncated(reason),
        part: None,
    })
}

#[test]
fn query_lists_the_selected_patches_by_id() {
    let scratch = Scratch::new("cli");
    let answer = vec![
        patch("P2", EntryState::Applied, PatchState::PartialApply),
        patch("P1", EntryState::Applied, PatchState::Applied),
        patch("P0", EntryState::Available, PatchState::Available),
        Reply::End,
    ];
    let daemon = daemon(&scratch, vec![answer]);
    let output = thimble(&scratch, &["query", "applied"]);
    assert!(matches!(daemon.join().unwrap()[..], [Request::Query]));
    let expected = "Patch ID  RR  Release   Patch State\n\
                    ========  ==  =======  =============\n\
                    P1        Y    24.09      Applied\n\
                    P2        Y    24.09   Partial-Apply\n\n";
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_change_prints_the_daemon_s_lines() {
    let scratch = Scratch::new("cli");
    let line = Reply::Line(Reason::truncated("P1 is now in the repository"));
    let daemon = daemon(&scratch, vec![vec![line, Reply::End]]);
    let output = thimble(&scratch, &["--json", "apply", "P1", "--force"]);
    let requests = daemon.join().unwrap();
    let [Request::Change { to: EntryState::Applied, ids, force: true, below_floor: false }] = &requests[..]
    else {
        panic!("{requests:?}")
    };
    assert_eq!(ids.len(), 1);
    assert_eq!(text(&output.stdout), "{\"lines\":[\"P1 is now in the repository\"]}\n");
}

#[test]
fn a_change_goes_below_the_floor_only_if_that_is_said() {
    for (words, says) in [(&["remove", "P1"][..], false), (&["remove", "P1", "--below-floor"], true)] {
        let scratch = Scratch::new("cli-below");
        let daemon = daemon(&scratch, vec![vec![Reply::End]]);
        thimble(&scratch, words);
        let requests = daemon.join().unwrap();
        assert!(
            matches!(&requests[..], [Request::Change { force: false, below_floor, .. }] if *below_floor == says),
            "{requests:?}"
        );
    }
}

#[test]
fn a_failure_also_reports_what_was_done_before_it() {
    let line = || Reply::Line(Reason::truncated("P1 is uploaded"));
    let mut answer = vec![line()];
    answer.extend(refused(ErrorKind::Verification, "P2: nobody trusted has signed it"));
    let scratch = Scratch::new("cli");
    for name in ["P1", "P2", "P1.minisig", "P2.minisig"] {
        fs::write(scratch.join(name), "x").unwrap();
    }
    let daemon = daemon(&scratch, vec![answer]);
    let output = thimble(&scratch, &["--json", "upload", "P1", "P2"]);
    let requests = daemon.join().unwrap();
    let [Request::Upload { names }] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(names.iter().map(Text::raw).collect::<Vec<_>>(), ["P1", "P2"]);
    let expected = concat!(
        r#"{"error":"P2: nobody trusted has signed it; the others are in the repository","exit_code":5,"#,
        r#""lines":["P1 is uploaded"],"files":["#,
        r#"{"file":"P1","taken":true,"message":"P1 is uploaded"},"#,
        r#"{"file":"P2","taken":false,"message":"P2: nobody trusted has signed it"}]}"#
    );
    assert_eq!(text(&output.stdout).trim_end(), expected);
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn each_kind_of_refusal_has_its_exit_code_and_its_reason() {
    for (kind, code) in [
        (ErrorKind::Refused, 1),
        (ErrorKind::NotPermitted, 4),
        (ErrorKind::Verification, 5),
        (ErrorKind::TimedOut, 6),
    ] {
        let scratch = Scratch::new("cli");
        let daemon = daemon(&scratch, vec![refused(kind, "P1: there is no such patch")]);
        let output = thimble(&scratch, &["remove", "P1"]);
        daemon.join().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(text(&output.stderr), "thimble: P1: there is no such patch\n");
    }
}

#[test]
fn without_a_daemon_the_exit_code_is_3_and_the_error_says_how_to_start_it() {
    let scratch = Scratch::new("cli");
    let output = thimble(&scratch, &["query"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("thimble run"), "{}", text(&output.stderr));
    // A socket that a daemon left behind when it was killed.
    drop(UnixListener::bind(scratch.join("sock")).unwrap());
    let output = thimble(&scratch, &["--json", "query"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).ends_with("\"exit_code\":3,\"lines\":[]}\n"), "{}", text(&output.stdout));
}

#[test]
fn an_answer_that_is_cut_off_is_not_taken_for_a_whole_one() {
    let scratch = Scratch::new("cli");
    let listener = UnixListener::bind(scratch.join("sock")).unwrap();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        receive(&mut stream);
        send(&mut stream, &Reply::End);
        receive(&mut stream);
        send(&mut stream, &patch("P1", EntryState::Applied, PatchState::Applied));
    });
    let output = thimble(&scratch, &["query"]);
    daemon.join().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty(), "half a table would be taken for a whole one");
    assert!(text(&output.stderr).contains("before its answer was complete"), "{}", text(&output.stderr));
}

#[test]
fn a_daemon_without_room_is_told_apart_from_one_that_does_not_run() {
    let scratch = Scratch::new("cli");
    let listener = UnixListener::bind(scratch.join("sock")).unwrap();
    let daemon = thread::spawn(move || drop(listener.accept().unwrap()));
    let output = thimble(&scratch, &["query"]);
    daemon.join().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("try again"), "{}", text(&output.stderr));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let scratch = Scratch::new("cli");
    for words in
        [&["aply"][..], &[], &["query", "sideways"], &["apply"], &["apply", "--all", "P"], &["keygen"]]
    {
        let output = thimble(&scratch, words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(text(&output.stderr).contains("see `thimble help"), "{words:?}: {}", text(&output.stderr));
    }
}

#[test]
fn an_unsigned_patch_is_exit_code_5_and_is_not_sent() {
    let scratch = Scratch::new("cli");
    fs::write(scratch.join("p.patch"), "x").unwrap();
    let output = thimble(&scratch, &["upload", "p.patch"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("p.patch is not signed"), "{}", text(&output.stderr));
}

#[test]
fn host_install_watches_to_the_end_and_prints_each_outcome() {
    let scratch = Scratch::new("cli");
    let running = HostState::Installing { step: Step::Switching, percent: 60 };
    let failed = RequestStatus::Ended(Outcome::RolledBack);
    let installed = RequestStatus::Ended(Outcome::Installed);
    let answers = vec![
        vec![
            host("a", 1, HostState::Idle, RequestStatus::Waiting, ""),
            host("b", 2, HostState::Idle, RequestStatus::Waiting, ""),
            Reply::End,
        ],
        vec![
            host("a", 1, running, RequestStatus::Running, ""),
            host("b", 2, HostState::InstallFailed, failed, "health: exit status 1"),
            Reply::End,
        ],
        vec![
            host("a", 1, HostState::Idle, installed, ""),
            host("b", 2, HostState::InstallFailed, failed, "health: exit status 1"),
            Reply::End,
        ],
    ];
    let daemon = daemon(&scratch, answers);
    let output = thimble(&scratch, &["host-install", "a", "b"]);
    let requests = daemon.join().unwrap();
    let Request::Hosts { hosts } = &requests[1] else { panic!("{requests:?}") };
    assert_eq!(hosts[1].as_str(), "0000000000000002", "watched by node id");
    let expected = "a: asked, no answer yet\n\
                    b: asked, no answer yet\n\
                    a:  60%  switching\n\
                    b: failed, the previous patches are back in place: health: exit status 1\n\
                    a: installed\n\
                    1 of 2 installed, 1 failed\n";
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_host_that_does_not_answer_is_exit_code_6() {
    let scratch = Scratch::new("cli");
    let answer = vec![host("a", 1, HostState::Idle, RequestStatus::NoAnswer, ""), Reply::End];
    let daemon = daemon(&scratch, vec![answer]);
    let output = thimble(&scratch, &["--json", "host-install", "a"]);
    daemon.join().unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(text(&output.stdout).contains(r#""install":"no-answer""#), "{}", text(&output.stdout));
}

#[test]
fn installs_continue_if_the_daemon_ends_while_they_are_watched() {
    let scratch = Scratch::new("cli");
    let answer = vec![host("a", 1, HostState::Idle, RequestStatus::Waiting, ""), Reply::End];
    // It closes the connection instead of answering the next request.
    let daemon = daemon(&scratch, vec![answer, vec![]]);
    let output = thimble(&scratch, &["host-install", "a"]);
    assert_eq!(daemon.join().unwrap().len(), 2);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("continue without it"), "{}", text(&output.stderr));
}

#[test]
fn an_interrupt_does_not_stop_the_install_and_says_so() {
    let scratch = Scratch::new("cli");
    let listener = UnixListener::bind(scratch.join("sock")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble"));
    command.current_dir(&*scratch).args(["--socket", "sock", "host-install", "a"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    receive(&mut stream);
    send(&mut stream, &Reply::End);
    receive(&mut stream);
    // It has sent its request, so it handles interrupts by now.
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    send(&mut stream, &host("a", 1, HostState::Idle, RequestStatus::Waiting, ""));
    send(&mut stream, &Reply::End);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(text(&output.stderr).contains("the installs continue"), "{}", text(&output.stderr));
}

#[test]
fn a_closed_pipe_ends_help_quietly() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.arg("help").stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn key_files_are_readable_by_their_owner_alone_and_not_overwritten() {
    let scratch = Scratch::new("cli");
    let made = thimble(&scratch, &["keygen", "--cluster", "-o", "c.key"]);
    assert_eq!(made.status.code(), Some(0));
    assert!(text(&made.stdout).starts_with("c.key: keys of controller, node id "));
    let again = thimble(&scratch, &["keygen", "--cluster", "-o", "c.key"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("never overwritten"), "{}", text(&again.stderr));

    // A file that is readable by all, as a shell's redirection makes it.
    let file = fs::File::create(scratch.join("w.key")).unwrap();
    fs::set_permissions(scratch.join("w.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble"));
    command.current_dir(&*scratch).args(["keygen", "--node", "worker-0", "--from", "c.key"]);
    assert!(command.stdout(file).status().unwrap().success());
    for name in ["c.key", "w.key"] {
        let mode = fs::metadata(scratch.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    let from_agent = thimble(&scratch, &["keygen", "--node", "x", "--from", "w.key"]);
    assert_eq!(from_agent.status.code(), Some(1));
    assert!(text(&from_agent.stderr).contains("cannot make others"), "{}", text(&from_agent.stderr));
}

#[test]
fn a_changed_key_file_belongs_to_the_owner_of_the_one_before() {
    let scratch = Scratch::new("cli");
    thimble(&scratch, &["keygen", "--cluster", "-o", "c.key"]);
    if chown(scratch.join("c.key"), Some(12_345), Some(12_346)).is_err() {
        return; // Only root can give a file away.
    }
    for (mode, to, owner) in [("--add-slot", "more.key", (12_345, 12_346)), ("--node=w", "w.key", (0, 0))] {
        let made = thimble(&scratch, &["keygen", mode, "--from", "c.key", "-o", to]);
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        let file = fs::metadata(scratch.join(to)).unwrap();
        assert_eq!((file.uid(), file.gid()), owner, "{mode}");
    }
}

#[test]
fn check_config_reads_the_key_file_too() {
    let scratch = Scratch::new("cli");
    thimble(&scratch, &["keygen", "--cluster", "-o", "c.key"]);
    let config = format!(
        "[node]\nroles = [\"controller\"]\n[network]\ninterface = \"lo\"\n[security]\nkey_file = \"{}\"\n\
         trusted_keys = [\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"]\n",
        scratch.join("c.key").display()
    );
    fs::write(scratch.join("t.toml"), &config).unwrap();
    let good = thimble(&scratch, &["--config", "t.toml", "check-config"]);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(text(&good.stdout).starts_with("OK: t.toml\n"), "{}", text(&good.stdout));

    fs::set_permissions(scratch.join("c.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = thimble(&scratch, &["--config", "t.toml", "check-config"]);
    assert_eq!(open.status.code(), Some(1));
    assert!(text(&open.stderr).contains("chmod 600"), "{}", text(&open.stderr));
}

#[test]
fn verify_reports_on_each_file_what_an_upload_would() {
    let scratch = Scratch::new("cli");
    let (trusted, other) = (Signer::new(&scratch, "trusted"), Signer::new(&scratch, "other"));
    for (name, signer) in [("good.patch", &trusted), ("foreign.patch", &other), ("altered.patch", &trusted)] {
        fs::write(scratch.join(name), Tar::patch("P1").file("files/etc/motd", b"hello").gzip()).unwrap();
        signer.sign(&scratch.join(name));
    }
    let mut altered = fs::read(scratch.join("altered.patch")).unwrap();
    *altered.last_mut().unwrap() ^= 1;
    fs::write(scratch.join("altered.patch"), altered).unwrap();

    let good = thimble(&scratch, &["verify", "--trust", "trusted.pub", "good.patch"]);
    assert!(text(&good.stdout).starts_with("good.patch: OK: P1 for 1.0, 2 members, "));
    assert_eq!(good.status.code(), Some(0));
    assert_eq!(text(&good.stdout).lines().count(), 1, "nothing to look at");
    let shared = Tar::patch("P2").member(b"files/etc/motd", tar::EntryType::Regular, 0o646, b"", b"hello");
    fs::write(scratch.join("shared.patch"), shared.gzip()).unwrap();
    trusted.sign(&scratch.join("shared.patch"));
    let shared = thimble(&scratch, &["verify", "--trust", "trusted.pub", "shared.patch"]);
    assert!(text(&shared.stdout).contains("\nshared.patch: caution: 1 member world-writable: /etc/motd\n"));
    assert_eq!(shared.status.code(), Some(0), "it is allowed");
    let shared = thimble(&scratch, &["verify", "--trust", "trusted.pub", "shared.patch", "--json"]);
    assert!(text(&shared.stdout).contains(r#""cautions":["1 member world-writable: /etc/motd"]"#));
    let by_line = thimble(&scratch, &["verify", "--trust", &trusted.public, "good.patch", "--json"]);
    assert!(text(&by_line.stdout).contains(r#""verified":true,"id":"P1","release":"1.0""#));

    let files = ["verify", "--trust", "trusted.pub", "foreign.patch", "altered.patch", "good.patch"];
    let mixed = thimble(&scratch, &files);
    let lines: Vec<&str> = text(&mixed.stdout).lines().collect();
    assert!(lines[0].starts_with("foreign.patch: FAILED: "), "{lines:?}");
    assert!(lines[1].starts_with("altered.patch: FAILED: "), "{lines:?}");
    assert!(lines[2].starts_with("good.patch: OK: "), "{lines:?}");
    assert_eq!(mixed.status.code(), Some(5));
    let none = thimble(&scratch, &["verify", "--trust", "absent.pub", "good.patch"]);
    assert_eq!(none.status.code(), Some(1));
}

#[cfg(feature = "tools")]
#[test]
fn make_writes_a_patch_that_verifies_once_it_is_signed() {
    let scratch = Scratch::new("cli");
    let signer = Signer::new(&scratch, "maker");
    fs::create_dir_all(scratch.join("tree/files/etc")).unwrap();
    fs::write(scratch.join("tree/metadata.toml"), support::archive::metadata("P1")).unwrap();
    fs::write(scratch.join("tree/files/etc/motd"), "hello").unwrap();
    let made = thimble(&scratch, &["make", "tree", "-o", "P1.patch"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    assert!(text(&made.stdout).contains("minisign -S -H -m P1.patch"));
    signer.sign(&scratch.join("P1.patch"));
    let verified = thimble(&scratch, &["verify", "--trust", "maker.pub", "P1.patch"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));

    let nothing = thimble(&scratch, &["make", "absent"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing.stderr).starts_with("thimble: absent"), "{}", text(&nothing.stderr));
}
