//! Directories that turn into links or files, and back, while the installer is killed, the
//! power is cut or the host restarts.

use std::fs;
use std::os::unix::fs::symlink;

use crate::child::Act;
use crate::killed::{copy, install_killed_at_random, kill_everywhere};
use crate::model;
use crate::pieces::{directory, file, link, patch, program};
use crate::power;
use crate::rig::Rig;
use crate::sequences::Seeded;
use crate::turned::{patches, rig};

/// With P5 and P6, which are P1 and P2 that fail.
fn with_failing(name: &str) -> Rig {
    let mut rig = rig(name);
    for (at, id) in [(0, "P5"), (1, "P6")] {
        rig.add(patches()[at].clone().named(id).script_instead("health", "exit 1"));
    }
    rig
}

#[test]
fn while_a_directory_becomes_a_link() {
    need_root!();
    kill_everywhere(&rig("turned-killed"), &["P1"], &["P2"], |_| {});
}

#[test]
fn while_a_changed_link_becomes_a_directory() {
    need_root!();
    kill_everywhere(&rig("turned-killed-2"), &["P2"], &["P1"], |rig| {
        fs::remove_file(rig.root.join("usr/lib/app")).unwrap();
        symlink("by-hand", rig.root.join("usr/lib/app")).unwrap();
    });
}

#[test]
fn while_a_directory_comes_back() {
    need_root!();
    kill_everywhere(&with_failing("turned-killed-3"), &["P1"], &["P6"], |rig| {
        fs::remove_file(rig.root.join("usr/lib/app/a")).unwrap();
    });
}

#[test]
fn while_a_file_comes_back() {
    need_root!();
    kill_everywhere(&with_failing("turned-killed-4"), &["P3"], &["P5"], |_| {});
}

/// The recovery of an install that has switched all is killed at each of its steps, and the
/// recovery after that, too, until one gets to its end.
#[test]
fn while_it_is_undone() {
    need_root!();
    let mut rig = rig("turned-undone");
    for (at, id) in [(0, "P5"), (1, "P6")] {
        rig.add(patches()[at].clone().named(id).script_instead("post-install", "kill -9 $PPID"));
    }
    let switched = rig.root.with_file_name("switched");
    for (old, new) in [("P1", "P6"), ("P2", "P5"), ("P3", "P5"), ("P3", "P6")] {
        rig.installed(&[old]);
        let before = rig.tree();
        let run = rig.run(&rig.orders_for(&[new]), None);
        assert!(!run.status.success(), "a script killed it: {run:?}");
        assert_ne!(rig.tree(), before);
        copy(&rig.root, &switched);
        for step in 1.. {
            copy(&switched, &rig.root);
            let mut run = rig.does(Act::Recover, Some(step));
            let is_last = run.status.success();
            if !is_last {
                run = rig.recover_killed_at((1..200).map(|time| step + 3 * time));
            }
            let when = format!("{new} to {old}, killed at step {step}");
            assert_eq!((run.last(), run.says("outcome")), ("done", "RolledBack"), "{when}: {run:?}");
            model::assert_same(&rig.tree(), &before, &when);
            assert_eq!(rig.own("kept"), [""; 0], "{when}");
            if is_last {
                assert!(step > 20, "{when}: the steps are not where they should be");
                break;
            }
        }
    }
}

#[test]
fn while_the_power_is_cut() {
    need_root!();
    for (name, from, to) in [("power-link", "P1", "P2"), ("power-directory", "P3", "P1")] {
        power::cut_everywhere(rig(name), &[from], &[to], 3);
    }
}

#[test]
fn while_the_power_is_cut_as_it_is_undone() {
    need_root!();
    for (name, from, to) in [("power-link-back", "P2", "P5"), ("power-directory-back", "P1", "P6")] {
        power::cut_everywhere(with_failing(name), &[from], &[to], 5);
    }
}

/// A set that is committed and not healthy after the restart goes back, with what was put
/// into a directory meanwhile beside it.
#[test]
fn after_a_restart() {
    need_root!();
    let mut rig = rig("turned-restart");
    for (at, id) in [(0, "P5"), (1, "P6")] {
        let patch = patches()[at].clone().named(id).says("reboot_required = true");
        rig.add(patch.script_instead("health", "test -e ../well"));
    }
    for (old, new) in [("P1", "P6"), ("P2", "P5"), ("P3", "P5"), ("P3", "P6")] {
        rig.installed(&[old]);
        let before = rig.tree();
        rig.installed(&[new]);
        if new == "P5" {
            rig.edit("usr/lib/app/mine", "by hand");
            fs::remove_file(rig.root.join("usr/lib/app/a")).unwrap();
            rig.edit("usr/lib/app/a", "by hand");
        } else {
            fs::remove_file(rig.root.join("usr/lib/app")).unwrap();
            symlink("by-hand", rig.root.join("usr/lib/app")).unwrap();
        }
        let run = rig.recover_after_restart();
        assert_eq!((run.says("outcome"), run.last()), ("RolledBack", "done"), "{run:?}");
        let saved = rig.root.join("usr/lib/app.thimble-saved");
        if new == "P5" {
            assert_eq!(fs::read_to_string(saved.join("mine")).unwrap(), "by hand");
            assert_eq!(fs::read_to_string(saved.join("a.thimble-saved")).unwrap(), "by hand");
            assert_eq!(fs::read_dir(&saved).unwrap().count(), 2);
            fs::remove_dir_all(saved).unwrap();
        } else {
            assert_eq!(fs::read_link(&saved).unwrap().to_str(), Some("by-hand"));
            fs::remove_file(saved).unwrap();
        }
        model::assert_same(&rig.tree(), &before, &format!("{new} to {old}"));
        assert_eq!(rig.own("kept"), [""; 0], "{new} to {old}");
    }
    fs::write(rig.root.with_file_name("well"), "").unwrap();
    rig.installed(&["P5"]);
    assert_eq!(rig.recover_after_restart().says("outcome"), "Installed");
    rig.installed(&["P6"]);
    assert_eq!(rig.recover_after_restart().says("outcome"), "Installed");
    assert_eq!(rig.own("kept"), [""; 0]);
}

/// Sets of which any can follow any other: directories turn at several depths. An install is
/// killed at a random step, and so are the recoveries after it.
#[test]
fn at_random_steps_of_random_installs() {
    need_root!();
    let mut rig = Rig::new("turned-random");
    let many = (0..60).map(|at| file(&format!("opt/t/sub/{at:02}"), format!("{at} of A")));
    let few = [file("opt/t/a", "of A"), file("opt/t/z/z", "of A"), directory("opt/t/own", 0o700)];
    rig.add(patch("A", many.chain(few).collect::<Vec<_>>()));
    rig.add(patch("B", [link("opt/t", "u"), file("opt/u/a", "of B"), file("opt/t-1", "of B")]));
    rig.add(patch("C", [program("opt/t/sub", "of C", 0o4755), file("opt/t/c/c", "of C")]));
    let of_d = [file("opt/t/a", "of D"), link("opt/t/c/d", "c")];
    rig.add(patch("D", of_d.clone()).requires("A"));
    // The same without A.
    rig.add(patch("G", of_d));
    rig.add(patch("E", [link("opt", "usr")]));
    rig.add(patch("F", [file("opt/t/c", "of F"), link("opt/u", "t")]));
    let sets: [&[&str]; 10] =
        [&[], &["A"], &["B"], &["C"], &["A", "D"], &["E"], &["F"], &["C", "G"], &["A", "F"], &["G"]];
    let mut seeded = Seeded::new();
    let mut old: &[&str] = &[];
    let mut turned = 0;
    for turn in 0..90 {
        let set = sets[seeded.next() as usize % sets.len()];
        let when = format!("seed {:#x}, turn {turn}: {old:?} to {set:?}", Seeded::SEED);
        let (run, is_installed) = install_killed_at_random(&rig, set, &mut seeded, [400, 200], &when);
        if is_installed {
            turned += usize::from(set != old);
            old = set;
        }
        assert_eq!(run.installed(), old, "{when}");
        model::assert_same(&rig.tree(), &rig.expected(old), &when);
    }
    assert!(turned > 20, "{turned} installs succeeded");
}
