//! Reading the configuration anew: on SIGHUP, or for `thimble reload`.
//!
//! ```text
//! loop                                   worker
//! SIGHUP, command --Job::Reload------->  reads and checks configuration and key file
//! applies         <--Report::Settings--  the new settings; their text is in the memory
//!                                        that later workers get
//! logs            <--Report::Item------  a line for each change
//! keeps           <--Report::Waits-----  the keys that wait for a restart
//!                 <--Done, Failed------  an invalid file changes nothing
//! ```
//!
//! [`Config::renewed`] alone decides which settings hold; the loop applies them
//! together, in one turn (`reconfigure`).

use std::fs::File;
use std::io;
use std::path::Path;

use super::sys;
use crate::config::keys::{KeyFile, Owners};
use crate::config::{Config, Difference};
use crate::job::reporter::Reporter;
use crate::job::{RefusalKind, ReloadJob, Report, Settings};
use crate::limits;
use crate::types::{Reason, Text};
use crate::wire::frame::Role;

/// State of the loop for reading its configuration anew.
#[derive(Default)]
pub struct Reload {
    /// Where the configuration is.
    pub path: Text<{ limits::CONFIG_PATH_BYTES }>,
    /// The memory for later workers' configuration, while a worker writes it.
    pub next: Option<File>,
    /// A signal came while a worker read the files: they may have changed since.
    pub is_wanted_again: bool,
    /// Keys that differ from the file until a restart; empty where there are none.
    pub waits: Reason,
    /// Why the last reload failed; empty if it did not.
    pub failed: Reason,
}

impl Reload {
    /// Nothing was read since the start. `path` is that of the configuration.
    #[must_use]
    pub fn new(path: Text<{ limits::CONFIG_PATH_BYTES }>) -> Self {
        Self { path, ..Self::default() }
    }
}

/// The worker's side: reads the files, checks them and compares them with `held`, the
/// settings that hold so far, which are those of `texts`.
///
/// # Errors
/// The loop is gone.
pub fn execute(
    held: &Config,
    texts: &str,
    job: &ReloadJob,
    memory: &mut File,
    reporter: &mut dyn Reporter,
) -> io::Result<()> {
    let (settings, lines, waits) = match read(held, texts, job, memory) {
        Ok(read) => read,
        Err(reason) => {
            let reason = Reason::truncated(&reason);
            return reporter.report(&Report::Failed { kind: RefusalKind::Refused, reason });
        }
    };
    reporter.report(&Report::Settings(settings))?;
    for line in &lines {
        reporter.report(&Report::Item(Reason::truncated(line)))?;
    }
    reporter.report(&Report::Waits(waits))?;
    let done = Report::Done;
    reporter.report(&done)
}

/// The settings that hold from now on, a line for each that has changed, and a line that
/// names those that wait for a restart.
fn read(
    held: &Config,
    texts: &str,
    job: &ReloadJob,
    memory: &mut File,
) -> Result<(Settings, Vec<String>, Reason), String> {
    let read = Config::load_with_text(Path::new(job.path.raw()));
    let (new, text) = read.map_err(|error| error.to_string())?;
    let keys = match &new.security.key_file {
        Some(path) => Some(
            KeyFile::load(path, new.node.is_controller, Owners::RootOrOwn)
                .map_err(|error| error.to_string())?,
        ),
        None => None,
    };
    let query_group = new.node.query_group()?;
    let admin_group = new.node.admin_group()?;

    let next = held.renewed(new.clone());
    let mut lines: Vec<String> = held.differences(&next).iter().map(changed).collect();
    let mut waits: Vec<&str> = next.differences(&new).iter().map(|difference| difference.key).collect();
    let mut ring = None;
    if let Some(keys) = keys.filter(|_| !next.security.is_unauthenticated) {
        let role = if next.node.is_controller { Role::Controller } else { Role::Agent };
        if (keys.cluster, keys.node, keys.role) != (job.cluster, job.node, role) {
            waits.push("security.key_file, which is another node's");
        } else if keys.ring() != job.ring {
            let accepted: Vec<String> = keys.accepted().map(|slot| slot.to_string()).collect();
            let accepted = accepted.join(", ");
            lines.push(format!("the key file sends with slot {} now and accepts {accepted}", keys.send_slot));
            ring = Some(keys.ring());
        }
    }
    if lines.is_empty() && waits.is_empty() {
        lines.push("the configuration has not changed".to_owned());
    }
    let started = texts.split('\0').next().unwrap_or_default();
    let texts = [started, "\0", &text].concat();
    sys::write_sealed(memory, texts.as_bytes()).map_err(|error| format!("for workers: {error}"))?;
    let waits = match waits.is_empty() {
        true => Reason::default(),
        false => Reason::format(format_args!(
            "These keys of the configuration have changed and wait for a restart: {}.",
            waits.join(", ")
        )),
    };
    let settings = Settings {
        ring,
        revoked: next.security.revoked.iter().copied().collect(),
        query_group,
        admin_group,
        timers: next.timers,
        script_timeout_ms: next.agent.script_timeout_ms,
        spread_rate: next.controller.spread_rate,
        spread_least_bytes: next.controller.spread_least_bytes,
        spread_cache_bytes: next.agent.spread_cache_bytes,
        node: (&next.node).into(),
    };
    Ok((settings, lines, waits))
}

/// A line for a key that has changed, which fits a report.
fn changed(Difference { key, old, new }: &Difference) -> String {
    if key.len() + old.len() + new.len() > limits::REASON_BYTES - 24 {
        return format!("{key} has changed");
    }
    let or_nothing = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
    format!("{key} is {} now (was {})", or_nothing(new), or_nothing(old))
}
