//! An install for a controller: its set is in place before a controller is heard, and committed
//! after that. This test program does what the daemon would do.

use std::collections::BTreeSet;

use crate::child::{Act, Orders};
use crate::killed::copy;
use crate::pieces::{file, patch, program};
use crate::rig::{Rig, Run};

/// A host with P1, on which installs wait for a controller.
fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    let log = "echo $THIMBLE_PATCH $THIMBLE_PHASE $THIMBLE_ACTION >>../log";
    let scripts = ["pre-install", "post-install", "post-remove", "restart", "health"];
    for id in ["P1", "P2"] {
        let pieces = [program("usr/bin/tool", id, 0o755), file(&format!("etc/{id}"), id)];
        let scripted = scripts.into_iter().fold(patch(id, pieces), |patch, name| patch.script(name, log));
        rig.add(if id == "P2" { scripted.requires("P1") } else { scripted });
    }
    rig.add(patch("LATER", [file("etc/later", "x")]).says("reboot_required = true"));
    rig.installed(&["P1"]);
    std::fs::remove_file(log_file(&rig)).unwrap();
    rig.orders.awaits_other = Some(false);
    rig
}

fn log_file(rig: &Rig) -> std::path::PathBuf {
    rig.root.with_file_name("log")
}

fn log(rig: &Rig) -> String {
    std::fs::read_to_string(log_file(rig)).unwrap_or_default()
}

/// Asserts that the set is in place, and is not claimed.
#[track_caller]
fn awaits(rig: &Rig, run: &Run, set: &[&str], witness: &str) {
    let word = run.says("awaited");
    assert!(word.ends_with(witness) && !word.is_empty(), "{run:?}");
    assert_eq!((run.last(), run.installed()), ("done", vec!["P1"]), "the set before is in force");
    rig.assert_tree(set);
    assert!(rig.own("").contains(&"journal".to_owned()));
}

#[test]
fn a_set_is_committed_once_a_controller_was_heard_with_it() {
    need_root!();
    let mut rig = rig("awaited");
    for (other, witness) in [(false, "Any"), (true, "Other")] {
        rig.orders.awaits_other = Some(other);
        let run = rig.install(&["P1", "P2"]);
        awaits(&rig, &run, &["P1", "P2"], witness);
        assert_ne!(run.says("outcome"), "RolledBack", "nothing is claimed of it yet: {run:?}");
        let ran = log(&rig);
        assert!(ran.contains("P2 restart install\n") && ran.ends_with("P2 health install\n"), "{ran}");
        let run = rig.does(Act::Prove, None);
        assert_eq!((run.last(), run.says("outcome")), ("done", "Installed"), "{run:?}");
        assert_eq!(run.installed(), ["P1", "P2"]);
        assert_eq!(log(&rig), ran, "no script runs again");
        assert_eq!(rig.left_over(), [""; 0]);
        rig.orders.awaits_other = None;
        rig.installed(&["P1"]);
        std::fs::remove_file(log_file(&rig)).unwrap();
    }
}

#[test]
fn without_a_controller_the_set_before_comes_back_and_the_reason_says_so() {
    need_root!();
    let mut rig = rig("awaited-lost");
    for (other, whom) in [(false, "no controller"), (true, "no other controller")] {
        rig.orders.awaits_other = Some(other);
        rig.install(&["P1", "P2"]);
        let run = rig.does(Act::GiveUp, None);
        let reason = format!("the network was lost with this set: {whom} was heard for 2 min 0 s");
        assert!(run.says("reason").starts_with(&reason), "{run:?}");
        assert_eq!((run.says("outcome"), run.installed()), ("RolledBack", vec!["P1"]));
        rig.assert_tree(&["P1"]);
        // What the new set's restart did to the network is undone, though the other has one too.
        assert!(log(&rig).ends_with("P1 restart rollback\nP2 restart rollback\n"), "{}", log(&rig));
        assert_eq!(rig.left_over(), [""; 0]);
    }
}

#[test]
fn after_a_restart_it_goes_on_waiting_a_few_times() {
    need_root!();
    let rig = rig("awaited-restarts");
    rig.install(&["P1", "P2"]);
    let ran = log(&rig);
    for _ in 0..3 {
        // As at a boot: files stay, and no start is counted.
        let guard = rig.does(Act::Guard, None);
        assert!(guard.reports.starts_with("notice an install waits until"), "{guard:?}");
        let run = rig.recover();
        awaits(&rig, &run, &["P1", "P2"], "Any");
        assert_eq!(log(&rig), ran, "no script runs again");
    }
    let run = rig.recover();
    assert!(run.says("reason").contains("no controller was heard after 3 starts of thimble"), "{run:?}");
    assert_eq!((run.says("outcome"), run.last()), ("RolledBack", "done"));
    rig.assert_tree(&["P1"]);
}

#[test]
fn another_install_is_refused_meanwhile() {
    need_root!();
    let mut rig = rig("awaited-another");
    rig.install(&["P1", "P2"]);
    rig.orders.awaits_other = None;
    let run = rig.install(&["P1"]);
    assert!(run.last().contains("ends when this host has heard a controller with it"), "{run:?}");
    assert!(run.last().starts_with("failed Refused "), "it is no damage: {run:?}");
    assert_eq!(rig.does(Act::Prove, None).says("outcome"), "Installed");
}

#[test]
fn what_changes_nothing_waits_for_nobody_and_an_unhealthy_set_neither() {
    need_root!();
    let mut rig = rig("awaited-nothing");
    assert_eq!(rig.install(&["P1"]).says("outcome"), "Installed");
    rig.add(patch("SICK", [file("etc/sick", "x")]).script("health", "exit 3"));
    rig.install(&["P1", "SICK"]).assert_ended("RolledBack", &["health of SICK"]);
    rig.assert_tree(&["P1"]);
}

/// Its health is asked after the restart, as ever.
#[test]
fn a_set_that_wants_a_restart_waits_for_a_controller_first() {
    need_root!();
    let rig = rig("awaited-reboot");
    let orders = Orders { force: true, ..rig.orders_for(&["P1", "LATER"]) };
    let run = rig.run(&orders, None);
    awaits(&rig, &run, &["P1", "LATER"], "Any");
    let run = rig.does(Act::Prove, None);
    assert_eq!((run.says("outcome"), run.says("reboot")), ("Installed", "true"), "{run:?}");
    assert_eq!(rig.does(Act::GiveUp, None).says("outcome"), "Installed", "that was too late");
}

/// Recovers, and has a controller heard where the install waits for one.
fn recovers(rig: &Rig, is_heard: bool) -> Run {
    let run = rig.recover();
    let awaits = !run.says("awaited").is_empty();
    let act = if is_heard { Act::Prove } else { Act::GiveUp };
    if awaits { rig.does(act, None) } else { run }
}

/// Killed between any two steps, the host ends on one whole set: the new one only if a
/// controller was heard after its scripts.
#[test]
fn killed_anywhere_the_host_ends_on_one_whole_set() {
    need_root!();
    let rig = rig("awaited-killed");
    let [pristine, waiting] = ["pristine", "waiting"].map(|name| rig.root.with_file_name(name));
    copy(&rig.root, &pristine);
    let mut ends = BTreeSet::new();
    let mut is_whole = |run: &Run, what: &str, when: &str| {
        assert_eq!(run.last(), "done", "{when}: {run:?}");
        rig.assert_tree(&run.installed());
        assert_eq!(rig.left_over(), [""; 0], "{when}");
        ends.insert((what.to_owned(), run.installed().len() == 2));
    };
    for step in 1.. {
        copy(&pristine, &rig.root);
        let orders = rig.orders_for(&["P1", "P2"]);
        if rig.run(&orders, Some(step)).status.success() {
            assert!(step > 20, "the steps are not where they should be");
            break;
        }
        let is_heard = step % 2 == 0;
        is_whole(
            &recovers(&rig, is_heard),
            &format!("install {is_heard}"),
            &format!("killed at step {step}"),
        );
    }
    copy(&rig.root, &waiting);
    for (act, is_heard) in [(Act::Prove, true), (Act::GiveUp, false), (Act::Recover, true)] {
        for step in 1.. {
            copy(&waiting, &rig.root);
            let is_over = rig.does(act, Some(step)).status.success();
            is_whole(&recovers(&rig, is_heard), &format!("{act:?}"), &format!("{act:?} killed at {step}"));
            if is_over {
                break;
            }
        }
    }
    let all: Vec<_> = ends.iter().map(|(what, is_new)| (what.as_str(), *is_new)).collect();
    // Its last step is the entry that it waits.
    let expected = [
        ("GiveUp", false),
        ("Prove", true),
        ("Recover", true),
        ("install false", false),
        ("install true", false),
    ];
    assert_eq!(all, expected);
}
