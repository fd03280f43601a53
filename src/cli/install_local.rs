//! `install-local`: installs from this node's own repository, before there is a daemon
//! or a network.
//!
//! It runs the ordinary installer with the store as its source. Files from the store are
//! verified like files from the network. The outcome is written to the host's journal
//! under a request id of its own, so that the daemon reports it to controllers later.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::command::Invocation;
use super::exit::{Exit, Failure};
use super::guard::{Running, daemon_of, root_only};
use super::out::Out;
use crate::config::keys::{KeyFile, Owners};
use crate::config::{self, Config};
use crate::install;
use crate::job::reporter::Reporter;
use crate::job::{BlobSource, FetchError, Fetched, Sink, Source, close_inherited};
use crate::job::{RefusalKind, Report};
use crate::json::Value;
use crate::repo::effective::effective_digest;
use crate::store::{self, Blob, Store, state_dir};
use crate::types::{Digest, Hash, NodeId, NodeType, PatchId, Reason, RequestId};
use crate::wire::frame::ManifestPatch;
use crate::wire::install::{InstallRequest, LastInstall, Outcome, Step};

/// `thimble install-local`
pub fn install_local(invocation: &Invocation, out: &mut Out) -> Result<(), Failure> {
    root_only()?;
    // Scripts inherit nothing of what the caller had open.
    close_inherited();
    let config = Config::load(invocation.config())?;
    let state_dir = &config.node.state_dir;
    let refused = |reason: String| Failure::new(Exit::Refused, reason);
    if let Some(missing) = missing_role(&config) {
        return Err(refused(missing.to_owned()));
    }
    let running = daemon_of(state_dir)?;
    if let Running::Daemon = running {
        let host = &config.node.hostname;
        return Err(refused(format!("the daemon is running; use `thimble host-install {host}`")));
    }
    // Opening would create an empty repository, which means that all patches are removed.
    if !state_dir.join("repo/map").exists() {
        let shown = state_dir.display();
        return Err(refused(format!(
            "there is no repository in {shown} yet: start the daemon, and upload and apply patches first"
        )));
    }
    let digest = {
        let opened = state_dir::as_owner(state_dir, || Store::open(state_dir));
        let store = opened
            .map_err(|error| refused(error.to_string()))?
            .map_err(|error| refused(error.to_string()))?;
        effective_digest(&store.map(&mut Vec::new()), &config.node.nodetype)
    };

    let mut reporter = LocalInstall::new(out);
    install::ready(&config, &mut reporter);
    reporter.check()?;
    if reporter.digest == Some(digest) {
        return reporter.show("current");
    }
    let request = InstallRequest {
        request_id: request_id().map_err(|error| refused(format!("/dev/urandom: {error}")))?,
        controller: own_id(&config)?,
        digest,
        force: invocation.has("force"),
    };
    reporter.installed.clear();
    let install = if invocation.has("below-floor") { install::install_below_floor } else { install::install };
    install(&config, &request, &mut LocalSource(state_dir), &mut reporter);
    reporter.check()?;
    let outcome = if reporter.is_superseded { "awaited" } else { "installed" };
    reporter.show(outcome)
}

/// The role that is missing for an install from the node's own repository.
fn missing_role(config: &Config) -> Option<&'static str> {
    match (config.node.is_controller, config.node.is_agent) {
        (true, true) => None,
        (false, _) => Some(
            "this node has no repository to install from: node.roles lacks \"controller\"; \
             a controller installs here with `thimble host-install`",
        ),
        (true, false) => Some("nothing is installed on this node: node.roles lacks \"agent\""),
    }
}

/// This node's id, for the request.
fn own_id(config: &Config) -> Result<NodeId, Failure> {
    Ok(match &config.security.key_file {
        Some(path) if !config.security.is_unauthenticated => {
            KeyFile::load(path, true, Owners::RootMayReadAll)?.node
        }
        _ => {
            let dir = &config.node.state_dir;
            let refused = |error: io::Error| Failure::new(Exit::Refused, error.to_string());
            state_dir::as_owner(dir, || config::node_id_without_keys(dir)).map_err(refused)??
        }
    })
}

/// A random request id.
fn request_id() -> io::Result<RequestId> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(RequestId(u64::from_le_bytes(bytes)))
}

/// The node's own repository as a source of patches.
struct LocalSource<'d>(&'d Path);

impl Source for LocalSource<'_> {
    fn manifest(&mut self, digest: Digest, nodetype: &NodeType) -> Result<Vec<ManifestPatch>, FetchError> {
        let found = state_dir::as_owner(self.0, || store::manifest(self.0, &digest, nodetype));
        found.map_err(FetchError::Session)?.map_err(|reason| refusal(&reason))
    }
}

impl BlobSource for LocalSource<'_> {
    fn blob(&mut self, hash: &Hash, offset: u64, sink: &mut Sink<'_>) -> Result<Fetched, FetchError> {
        let found = state_dir::as_owner(self.0, || store::blob(self.0, hash));
        let Blob { mut file, signature, .. } =
            found.map_err(FetchError::Session)?.map_err(|reason| refusal(&reason))?;
        let mut piece = vec![0; 64 * 1024];
        let mut len_bytes = 0;
        file.seek(SeekFrom::Start(offset)).map_err(FetchError::Session)?;
        loop {
            match file.read(&mut piece).map_err(FetchError::Session)? {
                0 => return Ok(Fetched { len_bytes, signature }),
                len => {
                    sink(piece.get(..len).unwrap_or_default()).map_err(FetchError::Sink)?;
                    len_bytes += len as u64;
                }
            }
        }
    }
}

fn refusal(reason: &str) -> FetchError {
    FetchError::Refused(Box::new(Reason::truncated(reason)))
}

/// Shows the installer's reports as they arrive, and keeps them for the result.
struct LocalInstall<'o> {
    out: &'o mut Out,
    step: Option<Step>,
    installed: Vec<PatchId>,
    digest: Option<Digest>,
    last: Option<LastInstall>,
    failed: Option<(RefusalKind, Reason)>,
    /// thimble itself was replaced.
    is_superseded: bool,
}

impl<'o> LocalInstall<'o> {
    fn new(out: &'o mut Out) -> Self {
        Self {
            out,
            step: None,
            installed: vec![],
            digest: None,
            last: None,
            failed: None,
            is_superseded: false,
        }
    }

    /// Returns the failure that the installer reported.
    fn check(&mut self) -> Result<(), Failure> {
        let Some((kind, reason)) = self.failed.take() else { return Ok(()) };
        let exit = match kind {
            RefusalKind::Refused | RefusalKind::Unfinished | RefusalKind::SessionLost => Exit::Refused,
            RefusalKind::Verification => Exit::Verification,
        };
        let means = match self.last.as_ref().map(|last| last.outcome) {
            _ if kind == RefusalKind::Unfinished => "the daemon tries again when it starts",
            Some(Outcome::RolledBack) if self.step == Some(Step::RollingBack) => {
                "the previous set was restored"
            }
            Some(Outcome::Broken) => "the previous set could not be restored",
            _ => "nothing was changed",
        };
        Err(Failure::new(exit, format!("{reason}; {means}")))
    }

    fn show(self, outcome: &str) -> Result<(), Failure> {
        let Self { out, installed, digest, last, is_superseded, .. } = self;
        if is_superseded {
            out.line("thimble itself was replaced: the install ends once the daemon has started and heard a controller")?;
        }
        let digest = digest.unwrap_or_default();
        let owes_restart = last.as_ref().is_some_and(|last| last.reboot_required);
        let noted = last.map(|last| last.reason).filter(|_| outcome == "installed").unwrap_or_default();
        let word = if is_superseded { "until then" } else { outcome };
        out.line(format_args!("{word}: {} patches, set {digest:.12}", installed.len()))?;
        if !noted.is_empty() {
            out.line(&noted)?;
        }
        if owes_restart {
            out.line("reboot this host: until then not all of it is in effect")?;
        }
        Ok(out.json(|| {
            Value::object([
                ("outcome", Value::text(outcome)),
                ("installed_digest", Value::text(digest)),
                ("installed", Value::list(installed.iter().map(Value::text))),
                ("reboot_required", owes_restart.into()),
                ("reason", Value::text(noted)),
            ])
        })?)
    }
}

impl Reporter for LocalInstall<'_> {
    fn report(&mut self, report: &Report) -> io::Result<()> {
        match report {
            Report::Progress { step, .. } if self.step != Some(*step) => {
                self.step = Some(*step);
                return self.out.line(step.as_str());
            }
            Report::Notice(text) => return self.out.line(text),
            Report::Installed(patch) => self.installed.push(patch.id.clone()),
            Report::InstalledEnd { digest, last, .. } => {
                (self.digest, self.last) = (Some(*digest), last.clone());
            }
            Report::Superseded => self.is_superseded = true,
            Report::Failed { kind, reason } => self.failed = Some((*kind, reason.clone())),
            _ => {}
        }
        Ok(())
    }
}
