//! What patches require: a host refuses a set that lacks it, and one in which two patches have
//! the same path and none requires the other, whatever the controller says.

use crate::child::Orders;
use crate::pieces::{directory, file, link, patch};
use crate::rig::Rig;

/// The end of a refusal of two patches, with the path.
fn at(path: &str) -> String {
    format!("neither requires the other, so none can lie on top: apply only one of them. The path is /{path}")
}

#[test]
fn a_set_without_what_a_patch_requires_is_refused() {
    need_root!();
    let mut rig = Rig::new("requires");
    rig.add(patch("P1", [file("srv/x", "of P1")]));
    rig.add(patch("P2", [file("srv/y", "of P2")]).requires("P1"));
    rig.add(patch("P3", [file("srv/z", "of P3")]).requires("P2"));
    let lacks = |set: &[&str], id: &str, required: &str| {
        let words =
            format!("{id} requires {required}, which the set lacks: apply that as well, or remove {id}");
        let before = rig.tree();
        rig.install(set).assert_ended("Rejected", &[&words]);
        // Not even root on the host is meant to go below this, only below a floor.
        let orders = Orders { below_floor: true, ..rig.orders_for(set) };
        rig.run(&orders, None).assert_ended("Rejected", &[&words]);
        crate::model::assert_same(&rig.tree(), &before, "nothing was changed");
    };
    lacks(&["P2"], "P2", "P1");
    lacks(&["P1", "P3"], "P3", "P2");
    rig.installed(&["P1", "P2", "P3"]);
    lacks(&["P2", "P3"], "P2", "P1");
    lacks(&["P1", "P3"], "P3", "P2");
    lacks(&["P3"], "P3", "P2");
    rig.installed(&["P1!", "P2", "P3"]);
    lacks(&["P1!", "P3"], "P3", "P2");
    rig.installed(&["P1!", "P2"]);
    rig.installed(&["P1!"]);
    rig.assert_tree(&["P1"]);
}

#[test]
fn what_only_other_kinds_of_hosts_need_is_not_required() {
    need_root!();
    let mut rig = Rig::new("requires-kinds");
    rig.add(patch("P1", [file("srv/x", "of P1")]));
    rig.add(patch("P2", [file("srv/x", "of P2")]).requires("P1 controller storage"));
    rig.add(patch("P3", [file("srv/z", "of P3")]).requires("P1 controller worker"));
    // This one is a worker. If it gets what it need not have, that lies below nevertheless.
    rig.installed(&["P2"]);
    rig.installed(&[]);
    rig.becomes(&["P1", "P2"]);
    rig.install(&["P2"]).assert_ended("Rejected", &["P2 requires P1, which the set lacks"]);
    rig.installed(&[]);
    rig.install(&["P3"]).assert_ended("Rejected", &["P3 requires P1, which the set lacks"]);
    rig.installed(&["P1", "P3"]);
}

#[test]
fn two_patches_with_one_path_of_which_none_requires_the_other_are_refused() {
    need_root!();
    let mut rig = Rig::new("unordered");
    let pieces = |id: &str| [file("srv/x", id), directory("srv/both", 0o755), file(&format!("srv/{id}"), id)];
    rig.add(patch("P1", pieces("P1")));
    rig.add(patch("P2", pieces("P2")).requires("P1"));
    rig.add(patch("P3", pieces("P3")).requires("P2"));
    rig.add(patch("Q1", pieces("Q1")));
    rig.add(patch("Q2", pieces("Q2")).requires("P1"));
    rig.add(patch("Q3", pieces("Q3")).requires("P1").requires("Q2"));
    rig.add(patch("L", [link("srv/x", "y")]));
    rig.add(patch("R", []).removes("srv/x"));
    rig.add(patch("D", [directory("srv/both", 0o755)]));
    // In any order in which they come: together, and each on top of the others.
    let refused = |set: &[&str], two: [&str; 2]| {
        let words = format!("{} and {} share a path and {}", two[0], two[1], at("srv/x"));
        rig.install(set).assert_ended("Rejected", &[&words]);
        for id in two {
            let alone: &[&str] = if id.ends_with('2') { &["P1", id] } else { &[id] };
            rig.installed(alone);
            rig.install(set).assert_ended("Rejected", &[&words]);
            rig.assert_tree(alone);
        }
        rig.installed(&[]);
    };
    refused(&["P1", "Q1"], ["P1", "Q1"]);
    refused(&["P1", "P2", "Q2"], ["P2", "Q2"]);
    refused(&["L", "P1"], ["L", "P1"]);
    refused(&["P1", "R"], ["P1", "R"]);
    refused(&["L", "R"], ["L", "R"]);
    rig.install(&["P1", "P2", "P3", "Q2"]).assert_ended("Rejected", &["P2 and Q2", &at("srv/x")]);
    // Through others, and directories are shared.
    for set in [&["D", "P1", "P2", "P3"][..], &["P1", "P2"], &["P1", "Q2", "Q3"], &["P1"]] {
        rig.installed(set);
        rig.assert_tree(set);
    }
    // One takes the place of the other.
    rig.becomes(&["Q1"]);
}

/// A host that has a set which breaks the rules, from before it checked them.
#[cfg(feature = "proof")]
#[test]
fn a_host_that_has_such_a_set_already_can_be_brought_in_order() {
    need_root!();
    let mut rig = Rig::new("before");
    rig.add(patch("P1", [file("srv/x", "of P1")]));
    rig.add(patch("P2", [file("srv/x", "of P2"), file("srv/y", "of P2")]));
    rig.add(patch("P3", [file("srv/z", "of P3")]).requires("P0"));
    rig.add(patch("P4", [file("srv/x", "of P4")]).requires("P1").script("health", "kill -9 $PPID"));
    rig.add(patch("P5", [file("srv/x", "of P5")]).requires("P1").requires("P2"));
    rig.add(patch("P6", [file("srv/w", "of P6")]));
    rig.add(patch("P0", [file("srv/w0", "of P0")]));
    let all = ["P1", "P2", "P3"];
    for (to, tree) in [(&[][..], &[][..]), (&["P1"], &["P1"]), (&["P2"], &["P2"])] {
        rig.takes_any_set = true;
        rig.installed(&all);
        rig.takes_any_set = false;
        assert_eq!(rig.recover().last(), "done");
        rig.assert_tree(&all);
        // What has nothing to do with it can come and go, and what lies above both.
        rig.installed(&["P1", "P2", "P3", "P6"]);
        rig.becomes(&["P1", "P2", "P3", "P5"]);
        rig.installed(&["P1", "P2", "P3"]);
        rig.assert_tree(&all);
        rig.install(&["P1", "P2", "P3", "P4"]).assert_ended("Rejected", &["P2 and P4", &at("srv/x")]);
        // In order, and no more out of it.
        rig.installed(&["P0", "P1", "P2", "P3"]);
        rig.install(&all).assert_ended("Rejected", &["P3 requires P0"]);
        rig.installed(to);
        rig.assert_tree(tree);
        rig.install(&all).assert_ended("Rejected", &["P3 requires P0"]);
        rig.install(&["P1", "P2"]).assert_ended("Rejected", &["P1 and P2", &at("srv/x")]);
        rig.installed(&[]);
    }
    // A crash leaves the set that was there, and recovery asks for no order.
    rig.takes_any_set = true;
    rig.installed(&all);
    assert!(!rig.run(&rig.orders_for(&["P1", "P2", "P3", "P4"]), None).status.success());
    rig.takes_any_set = false;
    let run = rig.recover();
    assert_eq!((run.says("outcome"), run.last()), ("RolledBack", "done"), "{run:?}");
    rig.assert_tree(&all);
}
