//! The names of keys in Redis, and the partitions that sessions are spread over.

use std::io::Write;

use redis::{Cmd, RedisWrite};

use crate::id::StoreKey;
use crate::record::{IndexEntry, IndexKind};

/// The number of partitions on a cluster, each in a slot of its own. 64 spread the load evenly over a dozen primaries, and are
/// few enough to ask all of them for a count.
const CLUSTER_PARTITIONS: u16 = 64;

/// The names of keys.
///
/// All keys of a partition begin with the same `{..}`. A cluster keeps them in one slot, so a script may change them
/// together. A store key has neither a colon nor a brace, so no cookie can name anything but a session.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The prefix of all keys of each partition.
    bases: Box<[Box<str>]>,
}

/// A partition, and the names of its keys.
pub(super) struct Partition<'a> {
    pub(super) number: u16,
    base: &'a str,
}

impl Layout {
    pub(super) fn server(prefix: &str) -> Layout {
        Layout::new(prefix, 1)
    }

    pub(super) fn cluster(prefix: &str) -> Layout {
        Layout::new(prefix, CLUSTER_PARTITIONS)
    }

    fn new(prefix: &str, partitions: u16) -> Layout {
        Layout { bases: (0..partitions).map(|number| format!("{prefix}:{{{number}}}:").into()).collect() }
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = Partition<'_>> {
        self.bases.iter().zip(0..).map(|(base, partition)| Partition { number: partition, base })
    }

    pub(super) fn partition_of(&self, key: &StoreKey) -> Partition<'_> {
        // docs/format.md documents this hash, so it must never change.
        let partition = match self.bases.len() {
            1 => 0,
            several => crc32fast::hash(key.as_bytes()) as usize % several,
        };
        Partition { number: partition as u16, base: &self.bases[partition] }
    }

    /// Returns the partition of this number, or `None` if there is none.
    pub(super) fn partition(&self, partition: u16) -> Option<Partition<'_>> {
        let base = self.bases.get(usize::from(partition))?;
        Some(Partition { number: partition, base })
    }
}

impl Partition<'_> {
    /// Returns the key of a session's record.
    pub(super) fn session(&self, key: &StoreKey) -> String {
        self.name("session:", key.as_str())
    }

    /// Adds the key of a session's record to a command, without a string of its own. Loads use it.
    pub(super) fn write_session(&self, key: &StoreKey, command: &mut Cmd) {
        let mut argument = command.writer_for_next_arg();
        for part in [self.base.as_bytes(), b"session:", key.as_bytes()] {
            // Writing to memory cannot fail.
            let _ = argument.write_all(part);
        }
    }

    /// Returns the prefix of the keys of records.
    pub(super) fn sessions(&self) -> String {
        self.name("session:", "")
    }

    /// Returns the key of the sorted set of deadlines.
    pub(super) fn deadlines(&self) -> String {
        self.name("deadlines", "")
    }

    /// Returns the key of the sorted set of session keys.
    pub(super) fn keys(&self) -> String {
        self.name("keys", "")
    }

    /// Returns the prefix of the keys of users' sets.
    pub(super) fn users(&self) -> String {
        self.name("user:", "")
    }

    /// Returns the key of the set of the sessions of a user or a label.
    pub(super) fn entry(&self, entry: &IndexEntry) -> String {
        let kind = match entry.kind() {
            IndexKind::Principal => "user:",
            IndexKind::Label => "label:",
        };
        self.name(kind, entry.value())
    }

    /// Returns the key under which an unreadable record is set aside.
    pub(super) fn corrupt(&self, key: &StoreKey) -> String {
        self.name("corrupt:", key.as_str())
    }

    /// Returns a key on which the user's rights are checked.
    pub(super) fn check(&self, name: &str) -> String {
        self.name("check:", name)
    }

    /// Returns the key of the lock of a session that is being moved to another slot.
    pub(super) fn moving(&self, key: &StoreKey) -> String {
        self.name("moving:", key.as_str())
    }

    /// Returns the prefix of the keys of such locks.
    pub(super) fn all_moving(&self) -> String {
        self.name("moving:", "")
    }

    /// Returns the prefix of the keys of arrival marks.
    pub(super) fn all_arriving(&self) -> String {
        self.name("arriving:", "")
    }

    /// Returns the key of the mark of a session that is arriving from another slot.
    pub(super) fn arriving(&self, key: &StoreKey) -> String {
        self.name("arriving:", key.as_str())
    }

    fn name(&self, kind: &str, rest: &str) -> String {
        [self.base, kind, rest].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Principal;
    use crate::record::Label;

    #[test]
    fn keys_are_named_as_the_format_documents() {
        let key: StoreKey = "c34860c604f32ade51f88c056fe9db61".parse().unwrap();
        assert_eq!(
            Layout::server("cloakroom").partition_of(&key).session(&key),
            "cloakroom:{0}:session:c34860c604f32ade51f88c056fe9db61"
        );
        // python3 -c 'import zlib; print(zlib.crc32(b"c34860c604f32ade51f88c056fe9db61") % 64)'
        assert_eq!(Layout::cluster("cloakroom").partition_of(&key).number, 11);
    }

    #[test]
    fn users_and_keys_never_collide_with_other_names() {
        let layout = Layout::server("p");
        let partition = layout.partition(0).unwrap();
        let user = |name: &str| partition.entry(&IndexEntry::from(&Principal::new(name).unwrap()));
        let label = |text: &str| partition.entry(&IndexEntry::from(&Label::new(text).unwrap()));
        let key: StoreKey = "keys".parse().unwrap();
        let names = [
            partition.deadlines(),
            partition.keys(),
            partition.session(&key),
            partition.corrupt(&key),
            partition.moving(&key),
            partition.arriving(&key),
            user("keys"),
            user("{1}:keys"),
            user(":"),
            label("keys"),
            label(":"),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        // A cluster hashes what is in the first braces.
        assert!(names.iter().all(|name| name.starts_with("p:{0}:")));
    }
}
