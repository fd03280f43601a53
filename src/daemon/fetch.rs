//! The fetching end of a session: reads manifests and patch files from a controller.
//! Used by an agent that installs, and by a controller that lacks patch files.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;

use super::exchange::Exchange;
use crate::job::{BlobSource, FetchError, Fetched, Sink, Source};
use crate::types::{Digest, Hash, NodeType};
use crate::wire::frame::{Frame, ManifestPatch};

/// Bytes of a patch file that are read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// A controller as the source of manifests and patch files, over a session.
pub struct SessionSource {
    exchange: Exchange,
    /// The requests for patch files that were sent and whose answers have not been read.
    asked: VecDeque<(Hash, u64)>,
}

impl SessionSource {
    /// Takes over a session in which nothing is asked yet.
    #[must_use]
    pub fn new(exchange: Exchange) -> Self {
        Self { exchange, asked: VecDeque::new() }
    }

    /// Reads an answer that is not wanted any more.
    fn drop_answer(&mut self) -> Result<(), FetchError> {
        self.exchange.begin_phase();
        match self.answer(&mut |_| Ok(())) {
            Ok(_) | Err(FetchError::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads the answer to a request for a patch file.
    fn answer(&mut self, sink: &mut Sink<'_>) -> Result<Fetched, FetchError> {
        let Frame::Blob { len_bytes, signature } = receive(&mut self.exchange)? else {
            return Err(unexpected_frame());
        };
        let room = |left: u64| usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let mut piece = vec![0; room(len_bytes)];
        let mut left = len_bytes;
        while left > 0 {
            match self.exchange.read(&mut piece[..room(left)]) {
                Ok(0) => return Err(FetchError::Session(io::ErrorKind::UnexpectedEof.into())),
                Ok(got) => {
                    left -= got as u64;
                    sink(&piece[..got]).map_err(FetchError::Sink)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FetchError::Session(error)),
            }
        }
        match receive(&mut self.exchange)? {
            Frame::End => Ok(Fetched { len_bytes, signature: signature.to_vec() }),
            _ => Err(unexpected_frame()),
        }
    }
}

fn request(exchange: &mut Exchange, frame: Frame) -> Result<(), FetchError> {
    exchange.request(frame).map_err(FetchError::Session)
}

/// The next frame of an answer.
pub(super) fn receive(exchange: &mut Exchange) -> Result<Frame, FetchError> {
    match exchange.receive() {
        Ok(Some(Frame::Refused { reason })) => Err(FetchError::Refused(Box::new(reason))),
        Ok(Some(frame)) => Ok(frame),
        Ok(None) => Err(FetchError::Session(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(FetchError::Session(error)),
    }
}

/// The error for a frame that does not belong into the answer.
pub(super) fn unexpected_frame() -> FetchError {
    FetchError::Session(io::ErrorKind::InvalidData.into())
}

impl Source for SessionSource {
    fn manifest(&mut self, digest: Digest, nodetype: &NodeType) -> Result<Vec<ManifestPatch>, FetchError> {
        request(&mut self.exchange, Frame::ManifestReq { digest, nodetype: nodetype.clone() })?;
        let mut patches = Vec::new();
        loop {
            match receive(&mut self.exchange)? {
                // No page is empty, or there could be any number of them.
                Frame::ManifestPage { patches: page } if !page.is_empty() => patches.extend(page),
                Frame::End => return Ok(patches),
                _ => return Err(unexpected_frame()),
            }
            if patches.len() > crate::limits::EFFECTIVE {
                return Err(unexpected_frame());
            }
        }
    }
}

impl BlobSource for SessionSource {
    fn blob(&mut self, hash: &Hash, offset: u64, sink: &mut Sink<'_>) -> Result<Fetched, FetchError> {
        let wanted = (*hash, offset);
        if !self.asked.contains(&wanted) {
            self.asked.push_back(wanted);
            request(&mut self.exchange, Frame::BlobReq { hash: *hash, offset })?;
        }
        // Answers that are not wanted any more come first.
        while let Some(asked) = self.asked.pop_front() {
            if asked == wanted {
                self.exchange.begin_phase();
                return self.answer(sink);
            }
            self.drop_answer()?;
        }
        Err(unexpected_frame())
    }

    fn part(&mut self, hash: &Hash, bytes: Range<u64>, sink: &mut Sink<'_>) -> Result<(), FetchError> {
        // Answers that are not wanted any more come first.
        while self.asked.pop_front().is_some() {
            self.drop_answer()?;
        }
        let (offset, len_bytes) = (bytes.start, bytes.end.saturating_sub(bytes.start));
        request(&mut self.exchange, Frame::BlobPartReq { hash: *hash, offset, len_bytes })?;
        self.exchange.begin_phase();
        match self.answer(sink)?.len_bytes == len_bytes {
            true => Ok(()),
            false => Err(unexpected_frame()),
        }
    }

    fn ahead(&mut self, hash: &Hash, offset: u64) {
        // If that fails, so does what is asked next.
        if self.exchange.send(Frame::BlobReq { hash: *hash, offset }).is_ok() {
            self.asked.push_back((*hash, offset));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::limits;
    use crate::types::{ClusterId, NodeId};
    use crate::wire::frame::Role;
    use crate::wire::keys::{Key, KeyRing};
    use crate::wire::session::{Opening, SessionKeys};

    /// A session, the other end of its connection, and that end's keys.
    fn session() -> (SessionSource, TcpStream, SessionKeys) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ring = KeyRing::controller(&Key([7; 32]));
        let [ours, theirs] = [1, 2].map(|node| {
            let (role, cluster) = (Role::Controller, ClusterId(1));
            Opening { key_slot: 0, role, cluster, node: NodeId(node), nonce: [node as u8; 32] }
        });
        let their_keys = SessionKeys::derive(&ring, &theirs, &ours, false).unwrap();
        let keys = SessionKeys::derive(&ring, &ours, &theirs, true).unwrap();
        let socket = listener.accept().unwrap().0.into();
        let exchange = Exchange::new(socket, keys, Duration::from_secs(20)).unwrap();
        (SessionSource::new(exchange), peer, their_keys)
    }

    /// What a source takes for the manifest that these pages are.
    fn manifest(pages: &[&[ManifestPatch]]) -> Result<Vec<ManifestPatch>, FetchError> {
        let (mut source, mut peer, mut sealing) = session();
        let mut buffer = [0; limits::FRAME_BYTES];
        let pages = pages.iter().map(|page| Frame::ManifestPage { patches: page.iter().cloned().collect() });
        for frame in pages.chain([Frame::End]) {
            let len = sealing.seal(&frame, &mut buffer);
            peer.write_all(&buffer[..len]).unwrap();
        }
        source.manifest(Digest([1; 32]), &NodeType::new("worker").unwrap())
    }

    #[test]
    fn a_manifest_has_a_bound_in_patches_and_in_pages() {
        let patch = |number| {
            let id = crate::types::PatchId::new(&format!("PATCH-{number}")).unwrap();
            ManifestPatch { id, hash: Hash([7; 32]), size_bytes: 1, committed: false }
        };
        let all: Vec<_> = (0..limits::EFFECTIVE + 1).map(patch).collect();
        let pages: Vec<_> = all.chunks(limits::PAGE_PATCHES).collect();
        assert_eq!(manifest(&[]).unwrap(), []);
        assert_eq!(manifest(&pages[..2]).unwrap(), &all[..2 * limits::PAGE_PATCHES]);
        let invalid = [manifest(&pages), manifest(&[&[]])];
        for refused in invalid {
            let is_invalid = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
            assert!(matches!(&refused, Err(FetchError::Session(error)) if is_invalid(error)), "{refused:?}");
        }
    }

    /// Requests that are sent ahead are answered in their order; an answer that nobody came for is
    /// skipped, and asked for again when somebody does.
    #[test]
    fn files_that_are_asked_for_ahead_come_in_order_or_are_skipped() {
        let (mut source, mut peer, mut theirs) = session();
        let mut buffer = [0; limits::FRAME_BYTES];
        let hashes = [1, 2, 3, 4].map(|byte| Hash([byte; 32]));
        let [one, two, gone, four] = hashes;
        for hash in [one, gone, two, four] {
            source.ahead(&hash, 5);
        }
        let mut answer = |bytes: Option<&[u8]>| {
            let frames = match bytes {
                None => vec![(
                    Frame::Refused { reason: crate::types::Reason::truncated("it is not here") },
                    &[][..],
                )],
                Some(bytes) => {
                    let signature = heapless::Vec::from_slice(b"signature").unwrap();
                    vec![
                        (Frame::Blob { len_bytes: bytes.len() as u64, signature }, bytes),
                        (Frame::End, &[][..]),
                    ]
                }
            };
            for (frame, raw) in frames {
                let len = theirs.seal(&frame, &mut buffer);
                peer.write_all(&buffer[..len]).unwrap();
                peer.write_all(raw).unwrap();
            }
        };
        for bytes in [Some(&b"one"[..]), None, Some(b"two"), Some(b"four"), Some(b"two again")] {
            answer(bytes);
        }
        let mut blob = |hash: &Hash| {
            let mut bytes = Vec::new();
            let fetched = source.blob(hash, 5, &mut |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            });
            assert_eq!(fetched.unwrap().signature, b"signature");
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!([blob(&one), blob(&four), blob(&two)], ["one", "four", "two again"]);
        drop(source);
        let mut asked = Vec::new();
        peer.read_to_end(&mut asked).unwrap();
        let mut rest = &asked[..];
        let mut order = Vec::new();
        while let Some((frame, used)) = theirs.open(rest).unwrap() {
            let Frame::BlobReq { hash, offset: 5 } = frame else { panic!("{frame:?}") };
            order.push(hash);
            rest = &rest[used..];
        }
        assert_eq!(order, [one, gone, two, four, two]);
    }
}
