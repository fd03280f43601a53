//! When a worker counts as stalled, and the alert that says so.

use std::fmt;

use crate::control::WorkerTask;
use crate::time::{Duration, Span};

/// A worker that reports nothing for this long is shown as stalled. For a worker that
/// may run a script, the limit is twice the script timeout if that is longer.
const WORKER_SILENCE: Duration = Duration::from_secs(60);
/// The same limit for a worker that reports only when it is done.
const SERVER_SILENCE: Duration = Duration::from_secs(600);

/// How long a worker with this task may report nothing before it counts as stalled.
pub fn silence_limit(work: WorkerTask, script_timeout: Duration) -> Duration {
    match work {
        // It reports nothing while a script runs.
        WorkerTask::Install => script_timeout.max(WORKER_SILENCE).times(2),
        WorkerTask::Load | WorkerTask::Change | WorkerTask::Show | WorkerTask::Reload => WORKER_SILENCE,
        // It has a limit of its own, of 60 s.
        WorkerTask::Resolve => WORKER_SILENCE.times(2),
        // They report all the time, but for the reading of a large file at their start.
        WorkerTask::Spread | WorkerTask::Receive => SERVER_SILENCE,
        // These report only when they are done.
        WorkerTask::ServeAgent | WorkerTask::ServeController | WorkerTask::Merge | WorkerTask::Fetch => {
            SERVER_SILENCE
        }
    }
}

/// The alert for a worker that has reported nothing for this long.
pub struct Stalled(pub WorkerTask, pub Duration);

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Disk stalled? The worker that {} has reported nothing for {}: it handles a large file, or the disk \
             does not answer. Check the kernel's log (dmesg).",
            self.0.words(),
            Span(self.1)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_counts_as_stalled_after_its_silence_limit() {
        let seconds = Duration::from_secs;
        assert_eq!(silence_limit(WorkerTask::Load, seconds(300)), seconds(60));
        assert_eq!(silence_limit(WorkerTask::Install, seconds(300)), seconds(600), "a script may be running");
        assert_eq!(silence_limit(WorkerTask::Install, seconds(3)), seconds(120));
        let alert = Stalled(WorkerTask::ServeController, seconds(601)).to_string();
        assert!(
            alert.contains("that serves another controller has reported nothing for 10 min 1 s"),
            "{alert}"
        );
    }
}
