//! The loop's side of a reload: starts the worker that reads the configuration anew,
//! and applies what it reports.

use std::io;
use std::os::fd::AsFd;

use log::{info, warn};
use mio::Token;

use super::control_socket::{Access, ConnectionId};
use super::event_loop::Daemon;
use super::os_error::OsError;
use super::tokens::CONNECTIONS;
use super::workers::{Ending, WorkerKind};
use super::{proof, settings as from_config, sys};
use crate::control::ErrorKind;
use crate::job::{Job, RefusalKind, ReloadJob, Settings};
use crate::time::Instant;
use crate::types::Reason;

impl Daemon<'_> {
    /// Reads the configuration anew, as a signal requests.
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
    pub fn start_reload(&mut self, now: Instant, command: Option<ConnectionId>) -> Result<(), Reason> {
        // Where the kernel does not report changes, this is how they are seen.
        self.look_at_network(now);
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
            workers.start(now, registry, WorkerKind::Reload(command), &job, &[memory.as_fd()])?;
            Ok(memory)
        });
        let failed = |error: io::Error| {
            Reason::format(format_args!("the worker that reads it cannot be started: {}", OsError(&error)))
        };
        self.reload.next = Some(started.map_err(failed)?);
        Ok(())
    }

    /// Applies the settings that hold from now on.
    #[inline(never)]
    pub fn apply_settings(&mut self, now: Instant, settings: &Settings) {
        let Settings { ring, revoked, query_group, admin_group, node, timers, script_timeout_ms, .. } =
            settings;
        if let Some(next) = self.reload.next.take() {
            self.workers.set_config(next);
        }
        (self.config.node.hostname, self.config.node.nodetype) =
            (node.hostname.clone(), node.nodetype.clone());
        self.config.node.sw_version = node.sw_version.clone();
        self.config.timers = *timers;
        self.config.agent.script_timeout_ms = *script_timeout_ms;
        self.config.agent.spread_cache_bytes = settings.spread_cache_bytes;
        self.config.controller.spread_rate = settings.spread_rate;
        self.config.controller.spread_least_bytes = settings.spread_least_bytes;
        self.configure_spread();
        self.control.set_access(Access { query_group: *query_group, admin_group: *admin_group });
        let (proof, idle) = from_config::session_timers(timers);
        self.sessions.reconfigure(ring.as_ref(), revoked, proof, idle);
        let timers = from_config::controller_timers(timers, &self.config.agent);
        self.paths.set_hello_interval(timers.hello_interval);
        self.codec.renew(ring.clone(), revoked.clone(), timers.host_lost);
        if let Some(controller) = &mut self.node.controller {
            controller.set_timers(now, timers);
        }
        if let Some(agent) = &mut self.node.agent {
            agent.set_facts(
                now,
                from_config::agent_facts(self.codec.identity().node, &self.config.node, &self.config.timers),
            );
        }
    }

    /// A line of the worker that reads the configuration, for the log and the command.
    pub fn on_reload_line(&mut self, command: Option<ConnectionId>, line: &Reason) {
        info!("{line}");
        if let Some(command) = command {
            self.send_line(command, line);
        }
    }

    /// The keys that differ from the file until a restart, as a line; empty if none.
    pub fn on_reload_waits(&mut self, command: Option<ConnectionId>, line: &Reason) {
        self.reload.waits = line.clone();
        if !line.is_empty() {
            warn!("{line}");
            if let Some(command) = command {
                self.send_line(command, line);
            }
        }
    }

    /// The worker that read the configuration has ended.
    #[inline(never)]
    pub fn on_reloaded(&mut self, now: Instant, command: Option<ConnectionId>, ending: &Ending) {
        self.reload.next = None;
        self.reload.failed = match ending {
            Ending::Done => Reason::default(),
            Ending::Failed(_, reason) | Ending::Crashed(reason) => {
                let line = Reason::format(format_args!("The configuration is not taken up: {reason}"));
                warn!("{line}");
                line
            }
        };
        if let Some(command) = command.filter(|command| self.waits_for_worker(*command)) {
            let at = command.slot;
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
