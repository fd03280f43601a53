//! A node to type on, with a network, host name, processes and tree of its own.
//!
//! Its tree is made for the test: `/etc`, `/run`, `/var`, `/home` and `/usr/bin` have only
//! what a person has before they begin; libraries and devices are the machine's. A shell
//! stays open in it, as a person's terminal would. All processes of the node end with that
//! shell, and the shell ends with the test, however the test ends.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::scp::From;
use super::screen;

/// The maker's user id.
pub const MAKER: u32 = 1000;
/// The programs that a person has on a node before they begin, besides thimble and scp;
/// and those that the terminal needs.
const PROGRAMS: [&str; 12] =
    ["sh", "cat", "chmod", "cp", "ls", "mkdir", "minisign", "mv", "rm", "sleep", "script", "stty"];

/// Waits until it is on the network, then becomes a node. Arguments: its root, its
/// name, its address, `--userspec` of chroot.
const BECOME: &str = r#"
set -e
root=$1
echo here
read -r _
hostname "$2"
ip link set lo up
ip address add "$3/24" dev eth0
ip link set eth0 up
ip route add 239.0.0.0/8 dev eth0
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
for dir in /lib /lib64 /usr/lib /usr/lib64; do
    if [ -d "$root$dir" ] && [ ! -L "$root$dir" ]; then mount --bind "$dir" "$root$dir"; fi
done
exec unshare --pid --fork --kill-child --mount-proc="$root/proc" \
    chroot ${5:+--userspec="$5"} "$root" /usr/bin/sh -c "$4"
"#;

/// Runs `LOOP` on a terminal, with descriptors 3 and 4 connected to this test.
const TERMINAL: &str =
    "exec 3>&1 4<&0 </dev/null >/dev/null; exec script -qfc 'sh /.readme/loop' /.readme/terminal";

/// Runs `/.readme/command` once for each line that it reads, and reports the exit code. The
/// mark on the terminal shows that all output has arrived.
const LOOP: &str = r#"
cd
stty rows 40 columns 120
printf '\036'
echo here >&3
while read -r _ <&4; do
    . /.readme/command
    code=$?
    printf '\036'
    echo "ended $code" >&3
done
"#;

const SCP: &str = r#"#!/bin/sh
{ printf 'scp\t%s' "$PWD"; printf '\t%s' "$@"; echo; } >&3
read -r status words <&4
[ -z "$words" ] || echo "$words" >&2
exit "$status"
"#;

/// The network that joins the nodes, and where their trees are.
pub struct Network {
    dir: PathBuf,
    hub: Child,
    joined: u8,
}

impl Network {
    pub fn new() -> Self {
        let dir = env::temp_dir().join(format!("thimble-readme-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let bridge =
            "ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up && echo here && read -r _";
        let mut hub = unshared(&["--net", "sh", "-c", bridge]);
        says_here(&mut BufReader::new(hub.stdout.as_mut().expect("piped")), "the hub");
        Self { dir, hub, joined: 0 }
    }

    /// Gives the process `pid` an `eth0`. Returns its address.
    fn join(&mut self, pid: u32) -> String {
        self.joined += 1;
        let (hub, port) = (self.hub.id().to_string(), format!("port{}", self.joined));
        let pid = pid.to_string();
        run(
            "ip",
            &[
                "link", "add", "name", &port, "netns", &hub, "type", "veth", "peer", "name", "eth0", "netns",
                &pid,
            ],
        );
        run("nsenter", &["--net", "--target", &hub, "ip", "link", "set", &port, "up", "master", "br0"]);
        self.address()
    }

    fn address(&self) -> String {
        format!("10.84.0.{}", 9 + self.joined)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.hub.kill();
        let _ = self.hub.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// How a command ended.
pub struct Ended {
    pub code: i32,
    /// The lines on the terminal.
    pub lines: Vec<String>,
}

/// A node to type on.
pub struct Node {
    name: String,
    /// Its tree, as this machine sees it.
    pub root: PathBuf,
    shell: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// How much of what is on the terminal has been read.
    read: usize,
}

impl Node {
    pub fn new(network: &mut Network, name: &str) -> Self {
        let root = network.dir.join(name);
        let is_maker = name == "maker";
        let user = if is_maker { plant(&root, MAKER) } else { plant(&root, 0) };
        let home = if is_maker { "/home/maker" } else { "/root" };
        let address = format!("10.84.0.{}", 10 + network.joined);
        let userspec = if user == 0 { String::new() } else { format!("{user}:{user}") };
        let mut shell = unshared(&[
            "--net",
            "--mount",
            "--uts",
            "--propagation",
            "private",
            "env",
            "-i",
            &format!("HOME={home}"),
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "SHELL=/usr/bin/sh",
            "TERM=xterm",
            "sh",
            "-c",
            BECOME,
            "become",
            root.to_str().unwrap(),
            name,
            &address,
            TERMINAL,
            &userspec,
        ]);
        let mut output = BufReader::new(shell.stdout.take().expect("piped"));
        let mut input = shell.stdin.take().expect("piped");
        says_here(&mut output, name);
        assert_eq!(network.join(shell.id()), address);
        writeln!(input, "go").unwrap();
        says_here(&mut output, name);
        let mut node = Self { name: name.to_owned(), root, shell, input, output, read: 0 };
        node.written();
        node
    }

    /// Types a command. `copy` carries out each scp of it.
    pub fn ended(&mut self, command: &str, copy: impl Fn(&From<'_>, &[&str]) -> Result<(), String>) -> Ended {
        fs::write(self.root.join(".readme/command"), command.to_owned() + "\n").unwrap();
        writeln!(self.input, "go").unwrap();
        loop {
            let line = line(&mut self.output)
                .unwrap_or_else(|| panic!("the shell of {} ended at: {command}", self.name));
            let words: Vec<&str> = line.split('\t').collect();
            if let ["scp", dir, words @ ..] = &words[..] {
                let answer = match copy(&From { node: &self.name, dir }, words) {
                    Ok(()) => "0".to_owned(),
                    Err(error) => format!("1 {error}"),
                };
                writeln!(self.input, "{answer}").unwrap();
                continue;
            }
            let code = line.strip_prefix("ended ").and_then(|code| code.parse().ok());
            let code = code.unwrap_or_else(|| panic!("{}: {line}", self.name));
            return Ended { code, lines: screen::after(&self.written()) };
        }
    }

    /// The output since the last call, once all of it has arrived.
    fn written(&mut self) -> String {
        loop {
            let all = fs::read(self.root.join(".readme/terminal")).unwrap();
            if all.len() > self.read && all.ends_with(b"\x1e") {
                let written = all[self.read..all.len() - 1].to_vec();
                self.read = all.len();
                return String::from_utf8(written).expect("nodes write UTF-8");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Writes a file that README shows.
    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.root.join(path.trim_start_matches('/')), text).unwrap();
    }

    /// The log of its daemon.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.root.join("var/log/thimble.log")).unwrap_or_default();
        format!("--- log of {}\n{log}", self.name)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Makes a node's tree. Returns the user id that its shell can have.
fn plant(root: &Path, user: u32) -> u32 {
    for dir in
        ["dev", "proc", "etc", "root", "run", "tmp", "usr/bin", "usr/sbin", "var/lib", "var/log", ".readme"]
    {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for dir in ["tmp", ".readme"] {
        fs::set_permissions(root.join(dir), fs::Permissions::from_mode(0o1777)).unwrap();
    }
    for link in ["bin", "sbin"] {
        symlink(format!("usr/{link}"), root.join(link)).unwrap();
    }
    // The machine's libraries: as links where the machine has links.
    for dir in ["/lib", "/lib64", "/usr/lib", "/usr/lib64"] {
        let ours = root.join(dir.trim_start_matches('/'));
        match fs::read_link(dir) {
            Ok(target) => symlink(target, ours).unwrap(),
            Err(_) if Path::new(dir).is_dir() => fs::create_dir_all(ours).unwrap(),
            Err(_) => {}
        }
    }
    let bin = root.join("usr/bin");
    for program in PROGRAMS {
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
        let found = found.unwrap_or_else(|| panic!("{program} is not installed (make setup)"));
        fs::copy(found, bin.join(program)).unwrap();
    }
    // Patches are made with the test build: `THIMBLE_BIN` may lack `thimble make`.
    let built = env!("CARGO_BIN_EXE_thimble");
    let thimble = match env::var("THIMBLE_BIN") {
        Ok(small) if user == 0 => small,
        _ => built.to_owned(),
    };
    fs::copy(thimble, bin.join("thimble")).unwrap();
    fs::write(bin.join("scp"), SCP).unwrap();
    fs::set_permissions(bin.join("scp"), fs::Permissions::from_mode(0o755)).unwrap();
    // The shell's user owns what the shell reads and writes.
    fs::write(root.join(".readme/loop"), LOOP).unwrap();
    fs::write(root.join(".readme/terminal"), "").unwrap();
    if user == 0 {
        return 0;
    }
    let home = root.join("home/maker");
    fs::create_dir_all(&home).unwrap();
    let given = [&home, &root.join(".readme/terminal")]
        .into_iter()
        .all(|path| chown(path, Some(user), Some(user)).is_ok());
    if given {
        return user;
    }
    super::say("SKIPPED: patches made as another user: this user namespace has only one user");
    0
}

fn unshared(arguments: &[&str]) -> Child {
    let mut command = Command::new("unshare");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("util-linux is installed (make setup)")
}

fn line(output: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let len = output.read_line(&mut line).expect("the shell writes UTF-8");
    (len > 0).then(|| line.trim_end_matches('\n').to_owned())
}

fn says_here(output: &mut impl BufRead, name: &str) {
    assert_eq!(line(output).as_deref(), Some("here"), "{name} does not come up");
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .status()
        .expect("iproute2 and util-linux are installed (make setup)");
    assert!(status.success(), "{program} {arguments:?}: {status}");
}
