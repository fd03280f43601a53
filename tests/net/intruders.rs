//! Peers that claim to be controllers without the key, and a controller with an absurd
//! map.

use std::time::Duration;

use thimble::repo::entry::EntryState;
use thimble::store::Store;
use thimble::types::{Digest, NodeId, PatchId};
use thimble::wire::frame::{Frame, Purpose, Role};
use thimble::wire::messages::{Hello, Message, SyncReq};

use crate::cluster::{Cluster, Node};
use crate::forge::with_keys_of;
use crate::over::{Datagrams, To};
use crate::patch::Patch;
use crate::sessions::Opened;
use crate::wait;

#[test]
fn a_hello_without_a_controllers_key_is_refused_and_starts_no_pull() {
    need_root!();
    let cluster = Cluster::of("spoofed", 2, 1).start();
    let socket = Datagrams::new(&cluster.stranger);
    let digest = Digest([0xEE; 32]);
    let messages = [
        Message::Hello(Hello { op_counter: u64::MAX, digest }),
        Message::SyncReq(SyncReq { op_counter: u64::MAX, digest }),
    ];
    let mut thief = with_keys_of(&cluster.nodes[2], Role::Controller, Some(NodeId(0xBAD)));
    let refused = || cluster.controllers().iter().map(|one| one.refused("tag")).sum::<u64>();
    let (before, said) = (refused(), cluster.sent_by_controllers());
    for message in &messages {
        socket.send(&thief.encode(message, NodeId(0)), To::All(Role::Controller));
    }
    wait::until_true("both controllers count both", || refused() == before + 4);
    assert_eq!((cluster.sent_by_controllers() - said).sessions, 0);
    for controller in cluster.controllers() {
        let status = controller.status();
        assert_eq!((status.neighbours.len(), status.row.op_counter), (1, 0), "{status:?}");
    }
}

#[test]
fn a_stolen_agents_key_opens_no_controller_session() {
    need_root!();
    let cluster = Cluster::of("stolen", 2, 1).start();
    for (role, purpose) in [
        (Role::Controller, Purpose::Pull),
        (Role::Controller, Purpose::Blobs),
        (Role::Agent, Purpose::Pull),
        (Role::Agent, Purpose::Blobs),
    ] {
        let mut opened = Opened::with_keys_of(&cluster, &cluster.nodes[2], role, purpose, &[Frame::MapReq]);
        assert!(opened.is_refused(), "{role:?} {purpose:?}");
    }
    let agent = &cluster.nodes[2];
    let mut good = Opened::with_keys_of(&cluster, agent, Role::Agent, Purpose::Fetch, &[]);
    assert!(!good.is_refused(), "an agent's key opens a session to fetch");
    cluster.agree("the controllers go on");
}

#[test]
fn an_entry_with_an_absurd_counter_is_refused_and_the_rest_of_the_map_merged() {
    need_root!();
    let mut cluster = Cluster::of("leap", 2, 0).timer("sync_wait_ms", 500).start();
    for id in ["SOUND-1", "MAD-1"] {
        Patch::new(&cluster, id).file(&format!("etc/{id}"), b"x").uploaded_at(&cluster, 0);
    }
    cluster.agree("both have both");
    wait::until_true("and their files", || cluster.nodes[1].holds_all_files());
    cluster.nodes[1].stop();
    {
        let mut store = Store::open(&cluster.nodes[1].state_dir()).unwrap();
        let mut changed = store.entries().to_vec();
        for entry in &mut changed {
            entry.state = EntryState::Applied;
            let is_mad = entry.id.as_str() == "MAD-1";
            entry.stamp.counter = if is_mad { u64::MAX } else { entry.stamp.counter + 5 };
        }
        store.commit(&changed).unwrap();
    }
    cluster.nodes[1].start();
    let first = &cluster.nodes[0];
    wait::until_true("the valid entry is merged", || first.state_of("SOUND-1") == Some(EntryState::Applied));
    assert_eq!(first.state_of("MAD-1"), Some(EntryState::Available));
    assert!(first.status().row.op_counter < 1_000);
    wait::until_true("the other is refused by name", || first.log().contains("MAD-1"));

    let before = cluster.sent_by_controllers();
    std::thread::sleep(Duration::from_millis(2_000));
    let said = cluster.sent_by_controllers() - before;
    println!("maps that cannot be the same, in 10 hello intervals: {said:?}");
    assert!(said.sessions <= 4 && said.all() <= 2 * 3 * 12, "{said:?}");
    Patch::new(&cluster, "AFTER-1").file("etc/after", b"x").uploaded_at(&cluster, 0);
    wait::until_true("changes still arrive", || cluster.nodes[1].patch("AFTER-1").is_some());
}

#[test]
fn a_committed_patch_that_nobody_has_is_deleted_by_an_operator() {
    need_root!();
    let mut cluster = Cluster::of("nowhere", 2, 1).start();
    Patch::new(&cluster, "SOUND-1").file("etc/sound", b"x").uploaded_at(&cluster, 0);
    cluster.agree("both have it");
    wait::until_true("and its file", || cluster.nodes[1].holds_all_files());
    let liar = &mut cluster.nodes[1];
    liar.stop();
    {
        let mut store = Store::open(&liar.state_dir()).unwrap();
        let mut lie = store.entries()[0].clone();
        (lie.id, lie.state) = (PatchId::new("NOWHERE-1").unwrap(), EntryState::Committed);
        lie.hash.0[0] ^= 1;
        lie.stamp.counter += 5;
        store.commit(&[lie]).unwrap();
    }
    liar.start();
    let first = &cluster.nodes[0];
    let incomplete =
        |node: &Node| node.json(&["status"])["troubles"].to_string().contains("thimble delete NOWHERE-1");
    wait::until_true("both say what to do", || incomplete(first) && incomplete(&cluster.nodes[1]));
    let host = cluster.host(2)["hostname"].as_str().unwrap().to_owned();
    let refused = first.thimble(&["host-install", &host]).failed(1);
    assert!(refused.contains("the file of NOWHERE-1 is not here"), "{refused}");
    let refused = first.thimble(&["remove", "NOWHERE-1"]).failed(1);
    assert!(refused.contains("committed"), "{refused}");

    wait::until_true("what the hosts have is known", || first.is_settled());
    first.thimble(&["delete", "NOWHERE-1"]).ok();
    wait::until_true("neither is incomplete", || !incomplete(first) && !incomplete(&cluster.nodes[1]));
    first.thimble(&["apply", "SOUND-1"]).ok();
    first.thimble(&["host-install", &host]).ok();
    assert_eq!(std::fs::read(cluster.nodes[2].root().join("etc/sound")).unwrap(), b"x");
}
