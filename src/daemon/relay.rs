//! The session of an install, kept away from root.
//!
//! The worker that installs changes any file, so it does not read what a peer sends. It starts
//! a second worker ([`Job::Fetch`]), which has the session and opens no file, and asks that one
//! for what it needs. Both sides send single postcard messages on a `SOCK_SEQPACKET` pair. What
//! comes back is bounded here anew, in number, length and time, and then verified as ever.
//!
//! The second worker begins with the first request, when no script of a recovery runs any
//! more, and ends before the first script of the install: scripts are watched by the children
//! that they leave.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pace::Pace;
use super::sys;
use crate::job::{BlobSource, FetchError, Fetched, Job, Sink, Source, SystemError};
use crate::limits;
use crate::types::{Digest, Hash, NodeType, Reason};
use crate::wire::frame::ManifestPatch;
use crate::wire::session::SessionKeys;

/// Bytes of a patch file in one answer. A socket's default buffer holds several.
const PIECE_BYTES: usize = 32 * 1024;
/// An answer, in bytes: a piece, with its length and the kind of the answer.
const ANSWER_BYTES: usize = PIECE_BYTES + 16;
/// A request, in bytes.
const ASK_BYTES: usize = 128;

/// A request of the worker that installs.
#[derive(Serialize, Deserialize)]
enum Ask {
    Manifest { digest: Digest, nodetype: NodeType },
    Blob { hash: Hash, offset: u64 },
    Part { hash: Hash, offset: u64, len_bytes: u64 },
}

/// A part of the answer.
#[derive(Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
enum Answer<'a> {
    /// A patch of the manifest.
    Patch(ManifestPatch),
    /// Bytes of the file.
    Piece(&'a [u8]),
    /// The end: the file's signature, nothing for a manifest.
    End(&'a [u8]),
    /// The controller refuses.
    Refused(Reason),
    /// The session broke.
    Broken(Reason),
}

/// A controller as the source of an install, behind a worker of its own.
pub struct RelaySource {
    /// The session, until the worker has it.
    session: Option<(OwnedFd, SessionKeys)>,
    /// How long a pause of the session may be.
    patience: Duration,
    worker: Option<Worker>,
}

/// The other worker. Ended when dropped.
struct Worker {
    /// `None` in tests.
    pid: Option<libc::pid_t>,
    channel: UnixStream,
    pace: Pace,
    buffer: Vec<u8>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            sys::end(pid);
        }
    }
}

fn broken(why: &str) -> FetchError {
    FetchError::Session(io::Error::other(why.to_owned()))
}

/// The error for an answer that does not belong to the request.
fn unexpected_answer() -> FetchError {
    broken("the worker that fetches sent an invalid answer")
}

impl RelaySource {
    /// A source that starts its worker with the first request.
    #[must_use]
    pub fn new(socket: OwnedFd, session: SessionKeys, patience: Duration) -> Self {
        Self { session: Some((socket, session)), patience, worker: None }
    }

    /// Sends a request to the worker, which is started if it has not been.
    fn ask(&mut self, ask: &Ask) -> Result<&mut Worker, FetchError> {
        if let Some((socket, session)) = self.session.take() {
            self.worker = Some(Worker::start(socket, session, self.patience).map_err(FetchError::Session)?);
        }
        let worker = self.worker.as_mut().ok_or_else(|| broken("it has ended"))?;
        worker.pace.begin();
        send(&worker.channel, ask, &mut [0; ASK_BYTES]).map_err(FetchError::Session)?;
        Ok(worker)
    }
}

impl Worker {
    fn start(socket: OwnedFd, session: SessionKeys, patience: Duration) -> io::Result<Self> {
        let (channel, theirs) = sys::message_pair()?;
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let job = Job::Fetch { session, patience_ms };
        let mut bytes = [0; 256];
        let bytes = postcard::to_slice(&job, &mut bytes).map_err(io::Error::other)?;
        sys::send_message(channel.as_fd(), bytes)?;
        let executable = File::open("/proc/self/exe")?;
        let fds = [theirs.as_raw_fd(), socket.as_raw_fd()];
        let pid = sys::spawn(executable.as_fd(), &[c"thimble", c"worker"], &fds)?;
        Self::new(Some(pid), channel, patience)
    }

    /// It has the limits of the session itself, and tells when one is reached: so they are
    /// twice as long here.
    fn new(pid: Option<libc::pid_t>, channel: OwnedFd, patience: Duration) -> io::Result<Self> {
        let channel = UnixStream::from(channel);
        let worker =
            Self { pid, channel, pace: Pace::new(patience.saturating_mul(2)), buffer: vec![0; ANSWER_BYTES] };
        worker.channel.set_nonblocking(false)?;
        Ok(worker)
    }

    /// The next part of the answer.
    fn answer(&mut self) -> Result<Answer<'_>, FetchError> {
        let got = loop {
            let left = self.pace.left().map_err(FetchError::Session)?;
            self.channel.set_read_timeout(Some(left)).map_err(FetchError::Session)?;
            match self.channel.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FetchError::Session(self.pace.explained(error))),
                Ok(0) => return Err(broken("the worker that fetches has ended")),
                Ok(got) => break got,
            }
        };
        self.pace.count(got);
        match postcard::take_from_bytes(self.buffer.get(..got).unwrap_or_default()) {
            Ok((Answer::Refused(reason), [])) => Err(FetchError::Refused(Box::new(reason))),
            Ok((Answer::Broken(reason), [])) => Err(broken(&reason.to_string())),
            Ok((answer, [])) => Ok(answer),
            _ => Err(unexpected_answer()),
        }
    }
}

impl Worker {
    /// The pieces of an answer, up to its end.
    fn pieces(&mut self, sink: &mut Sink<'_>) -> Result<Fetched, FetchError> {
        let mut len_bytes = 0;
        loop {
            match self.answer()? {
                // The sink knows how long the file may be.
                Answer::Piece(bytes) if !bytes.is_empty() => {
                    len_bytes += bytes.len() as u64;
                    sink(bytes).map_err(FetchError::Sink)?;
                }
                Answer::End(signature) if signature.len() <= limits::SIGNATURE_BYTES => {
                    return Ok(Fetched { len_bytes, signature: signature.to_vec() });
                }
                _ => return Err(unexpected_answer()),
            }
        }
    }
}

impl Source for RelaySource {
    fn manifest(&mut self, digest: Digest, nodetype: &NodeType) -> Result<Vec<ManifestPatch>, FetchError> {
        let worker = self.ask(&Ask::Manifest { digest, nodetype: nodetype.clone() })?;
        let mut patches = Vec::new();
        loop {
            match worker.answer()? {
                Answer::Patch(patch) if patches.len() < limits::EFFECTIVE => patches.push(patch),
                Answer::End([]) => return Ok(patches),
                _ => return Err(unexpected_answer()),
            }
        }
    }

    fn end(&mut self) {
        self.session = None;
        self.worker = None;
    }
}

impl BlobSource for RelaySource {
    fn blob(&mut self, hash: &Hash, offset: u64, sink: &mut Sink<'_>) -> Result<Fetched, FetchError> {
        self.ask(&Ask::Blob { hash: *hash, offset })?.pieces(sink)
    }

    fn part(&mut self, hash: &Hash, bytes: Range<u64>, sink: &mut Sink<'_>) -> Result<(), FetchError> {
        let (offset, len_bytes) = (bytes.start, bytes.end.saturating_sub(bytes.start));
        let mut left = len_bytes;
        self.ask(&Ask::Part { hash: *hash, offset, len_bytes })?.pieces(&mut |bytes| {
            left = left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
            sink(bytes)
        })?;
        if left == 0 { Ok(()) } else { Err(unexpected_answer()) }
    }
}

fn send(channel: &UnixStream, message: &impl Serialize, buffer: &mut [u8]) -> io::Result<()> {
    let bytes = postcard::to_slice(message, buffer).map_err(io::Error::other)?;
    sys::send_message(channel.as_fd(), bytes)
}

/// Passes bytes of a file on.
fn pass_on(channel: &UnixStream, bytes: &[u8], buffer: &mut [u8]) -> io::Result<()> {
    bytes.chunks(PIECE_BYTES).try_for_each(|piece| send(channel, &Answer::Piece(piece), buffer))
}

/// The worker's side: answers requests out of the session until the other side ends.
///
/// # Errors
/// The other side is gone or sent no request.
pub fn serve(channel: OwnedFd, source: &mut dyn Source) -> io::Result<()> {
    let mut channel = UnixStream::from(channel);
    let (mut ask, mut buffer) = ([0; ASK_BYTES], vec![0; ANSWER_BYTES]);
    loop {
        let got = match channel.read(&mut ask)? {
            0 => return Ok(()),
            got => got,
        };
        let answered = match postcard::from_bytes(&ask[..got]).map_err(io::Error::other)? {
            Ask::Manifest { digest, nodetype } => match source.manifest(digest, &nodetype) {
                Ok(patches) => {
                    for patch in patches {
                        send(&channel, &Answer::Patch(patch), &mut buffer)?;
                    }
                    Ok(Vec::new())
                }
                Err(error) => Err(error),
            },
            Ask::Blob { hash, offset } => source
                .blob(&hash, offset, &mut |bytes| pass_on(&channel, bytes, &mut buffer))
                .map(|fetched| fetched.signature),
            Ask::Part { hash, offset, len_bytes } => source
                .part(&hash, offset..offset.saturating_add(len_bytes), &mut |bytes| {
                    pass_on(&channel, bytes, &mut buffer)
                })
                .map(|()| Vec::new()),
        };
        let end = match &answered {
            Ok(signature) => Answer::End(signature),
            Err(FetchError::Refused(reason)) => Answer::Refused((**reason).clone()),
            Err(FetchError::Session(error)) => {
                Answer::Broken(Reason::format(format_args!("{}", SystemError(error))))
            }
            Err(FetchError::Sink(error)) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        send(&channel, &end, &mut buffer)?;
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::types::PatchId;

    const HASH: Hash = Hash([7; 32]);
    const SECOND: Duration = Duration::from_secs(1);

    fn patch(number: usize) -> ManifestPatch {
        let id = PatchId::new(&format!("PATCH-{number}")).unwrap();
        ManifestPatch { id, hash: HASH, size_bytes: 1, committed: false }
    }

    /// A source, and the worker's end of its channel.
    fn source(patience: Duration) -> (RelaySource, OwnedFd) {
        let (ours, theirs) = sys::message_pair().unwrap();
        let worker = Some(Worker::new(None, ours, patience).unwrap());
        (RelaySource { session: None, patience, worker }, theirs)
    }

    /// What the source makes of answers that it has not asked for.
    fn taken(answers: &[Answer<'_>]) -> (RelaySource, OwnedFd) {
        let (source, theirs) = source(SECOND);
        let theirs = UnixStream::from(theirs);
        for answer in answers {
            send(&theirs, answer, &mut vec![0; 2 * ANSWER_BYTES]).unwrap();
        }
        (source, theirs.into())
    }

    fn manifest(source: &mut RelaySource) -> Result<Vec<ManifestPatch>, FetchError> {
        source.manifest(Digest([1; 32]), &NodeType::new("worker").unwrap())
    }

    fn blob(source: &mut RelaySource) -> (Vec<u8>, Result<Fetched, FetchError>) {
        let mut bytes = Vec::new();
        let fetched = source.blob(&HASH, 5, &mut |piece| {
            bytes.extend(piece);
            Ok(())
        });
        (bytes, fetched)
    }

    fn is_invalid<T>(result: Result<T, FetchError>) -> bool {
        matches!(result, Err(FetchError::Session(error)) if error.to_string().contains("invalid answer"))
    }

    /// A controller, as the worker sees it.
    struct Played {
        patches: usize,
        file: Vec<u8>,
    }

    impl Source for Played {
        fn manifest(&mut self, digest: Digest, _: &NodeType) -> Result<Vec<ManifestPatch>, FetchError> {
            assert_eq!(digest, Digest([1; 32]));
            if self.patches == 0 {
                return Err(FetchError::Refused(Box::new(Reason::truncated("none of that"))));
            }
            Ok((0..self.patches).map(patch).collect())
        }
    }

    impl BlobSource for Played {
        fn blob(&mut self, hash: &Hash, offset: u64, sink: &mut Sink<'_>) -> Result<Fetched, FetchError> {
            assert_eq!((hash, offset), (&HASH, 5));
            sink(&self.file).map_err(FetchError::Sink)?;
            if self.file.is_empty() {
                return Err(FetchError::Session(io::Error::from_raw_os_error(libc::ECONNRESET)));
            }
            Ok(Fetched { len_bytes: self.file.len() as u64, signature: vec![9; limits::SIGNATURE_BYTES] })
        }
    }

    /// A source whose worker plays this controller.
    fn with(played: Played, act: impl FnOnce(&mut RelaySource)) {
        let (mut source, theirs) = source(60 * SECOND);
        let mut played = played;
        let worker = thread::spawn(move || serve(theirs, &mut played));
        act(&mut source);
        drop(source);
        worker.join().unwrap().unwrap();
    }

    #[test]
    fn what_the_controller_sends_arrives_whole_and_is_refused_for_its_reason() {
        let file: Vec<u8> = (0..3 * PIECE_BYTES + 17).map(|at| (at % 251) as u8).collect();
        with(Played { patches: limits::EFFECTIVE, file: file.clone() }, |source| {
            let patches: Vec<_> = (0..limits::EFFECTIVE).map(patch).collect();
            assert_eq!(manifest(source).unwrap(), patches);
            let (bytes, fetched) = blob(source);
            assert!(bytes == file);
            let signature = vec![9; limits::SIGNATURE_BYTES];
            assert_eq!(fetched.unwrap(), Fetched { len_bytes: file.len() as u64, signature });
        });
        with(Played { patches: 0, file: Vec::new() }, |source| {
            let refused = manifest(source).unwrap_err().to_string();
            assert_eq!(refused, "the controller says: none of that");
            let broken = blob(source).1.unwrap_err().to_string();
            assert!(
                broken.starts_with("the session to the controller broke: Connection reset by peer: install")
            );
        });
    }

    #[test]
    fn an_answer_that_does_not_belong_to_the_request_is_refused() {
        let too_many: Vec<_> = (0..=limits::EFFECTIVE).map(|number| Answer::Patch(patch(number))).collect();
        for answers in [&too_many[..], &[Answer::Piece(b"x")], &[Answer::End(b"x")]] {
            let (mut source, _theirs) = taken(answers);
            assert!(is_invalid(manifest(&mut source)));
        }
        let long = vec![0; PIECE_BYTES + 20];
        let too_long = [Answer::Piece(&long)];
        let signature = [Answer::End(&long[..limits::SIGNATURE_BYTES + 1])];
        for answers in [&too_long[..], &signature, &[Answer::Piece(b"")], &[Answer::Patch(patch(1))]] {
            let (mut source, _theirs) = taken(answers);
            assert!(is_invalid(blob(&mut source).1));
        }
        for nonsense in [&b"\xFF"[..], b"\x01\x05x", b"\x02\x00more"] {
            let (mut source, theirs) = source(SECOND);
            sys::send_message(theirs.as_fd(), nonsense).unwrap();
            assert!(is_invalid(blob(&mut source).1), "{nonsense:?}");
        }
    }

    #[test]
    fn a_worker_that_ends_or_says_nothing_breaks_the_session() {
        let (mut silent, theirs) = source(SECOND / 20);
        let late = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
        let error = blob(&mut silent).1.unwrap_err();
        assert!(matches!(error, FetchError::Session(error) if late.contains(&error.kind())));
        drop(theirs);
        assert!(matches!(blob(&mut silent).1, Err(FetchError::Session(_))));

        let (mut ended, theirs) = taken(&[Answer::Piece(b"x")]);
        let theirs = thread::spawn(move || {
            let mut ask = [0; ASK_BYTES];
            sys::recv_message(theirs.as_fd(), &mut ask).unwrap();
        });
        let (bytes, fetched) = blob(&mut ended);
        assert_eq!(bytes, b"x");
        assert!(fetched.unwrap_err().to_string().contains("the worker that fetches has ended"));
        theirs.join().unwrap();
        ended.end();
        assert!(matches!(manifest(&mut ended), Err(FetchError::Session(_))));
    }

    #[test]
    fn pieces_that_trickle_in_are_given_up() {
        let (mut slow, theirs) = source(SECOND / 5);
        let theirs = UnixStream::from(theirs);
        let trickle = thread::spawn(move || {
            // Until the other side has given up: a byte earns an eighth of a millisecond.
            for _ in 0..1_000 {
                if send(&theirs, &Answer::Piece(b"x"), &mut [0; 8]).is_err() {
                    return true;
                }
                thread::sleep(SECOND / 50);
            }
            false
        });
        assert!(matches!(blob(&mut slow).1, Err(FetchError::Session(_))));
        drop(slow);
        assert!(trickle.join().unwrap(), "it is waited for without end");
    }
}
