//! Notifies the supervisor of the daemon's state, at the end of each turn of the loop.

use super::event_loop::Daemon;
use super::notify::StatusLine;
use crate::time::Instant;
use crate::types::Text;
use crate::wire::messages::AgentState;

impl Daemon<'_> {
    /// Sends the supervisor what is due: readiness, watchdog messages, the status line.
    pub fn notify_supervisor(&mut self, now: Instant) {
        if !self.notify.is_connected() {
            return;
        }
        if self.repository.is_loaded() {
            self.notify.ready();
        }
        let mut notify = std::mem::take(&mut self.notify);
        notify.on_turn(now, || self.status_line(now));
        self.notify = notify;
    }

    /// The state of the node in one line. Where no interface is up, the first comes first.
    #[inline(never)]
    fn status_line(&self, now: Instant) -> StatusLine {
        let roles = self.roles_line(now);
        let first = self.config.network.interfaces.first().zip(self.network.0.first());
        match first.filter(|_| !self.network.are_up()) {
            None => roles,
            Some((name, of)) => {
                StatusLine::format(format_args!("the interface {name} is {}; {roles}", of.state.words()))
            }
        }
    }

    /// The state of its roles.
    fn roles_line(&self, now: Instant) -> StatusLine {
        let agent = self.node.agent.as_ref().map(|agent| {
            let (state, step, percent) = agent.progress();
            let patches = agent.installed().patches().len();
            match state {
                AgentState::Installing => {
                    Text::<64>::format(format_args!("agent: installing {percent}%, {}", step.as_str()))
                }
                AgentState::InstallFailed => Text::truncated("agent: the last install failed"),
                _ => Text::format(format_args!("agent: {patches} patches installed")),
            }
        });
        let between = if agent.is_some() { "; " } else { "" };
        let agent = agent.unwrap_or_default();
        let Some(controller) = &self.node.controller else {
            return StatusLine::format(format_args!("{agent}"));
        };
        if !self.repository.is_loaded() {
            return StatusLine::format(format_args!("controller: reading the repository{between}{agent}"));
        }
        let entries = controller.map().iter();
        let patches = entries.filter(|(_, entry)| !entry.state.is_deleted()).count();
        let (hosts, lost_after) = (controller.hosts().iter(), controller.timers().host_lost);
        let lost = hosts.filter(|host| host.is_lost(now, lost_after)).count();
        let hosts = controller.hosts().len();
        StatusLine::format(format_args!(
            "controller: {patches} patches, {hosts} hosts, {lost} lost{between}{agent}"
        ))
    }
}
