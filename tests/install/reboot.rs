//! A set that takes effect only after a restart of the host: its health scripts run after
//! the restart, and the previous set may come back once.

use std::collections::BTreeSet;

use crate::child::Act;
use crate::killed::copy;
use crate::model;
use crate::pieces::{file, patch, program};
use crate::rig::Rig;

/// A host with P1 and P2. P2 requires a restart and is not healthy while the host has the
/// file `sick`.
fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    let log = "echo $THIMBLE_PATCH $THIMBLE_PHASE $THIMBLE_ACTION >>../log";
    rig.add(patch("P1", [program("usr/bin/tool", "tool of P1", 0o755), file("etc/p1", "of P1")]));
    let pieces = [program("usr/bin/tool", "tool of P2", 0o755), file("etc/p2", "of P2")];
    let health = format!("{log}\ntest ! -e ../sick || {{ echo it does not come up; exit 3; }}");
    let second = patch("P2", pieces).says("reboot_required = true").script("health", &health);
    rig.add(
        ["post-install", "post-remove", "restart"]
            .into_iter()
            .fold(second, |second, name| second.script(name, log)),
    );
    rig.installed(&["P1"]);
    rig
}

fn log(rig: &Rig) -> Vec<String> {
    let text = std::fs::read_to_string(rig.root.with_file_name("log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn falls_sick(rig: &Rig) {
    std::fs::write(rig.root.with_file_name("sick"), "").unwrap();
}

fn waits(rig: &Rig) -> bool {
    rig.own("").contains(&"journal".to_owned())
}

#[test]
fn health_is_checked_after_the_restart_and_then_the_previous_record_is_removed() {
    need_root!();
    let rig = rig("reboot-well");
    let old = rig.tree();
    let run = rig.installed(&["P2"]);
    assert_eq!((run.says("reboot"), run.installed()), ("true", vec!["P2"]));
    let run = rig.recover();
    let at_install = ["P2 post-install install"];
    assert_eq!((run.says("reboot"), run.last()), ("true", "done"));
    assert_eq!(log(&rig), at_install);
    let guard = rig.does_in("another boot", Act::Guard, None);
    assert_eq!(guard.reports, "done\n", "nothing was cut short");
    assert_eq!(log(&rig), at_install);
    assert!(waits(&rig));
    let run = rig.recover_after_restart();
    assert_eq!((run.says("reboot"), run.says("outcome"), run.last()), ("false", "Installed", "done"));
    assert_eq!(log(&rig), ["P2 post-install install", "P2 health install"]);
    assert!(!waits(&rig) && !rig.own("").contains(&"before".to_owned()));
    rig.recover_after_restart();
    assert_eq!(log(&rig).len(), 2, "once");
    rig.installed(&["P1"]);
    model::assert_same(&rig.tree(), &old, "and back by an install");
}

#[test]
fn if_it_is_not_healthy_the_previous_set_comes_back_once_and_owes_a_restart() {
    need_root!();
    let rig = rig("reboot-sick");
    let old = rig.tree();
    rig.installed(&["P2"]);
    falls_sick(&rig);
    assert_eq!(rig.recover().says("outcome"), "Installed", "not before the restart");
    let run = rig.recover_after_restart();
    assert_eq!(
        (run.says("outcome"), run.says("reboot"), run.installed()),
        ("RolledBack", "true", vec!["P1"])
    );
    for part in ["after the restart", "health of P2", "it does not come up"] {
        assert!(run.says("reason").contains(part), "{run:?}");
    }
    model::assert_same(&rig.tree(), &old, "back");
    assert_eq!(log(&rig), ["P2 post-install install", "P2 health install", "P2 post-remove rollback"]);
    assert!(!waits(&rig));
    let run = rig.does_in("a third boot", Act::Recover, None);
    assert_eq!((run.says("outcome"), run.says("reboot"), run.last()), ("RolledBack", "false", "done"));
    assert_eq!(log(&rig).len(), 3, "nothing waits any more");
}

#[test]
fn another_install_ends_the_wait() {
    need_root!();
    let mut rig = rig("reboot-another");
    rig.add(patch("P3", [file("etc/p3", "of P3")]));
    rig.installed(&["P2"]);
    assert_eq!(rig.installed(&["P2", "P3"]).says("reboot"), "true");
    falls_sick(&rig);
    let run = rig.recover_after_restart();
    assert_eq!(
        (run.says("outcome"), run.says("reboot"), run.installed()),
        ("Installed", "false", vec!["P2", "P3"])
    );
}

#[test]
fn local_changes_meanwhile_are_saved_when_the_previous_set_comes_back() {
    need_root!();
    let rig = rig("reboot-edited");
    rig.installed(&["P2"]);
    rig.edit("etc/p2", "changed by hand");
    falls_sick(&rig);
    assert_eq!(rig.recover_after_restart().says("outcome"), "RolledBack");
    assert_eq!(rig.text("etc/p2.thimble-saved"), "changed by hand");
    assert!(!rig.root.join("etc/p2").exists());
    assert_eq!(rig.text("usr/bin/tool"), "tool of P1");
}

/// Killed at any step of the install, of a daemon's start before the restart or of one
/// after it, the host ends on one whole set, the one that it reports.
#[test]
fn killed_anywhere_the_host_ends_on_one_whole_set() {
    need_root!();
    let rig = rig("reboot-killed");
    let pristine = rig.root.with_file_name("pristine");
    copy(&rig.root, &pristine);
    let old = rig.tree();
    rig.installed(&["P2"]);
    let new = rig.tree();
    let mut ends = BTreeSet::new();
    for is_sick in [false, true] {
        if is_sick {
            falls_sick(&rig);
        }
        for step in 1.. {
            let when = format!("sick: {is_sick}, killed at step {step}");
            copy(&pristine, &rig.root);
            let orders = rig.orders_for(&["P2"]);
            let was_killed = !rig.run(&orders, Some(step)).status.success();
            let _ = rig.does(Act::Recover, Some(1 + step % 5));
            let mut kills = [1 + step % 40, 1 + step % 23, 1 + step % 7].into_iter();
            let run = loop {
                let run = rig.does_in("another boot", Act::Recover, kills.next());
                if run.status.success() {
                    break run;
                }
                assert!(kills.len() > 0 || kills.next().is_none());
            };
            assert_eq!(run.last(), "done", "{when}: {run:?}");
            let is_new = run.installed() == ["P2"];
            model::assert_same(&rig.tree(), if is_new { &new } else { &old }, &when);
            let is_ours = run.says("request") == orders.request_id.unwrap().to_string();
            assert!(is_ours && run.says("outcome") == "Installed" || !is_new, "{when}: {run:?}");
            assert!(!is_new || !is_sick, "{when}: {run:?}");
            assert!(!waits(&rig) && !rig.own("").contains(&"before".to_owned()), "{when}");
            ends.insert((is_sick, is_new, run.says("reboot").to_owned()));
            if !was_killed {
                assert!(step > 20, "{when}: the steps are not where they should be");
                assert!(is_new != is_sick, "{when}: {run:?}");
                break;
            }
        }
    }
    let owed = |is_sick, is_new, owed: &str| (is_sick, is_new, owed.to_owned());
    assert!(ends.contains(&owed(false, true, "false")), "{ends:?}");
    assert!(ends.contains(&owed(true, false, "true")), "{ends:?}");
    assert!(ends.contains(&owed(false, false, "false")), "cut short before it was committed: {ends:?}");
}

/// Removing what the return needs takes several steps. If it is killed in the middle and
/// the set becomes unhealthy, the return must not begin.
#[test]
fn killed_while_the_previous_record_is_removed_the_previous_set_does_not_come_back() {
    need_root!();
    let mut rig = rig("reboot-given-up");
    rig.add(patch("P3", [file("etc/p3", "of P3")]));
    let old = rig.tree();
    rig.installed(&["P2"]);
    let new = rig.tree();
    let waiting = rig.root.with_file_name("waiting");
    copy(&rig.root, &waiting);
    for gives_up in ["the restart", "another install"] {
        for step in 1.. {
            let when = format!("{gives_up}, killed at step {step}");
            copy(&waiting, &rig.root);
            let _ = std::fs::remove_file(rig.root.with_file_name("sick"));
            let was_killed = match gives_up {
                "the restart" => !rig.does_in("another boot", Act::Recover, Some(step)).status.success(),
                _ => !rig.run(&rig.orders_for(&["P2", "P3"]), Some(step)).status.success(),
            };
            falls_sick(&rig);
            let run = rig.recover_after_restart();
            assert_eq!(run.last(), "done", "{when}: {run:?}");
            match run.installed()[..] {
                ["P1"] => model::assert_same(&rig.tree(), &old, &when),
                ["P2"] => model::assert_same(&rig.tree(), &new, &when),
                ["P2", "P3"] => {}
                ref other => panic!("{when}: {other:?}"),
            }
            if !was_killed {
                break;
            }
        }
    }
}
