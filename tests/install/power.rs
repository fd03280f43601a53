//! A power cut at any step: data that was not synced is lost.
//!
//! The root is an ext4 filesystem in an image. At the cut, the image is copied as it is on
//! disk, without what the kernel still has in memory, and the host starts from the copy.

use std::path::Path;
use std::process::Command;

use crate::child::Orders;
use crate::killed::patches;
use crate::model;
use crate::rig::{Mount, Rig, populate, run, skip};

fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    patches().into_iter().for_each(|patch| rig.add(patch));
    rig
}

/// Cuts the power before every `stride`-th step of an install.
pub fn cut_everywhere(mut rig: Rig, from: &[&str], to: &[&str], stride: usize) {
    let image = |name: &str| rig.depot.with_file_name(name);
    let pristine = image("pristine");
    run(Command::new("truncate").args(["-s", "12M"]).arg(&pristine));
    run(Command::new("mkfs.ext4").args(["-q", "-E", "lazy_itable_init=0"]).arg(&pristine));
    let root = image("small");
    let Some(mount) = Mount::image(&pristine, &root) else {
        return skip(module_path!(), "cannot mount an image: no loop devices");
    };
    populate(&root);
    rig.root.clone_from(&root);
    rig.orders.root.clone_from(&root);
    rig.installed(from);
    let old = rig.tree();
    drop(mount);

    let copy = |from: &Path, to: &Path| run(Command::new("cp").arg(from).arg(to));
    let after = image("after");
    copy(&pristine, &after);
    let mount = Mount::image(&after, &root).unwrap();
    let succeeds = rig.install(to).says("outcome") == "Installed";
    let new = rig.tree();
    drop(mount);
    let mut ends = [0, 0];
    for step in (1..).step_by(stride) {
        // New files for each step: the kernel may still use the last ones.
        let (disk, left) = (image(&format!("disk-{step}")), image(&format!("left-{step}")));
        copy(&pristine, &disk);
        let mount = Mount::image(&disk, &root).unwrap();
        let orders = rig.orders_for(to);
        let is_done = rig.run(&orders, Some(step)).status.success();
        snapshot(&disk, &left);
        drop(mount);
        let mount = Mount::image(&left, &root).unwrap();
        let when = format!("{from:?} to {to:?}, power cut at step {step}");
        let run = rig.run(&Orders { request_id: None, ..rig.orders.clone() }, None);
        assert_eq!(run.last(), "done", "{when}: {run:?}");
        let is_ours = run.says("request") == orders.request_id.unwrap().to_string();
        let is_new = is_ours && run.says("outcome") == "Installed";
        model::assert_same(&rig.tree(), if is_new { &new } else { &old }, &format!("{when}: {run:?}"));
        ends[usize::from(is_new)] += 1;
        drop(mount);
        for image in [disk, left] {
            std::fs::remove_file(image).unwrap();
        }
        if is_done {
            // A reported outcome must be durable.
            assert!(is_ours && is_new == succeeds, "{when}: {run:?}");
            break;
        }
    }
    assert!(ends[0] > 2 && (ends[1] > 0) == succeeds, "{ends:?}");
}

/// Copies a disk that is in use at one instant: repeats the copy until the disk did not
/// change meanwhile.
fn snapshot(disk: &Path, to: &Path) {
    loop {
        std::fs::copy(disk, to).unwrap();
        if std::fs::read(disk).unwrap() == std::fs::read(to).unwrap() {
            break;
        }
    }
}

#[test]
fn while_a_patch_is_added() {
    need_root!();
    cut_everywhere(rig("power-comes"), &[], &["P1"], 3);
}

#[test]
fn while_one_patch_replaces_another() {
    need_root!();
    cut_everywhere(rig("power-place"), &["P1"], &["P2"], 2);
}

#[test]
fn while_the_upper_patch_is_removed() {
    need_root!();
    cut_everywhere(rig("power-upper"), &["P1", "P2"], &["P1"], 3);
}
