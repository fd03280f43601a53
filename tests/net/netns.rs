//! Network namespaces joined by a bridge that floods multicast.
//!
//! Names contain the process id, so that parallel runs do not collide. A run deletes the
//! namespaces of killed runs first.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::thread;

use crate::over::{self, Address};
use crate::support::iproute;
use crate::sys;

const PREFIX: &str = "thimble-";

/// A namespace, deleted when dropped.
pub struct Namespace {
    name: String,
    netns: File,
}

impl Namespace {
    /// A new namespace, in which nothing is up yet.
    pub fn new(name: &str) -> Self {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        iproute::run("ip", &["netns", "add", &name], "");
        let netns = File::open(Path::new("/run/netns").join(&name)).expect("the namespace has a name");
        Self { name, netns }
    }

    /// Runs these `ip` commands in this namespace, in one process: starting a process is
    /// slow on some machines.
    pub fn ip(&self, lines: &str) {
        iproute::run("ip", &["-n", &self.name, "-batch", "-"], lines);
    }

    /// A command that will run `program` in this namespace. If the caller waits for it at
    /// once, running it in [`enter`](Self::enter) avoids a fork of the tests' whole memory.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let netns = self.netns.try_clone().expect("a descriptor is free");
        sys::starts_in_netns(&mut command, netns);
        command
    }

    /// Runs `make` on a thread in this namespace. Sockets and processes that it creates
    /// stay in the namespace.
    pub fn enter<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> T {
        let entered = thread::scope(|scope| {
            scope.spawn(|| sys::enter_netns(&self.netns).and_then(|()| make())).join().expect("no panic")
        });
        entered.unwrap_or_else(|error| panic!("in {}: {error}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A bridge in a namespace of its own.
pub struct Hub {
    pub namespace: Namespace,
}

impl Hub {
    pub fn new(name: &str) -> Self {
        let namespace = Namespace::new(&format!("{name}-hub"));
        namespace.ip("link add br0 type bridge mcast_snooping 0\nlink set br0 up\n");
        Self { namespace }
    }

    /// Joins `node` to the bridge: `net0` there, `port` here.
    pub fn join(&self, node: &Namespace, port: &str, address: Address) {
        self.wire(node, port, address);
        self.namespace.ip(&format!("link set {port} master br0\n"));
    }

    /// Gives `node` its `net0`, whose other end `port` is not on the bridge yet.
    pub fn wire(&self, node: &Namespace, port: &str, address: Address) {
        self.namespace.ip(&format!(
            "link add name {port} type veth peer name net0 netns {}\nlink set {port} up\n",
            node.name
        ));
        over::attach(node, address);
    }
}

/// Deletes the namespaces of runs whose process is gone.
fn sweep() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((pid, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')) else {
            continue;
        };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}
