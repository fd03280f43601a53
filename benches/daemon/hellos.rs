//! The CPU that an agent spends on each Hello that it answers, beside a program that sends the same
//! two datagrams for each that it receives.

use std::net::SocketAddr;
use std::thread;

use crate::bare::{self, Call, Receiver};
use crate::cluster::Cluster;
use crate::common::figures::{Figure, Most};
use crate::common::turns;
use crate::controllers::Asker;
use crate::process::{cpu, sleeps};
use crate::wait;

const PART: &str = "hellos";
const ROUNDS: usize = 15;
const HELLOS: usize = 2_000;
const TARGET: f64 = 1.7;
/// Where the bare program receives.
const PORT: u16 = 7501;

/// An agent answers the asker and all controllers: two datagrams.
pub fn measure() {
    let cluster = Cluster::new("bench-hellos", 1).timer("hello_interval_ms", 30_000).start();
    let agent = &cluster.nodes[1];
    let mut asker = Asker::new(&cluster, agent);
    let first = asker.question();
    let len = asker.ask(&first, asker.to());
    let mut spent = [const { Vec::new() }; 2];
    for round in 0..ROUNDS {
        for way in turns(round, 2) {
            spent[way].push(match way {
                0 => {
                    let before = cpu(agent.pid());
                    for _ in 0..HELLOS {
                        let question = asker.question();
                        asker.ask(&question, asker.to());
                    }
                    wait::until_true("all is worked off", || sleeps(agent.pid()));
                    (cpu(agent.pid()) - before).as_secs_f64() * 1e6 / HELLOS as f64
                }
                _ => echo(&cluster, &mut asker, len),
            });
        }
    }
    let [ours, echo] = spent;
    let figure = Figure::new(PART, "CPU per Hello answered by an agent", "us", ours);
    figure.beside("bare echo", echo).target(Most::Ratio(TARGET)).record();
}

/// In the agent's own namespace.
fn echo(cluster: &Cluster, asker: &mut Asker, len: usize) -> f64 {
    let agent = &cluster.nodes[1];
    let socket = agent.namespace.enter(|| std::net::UdpSocket::bind(("0.0.0.0", PORT))).unwrap();
    socket.set_nonblocking(true).unwrap();
    let to = SocketAddr::new(agent.address.ip(), PORT);
    let asks = SocketAddr::new(crate::cluster::STRANGER.ip(), 7488);
    let answer = vec![0; len];
    let receiver = Receiver::default();
    thread::scope(|scope| {
        let spent = receiver.start(scope, &socket, Call::Recvmmsg, || {
            socket.send_to(&answer, bare::GROUP).unwrap();
            socket.send_to(&answer, asks).unwrap();
        });
        for _ in 0..HELLOS {
            let question = asker.question();
            asker.ask(&question, to);
        }
        receiver.end();
        spent.join().expect("no panic").expect("it receives").as_secs_f64() * 1e6 / HELLOS as f64
    })
}
