//! One install request, from the request to its outcome.

use std::os::fd::AsFd;

use super::error::InstallError;
use super::execute::Executed;
use super::installer::Installer;
use super::journal::Journal;
use super::prepare::Prepared;
use super::report::{InstallEnd, InstallReporter, RequestEnd};
use super::unfinished::{RecoveryTrigger, UnfinishedInstall};
use crate::job::{RefusalKind, Source};
use crate::wire::install::{InstallRequest, Step};

impl Installer<'_> {
    /// Executes a request, unless it has ended already.
    pub fn install(
        &self,
        request: &InstallRequest,
        source: &mut dyn Source,
        reporter: &mut InstallReporter<'_>,
    ) -> Result<RequestEnd, InstallError> {
        self.recover(RecoveryTrigger::Install, None, reporter)?;
        let request_id = request.request_id;
        if let Some(last) = self.last()?.filter(|last| last.request_id == request_id) {
            return Ok(InstallEnd { last, kind: RefusalKind::Refused }.into());
        }
        let mut record = self.record()?;
        let mut journal = Journal::begin(self.home.as_fd(), *request)?;
        let mut prepared = match self.prepare(&record, &mut journal, request, source, reporter) {
            Ok(prepared) => prepared,
            // It has not ended: what has come so far stays, and another session goes on from there.
            Err(error) if error.kind() == RefusalKind::SessionLost && self.has_several_links() => {
                self.sweep(&record, &journal.mounts().unwrap_or_default());
                self.end(journal, &record)?;
                return Err(error);
            }
            Err(error) => {
                let last = self.reject(journal, request_id, &error.to_string())?;
                return Ok(InstallEnd { last, kind: error.kind() }.into());
            }
        };
        let Prepared { plan, room, .. } = &mut prepared;
        let intent = self.take_room(&mut record, plan, room).and_then(|()| prepared.intent(&record));
        let intent = match intent {
            Ok(intent) => intent,
            Err(error) => {
                let last = self.reject(journal, request_id, &error.to_string())?;
                return Ok(InstallEnd { last, kind: error.kind() }.into());
            }
        };
        let executed = self.execute(&mut journal, &intent, &record, prepared, reporter);
        match executed {
            Ok(Executed::Committed(next)) => {
                // The file of the old one takes space that may be needed to set aside.
                record = next;
                let last = self.settle(UnfinishedInstall { journal, request: *request, intent, record })?;
                Ok(InstallEnd { last, kind: RefusalKind::Refused }.into())
            }
            Ok(Executed::Awaited(witness)) => Ok(RequestEnd::Awaited(witness)),
            Err(error) if journal.state.intent.is_none() => {
                let last = self.reject(journal, request_id, &error.to_string())?;
                Ok(InstallEnd { last, kind: error.kind() }.into())
            }
            Err(error) => {
                reporter.progress(Step::RollingBack, 0);
                let last = self.undo(&mut journal, request, &intent, &record, &error.to_string())?;
                self.end(journal, &record)?;
                log::info!("back on set {:.12}", record.digest());
                Ok(InstallEnd { last, kind: error.kind() }.into())
            }
        }
    }
}
