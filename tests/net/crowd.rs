//! Many controllers that start together, and one that keeps restarting: all agree in
//! the end, with bounded traffic.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, Node};
use crate::patch::Patch;
use crate::switch::Traffic;
use crate::wait;

fn upload(cluster: &Cluster, at: usize, id: &str) {
    Patch::new(cluster, id).file(&format!("etc/{id}"), id.as_bytes()).uploaded_at(cluster, at);
}

fn all_hold(cluster: &Cluster, patches: u32) {
    wait::until_true("all have all patches and their files", || {
        cluster.controllers().iter().all(|controller| {
            let row = controller.status().row;
            row.patches == patches && row.blobs_missing == 0 && row.workers == 0
        })
    });
}

/// Starts controllers together that have one patch each of their own.
fn starts_together(name: &str, controllers: usize) -> (Duration, Traffic) {
    let all: Vec<_> = (0..controllers).collect();
    let mut cluster = Cluster::of(name, controllers, 0).timer("sync_wait_ms", 50);
    for number in 0..controllers {
        cluster.cut(&[number], &all);
        cluster.nodes[number].start();
        upload(&cluster, number, &format!("OWN-{number}"));
        cluster.nodes[number].stop();
    }
    cluster.heal();
    let before = cluster.sent_by_controllers();
    let started = Instant::now();
    cluster.nodes.iter_mut().for_each(Node::spawn);
    cluster.nodes.iter_mut().for_each(Node::answers);
    all_hold(&cluster, controllers as u32);
    cluster.agree("one digest");
    let (elapsed, sent) = (started.elapsed(), cluster.sent_by_controllers() - before);
    println!("{controllers} controllers start together: one repository in {elapsed:?}, {sent:?}");
    (elapsed, sent)
}

#[test]
fn three_and_eight_controllers_that_start_together_agree_with_bounded_traffic() {
    need_root!();
    for controllers in [3, 8] {
        let (elapsed, sent) = starts_together(&format!("crowd-{controllers}"), controllers);
        let pairs = (controllers * (controllers - 1)) as u64;
        // Each pulls each other's map at the first contact and possibly again for each
        // merged patch, and fetches files from some of the others.
        assert!(sent.sessions <= pairs * 6, "{sent:?}");
        // In each interval and direction: Hello, HelloAck, and requests to sync.
        let intervals = 2 + elapsed.as_millis() as u64 / 200;
        assert!(sent.all() <= pairs * 4 * intervals, "{sent:?}");
    }
}

#[test]
fn a_controller_that_restarts_every_second_does_not_keep_the_others_from_agreeing() {
    need_root!();
    const TIMES: u64 = 5;
    let mut cluster = Cluster::of("restless", 3, 0).timer("sync_wait_ms", 100).start();
    let before = cluster.sent_by_controllers();
    let started = Instant::now();
    for time in 0..TIMES {
        let next = Instant::now() + Duration::from_secs(1);
        cluster.nodes[2].kill();
        upload(&cluster, (time % 2) as usize, &format!("DURING-{time}"));
        cluster.nodes[2].start();
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    all_hold(&cluster, TIMES as u32);
    cluster.agree("one digest");
    let sent = cluster.sent_by_controllers() - before;
    let seconds = 1 + started.elapsed().as_secs();
    println!("one of three restarts {TIMES} times in {:?}: {sent:?}", started.elapsed());
    // A start takes three Hellos and up to two pulls each way.
    assert!(sent.sessions <= TIMES * 16, "{sent:?}");
    assert!(sent.all() <= 3 * 5 * 8 * seconds, "{sent:?}");
}
