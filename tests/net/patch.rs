//! Patches, made and signed with the tools that a patch's maker uses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::Cluster;
use crate::node::SW_VERSION;

/// The source directory of a patch, for `thimble make`.
pub struct Patch {
    pub id: String,
    dir: PathBuf,
    /// Further options of `make`.
    options: Vec<String>,
}

impl Patch {
    /// An empty in-service patch with minimal metadata.
    pub fn new(cluster: &Cluster, id: &str) -> Self {
        let dir = cluster.dir.join(format!("patch-{id}"));
        // A test may make another patch under the same id.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("files")).unwrap();
        let patch = Self { id: id.to_owned(), dir, options: vec![] };
        patch.metadata(&format!(
            "id = \"{id}\"\nsw_version = \"{SW_VERSION}\"\nsummary = \"Patch {id}\"\nreboot_required = false"
        ))
    }

    /// Adds lines to metadata.toml.
    pub fn metadata(self, lines: &str) -> Self {
        let file = self.dir.join("metadata.toml");
        let before = fs::read_to_string(&file).unwrap_or_default();
        fs::write(file, format!("{before}{lines}\n")).unwrap();
        self
    }

    /// Adds a file, to be installed at `path` below the root.
    pub fn file(self, path: &str, content: &[u8]) -> Self {
        write(&self.dir.join("files").join(path), content, 0o644);
        self
    }

    /// Adds a program.
    pub fn program(self, path: &str, content: &[u8]) -> Self {
        write(&self.dir.join("files").join(path), content, 0o755);
        self
    }

    /// Adds a shell script.
    pub fn script(self, name: &str, lines: &str) -> Self {
        write(&self.dir.join("scripts").join(name), format!("#!/bin/sh\n{lines}\n").as_bytes(), 0o755);
        self
    }

    /// It requires the last of these, which were made here and require the one before each, and has
    /// the differences to them.
    pub fn from(mut self, cluster: &Cluster, ids: &[String]) -> Self {
        for id in ids {
            let file = cluster.dir.join(format!("{id}.patch"));
            self.options.extend(["--from".to_owned(), file.to_str().unwrap().to_owned()]);
        }
        self.metadata(&format!("requires = {:?}", ids.last().as_slice()))
    }

    /// Makes the `.patch` file, unsigned.
    pub fn make(&self, cluster: &Cluster) -> PathBuf {
        let file = cluster.dir.join(format!("{}.patch", self.id));
        let _ = fs::remove_file(&file);
        // The binary just built: the shipped one does not have `make`.
        let mut command = Command::new(env!("CARGO_BIN_EXE_thimble"));
        let output =
            command.arg("make").arg(&self.dir).arg("-o").arg(&file).args(&self.options).output().unwrap();
        assert!(output.status.success(), "make: {}", String::from_utf8_lossy(&output.stderr));
        file
    }

    /// Makes the `.patch` file and signs it.
    pub fn signed(&self, cluster: &Cluster) -> PathBuf {
        let file = self.make(cluster);
        cluster.signer.sign(&file);
        file
    }

    /// Makes it, signs it and uploads it to one controller; returns the command's output.
    pub fn uploaded_at(&self, cluster: &Cluster, controller: usize) -> String {
        let file = self.signed(cluster);
        cluster.nodes[controller].thimble(&["upload", file.to_str().unwrap()]).ok()
    }

    /// Makes it, signs it, uploads it and applies it.
    pub fn applied(self, cluster: &Cluster) -> Self {
        cluster.thimble(&["upload", self.signed(cluster).to_str().unwrap()]).ok();
        cluster.thimble(&["apply", &self.id]).ok();
        self
    }
}

fn write(path: &Path, content: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
