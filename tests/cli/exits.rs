//! The exit codes one by one, each for what brings it about; and mistakes, each
//! with words that a person can use.

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

/// A command of nobody's, who may read this directory; none where the test is not
/// root's, which is said.
fn as_nobody(dir: &Path, words: &[&str]) -> Option<Output> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    // The binary may lie where nobody may look. Copied by another process: a file that
    // this one writes is busy in each that is started beside it meanwhile.
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

/// No command shows what only a programmer reads.
fn is_for_people(output: &Output) {
    let said = text(&output.stderr);
    assert!(said.starts_with("thimble: ") && said.ends_with('\n'), "{said}");
    for word in ["Err(", "Some(", "Error {", "Custom {", "Os {", "panicked", "unwrap"] {
        assert!(!said.contains(word), "{said}");
    }
}

#[test]
fn code_0_is_done() {
    let scratch = Scratch::new("cli");
    assert_eq!(thimble(&scratch, &["version"]).status.code(), Some(0));
}

#[test]
fn code_1_is_what_failed_or_was_refused() {
    let scratch = Scratch::new("cli");
    let absent = thimble(&scratch, &["upload", "absent.patch"]);
    assert_eq!(absent.status.code(), Some(1));
    assert_eq!(text(&absent.stderr), "thimble: there is no file absent.patch\n");
    let asked = daemon(&scratch, vec![vec![Reply::End]]);
    assert_eq!(thimble(&scratch, &["is-applied", "P"]).status.code(), Some(1));
    asked.join().unwrap();
}

#[test]
fn code_2_is_each_kind_of_wrong_line() {
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
fn code_3_is_a_daemon_that_is_not_there() {
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
        assert!(output.stdout.is_empty(), "{words:?}: no half table, and no True or False");
        is_for_people(&output);
    }
}

#[test]
fn code_4_is_a_socket_that_one_may_not_open() {
    let scratch = Scratch::new("cli");
    let _listener = UnixListener::bind(scratch.join("sock")).unwrap();
    fs::set_permissions(scratch.join("sock"), fs::Permissions::from_mode(0o600)).unwrap();
    let Some(output) = as_nobody(&scratch, &["query"]) else { return };
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("you may not talk to the daemon"), "{}", text(&output.stderr));
    is_for_people(&output);
}

#[test]
fn code_5_is_a_signature_that_is_not_good() {
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
fn code_6_is_a_daemon_that_says_nothing() {
    let scratch = Scratch::new("cli");
    let listener = UnixListener::bind(scratch.join("sock")).unwrap();
    let daemon = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // What is asked is read, and never answered, until the command gives up.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let output = thimble(&scratch, &["query"]);
    daemon.join().unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(text(&output.stderr).contains("did not answer in time"), "{}", text(&output.stderr));
    is_for_people(&output);
}

#[test]
fn a_file_that_one_may_not_read_is_told() {
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

/// What a command says of a listing of these many patches, its output going there.
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
            // The command may be gone by now: that is what is tried.
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
fn a_reader_that_has_read_enough_ends_a_list_quietly() {
    for words in [&["query"][..], &["--json", "query"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = lists_into(writer.into(), words, 1_000);
        assert_eq!(text(&output.stderr), "", "{words:?}");
    }
}

#[test]
fn a_full_disk_is_told_and_is_no_success() {
    for words in [&["query"][..], &["--json", "query"]] {
        let full: File = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = lists_into(full.into(), words, 100);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let said = text(&output.stderr);
        assert!(said.starts_with("thimble: standard output cannot be written: No space left"), "{said}");
    }
}
