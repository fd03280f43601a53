//! Ends the daemon.
//!
//! Nothing is waited for: a worker may be interrupted at any instant, and the next start
//! recovers. Sockets close with the process.

use log::info;

use super::event_loop::Daemon;
use super::workers::WorkerKind;
use crate::types::Reason;
use crate::wire::messages::AgentState;

impl Daemon<'_> {
    /// Ends the daemon: notifies the supervisor, logs the work that is interrupted,
    /// removes the control socket's file and kills the workers.
    ///
    /// # Errors
    /// Why the daemon could not go on.
    #[inline(never)]
    pub fn end(&mut self, exit: Result<(), Reason>) -> Result<(), String> {
        self.notify.stopping(exit.as_ref().err());
        if exit.is_ok() {
            info!("a signal ends the daemon");
        }
        self.log_interrupted_work();
        self.control.remove();
        self.workers.kill_all();
        exit.map_err(|reason| reason.to_string())
    }

    fn log_interrupted_work(&self) {
        let shown = self.node.agent.as_ref().map(|agent| agent.progress());
        if let Some((AgentState::Installing, step, _)) = shown {
            info!(
                "the install is cut short ({}): the next start undoes it, or cleans up after it if it was \
                 already complete",
                step.as_str()
            );
        }
        if self.workers.count(|kind| matches!(kind, WorkerKind::Change | WorkerKind::Pull(_))) > 0 {
            info!(
                "a change of the repository is cut short: its worker may have committed more than it reported"
            );
        }
    }
}
