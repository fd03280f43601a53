//! Returned messages, and batches that contain them.

use std::io::ErrorKind;
use std::os::fd::AsFd;

use thimble::fsm::actions::{Arrival, Peer, Undelivered};
use thimble::limits;
use thimble::tipc::address::{Destination, SocketAddress};
use thimble::tipc::batch::{Batch, recv_batch};
use thimble::tipc::socket::{RETURNED_BYTES, Received, Socket};

use crate::net::Node;
use crate::two_nodes;
use crate::watched::wait_until;

fn rdm(node: &Node) -> Socket {
    node.namespace.enter(Socket::rdm).unwrap()
}

fn received(socket: &Socket, buffer: &mut [u8]) -> Option<Received> {
    match socket.recv_from(buffer) {
        Ok(received) => Some(received),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_message_to_a_closed_socket_is_returned_with_its_first_bytes() {
    let pair = two_nodes!();
    let (one, two) = (rdm(&pair.one), rdm(&pair.two));
    let gone = two.address().unwrap();
    drop(two);
    let message: Vec<u8> = (0..2_000).map(|at| at as u8).collect();
    for len in [0, 1, 500, RETURNED_BYTES, 2_000] {
        assert_eq!(one.send_to(&message[..len], &Destination::Socket(gone)).unwrap(), len);
        let mut buffer = [0; 2_000];
        let back = wait_until("it comes back", || received(&one, &mut buffer));
        let returned = len.min(RETURNED_BYTES);
        assert_eq!(back.undelivered, Some((Undelivered::NoPort, returned)), "of {len} bytes");
        assert_eq!(back.from, Some(gone));
        assert_eq!(buffer[..back.len], message[..returned]);
    }
}

#[test]
fn a_message_without_a_receiver_is_not_sent() {
    let pair = two_nodes!();
    let one = rdm(&pair.one);
    let nobody = Destination::Service { service_type: 18_888, instance: 1, domain: 0 };
    let nowhere = Destination::Socket(SocketAddress { port: 1, node: 0x0bad_0bad });
    for to in [nobody, nowhere] {
        assert_eq!(one.send_to(b"?", &to).unwrap_err().kind(), ErrorKind::HostUnreachable);
    }
}

#[test]
fn a_message_to_a_full_socket_is_returned() {
    let pair = two_nodes!();
    for receiver in [&pair.one, &pair.two] {
        let (sender, full) = (rdm(&pair.one), rdm(receiver));
        let to = Destination::Socket(full.address().unwrap());
        let message = [1; 60_000];
        let mut buffer = [0; RETURNED_BYTES];
        let mut sent = 0;
        let back = wait_until("there is no more room", || {
            match sender.send_to(&message, &to) {
                Ok(_) => sent += 1,
                // The link has no room yet.
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            received(&sender, &mut buffer)
        });
        assert_eq!(back.undelivered, Some((Undelivered::Overload, RETURNED_BYTES)));
        assert_eq!(back.from, Some(full.address().unwrap()));
        assert!(sent > 1, "some fit");
        assert!(buffer.iter().all(|byte| *byte == 1));
    }
}

#[test]
fn a_batch_has_messages_in_order_and_returned_ones() {
    let pair = two_nodes!();
    let (one, two) = (rdm(&pair.one), rdm(&pair.two));
    let mut batch = Batch::default();
    assert_eq!(recv_batch(one.as_fd(), &mut batch).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(batch.is_empty() && batch.get(0).is_none());

    let mine = one.address().unwrap();
    let gone = {
        let gone = rdm(&pair.one);
        gone.address().unwrap()
    };
    let near = rdm(&pair.one);
    let longest = [7; limits::DATAGRAM_BYTES];
    one.send_to(b"never", &Destination::Socket(gone)).unwrap();
    near.send_to(b"first", &Destination::Socket(mine)).unwrap();
    near.send_to(&longest, &Destination::Socket(mine)).unwrap();
    for oversize in [&[8; limits::DATAGRAM_BYTES + 1][..], &[9; 5_000]] {
        near.send_to(oversize, &Destination::Socket(mine)).unwrap();
    }
    // The kernel drops an empty message.
    near.send_to(&[], &Destination::Socket(mine)).unwrap();

    let near = near.address().unwrap();
    let (mut returned, mut lens) = (0, Vec::new());
    wait_until("all have arrived", || {
        let _ = recv_batch(one.as_fd(), &mut batch);
        for at in 0..batch.len() {
            match batch.get(at).unwrap() {
                Arrival::Undelivered(why) => {
                    assert_eq!(why, Undelivered::NoPort);
                    returned += 1;
                }
                Arrival::Datagram(datagram, from) => {
                    assert_eq!(from, Peer::Tipc { node: near.node, port: near.port });
                    lens.push(datagram.len());
                }
                Arrival::OtherInterface(..) => panic!("TIPC has no such arrival"),
            }
        }
        assert!(batch.get(batch.len()).is_none());
        (returned == 1 && lens.len() == 4).then_some(())
    });
    let oversize = limits::DATAGRAM_BYTES + 1;
    assert_eq!(lens, [5, limits::DATAGRAM_BYTES, oversize, oversize]);

    // More messages than one call takes, from another node.
    for number in 0..limits::RECV_BATCH as u8 + 1 {
        two.send_to(&[number], &Destination::Socket(mine)).unwrap();
    }
    let mut heard = Vec::new();
    wait_until("all have arrived", || {
        let _ = recv_batch(one.as_fd(), &mut batch);
        assert!(batch.len() <= limits::RECV_BATCH);
        for at in 0..batch.len() {
            let Some(Arrival::Datagram(datagram, Peer::Tipc { node, .. })) = batch.get(at) else {
                panic!("a datagram")
            };
            assert_eq!(node, pair.two.address);
            heard.extend_from_slice(datagram);
        }
        (heard.len() > limits::RECV_BATCH).then_some(())
    });
    assert!(heard.iter().copied().eq(0..limits::RECV_BATCH as u8 + 1), "in order: {heard:?}");
}
