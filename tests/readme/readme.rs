//! The indented blocks of README.md: commands, the nodes that they are typed on, their
//! output, and files.
//!
//! A block is one of three things, and anything else is an error:
//!
//! - a session: `NODE# COMMAND` as root or `NODE$ COMMAND` as any user, each followed by
//!   the lines of its here-document (`<<END`) and of its output. `both` are the controller
//!   and the host, `all` those and the second controller. A comment `exit code N` gives an
//!   exit code other than 0;
//! - a file, if the words before it end in a colon and name in backticks the nodes and
//!   the path;
//! - lines `make TARGET`.

/// The nodes that `both` means.
const BOTH: [&str; 2] = ["controller-0", "worker-0"];
/// The nodes that `all` means.
const ALL: [&str; 3] = ["controller-0", "controller-1", "worker-0"];

/// One indented block.
#[derive(Debug, PartialEq, Eq)]
pub enum Block {
    /// Targets of the Makefile.
    Make { line: usize, targets: Vec<String> },
    /// A file that is to be written.
    File { nodes: Vec<String>, path: String, text: String },
    /// Commands to type.
    Session(Vec<Typed>),
}

impl Block {
    /// The nodes that it names.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        let (named, session) = match self {
            Self::Make { .. } => (&[][..], &[][..]),
            Self::File { nodes, .. } => (&nodes[..], &[][..]),
            Self::Session(session) => (&[][..], &session[..]),
        };
        named.iter().chain(session.iter().flat_map(|typed| &typed.nodes)).map(String::as_str)
    }
}

/// One command, and what README says of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Typed {
    /// Its line in README.
    pub line: usize,
    /// The nodes that it is typed on.
    pub nodes: Vec<String>,
    /// The command with its here-document.
    pub command: String,
    /// The output that README shows.
    pub shown: Vec<String>,
    /// The exit code.
    pub code: i32,
}

impl Typed {
    /// Whether it is a query, which a person repeats until the answer is there.
    pub fn asks(&self) -> bool {
        let mut words = self.command.split_whitespace();
        words.next() == Some("thimble")
            && matches!(words.next(), Some("query" | "query-hosts" | "status" | "show"))
    }
}

/// The text below a heading up to the next one of its level. Empty lines replace what is
/// before it, so that each line keeps its number.
pub fn section(text: &str, heading: &str) -> Option<String> {
    let first = text.lines().position(|line| line == format!("## {heading}"))?;
    let lines = text.lines().skip(first + 1).take_while(|line| !line.starts_with("## "));
    Some("\n".repeat(first + 1) + &lines.flat_map(|line| [line, "\n"]).collect::<String>())
}

/// All indented blocks of a text.
///
/// # Errors
/// A block is not understood: its line and the reason.
pub fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut blocks = Vec::new();
    let mut paragraph = String::new();
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim_start().starts_with("```") {
            return Err(format!("line {}: a fenced block: indent it by four instead", at + 1));
        }
        if !lines[at].starts_with("    ") {
            match lines[at].trim() {
                "" if lines.get(at + 1).is_some_and(|next| next.starts_with("    ")) => {}
                "" => paragraph.clear(),
                words => paragraph = format!("{paragraph} {words}"),
            }
            at += 1;
            continue;
        }
        let first = at;
        // A block continues after an empty line if the next line is indented.
        while at < lines.len() && (lines[at].starts_with("    ") || goes_on(&lines[at..])) {
            at += 1;
        }
        let block: Vec<&str> = lines[first..at].iter().map(|line| line.get(4..).unwrap_or("")).collect();
        let block = understand(first + 1, &block, &paragraph)
            .map_err(|why| format!("line {}: the block is not understood: {why}", first + 1))?;
        blocks.push(block);
        paragraph.clear();
    }
    Ok(blocks)
}

fn goes_on(lines: &[&str]) -> bool {
    lines[0].is_empty() && lines.get(1).is_some_and(|next| next.starts_with("    "))
}

fn understand(line: usize, block: &[&str], paragraph: &str) -> Result<Block, String> {
    if block[0].starts_with("make ") {
        let target = |line: &&str| line.strip_prefix("make ")?.split_whitespace().next().map(str::to_owned);
        let targets = block.iter().map(target).collect::<Option<_>>().ok_or("a line is no `make TARGET`")?;
        return Ok(Block::Make { line, targets });
    }
    if prompt(block[0]).is_some() {
        return session(line, block).map(Block::Session);
    }
    let quoted: Vec<&str> = paragraph.split('`').skip(1).step_by(2).collect();
    let path = quoted.iter().rfind(|word| word.starts_with('/'));
    let is_node =
        |word: &&&str| !word.is_empty() && !word.contains(|c: char| !c.is_alphanumeric() && c != '-');
    let nodes: Vec<String> = quoted.iter().filter(is_node).map(|word| (*word).to_owned()).collect();
    match path {
        Some(path) if paragraph.ends_with(':') && !nodes.is_empty() => {
            let text = block.iter().flat_map(|line| [line, "\n"]).collect();
            Ok(Block::File { nodes, path: (*path).to_owned(), text })
        }
        _ => Err("it is no session, and the words before it do not name the nodes and the path of a file"
            .to_owned()),
    }
}

/// The node and the command of a line that has a prompt.
pub fn prompt(line: &str) -> Option<(&str, &str)> {
    let end = line.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '-')?;
    let rest = line[end..].strip_prefix("# ").or_else(|| line[end..].strip_prefix("$ "))?;
    (end > 0).then_some((&line[..end], rest))
}

fn session(first: usize, block: &[&str]) -> Result<Vec<Typed>, String> {
    let mut session: Vec<Typed> = Vec::new();
    let mut lines = block.iter().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some((node, command)) = prompt(line) else {
            let typed = session.last_mut().ok_or("it does not begin with a prompt")?;
            typed.shown.push((*line).to_owned());
            continue;
        };
        let mut typed = Typed {
            line: first + at,
            nodes: match node {
                "both" => BOTH.map(str::to_owned).to_vec(),
                "all" => ALL.map(str::to_owned).to_vec(),
                node => vec![node.to_owned()],
            },
            command: command.to_owned(),
            shown: Vec::new(),
            code: match command.split_once("exit code ") {
                Some((_, code)) => code.trim().parse().map_err(|_| "an exit code is no number")?,
                None => 0,
            },
        };
        if let Some((_, end)) = command.split_once("<<") {
            loop {
                let (_, line) = lines.next().ok_or_else(|| format!("<<{end} has no {end}"))?;
                typed.command.push('\n');
                typed.command.push_str(line);
                if *line == end {
                    break;
                }
            }
        }
        session.push(typed);
    }
    // An empty line before the next prompt is not output.
    for typed in &mut session {
        while typed.shown.last().is_some_and(|line| line.trim().is_empty()) {
            typed.shown.pop();
        }
    }
    Ok(session)
}

#[test]
fn commands_are_told_from_output() {
    let text =
        "Words:\n\n    both# a <<END\n    x\n    END\n    shown\n\n    maker$ b  # exit code 1\n\nMore.\n";
    let [Block::Session(session)] = &blocks(text).unwrap()[..] else { panic!() };
    assert_eq!(session[0].nodes, BOTH);
    assert_eq!(session[0].command, "a <<END\nx\nEND");
    assert_eq!((&session[0].shown[..], session[0].code), (&["shown".to_owned()][..], 0));
    assert_eq!((session[1].line, session[1].nodes[0].as_str(), session[1].code), (8, "maker", 1));
}

#[test]
fn a_file_is_named_by_the_words_before_it() {
    let text = "On `controller-0` and\n`worker-0`, the file `/etc/x`:\n\n    [a]\n\n    b = 1\n";
    let file = Block::File {
        nodes: vec!["controller-0".to_owned(), "worker-0".to_owned()],
        path: "/etc/x".to_owned(),
        text: "[a]\n\nb = 1\n".to_owned(),
    };
    assert_eq!(blocks(text).unwrap(), [file]);
}

#[test]
fn a_block_that_is_not_understood_is_an_error() {
    for text in [
        "Words:\n\n    [a]\n",
        "A `/file`:\n\n    x\n",
        "```\nx\n```\n",
        "\n    make x\n    rm y\n",
        "\n    a# b <<END\n    c\n",
    ] {
        assert!(blocks(text).is_err(), "{text}");
    }
}
