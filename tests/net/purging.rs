//! A repository full of deleted patches, and its purge.

use thimble::limits;
use thimble::repo::entry::{Entry, EntryMeta, EntryState, Stamp};
use thimble::store::Store;
use thimble::types::{Hash, PatchId};

use crate::cluster::Cluster;
use crate::patch::Patch;
use crate::wait;

fn deleted(number: u64, replica: u64) -> Entry {
    Entry {
        id: PatchId::new(&format!("DELETED-{number}")).unwrap(),
        hash: Hash([7; 32]),
        size_bytes: 1,
        state: EntryState::Deleted,
        stamp: Stamp { counter: 1 + number, replica },
        meta: EntryMeta::default(),
    }
}

#[test]
fn a_full_repository_refuses_uploads_until_it_is_purged_with_all_controllers_present() {
    need_root!();
    let cluster = Cluster::of("purge", 2, 0).timer("controller_lost_ms", 2_000);
    let cluster = cluster.timer("sync_wait_ms", 5_000);
    {
        let mut store = Store::open(&cluster.nodes[0].state_dir()).unwrap();
        let replica = store.replica();
        let all: Vec<_> = (0..limits::ENTRIES as u64).map(|number| deleted(number, replica)).collect();
        store.commit(&all).unwrap();
    }
    let mut cluster = cluster.start();
    for controller in cluster.controllers() {
        let row = controller.status().row;
        assert_eq!((row.entries as usize, row.tombstones as usize), (limits::ENTRIES, limits::ENTRIES));
    }
    let patch = Patch::new(&cluster, "ROOM-1").file("etc/room", b"x").signed(&cluster);
    let upload = ["upload", patch.to_str().unwrap()];
    let said = cluster.nodes[0].thimble(&upload).failed(1);
    assert!(said.contains("full") && said.contains("purge"), "{said}");
    assert!(cluster.nodes[0].patches().is_empty());

    cluster.nodes[1].kill();
    wait::until_true("the other is lost", || cluster.nodes[0].status().neighbours[0].is_lost);
    let said = cluster.nodes[0].thimble(&["purge"]).failed(1);
    assert!(said.contains("controller-1") && said.contains("not present"), "{said}");
    assert_eq!(cluster.nodes[0].status().row.tombstones as usize, limits::ENTRIES);

    cluster.nodes[1].start();
    cluster.agree("all are there");
    let said = cluster.nodes[1].thimble(&["purge"]).ok();
    assert!(said.contains("1024 deleted patches are purged"), "{said}");
    cluster.agree("the other follows");
    for controller in cluster.controllers() {
        let row = controller.status().row;
        assert_eq!((row.entries, row.tombstones), (0, 0), "{}", controller.name);
        assert!(row.purge_floor >= limits::ENTRIES as u64);
    }
    let said = cluster.nodes[0].thimble(&upload).ok();
    assert!(said.contains("Durable here, and on controller-1."), "{said}");
    assert_eq!(cluster.nodes[1].state_of("ROOM-1"), Some(EntryState::Available));
}
