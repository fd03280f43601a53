//! All bounds, and the relations between them.
//!
//! Other modules size their buffers by these constants. The compiler checks the
//! assertions at the end.

// --- datagrams: below the MTU of every path (docs/architecture.md, "Budgets") ---

/// The longest datagram, header and tag included, in bytes.
pub const DATAGRAM_BYTES: usize = 1_200;
/// The header in front of a datagram's body, in bytes.
pub const HEADER_BYTES: usize = 42;
/// The tag after the body of a datagram or a frame, in bytes.
pub const TAG_BYTES: usize = 16;
/// The longest body of a datagram, in bytes.
pub const DATAGRAM_BODY_BYTES: usize = DATAGRAM_BYTES - HEADER_BYTES - TAG_BYTES;
/// Datagrams taken from a socket by one system call.
pub const RECV_BATCH: usize = 16;

// --- text ---

/// A patch's id, in bytes.
pub const PATCH_ID_BYTES: usize = 64;
/// A host's name, in bytes.
pub const HOSTNAME_BYTES: usize = 64;
/// A host's kind, in bytes.
pub const NODETYPE_BYTES: usize = 32;
/// A release, in bytes.
pub const SW_VERSION_BYTES: usize = 32;
/// A reason given to the operator, in bytes.
pub const REASON_BYTES: usize = 256;
/// A patch's summary line, in bytes.
pub const SUMMARY_BYTES: usize = 128;

// --- cluster ---

/// Controllers of a cluster.
pub const CONTROLLERS: usize = 8;
/// Network interfaces that a node uses at once.
pub const LINKS: usize = 4;
/// Peers that a configuration may list: every controller twice, by address and by name.
pub const PEERS: usize = 2 * CONTROLLERS;
/// A peer's name, in bytes (DNS: 253).
pub const PEER_NAME_BYTES: usize = 253;
/// The size of a controller's host table, unless its configuration sets another.
pub const HOSTS_DEFAULT: usize = 1_024;
/// The largest host table that a configuration may set.
pub const HOSTS_MOST: usize = 16_384;
/// Kinds of hosts that a controller can distinguish.
pub const NODETYPES: usize = 16;
/// Slots of a key ring: what a rotation needs, and one to spare.
pub const KEY_SLOTS: usize = 4;
/// Node ids that a configuration may list as revoked.
pub const REVOKED: usize = 64;
/// Public keys that a configuration may trust to sign patches.
pub const TRUSTED_KEYS: usize = 16;
/// A configuration, as text or as workers read it, in bytes.
pub const CONFIG_BYTES: u64 = 64 * 1024;
/// The path of the daemon's configuration, in bytes.
pub const CONFIG_PATH_BYTES: usize = 1_024;
/// The shortest time that a configuration may give a timer, in milliseconds.
pub const TIMER_LEAST_MS: u64 = 5;
/// The longest time that a configuration may give a timer: 30 days, in milliseconds.
pub const TIMER_MOST_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Detailed queries under way at once (StarlingX: 5 threads of its pool).
pub const DETAILED_QUERIES: usize = 5;

/// Peers that are bound and were not heard, kept to be shown.
pub const UNHEARD_PEERS: usize = 32;
/// Subscriptions that one connection to a topology service carries.
pub const TIPC_SUBSCRIPTIONS: usize = 16;

/// Links to other TIPC nodes that are kept to be listed; further links are counted.
pub const TIPC_LINKS: usize = 48;
/// Bearers that a TIPC node has at most (net/tipc/bearer.h: `MAX_BEARERS`), and so links to one
/// other.
pub const TIPC_BEARERS: usize = 3;

/// How many reasons of failed installs a controller keeps.
pub const REASONS: usize = 64;

/// How many errors of failed blob fetches a controller keeps.
pub const BLOB_ERRORS: usize = 8;

// --- repository ---

/// Entries of the repository map, tombstones included.
pub const ENTRIES: usize = 1_024;
/// Words of a bitmap over entry slots.
pub const ENTRY_BITMAP_WORDS: usize = ENTRIES / 32;
/// Patches in an effective set, and so on one host.
pub const EFFECTIVE: usize = 256;
/// Patches that one patch may require.
pub const REQUIRES: usize = 16;
/// Patches that one patch may supersede, or that one floor may allow again.
pub const SUPERSEDES: usize = 64;
/// Patches that one floor may require.
pub const FLOOR_REQUIRES: usize = 64;
/// Floors in the repository that a controller watches for their age.
pub const FLOORS_WATCHED: usize = 16;
/// Superseded patches that a host remembers.
pub const SUPERSEDED: usize = 1_024;
/// Kinds of hosts that one patch may name.
pub const PATCH_NODETYPES: usize = 8;
/// A patch's metadata.toml, in bytes.
pub const METADATA_BYTES: u64 = 64 * 1024;
/// A patch file that is larger is no floor, in bytes: that has only metadata, and the zeros at
/// its end are compressed.
pub const FLOOR_FILE_BYTES: u64 = 4 * METADATA_BYTES;
/// Each of a patch's description, instructions and warnings, in bytes.
pub const DESCRIPTION_BYTES: usize = 8 * 1024;
/// Packages that a patch's metadata may list.
pub const PATCH_PACKAGES: usize = 1_024;
/// A package's name and version in a patch's metadata, in bytes.
pub const PACKAGE_BYTES: usize = 256;
/// Words of the command that sets labels.
pub const RELABEL_WORDS: usize = 32;
/// Files that a patch's metadata may list as configuration.
pub const PATCH_CONFIG_FILES: usize = 1_024;
/// Paths that a patch's metadata may give another owner than root.
pub const PATCH_OWNERS: usize = 256;
/// Files that a patch's metadata may list to be removed.
pub const PATCH_REMOVED_FILES: usize = 1_024;
/// Directories that a patch's metadata may list for their owner and mode.
pub const PATCH_DIRECTORIES: usize = 1_024;
/// A detached signature with its comments, in bytes: minisign makes none that is longer,
/// with 1 KiB of untrusted comment and 4 KiB of trusted one.
pub const SIGNATURE_BYTES: usize = 6 * 1_024;
/// A patch file, compressed, in bytes.
pub const PATCH_FILE_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// A patch's files once unpacked, in bytes.
pub const PATCH_UNPACKED_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// Members of one patch's archive.
pub const PATCH_MEMBERS: usize = 65_536;
/// How many patches a difference may be laid over that are not on a host: each is read for the
/// next.
pub const DIFFERENCE_CHAIN: usize = 16;
/// The names of one patch's members together, in bytes.
pub const PATCH_NAMES_BYTES: usize = 8 * 1024 * 1024;
/// A member's long name or pax header, in bytes: its extended attributes are in it.
pub const PATCH_EXTENSION_BYTES: u64 = 16 * 1024;
/// Parts of a sparse file, between its holes.
pub const PATCH_EXTENTS: usize = 16_384;
/// Zeros after a patch's last member, in bytes: tar fills a record with them, which
/// `tar -b` makes longer than its usual 10 KiB.
pub const PATCH_PADDING_BYTES: usize = 16 * 1024 * 1024;
/// A path's part between two slashes, in bytes (Linux: `NAME_MAX`).
pub const NAME_BYTES: usize = 255;
/// A path inside a patch, in bytes (Linux: `PATH_MAX`, less room for a root).
pub const PATH_BYTES: usize = 3_072;
/// How many times larger than its compressed file an archive may be, with holes and with
/// each name of a file counted; a larger one is refused as a decompression bomb.
pub const BOMB_RATIO: u64 = 1_100;
/// An archive of this size, counted in the same way, is no decompression bomb, in bytes.
pub const BOMB_LEAST_BYTES: u64 = 1024 * 1024 * 1024;

// --- stream sessions ---

/// Stream sessions open at once, proven or not.
pub const SESSIONS: usize = 24;
/// A frame's body, in bytes. A blob's bytes are not in a frame.
pub const FRAME_BODY_BYTES: usize = SIGNATURE_BYTES + 64;
/// A frame as it is sent: length, body, tag, in bytes.
pub const FRAME_BYTES: usize = 2 + FRAME_BODY_BYTES + TAG_BYTES;
/// Patches listed by one page of a frame.
pub const PAGE_PATCHES: usize = 16;
/// Blob sessions served at once; further requests are answered with `Busy`.
pub const BLOB_WORKERS: usize = 4;
/// How far the counter of a merged entry may be above this controller's own.
pub const COUNTER_LEAP: u64 = 1 << 32;

// --- workers and control ---

/// Worker processes at once: those that send blobs, and one each to read the repository,
/// to change it, to show patches, to install, to merge another controller's map, to fetch
/// blobs, to read the configuration again, to resolve the names of peers, to send a file to all hosts and to
/// receive one.
pub const WORKERS: usize = BLOB_WORKERS + 10;
/// A worker's encoded job, in bytes.
pub const JOB_BYTES: usize = 16 * 1024;
/// What the loop passes on to a worker that sends to all hosts or receives, in bytes.
pub const SPREAD_INPUT_BYTES: usize = 512;
/// A worker's encoded report, in bytes.
pub const REPORT_BYTES: usize = 2_048;
/// Connections on the control socket at once.
pub const CONTROL_CONNECTIONS: usize = 8;
/// Of these, those of one user who may only query: what `watch`, a prompt and a command
/// take, so that no such user takes all.
pub const CONTROL_SHARE: usize = 3;
/// Of these, those of one member of `admin_group`: two are left for another one.
pub const CONTROL_ADMIN_SHARE: usize = CONTROL_CONNECTIONS - 2;
/// A request or a reply on the control socket, in bytes.
pub const CONTROL_FRAME_BYTES: usize = 16 * 1024;
/// Patches or hosts that one command may name.
pub const COMMAND_NAMES: usize = 128;
/// Files that one upload may carry: each comes as two descriptors.
pub const UPLOAD_FILES: usize = 16;

// --- coding of what is sent to many hosts at once (docs/spread.md) ---

/// A coded packet's length is a multiple of this, in bytes: 12 strips of words.
pub const CODED_UNIT_BYTES: usize = 96;
/// Source packets of a block.
pub const SOURCE_PACKETS: usize = 1_024;
/// Repair packets that can be made of a block, all different.
pub const REPAIR_PACKETS: usize = 1_024;
/// Packets that may be missing of a block that is decoded. As many repair packets are in memory.
pub const MISSING_PACKETS: usize = 256;
/// The content of a packet, in bytes: with what is around it, it fits each MTU that IPv6 allows.
pub const PACKET_BYTES: usize = 1_152;
/// Blocks of a section, whose hashes travel in one packet.
pub const SECTION_BLOCKS: usize = 16;
/// The hashes beside the way from a section to the hash of its file: one for each level of the tree.
pub const PROOF_HASHES: usize = 8;
/// Files that wait to be sent to all hosts.
pub const SPREADS: usize = 16;
/// Blocks of the largest patch file.
pub const FILE_BLOCKS: usize = 4_096;

// --- state machines ---

/// Actions that one call of a state machine may push.
pub const ACTIONS: usize = 8;
/// An action, in bytes.
pub const ACTION_BYTES: usize = 320;

const _: () = {
    assert!(ENTRIES.is_multiple_of(32));
    assert!(EFFECTIVE <= ENTRIES);
    assert!(CONTROL_SHARE < CONTROL_ADMIN_SHARE && CONTROL_ADMIN_SHARE < CONTROL_CONNECTIONS);
    assert!(HOSTS_DEFAULT <= HOSTS_MOST);
    assert!(MISSING_PACKETS <= SOURCE_PACKETS && MISSING_PACKETS <= REPAIR_PACKETS);
    // A set of links is a byte.
    assert!(LINKS <= 8);
    assert!(DATAGRAM_BODY_BYTES <= u16::MAX as usize);
    assert!(FRAME_BODY_BYTES <= u16::MAX as usize);
    assert!(DETAILED_QUERIES + BLOB_WORKERS < SESSIONS);
    // A signature fits a frame, with its length and that of the file.
    assert!(SIGNATURE_BYTES + 1 + 10 + 3 <= FRAME_BODY_BYTES);
    // A page of patches fits a frame: id with its length, hash, size, flag.
    assert!(PAGE_PATCHES * (1 + PATCH_ID_BYTES + 32 + 10 + 1) + 128 <= FRAME_BODY_BYTES);
    // The names of a command fit a control frame and a job.
    assert!(COMMAND_NAMES * (1 + PATCH_ID_BYTES) + 1024 <= CONTROL_FRAME_BYTES);
    assert!(COMMAND_NAMES * (1 + PATCH_ID_BYTES) + 1024 <= JOB_BYTES);
};
