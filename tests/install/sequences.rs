//! Sequences of sets: after any history, the tree is the base with the last set over it.

use std::collections::BTreeSet;

use crate::model;
use crate::pieces::{directory, file, link, patch, program, same};
use crate::rig::Rig;

/// Patches that share paths in every way that three layers can. `C` requires `B`, so that
/// the order of layers is not that of ids. The host takes any set of them: one that had such a
/// set before it checked `requires` can still get rid of any of its patches.
pub fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    rig.takes_any_set = true;
    rig.add(patch(
        "A",
        [
            program("usr/bin/tool", "tool of A", 0o4755).owner(5),
            file("etc/app.conf", "conf of A"),
            link("usr/lib/libx.so.1", "libx.of.a"),
            file("srv/a/only", "of A alone"),
            directory("srv/alone", 0o711),
        ],
    ));
    rig.add(
        patch(
            "B",
            [
                program("usr/bin/tool", "tool of B", 0o700),
                file("etc/app.conf", "conf of B").mtime(1_500_000_000),
                file("srv/shared/b", "of B"),
                same("srv/shared/same", "srv/shared/b"),
            ],
        )
        .requires("D")
        .removes("etc/app.d/10-base")
        .removes("srv/a/only")
        .removes("srv/nothing"),
    );
    rig.add(
        patch(
            "C",
            [
                link("bin/tool", "other"),
                file("etc/app.conf", "conf of C"),
                file("lib/libx.so.1", "libx of C"),
                file("srv/shared/b", "of C").owner(9),
                file("etc/app.d/10-base", "of C, where B removes it"),
            ],
        )
        .requires("B")
        .removes("lib/libx.so"),
    );
    rig.add(
        patch("D", [file("etc/app.conf", "conf of D"), file("srv/d/e/f", "of D")])
            .removes("usr/bin/other")
            .removes("etc/app.d/10-base"),
    );
    rig
}

/// The layers of a set, bottom first. Without B, C is not above D: two patches that stay
/// change their order when a third one is removed.
pub fn layers<'a>(set: &BTreeSet<&'a str>) -> Vec<&'a str> {
    let order = if set.contains("B") { ["A", "D", "B", "C"] } else { ["A", "C", "D", "B"] };
    order.into_iter().filter_map(|id| set.get(id).copied()).collect()
}

#[test]
fn one_patch_with_one_file_is_added_and_removed() {
    need_root!();
    let mut rig = Rig::new("one");
    rig.add(patch("P1", [program("usr/bin/tool", "new tool", 0o755).owner(3)]));
    let run = rig.installed(&["P1"]);
    assert_eq!(run.installed(), ["P1"]);
    assert!(run.reports.starts_with("progress 0 checking\n"), "{}", run.reports);
    rig.assert_tree(&["P1"]);
    let run = rig.installed(&[]);
    assert!(run.installed().is_empty());
    rig.assert_tree(&[]);
    assert_eq!(rig.own("kept"), [""; 0], "nothing is kept once nothing is installed");
}

#[test]
fn patches_removed_in_any_order_leave_the_base_bit_for_bit() {
    need_root!();
    need_proof!();
    let rig = rig("orders");
    for first in ["A", "B", "C", "D"] {
        for second in ["A", "B", "C", "D"].into_iter().filter(|second| *second != first) {
            let mut set = BTreeSet::from(["A", "B", "C", "D"]);
            rig.installed(&["A", "B", "C", "D"]);
            rig.assert_tree(&layers(&set));
            for going in [first, second] {
                set.remove(going);
                rig.installed(&set.iter().copied().collect::<Vec<_>>());
                model::assert_same(
                    &rig.tree(),
                    &rig.expected(&layers(&set)),
                    &format!("{first}, {second} gone"),
                );
            }
            rig.becomes(&[]);
        }
    }
    assert_eq!(rig.own("kept"), [""; 0]);
}

/// The same numbers on every run: xorshift.
pub struct Seeded(u64);

impl Seeded {
    pub const SEED: u64 = 0x7468_696d_626c_6531;

    pub fn new() -> Self {
        Self(Self::SEED)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 20
    }

    /// Some of the four patches.
    pub fn set(&mut self) -> BTreeSet<&'static str> {
        let bits = self.next();
        let ids = ["A", "B", "C", "D"].into_iter().enumerate();
        ids.filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, id)| id).collect()
    }
}

#[test]
fn random_sets_each_give_the_expected_tree() {
    need_root!();
    need_proof!();
    let rig = rig("random");
    let mut seeded = Seeded::new();
    for turn in 0..60 {
        let set = seeded.set();
        rig.installed(&set.iter().copied().collect::<Vec<_>>());
        let when = format!("seed {:#x}, turn {turn}: {set:?}", Seeded::SEED);
        model::assert_same(&rig.tree(), &rig.expected(&layers(&set)), &when);
    }
}

#[test]
fn a_directory_made_for_a_patch_stays_while_something_else_is_in_it() {
    need_root!();
    need_proof!();
    let rig = rig("stays");
    rig.installed(&["A", "D"]);
    rig.edit("srv/d/e/mine", "made by hand");
    rig.installed(&["A"]);
    assert_eq!(rig.text("srv/d/e/mine"), "made by hand");
    assert!(!rig.root.join("srv/d/e/f").exists());
    rig.installed(&["A", "D"]);
    rig.installed(&[]);
    assert_eq!(rig.text("srv/d/e/mine"), "made by hand");
}

#[test]
fn a_committed_patch_stays_and_objects_below_it_are_not_kept() {
    need_root!();
    need_proof!();
    let rig = rig("committed");
    rig.installed(&["A", "B", "D"]);
    assert!(!rig.own("kept").is_empty());
    rig.installed(&["A!", "B!", "D!"]);
    rig.assert_tree(&["A", "D", "B"]);
    assert_eq!(rig.own("kept"), [""; 0]);
    rig.install(&["A", "D"]).assert_ended("Rejected", &["B is committed"]);
    rig.assert_tree(&["A", "D", "B"]);
    rig.installed(&["A!", "B!", "C", "D!"]);
    rig.assert_tree(&["A", "D", "B", "C"]);
    rig.installed(&["A!", "B!", "D!"]);
    rig.assert_tree(&["A", "D", "B"]);
}

#[test]
fn of_many_objects_those_that_the_record_names_stay() {
    need_root!();
    need_proof!();
    let mut rig = rig("many");
    let files = |text: &str, count: usize| {
        (0..count).map(|at| file(&format!("srv/many/{at}"), text)).collect::<Vec<_>>()
    };
    rig.add(patch("M1", files("lower", 1_200)));
    rig.add(patch("M2", files("upper", 700)));
    rig.installed(&["M1", "M2"]);
    assert_eq!(rig.own("kept").len(), 700);
    rig.becomes(&["M1"]);
    assert_eq!(rig.own("kept"), [""; 0]);
    rig.installed(&["M1", "M2"]);
    rig.becomes(&["M2"]);
    assert_eq!(rig.own("kept"), [""; 0]);
    rig.becomes(&[]);
    assert_eq!(rig.own("kept"), [""; 0]);
}
