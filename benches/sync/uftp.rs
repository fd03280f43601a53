//! uftp, which multicasts a file to all that listen: its daemons on the hosts, and one transmission.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::{sys, wait};

/// Its daemons on all hosts, until it is dropped.
pub struct Uftp {
    daemons: Vec<Child>,
    program: PathBuf,
    into: Vec<PathBuf>,
}

impl Uftp {
    /// Starts them; or says why it cannot be had.
    pub fn start(cluster: &Cluster) -> Result<Self, String> {
        let fetched = Command::new("benches/peers/uftp.sh").output().map_err(|error| error.to_string())?;
        if !fetched.status.success() {
            return Err(String::from_utf8_lossy(&fetched.stderr).trim().replace("SKIPPED: ", ""));
        }
        let programs = PathBuf::from(String::from_utf8_lossy(&fetched.stdout).trim());
        let (mut daemons, mut into) = (Vec::new(), Vec::new());
        for host in &cluster.nodes[1..] {
            let dir = host.dir.join("uftp");
            fs::create_dir_all(&dir).unwrap();
            let mut command = host.namespace.command(programs.join("uftpd").to_str().unwrap());
            command.args(["-d", "-I", "net0", "-D"]).arg(&dir).stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            daemons.push(sys::dies_with_parent(&mut command).spawn().unwrap());
            into.push(dir);
        }
        Ok(Self { daemons, program: programs.join("uftp"), into })
    }

    /// Sends a file, at most so many kbit/s; the time until it ends.
    pub fn send(&self, cluster: &Cluster, file: &Path, kbit: i64) -> Duration {
        let name = file.file_name().unwrap();
        self.into.iter().for_each(|dir| drop(fs::remove_file(dir.join(name))));
        let mut command = cluster.nodes[0].namespace.command(self.program.to_str().unwrap());
        command.args(["-I", "net0", "-R", &kbit.to_string()]).arg(file).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        // Its exit code is not 0 where one host was late.
        command.status().unwrap();
        let elapsed = started.elapsed();
        let len = fs::metadata(file).unwrap().len();
        let has = |dir: &PathBuf| fs::metadata(dir.join(name)).is_ok_and(|found| found.len() == len);
        wait::until_true("all hosts have it", || self.into.iter().all(has));
        elapsed
    }
}

impl Drop for Uftp {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
