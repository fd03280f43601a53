//! A host and a source of patches, for one test.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
#[cfg(feature = "proof")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::child::{Act, ORDERS, Orders};
use crate::model::{self, Tree};
use crate::pieces::Patch;
use crate::support::Scratch;
use crate::support::sign::Signer;

pub use crate::sys::is_root;

/// Prints past the test harness, which captures `eprintln`.
pub fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}");
}

/// A mounted filesystem, until it is dropped.
pub struct Mount(PathBuf);

impl Mount {
    pub fn tmpfs(at: &Path, options: &str) -> Self {
        Self::of_kind("tmpfs", at, options)
    }

    /// Mounts an empty filesystem in memory.
    pub fn of_kind(kind: &str, at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        run(Command::new("mount").args(["-t", kind, "-o", options, kind]).arg(at));
        Self(at.to_owned())
    }

    /// Mounts the filesystem in an image; `None` if this machine cannot. Only synced data
    /// is written to the image.
    #[cfg(feature = "proof")]
    pub fn image(image: &Path, at: &Path) -> Option<Self> {
        // Two calls at once may choose the same loop device.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock();
        fs::create_dir_all(at).unwrap();
        let status = Command::new("mount").args(["-o", "loop,commit=300"]).arg(image).arg(at).status();
        status.unwrap().success().then(|| Self(at.to_owned()))
    }

    pub fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0));
    }

    /// A filesystem that is mounted already.
    pub fn at(at: &Path) -> Self {
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A process that another test is starting may hold one of this test's
        // descriptors for a moment.
        let deadline = Instant::now() + Duration::from_secs(60);
        let umount = |options: &[&str]| {
            let output = Command::new("umount").args(options).arg(&self.0).output();
            output.is_ok_and(|output| output.status.success())
        };
        while !umount(&[]) {
            if Instant::now() > deadline {
                umount(&["-l"]);
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

/// A host's root and a directory of signed patches, on a filesystem of their own.
pub struct Rig {
    pub root: PathBuf,
    pub depot: PathBuf,
    pub base: Tree,
    pub signer: Signer,
    pub patches: BTreeMap<String, Patch>,
    /// The orders for the next install, but for the set.
    pub orders: Orders,
    /// It installs sets that break the rules of `requires`, as hosts did before they checked
    /// them. Only in a build with `proof`.
    pub takes_any_set: bool,
    sizes: BTreeMap<String, (String, u64)>,
    _mount: Mount,
    scratch: Scratch,
}

impl Rig {
    /// A host with a small base system.
    pub fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let mount = Mount::tmpfs(&scratch, "size=128m");
        let (root, depot) = (scratch.join("root"), scratch.join("depot"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&depot).unwrap();
        populate(&root);
        let signer = Signer::new(&scratch, "key");
        let orders = Orders {
            root: root.clone(),
            depot: depot.clone(),
            reports: scratch.join("reports"),
            trusted_key: signer.public.clone(),
            request_id: None,
            act: Act::Recover,
            force: false,
            below_floor: false,
            set: vec![],
            other_digest: false,
            lock_file: None,
            script_timeout_ms: 10_000,
            reserve_bytes: 0,
            min_sw_version: None,
            relabel: None,
            break_after: None,
            awaits_other: None,
        };
        let base = model::read(&root);
        let (patches, sizes) = Default::default();
        let takes_any_set = false;
        Self { root, depot, base, signer, patches, orders, takes_any_set, sizes, _mount: mount, scratch }
    }

    /// Makes, signs and stores a patch.
    /// Gives it a root that is a filesystem of its own.
    pub fn mounted(&mut self, kind: &str, options: &str) -> Mount {
        let root = self.root.with_file_name("small");
        let mount = Mount::of_kind(kind, &root, options);
        populate(&root);
        self.root.clone_from(&root);
        self.orders.root = root;
        self.base = self.tree();
        mount
    }

    pub fn add(&mut self, patch: Patch) {
        let bytes = patch.bytes();
        self.add_bytes(&patch.id, &bytes);
        self.patches.insert(patch.id.clone(), patch);
    }

    /// Signs and stores any bytes as a patch.
    pub fn add_bytes(&mut self, id: &str, bytes: &[u8]) {
        let hash = blake3::hash(bytes).to_hex().to_string();
        let path = self.depot.join(&hash);
        fs::write(&path, bytes).unwrap();
        self.signer.sign(&path);
        self.sizes.insert(id.to_owned(), (hash, bytes.len() as u64));
    }

    /// The path of a patch's file.
    pub fn file_of(&self, id: &str) -> PathBuf {
        self.depot.join(&self.sizes[id].0)
    }

    /// The orders for installing a set; an id with a `!` after it is committed.
    pub fn orders_for(&self, set: &[&str]) -> Orders {
        static REQUESTS: AtomicU64 = AtomicU64::new(1);
        let set = set.iter().map(|id| {
            let (id, committed) = id.strip_suffix('!').map_or((*id, false), |id| (id, true));
            let (hash, size) = self.sizes[id].clone();
            (id.to_owned(), hash, size, committed)
        });
        let request_id = Some(REQUESTS.fetch_add(1, Ordering::Relaxed));
        Orders { request_id, set: set.collect(), ..self.orders.clone() }
    }

    fn command(&self, orders: &Orders) -> Command {
        self.command_as(&std::env::current_exe().unwrap(), orders)
    }

    /// An installer process of this program, which is a copy of the test program.
    fn command_as(&self, program: &Path, orders: &Orders) -> Command {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let path = self.scratch.join(format!("orders-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        orders.write(&path);
        let _ = fs::remove_file(&orders.reports);
        let mut command = Command::new(program);
        command.args(["child::installer_process", "--exact", "--nocapture"]).env(ORDERS, &path);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if self.takes_any_set {
            command.env("THIMBLE_ANY_SET", "");
        }
        command
    }

    /// Starts an installer process.
    pub fn start(&self, orders: &Orders) -> Child {
        self.command(orders).spawn().unwrap()
    }

    /// Runs an installer process to its end.
    pub fn run(&self, orders: &Orders, kill_at: Option<u64>) -> Run {
        let mut command = self.command(orders);
        if let Some(kill_at) = kill_at {
            command.env("THIMBLE_KILL_AT", kill_at.to_string()).stderr(Stdio::null());
        }
        let status = command.status().unwrap();
        let reports = fs::read_to_string(&orders.reports).unwrap_or_default();
        Run { status, reports }
    }

    /// Installs a set, with any outcome.
    pub fn install(&self, set: &[&str]) -> Run {
        let run = self.run(&self.orders_for(set), None);
        assert!(run.status.success(), "{run:?}");
        run
    }

    /// Installs a set, which must succeed.
    #[track_caller]
    pub fn installed(&self, set: &[&str]) -> Run {
        let run = self.install(set);
        assert_eq!((run.last(), run.says("outcome")), ("done", "Installed"), "{}", run.reports);
        run
    }

    /// Installs a set, which must make the tree the base with these patches.
    #[track_caller]
    pub fn becomes(&self, set: &[&str]) {
        self.installed(set);
        self.assert_tree(set);
    }

    /// Recovers.
    pub fn recover(&self) -> Run {
        self.run(&Orders { request_id: None, ..self.orders.clone() }, None)
    }

    /// Runs a process that does something else than an install.
    #[cfg(feature = "proof")]
    pub fn does(&self, act: Act, kill_at: Option<u64>) -> Run {
        self.run(&Orders { request_id: None, act, ..self.orders.clone() }, kill_at)
    }

    /// The same, with another program.
    #[cfg(feature = "proof")]
    pub fn does_as(&self, program: &Path, act: Act) -> Run {
        let orders = Orders { request_id: None, act, ..self.orders.clone() };
        let status = self.command_as(program, &orders).status().unwrap();
        Run { status, reports: fs::read_to_string(&orders.reports).unwrap_or_default() }
    }

    /// Recovers until that gets to its end, killed at the next of these steps each time. It is
    /// not killed once there are no more.
    #[cfg(feature = "proof")]
    pub fn recover_killed_at(&self, steps: impl IntoIterator<Item = u64>) -> Run {
        let mut steps = steps.into_iter();
        loop {
            let step = steps.next();
            let run = self.does(Act::Recover, step);
            if run.status.success() || step.is_none() {
                return run;
            }
        }
    }

    /// Recovers as after a restart of the host: with another boot id.
    pub fn recover_after_restart(&self) -> Run {
        self.does_in("another boot", Act::Recover, None)
    }

    /// Runs a process that does something else than an install, with this boot id.
    pub fn does_in(&self, boot: &str, act: Act, kill_at: Option<u64>) -> Run {
        let orders = Orders { request_id: None, act, ..self.orders.clone() };
        let boot_id = self.scratch.join("boot-id");
        fs::write(&boot_id, format!("{boot}\n")).unwrap();
        let mut command =
            self.command_in("mount --bind \"$BOOT_ID\" /proc/sys/kernel/random/boot_id", &orders);
        if let Some(kill_at) = kill_at {
            command.env("THIMBLE_KILL_AT", kill_at.to_string()).stderr(Stdio::null());
        }
        let status = command.env("BOOT_ID", boot_id).status().unwrap();
        Run { status, reports: fs::read_to_string(&orders.reports).unwrap_or_default() }
    }

    /// Runs an installer process in a mount namespace of its own, after these shell commands.
    /// It is killed after a minute.
    pub fn run_in(&self, commands: &str, orders: &Orders) -> Run {
        let status = self.command_in(commands, orders).status().unwrap();
        Run { status, reports: fs::read_to_string(&orders.reports).unwrap_or_default() }
    }

    fn command_in(&self, commands: &str, orders: &Orders) -> Command {
        let installer = self.command(orders);
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", "60", "unshare", "-m", "sh", "-c"]);
        command.arg(format!("{commands} && exec \"$@\"")).arg("sh");
        command.arg(installer.get_program()).args(installer.get_args());
        command.envs(installer.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    pub fn tree(&self) -> Tree {
        model::read(&self.root)
    }

    /// The expected tree with these patches, bottom first.
    pub fn expected(&self, set: &[&str]) -> Tree {
        model::expected(&self.base, set.iter().map(|id| &self.patches[id.trim_end_matches('!')]))
    }

    /// Asserts that the tree is the base with these patches, bottom first.
    #[track_caller]
    pub fn assert_tree(&self, set: &[&str]) {
        model::assert_same(&self.tree(), &self.expected(set), &format!("with {set:?}"));
    }

    /// The names in one of `.thimble`'s directories.
    pub fn own(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(".thimble").join(directory)).into_iter().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What is in `.thimble` and should not be there when no install is under way.
    #[cfg(feature = "proof")]
    pub fn left_over(&self) -> Vec<String> {
        let is_known = |name: &String| {
            let own = ["fetch", "installed", "kept", "last", "lock", "patches"];
            own.contains(&name.as_str()) || name.ends_with(".spare")
        };
        let (items, mut others): (Vec<_>, Vec<_>) =
            self.own("").into_iter().filter(|name| !is_known(name)).partition(|name| {
                name.strip_prefix("items.").is_some_and(|number| number.parse::<u64>().is_ok())
            });
        if items.len() > 1 {
            // Those that the record does not name go with the next start.
            self.recover();
            let own = self.own("");
            others.extend(items.into_iter().filter(|name| !own.contains(name)));
        }
        others
    }

    /// Changes a file by hand.
    pub fn edit(&self, path: &str, content: &str) {
        fs::write(self.root.join(path), content).unwrap();
    }

    pub fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap()
    }

    /// Asserts that a directory of the base has only the base's files.
    #[track_caller]
    pub fn assert_no_new_files_in(&self, directory: &str) {
        for entry in fs::read_dir(self.root.join(directory)).unwrap() {
            let path = format!("{directory}/{}", entry.unwrap().file_name().to_str().unwrap());
            assert!(self.base.contains_key(&path), "{path} is new");
        }
    }
}

/// The result of an installer process.
#[derive(Debug)]
pub struct Run {
    pub status: ExitStatus,
    pub reports: String,
}

impl Run {
    /// The last report.
    pub fn last(&self) -> &str {
        self.reports.lines().last().unwrap_or_default()
    }

    /// The value of this key in the reported snapshot.
    pub fn says(&self, word: &str) -> &str {
        let line = self.reports.lines().rfind(|line| line.split(' ').next() == Some(word));
        line.and_then(|line| line.split_once(' ')).map_or("", |(_, rest)| rest)
    }

    pub fn installed(&self) -> Vec<&str> {
        self.reports.lines().filter_map(|line| line.strip_prefix("installed ")).collect()
    }

    pub fn notices(&self) -> Vec<&str> {
        self.reports.lines().filter_map(|line| line.strip_prefix("notice ")).collect()
    }

    /// Asserts the outcome, and that its reason contains all of these texts.
    #[track_caller]
    pub fn assert_ended(&self, outcome: &str, words: &[&str]) {
        assert_eq!(self.says("outcome"), outcome, "{}", self.reports);
        for word in words {
            assert!(self.says("reason").contains(word), "{word:?} is not in {:?}", self.says("reason"));
        }
        assert!(self.last().starts_with("failed "), "{}", self.reports);
    }
}

/// Makes a base system: merged /usr, a set-user-id program, owners, old times, links.
pub fn populate(root: &Path) {
    for directory in ["usr/bin", "usr/lib", "etc/app.d", "var"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    symlink("usr/lib", root.join("lib")).unwrap();
    symlink("/usr/bin", root.join("bin")).unwrap();
    symlink("libx.so.1", root.join("usr/lib/libx.so")).unwrap();
    let files = [
        ("usr/bin/tool", "base tool", 0o4755, 0),
        ("usr/bin/other", "base other", 0o755, 0),
        ("usr/lib/libx.so.1", "base libx", 0o644, 0),
        ("etc/app.conf", "base conf", 0o640, 42),
        ("etc/app.d/10-base", "base snippet", 0o644, 42),
    ];
    for (at, (path, content, mode, owner)) in files.iter().enumerate() {
        let path = root.join(path);
        fs::write(&path, content).unwrap();
        chown(&path, Some(*owner), Some(*owner)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + at as u64);
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
    fs::set_permissions(root.join("etc/app.d"), fs::Permissions::from_mode(0o750)).unwrap();
}
