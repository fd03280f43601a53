//! `keygen`: makes key files, readable by their owner alone.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::exit::{Exit, Failure};
use super::json::Value;
use super::out::Out;
use super::parse::Invocation;
use crate::config::keys::KeyFile;
use crate::config::write_new;
use crate::types::Hostname;
use crate::wire::frame::Role;

/// `thimble keygen --cluster | --node NAME --from FILE | --controller NAME --from FILE [-o FILE]`
pub fn keygen(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let keys = make(invocation)?;
    let Some(path) = invocation.value("output").filter(|path| *path != "-") else {
        if out.is_json() {
            return Err(
                invocation.usage("--json wants -o FILE: the keys would stand in the document's place")
            );
        }
        return to_stdout(invocation, &keys);
    };
    write_new(Path::new(path), keys.to_string().as_bytes()).map_err(|error| {
        let path = path.display();
        let sentence = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{path} is there already, and keys are never written over; name another file")
            }
            _ => format!("{path} cannot be written: {error}"),
        };
        Failure::new(Exit::Refused, sentence)
    })?;
    let kind = match keys.role {
        Role::Controller => "controller",
        Role::Agent => "agent",
    };
    let shown = path.display();
    let name = if keys.name.is_empty() { String::new() } else { format!(" {}", keys.name) };
    out.line(format_args!("{shown}: keys of {kind}{name}, node id {}", keys.node))?;
    out.json(|| {
        Value::object([
            ("file", Value::text(shown)),
            ("kind", Value::text(kind)),
            ("name", Value::text(&keys.name)),
            ("cluster", Value::text(keys.cluster)),
            ("node", Value::text(keys.node)),
        ])
    })?;
    Ok(())
}

fn make(invocation: &Invocation) -> Result<KeyFile, Failure> {
    let no_random = |error| Failure::new(Exit::Refused, format!("the system gives no random bytes: {error}"));
    let (node, controller) = (invocation.value("node"), invocation.value("controller"));
    let (text, role) = match (invocation.has("cluster"), node, controller) {
        (true, None, None) if invocation.has("from") => {
            return Err(invocation.usage("--cluster makes a new cluster, from nothing: it takes no --from"));
        }
        (true, None, None) => return KeyFile::new_cluster(Hostname::default()).map_err(no_random),
        (false, Some(name), None) => (name, Role::Agent),
        (false, None, Some(name)) => (name, Role::Controller),
        _ => {
            return Err(invocation.usage("keygen wants one of --cluster, --node NAME and --controller NAME"));
        }
    };
    let Some(from) = invocation.value("from") else {
        return Err(invocation.usage("keygen wants --from FILE, a controller's key file"));
    };
    let text = text.to_string_lossy();
    let name = Hostname::new(&text);
    let name = name.map_err(|bad| invocation.usage(&format!("{text:?} is no node's name: {bad}")))?;
    let keys = KeyFile::read(Path::new(from))?.for_node(name, role).map_err(no_random)?;
    keys.ok_or_else(|| {
        let from = from.display();
        let sentence =
            format!("{from} is an agent's key file, which cannot make others; name a controller's");
        Failure::new(Exit::Refused, sentence)
    })
}

/// Writes to a file that the shell has opened, or to a pipe; never to a screen.
fn to_stdout(invocation: &Invocation, keys: &KeyFile) -> Result<(), Failure> {
    let stdout = io::stdout();
    if stdout.is_terminal() && invocation.value("output") != Some(OsStr::new("-")) {
        return Err(invocation.usage("keys are not for the screen: name a file with -o FILE"));
    }
    let mut file = File::from(stdout.as_fd().try_clone_to_owned()?);
    let is_file = file.metadata()?.is_file();
    if is_file {
        // The shell made it by its umask; no byte goes in before that is mended.
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    file.write_all(keys.to_string().as_bytes())?;
    if is_file {
        file.sync_all()?;
    }
    Ok(())
}
