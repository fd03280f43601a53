//! Patches that have the differences to others, through daemons.

use std::fs;

use crate::cluster::Cluster;
use crate::patch::Patch;
use crate::wait;

/// Text that no compression makes small, with this line in the middle.
fn text(line: &str) -> Vec<u8> {
    let mut state = 9u64;
    let mut lines: Vec<String> = Vec::new();
    for _ in 0..2_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        lines.push(format!("{state:x}"));
    }
    lines.insert(1_000, line.to_owned());
    lines.join("\n").into_bytes()
}

#[test]
fn a_difference_travels_in_place_of_the_file() {
    need_root!();
    let cluster = Cluster::of("differences", 1, 2).start();
    let (controller, first, second) = (&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]);
    let root = first.root();
    let has = |line: &str| fs::read(root.join("usr/lib/libapp.so")).ok() == Some(text(line));
    let version = |id: &str| Patch::new(&cluster, id).file("usr/lib/libapp.so", &text(id));
    let size = |id: &str| cluster.dir.join(format!("{id}.patch")).metadata().unwrap().len();

    let _one = version("APP-1").file("usr/share/app", b"as it is").applied(&cluster);
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(has("APP-1"));

    let mut before = vec!["APP-1".to_owned()];
    for number in 2..=5 {
        let id = format!("APP-{number}");
        let next = version(&id).file("usr/share/app", b"as it is").from(&cluster, &before);
        let _next = next.applied(&cluster);
        assert!(size(&id) < size("APP-1") / 20, "{id}: {}", size(&id));
        if number == 2 {
            let shown = controller.thimble(&["show", "APP-2"]).ok();
            assert!(shown.contains("/usr/lib/libapp.so (difference to APP-1)"), "{shown}");
            assert!(!shown.contains("/usr/share/app"), "{shown}");
        }
        let sent = cluster.passed(0, 1);
        cluster.thimble(&["host-install", "agent-1"]).ok();
        assert!(has(&id), "{id}");
        assert!(cluster.passed(0, 1) - sent < size("APP-1") / 2, "the whole file went over the network");
        before.push(id);
    }

    // Of a file that was changed by hand the old patch is fetched.
    cluster.thimble(&["remove", "APP-5", "APP-4", "APP-3", "APP-2"]).ok();
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(has("APP-1"));
    fs::write(root.join("usr/lib/libapp.so"), "by hand").unwrap();
    cluster.thimble(&["apply", "APP-2"]).ok();
    cluster.thimble(&["host-install", "agent-1"]).ok();
    assert!(has("APP-2"));
    assert_eq!(fs::read(root.join("usr/lib/libapp.so.thimble-saved")).unwrap(), b"by hand");

    // A host that has nothing yet takes both at once.
    cluster.thimble(&["host-install", "agent-2"]).ok();
    assert_eq!(fs::read(second.root().join("usr/lib/libapp.so")).unwrap(), text("APP-2"));
    wait::until_true("both are current", || {
        ["agent-1", "agent-2"].iter().all(|name| controller.host(name)["current"] == "yes")
    });
}
