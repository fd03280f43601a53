//! The numbers in docs/running.md are those of src/limits.rs.

use std::fs;

use thimble::limits;

use super::package;

/// A number with commas between the thousands.
fn plain(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", plain(number / 1_000), number % 1_000),
    }
}

fn bytes(number: u64) -> String {
    match number {
        4_096.. if number.is_multiple_of(1 << 30) => format!("{} GiB", plain(number >> 30)),
        4_096.. if number.is_multiple_of(1 << 10) => format!("{} KiB", plain(number >> 10)),
        _ => format!("{} bytes", plain(number)),
    }
}

/// The rows that the document must have.
fn rows() -> Vec<(&'static str, String)> {
    let plain = |number: usize| plain(number as u64);
    let bytes = |number: usize| bytes(number as u64);
    let hosts = format!(
        "{}, and {} where `max_hosts` says so",
        plain(limits::HOSTS_DEFAULT),
        plain(limits::HOSTS_MOST)
    );
    let timer = format!("{} ms to {} days", limits::TIMER_LEAST_MS, limits::TIMER_MOST_MS / 86_400_000);
    vec![
        ("controllers", plain(limits::CONTROLLERS)),
        ("hosts", hosts),
        ("kinds of hosts", plain(limits::NODETYPES)),
        ("patches in the repository, deleted ones included", plain(limits::ENTRIES)),
        ("patches on one host", plain(limits::EFFECTIVE)),
        ("patches that one patch may require", plain(limits::REQUIRES)),
        ("kinds of hosts that one patch may name", plain(limits::PATCH_NODETYPES)),
        ("a patch's id", bytes(limits::PATCH_ID_BYTES)),
        ("a host's name", bytes(limits::HOSTNAME_BYTES)),
        ("a patch's summary", bytes(limits::SUMMARY_BYTES)),
        ("a patch's description, instructions, warnings", bytes(limits::DESCRIPTION_BYTES) + " each"),
        ("a patch's `metadata.toml`", self::bytes(limits::METADATA_BYTES)),
        ("a patch file", self::bytes(limits::PATCH_FILE_BYTES)),
        ("a patch's files, unpacked", self::bytes(limits::PATCH_UNPACKED_BYTES)),
        ("files of one patch", plain(limits::PATCH_MEMBERS)),
        ("a path inside a patch", bytes(limits::PATH_BYTES)),
        ("patches or hosts that one command names", plain(limits::COMMAND_NAMES)),
        ("commands at once", plain(limits::CONTROL_CONNECTIONS)),
        ("commands at once of one user who may only query", plain(limits::CONTROL_SHARE)),
        ("commands at once of one member of `admin_group`", plain(limits::CONTROL_ADMIN_SHARE)),
        ("slots of a key ring", plain(limits::KEY_SLOTS)),
        ("revoked nodes", plain(limits::REVOKED)),
        ("trusted signing keys", plain(limits::TRUSTED_KEYS)),
        ("reasons of failed installs that a controller keeps", plain(limits::REASONS)),
        ("a timer", timer),
    ]
}

#[test]
fn the_limits_in_the_documents_are_those_of_the_code() {
    let text = fs::read_to_string(package().join("docs/running.md")).unwrap();
    let (_, limits) = text.split_once("\n## Limits\n\n| what | at most |\n|---|---|\n").unwrap();
    let shown: Vec<&str> = limits.lines().take_while(|line| line.starts_with('|')).collect();
    let rows: Vec<String> = rows().into_iter().map(|(what, most)| format!("| {what} | {most} |")).collect();
    assert_eq!(shown, rows);
}
