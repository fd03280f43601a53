//! Network partitions between controllers: changes on each side, and their merge.

use std::fs;
use std::time::{Duration, Instant};

use thimble::repo::entry::EntryState::{self, Applied, Available, Committed};

use crate::cluster::{Cluster, Node};
use crate::over;
use crate::patch::Patch;
use crate::wait;

/// Two controllers and an agent; changes do not wait long for a lost controller.
fn two(name: &str) -> Cluster {
    Cluster::of(name, 2, 1).timer("sync_wait_ms", 100).start()
}

/// Waits until both controllers have the files of all patches that they know.
fn both_hold(cluster: &Cluster) {
    wait::until_true("both hold the files", || {
        cluster.controllers().iter().all(|controller| controller.holds_all_files())
    });
}

fn upload(cluster: &Cluster, at: usize, id: &str, content: &[u8]) -> String {
    Patch::new(cluster, id).file(&format!("etc/{id}"), content).uploaded_at(cluster, at)
}

/// Both controllers have a patch in this state.
fn both_see(cluster: &Cluster, id: &str, state: Option<EntryState>) {
    for controller in cluster.controllers() {
        assert_eq!(controller.state_of(id), state, "{id} on {}", controller.name);
    }
}

fn is_settled(controller: &Node) {
    wait::until_true("it is known what hosts have", || controller.is_settled());
}

#[test]
fn changes_to_different_patches_survive_and_merge_within_two_hello_intervals() {
    need_root!();
    const INTERVAL: Duration = Duration::from_millis(4_000);
    let cluster = Cluster::of("apart", 2, 1).timer("hello_interval_ms", INTERVAL.as_millis() as u64);
    let cluster = cluster.timer("sync_wait_ms", 100).start();
    upload(&cluster, 0, "GONE-1", b"x");
    upload(&cluster, 0, "BOTH-1", b"x");
    both_hold(&cluster);
    is_settled(&cluster.nodes[1]);

    cluster.cut(&[0], &[1]);
    let said = upload(&cluster, 0, "LEFT-1", b"x");
    // Over TIPC or on a slow machine, the loss may be detected by then.
    let is_told = ["controller-1 has not confirmed it yet", "controller-1 is lost"];
    assert!(is_told.iter().any(|told| said.contains(told)), "{said}");
    upload(&cluster, 1, "RIGHT-1", b"x");
    cluster.nodes[0].thimble(&["apply", "LEFT-1", "BOTH-1"]).ok();
    cluster.nodes[1].thimble(&["apply", "RIGHT-1"]).ok();
    cluster.nodes[1].thimble(&["delete", "GONE-1"]).ok();
    cluster.heal();
    let healed = Instant::now();
    cluster.agree("one digest");
    assert!(healed.elapsed() < 2 * INTERVAL + over::MENDED_WITHIN, "{:?}", healed.elapsed());
    for id in ["LEFT-1", "BOTH-1", "RIGHT-1"] {
        both_see(&cluster, id, Some(Applied));
    }
    both_see(&cluster, "GONE-1", None);
    both_hold(&cluster);
    cluster.nodes[1].thimble(&["host-install", "agent-1"]).ok();
    for controller in cluster.controllers() {
        wait::until_true("each calls the host current", || controller.host("agent-1")["current"] == "yes");
    }
}

#[test]
fn apply_and_delete_of_one_patch_on_two_sides_merge_and_the_loser_is_reported() {
    need_root!();
    let cluster = two("disputed");
    upload(&cluster, 0, "DISPUTED-1", b"x");
    both_hold(&cluster);
    is_settled(&cluster.nodes[1]);
    cluster.cut(&[0], &[1]);
    cluster.nodes[0].thimble(&["apply", "DISPUTED-1"]).ok();
    // One more change, for the higher counter.
    upload(&cluster, 1, "OTHER-1", b"x");
    cluster.nodes[1].thimble(&["delete", "DISPUTED-1"]).ok();
    cluster.heal();
    cluster.agree("one digest");
    both_see(&cluster, "DISPUTED-1", None);
    let [replaced, winner] = [0, 1].map(|number| cluster.nodes[number].status().replaced);
    let line = replaced.iter().find(|line| line.contains("Applied") && line.contains("Deleted"));
    let line = line.unwrap_or_else(|| panic!("no line names both changes: {replaced:?}"));
    assert!(line.contains("DISPUTED-1"), "{line}");
    assert!(cluster.nodes[0].log().contains(line.as_str()), "it is logged too");
    assert_eq!(winner, [""; 0]);
}

#[test]
fn one_id_uploaded_with_different_content_on_two_sides_merges_to_one_patch() {
    need_root!();
    let cluster = two("twice");
    cluster.cut(&[0], &[1]);
    upload(&cluster, 0, "TWICE-1", b"left");
    upload(&cluster, 1, "BEFORE-1", b"x");
    upload(&cluster, 1, "TWICE-1", b"right");
    let [left, right] = [0, 1].map(|number| cluster.nodes[number].patch("TWICE-1").unwrap().hash);
    assert_ne!(left, right);
    cluster.heal();
    cluster.agree("one digest");
    both_hold(&cluster);
    for controller in cluster.controllers() {
        assert_eq!(controller.patch("TWICE-1").unwrap().hash, right, "{}", controller.name);
    }
    let replaced = cluster.nodes[0].status().replaced;
    assert!(replaced.iter().any(|line| line.contains("TWICE-1")), "{replaced:?}");
    cluster.nodes[0].thimble(&["apply", "TWICE-1"]).ok();
    cluster.nodes[0].thimble(&["host-install", "agent-1"]).ok();
    assert_eq!(fs::read(cluster.nodes[2].root().join("etc/TWICE-1")).unwrap(), b"right");
}

#[test]
fn a_commit_on_one_side_wins_over_a_remove_on_the_other_and_frees_kept_files() {
    need_root!();
    let cluster = two("final");
    upload(&cluster, 0, "BASE-1", b"x");
    let first = Patch::new(&cluster, "FINAL-1").metadata("requires = [\"BASE-1\"]");
    first.file("etc/kept", b"new\n").uploaded_at(&cluster, 0);
    both_hold(&cluster);
    fs::create_dir_all(cluster.nodes[2].root().join("etc")).unwrap();
    fs::write(cluster.nodes[2].root().join("etc/kept"), "old\n").unwrap();
    cluster.nodes[0].thimble(&["apply", "BASE-1", "FINAL-1"]).ok();
    cluster.nodes[0].thimble(&["host-install", "agent-1"]).ok();
    let kept = || {
        let mut found = std::process::Command::new("grep");
        found.args(["-rlx", "old"]).arg(cluster.nodes[2].root().join(".thimble"));
        found.output().unwrap().status.success()
    };
    assert!(kept(), "the file of the base system is kept");
    cluster.agree("both know what is applied");

    cluster.cut(&[0], &[1]);
    let said = cluster.nodes[0].thimble(&["commit", "--yes", "FINAL-1"]).ok();
    assert!(said.contains("BASE-1"), "what it requires goes with it: {said}");
    for _ in 0..3 {
        cluster.nodes[1].thimble(&["remove", "FINAL-1"]).ok();
        cluster.nodes[1].thimble(&["apply", "FINAL-1"]).ok();
    }
    cluster.nodes[1].thimble(&["remove", "FINAL-1", "BASE-1"]).ok();
    cluster.heal();
    cluster.agree("one digest");
    both_see(&cluster, "FINAL-1", Some(Committed));
    both_see(&cluster, "BASE-1", Some(Committed));
    assert!(kept(), "an install frees it, not a commit");
    cluster.nodes[1].thimble(&["host-install", "agent-1"]).ok();
    assert!(!kept());
    assert_eq!(fs::read(cluster.nodes[2].root().join("etc/kept")).unwrap(), b"new\n");
}

#[test]
fn a_patch_whose_requirement_was_removed_on_the_other_side_is_blocked_on_both() {
    need_root!();
    let cluster = two("broken");
    upload(&cluster, 0, "P-1", b"x");
    let needy = Patch::new(&cluster, "Q-1").metadata("requires = [\"P-1\"]");
    needy.file("etc/Q-1", b"x").uploaded_at(&cluster, 0);
    both_hold(&cluster);
    cluster.nodes[0].thimble(&["apply", "P-1"]).ok();
    cluster.nodes[0].thimble(&["host-install", "agent-1"]).ok();
    cluster.agree("both know what is applied");

    cluster.cut(&[0], &[1]);
    cluster.nodes[0].thimble(&["apply", "Q-1"]).ok();
    cluster.nodes[1].thimble(&["remove", "P-1"]).ok();
    cluster.heal();
    cluster.agree("one digest");
    for controller in cluster.controllers() {
        let patch = controller.patch("Q-1").unwrap();
        assert_eq!((patch.repo_state, patch.blocked_by.unwrap().as_str()), (Applied, "P-1"));
        assert!(controller.thimble(&["query"]).ok().contains("blocked: requires P-1"));
    }
    let agent = &cluster.nodes[2];
    assert!(agent.root().join("etc/P-1").exists(), "nobody asked for an install");
    cluster.nodes[1].thimble(&["host-install", "agent-1"]).ok();
    assert!(!agent.root().join("etc/P-1").exists() && !agent.root().join("etc/Q-1").exists());
    cluster.nodes[1].thimble(&["apply", "P-1"]).ok();
    cluster.agree("the other controller knows that too");
    cluster.nodes[0].thimble(&["host-install", "agent-1"]).ok();
    assert!(agent.root().join("etc/P-1").exists() && agent.root().join("etc/Q-1").exists());
    both_see(&cluster, "Q-1", Some(Applied));
    assert!(cluster.nodes[1].patch("Q-1").unwrap().blocked_by.is_none());
}

#[test]
fn a_wire_cut_in_one_direction_loses_no_change() {
    need_root!();
    let cluster = two("one-way");
    for (from, to) in [(0, 1), (1, 0)] {
        cluster.cut_one_way(&[from], &[to]);
        upload(&cluster, from, &format!("FROM-{from}"), b"x");
        upload(&cluster, to, &format!("TO-{to}"), b"x");
        cluster.heal();
        cluster.agree("one digest");
    }
    for id in ["FROM-0", "FROM-1", "TO-0", "TO-1"] {
        both_see(&cluster, id, Some(Available));
    }
    both_hold(&cluster);
}

#[test]
fn a_controller_relays_changes_between_two_that_cannot_reach_each_other() {
    need_root!();
    let cluster = Cluster::of("middle", 3, 0).timer("sync_wait_ms", 100).start();
    cluster.cut(&[0], &[2]);
    upload(&cluster, 0, "END-0", b"x");
    upload(&cluster, 2, "END-2", b"x");
    wait::until_true("all have both patches, and their files", || {
        cluster.controllers().iter().all(|controller| {
            let row = controller.status().row;
            row.patches == 2 && row.blobs_missing == 0 && row.workers == 0
        })
    });
    cluster.heal();
    cluster.agree("one digest");
}
