//! The daemon's last acts.
//!
//! Nothing is waited for: what a worker has in its hands can be cut short at any
//! instant, and the next start makes it whole. Sockets close with the process.

use log::info;

use super::event_loop::Daemon;
use super::workers::WorkerKind;
use crate::types::Reason;
use crate::wire::messages::AgentState;

impl Daemon<'_> {
    /// Ends: says what is cut short, tells the supervisor, takes the control
    /// socket's file away and ends the workers.
    ///
    /// # Errors
    /// Why the daemon could not go on.
    #[inline(never)]
    pub fn end(&mut self, over: Result<(), Reason>) -> Result<(), String> {
        self.notify.stopping(over.as_ref().err());
        if over.is_ok() {
            info!("ending, as asked by a signal");
        }
        self.say_what_is_cut_short();
        self.control.remove();
        self.workers.kill_all();
        over.map_err(|reason| reason.as_str().to_owned())
    }

    fn say_what_is_cut_short(&self) {
        let shown = self.node.agent.as_ref().map(|agent| agent.progress());
        if let Some((AgentState::Installing, step, _)) = shown {
            info!(
                "the install at work is cut short ({}): the next start undoes it, or tidies up behind it if it had \
                 just become complete",
                step.as_str()
            );
        }
        if self.workers.count(|kind| matches!(kind, WorkerKind::Change | WorkerKind::Pull(_))) > 0 {
            info!(
                "a change of the repository is cut short: what was reported of it is kept, the rest is not done"
            );
        }
    }
}
