//! Where things lie in Redis.

use std::io::Write;

use redis::{Cmd, RedisWrite};

use crate::id::StoreKey;
use crate::record::{IndexEntry, IndexKind};

/// How many partitions the sessions of a cluster are spread over, each in a slot of its own: enough for the load to be even over a
/// dozen of primaries, and few enough to ask all of them for a count.
const CLUSTER_PARTITIONS: u16 = 64;

/// The names of keys. All of a partition begin with the same `{..}`, so that a cluster keeps them in one slot and a script may change
/// them together. A store key has neither a colon nor a brace: whatever a cookie holds, it names a session and nothing else.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// What the names of each partition begin with.
    bases: Box<[Box<str>]>,
}

/// A session's key, and those of its partition's sets.
pub(super) struct Place<'a> {
    pub(super) partition: u16,
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

    pub(super) fn partitions(&self) -> impl Iterator<Item = Place<'_>> {
        self.bases.iter().zip(0..).map(|(base, partition)| Place { partition, base })
    }

    pub(super) fn of(&self, key: &StoreKey) -> Place<'_> {
        // Documented in docs/format.md, and so the same for ever.
        let partition = match self.bases.len() {
            1 => 0,
            several => crc32fast::hash(key.as_bytes()) as usize % several,
        };
        Place { partition: partition as u16, base: &self.bases[partition] }
    }

    /// The partition of this number; none of a number that there is not.
    pub(super) fn numbered(&self, partition: u16) -> Option<Place<'_>> {
        let base = self.bases.get(usize::from(partition))?;
        Some(Place { partition, base })
    }
}

impl Place<'_> {
    /// The record of `key`.
    pub(super) fn session(&self, key: &StoreKey) -> String {
        self.name("session:", key.as_str())
    }

    /// The same, as a command's next argument: most that is ever asked for is a session.
    pub(super) fn write_session(&self, key: &StoreKey, command: &mut Cmd) {
        let mut argument = command.writer_for_next_arg();
        for part in [self.base.as_bytes(), b"session:", key.as_bytes()] {
            // To write to memory cannot fail.
            let _ = argument.write_all(part);
        }
    }

    /// What the name of a record begins with.
    pub(super) fn sessions(&self) -> String {
        self.name("session:", "")
    }

    /// Every session's deadline.
    pub(super) fn deadlines(&self) -> String {
        self.name("deadlines", "")
    }

    /// Every session's key, in order.
    pub(super) fn keys(&self) -> String {
        self.name("keys", "")
    }

    /// What the name of a user's set of sessions begins with.
    pub(super) fn users(&self) -> String {
        self.name("user:", "")
    }

    /// The sessions of one index entry.
    pub(super) fn entry(&self, entry: &IndexEntry) -> String {
        let kind = match entry.kind() {
            IndexKind::Principal => "user:",
            IndexKind::Label => "label:",
        };
        self.name(kind, entry.value())
    }

    /// Where a record that cannot be read is put aside.
    pub(super) fn corrupt(&self, key: &StoreKey) -> String {
        self.name("corrupt:", key.as_str())
    }

    /// Names on which a user's rights are tried.
    pub(super) fn check(&self, name: &str) -> String {
        self.name("check:", name)
    }

    /// The note that a session is on its way to another slot.
    pub(super) fn moving(&self, key: &StoreKey) -> String {
        self.name("moving:", key.as_str())
    }

    /// What the name of such a note begins with.
    pub(super) fn all_moving(&self) -> String {
        self.name("moving:", "")
    }

    /// And that of such a mark.
    pub(super) fn all_arriving(&self) -> String {
        self.name("arriving:", "")
    }

    /// The mark beside a session that has come from another slot.
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
    fn a_key_lies_where_the_document_says() {
        let key: StoreKey = "c34860c604f32ade51f88c056fe9db61".parse().unwrap();
        assert_eq!(
            Layout::server("cloakroom").of(&key).session(&key),
            "cloakroom:{0}:session:c34860c604f32ade51f88c056fe9db61"
        );
        // python3 -c 'import zlib; print(zlib.crc32(b"c34860c604f32ade51f88c056fe9db61") % 64)'
        assert_eq!(Layout::cluster("cloakroom").of(&key).partition, 11);
    }

    #[test]
    fn no_user_and_no_key_has_the_name_of_something_else() {
        let layout = Layout::server("p");
        let place = layout.numbered(0).unwrap();
        let user = |name: &str| place.entry(&IndexEntry::from(&Principal::new(name).unwrap()));
        let label = |text: &str| place.entry(&IndexEntry::from(&Label::new(text).unwrap()));
        let key: StoreKey = "keys".parse().unwrap();
        let names = [
            place.deadlines(),
            place.keys(),
            place.session(&key),
            place.corrupt(&key),
            place.moving(&key),
            place.arriving(&key),
            user("keys"),
            user("{1}:keys"),
            user(":"),
            label("keys"),
            label(":"),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        // The first braces are what a cluster goes by.
        assert!(names.iter().all(|name| name.starts_with("p:{0}:")));
    }
}
