//! The plan: the one step on the store that a request's changes need, given the session as it was last seen.

use super::changes::Changes;
use super::reserved::CSRF;
use super::state::{CookieSecret, State};
use crate::clock::Millis;
use crate::codec::{Buffer, Codec};
use crate::engine::{By, Engine, Former, Stored, form_secret_text};
use crate::error::Result;
use crate::provider::Provider;
use crate::record::{Meta, Record, Times};

/// The next step on the store, and the records that it writes.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) step: Step,
    /// The session under a new id.
    pub(super) new: Option<Stored>,
    /// The record under the present session's key: its next version, or the tombstone that the new id leaves.
    pub(super) record: Option<Record>,
}

/// A step on the store. It concerns the session that the request has now.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Step {
    #[default]
    Nothing,
    /// Notes the use of a session that does not change.
    Touch { at: Millis },
    /// Stores the new session.
    Create { login: bool },
    /// Stores the session's next version. `only_read` is true if the request changed nothing itself.
    Update { only_read: bool },
    /// Moves the session to its new id.
    Rename { login: bool },
    /// Ends the session.
    End,
    /// Ends every session that the request named, since nobody can tell which one the visitor meant.
    EndAll,
    /// Moves the session here from the former store. The changes come after it.
    Move,
    /// Ends the session in the former store, from which it could not be moved.
    EndUnmoved,
    /// Refuses the changes: the session of the request's id had ended before the request came.
    Refuse,
}

/// Plans the step that stores `changes`.
pub(super) fn plan(engine: &Engine, state: &State, changes: &Changes, to: &mut Plan) -> Result<()> {
    let now = engine.now();
    let Some(stored) = &state.stored else { return without_session(engine, state, changes, now, to) };
    if stored.by == By::Unmoved {
        to.step = unmoved(changes);
        return Ok(());
    }
    if changes.end {
        to.step = Step::End;
        return Ok(());
    }
    let times = stored.record.times();
    let asked = changes.raises_trust() || changes.new_id;
    if asked || rotation_due(engine, stored, &times, now) {
        return rename(engine, stored, changes, now, asked, to);
    }
    if changes.changes_data() || changes.changes_fields() {
        return update(engine, stored, changes, now, &times, to);
    }
    if !engine.deadlines.touch_due(&stored.record, &times, now) {
        to.step = Step::Nothing;
        return Ok(());
    }
    if has_present_deadline(engine, &stored.record, &times, now) {
        to.step = Step::Touch { at: now };
        return Ok(());
    }
    update(engine, stored, changes, now, &times, to)
}

/// Returns true if a touch at `now` gives `record` the deadline that the configuration wants. A touch keeps the idle time that the record
/// has, so a changed configuration takes an update to reach a session that is only read.
fn has_present_deadline(engine: &Engine, record: &Record, times: &Times, now: Millis) -> bool {
    let used = times.last_active.max(now);
    let idle = engine.deadlines.idle_deadline(record.lifetime(), times.authenticated, used);
    // A layout without room for times has an idle time of its own.
    engine.provider.capabilities().codec.is_some()
        || record.deadline_after(now) == idle.min(times.absolute_deadline)
}

/// Returns true if a request without changes has something to store: its use, or a new id by routine rotation.
///
/// Not inlined: its caller is the end of every request, and together they are too large for what they call to be inlined (32 instructions).
#[inline(never)]
pub(super) fn use_is_due(engine: &Engine, state: &State) -> bool {
    if state.ended().is_some() {
        return true;
    }
    let Some(stored) = &state.stored else { return false };
    let now = engine.clock.recent();
    let times = stored.record.times();
    engine.deadlines.touch_due(&stored.record, &times, now) || rotation_due(engine, stored, &times, now)
}

fn rotation_due(engine: &Engine, stored: &Stored, times: &Times, now: Millis) -> bool {
    let due = |every| now.since(times.issued) >= every;
    stored.by != By::Grace && engine.config.rotate_every.is_some_and(due)
}

/// Plans the step of a request without a session: one that ends nothing, begins a session, or is refused.
///
/// A deletion or a field alone begins no session, since a record with nothing in it would serve nobody.
fn without_session(
    engine: &Engine,
    state: &State,
    changes: &Changes,
    now: Millis,
    to: &mut Plan,
) -> Result<()> {
    to.step = Step::Nothing;
    if let Some(rare) = &state.rare {
        if rare.ended.as_ref().is_some_and(|former| !may_begin(engine, former, changes, now)) {
            to.step = Step::Refuse;
            return Ok(());
        }
        if changes.end && !rare.contested.is_empty() {
            to.step = Step::EndAll;
            return Ok(());
        }
    }
    let sets = changes.keys.iter().any(|change| change.value().is_some());
    if !sets && changes.principal.is_none() {
        return Ok(());
    }
    if let Some(kept) = state.form_secret()
        && let Some(with_secret) = with_form_secret(engine, kept, changes)?
    {
        return create(engine, &with_secret, now, to);
    }
    create(engine, changes, now, to)
}

/// Returns true if a request whose id had ended before it came may begin a session. Changes other than a login are refused while the
/// browser may still be receiving the id that replaced its own.
fn may_begin(engine: &Engine, former: &Former, changes: &Changes, now: Millis) -> bool {
    changes.principal.is_some()
        || (changes.would_be_lost() && !former.refuses_changes(&engine.deadlines, now))
}

fn unmoved(changes: &Changes) -> Step {
    if changes.end {
        Step::EndUnmoved
    } else if changes.would_be_lost() {
        Step::Move
    } else {
        Step::Nothing
    }
}

/// Adds the visitor's CSRF secret to `changes` that begin an anonymous session, so that forms loaded before it stay valid. After a
/// login they are not.
#[cold]
fn with_form_secret(engine: &Engine, kept: &CookieSecret, changes: &Changes) -> Result<Option<Changes>> {
    if changes.principal.is_some() || changes.find(CSRF).is_some() {
        return Ok(None);
    }
    let config = &engine.config;
    let mut changes = changes.clone();
    changes.set(config.codec.encode(CSRF, &form_secret_text(&kept.secret), &config.limits)?);
    Ok(Some(changes))
}

fn create(engine: &Engine, changes: &Changes, now: Millis, to: &mut Plan) -> Result<()> {
    let times = engine.deadlines.times_of_new(now, changes.principal.as_ref().map(|_| now));
    let mut meta = Meta::new(times, changes.principal.clone());
    if let Some(fields) = &changes.fields {
        fields.apply(&mut meta);
        set_deadlines(engine, &mut meta, changes);
    }
    let codec = engine.config.codec;
    let write = |data: &mut Buffer| write_data(engine, codec, b"", changes, data);
    let record = engine.ids.marked(Record::written(&meta, codec, changes.room(), write)?);
    to.new = Some(Stored { name: engine.ids.new_name()?, record, by: By::Own });
    to.step = Step::Create { login: changes.principal.is_some() };
    Ok(())
}

fn update(
    engine: &Engine,
    stored: &Stored,
    changes: &Changes,
    now: Millis,
    times: &Times,
    to: &mut Plan,
) -> Result<()> {
    to.record = Some(changed(engine, &stored.record, changes, now, times.issued)?);
    to.step = Step::Update { only_read: changes.is_empty() };
    Ok(())
}

/// Plans a new id. `asked` is false for routine rotation, which leaves the old id a grace.
fn rename(
    engine: &Engine,
    stored: &Stored,
    changes: &Changes,
    now: Millis,
    asked: bool,
    to: &mut Plan,
) -> Result<()> {
    let name = engine.ids.new_name()?;
    let record = changed(engine, &stored.record, changes, now, now)?;
    to.record = if asked {
        engine.tombstones.of_replaced(&stored.name, &stored.record, &name, now)
    } else {
        engine.tombstones.of_rotated(&stored.record, &name, now)
    };
    to.new = Some(Stored { name, record, by: By::Own });
    to.step = Step::Rename { login: changes.principal.is_some() };
    Ok(())
}

/// Makes the next version of `record`, with `changes`, under an id that was `issued` then.
fn changed(
    engine: &Engine,
    record: &Record,
    changes: &Changes,
    now: Millis,
    issued: Millis,
) -> Result<Record> {
    let former = record.times();
    // The idle deadline belongs to the last use: a touch takes the time between the two for the record's idle time.
    let used = former.last_active.max(now);
    let mut times = Times {
        // A stored version may be any number. It only has to change.
        version: former.version.wrapping_add(1),
        issued,
        last_active: used,
        idle_deadline: engine.deadlines.idle_deadline(record.lifetime(), former.authenticated, used),
        ..former
    };
    let mut base = if changes.clear { &[][..] } else { record.data() };
    let mut fields_of = record;
    let with_fields;
    if changes.changes_fields() {
        let mut meta = Meta { times, ..record.meta() };
        if let Some(principal) = &changes.principal {
            // Data of another user is removed.
            if meta.principal.as_ref().is_some_and(|former| former != principal) {
                base = &[];
                meta = Meta::new(times, None);
            }
            meta.principal = Some(principal.clone());
            meta.times.authenticated = Some(now);
            // The new proof replaces the level and the end of the last one.
            (meta.level, meta.ends_by) = (None, None);
        }
        if let Some(fields) = &changes.fields {
            fields.apply(&mut meta);
        }
        set_deadlines(engine, &mut meta, changes);
        times = meta.times;
        with_fields = record.with_meta(meta);
        fields_of = &with_fields;
    }
    let room = base.len() + changes.room();
    fields_of.rewritten(times, room, |data| write_data(engine, record.codec(), base, changes, data))
}

fn write_data(
    engine: &Engine,
    codec: Codec,
    base: &[u8],
    changes: &Changes,
    data: &mut Buffer,
) -> Result<()> {
    if changes.keys.is_empty() {
        data.extend_from_slice(base);
        return Ok(());
    }
    codec.merge(base, &changes.keys, &engine.config.limits, data)
}

/// Sets the deadlines of a session whose fields have changed. Without a login or a lifetime of its own, the absolute deadline only
/// moves closer: the configuration may have changed since it was computed.
fn set_deadlines(engine: &Engine, meta: &mut Meta, changes: &Changes) {
    let times = &mut meta.times;
    times.idle_deadline =
        engine.deadlines.idle_deadline(meta.lifetime, times.authenticated, times.last_active);
    if changes.sets_lifetime() {
        // The login of a session that was moved here may be older than its move.
        let from = times.authenticated.unwrap_or(times.created).max(times.created);
        times.absolute_deadline = engine.deadlines.absolute_deadline(meta.lifetime, from);
    }
    times.absolute_deadline = times.absolute_deadline.min(meta.ends_by.unwrap_or(Millis::NEVER));
}
