//! A patch that replaces thimble's own file. The old thimble, which runs from the tree,
//! installs it; this test program does what the new one's daemon would do; the guard is
//! the copy of the old one.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use thimble::repo::entry::EntryState;

use crate::child::Act;
use crate::killed::copy;
use crate::local::Both;
use crate::model::{self, Tree};
use crate::pieces::{Patch, file, patch, program};
use crate::rig::Run;
use crate::support::thimble;

/// A program that passes for a new thimble when it is tried out.
const NEW: &str = "#!/bin/sh\n[ \"$1\" = --version ] && echo thimble 2.0 || exit 9\n";

/// A patch that replaces thimble and another file.
fn replacing(content: &str) -> Patch {
    let log = "echo $THIMBLE_PHASE $THIMBLE_ACTION >>../log";
    let patch = patch("SELF-2", [program("usr/bin/thimble", content, 0o755), file("etc/beside", "new")]);
    ["post-install", "health", "post-remove"].into_iter().fold(patch, |patch, name| patch.script(name, log))
}

/// A node whose thimble is in its own tree.
struct Own {
    both: Both,
    old: Tree,
}

impl Own {
    fn new(name: &str) -> Self {
        Self::of(name, &thimble())
    }

    /// A node with this thimble in its tree.
    fn of(name: &str, thimble: &str) -> Self {
        let both = Both::new(name);
        let own = both.rig.root.join("usr/bin/thimble");
        crate::rig::run(Command::new("strip").arg("-o").arg(&own).arg(thimble));
        let old = both.rig.tree();
        Self { both, old }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.both.rig.root.join(name)
    }

    /// Runs the thimble at this path of the tree with these arguments.
    fn thimble(&self, place: &str, words: &[&str], kill_at: Option<u64>) -> Output {
        let mut command = self.both.command(&self.path(place), words);
        command.env("THIMBLE_KILL_AT", kill_at.unwrap_or(u64::MAX).to_string());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// The old thimble installs. Its output must contain these parts.
    #[track_caller]
    fn installs(&self, code: i32, parts: &[&str]) {
        let output = self.thimble("usr/bin/thimble", &["install-local"], None);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }

    /// A node whose thimble has just been replaced.
    fn replaced(name: &str) -> Self {
        let own = Self::new(name);
        own.both.applied(&replacing(NEW));
        own.installs(0, &["once the daemon has started and heard a controller", "until then: 0 patches"]);
        assert_eq!(own.both.rig.text("usr/bin/thimble"), NEW);
        own
    }

    fn guard(&self, kill_at: Option<u64>) -> Output {
        self.thimble(".thimble/guard", &["guard"], kill_at)
    }

    fn does(&self, act: Act) -> Run {
        self.both.rig.does(act, None)
    }

    fn ran(&self) -> String {
        std::fs::read_to_string(self.both.dir.join("log")).unwrap_or_default()
    }

    /// Asserts that the previous set is in place and nothing is left of the install.
    #[track_caller]
    fn is_back(&self, run: &Run, words: &[&str]) {
        assert_eq!(run.says("outcome"), "RolledBack", "{run:?}");
        for word in words {
            assert!(run.says("reason").contains(word), "{word:?}: {run:?}");
        }
        model::assert_same(&self.both.rig.tree(), &self.old, "back");
        self.leaves_nothing("back");
    }

    #[track_caller]
    fn leaves_nothing(&self, when: &str) {
        assert_eq!(self.both.rig.left_over(), [""; 0], "{when}: left in .thimble");
    }
}

#[test]
fn a_new_thimble_is_committed_once_it_is_healthy_and_has_heard_a_controller() {
    need_root!();
    let own = Own::replaced("own-good");
    assert_eq!(own.ran(), "post-install install\n", "health is for the new one to ask");
    let run = own.does(Act::Recover);
    assert!(run.reports.contains("awaited ") && run.installed().is_empty(), "{run:?}");
    assert_eq!((run.last(), run.says("outcome")), ("done", ""), "nothing is claimed yet");
    assert_eq!(own.does(Act::Recover).last(), "done");
    assert_eq!(own.ran(), "post-install install\nhealth install\n", "asked once");
    let run = own.does(Act::Prove);
    assert_eq!((run.last(), run.says("outcome"), run.installed()), ("done", "Installed", vec!["SELF-2"]));
    own.leaves_nothing("committed");
    // Removing the patch again works the same way.
    own.both.change(EntryState::Available, "SELF-2");
    let output = own.both.command(thimble().as_ref(), &["install-local"]).output();
    assert!(output.unwrap().status.success());
    model::assert_same(&own.both.rig.tree(), &own.old, "removed");
}

/// The daemon is the old one if the worker that replaced it died before it reported; it
/// is the new one if its own recovery rolled the install back.
#[test]
fn a_process_whose_file_is_not_in_place_is_superseded() {
    need_root!();
    let own = Own::replaced("own-superseded");
    // This program runs from thimble's path, which has another file by now.
    let (path, aside) = (own.path("usr/bin/thimble"), own.path("usr/bin/aside"));
    std::fs::rename(&path, &aside).unwrap();
    crate::rig::run(Command::new("strip").arg("-o").arg(&path).arg(std::env::current_exe().unwrap()));
    let file = std::fs::File::open(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    let program = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    for act in [Act::Recover, Act::Prove, Act::GiveUp] {
        let run = own.both.rig.does_as(&program, act);
        assert!(run.reports.ends_with("superseded\ndone\n"), "{act:?}: {run:?}");
    }
    assert_eq!(own.ran(), "post-install install\n", "it asks nothing of the set");
    own.guard(None);
    own.guard(None);
    let run = own.both.rig.does_as(&program, Act::Recover);
    assert!(run.reports.ends_with("superseded\ndone\n"), "{run:?}");
    own.is_back(&own.does(Act::Recover), &["started twice"]);
}

#[test]
fn another_install_is_refused_until_the_new_thimble_has_proven_itself() {
    need_root!();
    let own = Own::replaced("own-waits");
    let (code, said) = own.both.thimble(&["install-local"]);
    assert!(
        code == 1 && said.contains("replaced thimble itself") && said.contains("start the daemon"),
        "{said}"
    );
    assert_eq!(own.ran(), "post-install install\n", "no health script runs before its time");
}

#[test]
fn a_new_thimble_whose_set_is_not_healthy_is_undone() {
    need_root!();
    let own = Own::new("own-sick");
    own.both.applied(&replacing(NEW).script_instead("health", "echo no pulse; exit 3"));
    own.installs(0, &["heard a controller"]);
    own.is_back(&own.does(Act::Recover), &["health of SELF-2", "no pulse"]);
    assert!(own.ran().ends_with("post-remove rollback\n"), "{}", own.ran());
}

#[test]
fn a_new_thimble_that_hears_no_controller_for_long_is_undone() {
    need_root!();
    let own = Own::replaced("own-deaf");
    own.does(Act::Recover);
    own.is_back(&own.does(Act::GiveUp), &["heard no controller"]);
}

#[test]
fn the_guard_undoes_a_new_thimble_that_was_started_twice_and_heard_no_controller() {
    need_root!();
    let own = Own::replaced("own-dead");
    let first = own.guard(None);
    assert!(String::from_utf8_lossy(&first.stdout).contains("started once more"), "{first:?}");
    assert_eq!(own.both.rig.text("usr/bin/thimble"), NEW);
    // A guard that a boot or an operator runs does not count a start.
    for _ in 0..3 {
        let boot = own.thimble(".thimble/guard", &["guard", "--boot"], None);
        assert!(String::from_utf8_lossy(&boot.stdout).contains("hear a controller"), "{boot:?}");
        own.both.says(&["guard"], 0, &["hear a controller"]);
    }
    let ran = own.ran();
    let second = own.guard(None);
    assert!(second.status.success(), "{second:?}");
    let said = String::from_utf8_lossy(&second.stdout);
    assert!(said.contains("started twice and heard no controller") && said.contains("are back"), "{said}");
    model::assert_same(&own.both.rig.tree(), &own.old, "restored");
    assert_eq!(own.ran(), ran, "a guard runs no script");
    own.is_back(&own.does(Act::Recover), &["started twice and heard no controller"]);
    assert!(own.ran().ends_with("post-remove rollback\n"), "{}", own.ran());
}

#[test]
fn a_file_that_does_not_run_or_is_not_thimble_is_never_switched_in() {
    need_root!();
    let cases = [
        ("not-elf", "\x7fELF nonsense".to_owned(), "--version"),
        ("fails", "#!/bin/sh\necho no such library; exit 127\n".to_owned(), "no such library"),
        ("other", "#!/bin/sh\necho busybox 1.36\n".to_owned(), "busybox 1.36"),
    ];
    for (name, content, part) in cases {
        let own = Own::new(name);
        own.both.applied(&replacing(&content));
        own.installs(1, &[part, "previous set was restored"]);
        own.is_back(&own.does(Act::Recover), &[part]);
        assert_eq!(own.ran(), "", "no script has run");
    }
}

#[test]
fn thimble_cannot_be_patched_away() {
    need_root!();
    let own = Own::new("own-away");
    let only = own.path("usr/bin/only-thimble");
    let program_bytes = std::fs::read(own.path("usr/bin/thimble")).unwrap();
    own.both.applied(&patch("BRINGS-1", [program("usr/bin/only-thimble", program_bytes, 0o755)]));
    own.installs(0, &["installed: 1 patches"]);
    own.both.change(EntryState::Available, "BRINGS-1");
    let output = own.both.command(&only, &["install-local"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("remove thimble itself"), "{said}");
    assert!(only.exists());
}

/// Nor does its directory make way for a file, or it for a directory.
#[test]
fn thimble_does_not_make_way() {
    need_root!();
    let cases = [
        ("own-above", "opt/t/thimble", patch("P2", [program("opt/t", "a file", 0o755)])),
        ("own-below", "opt/t", patch("P2", [program("opt/t/thimble", NEW, 0o755)])),
    ];
    for (name, path, second) in cases {
        let own = Own::new(name);
        let bytes = std::fs::read(own.path("usr/bin/thimble")).unwrap();
        own.both.applied(&patch("P1", [program(path, bytes, 0o755)]));
        own.installs(0, &["installed: 1 patches"]);
        own.both.change(EntryState::Available, "P1");
        own.both.applied(&second);
        let output = own.both.command(&own.path(path), &["install-local"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let words = format!("remove thimble itself, /{path}");
        assert!(output.status.code() == Some(1) && said.contains(&words), "{said}");
        own.installs(0, &["installed: 1 patches"]);
    }
}

/// Does what a supervisor and a daemon do until a controller is heard. Each process is
/// killed at these steps first.
fn starts_until_heard(own: &Own, mut kills: impl Iterator<Item = u64>, when: &str) {
    let mut is_heard = false;
    while !is_heard {
        if own.path(".thimble/guard").exists() && !own.guard(kills.next()).status.success() {
            continue;
        }
        let recovered = own.both.rig.does(Act::Recover, kills.next());
        if !recovered.status.success() {
            continue;
        }
        assert_eq!(recovered.last(), "done", "{when}: {recovered:?}");
        let proven = own.both.rig.does(Act::Prove, kills.next());
        is_heard = proven.status.success();
        assert!(!is_heard || proven.last() == "done", "{when}: {proven:?}");
    }
}

/// Asserts that the host has one whole set, the one that it reports. Returns whether it is
/// the new one.
#[track_caller]
fn is_whole(own: &Own, new: &Tree, when: &str) -> bool {
    let is_new = !own.does(Act::Recover).installed().is_empty();
    model::assert_same(&own.both.rig.tree(), if is_new { new } else { &own.old }, when);
    own.leaves_nothing(when);
    is_new
}

/// Killed between any two steps of either thimble, the host ends on one whole set. While
/// the old thimble is not in place, its copy is there.
#[test]
fn killed_anywhere_the_host_ends_on_one_whole_set() {
    need_root!();
    // Only a test build can be killed at a step.
    let own = Own::of("own-killed", env!("CARGO_BIN_EXE_thimble"));
    own.both.applied(&replacing(NEW));
    let rig = &own.both.rig;
    let [pristine, replaced] = ["pristine", "replaced"].map(|name| rig.root.with_file_name(name));
    copy(&rig.root, &pristine);
    own.installs(0, &[]);
    copy(&rig.root, &replaced);
    own.does(Act::Recover);
    assert_eq!(own.does(Act::Prove).says("outcome"), "Installed");
    let new = rig.tree();
    for step in 1.. {
        let when = format!("installing, killed at step {step}");
        copy(&pristine, &rig.root);
        if own.thimble("usr/bin/thimble", &["install-local"], Some(step)).status.success() {
            assert!(step > 30, "{when}: the steps are not where they should be");
            break;
        }
        if own.path(".thimble/journal").exists() && rig.tree() != own.old && rig.tree() != new {
            assert!(own.path(".thimble/guard").exists(), "{when}: nobody guards");
        }
        let kills = [17, 11, 60, 3, 31].map(|most| 1 + (step * 13) % most);
        starts_until_heard(&own, kills.into_iter().skip(usize::try_from(step % 4).unwrap()), &when);
        is_whole(&own, &new, &when);
    }
    let mut ends = BTreeSet::new();
    for act in [Act::Guard, Act::Recover, Act::Prove, Act::GiveUp] {
        for step in 1.. {
            let when = format!("replaced, and {act:?} killed at step {step}");
            copy(&replaced, &rig.root);
            let was_killed = match act {
                Act::Guard => {
                    own.guard(None);
                    !own.guard(Some(step)).status.success()
                }
                act => !rig.does(act, Some(step)).status.success(),
            };
            starts_until_heard(&own, std::iter::empty(), &when);
            ends.insert((format!("{act:?}"), is_whole(&own, &new, &when)));
            if !was_killed {
                break;
            }
        }
    }
    let has = |act: &str, is_new| ends.contains(&(act.to_owned(), is_new));
    assert!(has("Guard", false) && has("Recover", true) && has("Prove", true), "{ends:?}");
    assert!(has("GiveUp", false), "{ends:?}");
}
