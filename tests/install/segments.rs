//! Records of some segments: those in which nothing changes stay as they are, and what
//! changes at their ends is seen nevertheless. Segments are short in this build.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::model;
use crate::pieces::{directory, file, patch};
use crate::rig::Rig;
use crate::sequences::Seeded;

const IDS: [&str; 5] = ["S1", "S2", "S3", "S4", "S5"];

/// Patches that share directories and files all over a tree that installs make. One has all
/// of a part of it to itself, one has directories, one removes files of the others.
fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    let mut seeded = Seeded::new();
    for (id, below) in IDS.into_iter().zip(["", "S1", "S2", "S2", "S4"]) {
        let mut paths = BTreeSet::new();
        let count = if id == "S3" { 3 } else { 40 };
        while paths.len() < count {
            let [a, b, c] = [5, 4, 9].map(|most| seeded.next() % most);
            paths.insert(match seeded.next() % 4 {
                0 => format!("opt/d{a}/f{c}"),
                _ => format!("opt/d{a}/s{b}/f{c}"),
            });
        }
        let mut pieces: Vec<_> = paths.iter().map(|path| file(path, format!("{path} of {id}"))).collect();
        if id == "S2" {
            pieces.extend((0..5).map(|at| directory(&format!("opt/d{at}/s0"), 0o755)));
            pieces.extend((0..30).map(|at| file(&format!("opt/d2/alone/f{at}"), "of S2 alone")));
        }
        let mut patch = patch(id, pieces);
        if !below.is_empty() {
            patch = patch.requires(below);
        }
        if id == "S4" {
            for at in 0..9 {
                let path = format!("opt/d1/s1/f{at}");
                if !paths.contains(&path) {
                    patch = patch.removes(&path);
                }
            }
        }
        rig.add(patch);
    }
    rig
}

#[test]
fn random_sets_over_many_segments_each_give_the_expected_tree() {
    need_root!();
    let mut rig = rig("segments-random");
    rig.takes_any_set = true;
    let mut seeded = Seeded::new();
    let mut set = BTreeSet::new();
    for turn in 0..60 {
        // One patch or two at a time, so that much stays.
        for _ in 0..=seeded.next() % 2 {
            let id = IDS[seeded.next() as usize % IDS.len()];
            if !set.remove(id) {
                set.insert(id);
            }
        }
        let ids: Vec<_> = set.iter().copied().collect();
        rig.installed(&ids);
        let when = format!("seed {:#x}, turn {turn}: {set:?}", Seeded::SEED);
        model::assert_same(&rig.tree(), &rig.expected(&ids), &when);
        assert_eq!(rig.left_over(), [""; 0], "{when}: left in .thimble");
    }
    rig.becomes(&[]);
}

/// The files of items, with their inodes and lengths.
fn items(rig: &Rig) -> BTreeSet<(u64, u64)> {
    let names = rig.own("").into_iter().filter(|name| name.starts_with("items.") && name != "items.spare");
    let stat = names.map(|name| fs::metadata(rig.root.join(".thimble").join(name)).unwrap());
    stat.map(|stat| (stat.ino(), stat.len())).collect()
}

#[test]
fn a_small_install_writes_a_small_part_of_a_record() {
    need_root!();
    let mut rig = rig("segments-small");
    // Patches lie in the order of their ids: it gets below all others.
    rig.add(patch("A1", [file("opt/d2/s1/f3-small", "small")]));
    rig.installed(&["S1", "S2", "S4", "S5"]);
    let before = items(&rig);
    let [(_, bytes)] = before.iter().copied().collect::<Vec<_>>()[..] else { panic!("{before:?}") };
    for set in [&["A1", "S1", "S2", "S4", "S5"][..], &["S1", "S2", "S4", "S5"]] {
        rig.installed(set);
        rig.assert_tree(set);
        let written: u64 = items(&rig).difference(&before).map(|(_, len)| len).sum();
        assert!(items(&rig).is_superset(&before), "{set:?}");
        assert!((1..bytes / 8).contains(&written), "{set:?}: {written} of {bytes}");
    }
    // Much that is not used any more is not left behind.
    for turn in 0..20 {
        let path = format!("opt/d{}/s{}/f{turn}-small", turn % 5, turn % 4);
        let id = format!("T{turn:02}");
        rig.add(patch(&id, [file(&path, "small")]));
        let ids: Vec<_> = (0..=turn).map(|turn| format!("T{turn:02}")).collect();
        let set: Vec<_> =
            ["S1", "S2", "S4", "S5"].into_iter().chain(ids.iter().map(String::as_str)).collect();
        rig.installed(&set);
        let all: u64 = items(&rig).iter().map(|(_, len)| len).sum();
        assert!(all < 2 * bytes, "{all} for {bytes}");
    }
    assert!(items(&rig).is_disjoint(&before), "all was written anew some time");
}

#[test]
fn a_directory_at_the_end_of_a_segment_goes_with_the_last_file_below_it_and_no_sooner() {
    need_root!();
    // The segments end elsewhere each time.
    for fill in 0..12 {
        let mut rig = Rig::new(&format!("segments-end-{fill}"));
        let mut stays: Vec<_> = (0..fill).map(|at| file(&format!("opt/x/f{at:02}"), "fills")).collect();
        stays.extend((0..30).map(|at| file(&format!("opt/y/b{at:02}"), "stays")));
        rig.add(patch("P1", [file("opt/y/a", "goes")]));
        rig.add(patch("P2", stays));
        // Nothing is in place for a whole segment, and then a file.
        let removes = (0..30).fold(patch("R1", []), |patch, at| patch.removes(&format!("opt/z/a{at:02}")));
        rig.add(removes);
        rig.add(patch("R2", [file("opt/z/b", "of R2")]));
        for set in
            [&["P1", "P2", "R1", "R2"][..], &["P2", "R1"], &["P1", "P2", "R1", "R2"], &["P1", "R1"], &[]]
        {
            rig.installed(set);
            rig.assert_tree(set);
        }
    }
}
