//! upload and upload-dir report on each file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use thimble::control::{ErrorKind, Reply, Request};
use thimble::limits;
use thimble::types::{Reason, Text};

use crate::daemon::daemon;
use crate::support::Scratch;
use crate::support::archive::{Tar, metadata};
use crate::support::sign::Signer;
use crate::{refused, text, thimble};

fn line(words: &str) -> Reply {
    Reply::Line(Reason::truncated(words))
}

/// A file with a signature file. The daemon of these tests reads neither.
fn signed(dir: &Path, name: &str) {
    fs::write(dir.join(name), "x").unwrap();
    fs::write(dir.join(format!("{name}.minisig")), "x").unwrap();
}

fn names(request: &Request) -> Vec<&str> {
    let Request::Upload { names } = request else { panic!("{request:?}") };
    names.iter().map(Text::raw).collect()
}

#[test]
fn upload_dir_sends_only_the_patches_of_each_directory_by_name() {
    let scratch = Scratch::new("cli");
    for dir in ["b", "a"] {
        fs::create_dir(scratch.join(dir)).unwrap();
        for name in ["P2.patch", "P1.patch", "notes.txt", ".hidden.patch"] {
            signed(&scratch.join(dir), name);
        }
    }
    let answer = ["one", "two", "three", "four", "Durable here."].map(line).into_iter().chain([Reply::End]);
    let asked = daemon(&scratch, vec![answer.collect()]);
    let output = thimble(&scratch, &["upload-dir", "b", "a"]);
    let requests = asked.join().unwrap();
    assert_eq!(names(&requests[0]), ["b/P1.patch", "b/P2.patch", "a/P1.patch", "a/P2.patch"]);
    assert_eq!(text(&output.stdout), "one\ntwo\nthree\nfour\nDurable here.\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn more_files_than_fit_in_a_request_are_sent_in_several() {
    let scratch = Scratch::new("cli");
    let all: Vec<String> = (0..2 * limits::UPLOAD_FILES + 1).map(|at| format!("P{at:02}.patch")).collect();
    all.iter().for_each(|name| signed(&scratch, name));
    let answer = |files: usize| {
        let lines = (0..files).map(|_| line("taken"));
        lines.chain([line("Durable here."), Reply::End]).collect()
    };
    let asked = daemon(&scratch, vec![answer(limits::UPLOAD_FILES), answer(limits::UPLOAD_FILES), answer(1)]);
    let output = thimble(&scratch, &["--json", "upload-dir", "."]);
    let requests = asked.join().unwrap();
    let sent: Vec<&str> = requests.iter().flat_map(names).map(|name| &name[2..]).collect();
    assert_eq!(sent, all);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["files"].as_array().unwrap().len(), all.len());
    assert_eq!(document["lines"].as_array().unwrap().len(), all.len() + 3);
}

/// A signed floor of this serial.
fn floor(scratch: &Scratch, signer: &Signer, name: &str, serial: u32) {
    let text = metadata(name) + &format!("[floor]\nserial = {serial}\nexpires = \"9999-12-31\"\n");
    let path = scratch.join(format!("{name}.patch"));
    fs::write(&path, Tar::default().file("metadata.toml", text.as_bytes()).gzip()).unwrap();
    signer.sign(&path);
}

#[test]
fn floors_are_sent_last_and_the_lowest_serial_first() {
    let scratch = Scratch::new("cli-floors");
    let [trusted, other] = ["trusted", "other"].map(|name| Signer::new(&scratch, name));
    fs::write(
        scratch.join("conf"),
        format!(
            "[node]\nroles = [\"controller\"]\nhostname = \"c\"\nsw_version = \"1.0\"\n[network]\ninterface = \"lo\"\n\
             [security]\nauth = \"none\"\ntrusted_keys = [\"{}\"]\n",
            trusted.public
        ),
    )
    .unwrap();
    for (name, serial) in [("A", 10), ("B", 2), ("C", 9)] {
        floor(&scratch, &trusted, name, serial);
    }
    // What nobody trusted has signed is not read, and what is no floor stays where it is.
    floor(&scratch, &other, "D", 1);
    signed(&scratch, "E.patch");
    let answer: Vec<_> = (0..5).map(|_| line("taken")).chain([line("Durable here."), Reply::End]).collect();
    for words in
        [&["upload-dir", "."][..], &["upload", "A.patch", "B.patch", "C.patch", "D.patch", "E.patch"]]
    {
        let _ = fs::remove_file(scratch.join("sock"));
        let asked = daemon(&scratch, vec![answer.clone()]);
        let output = thimble(&scratch, &[&["--config", "conf"], words].concat());
        let requests = asked.join().unwrap();
        let sent: Vec<_> = names(&requests[0]).iter().map(|name| name.trim_start_matches("./")).collect();
        assert_eq!(sent, ["D.patch", "E.patch", "B.patch", "C.patch", "A.patch"], "{output:?}");
    }
}

#[test]
fn make_warns_of_a_floor_that_leaves_no_way_on() {
    let scratch = Scratch::new("cli-doubts");
    fs::create_dir(scratch.join("floor")).unwrap();
    for (serial, expires, expected) in [
        (4_294_967_295_u32, "2020-02-29", 2),
        (4_294_967_295, "9999-12-31", 1),
        (4_294_967_294, "9999-12-31", 0),
    ] {
        let toml = metadata("F") + &format!("[floor]\nserial = {serial}\nexpires = \"{expires}\"\n");
        fs::write(scratch.join("floor/metadata.toml"), toml).unwrap();
        let output = thimble(&scratch, &["make", "floor", "-o", "F.patch"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).starts_with("F.patch is made"), "{output:?}");
        let warned = text(&output.stderr);
        assert_eq!(warned.matches("F.patch: warning: ").count(), expected, "{warned}");
        assert_eq!(warned.contains("no later floor can take its place"), serial == u32::MAX, "{warned}");
        assert_eq!(warned.contains("its last day, 2020-02-29, has passed"), expected == 2, "{warned}");
    }
}

#[test]
fn a_bad_file_does_not_stop_the_others_and_the_worst_sets_the_exit_code() {
    for command in [&["upload", "A.patch", "B.patch", "C.patch", "D.patch"][..], &["upload-dir", "."]] {
        let scratch = Scratch::new("cli");
        ["A.patch", "B.patch", "D.patch"].iter().for_each(|name| signed(&scratch, name));
        // Not signed, so not sent.
        fs::write(scratch.join("C.patch"), "x").unwrap();
        let mut first = vec![line("A is now available")];
        first.extend(refused(ErrorKind::Refused, "B is in the repository with other content"));
        let rest = vec![line("D is now available"), line("Durable here."), Reply::End];
        let asked = daemon(&scratch, vec![first, rest]);
        let output = thimble(&scratch, command);
        let requests = asked.join().unwrap();
        assert_eq!(names(&requests[0]).len(), 3);
        let [last] = names(&requests[1])[..] else { panic!("{requests:?}") };
        assert!(last.ends_with("D.patch"), "{last}");
        assert_eq!(output.status.code(), Some(5), "one is not signed");
        let said = text(&output.stdout);
        assert!(said.contains("C.patch: FAILED: "), "{said}");
        assert!(said.contains("B.patch: FAILED: B is in the repository with other content\n"), "{said}");
        assert!(said.contains("A is now available\n") && said.contains("D is now available\n"), "{said}");
        let why = text(&output.stderr);
        assert!(why.starts_with("thimble: 2 of 4 were not taken; the others are in the repository"), "{why}");
    }
}

#[test]
fn a_refusal_that_does_not_depend_on_the_file_ends_the_upload() {
    let scratch = Scratch::new("cli");
    ["A.patch", "B.patch", "C.patch", "D.patch"].iter().for_each(|name| signed(&scratch, name));
    let no = || refused(ErrorKind::Refused, "This node is no controller: give the command on one that is.");
    let asked = daemon(&scratch, vec![no(), no()]);
    let output = thimble(&scratch, &["upload-dir", "."]);
    assert_eq!(asked.join().unwrap().len(), 2);
    assert_eq!(output.status.code(), Some(1));
    let why = text(&output.stderr);
    assert!(why.contains("This node is no controller") && why.contains("were not tried"), "{why}");
}

#[test]
fn a_directory_that_cannot_be_uploaded_is_reported_and_the_others_are_uploaded() {
    let scratch = Scratch::new("cli");
    for dir in ["empty", "full"] {
        fs::create_dir(scratch.join(dir)).unwrap();
    }
    fs::write(scratch.join("empty/README"), "x").unwrap();
    signed(&scratch.join("full"), "P.patch");
    let asked = daemon(&scratch, vec![vec![line("P is now available"), Reply::End]]);
    let output = thimble(&scratch, &["upload-dir", "empty", "absent", "full/P.patch", "full"]);
    asked.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    for words in [
        "empty: FAILED: empty holds no patch: no file in it is called *.patch\n",
        "absent: FAILED: there is no directory absent\n",
        "full/P.patch: FAILED: full/P.patch is a file: upload takes files",
        "P is now available\n",
    ] {
        assert!(said.contains(words), "{words} is not in: {said}");
    }
    let alone = thimble(&scratch, &["upload-dir", "empty"]);
    assert_eq!(alone.status.code(), Some(1));
    assert_eq!(text(&alone.stderr), "thimble: empty holds no patch: no file in it is called *.patch\n");
}

#[test]
fn a_path_that_is_not_a_file_is_reported_without_waiting() {
    let scratch = Scratch::new("cli");
    fs::create_dir(scratch.join("dir.patch")).unwrap();
    assert!(Command::new("mkfifo").arg(scratch.join("pipe.patch")).status().unwrap().success());
    symlink("nowhere", scratch.join("dangling.patch")).unwrap();
    for (name, words) in [
        ("dir.patch", "dir.patch is a directory, not a file"),
        ("pipe.patch", "pipe.patch is not a file"),
        ("dangling.patch", "there is no file dangling.patch"),
    ] {
        let output = thimble(&scratch, &["upload", name]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert_eq!(text(&output.stderr), format!("thimble: {words}\n"));
    }
}
