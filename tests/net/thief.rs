//! A thief with a controller's key serves manifests of signed patches as he likes. What the
//! makers have said of their order holds nevertheless.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use thimble::config::keys::KeyFile;
use thimble::limits;
use thimble::repo::digest::set_digest;
use thimble::types::{Hash, NodeId, Nonce, PatchId, RequestId};
use thimble::wire::frame::{Frame, ManifestPatch, Purpose, Role};
use thimble::wire::install::Outcome;
use thimble::wire::messages::{AgentInstallReq, HelloAgent, Message};
use thimble::wire::session::{OPENING_BYTES, Opening, SessionKeys, frame_len};

use crate::cluster::Cluster;
use crate::forge::{Forger, with_keys_of};
use crate::over::{Datagrams, To};
use crate::patch::Patch;
use crate::support::sign::signature_path;
use crate::wait;

const THIEF: NodeId = NodeId(0xBAD);

/// A controller that has any patches and asks for any set.
struct Thief<'c> {
    cluster: &'c Cluster,
    socket: Datagrams,
    listener: TcpListener,
    forger: Forger,
    /// By id: what a manifest says, the file, the signature.
    patches: BTreeMap<String, (ManifestPatch, Vec<u8>, Vec<u8>)>,
    requests: u64,
}

impl<'c> Thief<'c> {
    fn new(cluster: &'c Cluster) -> Self {
        Self {
            cluster,
            socket: Datagrams::serving(&cluster.stranger, Role::Controller),
            listener: cluster.stranger.enter(|| TcpListener::bind("0.0.0.0:7488")).unwrap(),
            forger: with_keys_of(&cluster.nodes[0], Role::Controller, Some(THIEF)),
            patches: BTreeMap::new(),
            requests: 0,
        }
    }

    /// Has a patch that a maker signed.
    fn has(&mut self, patch: &Patch) {
        let path = patch.signed(self.cluster);
        let (file, signature) = (fs::read(&path).unwrap(), fs::read(signature_path(&path)).unwrap());
        let manifest = ManifestPatch {
            id: PatchId::new(&patch.id).unwrap(),
            hash: Hash(*blake3::hash(&file).as_bytes()),
            size_bytes: file.len() as u64,
            committed: false,
        };
        self.patches.insert(patch.id.clone(), (manifest, file, signature));
    }

    fn send(&mut self, message: &Message) {
        let agent = &self.cluster.nodes[1];
        let id = KeyFile::read(&agent.key_file()).unwrap().node;
        let datagram = self.forger.encode(message, id);
        self.socket.send(&datagram, To::One(Role::Agent, agent.address));
    }

    /// The next message to controllers of which this makes something.
    fn hears<T>(&mut self, pick: impl Fn(&Message) -> Option<T>) -> T {
        loop {
            let (datagram, _) = self.socket.recv();
            let message = self.forger.decode(&datagram).map(|received| received.message);
            if let Some(picked) = message.ok().as_ref().and_then(&pick) {
                return picked;
            }
        }
    }

    fn nonce(&mut self) -> Nonce {
        self.send(&Message::HelloAgent(HelloAgent { op_counter: 0, ack_window_ms: 1 }));
        self.hears(|message| match message {
            Message::HelloAgentAck(ack) => Some(ack.nonce),
            _ => None,
        })
    }

    /// Has the agent install this set. Returns how it ended, and why.
    fn installs(&mut self, set: &[&str]) -> (Outcome, String) {
        let mut manifest: Vec<_> = set.iter().map(|id| self.patches[*id].0.clone()).collect();
        manifest.sort_by(|a, b| a.id.cmp(&b.id));
        let digest = set_digest(manifest.iter().map(|patch| (&patch.id, &patch.hash)));
        self.requests += 1;
        let (request_id, nonce) = (RequestId(self.requests), self.nonce());
        self.send(&Message::AgentInstallReq(AgentInstallReq { request_id, nonce, digest, force: true }));
        let stream = self.listener.accept().unwrap().0;
        self.serve(stream, &manifest);
        self.hears(|message| match message {
            Message::AgentInstallResp(said) if said.request_id == request_id => {
                Some((said.outcome.expect("it was free"), said.reject_reason.to_string()))
            }
            _ => None,
        })
    }

    /// Serves one session to its end.
    fn serve(&self, mut stream: TcpStream, manifest: &[ManifestPatch]) {
        stream.set_read_timeout(Some(wait::LONG)).unwrap();
        let file = KeyFile::read(&self.cluster.nodes[0].key_file()).unwrap();
        let mut theirs = [0; OPENING_BYTES];
        stream.read_exact(&mut theirs).unwrap();
        let theirs = Opening::parse(&theirs).unwrap();
        let mine = Opening { role: Role::Controller, node: THIEF, nonce: [7; 32], ..theirs };
        stream.write_all(&mine.emit()).unwrap();
        let mut keys = SessionKeys::derive(&file.ring(), &mine, &theirs, false).unwrap();
        let say = |keys: &mut SessionKeys, mut stream: &TcpStream, frame: &Frame| {
            let mut bytes = [0; limits::FRAME_BYTES];
            let len = keys.seal(frame, &mut bytes);
            stream.write_all(&bytes[..len]).unwrap();
        };
        while let Some(frame) = receive(&mut keys, &mut stream) {
            match frame {
                Frame::Open { .. } => {
                    let (role, node, peer) = (Role::Controller, THIEF, theirs.node);
                    say(&mut keys, &stream, &Frame::Open { role, node, peer, purpose: Purpose::Fetch });
                }
                Frame::ManifestReq { .. } => {
                    let patches = manifest.iter().cloned().collect();
                    say(&mut keys, &stream, &Frame::ManifestPage { patches });
                    say(&mut keys, &stream, &Frame::End);
                }
                Frame::BlobReq { hash, offset } => {
                    let is_it = |(patch, ..): &&(ManifestPatch, _, _)| patch.hash == hash;
                    let (_, file, signature) = self.patches.values().find(is_it).expect("it has the file");
                    let rest = &file[usize::try_from(offset).unwrap()..];
                    let signature = signature.iter().copied().collect();
                    say(&mut keys, &stream, &Frame::Blob { len_bytes: rest.len() as u64, signature });
                    stream.write_all(rest).unwrap();
                    say(&mut keys, &stream, &Frame::End);
                }
                _ => return,
            }
        }
    }
}

/// The next frame; `None` at the end of the session.
fn receive(keys: &mut SessionKeys, stream: &mut TcpStream) -> Option<Frame> {
    let mut bytes = Vec::new();
    while bytes.len() < frame_len(&bytes) {
        let got = bytes.len();
        bytes.resize(frame_len(&bytes), 0);
        stream.read_exact(&mut bytes[got..]).ok()?;
    }
    Some(keys.open(&bytes).unwrap().expect("a whole frame").0)
}

#[test]
fn a_host_refuses_what_lacks_a_required_patch_or_would_lie_where_no_maker_has_put_it() {
    need_root!();
    let cluster = Cluster::new("thief-of-order", 1).start();
    let patch = |id: &str, path: &str| Patch::new(&cluster, id).file(path, id.as_bytes());
    let mut thief = Thief::new(&cluster);
    thief.has(&patch("BASE-1", "etc/base"));
    thief.has(&patch("TOP-1", "etc/top").metadata("requires = [\"BASE-1\"]"));
    thief.has(&patch("MENDED-1", "etc/service"));
    // An older one, whose id is higher: without a rule it would lie on top.
    thief.has(&patch("OLD-1", "etc/service"));
    let root = cluster.nodes[1].root().join("etc");
    let content = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
    let refused = |(outcome, reason): (Outcome, String), words: &str| {
        assert_eq!(outcome, Outcome::Rejected, "{reason}");
        assert!(reason.contains(words), "{reason}");
    };

    let lacks = "TOP-1 requires BASE-1, which the set lacks: apply that as well, or remove TOP-1";
    refused(thief.installs(&["TOP-1"]), lacks);
    assert_eq!(thief.installs(&["BASE-1", "MENDED-1", "TOP-1"]), (Outcome::Installed, String::new()));
    refused(thief.installs(&["MENDED-1", "TOP-1"]), lacks);
    assert_eq!((content("base"), content("top")), ("BASE-1".into(), "TOP-1".into()));

    let unordered = "MENDED-1 and OLD-1 share a path and neither requires the other, so none can lie on \
                     top: apply only one of them. The path is /etc/service";
    refused(thief.installs(&["MENDED-1", "OLD-1"]), unordered);
    refused(thief.installs(&["BASE-1", "MENDED-1", "OLD-1", "TOP-1"]), unordered);
    assert_eq!(content("service"), "MENDED-1");
    assert!(cluster.nodes[1].log().contains(unordered), "the host's log has it");
}
