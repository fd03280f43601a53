//! Output on a terminal: in colour if that is wanted, with whole words if it is narrow.

use std::process::{Command, Stdio};

use crate::{Node, is_there, skipped};

impl Node {
    /// A command's output on a terminal of so many columns, with this in the environment.
    fn shown(&self, columns: usize, environment: &[(&str, &str)], words: &str) -> String {
        let thimble = env!("CARGO_BIN_EXE_thimble");
        let line = format!("stty cols {columns} rows 24; {thimble} {} {words}", self.socket());
        let mut command = Command::new("timeout");
        command.args(["60", "script", "-qec", &line, "/dev/null"]).stdin(Stdio::null());
        command.env_remove("NO_COLOR").env("TERM", "vt100").envs(environment.iter().copied());
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap().replace('\r', "")
    }
}

#[test]
fn colour_depends_on_the_terminal_the_environment_and_the_option() {
    if !is_there("script", &["--version"]) {
        return skipped("colour_depends_on_the_terminal_the_environment_and_the_option", "script");
    }
    let node = Node::new();
    let is_red = |text: &str| text.starts_with("\x1b[31mTROUBLE:\x1b[0m ");
    let is_plain = |text: &str| text.starts_with("TROUBLE: ") && !text.contains('\x1b');
    assert!(is_red(&node.shown(80, &[], "status")));
    assert!(is_red(&node.shown(80, &[("NO_COLOR", "")], "status")));
    assert!(is_plain(&node.shown(80, &[("NO_COLOR", "1")], "status")));
    assert!(is_plain(&node.shown(80, &[("TERM", "dumb")], "status")));
    assert!(is_plain(&node.shown(80, &[], "status --color=never")));
    assert!(is_red(&node.shown(80, &[("NO_COLOR", "1")], "status --color=always")));
    let piped = |words: &[&str]| String::from_utf8(node.thimble(words).stdout).unwrap();
    assert!(is_plain(&piped(&["status"])));
    assert!(is_red(&piped(&["status", "--color", "always"])));
}

#[test]
fn a_narrow_terminal_gets_whole_words_and_a_pipe_whole_lines() {
    if !is_there("script", &["--version"]) {
        return skipped("a_narrow_terminal_gets_whole_words_and_a_pipe_whole_lines", "script");
    }
    let node = Node::new();
    for words in
        ["query", "query-hosts", "status", "show TZDATA-1", "what-requires TZDATA-1", "apply NOTHING", "aply"]
    {
        let narrow = node.shown(40, &[("NO_COLOR", "1")], words);
        let wide = narrow.lines().find(|line| line.len() > 40 && line.trim().contains(' '));
        assert_eq!(wide, None, "{words}: {narrow}");
    }
    let narrow = node.shown(40, &[], "query-hosts");
    assert!(narrow.starts_with("thimble-here\n  IP Address "), "{narrow}");
    let piped = String::from_utf8(node.thimble(&["query-hosts"]).stdout).unwrap();
    assert!(piped.lines().nth(2).unwrap().starts_with("thimble-here  "), "{piped}");
    assert!(piped.lines().all(|line| line == line.trim_end()), "{piped}");
}

#[test]
fn a_closed_pipe_ends_output_quietly() {
    let node = Node::new();
    let thimble = env!("CARGO_BIN_EXE_thimble");
    for words in
        ["query", "query --json", "query-hosts", "status", "help", "show TZDATA-1", "completions bash"]
    {
        let line = format!("{{ sleep 0.1; {thimble} {} {words}; }} | true", node.socket());
        let output = Command::new("bash").args(["-c", &line]).stdin(Stdio::null()).output().unwrap();
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{words}: {output:?}");
    }
}
