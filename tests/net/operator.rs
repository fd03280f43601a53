//! Mistakes of operators and hostile files at the command line.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
use crate::patch::Patch;
use crate::support::archive::Tar;
use crate::support::sign::{Signer, signature_path};
use crate::wait;

fn upload(cluster: &Cluster, file: &Path) -> crate::node::Ended {
    cluster.thimble(&["upload", file.to_str().unwrap()])
}

/// Uploads a file that must be refused as unverified; the repository must not change.
fn is_refused(cluster: &Cluster, file: &Path, words: &[&str]) {
    let before = cluster.json(&["query"]);
    for command in ["verify", "upload"] {
        let said = cluster.thimble(&[command, file.to_str().unwrap()]).failed(5);
        for word in words {
            assert!(said.contains(word), "{command}: {word:?} is not in: {said}");
        }
    }
    assert_eq!(cluster.json(&["query"]), before);
    let blobs = fs::read_dir(cluster.state_dir().join("repo/blobs"));
    assert_eq!(blobs.map_or(0, Iterator::count), 0, "a refused file stays in the store");
}

/// A controller, with a good patch's bytes written to a file of another name.
fn started(name: &str) -> (Cluster, PathBuf) {
    let cluster = Cluster::new(name, 0).start();
    let good = Patch::new(&cluster, "GOOD-1").file("etc/good", &[7; 5_000]).make(&cluster);
    let file = cluster.dir.join("X.patch");
    fs::copy(good, &file).unwrap();
    (cluster, file)
}

#[test]
fn a_patch_without_a_good_signature_is_refused() {
    need_root!();
    let (cluster, file) = started("signatures");
    is_refused(&cluster, &file, &["X.patch.minisig", "minisign -S -H"]);

    let stranger = Signer::new(&cluster.dir, "stranger");
    stranger.sign(&file);
    is_refused(&cluster, &file, &["X.patch", "key"]);

    cluster.signer.sign_legacy(&file);
    is_refused(&cluster, &file, &["X.patch", "minisign -H"]);

    cluster.signer.sign(&file);
    let good = fs::read(&file).unwrap();
    let mut altered = good.clone();
    altered[good.len() / 2] ^= 1;
    fs::write(&file, &altered).unwrap();
    is_refused(&cluster, &file, &["X.patch", "signature"]);
    fs::write(&file, &good[..good.len() - 10]).unwrap();
    is_refused(&cluster, &file, &["X.patch", "signature"]);
    fs::write(signature_path(&file), "not a signature").unwrap();
    is_refused(&cluster, &file, &["X.patch", "signature"]);
}

#[test]
fn a_signed_patch_with_a_hostile_archive_is_refused_by_name() {
    need_root!();
    let (cluster, file) = started("hostile");
    let device = tar::EntryType::Char;
    let cases = [
        (Tar::patch("X").file("files/../../etc/passwd", b"x").gzip(), "files/../../etc/passwd"),
        (Tar::patch("X").file("/etc/passwd", b"x").gzip(), "/etc/passwd"),
        (Tar::patch("X").member(b"files/dev/mem", device, 0o600, b"", b"").gzip(), "files/dev/mem"),
        (Tar::default().file("files/etc/x", b"x").gzip(), "metadata.toml"),
        (Tar::patch("X").file("scripts/surprise", b"x").gzip(), "scripts/surprise"),
        (
            crate::support::archive::gzip(&Tar::patch("X").file("files/x", &[0; 900]).unended()[..1_100]),
            "in the middle",
        ),
    ];
    for (bytes, named) in cases {
        fs::write(&file, bytes).unwrap();
        cluster.signer.sign(&file);
        is_refused(&cluster, &file, &[named]);
    }
}

#[test]
fn rules_of_the_repository_are_refused_with_both_facts_named() {
    need_root!();
    let cluster = Cluster::new("rules", 0).start();
    let first = Patch::new(&cluster, "FIRST-1").file("etc/one", b"1").applied(&cluster);
    let other = Patch::new(&cluster, "FIRST-1").file("etc/one", b"2").signed(&cluster);
    let said = upload(&cluster, &other).failed(1);
    assert!(said.contains(&first.id), "{said}");

    let second = Patch::new(&cluster, "SECOND-1").metadata("requires = [\"FIRST-1\"]").file("etc/two", b"2");
    upload(&cluster, &second.signed(&cluster)).ok();
    cluster.thimble(&["apply", "SECOND-1"]).ok();
    wait::until_true("the controller has listened for hosts for two rounds", || {
        !cluster.thimble(&["delete", "SECOND-1"]).failed(1).contains("not known yet")
    });
    let cases: [(&[&str], &[&str]); 4] = [
        (&["remove", "FIRST-1"], &["FIRST-1", "SECOND-1"]),
        (&["delete", "SECOND-1"], &["SECOND-1"]),
        (&["apply", "NOBODY-1"], &["NOBODY-1"]),
        (&["show", "NOBODY-1"], &["NOBODY-1"]),
    ];
    for (command, named) in cases {
        let before = cluster.json(&["query"]);
        let said = cluster.thimble(command).failed(1);
        assert!(named.iter().all(|id| said.contains(id)), "{said}");
        assert_eq!(cluster.json(&["query"]), before);
    }

    let lonely =
        Patch::new(&cluster, "LONELY-1").metadata("requires = [\"ABSENT-1\"]").file("etc/three", b"3");
    upload(&cluster, &lonely.signed(&cluster)).ok();
    let said = cluster.thimble(&["apply", "LONELY-1"]).failed(1);
    assert!(said.contains("LONELY-1") && said.contains("ABSENT-1"), "{said}");

    let clash = Patch::new(&cluster, "CLASH-1").file("etc/one", b"3");
    upload(&cluster, &clash.signed(&cluster)).ok();
    let said = cluster.thimble(&["apply", "CLASH-1"]).failed(1);
    assert!(["CLASH-1", "FIRST-1", "etc/one"].iter().all(|fact| said.contains(fact)), "{said}");

    // No requirement helps where a file and a directory meet.
    let below = Patch::new(&cluster, "BELOW-1").metadata("requires = [\"FIRST-1\"]").file("etc/one/x", b"4");
    upload(&cluster, &below.signed(&cluster)).ok();
    let before = cluster.json(&["query"]);
    let said = cluster.thimble(&["apply", "BELOW-1"]).failed(1);
    assert!(said.contains("FIRST-1 has a file where BELOW-1 needs a directory: apply only one"), "{said}");
    assert!(said.contains("The path is /etc/one"), "{said}");
    assert_eq!(cluster.json(&["query"]), before);
}
