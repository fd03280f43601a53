//! The process that installs: this test program, started again with orders.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use thimble::config::{
    AgentConfig, Config, ControllerConfig, NetworkConfig, NodeConfig, SecurityConfig, Timers,
};
use thimble::install::{guard, install, install_below_floor, install_watched, prove, recover};
use thimble::job::reporter::Reporter;
use thimble::job::{BlobSource, FetchError, Fetched, Report, Sink, Source, Witness};
use thimble::repo::digest::set_digest;
use thimble::types::{Digest, Hash, Hostname, NodeId, NodeType, PatchId, Reason, RequestId, SwVersion};
use thimble::wire::frame::ManifestPatch;
use thimble::wire::install::InstallRequest;

/// The environment variable with the path of the orders.
pub const ORDERS: &str = "THIMBLE_TEST_ORDERS";

/// What the process must do, as text with one `key value` a line.
#[derive(Clone, Debug)]
pub struct Orders {
    pub root: PathBuf,
    pub depot: PathBuf,
    pub reports: PathBuf,
    pub trusted_key: String,
    /// `None`: do what `act` says.
    pub request_id: Option<u64>,
    pub act: Act,
    pub force: bool,
    /// As `install-local --below-floor`.
    pub below_floor: bool,
    /// `ID HASH SIZE COMMITTED` each.
    pub set: Vec<(String, String, u64, bool)>,
    /// Request another digest than that of `set`.
    pub other_digest: bool,
    pub lock_file: Option<PathBuf>,
    pub script_timeout_ms: u64,
    pub reserve_bytes: u64,
    pub min_sw_version: Option<String>,
    /// The command that sets labels; without one, none is configured.
    pub relabel: Option<Vec<String>>,
    /// The session breaks after this many bytes.
    pub break_after: Option<usize>,
    /// The install waits for a controller; for another than this node's own if true.
    pub awaits_other: Option<bool>,
}

/// What a process does other than an install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Recover,
    /// The guard, before a daemon's start.
    Guard,
    /// A new thimble has heard a controller, or has not.
    Prove,
    GiveUp,
}

impl Act {
    fn read(word: &str) -> Self {
        let all = [Self::Recover, Self::Guard, Self::Prove, Self::GiveUp];
        all.into_iter().find(|act| format!("{act:?}") == word).unwrap()
    }
}

impl Orders {
    pub fn write(&self, path: &Path) {
        let mut text = format!(
            "root {}\ndepot {}\nreports {}\nkey {}\nact {:?}\nforce {}\nbelow {}\nother {}\ntimeout {}\nreserve {}\n",
            self.root.display(),
            self.depot.display(),
            self.reports.display(),
            self.trusted_key,
            self.act,
            self.force,
            self.below_floor,
            self.other_digest,
            self.script_timeout_ms,
            self.reserve_bytes,
        );
        let optional = [
            ("request", self.request_id.map(|id| id.to_string())),
            ("lock", self.lock_file.as_ref().map(|path| path.display().to_string())),
            ("least", self.min_sw_version.clone()),
            ("break", self.break_after.map(|bytes| bytes.to_string())),
            ("awaits", self.awaits_other.map(|other| other.to_string())),
        ];
        if let Some(words) = &self.relabel {
            text += "relabels true\n";
            words.iter().for_each(|word| text += &format!("relabel {word}\n"));
        }
        for (key, value) in optional {
            text += &value.map(|value| format!("{key} {value}\n")).unwrap_or_default();
        }
        for (id, hash, size, committed) in &self.set {
            text += &format!("patch {id} {hash} {size} {committed}\n");
        }
        fs::write(path, text).unwrap();
    }

    fn read(path: &str) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let all = |key: &str| -> Vec<String> {
            let prefix = format!("{key} ");
            text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
        };
        let one = |key: &str| all(key).pop();
        let set = all("patch").into_iter().map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            (words[0].to_owned(), words[1].to_owned(), words[2].parse().unwrap(), words[3] == "true")
        });
        Self {
            root: one("root").unwrap().into(),
            depot: one("depot").unwrap().into(),
            reports: one("reports").unwrap().into(),
            trusted_key: one("key").unwrap(),
            request_id: one("request").map(|id| id.parse().unwrap()),
            act: Act::read(&one("act").unwrap()),
            force: one("force").unwrap() == "true",
            below_floor: one("below").unwrap() == "true",
            set: set.collect(),
            other_digest: one("other").unwrap() == "true",
            lock_file: one("lock").map(PathBuf::from),
            script_timeout_ms: one("timeout").unwrap().parse().unwrap(),
            reserve_bytes: one("reserve").unwrap().parse().unwrap(),
            min_sw_version: one("least"),
            relabel: one("relabels").map(|_| all("relabel")),
            break_after: one("break").map(|bytes| bytes.parse().unwrap()),
            awaits_other: one("awaits").map(|other| other == "true"),
        }
    }

    fn manifest(&self) -> Vec<ManifestPatch> {
        let patch = |(id, hash, size_bytes, committed): &(String, String, u64, bool)| ManifestPatch {
            id: PatchId::new(id).unwrap(),
            hash: hash_from(hash),
            size_bytes: *size_bytes,
            committed: *committed,
        };
        self.set.iter().map(patch).collect()
    }

    fn config(&self) -> Config {
        Config {
            node: NodeConfig {
                is_controller: false,
                is_agent: true,
                state_dir: self.depot.clone(),
                control_socket: self.depot.clone(),
                installer_socket: PathBuf::new(),
                query_group: None,
                admin_group: None,
                hostname: Hostname::new("host").unwrap(),
                nodetype: NodeType::new("worker").unwrap(),
                sw_version: SwVersion::new("1.0").unwrap(),
            },
            network: NetworkConfig {
                interfaces: Vec::new(),
                controller_group: [239, 255, 84, 72].into(),
                controller_port: 7488,
                agent_group: [239, 255, 84, 73].into(),
                agent_port: 7489,
                service_type: 7488,
                unused: Vec::new(),
                families: vec![],
                controller_group6: std::net::Ipv6Addr::UNSPECIFIED,
                agent_group6: std::net::Ipv6Addr::UNSPECIFIED,
                spread_group: [239, 255, 84, 74].into(),
                spread_group6: std::net::Ipv6Addr::UNSPECIFIED,
                spread_port: 7490,
                ttl: 1,
                is_multicast: true,
                peers: vec![],
            },
            security: SecurityConfig {
                key_file: None,
                is_unauthenticated: true,
                trusted_keys: vec![self.trusted_key.clone()],
                revoked: vec![],
                min_sw_version: self.min_sw_version.as_ref().map(|least| SwVersion::new(least).unwrap()),
            },
            controller: ControllerConfig { max_hosts: 1, spread_rate: 0, spread_least_bytes: 0 },
            agent: AgentConfig {
                root: self.root.clone(),
                lock_file: self.lock_file.clone(),
                script_timeout_ms: self.script_timeout_ms,
                reserve_bytes: self.reserve_bytes,
                spread_cache_bytes: 0,
                relabel: self.relabel.clone(),
            },
            timers: Timers::default(),
        }
    }
}

fn hash_from(hex: &str) -> Hash {
    let mut hash = Hash::default();
    for (byte, at) in hash.0.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    }
    hash
}

/// The digest of a set, as a controller computes it.
pub fn digest(set: &[ManifestPatch]) -> Digest {
    let mut sorted: Vec<_> = set.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    set_digest(sorted.into_iter().map(|patch| (&patch.id, &patch.hash)))
}

/// With [`ORDERS`] in the environment, this is the process that installs. In a normal run
/// of the tests it does nothing.
#[test]
fn installer_process() {
    let Ok(path) = std::env::var(ORDERS) else { return };
    let orders = Orders::read(&path);
    let config = orders.config();
    let mut reporter = Lines(fs::File::create(&orders.reports).unwrap());
    let Some(request_id) = orders.request_id else {
        return match orders.act {
            Act::Recover => recover(&config, None, &mut reporter),
            Act::Guard => guard(&config, false, &mut reporter),
            Act::Prove => prove(&config, true, &mut reporter),
            Act::GiveUp => prove(&config, false, &mut reporter),
        };
    };
    let mut digest = digest(&orders.manifest());
    if orders.other_digest {
        digest.0[0] ^= 1;
    }
    let (request_id, controller) = (RequestId(request_id), NodeId(7));
    let request = InstallRequest { request_id, controller, digest, force: orders.force };
    if let Some(other) = orders.awaits_other {
        let witness = if other { Witness::Other } else { Witness::Any };
        return install_watched(&config, &request, &mut Depot(&orders), witness, &mut reporter);
    }
    let install = if orders.below_floor { install_below_floor } else { install };
    install(&config, &request, &mut Depot(&orders), &mut reporter);
}

/// Writes reports as lines of text.
struct Lines(fs::File);

impl Reporter for Lines {
    fn report(&mut self, report: &Report) -> io::Result<()> {
        match report {
            Report::Progress { step, percent } => writeln!(self.0, "progress {percent} {}", step.as_str()),
            Report::Notice(text) => writeln!(self.0, "notice {text}"),
            Report::Installed(patch) => writeln!(self.0, "installed {}", patch.id),
            Report::InstalledEnd { digest, last: None, .. } => writeln!(self.0, "digest {digest}"),
            Report::InstalledEnd { digest, last: Some(last), floor } => {
                writeln!(self.0, "digest {digest}")?;
                if let Some(floor) = floor {
                    writeln!(self.0, "floor {} {} {}", floor.id, floor.serial, floor.expires)?;
                }
                writeln!(self.0, "request {}", last.request_id.0)?;
                writeln!(self.0, "outcome {:?}", last.outcome)?;
                writeln!(self.0, "reboot {}", last.reboot_required)?;
                writeln!(self.0, "reason {}", last.reason)
            }
            Report::Awaited { request_id, witness, .. } => {
                writeln!(self.0, "awaited {} {witness:?}", request_id.0)
            }
            Report::Superseded => writeln!(self.0, "superseded"),
            Report::Done => writeln!(self.0, "done"),
            Report::Failed { kind, reason } => writeln!(self.0, "failed {kind:?} {reason}"),
            other => panic!("an installer has no business reporting {other:?}"),
        }
    }
}

/// A source that reads patches and signatures by hash from a directory.
struct Depot<'o>(&'o Orders);

impl Source for Depot<'_> {
    fn manifest(&mut self, _: Digest, nodetype: &NodeType) -> Result<Vec<ManifestPatch>, FetchError> {
        assert_eq!(nodetype.as_str(), "worker");
        Ok(self.0.manifest())
    }
}

impl BlobSource for Depot<'_> {
    fn blob(&mut self, hash: &Hash, offset: u64, sink: &mut Sink<'_>) -> Result<Fetched, FetchError> {
        let path = self.0.depot.join(hash.to_string());
        let refused = |error: io::Error| FetchError::Refused(Box::new(Reason::truncated(&error.to_string())));
        let mut file = fs::File::open(&path).map_err(refused)?;
        file.seek(SeekFrom::Start(offset)).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        fs::write(self.0.depot.join("last-offset"), offset.to_string()).unwrap();
        let whole = bytes.len();
        bytes.truncate(self.0.break_after.unwrap_or(whole));
        for piece in bytes.chunks(4_096) {
            sink(piece).map_err(FetchError::Sink)?;
        }
        if bytes.len() < whole {
            return Err(FetchError::Session(io::ErrorKind::ConnectionReset.into()));
        }
        let signature = fs::read(crate::support::sign::signature_path(&path)).unwrap();
        Ok(Fetched { len_bytes: whole as u64, signature })
    }
}
