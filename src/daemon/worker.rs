//! The worker's `main`: this binary, started again by the loop for one job.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::confine::{Access, NOWHERE, confine};
use super::exchange::Exchange;
use super::fetch::SessionSource;
use super::relay::{self, RelaySource};
use super::spread::source::CachedSource;
use super::{log as lines, names, reload, serve, spread, sys};
use crate::config::Config;
use crate::control::Reply;
use crate::control::frame::{self, FRAME_BYTES};
use crate::install;
use crate::job::reporter::Reporter;
use crate::job::{CHANNEL_FD, CONFIG_FD, FIRST_FILE_FD, Job, RefusalKind, Report};
use crate::limits;
use crate::store::{self, Offered};
use crate::types::Reason;

/// Executes the job that the loop has sent on the channel. With the argument `install` it is
/// the installer's, and accepts an agent's jobs alone.
#[must_use]
pub fn main() -> ExitCode {
    lines::set_up("thimble worker");
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The argument of a worker that the installer starts.
pub const INSTALL: &str = "install";

/// How long a daemon that is not root may leave a report of its installer's worker unread: it is
/// not to hold what is root's, such as the lock of an install.
const REPORT_LIMIT: Duration = Duration::from_secs(30);

/// Sends reports to the loop.
struct Channel(OwnedFd);

impl Reporter for Channel {
    fn report(&mut self, report: &Report) -> io::Result<()> {
        let mut bytes = [0; limits::REPORT_BYTES];
        let bytes = postcard::to_slice(report, &mut bytes).map_err(io::Error::other)?;
        match sys::send_message(self.0.as_fd(), bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                log::error!("the daemon takes no reports: the worker ends, as if the daemon had ended");
                std::process::exit(1)
            }
            sent => sent,
        }
    }
}

fn run() -> Result<(), String> {
    let not_a_worker = |_| "workers are started by the daemon: use `thimble run`".to_owned();
    let channel = sys::take_inherited(CHANNEL_FD).map_err(not_a_worker)?;
    let config = sys::take_inherited(CONFIG_FD).map_err(not_a_worker)?;
    let mut bytes = vec![0; limits::JOB_BYTES];
    let got = sys::recv_message(channel.as_fd(), &mut bytes).map_err(|error| format!("job: {error}"))?;
    let job: Job = postcard::from_bytes(&bytes[..got]).map_err(|error| format!("job: {error}"))?;
    let is_installers = std::env::args_os().nth(2).is_some_and(|word| word == INSTALL);
    if is_installers && !matches!(job, Job::Recover { .. } | Job::Prove { .. } | Job::Install { .. }) {
        return Err("the daemon asks the installer for something else than an install".to_owned());
    }
    // std's type for sockets that keep the bounds of messages.
    let channel = UnixDatagram::from(channel);
    let limit = is_installers.then_some(REPORT_LIMIT);
    channel.set_write_timeout(limit).map_err(|error| format!("channel: {error}"))?;
    let mut channel = Channel(channel.into());
    if let Job::Fetch { session, patience_ms } = job {
        if give_up_the_rest(Path::new(NOWHERE), Access::Nothing, &mut channel)?.is_none() {
            return Ok(());
        }
        // It is started without a configuration.
        let socket = config;
        return Exchange::new(socket, session, Duration::from_millis(patience_ms))
            .and_then(|exchange| relay::serve(channel.0, &mut SessionSource::new(exchange)))
            .map_err(|error| format!("fetching: {error}"));
    }
    let texts = read_texts(&File::from(config)).map_err(|error| format!("configuration: {error}"))?;
    let mut config = Config::held(&texts).map_err(|error| error.to_string())?;
    if let Some(access) = access(&job) {
        match give_up_the_rest(&config.node.state_dir, access, &mut channel)? {
            Some(state_dir) => config.node.state_dir = state_dir,
            None => return Ok(()),
        }
    }
    execute(&config, &texts, job, &mut channel).map_err(|error| error.to_string())
}

/// Gives up all but this directory. Returns its path from now on; `None` in a test build that
/// was told to do something else than its job.
#[cfg_attr(not(feature = "proof"), allow(unused_variables, reason = "for test builds"))]
fn give_up_the_rest(dir: &Path, access: Access, channel: &mut Channel) -> Result<Option<PathBuf>, String> {
    let confine = || {
        confine(dir, access).map_err(|error| {
            let path = dir.display();
            format!("the worker cannot be confined to {path}: {error}")
        })
    };
    #[cfg(feature = "proof")]
    {
        use super::confine::taken_over::{is_unconfined, run};
        let dir = if is_unconfined() { dir.to_owned() } else { confine()? };
        let has_run = run(&dir, channel).map_err(|error| error.to_string())?;
        Ok((!has_run).then_some(dir))
    }
    #[cfg(not(feature = "proof"))]
    confine().map(Some)
}

/// The configuration as the daemon has read it: see [`Config::held`].
fn read_texts(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
    // Read at a given offset: the descriptor's own offset is shared with other workers.
    file.read_exact_at(&mut bytes, 0)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// What a job needs of the state directory, if it needs nothing else of the host.
fn access(job: &Job) -> Option<Access> {
    match job {
        // The host's files, and its scripts.
        Job::Recover { .. } | Job::Prove { .. } | Job::Install { .. } => None,
        // The files that the configuration names.
        Job::Reload(_) => None,
        // The files and sockets of the system's resolver.
        Job::Resolve => None,
        Job::Fetch { .. } => Some(Access::Nothing),
        Job::Serve { .. } | Job::Show { .. } | Job::Spread(_) => Some(Access::Read),
        Job::Load { .. }
        | Job::Change(_)
        | Job::Upload { .. }
        | Job::Pull { .. }
        | Job::Blobs(_)
        | Job::Rollout(_)
        | Job::Purge(_)
        | Job::Receive(_)
        | Job::DropController(_) => Some(Access::Write),
    }
}

fn execute(config: &Config, texts: &str, job: Job, channel: &mut Channel) -> io::Result<()> {
    // A worker waits longer than the loop does: the peer may write to a slow flash.
    let timeout = Duration::from_millis(config.timers.session_idle_ms) * 6;
    match job {
        Job::Recover { stopped } => install::recover(config, stopped.as_ref().map(Reason::raw), channel),
        Job::Prove { is_heard } => install::prove(config, is_heard, channel),
        Job::Install { request, session, witness } => {
            let socket = sys::take_inherited(FIRST_FILE_FD)?;
            let mut session = RelaySource::new(socket, session, timeout);
            let mut source = CachedSource::new(&mut session, &config.node.state_dir);
            install::install_watched(config, &request, &mut source, witness, channel);
        }
        // It has no configuration: see `run`.
        Job::Fetch { .. } => {}
        Job::Load { is_start } => return store::load(config, is_start, channel),
        Job::Change(change) => return store::change(config, &change, channel),
        Job::Upload { names, renew } => {
            let mut offered = Vec::new();
            for (fd, name) in (FIRST_FILE_FD..).step_by(2).zip(&names) {
                offered.push(Offered {
                    name: name.to_string(),
                    patch: sys::take_inherited(fd)?.into(),
                    signature: sys::take_inherited(fd + 1)?.into(),
                });
            }
            return store::upload(config, offered, renew, channel);
        }
        Job::Pull { agreed, session } => {
            let (peer, socket) = (session.peer, sys::take_inherited(FIRST_FILE_FD)?);
            let mut source = Exchange::new(socket, session, timeout)?;
            return store::pull(config, peer, agreed, &mut source, channel);
        }
        Job::Blobs(session) => {
            let (peer, socket) = (session.peer, sys::take_inherited(FIRST_FILE_FD)?);
            let mut source = SessionSource::new(Exchange::new(socket, session, timeout)?);
            return store::fetch_blobs(config, peer, &mut source, channel);
        }
        Job::Rollout(change) => return store::change_rollout(config, &change, channel),
        Job::Purge(agreed) => return store::purge(config, agreed, channel),
        Job::DropController(node) => return store::drop_controller(config, node, channel),
        Job::Serve { purpose, session: keys } => {
            let socket = sys::take_inherited(FIRST_FILE_FD)?;
            let served = Exchange::new(socket, keys, timeout)
                .and_then(|mut exchange| serve::serve(&config.node.state_dir, &mut exchange, purpose));
            return channel.report(&match served {
                Ok(()) => Report::Done,
                Err(error) => {
                    let reason = Reason::format(format_args!("a session ended early: {error}"));
                    Report::Failed { kind: RefusalKind::Refused, reason }
                }
            });
        }
        Job::Reload(job) => {
            let mut memory = File::from(sys::take_inherited(FIRST_FILE_FD)?);
            return reload::execute(config, texts, &job, &mut memory, channel);
        }
        Job::Resolve => return names::resolve(config, channel),
        Job::Spread(job) => {
            let mut sockets = Vec::new();
            while let Ok(socket) = sys::take_inherited(FIRST_FILE_FD + sockets.len() as i32) {
                sockets.push(socket);
            }
            let inputs = channel.0.try_clone()?;
            return spread::send::send(&config.node.state_dir, &job, &sockets, &inputs, channel);
        }
        Job::Receive(job) => {
            let (socket, inputs) = (sys::take_inherited(FIRST_FILE_FD)?, channel.0.try_clone()?);
            let room = (config.agent.spread_cache_bytes, config.agent.reserve_bytes);
            return spread::receive::receive(&config.node.state_dir, room, &job, &socket, &inputs, channel);
        }
        Job::Show { ids, json } => {
            let stream = UnixStream::from(sys::take_inherited(FIRST_FILE_FD)?);
            stream.set_nonblocking(false)?;
            stream.set_write_timeout(Some(timeout))?;
            let mut out = Replies { stream };
            let shown = store::show(config, &ids, json, &mut out);
            let last = match shown {
                Ok(()) => Reply::End,
                Err(failure) => {
                    Reply::Error { kind: failure.kind.into(), reason: Reason::truncated(&failure.reason) }
                }
            };
            out.send(&last)?;
            let done = Report::Done;
            return channel.report(&done);
        }
    }
    Ok(())
}

/// Output for a command, as replies on its connection.
struct Replies {
    stream: UnixStream,
}

impl Replies {
    fn send(&mut self, reply: &Reply) -> io::Result<()> {
        let mut buffer = vec![0; FRAME_BYTES];
        let len = frame::encode(reply, &mut buffer).ok_or(io::ErrorKind::InvalidInput)?;
        self.stream.write_all(&buffer[..len])
    }
}

impl Write for Replies {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.chunks(2048) {
            let piece = heapless::Vec::from_slice(piece).map_err(|_| io::ErrorKind::InvalidInput)?;
            self.send(&Reply::Output(piece))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
