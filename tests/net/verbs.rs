//! The commands known from sw-patch, run on a real controller.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::cluster::Cluster;
use crate::node::{Node, thimble};
use crate::patch::Patch;
use crate::wait;

/// A patch that requires these.
fn requiring(cluster: &Cluster, id: &str, requires: &[&str]) -> Patch {
    let patch = Patch::new(cluster, id).file(&format!("etc/{id}"), id.as_bytes());
    patch.metadata(&format!("requires = {requires:?}"))
}

/// Runs a command as the user `nobody`, who has no rights of its own.
fn as_nobody(node: &Node, arguments: &[&str]) -> Output {
    let binary = node.dir.join("thimble");
    // Copied by another process. A file that this process writes is also open in children
    // forked meanwhile, and cannot be executed (ETXTBSY).
    assert!(Command::new("cp").arg(thimble()).arg(&binary).status().unwrap().success());
    let mut dir = node.dir.as_path();
    // Everybody may reach the binary and the socket, as on a node.
    while dir != std::env::temp_dir() {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        dir = dir.parent().unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary);
    command.arg("--socket").arg(node.control_socket()).args(arguments).output().unwrap()
}

#[test]
fn changes_without_the_right_to_change_end_with_exit_code_4() {
    need_root!();
    let cluster = Cluster::new("rights", 0).start();
    let patch = Patch::new(&cluster, "RIGHTS-1").file("etc/rights", b"x").signed(&cluster);
    cluster.thimble(&["upload", patch.to_str().unwrap()]).ok();
    for asks in [&["query"][..], &["query-hosts"], &["what-requires", "RIGHTS-1"], &["show", "RIGHTS-1"]] {
        let output = as_nobody(&cluster, asks);
        assert!(output.status.success(), "{asks:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    crate::wait::until_true("it is known what hosts have", || cluster.is_settled());
    let dry_run = as_nobody(&cluster, &["commit", "--all", "--dry-run"]);
    assert!(dry_run.status.success(), "{}", String::from_utf8_lossy(&dry_run.stderr));
    for changes in [
        &["apply", "RIGHTS-1"][..],
        &["commit", "--all", "--yes"],
        &["upload", patch.to_str().unwrap()],
        &["host-install-async", "w"],
        &["purge"],
    ] {
        let output = as_nobody(&cluster, changes);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{changes:?}: {said}");
        assert!(said.contains("members of node.admin_group"), "{said}");
    }
    assert_eq!(cluster.patch("RIGHTS-1").unwrap().repo_state, thimble::repo::entry::EntryState::Available);
}

#[test]
fn a_controller_command_on_an_agent_names_controllers() {
    need_root!();
    let cluster = Cluster::new("wrong-node", 1).start();
    let agent = &cluster.nodes[1];
    let patch = Patch::new(&cluster, "WRONG-1").file("etc/wrong", b"x").signed(&cluster);
    for words in [
        &["query"][..],
        &["query-hosts", "--lost"],
        &["what-requires", "P"],
        &["query-dependencies", "P"],
        &["is-applied", "P"],
        &["apply", "P"],
        &["commit", "P", "--dry-run"],
        &["host-install-async", "agent-1"],
        &["upload", patch.to_str().unwrap()],
        &["drop-host", "agent-1"],
        &["show", "P"],
        &["purge"],
    ] {
        let said = agent.thimble(words).failed(1);
        assert!(said.contains("no controller") && said.contains("on one that is"), "{words:?}: {said}");
        assert!(!said.contains("True") && !said.contains("False"), "{words:?}: {said}");
    }
}

#[test]
fn requirements_are_shown_and_enforced_from_upload_to_commit() {
    need_root!();
    let cluster = Cluster::new("relations", 1).start();
    let media = cluster.dir.join("media");
    fs::create_dir(&media).unwrap();
    for patch in [
        requiring(&cluster, "BASE-1", &[]),
        requiring(&cluster, "LEFT-1", &["BASE-1"]),
        requiring(&cluster, "TOP-1", &["LEFT-1"]),
        requiring(&cluster, "EARLY-1", &["LATER-1"]),
    ] {
        let file = patch.signed(&cluster);
        for file in [file.clone(), crate::support::sign::signature_path(&file)] {
            fs::rename(&file, media.join(file.file_name().unwrap())).unwrap();
        }
    }
    fs::write(media.join("BROKEN.patch"), "x").unwrap();
    let said = cluster.thimble(&["upload-dir", media.to_str().unwrap()]).failed(5);
    assert!(said.contains("BROKEN.patch is not signed") && said.contains("the others are in"), "{said}");
    assert_eq!(cluster.patches().len(), 4);

    let run = |words: &[&str]| cluster.thimble(words).ok();
    assert_eq!(run(&["query-dependencies", "TOP-1"]), "LEFT-1\n");
    assert_eq!(run(&["query-dependencies", "TOP-1", "EARLY-1", "--recursive"]), "BASE-1\nLATER-1\nLEFT-1\n");
    assert_eq!(
        run(&["what-requires", "BASE-1", "TOP-1"]),
        "BASE-1 is required by: LEFT-1\nTOP-1 is not required by any patches.\n"
    );
    for command in ["what-requires", "query-dependencies", "apply", "show"] {
        let said = cluster.thimble(&[command, "base1"]).failed(1);
        assert!(
            said.contains("base1 is not in the repository") && said.contains("Did you mean BASE-1?"),
            "{said}"
        );
    }

    assert!(cluster.thimble(&["is-applied", "TOP-1"]).failed(1).contains("not applied: TOP-1 ("));
    run(&["apply", "BASE-1", "LEFT-1", "TOP-1"]);
    assert!(cluster.thimble(&["host-install-async", "agnt-1"]).failed(1).contains("Did you mean agent-1?"));
    let refused = wait::until("what hosts have is known", || {
        let ended = cluster.thimble(&["commit", "TOP-1", "--dry-run"]);
        (!ended.stderr.contains("has just started")).then_some(ended)
    });
    let said = refused.failed(1);
    assert!(said.contains("    BASE-1\n    LEFT-1\n    TOP-1\n"), "{said}");
    assert!(said.contains("would be refused: BASE-1") && said.contains("agent-1"), "{said}");

    let asked = run(&["host-install-async", "agent-1"]);
    assert!(asked.starts_with("agent-1: asked to install\n"), "{asked}");
    wait::until_true("all are where they should be", || {
        cluster.thimble(&["is-applied", "BASE-1", "LEFT-1", "TOP-1"]).code == 0
    });
    assert_eq!(
        cluster.json(&["query-hosts", "--not-current", "--failed"])["hosts"].as_array().unwrap().len(),
        0
    );

    let before = cluster.status().row.repo_digest;
    let dry_run = cluster.json(&["commit", "LEFT-1", "--dry-run"]);
    let ids: Vec<_> = dry_run["patches"].as_array().unwrap().iter().map(|patch| &patch["id"]).collect();
    assert_eq!(ids, ["BASE-1", "LEFT-1"]);
    assert_eq!((dry_run["hosts"].as_u64(), dry_run["would_be_done"].as_bool()), (Some(1), Some(true)));
    assert_eq!(cluster.status().row.repo_digest, before, "a dry run changes nothing");
    run(&["commit", "--all", "--release", "1.0", "--yes"]);
    let done = run(&["commit", "--all", "--dry-run"]);
    assert_eq!(done, "Nothing to commit.\n");
    assert_eq!(run(&["is-applied", "TOP-1"]), "True\n", "for good");
}
