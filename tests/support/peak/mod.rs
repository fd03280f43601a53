//! The greatest memory of a process: a command or a worker that runs to its end.
//!
//! The process is stopped before its memory is released, and the kernel's own count is
//! read. What `wait4` tells begins with the memory of the process that forked it.

mod sys;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::process::Command;

use thimble::job::{Job, Report};
use thimble::limits;

/// A static binary's code, in KiB: what its budget allows at most. A test build has more,
/// which does not count.
const CODE_KIB: u64 = 1_536;

/// How a process ended, and the memory that it had.
pub struct Ended {
    pub code: Option<i32>,
    /// The greatest size that was resident, in KiB, code included.
    pub peak_kib: u64,
}

impl Ended {
    /// Requires that it succeeded, with at most so much memory.
    #[track_caller]
    pub fn within(&self, what: &str, most_kib: u64) {
        assert_eq!(self.code, Some(0), "{what}");
        println!("{what}: {} KiB of {most_kib}", self.peak_kib);
        assert!(self.peak_kib <= most_kib, "{what}: {} KiB, more than {most_kib}", self.peak_kib);
        assert!(self.peak_kib > 300, "{what}: {} KiB are not measured", self.peak_kib);
    }
}

/// Runs a command to its end, with duplicates of `files` as descriptors from 3 on.
pub fn run(command: &mut Command, files: &[BorrowedFd<'_>]) -> Ended {
    sys::starts_traced(command, files.iter().map(AsRawFd::as_raw_fd).collect());
    let pid = command.spawn().expect("it starts").id().cast_signed();
    let mut peak_kib = 0;
    let mut is_started = false;
    loop {
        match sys::wait(pid).expect("it is traced") {
            sys::Stop::Signal(libc::SIGTRAP) if !is_started => {
                is_started = true;
                sys::stop_before_end(pid).and_then(|()| sys::go_on(pid, 0)).unwrap();
            }
            sys::Stop::Signal(signal) => sys::go_on(pid, signal).unwrap(),
            sys::Stop::Ending => {
                peak_kib = peak(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap());
                sys::go_on(pid, 0).unwrap();
            }
            sys::Stop::Ended(code) => return Ended { code, peak_kib },
        }
    }
}

/// The peak in `/proc/PID/status`, without the code that only a test build has.
fn peak(status: &str) -> u64 {
    let kib = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("the kernel tells it");
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    };
    kib("VmHWM:") - kib("RssFile:").saturating_sub(CODE_KIB)
}

/// Runs a worker with a job, as the daemon does; `files` are the job's. Returns its reports.
pub fn work(config: &File, job: &Job, files: &[BorrowedFd<'_>]) -> (Ended, Vec<Report>) {
    work_as(&mut Command::new(super::thimble()), config, job, files)
}

/// The same, with a command that has its environment already.
pub fn work_as(
    command: &mut Command,
    config: &File,
    job: &Job,
    files: &[BorrowedFd<'_>],
) -> (Ended, Vec<Report>) {
    let (ours, theirs) = sys::message_pair().unwrap();
    // Each write and each read is one message.
    let mut channel = File::from(ours);
    let mut buffer = vec![0; limits::JOB_BYTES];
    channel.write_all(postcard::to_slice(job, &mut buffer).unwrap()).unwrap();
    let all: Vec<_> = [theirs.as_fd(), config.as_fd()].into_iter().chain(files.iter().copied()).collect();
    let ended = run(command.arg("worker"), &all);
    drop(theirs);
    let mut reports = Vec::new();
    loop {
        match channel.read(&mut buffer).unwrap() {
            0 => return (ended, reports),
            len => reports.push(postcard::from_bytes(&buffer[..len]).unwrap()),
        }
    }
}
