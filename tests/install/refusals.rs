//! Requests that are refused before anything changes, and the messages.

use std::fs;

use crate::child::Orders;
use crate::pieces::{file, patch};
use crate::rig::{Mount, Rig};
use crate::support::archive::{Tar, metadata};
use crate::support::sign::{Signer, signature_path};

fn rig(name: &str) -> Rig {
    let mut rig = Rig::new(name);
    rig.add(patch("P1", [file("srv/x", "of P1")]));
    rig
}

#[test]
fn a_patch_that_no_trusted_key_signed() {
    need_root!();
    let rig = rig("signed");
    let path = rig.file_of("P1");
    let good = fs::read(signature_path(&path)).unwrap();
    let other = Signer::new(&rig.depot, "other");
    other.sign(&path);
    let run = rig.install(&["P1"]);
    run.assert_ended("Rejected", &["P1", "key"]);
    assert!(run.last().starts_with("failed Verification "), "{run:?}");
    rig.signer.sign_legacy(&path);
    rig.install(&["P1"]).assert_ended("Rejected", &["P1", "minisign -H"]);
    fs::write(signature_path(&path), b"").unwrap();
    rig.install(&["P1"]).assert_ended("Rejected", &["P1"]);
    rig.assert_tree(&[]);
    assert_eq!(rig.own("fetch"), [""; 0], "what is not believed is not kept");
    fs::write(signature_path(&path), good).unwrap();
    rig.installed(&["P1"]);
}

#[test]
fn a_patch_altered_or_truncated_in_transfer() {
    need_root!();
    let rig = rig("altered");
    let path = rig.file_of("P1");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&path, &bad).unwrap();
    let run = rig.install(&["P1"]);
    run.assert_ended("Rejected", &["P1"]);
    assert!(run.last().starts_with("failed Verification "), "{run:?}");
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    rig.install(&["P1"]).assert_ended("Rejected", &["the session to the controller broke"]);
    fs::write(&path, [&good[..], b"more"].concat()).unwrap();
    rig.install(&["P1"]).assert_ended("Rejected", &["more bytes were received than announced"]);
    fs::remove_file(&path).unwrap();
    rig.install(&["P1"]).assert_ended("Rejected", &["the controller says"]);
    rig.assert_tree(&[]);
    fs::write(&path, &good).unwrap();
    rig.installed(&["P1"]);
}

/// A valid signature does not make a valid archive, nor the requested patch.
#[test]
fn a_signed_file_that_is_not_this_patch() {
    need_root!();
    let mut rig = rig("another");
    let bytes = patch("P9", [file("srv/x", "of P9")]).bytes();
    rig.add_bytes("P1", &bytes);
    let run = rig.install(&["P1"]);
    run.assert_ended("Rejected", &["the file of P1 has the id P9 in its metadata"]);
    assert!(run.last().starts_with("failed Verification "), "{run:?}");
    for (archive, word) in [
        (Tar::patch("P1").file("files/../../etc/shadow", b"hostile"), "files/../../etc/shadow"),
        (Tar::default().file("files/x", b"no metadata"), "metadata"),
        (Tar::default().file("metadata.toml", (metadata("P1") + "surprise = 1\n").as_bytes()), "surprise"),
    ] {
        rig.add_bytes("P1", &archive.gzip());
        let run = rig.install(&["P1"]);
        run.assert_ended("Rejected", &["P1", word]);
        assert!(run.last().starts_with("failed Verification "), "{run:?}");
    }
    rig.assert_tree(&[]);
    assert_eq!(rig.own("patches"), [""; 0]);
}

#[test]
fn a_manifest_that_is_not_the_requested_set() {
    need_root!();
    let rig = rig("manifest");
    let run = rig.run(&Orders { other_digest: true, ..rig.orders_for(&["P1"]) }, None);
    run.assert_ended("Rejected", &["the repository has changed since"]);
    rig.assert_tree(&[]);
}

#[test]
fn an_installed_id_with_other_content() {
    need_root!();
    let mut rig = rig("content");
    rig.installed(&["P1"]);
    rig.add(patch("P1", [file("srv/x", "other content")]));
    rig.install(&["P1"]).assert_ended("Rejected", &["P1 is installed with content", "remove it first"]);
    assert_eq!(rig.text("srv/x"), "of P1");
    rig.installed(&[]);
    rig.installed(&["P1"]);
    assert_eq!(rig.text("srv/x"), "other content");
}

#[test]
fn the_removal_of_an_unremovable_patch() {
    need_root!();
    let mut rig = rig("unremovable");
    rig.add(patch("P2", [file("srv/y", "of P2")]).says("unremovable = true"));
    rig.installed(&["P1", "P2"]);
    rig.install(&["P1"]).assert_ended("Rejected", &["P2 is unremovable"]);
    rig.becomes(&["P2"]);
}

#[test]
fn a_patch_for_other_hosts_or_releases() {
    need_root!();
    let mut rig = rig("others");
    rig.add(patch("P2", [file("srv/y", "of P2")]).says("nodetypes = [\"controller\"]"));
    rig.install(&["P2"]).assert_ended("Rejected", &["P2 is not for a worker host"]);
    let only = "sw_version = \"2.0\"\napply_active_release_only = true";
    rig.add(patch("P3", [file("srv/y", "of P3")]).says(only));
    rig.install(&["P3"]).assert_ended("Rejected", &["P3 is only for release 2.0, and 1.0 runs here"]);
    rig.add(patch("P4", [file("srv/y", "of P4")]).says("sw_version = \"2.0\""));
    rig.installed(&["P4"]);
    // Too old to add; a patch that is installed may stay and be removed.
    rig.orders.min_sw_version = Some("1.10".to_owned());
    rig.install(&["P1", "P4"]).assert_ended("Rejected", &["P1 is for release 1.0", "accepts 1.10 or later"]);
    rig.orders.min_sw_version = Some("3.0".to_owned());
    rig.installed(&["P4"]);
    rig.becomes(&[]);
}

#[test]
fn a_node_that_is_not_locked() {
    need_root!();
    let mut rig = rig("locked");
    rig.add(patch("P2", [file("srv/y", "of P2")]).says("reboot_required = true"));
    let lock = rig.root.with_file_name("locked");
    rig.orders.lock_file = Some(lock.clone());
    let run = rig.install(&["P1", "P2"]);
    run.assert_ended("Rejected", &[]);
    assert_eq!(run.says("reason"), "Node must be locked.");
    rig.installed(&["P1"]);
    rig.orders.force = true;
    rig.installed(&["P1", "P2"]);
    rig.orders.force = false;
    rig.install(&["P1"]).assert_ended("Rejected", &["Node must be locked."]);
    fs::write(lock, "").unwrap();
    rig.becomes(&["P1"]);
}

#[test]
fn a_transfer_whose_session_broke_is_resumed() {
    need_root!();
    let mut rig = rig("resumed");
    let noise: Vec<u8> = (0..100_000_u32).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
    rig.add(patch("P2", [file("srv/noise", noise)]));
    rig.orders.break_after = Some(1_000_000);
    rig.install(&["P2"])
        .assert_ended("Rejected", &["the session to the controller broke", "continues from there"]);
    let offset = || fs::read_to_string(rig.depot.join("last-offset")).unwrap();
    assert_eq!(offset(), "0");
    assert_eq!(rig.own("fetch").len(), 1);
    let orders = Orders { break_after: None, ..rig.orders_for(&["P2"]) };
    assert_eq!(rig.run(&orders, None).says("outcome"), "Installed");
    assert_eq!(offset(), "1000000");
    rig.assert_tree(&["P2"]);
    assert_eq!(rig.own("fetch"), [""; 0]);
}

#[test]
fn a_file_whose_resumed_part_is_damaged_is_fetched_again_from_its_first_byte() {
    need_root!();
    let mut rig = rig("spoilt");
    let noise: Vec<u8> = (0..9_000_u32).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
    rig.add(patch("P2", [file("srv/noise", noise)]));
    rig.orders.break_after = Some(100_000);
    rig.install(&["P2"]).assert_ended("Rejected", &[]);
    let name = rig.own("fetch").pop().unwrap();
    rig.edit(&format!(".thimble/fetch/{name}"), "spoilt");
    rig.orders.break_after = None;
    rig.becomes(&["P2"]);
}

#[test]
fn a_read_only_root() {
    need_root!();
    let mut rig = rig("read-only");
    let root = rig.root.with_file_name("mounted");
    let mount = Mount::tmpfs(&root, "size=4m");
    mount.remount("ro");
    rig.orders.root = root.clone();
    let run = rig.install(&["P1"]);
    let words = "failed Refused the root is on a read-only filesystem: make it writable \
                 (`mount -o remount,rw`) and install again";
    assert_eq!(run.last(), words);
    let run = rig.recover();
    assert_eq!(run.last(), "done");
    assert!(!run.says("digest").is_empty(), "nothing is installed, and that is said");
    // What was installed before is still reported.
    mount.remount("rw");
    rig.installed(&["P1"]);
    mount.remount("ro");
    let run = rig.recover();
    assert_eq!((run.installed(), run.last()), (vec!["P1"], "done"), "{run:?}");
    let run = rig.install(&[]);
    assert!(run.last().starts_with("failed ") && run.last().contains("read-only"), "{run:?}");
    assert_eq!(run.installed(), ["P1"]);
}

#[test]
fn a_damaged_record_is_left_alone_and_named() {
    need_root!();
    let rig = rig("damaged");
    rig.installed(&["P1"]);
    let path = rig.root.join(".thimble/installed");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[20] ^= 1;
    fs::write(&path, &bad).unwrap();
    let run = rig.install(&[]);
    assert!(run.last().contains("/.thimble/installed is damaged"), "{run:?}");
    assert!(rig.recover().last().contains("/.thimble/installed is damaged"));
    assert_eq!(fs::read(&path).unwrap(), bad);
    let mut newer = good[..good.len() - 32].to_vec();
    newer[4] = 9;
    newer.extend(blake3::hash(&newer).as_bytes());
    fs::write(&path, &newer).unwrap();
    assert!(rig.recover().last().contains("another version of thimble"));
    assert_eq!(fs::read(&path).unwrap(), newer);
    fs::write(&path, &good).unwrap();
    rig.becomes(&[]);
}

#[test]
fn a_damaged_journal_is_left_alone_and_named() {
    need_root!();
    let rig = rig("journal");
    rig.installed(&["P1"]);
    rig.edit(".thimble/journal", "nothing that an installer writes");
    let run = rig.install(&[]);
    assert!(run.last().contains("/.thimble/journal is damaged"), "{run:?}");
    assert_eq!(run.installed(), ["P1"]);
    fs::remove_file(rig.root.join(".thimble/journal")).unwrap();
    rig.becomes(&[]);
}
