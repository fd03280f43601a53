//! `keygen`: makes and changes key files, which only their owner can read.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::out::Out;
use crate::config::keys::KeyFile;
use crate::config::write_new;
use crate::json::Value;
use crate::types::Hostname;
use crate::wire::frame::Role;

/// `thimble keygen MODE [--from FILE] [-o FILE]`, where MODE is one of [`MODES`].
pub fn keygen(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let keys = make(invocation)?;
    let Some(path) = invocation.value("output").filter(|path| *path != "-") else {
        if out.is_json() {
            return Err(invocation.usage("--json needs -o FILE: standard output is for the document"));
        }
        return to_stdout(invocation, &keys);
    };
    write_new(Path::new(path), keys.to_string().as_bytes()).map_err(|error| {
        let path = path.display();
        let sentence = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{path} exists, and keys are never overwritten; name another file")
            }
            _ => format!("{path} cannot be written: {error}"),
        };
        Failure::new(Exit::Refused, sentence)
    })?;
    keep_owner(invocation, Path::new(path));
    let kind = match keys.role {
        Role::Controller => "controller",
        Role::Agent => "agent",
    };
    let shown = path.display();
    let name = if keys.name.is_empty() { String::new() } else { format!(" {}", keys.name) };
    out.line(format_args!("{shown}: keys of {kind}{name}, node id {}", keys.node))?;
    out.line(format_args!("  sends with slot {}, accepts {}", keys.send_slot, slots(&keys)))?;
    out.json(|| {
        Value::object([
            ("file", Value::text(shown)),
            ("kind", Value::text(kind)),
            ("name", Value::text(&keys.name)),
            ("cluster", Value::text(keys.cluster)),
            ("node", Value::text(keys.node)),
            ("send_slot", u64::from(keys.send_slot).into()),
            ("accepted_slots", Value::list(keys.accepted().map(|slot| u64::from(slot).into()))),
        ])
    })?;
    Ok(())
}

/// The modes that make a file for the same node.
const CHANGES: [&str; 3] = ["add-slot", "send-slot", "drop-slot"];

/// The modes, one option each.
const MODES: [&str; 7] = ["cluster", "node", "controller", "like", "add-slot", "send-slot", "drop-slot"];

/// Gives a changed key file to the owner of the one that it will replace, if this user may:
/// root may, and another user reads no file but root's and his own.
fn keep_owner(invocation: &Invocation, path: &Path) {
    let from = invocation.value("from").filter(|_| CHANGES.iter().any(|mode| invocation.has(mode)));
    if let Some(Ok(from)) = from.map(fs::metadata) {
        let _ = lchown(path, Some(from.uid()), Some(from.gid()));
    }
}

fn make(invocation: &Invocation) -> Result<KeyFile, Failure> {
    let no_random = |error| Failure::new(Exit::Refused, format!("no random bytes from the system: {error}"));
    let mut modes = MODES.into_iter().filter(|mode| invocation.has(mode));
    let (Some(mode), None) = (modes.next(), modes.next()) else {
        return Err(invocation.usage(&format!("keygen wants one of --{}", MODES.join(", --"))));
    };
    let from = match (mode, invocation.value("from")) {
        ("cluster", None) => return KeyFile::new_cluster(Hostname::default()).map_err(no_random),
        ("cluster", Some(_)) => {
            return Err(invocation.usage("--cluster makes a new cluster and takes no --from"));
        }
        ("send-slot" | "drop-slot", None) => {
            return Err(invocation.usage(&format!("--{mode} wants --from FILE, the key file to change")));
        }
        (_, None) => return Err(invocation.usage("keygen wants --from FILE, a controller's key file")),
        (_, Some(from)) => Path::new(from),
    };
    let keys = KeyFile::read(from)?;
    let value = invocation.value(mode).unwrap_or_default().to_string_lossy();
    let refused = |sentence: String| Failure::new(Exit::Refused, format!("{}: {sentence}", from.display()));
    if keys.role == Role::Agent && matches!(mode, "node" | "controller" | "like" | "add-slot") {
        let sentence = "this is an agent's key file, which cannot make others; name a controller's";
        return Err(refused(sentence.to_owned()));
    }
    let (sending, accepted) = (keys.send_slot, slots(&keys));
    match mode {
        "node" | "controller" => {
            let role = if mode == "node" { Role::Agent } else { Role::Controller };
            let name = Hostname::new(&value);
            let name =
                name.map_err(|bad| invocation.usage(&format!("{value:?} is not a node's name: {bad}")))?;
            keys.for_node(name, role).map_err(no_random)?.ok_or_else(|| refused(String::new()))
        }
        "like" => {
            let old = KeyFile::read(Path::new(&*value))?;
            keys.like(&old).ok_or_else(|| refused(format!("{value} belongs to another cluster")))
        }
        "add-slot" => keys.with_new_slot().map_err(no_random)?.ok_or_else(|| {
            refused(format!(
                "all its slots are filled ({accepted}); end the last rotation with --drop-slot N"
            ))
        }),
        _ => {
            let slot = value.parse();
            let slot = slot.map_err(|_| invocation.usage(&format!("--{mode} wants the number of a slot")))?;
            match mode {
                "send-slot" => keys.sending_with(slot).ok_or_else(|| {
                    refused(format!("slot {slot} is empty; it has {accepted}: --add-slot fills the next"))
                }),
                _ if slot == sending => Err(refused(format!(
                    "slot {slot} is in use for sending; change that first, on every node, with --send-slot N"
                ))),
                _ => keys
                    .without_slot(slot)
                    .ok_or_else(|| refused(format!("slot {slot} is empty already; it has {accepted}"))),
            }
        }
    }
}

/// The slots that a key file accepts, as text.
fn slots(keys: &KeyFile) -> String {
    keys.accepted().map(|slot| slot.to_string()).collect::<Vec<_>>().join(", ")
}

/// Writes to a file or pipe that the shell has opened, and to a terminal only with `-o -`.
fn to_stdout(invocation: &Invocation, keys: &KeyFile) -> Result<(), Failure> {
    let stdout = io::stdout();
    if stdout.is_terminal() && invocation.value("output") != Some(OsStr::new("-")) {
        return Err(invocation.usage("keys are not shown on a terminal: name a file with -o FILE"));
    }
    let mut file = File::from(stdout.as_fd().try_clone_to_owned()?);
    let is_file = file.metadata()?.is_file();
    if is_file {
        // The shell's umask gave the mode, so it is restricted before any byte is written.
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    file.write_all(keys.to_string().as_bytes())?;
    if is_file {
        file.sync_all()?;
    }
    Ok(())
}
