//! Key files: a node's identity and keys.
//!
//! ```toml
//! version = 1
//! kind = "controller"            # or "agent"
//! name = "controller-0"          # for people alone
//! cluster = "0123456789abcdef"
//! node = "0123456789abcdef"
//! send_slot = 0                  # the slot used for sending
//! [slots.0]
//! secret = "64 hex digits"       # controller: everything derives from it
//! # agent: group = "...", node = "..." in place of secret
//! ```
//! A key file belongs to root or to the user that runs thimble ([`Owners`]), and no other
//! user may read it.

use std::fmt;
use std::io;
use std::path::Path;

use super::document::{ConfigError, ConfigSection, Document};
pub use super::private::Owners;
use super::private::{self, random, random_node};
use crate::limits;
use crate::types::{ClusterId, Hostname, NodeId};
use crate::wire::frame::Role;
use crate::wire::keys::{Key, KeyRing, SlotKeys, SlotSecret, derive};

const TOP: &[&str] = &["version", "kind", "name", "cluster", "node", "send_slot", "slots"];
const CONTROLLER_SLOT: &[&str] = &["secret"];
const AGENT_SLOT: &[&str] = &["group", "node"];
const SLOTS: [&str; limits::KEY_SLOTS] = ["0", "1", "2", "3"];

/// What a slot of a key file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeySlot {
    Controller { secret: SlotSecret },
    Agent { group: Key, node: Key },
}

/// A node's key file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The node's name, for people; may be empty.
    pub name: Hostname,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id.
    pub node: NodeId,
    /// The node's role.
    pub role: Role,
    /// The slot used for sending.
    pub send_slot: u8,
    slots: [Option<KeySlot>; limits::KEY_SLOTS],
}

impl KeyFile {
    /// Reads the key file of a node that is a controller, or only an agent.
    ///
    /// # Errors
    /// [`ConfigError`]: missing, readable by others, owned by another user,
    /// wrong in itself, or of the other role.
    pub fn load(path: &Path, is_controller: bool, owners: Owners) -> Result<Self, ConfigError> {
        let keys = Self::read_of(path, owners)?;
        let shown = path.display();
        let sentence = match (keys.role, is_controller) {
            (Role::Agent, true) => format!(
                "this is an agent's key file, and node.roles has \"controller\"; make a controller's with \
                 `thimble keygen --controller NAME --from CONTROLLER.KEY -o {shown}`"
            ),
            (Role::Controller, false) => "this is a controller's key file, and an agent must not hold the \
                 cluster's secret; make the agent's with \
                 `thimble keygen --node NAME --from CONTROLLER.KEY -o AGENT.KEY`"
                .to_owned(),
            _ => return Ok(keys),
        };
        Err(ConfigError::file(&shown.to_string(), sentence))
    }

    /// Reads a key file of either role, for a command: root may read that of any user.
    ///
    /// # Errors
    /// [`ConfigError`]: missing, readable by others, owned by another user, or wrong in itself.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_of(path, Owners::RootMayReadAll)
    }

    fn read_of(path: &Path, owners: Owners) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        let text = private::read(path, owners).map_err(|sentence| ConfigError::file(&shown, sentence))?;
        Self::parse(&text, &shown)
    }

    /// Parses a key file's text; `file` is its name in errors.
    ///
    /// # Errors
    /// [`ConfigError`]: the first mistake, and where it is.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let document = Document::parse(text, file, TOP)?;
        let top = document.top(TOP);
        let role = top.parsed("kind", "\"controller\" or \"agent\"", |kind| match kind {
            "controller" => Some(Role::Controller),
            "agent" => Some(Role::Agent),
            _ => None,
        })?;
        let version = top.integer("version", 0..=u64::MAX)?;
        if version.ok_or_else(|| top.missing("version", "1".to_owned()))? != 1 {
            let sentence = "this thimble reads version 1; the file comes from a newer thimble, use that";
            return Err(top.conflict("version", sentence.to_owned()));
        }
        let role = role.ok_or_else(|| top.missing("kind", "\"controller\" or \"agent\"".to_owned()))?;

        let id = "16 hex digits";
        let cluster = top.parsed("cluster", id, ClusterId::from_hex)?;
        let node = top.parsed("node", id, NodeId::from_hex)?.filter(|node| *node != NodeId::default());
        let send_slot = top.integer("send_slot", 0..=limits::KEY_SLOTS as u64 - 1)?;
        let send_slot = send_slot.and_then(|slot| u8::try_from(slot).ok());

        let known = if role == Role::Controller { CONTROLLER_SLOT } else { AGENT_SLOT };
        let mut slots = [None; limits::KEY_SLOTS];
        for (name, section) in document.subsections("slots", known)? {
            let slot = SLOTS.iter().position(|slot| *slot == name).and_then(|slot| slots.get_mut(slot));
            let Some(slot) = slot else {
                let sentence = format!("there is no slot {name}; there are {}", SLOTS.join(", "));
                return Err(top.conflict("slots", sentence));
            };
            *slot = Some(match role {
                Role::Controller => KeySlot::Controller { secret: key(&section, "secret")? },
                Role::Agent => {
                    KeySlot::Agent { group: key(&section, "group")?, node: key(&section, "node")? }
                }
            });
        }
        let send_slot =
            send_slot.ok_or_else(|| top.missing("send_slot", "the slot to send with".to_owned()))?;
        if slots.get(usize::from(send_slot)).is_none_or(Option::is_none) {
            let sentence = format!("slot {send_slot} is not filled: there is no [slots.{send_slot}]");
            return Err(top.conflict("send_slot", sentence));
        }
        Ok(Self {
            name: top.name("name")?.unwrap_or_default(),
            cluster: cluster.ok_or_else(|| top.missing("cluster", id.to_owned()))?,
            node: node.ok_or_else(|| top.missing("node", format!("{id}, not all zero")))?,
            role,
            send_slot,
            slots,
        })
    }

    /// The key file of a new cluster's first controller: a new secret, new ids.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new_cluster(name: Hostname) -> io::Result<Self> {
        let secret = Key(random()?);
        let cluster = ClusterId(u64::from_le_bytes(random()?));
        let slots = [Some(KeySlot::Controller { secret }), None, None, None];
        Ok(Self { name, cluster, node: random_node()?, role: Role::Controller, send_slot: 0, slots })
    }

    /// The key file of a further node of the cluster, with a new id. `None` if this is an
    /// agent's file, which cannot make others.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn for_node(&self, name: Hostname, role: Role) -> io::Result<Option<Self>> {
        Ok(self.of(name, random_node()?, role))
    }

    /// The key file of this node of the cluster; `None` if this is an agent's.
    fn of(&self, name: Hostname, node: NodeId, role: Role) -> Option<Self> {
        let mut slots = self.slots;
        for slot in slots.iter_mut().flatten() {
            let KeySlot::Controller { secret } = *slot else { return None };
            if role == Role::Agent {
                *slot = KeySlot::Agent { group: derive::group(&secret), node: derive::node(&secret, node) };
            }
        }
        Some(Self { name, node, role, slots, ..self.clone() })
    }

    /// The file of `old`'s node, with its name, id and role and this file's slots. `None`
    /// if this is an agent's file, or `old` belongs to another cluster.
    #[must_use]
    pub fn like(&self, old: &Self) -> Option<Self> {
        self.of(old.name.clone(), old.node, old.role).filter(|_| self.cluster == old.cluster)
    }

    /// The same with a new secret in a free slot, still sending with the old one.
    /// `None` if no slot is free, or this is an agent's file.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn with_new_slot(&self) -> io::Result<Option<Self>> {
        let mut keys = self.clone();
        let free = keys.slots.iter_mut().find(|slot| slot.is_none());
        let Some(free) = free.filter(|_| self.role == Role::Controller) else { return Ok(None) };
        *free = Some(KeySlot::Controller { secret: Key(random()?) });
        Ok(Some(keys))
    }

    /// The same, sending with another slot. `None` if that slot is empty.
    #[must_use]
    pub fn sending_with(&self, slot: u8) -> Option<Self> {
        let is_filled = self.accepted().any(|filled| filled == slot);
        is_filled.then(|| Self { send_slot: slot, ..self.clone() })
    }

    /// The same without a slot. `None` if the slot is empty or used for sending.
    #[must_use]
    pub fn without_slot(&self, slot: u8) -> Option<Self> {
        let mut keys = self.clone();
        keys.slots.get_mut(usize::from(slot)).filter(|_| slot != self.send_slot)?.take()?;
        Some(keys)
    }

    /// The slots that are accepted.
    pub fn accepted(&self) -> impl Iterator<Item = u8> {
        (0..).zip(&self.slots).filter_map(|(number, slot)| slot.as_ref().map(|_| number))
    }

    /// The key ring that the daemon works with.
    #[must_use]
    pub fn ring(&self) -> KeyRing {
        let slots = self.slots.map(|slot| {
            Some(match slot? {
                KeySlot::Controller { secret } => SlotKeys::controller(&secret),
                KeySlot::Agent { group, node } => SlotKeys::Agent { node: self.node, node_key: node, group },
            })
        });
        // `parse` and the constructors fill the slot used for sending.
        KeyRing::new(slots, self.send_slot).expect("the slot used for sending is filled")
    }
}

/// The file's text, as [`KeyFile::parse`] reads it.
impl fmt::Display for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.role {
            Role::Controller => "controller",
            Role::Agent => "agent",
        };
        writeln!(f, "# thimble: the keys of one {kind}. Keep secret, never copy to a second node.")?;
        writeln!(f, "version = 1\nkind = \"{kind}\"")?;
        if !self.name.is_empty() {
            writeln!(f, "name = \"{}\"", self.name)?;
        }
        writeln!(f, "cluster = \"{}\"\nnode = \"{}\"", self.cluster, self.node)?;
        writeln!(f, "send_slot = {}", self.send_slot)?;
        for (number, slot) in self.slots.iter().enumerate() {
            match slot {
                None => {}
                Some(KeySlot::Controller { secret }) => {
                    writeln!(f, "\n[slots.{number}]\nsecret = \"{}\"", Hex(&secret.0))?;
                }
                Some(KeySlot::Agent { group, node }) => {
                    let (group, node) = (Hex(&group.0), Hex(&node.0));
                    writeln!(f, "\n[slots.{number}]\ngroup = \"{group}\"\nnode = \"{node}\"")?;
                }
            }
        }
        Ok(())
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn key(section: &ConfigSection<'_>, name: &str) -> Result<Key, ConfigError> {
    let accepts = "64 hex digits";
    let key = section.parsed(name, accepts, |text| {
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Key(bytes))
    });
    // The value is a secret and must not appear in a message.
    let key = key.map_err(|error| error.without_value())?;
    key.ok_or_else(|| section.missing(name, accepts.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::private::tests::Scratch;
    use crate::config::private::write_new;
    use crate::wire::keys::KeyClass;

    fn name(text: &str) -> Hostname {
        Hostname::new(text).unwrap()
    }

    #[test]
    fn a_key_file_reads_as_it_was_written() {
        let controller = KeyFile::new_cluster(name("c0")).unwrap();
        let agent = controller.for_node(name("w0"), Role::Agent).unwrap().unwrap();
        for keys in [&controller, &agent] {
            assert_eq!(KeyFile::parse(&keys.to_string(), "k").unwrap(), *keys);
        }
        assert_eq!(agent.cluster, controller.cluster);
        assert_ne!(agent.node, controller.node);
        assert!(!agent.to_string().contains("secret ="));
    }

    #[test]
    fn an_agent_s_keys_are_what_any_controller_derives_for_it() {
        let first = KeyFile::new_cluster(name("c0")).unwrap();
        let second = first.for_node(name("c1"), Role::Controller).unwrap().unwrap();
        let agent = second.for_node(name("w0"), Role::Agent).unwrap().unwrap();
        for class in [KeyClass::Group, KeyClass::Node(agent.node)] {
            assert!(agent.ring().key(0, class).is_some());
            assert_eq!(first.ring().key(0, class), agent.ring().key(0, class));
            assert_eq!(second.ring().key(0, class), agent.ring().key(0, class));
        }
        assert_eq!(agent.ring().key(0, KeyClass::Controller), None);
        assert_eq!(agent.for_node(name("w1"), Role::Agent).unwrap(), None);
    }

    #[test]
    fn a_rotation_goes_slot_by_slot_and_keeps_every_node_s_identity() {
        let first = KeyFile::new_cluster(name("c0")).unwrap();
        let agent = first.for_node(name("w0"), Role::Agent).unwrap().unwrap();
        let both = first.with_new_slot().unwrap().unwrap();
        assert_eq!((both.send_slot, both.accepted().collect::<Vec<_>>()), (0, vec![0, 1]));
        let with_both = both.like(&agent).unwrap();
        assert_eq!(
            (with_both.name.as_str(), with_both.node, with_both.role),
            ("w0", agent.node, Role::Agent)
        );
        assert_eq!(with_both.slots[0], agent.slots[0], "the old keys hold on");
        let class = KeyClass::Node(agent.node);
        assert_eq!(with_both.ring().key(1, class), both.ring().key(1, class));

        assert_eq!(both.without_slot(0), None, "it is sent with");
        assert_eq!(both.sending_with(2), None, "it is empty");
        let new = with_both.sending_with(1).and_then(|keys| keys.without_slot(0)).unwrap();
        assert_eq!((new.send_slot, new.accepted().collect::<Vec<_>>()), (1, vec![1]));
        assert_eq!(KeyFile::parse(&new.to_string(), "k").unwrap(), new);

        assert_eq!(agent.with_new_slot().unwrap(), None, "an agent makes no secrets");
        assert_eq!(agent.like(&agent), None);
        assert_eq!(KeyFile::new_cluster(name("x")).unwrap().like(&agent), None, "of another cluster");
        let full = both.with_new_slot().unwrap().unwrap().with_new_slot().unwrap().unwrap();
        assert_eq!(full.with_new_slot().unwrap(), None);
    }

    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        let scratch = Scratch::new("mode");
        let keys = KeyFile::new_cluster(name("c0")).unwrap();
        write_new(&scratch.0, keys.to_string().as_bytes()).unwrap();
        assert_eq!(KeyFile::load(&scratch.0, true, Owners::RootOrOwn).unwrap(), keys);
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o640)).unwrap();
        let error = KeyFile::load(&scratch.0, true, Owners::RootOrOwn).unwrap_err().to_string();
        assert!(error.contains("its mode is 0640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_key_file_of_another_user_is_for_commands_of_root_alone() {
        let scratch = Scratch::new("owner");
        let keys = KeyFile::new_cluster(name("c0")).unwrap();
        write_new(&scratch.0, keys.to_string().as_bytes()).unwrap();
        if std::os::unix::fs::chown(&scratch.0, Some(12_345), None).is_err() {
            return; // Only root can give a file away.
        }
        let error = KeyFile::load(&scratch.0, true, Owners::RootOrOwn).unwrap_err().to_string();
        assert!(error.contains("belongs to user 12345") && error.contains("`chown 0 "), "{error}");
        assert_eq!(KeyFile::load(&scratch.0, true, Owners::RootMayReadAll).unwrap(), keys);
    }

    #[test]
    fn a_missing_key_file_says_how_to_make_one() {
        let scratch = Scratch::new("missing");
        let error = KeyFile::load(&scratch.0, false, Owners::RootOrOwn).unwrap_err().to_string();
        assert!(error.contains("thimble keygen --node NAME --from"), "{error}");
    }

    #[test]
    fn a_key_file_of_the_other_role_is_refused() {
        let scratch = Scratch::new("role");
        let controller = KeyFile::new_cluster(name("c0")).unwrap();
        write_new(&scratch.0, controller.to_string().as_bytes()).unwrap();
        let error = KeyFile::load(&scratch.0, false, Owners::RootOrOwn).unwrap_err().to_string();
        assert!(error.contains("an agent must not hold the cluster's secret"), "{error}");

        fs::remove_file(&scratch.0).unwrap();
        let agent = controller.for_node(name("w0"), Role::Agent).unwrap().unwrap();
        write_new(&scratch.0, agent.to_string().as_bytes()).unwrap();
        let error = KeyFile::load(&scratch.0, true, Owners::RootOrOwn).unwrap_err().to_string();
        assert!(error.contains("keygen --controller NAME"), "{error}");
    }

    #[test]
    fn errors_in_a_key_file_do_not_show_its_secrets() {
        let good = KeyFile::new_cluster(name("c0")).unwrap().to_string();
        let complaint = |from: &str, to: &str| {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good, "{from}");
            KeyFile::parse(&text, "k").unwrap_err().to_string()
        };
        assert!(complaint("version = 1", "version = 2").contains("comes from a newer thimble"));
        assert!(complaint("send_slot = 0", "send_slot = 1").contains("there is no [slots.1]"));
        assert!(complaint("[slots.0]", "[slots.9]").contains("there is no slot 9"));
        assert!(complaint("\"controller\"", "\"agent\"").contains("slots.0.secret is not known"));
        assert!(complaint("cluster = \"", "cluster = \"x").contains("it takes 16 hex digits"));
        let short = complaint("secret = \"", "secret = \"5ec2e7");
        assert!(short.contains("slots.0.secret") && short.contains("it takes 64 hex digits"), "{short}");
        assert!(!short.contains("5ec2e7"), "{short}");
    }
}
