//! Network namespaces joined by a bridge that floods multicast.
//!
//! Names carry the process id, so that runs do not meet, and what a killed run
//! left behind is swept by the next.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::thread;

use crate::sys;

const PREFIX: &str = "thimble-";

/// A namespace, deleted when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new namespace whose loopback is up.
    pub fn new(name: &str) -> Self {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Runs `ip` on this namespace.
    pub fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.name], arguments].concat());
    }

    /// A command that will run `program` in this namespace, as the same process.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `make` on a thread in this namespace. A socket that it makes stays in
    /// the namespace, whoever uses it.
    pub fn enter<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> T {
        let netns = File::open(Path::new("/run/netns").join(&self.name)).expect("the namespace has a name");
        let entered = thread::scope(|scope| {
            scope.spawn(|| sys::enter_netns(&netns).and_then(|()| make())).join().expect("no panic")
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
        namespace.ip(&["link", "add", "br0", "type", "bridge", "mcast_snooping", "0"]);
        namespace.ip(&["link", "set", "br0", "up"]);
        Self { namespace }
    }

    /// Joins `node` to the bridge: `net0` there, `port` here.
    pub fn join(&self, node: &Namespace, port: &str, address: &str) {
        self.wire(node, port, address);
        self.namespace.ip(&["link", "set", port, "master", "br0"]);
    }

    /// Gives `node` its `net0`, whose other end `port` is not on the bridge yet.
    pub fn wire(&self, node: &Namespace, port: &str, address: &str) {
        let (hub, node_name) = (&self.namespace.name, &node.name);
        ip(&[
            "link", "add", "name", port, "netns", hub, "type", "veth", "peer", "name", "net0", "netns",
            node_name,
        ]);
        self.namespace.ip(&["link", "set", port, "up"]);
        node.ip(&["address", "add", &format!("{address}/24"), "dev", "net0"]);
        node.ip(&["link", "set", "net0", "up"]);
        node.ip(&["route", "add", "239.0.0.0/8", "dev", "net0"]);
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed (make setup)");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {stderr}", arguments.join(" "));
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
