//! What a request's changes make of the record that was last seen, and what is to be asked of the provider for it.

use super::changes::Changes;
use super::state::{Shared, State};
use crate::clock::Millis;
use crate::codec::{Buffer, Codec};
use crate::engine::{By, Former, Stored};
use crate::error::Result;
#[cfg(feature = "beego")]
use crate::id::Named;
use crate::id::StoreKey;
use crate::provider::Provider;
use crate::record::{Meta, Record, Times};

/// What is to be asked of the provider next.
pub(super) enum Step {
    Nothing,
    Touch {
        key: StoreKey,
        at: Millis,
    },
    Create {
        new: Stored,
    },
    Update {
        key: StoreKey,
        record: Record,
        base: Record,
    },
    Rename {
        old: StoreKey,
        expected: u64,
        new: Stored,
        tombstone: Option<Record>,
    },
    Destroy {
        key: StoreKey,
        record: Record,
    },
    /// Moves the session from the former store, where it was read, before anything else is done to it.
    #[cfg(feature = "beego")]
    Move {
        name: Named,
    },
    /// Ends the session in the former store, from which it could not be moved.
    #[cfg(feature = "beego")]
    DestroyUnmoved {
        name: Named,
        record: Record,
    },
    /// Every session that the request named: nobody can tell which of them the visitor meant.
    DestroyAll {
        keys: Vec<StoreKey>,
    },
    /// Takes the session that a login has begun in the place of the request's id, if this login may.
    Join {
        former: Former,
    },
    /// Nothing: the session of the request's id had ended before the request came.
    Gone,
}

impl Shared {
    pub(super) fn plan(&self, state: &State, changes: &Changes) -> Result<Step> {
        let now = self.engine.now();
        let Some(stored) = &state.stored else {
            let contested = state.rare.as_ref().map(|rare| &rare.contested);
            return match (state.ended(), contested) {
                (Some(former), _) if !self.may_begin(former, changes) => Ok(Step::Gone),
                (_, Some(keys)) if changes.end && !keys.is_empty() => {
                    Ok(Step::DestroyAll { keys: keys.clone() })
                }
                _ => self.plan_create(state, changes, now),
            };
        };
        #[cfg(feature = "beego")]
        if stored.by == By::Unmoved {
            let name = stored.name.clone();
            return Ok(match changes {
                _ if changes.end => Step::DestroyUnmoved { name, record: stored.record.clone() },
                _ if changes.would_be_lost() => Step::Move { name },
                _ => Step::Nothing,
            });
        }
        if changes.end {
            return Ok(Step::Destroy { key: stored.name.key().clone(), record: stored.record.clone() });
        }
        let times = stored.record.times();
        let wanted = changes.prove_the_user() || changes.renew;
        if wanted || self.rotation_due(stored, &times, now) {
            return self.plan_rename(stored, changes, now, wanted);
        }
        let key = stored.name.key().clone();
        if changes.touch_data() || changes.touch_fields() {
            let record = self.changed(&stored.record, changes, now, times.issued)?;
            return Ok(Step::Update { key, record, base: stored.record.clone() });
        }
        if self.engine.deadlines.touch_due(&stored.record, &times, now) {
            return self.plan_use(key, &stored.record, now);
        }
        Ok(Step::Nothing)
    }

    /// Plans to record a use at `now`. A touch keeps to the idle time that the stored record has. Where the policy has another one by
    /// now, an update takes the place of the touch, so that a new configuration reaches sessions that are only read.
    fn plan_use(&self, key: StoreKey, record: &Record, now: Millis) -> Result<Step> {
        let times = record.times();
        let idle = self.engine.deadlines.idle_deadline(
            record.lifetime(),
            times.authenticated,
            times.last_active.max(now),
        );
        // A layout without a place for times has an idle time of its own.
        let keeps_times = self.engine.provider.capabilities().codec.is_none();
        if keeps_times && record.deadline_after(now) != idle.min(times.absolute_deadline) {
            let renewed = self.changed(record, &Changes::default(), now, times.issued)?;
            return Ok(Step::Update { key, record: renewed, base: record.clone() });
        }
        Ok(Step::Touch { key, at: now })
    }

    /// True if a request whose id had ended before it came begins a session with `changes`: as any visitor without one, except that
    /// other changes than a login are refused while the browser may just be receiving the id that took the place of its own.
    fn may_begin(&self, former: &Former, changes: &Changes) -> bool {
        changes.principal.is_some()
            || (changes.would_be_lost() && !former.refuses_changes(&self.engine.deadlines, self.engine.now()))
    }

    fn plan_create(&self, state: &State, changes: &Changes, now: Millis) -> Result<Step> {
        let sets = changes.keys.iter().any(|change| change.value().is_some());
        if !sets && changes.principal.is_none() {
            return Ok(Step::Nothing);
        }
        if let Some(kept) = state.form_secret()
            && let Some(with_secret) = self.with_form_secret(kept, changes)?
        {
            return self.plan_new(&with_secret, now);
        }
        self.plan_new(changes, now)
    }

    fn plan_new(&self, changes: &Changes, now: Millis) -> Result<Step> {
        let times = self.engine.deadlines.times_of_new(now, changes.principal.as_ref().map(|_| now));
        let mut meta = Meta::new(times, changes.principal.clone());
        if let Some(beside) = &changes.beside {
            beside.apply(&mut meta);
            self.set_deadlines(&mut meta, changes);
        }
        let codec = self.engine.config.codec;
        let record =
            Record::written(&meta, codec, changes.room(), |data| self.write_data(codec, b"", changes, data))?;
        let record = self.engine.ids.marked(record);
        Ok(Step::Create { new: Stored { name: self.engine.ids.new_name()?, record, by: By::Own } })
    }

    fn plan_rename(&self, stored: &Stored, changes: &Changes, now: Millis, wanted: bool) -> Result<Step> {
        let name = self.engine.ids.new_name()?;
        let record = self.changed(&stored.record, changes, now, now)?;
        // An id that somebody asked to replace is dead at once; one replaced in passing still serves the requests under way.
        let tombstone = if wanted {
            self.engine.tombstones.of_replaced(&stored.name, &stored.record, &name, now)
        } else {
            self.engine.tombstones.of_rotated(&stored.record, &name, now)
        };
        let new = Stored { name, record, by: By::Own };
        Ok(Step::Rename { old: stored.name.key().clone(), expected: stored.record.version(), new, tombstone })
    }

    /// `record` with `changes` made to it, one version on, under an id that was `issued` then.
    fn changed(&self, record: &Record, changes: &Changes, now: Millis, issued: Millis) -> Result<Record> {
        let former = record.times();
        // The idle deadline goes with the last use: a touch takes the time between the two for the record's idle time.
        let used = former.last_active.max(now);
        let mut times = Times {
            // A stored number may be any, and what counts is that it becomes another.
            version: former.version.wrapping_add(1),
            issued,
            last_active: used,
            idle_deadline: self.engine.deadlines.idle_deadline(record.lifetime(), former.authenticated, used),
            ..former
        };
        let mut base = if changes.flush { &[][..] } else { record.data() };
        let mut fields_of = record;
        let bound;
        if changes.touch_fields() {
            let mut meta = Meta { times, ..record.meta() };
            if let Some(principal) = &changes.principal {
                // What another user left behind is not this one's.
                if meta.principal.as_ref().is_some_and(|former| former != principal) {
                    base = &[];
                    meta = Meta::new(times, None);
                }
                meta.principal = Some(principal.clone());
                meta.times.authenticated = Some(now);
                // Proved anew: what the last proof was bound by no longer counts.
                (meta.level, meta.ends_by) = (None, None);
            }
            if let Some(beside) = &changes.beside {
                beside.apply(&mut meta);
            }
            self.set_deadlines(&mut meta, changes);
            times = meta.times;
            bound = record.with_meta(meta);
            fields_of = &bound;
        }
        let room = base.len() + changes.room();
        fields_of.rewritten(times, room, |data| self.write_data(record.codec(), base, changes, data))
    }

    fn write_data(&self, codec: Codec, base: &[u8], changes: &Changes, data: &mut Buffer) -> Result<()> {
        match changes.keys.is_empty() {
            true => {
                data.extend_from_slice(base);
                Ok(())
            }
            false => codec.merge(base, &changes.keys, self.limits(), data),
        }
    }

    /// The deadlines of a session whose terms `changes` have changed at its last use. But for a login or a lifetime of its own the absolute one
    /// only comes nearer: what it was reckoned by may since have been configured otherwise.
    fn set_deadlines(&self, meta: &mut Meta, changes: &Changes) {
        let times = &mut meta.times;
        times.idle_deadline =
            self.engine.deadlines.idle_deadline(meta.lifetime, times.authenticated, times.last_active);
        if changes.set_lifetime() {
            let from = times.authenticated.unwrap_or(times.created);
            times.absolute_deadline = self.engine.deadlines.absolute_deadline(meta.lifetime, from);
        }
        times.absolute_deadline = times.absolute_deadline.min(meta.ends_by.unwrap_or(Millis::NEVER));
    }

    pub(super) fn rotation_due(&self, stored: &Stored, times: &Times, now: Millis) -> bool {
        let due = |every| now.since(times.issued) >= every;
        stored.by != By::Grace && self.engine.config.rotate_every.is_some_and(due)
    }
}
