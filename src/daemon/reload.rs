//! Reading the configuration anew: on SIGHUP, or for `thimble reload`.
//!
//! ```text
//! loop                                   worker
//! SIGHUP, command --Job::Reload------->  reads and checks configuration and key file
//! takes up        <--Report::Settings--  what holds now; its text is in the memory
//! logs            <--Report::Item------  that later workers get
//! keeps           <--Report::Waits-----  what waits for a restart
//!                 <--Done, Failed------  a file that is wrong changes nothing
//! ```
//!
//! What holds is decided by [`Config::renewed`] alone; the loop takes it up as one,
//! in one turn.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use log::{info, warn};
use mio::Token;

use super::control_socket::Access;
use super::event_loop::{CONNECTIONS, Daemon};
use super::workers::{Ending, WorkerKind};
use super::{proof, start, sys};
use crate::config::keys::KeyFile;
use crate::config::{Config, Difference};
use crate::control::ErrorKind;
use crate::job::reporter::Reporter;
use crate::job::{Job, RefusalKind, ReloadJob, Report, Settings};
use crate::limits;
use crate::time::Instant;
use crate::types::{Reason, Text};
use crate::wire::frame::Role;

/// A connection of the control socket, and which of those that had its place.
pub type Waiting = (usize, u64);

/// What the loop remembers of reading its configuration anew.
#[derive(Default)]
pub struct Reload {
    path: Text<{ limits::CONFIG_PATH_BYTES }>,
    /// What later workers will get, while a worker writes it.
    next: Option<File>,
    /// A signal came while the files were read: they may have changed behind it.
    is_wanted_again: bool,
    /// Keys that differ from the file until a restart; empty where there are none.
    pub waits: Reason,
    /// Why the file was not taken up; empty where it was.
    pub failed: Reason,
}

impl Reload {
    /// Nothing was read since the start. `path`: where the configuration is.
    #[must_use]
    pub fn new(path: Text<{ limits::CONFIG_PATH_BYTES }>) -> Self {
        Self { path, ..Self::default() }
    }
}

impl Daemon<'_> {
    /// Reads the configuration anew, since a signal asks for it.
    #[inline(never)]
    pub fn reload(&mut self, now: Instant) {
        self.notify.reloading();
        if self.is_reloading() {
            self.reload.is_wanted_again = true;
        } else if let Err(reason) = self.start_reload(now, None) {
            self.on_reloaded(now, None, &Ending::Failed(RefusalKind::Refused, reason));
        }
    }

    /// Whether the configuration is being read anew.
    #[must_use]
    pub fn is_reloading(&self) -> bool {
        self.workers.count(|kind| matches!(kind, WorkerKind::Reload(_))) > 0
    }

    /// Starts the worker that reads the configuration anew.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_reload(&mut self, now: Instant, waiting: Option<Waiting>) -> Result<(), Reason> {
        let identity = self.codec.identity();
        let job = Job::Reload(ReloadJob {
            path: self.reload.path.clone(),
            cluster: identity.cluster,
            node: identity.node,
            ring: identity.ring.clone(),
        });
        let Self { workers, registry, .. } = self;
        let started = proof::exempt(|| {
            let memory = sys::memfd()?;
            workers.start(now, registry, WorkerKind::Reload(waiting), &job, &[memory.as_fd()])?;
            Ok(memory)
        });
        let failed = |error: io::Error| {
            Reason::format(format_args!("the worker that reads it cannot be started: {}", error.kind()))
        };
        self.reload.next = Some(started.map_err(failed)?);
        Ok(())
    }

    /// Takes up what holds from now on.
    #[inline(never)]
    pub fn take_up(&mut self, now: Instant, settings: &Settings) {
        let Settings { ring, revoked, query_group, admin_group, node, timers, script_timeout_ms } = settings;
        if let Some(next) = self.reload.next.take() {
            self.workers.set_config(next);
        }
        (self.config.node.hostname, self.config.node.nodetype) =
            (node.hostname.clone(), node.nodetype.clone());
        self.config.node.sw_version = node.sw_version.clone();
        self.config.timers = *timers;
        self.config.agent.script_timeout_ms = *script_timeout_ms;
        self.control.set_access(Access { query_group: *query_group, admin_group: *admin_group });
        let (proof, idle) = start::session_timers(timers);
        self.sessions.reconfigure(ring.as_ref(), revoked, proof, idle);
        let timers = start::controller_timers(timers);
        self.codec.renew(ring.clone(), revoked.clone(), timers.host_lost);
        if let Some(controller) = &mut self.node.controller {
            controller.set_timers(now, timers);
        }
        if let Some(agent) = &mut self.node.agent {
            agent.set_facts(now, start::agent_facts(&self.config.node, &self.config.timers));
        }
    }

    /// A line of the worker that reads the configuration.
    pub fn on_reload_line(&mut self, waiting: Option<Waiting>, line: &Reason) {
        info!("{line}");
        self.tell_waiting(waiting, line);
    }

    /// What differs from the file until a restart.
    pub fn on_reload_waits(&mut self, waiting: Option<Waiting>, line: &Reason) {
        self.reload.waits = line.clone();
        if !line.is_empty() {
            warn!("{line}");
            self.tell_waiting(waiting, line);
        }
    }

    /// The worker that read the configuration has ended.
    #[inline(never)]
    pub fn on_reloaded(&mut self, now: Instant, waiting: Option<Waiting>, ending: &Ending) {
        self.reload.next = None;
        self.reload.failed = match ending {
            Ending::Done => Reason::default(),
            Ending::Failed(_, reason) | Ending::Crashed(reason) => {
                let line = Reason::format(format_args!("The configuration is not taken up: {reason}"));
                warn!("{line}");
                line
            }
        };
        if let Some((at, generation)) = waiting
            && self.waits_for_worker(at, generation).is_some()
        {
            match self.reload.failed.is_empty() {
                true => self.control.end(at),
                false => self.control.fail(at, ErrorKind::Refused, self.reload.failed.clone()),
            }
            self.control.resume(now, at);
            self.ready.insert(Token(CONNECTIONS + at));
        }
        if std::mem::take(&mut self.reload.is_wanted_again) {
            return self.reload(now);
        }
        self.notify.reloaded();
    }
}

/// The worker's side: reads, checks and compares. `held` is what holds so far, by
/// `texts`.
///
/// # Errors
/// The loop is gone.
pub fn execute(
    held: &Config,
    texts: &str,
    job: &ReloadJob,
    memory: &mut File,
    loop_: &mut dyn Reporter,
) -> io::Result<()> {
    let (settings, lines, waits) = match read(held, texts, job, memory) {
        Ok(read) => read,
        Err(reason) => {
            let reason = Reason::truncated(&reason);
            return loop_.report(&Report::Failed { kind: RefusalKind::Refused, reason });
        }
    };
    loop_.report(&Report::Settings(settings))?;
    for line in &lines {
        loop_.report(&Report::Item(Reason::truncated(line)))?;
    }
    loop_.report(&Report::Waits(waits))?;
    let done = Report::Done;
    loop_.report(&done)
}

/// What holds from now on, a line for each thing that has changed, and what waits.
fn read(
    held: &Config,
    texts: &str,
    job: &ReloadJob,
    memory: &mut File,
) -> Result<(Settings, Vec<String>, Reason), String> {
    let read = Config::load_with_text(Path::new(job.path.as_str()));
    let (new, text) = read.map_err(|error| error.to_string())?;
    let keys = match &new.security.key_file {
        Some(path) => Some(KeyFile::load(path, new.node.is_controller).map_err(|error| error.to_string())?),
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
        node: (&next.node).into(),
    };
    Ok((settings, lines, waits))
}

/// A key that has changed, in a line that is not too long.
fn changed(Difference { key, old, new }: &Difference) -> String {
    if key.len() + old.len() + new.len() > limits::REASON_BYTES - 24 {
        return format!("{key} has changed");
    }
    let or_nothing = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
    format!("{key} is {} now (was {})", or_nothing(new), or_nothing(old))
}
