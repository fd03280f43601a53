//! Network namespaces. They have no names, so nothing remains of a run that is killed.

mod sys;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::process::Command;
use std::thread;

use super::iproute;

/// A namespace. It ends when it is dropped and the processes in it have ended.
pub struct Namespace(File);

impl Namespace {
    /// A new namespace, in which nothing is up yet.
    pub fn new() -> Self {
        let make = || {
            sys::enter_new()?;
            File::open("/proc/thread-self/ns/net")
        };
        let made: io::Result<File> = thread::scope(|scope| scope.spawn(make).join().expect("no panic"));
        Self(made.expect("root can make a namespace"))
    }

    /// Its path, for a program of iproute2 that this process starts.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs these `ip` commands here, in one process: starting a process is slow on some
    /// machines.
    pub fn ip(&self, lines: &str) {
        self.run("ip", "-batch -", lines);
    }

    /// Runs a program of iproute2 here, and returns its output.
    pub fn run(&self, program: &str, words: &str, input: &str) -> String {
        let words: Vec<&str> = words.split(' ').collect();
        self.enter(|| iproute::run(program, &words, input))
    }

    /// A command that will run `program` here. If the caller waits for it at once, running
    /// it in [`enter`](Self::enter) avoids a fork of the tests' whole memory.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        sys::starts_in(&mut command, self.0.try_clone().expect("a descriptor is free"));
        command
    }

    /// Calls `act` on a thread in this namespace. Sockets and processes that it makes stay
    /// here.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            sys::enter(&self.0).expect("root may enter it");
            act()
        };
        let done = thread::scope(|scope| scope.spawn(inside).join());
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }
}
