//! Builds a daemon from its configuration: everything that may touch the disk or
//! allocate happens here, once.

use std::fs::{File, TryLockError};
use std::path::Path;

use log::{info, warn};
use mio::Poll;

use super::buffers::{POOL_BYTES, Pool};
use super::clock::Clock;
use super::confine;
use super::control_socket::{Access, ControlSocket};
use super::counters::Counters;
use super::event_loop::{self, Daemon};
use super::floors::Floors;
use super::hellos::Hellos;
use super::losses::Losses;
use super::names::Names;
use super::network::Links;
use super::notify::Notify;
use super::pinged::Pinged;
use super::ready::ReadySet;
use super::reload::Reload;
use super::replaced::Replaced;
use super::repository::Repository;
use super::sessions::{Context, Sessions};
use super::settings::{agent_facts, controller_timers, session_timers};
use super::spread::Spreading;
use super::tokens::{CONNECTIONS, SESSIONS, WORKERS};
use super::transport::Transport;
use super::workers::Workers;
use super::{log as lines, sys};
use crate::clock::unix_ms;
use crate::config::keys::{KeyFile, Owners};
use crate::config::{Config, User};
use crate::fsm::actions::Actions;
use crate::fsm::agent::Agent;
use crate::fsm::controller::{Controller, Tables};
use crate::fsm::hosts::Host;
use crate::fsm::installed::Installed;
use crate::fsm::node::Node;
use crate::fsm::paths::{Paths, Reach};
use crate::fsm::random::Random;
use crate::fsm::reasons::{InstallReason, Reasons};
use crate::fsm::sync::blobs::BlobError;
use crate::fsm::ways::Controllers;
use crate::job::close_inherited;
use crate::limits;
use crate::list::reserved;
use crate::repo::entry::Entry;
use crate::repo::map::Map;
use crate::store::incarnation;
use crate::store::state_dir::{self, StateDirError};
use crate::table::{Table, index_len};
use crate::time::Duration;
use crate::types::{ClusterId, Text};
use crate::wire::codec::{Codec, Identity, Roles};
use crate::wire::frame::{InstalledPatch, Role};
use crate::wire::keys::{Key, KeyRing};
use crate::wire::replay::{ReplayGuard, Window};

/// The key of `auth = "none"`: no secret.
const NO_SECRET: Key = Key([0; 32]);

/// Runs the daemon that a configuration file describes, as this user if it is one, until a
/// signal ends it.
///
/// # Errors
/// Why it cannot run, for the operator.
pub fn run(config_path: &Path, user: Option<User>) -> Result<(), String> {
    // Before anything is opened: workers and scripts inherit nothing of what the daemon's
    // starter had open.
    close_inherited();
    // A new program file that was executed in this process is this user already.
    if let Some(user) = user.filter(|user| user.uid != sys::own_uid()) {
        sys::become_user(user).map_err(|error| format!("--user: only root becomes another user: {error}"))?;
    }
    let notify = Notify::from_environment();
    lines::set_up("thimble");
    event_loop::run(&mut *set_up(config_path, notify)?)
}

/// Everything before the loop. It returns before the loop runs, so the loop uses the
/// same pages of stack.
#[inline(never)]
fn set_up(config_path: &Path, notify: Notify) -> Result<Box<Daemon<'static>>, String> {
    let (config, text) = Config::load_with_text(config_path).map_err(|error| error.to_string())?;
    let config_path = absolute(config_path)?;
    let lock = lock(&config.node.state_dir)?;
    state_dir::check_links(&config.node.state_dir).map_err(|error| format!("state directory {error}"))?;
    let identity = identity(&config)?;
    info!("node {} of cluster {}, incarnation {}", identity.node, identity.cluster, identity.incarnation);
    for unused in config.network.unused_words() {
        warn!("{unused}");
    }
    if config.security.is_unauthenticated {
        warn!("security.auth is \"none\": anybody on the network can command this node");
    }
    if !config.node.is_agent || needs_installer(&config) {
        confine::stay_unprivileged().map_err(|error| format!("rights cannot be given up: {error}"))?;
    }
    if let Some(missing) = confine::missing(sys::own_uid()) {
        warn!("this kernel has no {missing}: a worker that is taken over can reach more than its files");
    }
    allocate(config, &text, config_path, identity, notify, lock)
}

/// Whether another process is root for this daemon, and starts the workers that install.
fn needs_installer(config: &Config) -> bool {
    config.node.is_agent && sys::own_uid() != 0
}

/// The absolute path of the configuration, which a reload reads again.
fn absolute(path: &Path) -> Result<Text<{ limits::CONFIG_PATH_BYTES }>, String> {
    let absolute = std::path::absolute(path).ok();
    let text = absolute.as_ref().and_then(|path| path.to_str()).unwrap_or_default();
    Text::exact(text).ok().filter(|kept| !kept.is_empty()).ok_or_else(|| {
        format!(
            "configuration {}: its path must be plain text of at most {} bytes: move it",
            path.display(),
            limits::CONFIG_PATH_BYTES
        )
    })
}

/// Takes the state directory for this daemon.
fn lock(state_dir: &Path) -> Result<File, String> {
    let failed = |error: StateDirError| format!("state directory {error}");
    let own_uid = sys::own_uid();
    state_dir::claim(state_dir, own_uid).map_err(failed)?;
    let io_failed = |error| failed(StateDirError::of(&state_dir.join("daemon.lock"), error, own_uid));
    let file = state_dir::lock_file(state_dir).map_err(io_failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(format!(
                "state directory {}: another thimble daemon uses it; stop that one first, or give this one a \
                 state_dir of its own",
                state_dir.display()
            ));
        }
        Err(TryLockError::Error(error)) => return Err(io_failed(error)),
    }
    state_dir::tighten_files(state_dir, own_uid).map_err(failed)?;
    Ok(file)
}

/// The identity of this node. Its incarnation is durable before the first datagram.
fn identity(config: &Config) -> Result<Identity, String> {
    let roles = Roles { is_controller: config.node.is_controller, is_agent: config.node.is_agent };
    let (cluster, node, ring) = match &config.security.key_file {
        Some(path) if !config.security.is_unauthenticated => {
            let keys = KeyFile::load(path, roles.is_controller, Owners::RootOrOwn)
                .map_err(|error| error.to_string())?;
            (keys.cluster, keys.node, keys.ring())
        }
        _ => {
            let node = crate::config::node_id_without_keys(&config.node.state_dir)
                .map_err(|error| error.to_string())?;
            let ring = match roles.is_controller {
                true => KeyRing::controller(&NO_SECRET),
                false => KeyRing::agent(&NO_SECRET, node),
            };
            (ClusterId::default(), node, ring)
        }
    };
    let incarnation =
        incarnation::next(&config.node.state_dir, unix_ms()).map_err(|error| error.to_string())?;
    let revoked = config.security.revoked.iter().copied().collect();
    Ok(Identity { cluster, node, incarnation, roles, ring, revoked })
}

/// Allocates all tables and buffers, which live as long as the process, and opens all
/// sockets.
#[inline(never)]
fn allocate(
    config: Config,
    text: &str,
    config_path: Text<{ limits::CONFIG_PATH_BYTES }>,
    identity: Identity,
    notify: Notify,
    lock: File,
) -> Result<Box<Daemon<'static>>, String> {
    let roles: heapless::Vec<Role, 2> =
        [Role::Controller, Role::Agent].into_iter().filter(|role| identity.roles.has(*role)).collect();
    let transport = Transport::open(&config.network, &roles).map_err(|error| error.to_string())?;
    let timers = &config.timers;
    let (step, idle) = session_timers(timers);
    let Identity { cluster, node, ring, revoked, .. } = &identity;
    let (ring, revoked) = (ring.clone(), revoked.clone());
    let context = Context { cluster: *cluster, node: *node, ring, revoked, step, idle };
    let mut pool = Pool::new();
    let sessions = Sessions::new(context, SESSIONS, &mut pool);
    let access = Access { query_group: config.node.query_group()?, admin_group: config.node.admin_group()? };
    let control = ControlSocket::open(&config.node.control_socket, access, CONNECTIONS, &mut pool)?;
    let installer = needs_installer(&config).then(|| config.node.installer_socket.clone());
    let workers = Workers::new(text.as_bytes(), installer, WORKERS, &mut pool)
        .map_err(|error| format!("workers: {error}"))?;

    let is_controller = identity.roles.is_controller;
    let hosts_most = if is_controller { config.controller.max_hosts } else { 0 };
    let senders = hosts_most + 2 * limits::CONTROLLERS;
    let windows = reserved::<Window>(senders);
    let windows_index = vec![0; index_len(senders)].leak();
    // A node with one link keeps no paths.
    let reached = if config.network.interfaces.len() > 1 { senders } else { 0 };
    let paths = reserved::<Reach>(reached);
    let paths_index = vec![0; index_len(reached)].leak();
    let hosts = reserved::<Host>(hosts_most);
    let hosts_index = vec![0; index_len(hosts_most)].leak();
    let queries = vec![None; if is_controller { limits::DETAILED_QUERIES } else { 0 }].leak();
    let reasons = vec![InstallReason::default(); if is_controller { limits::REASONS } else { 0 }].leak();
    let neighbours = vec![None; if is_controller { limits::CONTROLLERS - 1 } else { 0 }].leak();
    let blob_whys = vec![BlobError::default(); if is_controller { limits::BLOB_ERRORS } else { 0 }].leak();
    let entries = reserved::<Entry>(if is_controller { limits::ENTRIES } else { 0 });
    let patches_most = if identity.roles.is_agent { limits::EFFECTIVE } else { 0 };
    let [current, incoming] = [(), ()].map(|()| reserved::<InstalledPatch>(patches_most));
    let memory_bytes = senders * size_of::<Window>()
        + size_of_val(windows_index)
        + reached * size_of::<Reach>()
        + size_of_val(paths_index)
        + hosts_most * size_of::<Host>()
        + size_of_val(hosts_index)
        + size_of_val(reasons)
        + size_of_val(neighbours)
        + size_of_val(blob_whys)
        + entries.capacity() * size_of::<Entry>()
        + 2 * patches_most * size_of::<InstalledPatch>()
        + POOL_BYTES;
    info!("tables and buffers: {} KiB, of which only what is used is resident", memory_bytes / 1024);

    let now = event_loop::clock();
    let mut seed = [0; 32];
    sys::random(&mut seed).map_err(|error| format!("random numbers: {error}"))?;
    let mut random = Random::new(seed);
    let host_lost = Duration::from_millis(timers.host_lost_ms);
    let controller = is_controller.then(|| {
        let timers = controller_timers(timers, &config.agent);
        let tables = Tables {
            map: Map::new(entries),
            hosts: Table::new(hosts, hosts_index),
            queries,
            reasons: Reasons::new(reasons),
            neighbours,
            blob_errors: blob_whys,
        };
        Controller::new(now, identity.node, timers, tables)
    });
    let agent = identity.roles.is_agent.then(|| {
        let facts = agent_facts(identity.node, &config.node, timers);
        Agent::new(now, facts, Installed::new(current, incoming), &mut random)
    });
    let hello_interval = controller_timers(timers, &config.agent).hello_interval;
    let paths = Paths::new(identity.node, Table::new(paths, paths_index), hello_interval);
    let replay = ReplayGuard::new(Table::new(windows, windows_index), host_lost);
    let codec = Codec::new(identity, replay);
    let node = Node { controller, agent, random };
    let failed = |error: std::io::Error| format!("the event loop cannot be set up: {error}");
    let poll = Poll::new().map_err(failed)?;
    let registry = poll.registry().try_clone().map_err(failed)?;
    let signals = sys::signalfd().map_err(failed)?;
    let started = event_loop::clock();
    let names = Names::new(started, &config);
    Ok(Box::new(Daemon {
        config,
        started,
        clock: Clock::at(started),
        codec,
        node,
        controllers: Controllers::default(),
        hellos: Hellos::default(),
        spreading: Spreading::default(),
        pinged: Pinged::default(),
        transport,
        names,
        network: Links::default(),
        paths,
        sessions,
        workers,
        agent_stopped: None,
        control,
        counters: Counters::default(),
        losses: Losses::default(),
        repository: if is_controller { Repository::new(started) } else { Repository::absent() },
        replaced: Replaced::new(is_controller),
        floors: Floors::default(),
        memory_bytes: memory_bytes as u64,
        actions: Actions::default(),
        ready: ReadySet::default(),
        poll,
        registry,
        transmit: [0; limits::DATAGRAM_BYTES],
        signals,
        lock,
        reload: Reload::new(config_path),
        notify,
        is_superseded: false,
        exit: None,
    }))
}
