//! The command line in real shells and at a terminal, with a real daemon behind it: a
//! controller and agent on the loopback interface that has three patches.

#[path = "../support/mod.rs"]
mod support;

mod terminal;

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::Scratch;
use support::archive::Tar;
use support::controller::signed;
use support::sign::Signer;

/// Writes past the test harness, which captures the output of a passing test.
fn skipped(test: &str, shell: &str) {
    let _ = std::io::stderr()
        .write_all(format!("SKIPPED: {test}: {shell} is not installed (make setup)\n").as_bytes());
}

/// A daemon with patches, and a directory with the files that a shell should find.
struct Node {
    scratch: Scratch,
    daemon: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Node {
    /// TZDATA-1 is applied, TZDATA-2 and OPENSSL:1 are available, and the host is
    /// `thimble-here`.
    fn new() -> Self {
        let scratch = Scratch::new("shells");
        let bin = scratch.join("bin");
        fs::create_dir(&bin).unwrap();
        fs::create_dir(scratch.join("root")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_thimble"), bin.join("thimble")).unwrap();
        fs::write(scratch.join("some file.patch"), "").unwrap();
        fs::create_dir(scratch.join("some-dir")).unwrap();
        let signer = Signer::new(&scratch, "maker");
        let (dir, public) = (scratch.display(), &signer.public);
        // Free ports: both sockets stay open until both ports are known.
        let free = [(); 2].map(|()| UdpSocket::bind("0.0.0.0:0").unwrap());
        let [controller_port, agent_port] = free.map(|socket| socket.local_addr().unwrap().port());
        let config = format!(
            "[node]\nroles = [\"controller\", \"agent\"]\nhostname = \"thimble-here\"\nsw_version = \"24.09\"\n\
             state_dir = \"{dir}/state\"\ncontrol_socket = \"{dir}/sock\"\n\
             [network]\ninterface = \"lo\"\ncontroller_port = {controller_port}\nagent_port = {agent_port}\n\
             [security]\nauth = \"none\"\ntrusted_keys = [\"{public}\"]\n\
             [agent]\nroot = \"{dir}/root\"\n\
             [timers]\nhello_interval_ms = 200\nhello_start_ms = 50\n"
        );
        fs::write(scratch.join("thimble.toml"), config).unwrap();
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_thimble"));
        daemon.args(["run", "--config"]).arg(scratch.join("thimble.toml")).stdin(Stdio::null());
        daemon.stdout(Stdio::null()).stderr(fs::File::create(scratch.join("log")).unwrap());
        let node = Self { daemon: daemon.spawn().unwrap(), scratch };
        let patches = ["TZDATA-1", "TZDATA-2", "OPENSSL:1"];
        let files = patches.map(|id| signed(&node.scratch, id, &Tar::patch(id).gzip(), &signer));
        let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
        node.until(&["upload", files[0], files[1], files[2]], |output| output.status.success());
        node.until(&["apply", "TZDATA-1"], |output| output.status.success());
        node.until(&["completions", "hosts"], |output| output.stdout == b"thimble-here\n");
        node
    }

    fn thimble(&self, words: &[&str]) -> Output {
        let socket = self.scratch.join("sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_thimble"));
        command.arg("--socket").arg(socket).args(words).stdin(Stdio::null()).output().unwrap()
    }

    /// Repeats a command until its output is as it should be.
    fn until(&self, words: &[&str], is_good: impl Fn(&Output) -> bool) {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let output = self.thimble(words);
            if is_good(&output) {
                return;
            }
            let log = fs::read_to_string(self.scratch.join("log")).unwrap();
            assert!(Instant::now() < end, "{words:?}: {output:?}\n{log}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The output of a shell that runs `script`, for at most 60 s.
    fn run(&self, words: &[&str], script: &str) -> String {
        let file = self.scratch.join("script");
        fs::write(&file, script).unwrap();
        let path = format!("{}:{}", self.scratch.join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("timeout");
        command.arg("60").args(words).arg(&file).current_dir(&*self.scratch).env("PATH", path);
        command.env("HOME", &*self.scratch).env("TERM", "vt100").env_remove("NO_COLOR").stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complaint.is_empty(), "{:?}\n{said}\n{complaint}", output.status);
        said
    }

    /// The option that names this node's daemon.
    fn socket(&self) -> String {
        format!("--socket={}/sock", self.scratch.display())
    }
}

fn is_there(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.status.success())
}

/// Lines as they are typed up to TAB, with all words that are offered, in order. `SOCKET`
/// stands for the option that names the daemon's socket.
const OFFERED: &[(&str, &[&str])] = &[
    ("thimble appl", &["apply"]),
    ("thimble drop-", &["drop-controller", "drop-host"]),
    ("thimble --json appl", &["apply"]),
    ("thimble query ", &["applied", "available", "committed"]),
    ("thimble completions ", &["bash", "fish", "zsh"]),
    ("thimble commit --y", &["--yes"]),
    ("thimble help check", &["check-config"]),
    ("thimble SOCKET apply ", &["OPENSSL:1", "TZDATA-2"]),
    ("thimble SOCKET apply OPENSSL:1 ", &["TZDATA-2"]),
    ("thimble SOCKET apply OPENSSL:", &["OPENSSL:1"]),
    ("thimble SOCKET remove ", &["TZDATA-1"]),
    ("thimble SOCKET show TZ", &["TZDATA-1", "TZDATA-2"]),
    ("thimble SOCKET host-install ", &["thimble-here"]),
    ("thimble SOCKET drop-controller ", &[]),
    ("thimble --socket=/nonexistent apply ", &[]),
    ("thimble frobnicate ", &[]),
    ("thimble verify some", &["some file.patch", "some-dir/"]),
    ("thimble --config some-d", &["some-dir/"]),
];

/// Lines where a shell offers the option together with its value.
const OPTION_VALUES: &[(&str, &[&str])] = &[("thimble query --color=a", &["--color=always", "--color=auto"])];

#[test]
fn names_come_from_the_daemon_one_per_line_and_without_it_there_are_none() {
    let node = Node::new();
    assert_eq!(node.thimble(&["completions", "patches"]).stdout, b"OPENSSL:1\nTZDATA-1\nTZDATA-2\n");
    assert_eq!(node.thimble(&["completions", "controllers"]).stdout, b"");
    let none = Command::new(env!("CARGO_BIN_EXE_thimble"))
        .args(["completions", "hosts", "--socket", "/nonexistent"])
        .output()
        .unwrap();
    assert!(none.status.success() && none.stdout.is_empty() && none.stderr.is_empty(), "{none:?}");
}

#[test]
fn completions_do_not_wait_for_a_daemon_that_does_not_answer() {
    let scratch = Scratch::new("stuck");
    let socket = scratch.join("sock");
    let _nobody_accepts = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // The daemon never answers, and the command must end.
    let output = Command::new(env!("CARGO_BIN_EXE_thimble"))
        .args(["completions", "hosts", "--socket"])
        .arg(&socket)
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn fish_offers_matching_words() {
    if !is_there("fish", &["--version"]) {
        return skipped("fish_offers_matching_words", "fish");
    }
    let node = Node::new();
    let mut script = "thimble completions fish | source\n".to_owned();
    let lines: Vec<_> = OFFERED.iter().chain(OPTION_VALUES).collect();
    for (line, _) in &lines {
        let line = line.replace("SOCKET", &node.socket());
        script += &format!("complete -C '{line}' | string replace -r '\\t.*' '' | sort\necho .\n");
    }
    let said = node.run(&["fish", "--no-config"], &script);
    let answers: Vec<&str> = said.split(".\n").collect();
    assert_eq!(answers.len(), lines.len() + 1, "{said}");
    for ((line, expected), answer) in lines.iter().zip(answers) {
        // Fish escapes characters that are special in a command line.
        assert_eq!(answer.replace('\\', "").lines().collect::<Vec<_>>(), **expected, "{line}");
    }
    let described =
        node.run(&["fish", "--no-config"], "thimble completions fish | source\ncomplete -C 'thimble appl'\n");
    assert_eq!(described, "apply\tmark patches to be installed on the hosts they concern\n");
}

#[test]
fn bash_offers_matching_words() {
    let node = Node::new();
    let mut script = "source <(thimble completions bash)\n".to_owned();
    // Calls the function as bash does: the word that it completes begins after = or :.
    script += r#"
offers() {
    COMP_LINE=$1 COMP_POINT=${#1}
    local word=${1##*[ =:]}
    _thimble thimble "$word" before
    ((${#COMPREPLY[@]})) && printf '%s\n' "${COMPREPLY[@]}" | sort
    echo .
}
compopt() { :; }
"#;
    for (line, _) in OFFERED {
        script += &format!("offers '{}'\n", line.replace("SOCKET", &node.socket()));
    }
    script += "offers 'thimble query --color=a'\noffers 'thimble query --config=some-d'\n";
    let said = node.run(&["bash", "--norc"], &script);
    let answers: Vec<&str> = said.split(".\n").collect();
    assert_eq!(answers.len(), OFFERED.len() + 3, "{said}");
    for ((line, expected), answer) in OFFERED.iter().zip(&answers) {
        // Bash adds the slash itself, and keeps the text before the colon.
        let expected = expected.iter().map(|word| word.trim_end_matches('/'));
        let expected: Vec<&str> = expected
            .map(|word| if line.ends_with(':') { word.split_once(':').unwrap().1 } else { word })
            .collect();
        assert_eq!(answer.lines().collect::<Vec<_>>(), expected, "{line}");
    }
    assert_eq!(answers[OFFERED.len()], "always\nauto\n");
    assert_eq!(answers[OFFERED.len() + 1], "some-dir\n");
}

/// Lines as they are typed up to TAB at a terminal, with the completed lines.
const TYPED: &[(&str, &str)] = &[
    ("thimble stat", "thimble status END"),
    ("thimble query com", "thimble query committed END"),
    ("thimble query --color=alw", "thimble query --color=always END"),
    ("thimble SOCKET apply TZ", "thimble SOCKET apply TZDATA-2 END"),
    ("thimble SOCKET apply OPENSSL:", "thimble SOCKET apply OPENSSL:1 END"),
    ("thimble SOCKET remove ", "thimble SOCKET remove TZDATA-1 END"),
    ("thimble SOCKET drop-host ", "thimble SOCKET drop-host thimble-here END"),
    ("thimble --config some-d", "thimble --config some-dir/END"),
    ("thimble --config=some-d", "thimble --config=some-dir/END"),
    ("thimble make some-d", "thimble make some-dir/END"),
];

/// Types into a shell at a terminal, by zsh's zpty: a line, TAB and the word END; then the
/// whole becomes the argument of an echo, which runs.
fn typed_at(shell: &str, setup: &str) {
    let node = Node::new();
    let mut script = format!(
        r#"zmodload zsh/zpty
zpty shell '{shell}'
await() {{ local all; zpty -r shell all "*$1*" || {{ print -r -- "no $1: $all"; exit 1; }}; seen=$all; }}
zpty -w shell "{setup}"
zpty -w shell 'echo REA""DY'
await 'READY'
tried() {{
    zpty -w -n shell "$1"$'\t'"END"$'\x01''echo GO""T '$'\n'
    await 'GOT *END'
    print -r -- "${{seen##*GOT }}"
}}
"#
    );
    for (line, _) in TYPED {
        script += &format!("tried '{}'\n", line.replace("SOCKET", &node.socket()));
    }
    let said = node.run(&["zsh", "-f"], &script);
    let expected: Vec<String> =
        TYPED.iter().map(|(_, shown)| shown.replace("SOCKET", &node.socket())).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{said}");
}

#[test]
fn zsh_completes_at_a_terminal() {
    if !is_there("zsh", &["--version"]) {
        return skipped("zsh_completes_at_a_terminal", "zsh");
    }
    typed_at(
        "zsh -f -i",
        "autoload -Uz compinit; compinit -u -D; source <(thimble completions zsh); bindkey -e; PS1=; stty columns 1000",
    );
}

#[test]
fn bash_completes_at_a_terminal() {
    if !is_there("zsh", &["--version"]) {
        return skipped("bash_completes_at_a_terminal", "zsh (whose zpty types)");
    }
    typed_at(
        "bash --norc --noprofile -i",
        "source <(thimble completions bash); bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; PS1=; stty columns 1000",
    );
}
