//! Controllers that return: restored from an old backup, with an empty disk, or after a
//! long time.

use std::collections::BTreeMap;

use thimble::repo::entry::EntryState::{Applied, Available};
use thimble::repo::entry::{Entry, Stamp};
use thimble::store::Store;

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::wait;

/// Every change that any controller has had on its disk, by its stamp.
#[derive(Default)]
struct Stamps(BTreeMap<Stamp, Entry>);

impl Stamps {
    /// Records a controller's entries, and checks that no stamp is used for two changes.
    fn note(&mut self, controller: &Node) {
        for entry in Store::open(&controller.state_dir()).unwrap().entries() {
            let noted = self.0.entry(entry.stamp).or_insert_with(|| entry.clone());
            assert_eq!(noted, entry, "one stamp for two changes");
        }
    }

    fn note_all(&mut self, cluster: &Cluster) {
        cluster.controllers().iter().for_each(|controller| self.note(controller));
    }
}

fn upload(cluster: &Cluster, at: usize, id: &str) {
    Patch::new(cluster, id).file(&format!("etc/{id}"), id.as_bytes()).uploaded_at(cluster, at);
}

fn both_have(cluster: &Cluster, ids: &[&str]) {
    wait::until_true("both controllers have all patches and their files", || {
        cluster.controllers().iter().all(|controller| {
            let has = |id: &&str| controller.patch(id).is_some();
            ids.iter().all(has) && controller.holds_all_files()
        })
    });
}

#[test]
fn a_controller_restored_from_an_old_backup_loses_no_entry_and_reuses_no_stamp() {
    need_root!();
    let mut cluster = Cluster::of("backup", 2, 0).timer("sync_wait_ms", 1_000).start();
    let mut stamps = Stamps::default();
    upload(&cluster, 1, "OLD-1");
    cluster.nodes[1].stop();
    let backup = cluster.nodes[1].back_up("backup");
    cluster.nodes[1].start();
    upload(&cluster, 1, "NEW-1");
    both_have(&cluster, &["OLD-1", "NEW-1"]);
    cluster.nodes[1].thimble(&["apply", "OLD-1"]).ok();
    stamps.note_all(&cluster);

    cluster.nodes[1].stop();
    cluster.nodes[1].restore(&backup);
    cluster.nodes[1].start();
    // This waits until it takes changes.
    upload(&cluster, 1, "AFTER-1");
    both_have(&cluster, &["OLD-1", "NEW-1", "AFTER-1"]);
    cluster.agree("one digest");
    assert_eq!(cluster.nodes[1].state_of("OLD-1"), Some(Applied));
    stamps.note_all(&cluster);

    // Once more, while the other controller is down.
    cluster.nodes[0].kill();
    cluster.nodes[1].stop();
    cluster.nodes[1].restore(&backup);
    cluster.nodes[1].start();
    upload(&cluster, 1, "ALONE-1");
    cluster.nodes[1].thimble(&["apply", "ALONE-1"]).ok();
    stamps.note(&cluster.nodes[1]);
    cluster.nodes[0].start();
    both_have(&cluster, &["OLD-1", "NEW-1", "AFTER-1", "ALONE-1"]);
    cluster.agree("one digest");
    assert_eq!(cluster.nodes[0].state_of("OLD-1"), Some(Applied));
    assert_eq!(cluster.nodes[0].state_of("ALONE-1"), Some(Applied));
    stamps.note_all(&cluster);
}

#[test]
fn a_wiped_controller_gets_all_entries_back_and_keeps_those_uploaded_while_alone() {
    need_root!();
    let mut cluster = Cluster::of("wiped", 2, 0).timer("sync_wait_ms", 1_000).start();
    let mut stamps = Stamps::default();
    upload(&cluster, 0, "KEPT-1");
    upload(&cluster, 1, "KEPT-2");
    both_have(&cluster, &["KEPT-1", "KEPT-2"]);
    cluster.nodes[1].thimble(&["apply", "KEPT-2"]).ok();
    stamps.note_all(&cluster);
    cluster.nodes[1].kill();
    cluster.nodes[1].wipe();
    cluster.cut(&[0], &[1]);
    cluster.nodes[1].start();
    upload(&cluster, 1, "ALONE-1");
    assert_eq!(cluster.nodes[1].patches().len(), 1);
    stamps.note(&cluster.nodes[1]);
    cluster.heal();
    both_have(&cluster, &["KEPT-1", "KEPT-2", "ALONE-1"]);
    cluster.agree("one digest");
    assert_eq!(cluster.nodes[1].state_of("KEPT-2"), Some(Applied));
    stamps.note_all(&cluster);
}

#[test]
fn a_controller_that_was_off_for_long_brings_back_no_deleted_patch() {
    need_root!();
    let cluster = Cluster::of("long-off", 2, 0).timer("sync_wait_ms", 100);
    let mut cluster = cluster.timer("controller_lost_ms", 1_500).start();
    for id in ["DELETED-1", "PURGED-1", "STAYS-1"] {
        upload(&cluster, 0, id);
    }
    both_have(&cluster, &["DELETED-1", "PURGED-1", "STAYS-1"]);
    cluster.nodes[1].kill();
    let first = &cluster.nodes[0];
    wait::until_true("it may delete", || first.thimble(&["delete", "DELETED-1"]).code == 0);
    cluster.nodes[1].start();
    cluster.agree("one digest");
    assert!(cluster.nodes[1].patch("DELETED-1").is_none());
    assert_eq!(cluster.nodes[1].state_of("STAYS-1"), Some(Available));

    // Off again: it is dropped, and what it could bring back is purged meanwhile.
    cluster.nodes[1].kill();
    let first = &cluster.nodes[0];
    first.thimble(&["delete", "PURGED-1"]).ok();
    let said = first.thimble(&["purge"]).failed(1);
    assert!(said.contains("controller-1"), "{said}");
    wait::until_true("the other is lost, and dropped", || {
        first.thimble(&["drop-controller", "controller-1"]).code == 0
    });
    first.thimble(&["purge"]).ok();
    assert_eq!(first.status().row.tombstones, 0);
    cluster.nodes[1].start();
    cluster.agree("one digest");
    for controller in cluster.controllers() {
        let ids: Vec<_> = controller.patches().iter().map(|patch| patch.id.to_string()).collect();
        assert_eq!(ids, ["STAYS-1"], "{}", controller.name);
    }
}
