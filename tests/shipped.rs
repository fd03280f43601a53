//! What is shipped beside the binary is true to it.

use std::fs;
use std::path::Path;

use thimble::config::Config;
use thimble::wire::refusal::Refusal;

/// A public key that is nobody's: it stands in for the one that an operator has.
const PUBLIC_KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The shipped configuration, with `change` done to each line.
fn shipped(change: impl Fn(&str) -> String) -> String {
    let text = read("config/thimble.toml").replace("/etc/thimble/maker.pub", PUBLIC_KEY);
    text.lines().map(|line| change(line) + "\n").collect()
}

fn parse(text: &str) -> Config {
    Config::parse(text, "config/thimble.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// The line without its comment sign, if it is `KEY = ..` behind `sign`.
fn key_behind<'a>(sign: &str, line: &'a str) -> Option<&'a str> {
    let (key, _) = line.strip_prefix(sign)?.split_once(" = ")?;
    key.chars().all(|c| c.is_ascii_lowercase() || c == '_').then(|| &line[sign.len()..])
}

#[test]
fn the_configuration_parses_and_its_commented_defaults_are_the_defaults() {
    let as_shipped = parse(&shipped(str::to_owned));
    let mut shown = 0;
    let with_defaults = shipped(|line| key_behind("#", line).unwrap_or(line).to_owned());
    shown += with_defaults.lines().filter(|line| key_behind("", line).is_some()).count();
    assert!(shown > 20, "the defaults are not where this test looks for them");
    let mut with_defaults = parse(&with_defaults);
    assert_eq!(with_defaults.network.unused, ["service_type"], "each transport has keys of its own");
    with_defaults.network.unused.clear();
    assert_eq!(format!("{with_defaults:#?}"), format!("{as_shipped:#?}"));
}

#[test]
fn the_configuration_explains_every_key_that_there_is() {
    let text = shipped(str::to_owned);
    let both = parse(&text.replace("[\"agent\"]", "[\"controller\", \"agent\"]"));
    for (key, _) in both.shown() {
        let (section, key) = key.split_once('.').unwrap();
        let of_section = text.split_once(&format!("[{section}]\n")).unwrap().1;
        let of_section = of_section.split("\n[").next().unwrap();
        let is_there = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} = "));
        assert!(of_section.lines().any(is_there), "{section}.{key} is not in config/thimble.toml");
    }
}

#[test]
fn the_examples_of_the_configuration_are_accepted() {
    let as_shipped = parse(&shipped(str::to_owned));
    let with_examples = parse(&shipped(|line| key_behind("# ", line).unwrap_or(line).to_owned()));
    assert_eq!(as_shipped.node.admin_group, None);
    assert_eq!(with_examples.node.admin_group.as_deref(), Some("wheel"));
    assert_eq!(with_examples.security.revoked.len(), 1);
}

#[test]
fn the_guide_explains_every_refusal() {
    let guide = read("docs/guide.md");
    for refusal in Refusal::ALL {
        assert!(guide.contains(&format!("`{}`", refusal.counter())), "{refusal}");
    }
}
