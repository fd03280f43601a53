//! A cluster of real daemons: node 0 is the controller, the others are agents.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Output, Stdio};

use serde_json::Value;

use crate::filter::{Filter, Judge};
use crate::netns::{Hub, Namespace};
use crate::support::Scratch;
use crate::support::sign::Signer;
use crate::{sys, wait};

/// The binary under test: the one just built, unless `THIMBLE_BIN` names another.
pub fn thimble() -> String {
    std::env::var("THIMBLE_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_thimble").to_owned())
}

/// The release of every node.
pub const SW_VERSION: &str = "1.0";

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The output of a command that must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// What a command said that must have ended with `code`.
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        self.stderr + &self.stdout
    }
}

/// One node: its namespace, its directory, its daemon while it runs.
pub struct Node {
    pub name: String,
    pub address: String,
    pub namespace: Namespace,
    pub dir: PathBuf,
    /// Its timers, by name, in milliseconds; read when the daemon starts.
    pub timers: BTreeMap<&'static str, u64>,
    is_controller: bool,
    trusted_key: String,
    daemon: Option<Child>,
}

impl Node {
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn key_file(&self) -> PathBuf {
        self.dir.join("thimble.key")
    }

    pub fn control_socket(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.join("thimble.toml")
    }

    /// What the daemon and its workers have logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("log")).unwrap_or_default()).into_owned()
    }

    /// Writes the configuration: short timers, all else as on a real node.
    pub fn write_config(&self) {
        let role = if self.is_controller { "controller" } else { "agent" };
        let dir = self.dir.display();
        let timers: String = self.timers.iter().map(|(name, ms)| format!("{name} = {ms}\n")).collect();
        let text = format!(
            "[node]\nroles = [\"{role}\"]\nhostname = \"{}\"\nsw_version = \"{SW_VERSION}\"\n\
             state_dir = \"{dir}/state\"\ncontrol_socket = \"{dir}/control.sock\"\n\
             [network]\ninterface = \"net0\"\n\
             [security]\nkey_file = \"{dir}/thimble.key\"\ntrusted_keys = [\"{}\"]\n\
             [agent]\nroot = \"{dir}/root\"\n\
             [timers]\n{timers}",
            self.name, self.trusted_key,
        );
        fs::write(self.config_file(), text).unwrap();
    }

    /// Runs a command of the binary on this node.
    pub fn thimble(&self, arguments: &[&str]) -> Ended {
        let mut command = self.namespace.command(&thimble());
        let output =
            command.arg("--config").arg(self.config_file()).args(arguments).stdin(Stdio::null()).output();
        let Output { status, stdout, stderr } = output.unwrap();
        let text = |bytes| String::from_utf8(bytes).expect("thimble writes UTF-8");
        Ended { code: status.code().expect("not killed"), stdout: text(stdout), stderr: text(stderr) }
    }

    /// What `thimble ARGUMENTS --json` says.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.thimble(&[&["--json"], arguments].concat()).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// How many datagrams the node has refused for this reason.
    pub fn refused(&self, reason: &str) -> u64 {
        self.counter(&format!("refused_{reason}"))
    }

    /// A counter of `thimble status`.
    pub fn counter(&self, name: &str) -> u64 {
        self.json(&["status"])["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name}"))
    }

    /// Starts the daemon without waiting for anything.
    pub fn spawn(&mut self) {
        assert!(self.daemon.is_none(), "{} runs already", self.name);
        self.write_config();
        let log = File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = self.namespace.command(&thimble());
        command.arg("--config").arg(self.config_file()).arg("run");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(sys::dies_with_parent(&mut command).spawn().unwrap());
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        self.spawn();
        wait::until_true(&format!("{} answers", self.name), || {
            if let Some(status) = self.daemon.as_mut().and_then(|child| child.try_wait().unwrap()) {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            self.thimble(&["status"]).code == 0
        });
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// Waits for the daemon to end by itself; gives its exit code and its log.
    pub fn ended(&mut self) -> (Option<i32>, String) {
        let mut child = self.daemon.take().expect("the daemon runs");
        let status = wait::until(&format!("{} ends", self.name), || child.try_wait().unwrap());
        (status.code(), self.log())
    }

    /// Ends the daemon as an init system does; it must end well.
    pub fn stop(&mut self) {
        sys::signal(self.pid(), libc::SIGTERM).unwrap();
        let (code, log) = self.ended();
        assert_eq!(code, Some(0), "{log}");
    }

    /// Ends the daemon without a warning.
    pub fn kill(&mut self) {
        let mut child = self.daemon.take().expect("the daemon runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
    }
}

/// A controller (node 0), agents, and a stranger on the same network.
pub struct Cluster {
    pub nodes: Vec<Node>,
    /// Who signs patches; trusted by every node.
    pub signer: Signer,
    /// A namespace on the cluster's network without a node in it.
    pub stranger: Namespace,
    /// Lives as long as the agent behind it.
    _filter: Option<Filter>,
    pub dir: Scratch,
    _hub: Hub,
}

impl Cluster {
    /// Lays out a cluster of one controller and `agents` agents; starts nothing.
    pub fn new(name: &str, agents: usize) -> Self {
        Self::build(name, agents, None)
    }

    /// As [`new`](Self::new), with a filter on the wire of the first agent: it
    /// judges what the agent sends, then what it is sent.
    pub fn filtered(name: &str, agents: usize, from_agent: Judge, to_agent: Judge) -> Self {
        Self::build(name, agents, Some((from_agent, to_agent)))
    }

    fn build(name: &str, agents: usize, mut judges: Option<(Judge, Judge)>) -> Self {
        let dir = Scratch::new(name);
        let hub = Hub::new(name);
        let signer = Signer::new(&dir, "maker");
        let mut filter = None;
        let mut nodes = Vec::new();
        for number in 0..=agents {
            let node_name = if number == 0 { "controller-0".to_owned() } else { format!("agent-{number}") };
            let namespace = Namespace::new(&format!("{name}-{number}"));
            let address = format!("10.84.0.{}", 1 + number);
            let port = format!("port{number}");
            match judges.take_if(|_| number == 1) {
                Some((from, to)) => filter = Some(Filter::join(&hub, &namespace, &port, &address, from, to)),
                None => hub.join(&namespace, &port, &address),
            }
            let dir = dir.join(&node_name);
            fs::create_dir_all(dir.join("root")).unwrap();
            fs::create_dir_all(dir.join("state")).unwrap();
            nodes.push(Node {
                name: node_name,
                address,
                namespace,
                dir,
                timers: BTreeMap::from([
                    ("hello_interval_ms", 200),
                    ("install_retry_ms", 100),
                    ("install_give_up_ms", 8_000),
                ]),
                is_controller: number == 0,
                trusted_key: signer.public.clone(),
                daemon: None,
            });
        }
        let stranger = Namespace::new(&format!("{name}-stranger"));
        hub.join(&stranger, "port-x", "10.84.0.250");
        let cluster = Self { nodes, signer, stranger, _filter: filter, dir, _hub: hub };
        cluster.make_keys();
        cluster
    }

    /// Gives every node its key file, with the commands that an operator uses.
    fn make_keys(&self) {
        let keygen = |node: &Node, arguments: &[&str]| {
            let out = node.key_file();
            let mut command = node.namespace.command(&thimble());
            let output = command.arg("keygen").args(arguments).arg("-o").arg(&out).output().unwrap();
            assert!(output.status.success(), "keygen: {}", String::from_utf8_lossy(&output.stderr));
            let mode = fs::metadata(&out).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "keygen left {} readable", out.display());
        };
        let (controller, agents) = self.nodes.split_first().unwrap();
        keygen(controller, &["--cluster"]);
        let from = controller.key_file();
        for agent in agents {
            keygen(agent, &["--node", &agent.name, "--from", from.to_str().unwrap()]);
        }
    }

    /// Starts all daemons and waits until the controller has heard every agent.
    pub fn start(mut self) -> Self {
        self.nodes.iter_mut().for_each(Node::start);
        let agents = self.nodes.len() - 1;
        wait::until_true("the controller hears all agents", || {
            self.json(&["query-hosts"])["hosts"].as_array().is_some_and(|hosts| hosts.len() == agents)
        });
        self
    }

    /// The controller's row of the agent `number`.
    pub fn host(&self, number: usize) -> Value {
        let name = self.nodes[number].name.as_str();
        let all = self.json(&["query-hosts"]);
        let hosts = all["hosts"].as_array().expect("a list of hosts");
        hosts.iter().find(|host| host["hostname"] == name).cloned().unwrap_or(Value::Null)
    }
}

/// Most of what is asked of a cluster is asked of its controller.
impl Deref for Cluster {
    type Target = Node;
    fn deref(&self) -> &Node {
        &self.nodes[0]
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }
}
