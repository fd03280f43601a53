//! A daemon with prepared answers.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

use thimble::control::{Reply, Request};

/// A daemon that answers each request after the greeting with the next of `answers`,
/// and closes the connection at an empty one.
pub fn daemon(dir: &Path, answers: Vec<Vec<Reply>>) -> JoinHandle<Vec<Request>> {
    let listener = UnixListener::bind(dir.join("sock")).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(matches!(receive(&mut stream), Some(Request::Hello { .. })));
        send(&mut stream, &Reply::End);
        let mut requests = Vec::new();
        for answer in answers {
            requests.extend(receive(&mut stream));
            if answer.is_empty() {
                return requests;
            }
            answer.iter().for_each(|reply| send(&mut stream, reply));
        }
        assert!(receive(&mut stream).is_none(), "the command sent more requests than expected");
        requests
    })
}

/// The next request, or `None` if the command has closed the connection.
pub fn receive(stream: &mut UnixStream) -> Option<Request> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).ok()?;
    let mut body = vec![0; u32::from_le_bytes(head) as usize];
    stream.read_exact(&mut body).unwrap();
    Some(postcard::from_bytes(&body).unwrap())
}

/// Sends a reply.
pub fn send(stream: &mut UnixStream, reply: &Reply) {
    let mut body = vec![0; 16 * 1024];
    let body = postcard::to_slice(reply, &mut body).unwrap();
    stream.write_all(&(body.len() as u32).to_le_bytes()).unwrap();
    stream.write_all(body).unwrap();
}
