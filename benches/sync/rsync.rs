//! rsync's daemon, which gives away one directory, and what fetches from it.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::{sys, wait};

const PORT: u16 = 8730;
/// How often a fetch that fails is begun again.
const TRIES: usize = 3;

/// The daemon, on the first controller, until it is dropped.
pub struct Rsync(Child);

impl Rsync {
    /// Starts it and waits until it answers.
    pub fn start(cluster: &Cluster, directory: &Path) -> Self {
        let config = cluster.dir.join("rsyncd.conf");
        let directory = directory.display();
        fs::write(
            &config,
            format!("use chroot = no\nuid = 0\ngid = 0\n[patches]\npath = {directory}\nread only = yes\n"),
        )
        .unwrap();
        let mut command = cluster.nodes[0].namespace.command("rsync");
        command.args(["--daemon", "--no-detach", &format!("--port={PORT}")]);
        command.arg(format!("--config={}", config.display())).stdin(Stdio::null());
        let daemon = sys::dies_with_parent(&mut command).spawn().expect("rsync is installed (make setup)");
        let to = format!("{}:{PORT}", cluster.nodes[0].address);
        let answers = || cluster.nodes[1].namespace.enter(|| TcpStream::connect(&to).is_ok());
        wait::until_true("rsync's daemon answers", answers);
        Self(daemon)
    }

    /// Fetches a file, or a directory's content where the name ends with a slash, and has it on the
    /// disk. Returns the seconds that this takes.
    pub fn fetch(&self, cluster: &Cluster, name: &str, to: &Path) -> Duration {
        let from = format!("rsync://{}:{PORT}/patches/{name}", cluster.nodes[0].address);
        let fetch = || {
            let mut command = cluster.nodes[1].namespace.command("rsync");
            command.args(["--fsync", "--times", "--recursive", &from]).arg(to).stdin(Stdio::null());
            let started = Instant::now();
            command.status().unwrap().success().then(|| started.elapsed())
        };
        // On a machine that is busy its daemon was seen to hang up before it greets.
        (0..TRIES).find_map(|_| fetch()).expect("rsync fetches")
    }
}

impl Drop for Rsync {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
