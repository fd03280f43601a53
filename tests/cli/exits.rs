//! Each exit code with its causes; and the messages for mistakes, which must be clear to
//! an operator.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use thimble::control::{PatchState, Reply};
use thimble::limits;
use thimble::repo::entry::EntryState;

use crate::daemon::daemon;
use crate::support::Scratch;
use crate::support::archive::Tar;
use crate::support::sign::Signer;
use crate::{patch, text, thimble};

/// Runs a command as user nobody, who may read this directory. Returns `None` and prints
/// that the test is skipped if it does not run as root.
fn as_nobody(dir: &Path, words: &[&str]) -> Option<Output> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    // User nobody may have no access to the binary, so it is copied. Another process copies
    // it: a child that this one starts meanwhile would hold the copy open for writing, and
    // running it would fail (ETXTBSY).
    let binary = dir.join("thimble");
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_thimble")).arg(&binary).status().unwrap().success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary);
    command.current_dir(dir).args(["--socket", "sock"]).args(words).stdin(Stdio::null());
    let output = command.output().unwrap();
    if text(&output.stderr).starts_with("setpriv:") {
        use std::io::Write;
        let line = format!("SKIPPED: {words:?} as nobody: needs root: {}", text(&output.stderr));
        let _ = std::io::stderr().write_all(line.as_bytes());
        return None;
    }
    Some(output)
}

/// Error messages contain no debug output.
fn is_for_people(output: &Output) {
    let said = text(&output.stderr);
    assert!(said.starts_with("thimble: ") && said.ends_with('\n'), "{said}");
    for word in ["Err(", "Some(", "Error {", "Custom {", "Os {", "panicked", "unwrap"] {
        assert!(!said.contains(word), "{said}");
    }
}

#[test]
fn code_0_is_success() {
    let scratch = Scratch::new("cli");
    assert_eq!(thimble(&scratch, &["version"]).status.code(), Some(0));
}

#[test]
fn code_1_is_a_failure_or_a_refusal() {
    let scratch = Scratch::new("cli");
    let absent = thimble(&scratch, &["upload", "absent.patch"]);
    assert_eq!(absent.status.code(), Some(1));
    assert_eq!(text(&absent.stderr), "thimble: there is no file absent.patch\n");
    let asked = daemon(&scratch, vec![vec![Reply::End]]);
    assert_eq!(thimble(&scratch, &["is-applied", "P"]).status.code(), Some(1));
    asked.join().unwrap();
}

#[test]
fn code_2_is_a_wrong_command_line() {
    let scratch = Scratch::new("cli");
    let long = "x".repeat(65);
    let many: Vec<String> = (0..limits::COMMAND_NAMES + 1).map(|at| format!("P{at}")).collect();
    let with_many =
        |command| [command].into_iter().chain(many.iter().map(String::as_str)).collect::<Vec<_>>();
    let most = format!("takes at most {} ", limits::COMMAND_NAMES);
    let wrong: Vec<(Vec<&str>, &str)> = vec![
        (vec![], "a command is missing"),
        (vec!["uplaod", "x"], "did you mean upload?"),
        (vec!["what-requires"], "what-requires wants ID"),
        (vec!["query-hosts", "x"], "query-hosts takes no arguments"),
        (vec!["query-hosts", "--losst"], "did you mean --lost?"),
        (vec!["query-hosts", "-x"], "there is no option -x"),
        (vec!["query", "--release"], "--release wants a value"),
        (vec!["query", "sideways"], "not one of available, applied, committed"),
        (vec!["commit", "P", "--yes", "--yes"], "--yes is given twice"),
        (vec!["commit", "P", "--all"], "ID or --all, not both"),
        (vec!["commit"], "commit wants ID, or --all"),
        (vec!["commit", "P"], "without a terminal, confirm with --yes"),
        (vec!["commit", "P", "--release", "1", "--dry-run"], "--release is allowed only with --all"),
        (vec!["is-applied", "a/b"], "is not a patch id: '/' is not allowed in it"),
        (vec!["is-applied", &long], "is not a patch id: it is longer than 64 bytes"),
        (vec!["host-install-async", &long], "is no host: it is longer than 64 bytes"),
        (vec!["show", ""], "is not a patch id: it is empty"),
        (with_many("apply"), &most),
        (with_many("is-available"), &most),
        (with_many("host-install-async"), &most),
    ];
    for (words, expected) in wrong {
        let output = thimble(&scratch, &words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(expected), "{words:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("see `thimble help"), "{}", text(&output.stderr));
        is_for_people(&output);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble"));
    command.arg("is-applied").arg(std::ffi::OsString::from_vec(b"P\xff".to_vec()));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    is_for_people(&output);
}

#[test]
fn code_3_is_a_daemon_that_does_not_run() {
    let scratch = Scratch::new("cli");
    for words in [
        &["query"][..],
        &["query-hosts", "--lost"],
        &["what-requires", "P"],
        &["query-dependencies", "P"],
        &["is-applied", "P"],
        &["commit", "P", "--dry-run"],
        &["host-install-async", "w"],
    ] {
        let output = thimble(&scratch, words);
        assert_eq!(output.status.code(), Some(3), "{words:?}");
        assert!(text(&output.stderr).contains("start it with `thimble run`"), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{words:?}: output without an answer");
        is_for_people(&output);
    }
}

#[test]
fn code_4_is_a_socket_that_the_user_may_not_open() {
    let scratch = Scratch::new("cli");
    let _listener = UnixListener::bind(scratch.join("sock")).unwrap();
    fs::set_permissions(scratch.join("sock"), fs::Permissions::from_mode(0o600)).unwrap();
    let Some(output) = as_nobody(&scratch, &["query"]) else { return };
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("you may not talk to the daemon"), "{}", text(&output.stderr));
    is_for_people(&output);
}

#[test]
fn code_5_is_a_bad_or_missing_signature() {
    let scratch = Scratch::new("cli");
    let (trusted, other) = (Signer::new(&scratch, "trusted"), Signer::new(&scratch, "other"));
    fs::write(scratch.join("P.patch"), Tar::patch("P").file("files/a", b"a").gzip()).unwrap();
    other.sign(&scratch.join("P.patch"));
    let foreign = thimble(&scratch, &["verify", "--trust", &trusted.public, "P.patch"]);
    assert_eq!(foreign.status.code(), Some(5), "{}", text(&foreign.stdout));
    fs::remove_file(scratch.join("P.patch.minisig")).unwrap();
    let unsigned = thimble(&scratch, &["upload", "P.patch"]);
    assert_eq!(unsigned.status.code(), Some(5));
    is_for_people(&unsigned);
}

#[test]
fn code_6_is_a_daemon_that_does_not_answer() {
    let scratch = Scratch::new("cli");
    let listener = UnixListener::bind(scratch.join("sock")).unwrap();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The request is read and not answered until the command gives up.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let output = thimble(&scratch, &["query"]);
    daemon.join().unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(text(&output.stderr).contains("did not answer in time"), "{}", text(&output.stderr));
    is_for_people(&output);
}

#[test]
fn an_unreadable_file_is_reported() {
    let scratch = Scratch::new("cli");
    for name in ["P.patch", "P.patch.minisig"] {
        fs::write(scratch.join(name), "x").unwrap();
    }
    fs::set_permissions(scratch.join("P.patch"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(scratch.join("closed")).unwrap();
    fs::set_permissions(scratch.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    for words in [["upload", "P.patch"], ["upload-dir", "closed"]] {
        let Some(output) = as_nobody(&scratch, &words) else { return };
        assert_eq!(output.status.code(), Some(1));
        assert!(
            text(&output.stderr).contains(" cannot be read: Permission denied"),
            "{}",
            text(&output.stderr)
        );
        is_for_people(&output);
    }
}

/// Runs a command that lists `count` patches, with this standard output.
fn lists_into(stdout: Stdio, words: &[&str], count: usize) -> Output {
    let scratch = Scratch::new("cli");
    let rows = (0..count).map(|at| patch(&format!("P{at}"), EntryState::Applied, PatchState::Applied));
    let rows: Vec<Reply> = rows.chain([Reply::End]).collect();
    let listener = UnixListener::bind(scratch.join("sock")).unwrap();
    let daemon = thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().unwrap();
        crate::receive(&mut stream);
        crate::send(&mut stream, &Reply::End);
        crate::receive(&mut stream);
        let mut body = vec![0; 16 * 1024];
        for row in &rows {
            let body = postcard::to_slice(row, &mut body).unwrap();
            // The command may have ended by now: that is what is tested.
            let _ = stream.write_all(&(body.len() as u32).to_le_bytes());
            let _ = stream.write_all(body);
        }
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_thimble"));
    command.current_dir(&*scratch).args(["--socket", "sock"]).args(words);
    let child = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    daemon.join().unwrap();
    output
}

#[test]
fn a_closed_pipe_ends_a_list_quietly() {
    for words in [&["query"][..], &["--json", "query"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = lists_into(writer.into(), words, 1_000);
        assert_eq!(text(&output.stderr), "", "{words:?}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    for words in [&["query"][..], &["--json", "query"]] {
        let full: File = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = lists_into(full.into(), words, 100);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with("thimble: standard output cannot be written: No space left"), "{said}");
    }
}
