//! Sessions of another library's that are moved to this manager's store, each when it is first used.

use super::{COLLISIONS, Engine, Found, Reached, Stored, repeats_itself};
use crate::codec::Buffer;
use crate::error::Result;
use crate::event::EventKind;
use crate::id::{Keying, Named};
use crate::provider::{Created, Provider};
use crate::record::{Mark, Meta, Record};

impl Engine {
    /// The session that one of `names`, by which nobody was found here, has in the store of old, as one of this manager's: under a new
    /// id, which its client is still to be told.
    pub(crate) async fn adopt(&self, names: &[Named]) -> Result<Found> {
        let Some(former) = &self.former else { return Ok(Found::Nobody) };
        let mut found = Vec::new();
        for name in names {
            let old = Keying::Clear.named(name.id_bytes());
            if let Some(record) = former.load(old.key()).await? {
                found.push((name, old, record));
            }
        }
        let [(name, old, record)] = &found[..] else {
            if found.is_empty() {
                // Another request may have moved it between the look here and the one there.
                return self.find_among(names.iter().cloned()).await;
            }
            self.events.report(EventKind::Duplicate, found.len() as u64);
            return Ok(Found::Nobody);
        };
        let moved = self.take_over(record).await?;
        // The old id is claimed by its tombstone, so that of several requests at once one alone moves the session. For a while it leads
        // the others to where that went.
        let until = self.now().after(self.config.rotation_grace.max(self.config.longest_request));
        let mark = Mark::Rotated { successor: moved.name.key().clone(), until };
        let stone = moved.record.tombstone(&mark, until.after(self.config.idle_timeout));
        match self.provider.create(name.key(), &stone).await? {
            Created::Done => {
                former.delete(old.key()).await?;
                tracing::debug!("a session of another library's was moved");
                Ok(Found::Moved(moved))
            }
            Created::Taken => {
                self.provider.delete(moved.name.key()).await?;
                match self.look_up((*name).clone()).await? {
                    Reached::Session(stored) => Ok(Found::Moved(stored)),
                    Reached::Nobody | Reached::Ended => Ok(Found::Nobody),
                }
            }
        }
    }

    /// Stores a copy of `record` as this manager would have made it.
    async fn take_over(&self, record: &Record) -> Result<Stored> {
        record.check_readable()?;
        let times = self.times_of_new(self.now(), None);
        let mut data = Buffer::new();
        record.codec().convert(record.data(), self.config.codec, &mut data)?;
        let record = Record::new(&Meta::new(times, None), self.config.codec, &data);
        for _ in 0..=COLLISIONS {
            let name = self.new_name()?;
            if self.provider.create(name.key(), &record).await? == Created::Done {
                return Ok(Stored { name, record, in_grace: false });
            }
        }
        Err(repeats_itself())
    }
}
