//! Many controllers at once, and one that keeps coming and going: all agree in the
//! end, and what they say to get there is bounded.

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

/// Each has a patch of its own when all start together.
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
    let before = cluster.said_by_controllers();
    let started = Instant::now();
    cluster.nodes.iter_mut().for_each(Node::spawn);
    cluster.nodes.iter_mut().for_each(Node::answers);
    all_hold(&cluster, controllers as u32);
    cluster.agree("one digest");
    let (elapsed, said) = (started.elapsed(), cluster.said_by_controllers() - before);
    println!("{controllers} controllers start together: one repository in {elapsed:?}, {said:?}");
    (elapsed, said)
}

#[test]
fn three_and_eight_controllers_that_start_together_agree_with_bounded_traffic() {
    need_root!();
    for controllers in [3, 8] {
        let (elapsed, said) = starts_together(&format!("crowd-{controllers}"), controllers);
        let pairs = (controllers * (controllers - 1)) as u64;
        // Each reads each other's map when they meet, and may again for each of the
        // patches that the others bring it; each fetches files from some of them.
        assert!(said.sessions <= pairs * 6, "{said:?}");
        // In each interval and direction: Hello, its ack, and news.
        let intervals = 2 + elapsed.as_millis() as u64 / 200;
        assert!(said.all() <= pairs * 4 * intervals, "{said:?}");
    }
}

#[test]
fn one_that_restarts_every_second_keeps_nobody_from_agreeing() {
    need_root!();
    const TIMES: u64 = 5;
    let mut cluster = Cluster::of("restless", 3, 0).timer("sync_wait_ms", 100).start();
    let before = cluster.said_by_controllers();
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
    let said = cluster.said_by_controllers() - before;
    let seconds = 1 + started.elapsed().as_secs();
    println!("one of three restarts {TIMES} times in {:?}: {said:?}", started.elapsed());
    // A start is three Hellos, and two maps read each way.
    assert!(said.sessions <= TIMES * 16, "{said:?}");
    assert!(said.all() <= 3 * 5 * 8 * seconds, "{said:?}");
}
