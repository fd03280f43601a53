//! An installer that is killed between any two steps: after the next start, the host has
//! one whole set, and reports which.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::child::Act;
use crate::model;
use crate::pieces::{Patch, directory, file, link, patch, program, same};
use crate::rig::{Rig, Run};
use crate::sequences::{self, Seeded};

/// Two patches with the same paths and all kinds of members and scripts.
pub fn patches() -> [Patch; 2] {
    let script = "echo $THIMBLE_PATCH $THIMBLE_PHASE $THIMBLE_ACTION >>../log";
    let first = patch(
        "P1",
        [
            directory("opt", 0o750),
            program("usr/bin/tool", "tool of P1", 0o4711),
            file("lib/libx.so.1", "libx of P1").owner(3),
            link("usr/lib/libx.so", "libx.so.2"),
            file("opt/app/data", "data of P1").mtime(1_650_000_000),
            same("opt/app/copy", "opt/app/data"),
            file("etc/app.d/20-p1", "snippet of P1"),
        ],
    );
    let second = patch(
        "P2",
        [
            program("bin/tool", "tool of P2", 0o755),
            file("usr/lib/libx.so", "no link any more"),
            file("opt/app/data", "data of P2"),
            file("opt/other/data", "more of P2"),
        ],
    );
    let scripted = |patch: Patch| {
        let names = ["pre-install", "post-install", "pre-remove", "post-remove", "restart", "health"];
        names.into_iter().fold(patch, |patch, name| patch.script(name, script))
    };
    let first = first.removes("usr/bin/other");
    let second = second.requires("P1").removes("etc/app.d/10-base").removes("etc/app.d/20-p1");
    [scripted(first), scripted(second)]
}

/// Kills an install of `to` on a host with `from` at each of its steps in turn, and every
/// second recovery at one of its own steps. `hand` changes the host first. Afterwards the
/// tree is the old one or the new one.
pub fn kill_everywhere(rig: &Rig, from: &[&str], to: &[&str], hand: impl Fn(&Rig)) {
    rig.installed(from);
    hand(rig);
    let pristine = rig.root.with_file_name("pristine");
    copy(&rig.root, &pristine);
    let old = rig.tree();
    rig.install(to);
    let (new, new_run) = (rig.tree(), rig.recover());
    let expected = if new_run.says("outcome") == "Installed" { "Installed" } else { "RolledBack" };
    copy(&pristine, &rig.root);
    let old_digest = rig.recover().says("digest").to_owned();
    let new_digest = new_run.says("digest").to_owned();

    let mut ends = BTreeSet::new();
    for step in 1.. {
        copy(&pristine, &rig.root);
        let orders = rig.orders_for(to);
        let run = rig.run(&orders, Some(step));
        let when = format!("{from:?} to {to:?}, killed at step {step}");
        if run.status.success() {
            assert!(step > 20, "{when}: the steps are not where they should be");
            assert_eq!(run.says("outcome"), expected, "{when}: {}", run.reports);
            break;
        }
        let again = 1 + step * 7 % 19;
        let run = rig.recover_killed_at([again, again + 5]);
        assert!(run.status.success() && run.last() == "done", "{when}: {run:?}");
        let tree = rig.tree();
        let is_ours = run.says("request") == orders.request_id.unwrap().to_string();
        let outcome = if is_ours { run.says("outcome") } else { "untouched" };
        match outcome {
            "Installed" => {
                model::assert_same(&tree, &new, &when);
                assert_eq!(run.says("digest"), new_digest, "{when}");
                assert_eq!(run.says("reason"), new_run.says("reason"), "{when}");
            }
            "Rejected" | "RolledBack" | "untouched" => {
                model::assert_same(&tree, &old, &when);
                assert_eq!(run.says("digest"), old_digest, "{when}");
            }
            _ => panic!("{when}: {run:?}"),
        }
        ends.insert(outcome.to_owned());
        assert_eq!(rig.left_over(), [""; 0], "{when}: left in .thimble");
        // A request that has ended is not executed again; another one succeeds.
        if is_ours && outcome == "Installed" {
            assert_eq!(rig.run(&orders, Some(1_000_000)).says("outcome"), "Installed", "{when}");
        }
        if step % 8 == 0 {
            let run = rig.install(to);
            assert_eq!(run.says("outcome"), expected, "{when}: {}", run.reports);
            model::assert_same(&rig.tree(), &new, &format!("{when}, and installed again"));
        }
    }
    assert!(ends.contains("RolledBack"), "{ends:?}");
    assert!(ends.contains("Installed") == (expected == "Installed"), "{ends:?}");
}

/// Copies a whole root, replacing what is there.
pub fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    crate::rig::run(Command::new("cp").arg("-a").arg(from).arg(to));
}

fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    for patch in patches() {
        rig.add(patch);
    }
    rig
}

#[test]
fn while_a_patch_is_added() {
    need_root!();
    kill_everywhere(&rig("comes"), &[], &["P1"], |_| {});
}

#[test]
fn while_a_patch_covers_another() {
    need_root!();
    kill_everywhere(&rig("covers"), &["P1"], &["P1", "P2"], |_| {});
}

#[test]
fn while_the_upper_patch_is_removed() {
    need_root!();
    kill_everywhere(&rig("upper"), &["P1", "P2"], &["P1"], |_| {});
}

/// As P2, and does not require P1: it takes its place.
fn in_its_place(name: &str) -> Rig {
    let mut rig = rig(name);
    let mut other = patches()[1].clone().named("P4");
    other.requires.clear();
    rig.add(other);
    rig
}

/// On a host that has had them since before it checked `requires`.
#[test]
fn while_the_lower_patch_is_removed() {
    need_root!();
    let mut rig = rig("lower");
    rig.takes_any_set = true;
    kill_everywhere(&rig, &["P1", "P2"], &["P2"], |_| {});
}

#[test]
fn while_one_patch_replaces_another() {
    need_root!();
    kill_everywhere(&in_its_place("place"), &["P1"], &["P4"], |_| {});
}

#[test]
fn while_local_changes_are_saved() {
    need_root!();
    kill_everywhere(&in_its_place("saved"), &["P1"], &["P4"], |rig| {
        rig.edit("usr/bin/tool", "changed by hand");
        std::fs::remove_file(rig.root.join("opt/app/data")).unwrap();
    });
}

#[test]
fn while_an_unhealthy_set_is_rolled_back() {
    need_root!();
    let mut rig = rig("unhealthy");
    rig.add(patches()[1].clone().says("summary = \"Unhealthy\"").script("pre-apply", "true"));
    let mut sick = patch("P3", [file("opt/app/data", "of P3"), file("opt/third/data", "more of P3")]);
    sick = sick
        .requires("P1")
        .script("health", "exit 3")
        .script("post-remove", "true")
        .script("pre-install", "true");
    rig.add(sick);
    kill_everywhere(&rig, &["P1", "P2"], &["P1", "P3"], |_| {});
}

/// A guard restores the files without running a script, even if it is killed at any step.
/// The daemon's recovery after it only runs the scripts.
#[test]
fn while_a_guard_restores_a_killed_install() {
    need_root!();
    let rig = in_its_place("guarded");
    rig.installed(&["P1"]);
    let old = rig.tree();
    let pristine = rig.root.with_file_name("pristine");
    copy(&rig.root, &pristine);
    let log = rig.root.with_file_name("log");
    let ran = || std::fs::read_to_string(&log).unwrap_or_default();
    rig.installed(&["P4"]);
    let new = rig.tree();
    let mut ends = BTreeSet::new();
    for step in 1.. {
        copy(&pristine, &rig.root);
        if rig.run(&rig.orders_for(&["P4"]), Some(step)).status.success() {
            break;
        }
        let when = format!("killed at step {step}");
        let before = ran();
        let mut guard = rig.does(Act::Guard, Some(1 + step * 5 % 17));
        while !guard.status.success() {
            guard = rig.does(Act::Guard, Some(20 + step));
        }
        assert_eq!(guard.last(), "done", "{when}: {guard:?}");
        assert_eq!(ran(), before, "{when}: a guard runs no script");
        let mended = rig.tree();
        let is_new = mended == new;
        model::assert_same(&mended, if is_new { &new } else { &old }, &when);
        let run = rig.recover();
        assert_eq!(run.last(), "done", "{when}: {run:?}");
        model::assert_same(&rig.tree(), &mended, &when);
        assert_eq!(run.installed(), [if is_new { "P4" } else { "P1" }], "{when}");
        ends.insert((run.says("outcome").to_owned(), ran() != before));
    }
    assert!(ends.contains(&("RolledBack".to_owned(), true)), "{ends:?}");
    assert!(ends.contains(&("Installed".to_owned(), false)), "{ends:?}");
}

/// Installs, killed at a random step, and recovers, killed so until that gets to its end:
/// each time at one of the first so many steps. Returns the last run, and whether the set is
/// installed.
pub fn install_killed_at_random(
    rig: &Rig,
    set: &[&str],
    seeded: &mut Seeded,
    [of_install, of_recovery]: [u64; 2],
    when: &str,
) -> (Run, bool) {
    let orders = rig.orders_for(set);
    let mut run = rig.run(&orders, Some(1 + seeded.next() % of_install));
    if !run.status.success() {
        // Each of a hundred would have to be killed.
        let steps = std::iter::repeat_with(|| 1 + seeded.next() % of_recovery);
        run = rig.recover_killed_at(steps.take(100));
    }
    assert_eq!(run.last(), "done", "{when}: {run:?}");
    let is_ours = run.says("request") == orders.request_id.unwrap().to_string();
    let is_installed = is_ours && run.says("outcome") == "Installed";
    (run, is_installed)
}

#[test]
fn at_random_steps_of_random_installs() {
    need_root!();
    let rig = sequences::rig("killed-at-random");
    let mut seeded = Seeded::new();
    let mut old = BTreeSet::new();
    for turn in 0..50 {
        let set = seeded.set();
        let when = format!("seed {:#x}, turn {turn}: {old:?} to {set:?}", Seeded::SEED);
        let ids: Vec<_> = set.iter().copied().collect();
        let (run, is_installed) = install_killed_at_random(&rig, &ids, &mut seeded, [90, 60], &when);
        if is_installed {
            old = set;
        }
        assert_eq!(run.installed(), old.iter().copied().collect::<Vec<_>>(), "{when}");
        model::assert_same(&rig.tree(), &rig.expected(&sequences::layers(&old)), &when);
    }
}

/// A request that has ended is answered from the stored outcome.
#[test]
fn a_request_that_has_ended_is_not_executed_again() {
    need_root!();
    let rig = rig("answered");
    let orders = rig.orders_for(&["P1"]);
    let first: Run = rig.run(&orders, None);
    assert_eq!(first.says("outcome"), "Installed");
    rig.installed(&[]);
    assert_eq!(rig.run(&orders, None).says("outcome"), "Installed", "it is not the last request any more");
    let orders = rig.orders_for(&[]);
    rig.run(&orders, None);
    rig.edit("usr/bin/tool", "would be seen by an install");
    let again = rig.run(&orders, None);
    assert_eq!((again.says("outcome"), again.last()), ("Installed", "done"));
    assert!(!again.reports.contains("fetching"), "{}", again.reports);
}
