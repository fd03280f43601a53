//! Floors and superseded patches: a host refuses sets that are below what the makers have
//! signed, whatever the controller says, and remembers that.

use crate::child::Orders;
use crate::pieces::{Patch, file, patch};
use crate::rig::{Rig, Run};

/// A floor that requires these patches of the rig. `more` are further lines of metadata.
fn floor(rig: &Rig, id: &str, serial: u32, requires: &[&str], more: &str) -> Patch {
    let mut floor = patch(id, []).says(&format!("floor.serial = {serial}\nfloor.expires = \"2020-02-29\""));
    for required in requires {
        let path = rig.file_of(required);
        let hash = path.file_name().unwrap().to_str().unwrap();
        floor = floor.says(&format!("require.{required}.hash = \"{hash}\""));
    }
    if more.is_empty() { floor } else { floor.says(more) }
}

/// Patches P1 to P3, of which P2 supersedes P1, Q2, which requires it as well, and floors F1
/// (P1), F2 (P2).
fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    rig.add(patch("P1", [file("srv/x", "of P1")]));
    rig.add(patch("P2", [file("srv/y", "of P2")]).says("supersedes = [\"P1\"]"));
    rig.add(patch("Q2", [file("srv/q", "of Q2")]).requires("P1").says("supersedes = [\"P1\"]"));
    rig.add(patch("P3", [file("srv/z", "of P3")]));
    let floors = [floor(&rig, "F1", 1, &["P1"], ""), floor(&rig, "F2", 2, &["P2"], "")];
    floors.into_iter().for_each(|floor| rig.add(floor));
    rig
}

#[test]
fn a_set_below_the_floor_is_refused() {
    need_root!();
    let mut rig = rig("floor");
    rig.installed(&["P1"]);
    // Before there is a floor, anything goes back; and a floor is not installed without what
    // it requires.
    rig.installed(&[]);
    rig.install(&["F1"]).assert_ended("Rejected", &["the floor F1 requires P1", "supersedes it"]);
    rig.installed(&["F1", "P1"]);
    assert_eq!(rig.recover().says("floor"), "F1 1 2020-02-29", "the daemon tells when it is old");
    rig.install(&["P1"]).assert_ended("Rejected", &["F1 is the floor in force (serial 1)", "higher serial"]);
    rig.install(&[]).assert_ended("Rejected", &["F1 is the floor in force"]);
    rig.install(&["F1"]).assert_ended("Rejected", &["the floor F1 requires P1"]);
    rig.install(&["F1", "P3"]).assert_ended("Rejected", &["the floor F1 requires P1"]);
    rig.assert_tree(&["P1"]);
    // What supersedes it does as well.
    rig.installed(&["F1", "P2"]);
    rig.installed(&["F2", "P2"]);
    rig.install(&["F1", "P1"]).assert_ended("Rejected", &["F2 is the floor in force (serial 2)"]);
    rig.install(&["F1", "P2"]).assert_ended("Rejected", &["F2 is the floor in force (serial 2)"]);
    rig.add(floor(&rig, "G2", 2, &[], ""));
    rig.install(&["G2"]).assert_ended("Rejected", &["F2 is the floor in force (serial 2)"]);
    assert_eq!(rig.installed(&["F1", "F2", "P2"]).says("floor"), "F2 2 2020-02-29");
    rig.installed(&["F2", "P2", "P3"]);
    rig.assert_tree(&["P2", "P3"]);
    rig.add(floor(&rig, "F3", 3, &[], ""));
    rig.installed(&["F3"]);
    rig.assert_tree(&[]);
}

#[test]
fn a_patch_is_required_of_the_hosts_that_it_concerns_with_its_content() {
    need_root!();
    let mut rig = rig("concerned");
    for (serial, (more, is_demanded)) in (1..).zip([
        ("nodetypes = [\"controller\"]", false),
        ("nodetypes = [\"controller\", \"worker\"]", true),
        ("release = \"0.9\"", false),
        ("release = \"1.0\"", true),
    ]) {
        let id = format!("F-{serial}");
        rig.add(floor(&rig, &id, serial, &["P1"], &format!("require.P1.{more}")));
        let run = rig.install(&[&id]);
        if is_demanded {
            run.assert_ended("Rejected", &["requires P1"]);
            rig.installed(&[&id, "P1"]);
        } else {
            assert_eq!(run.says("outcome"), "Installed", "{more}: {}", run.reports);
        }
    }
    // The same id with other content does not do.
    let f9 = floor(&rig, "F9", 9, &["P1"], "");
    rig.installed(&["F-4", "P1"]);
    rig.add(f9);
    rig.installed(&["F9", "P1"]);
    let mut rig = self::rig("other-content");
    rig.add(patch("P1", [file("srv/x", "other content")]));
    rig.install(&["F1", "P1"]).assert_ended("Rejected", &["the floor F1 requires P1 (hash "]);
}

#[test]
fn a_superseded_patch_does_not_come_back() {
    need_root!();
    let mut rig = rig("superseded");
    rig.installed(&["P1"]);
    rig.installed(&["P1", "Q2"]);
    let refused =
        |run: Run| run.assert_ended("Rejected", &["P1 was superseded", "supersedes and requires it as well"]);
    refused(rig.install(&["P1"]));
    rig.installed(&["P3"]);
    rig.recover();
    // Both are gone, and that is still known.
    refused(rig.install(&["P1", "P3"]));
    rig.installed(&["Q2", "P1"]);
    // Its file would lie above that of one with a lower id which does not require it.
    rig.add(patch("A0", [file("srv/x", "mended")]).says("supersedes = [\"P1\"]"));
    refused(rig.install(&["A0", "P1"]));
    rig.installed(&["A0"]);
    refused(rig.install(&["A0", "P1"]));
    rig.assert_tree(&["A0"]);
    rig.installed(&[]);
    refused(rig.install(&["P1"]));
    rig.assert_tree(&[]);
    // Its maker may take that back.
    rig.add(floor(&rig, "A1", 1, &[], "floor.allows = [\"P1\"]"));
    rig.installed(&["P1", "A1"]);
    rig.add(floor(&rig, "A2", 2, &[], ""));
    refused(rig.install(&["P1", "A2"]));
}

#[test]
fn root_on_the_host_goes_below_the_floor() {
    need_root!();
    let rig = rig("below");
    rig.installed(&["F2", "P2"]);
    let below = |set: &[&str]| {
        let run = rig.run(&Orders { below_floor: true, ..rig.orders_for(set) }, None);
        assert_eq!((run.last(), run.says("outcome")), ("done", "Installed"), "{}", run.reports);
    };
    below(&["P1"]);
    rig.assert_tree(&["P1"]);
    // From there on the host is as if the others had never been.
    rig.installed(&["P1", "P3"]);
    below(&["F1"]);
    rig.install(&["F1", "P3"]).assert_ended("Rejected", &["the floor F1 requires P1"]);
    rig.installed(&["F1", "P1"]);
}

#[test]
fn more_superseded_patches_than_can_be_remembered_are_refused() {
    need_root!();
    let mut rig = rig("full");
    let mut set = Vec::new();
    for at in 0..16 {
        let ids: Vec<_> = (0..64).map(|of| format!("\"OLD-{at}-{of}\"")).collect();
        rig.add(patch(&format!("N{at}"), []).says(&format!("supersedes = [{}]", ids.join(", "))));
        set.push(format!("N{at}"));
    }
    rig.installed(&set.iter().map(String::as_str).collect::<Vec<_>>());
    rig.install(&["P2"])
        .assert_ended("Rejected", &["P1 would be superseded, and 1024 patches are remembered"]);
    rig.installed(&["N0", "P1"]);
    let run = rig.run(&Orders { below_floor: true, ..rig.orders_for(&["P2"]) }, None);
    assert_eq!(run.says("outcome"), "Installed", "{}", run.reports);
    rig.install(&["P1"]).assert_ended("Rejected", &["P1 was superseded"]);
}

/// Whatever step an install is killed at, the floor is that of the set that is there.
#[cfg(feature = "proof")]
#[test]
fn a_power_cut_leaves_the_floor_of_the_set_that_it_leaves() {
    use std::collections::BTreeSet;

    use crate::killed::copy;

    need_root!();
    let rig = rig("killed");
    rig.installed(&["F1", "P1"]);
    let pristine = rig.root.with_file_name("pristine");
    copy(&rig.root, &pristine);
    let mut seen = BTreeSet::new();
    for step in 1..1_000 {
        copy(&pristine, &rig.root);
        let run = rig.run(&rig.orders_for(&["F2", "P2"]), Some(step));
        if run.status.success() {
            assert!(step > 20, "the steps are not where they should be");
            assert_eq!(seen, BTreeSet::from([false, true]));
            return;
        }
        rig.recover_killed_at([1 + step * 7 % 19]);
        let run = rig.recover();
        let is_new = run.installed() == ["F2", "P2"];
        assert!(is_new || run.installed() == ["F1", "P1"], "killed at step {step}: {run:?}");
        seen.insert(is_new);
        let (below, floor) = if is_new { (["F1", "P1"], "F2") } else { (["P1", "P3"], "F1") };
        rig.install(&below).assert_ended("Rejected", &[&format!("{floor} is the floor in force")]);
        if is_new {
            rig.installed(&["F2", "P2"]);
            rig.install(&["F2", "P1"]).assert_ended("Rejected", &["the floor F2 requires P2"]);
        } else {
            rig.installed(&["F1", "P2"]);
            rig.install(&["F1", "P1"]).assert_ended("Rejected", &["P1 was superseded"]);
        }
    }
    panic!("the install has no end");
}
