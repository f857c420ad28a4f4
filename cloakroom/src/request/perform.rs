//! The steps of a commit, carried out on the store: by awaiting the provider, or by polling it once.

use super::outcome::{Answer, RareAnswer};
use super::plan::{Plan, Step};
use crate::engine::{By, Engine, Stored};
use crate::error::Result;
use crate::event::{About, EventKind};
use crate::id::{Named, StoreKey};
use crate::principal::Principal;
use crate::provider::{Created, Provider, Renamed, Updated};
use crate::record::{Record, Times};

/// The parts of a request's state that a step needs, copied out of its lock.
pub(super) struct Needs {
    /// The session as the request has it.
    pub(super) present: Option<Stored>,
    /// The user who logs in.
    pub(super) login: Option<Principal>,
    /// The sessions of a request whose ids lead to more than one.
    pub(super) contested: Vec<StoreKey>,
    /// The sessions of another library that the request names besides its own, if it ends that.
    pub(super) old: Vec<Named>,
}

/// Carries out the step of `plan`.
pub(super) async fn perform(engine: &Engine, plan: &Plan, needs: &Needs) -> Result<Answer> {
    let provider = &engine.provider;
    let Needs { present, login, contested, old } = needs;
    Ok(match (plan.step, present, &plan.new, &plan.record) {
        (Step::Touch { at }, Some(present), ..) => {
            Answer::Touched(provider.touch(present.name.key(), at.into()).await?)
        }
        (Step::Update { .. }, Some(present), _, Some(record)) => {
            Answer::Updated(provider.update(present.name.key(), record, &present.record).await?)
        }
        (Step::Create { .. }, present, Some(new), _) => {
            let _turn = engine.user_limit.admit(login.as_ref(), None).await?;
            match provider.create(new.name.key(), &new.record).await? {
                Created::Done if !engine.user_limit.enforce(login.as_ref(), new.name.key()).await? => {
                    withdraw(engine, new, present.as_ref()).await?
                }
                created => Answer::Created(created),
            }
        }
        (Step::Rename { .. }, Some(present), Some(new), tombstone) => {
            let (old, key) = (present.name.key(), new.name.key());
            let _turn = engine.user_limit.admit(login.as_ref(), Some(old)).await?;
            let version = present.record.version();
            match provider.rename(old, key, &new.record, version, tombstone.as_ref()).await? {
                Renamed::Done if !engine.user_limit.enforce(login.as_ref(), key).await? => {
                    withdraw(engine, new, Some(present)).await?
                }
                renamed => Answer::Renamed(renamed),
            }
        }
        (Step::End, Some(present), ..) => {
            let ended = end_old(engine, old).await?;
            Answer::Ended(end(engine, present.name.key(), &present.record).await? || ended)
        }
        (Step::EndAll, ..) => {
            let mut ended = false;
            for key in contested {
                ended |= engine.revocation.end_presented(key).await?;
            }
            Answer::Ended(ended)
        }
        (Step::Move, Some(present), ..) => match super::load::move_here(engine, &present.name).await? {
            Some(moved) => Answer::Rare(Box::new(RareAnswer::Moved(moved))),
            None => Answer::None,
        },
        (Step::EndUnmoved, Some(present), ..) => {
            let ended = engine.migration.end(&present.name).await?;
            if ended {
                engine.events.report(EventKind::Destroyed, present);
            }
            Answer::Ended(ended)
        }
        _ => Answer::None,
    })
}

/// Carries out the step of `plan` on a provider that never waits. `None` if that takes more than one call: nothing was done then.
#[inline]
pub(super) fn perform_at_once(
    engine: &Engine,
    plan: &Plan,
    present: Option<&Stored>,
) -> Option<Result<Answer>> {
    let provider = &engine.provider;
    match plan.step {
        Step::Nothing => Some(Ok(Answer::None)),
        Step::Touch { at } => {
            Some(provider.touch_at_once(present?.name.key(), at.into())?.map(Answer::Touched))
        }
        Step::Update { .. } => {
            let (present, record) = (present?, plan.record.as_ref()?);
            let updated = provider.update_at_once(present.name.key(), record, &present.record)?;
            Some(updated.map(Answer::Updated))
        }
        Step::Create { login } if may_create_at_once(engine, login) => {
            let new = plan.new.as_ref()?;
            Some(provider.create_at_once(new.name.key(), &new.record)?.map(Answer::Created))
        }
        Step::Rename { login } if !(login && engine.config.user_limit.is_some()) => {
            let (present, new) = (present?, plan.new.as_ref()?);
            let (old, key, version) = (present.name.key(), new.name.key(), present.record.version());
            let renamed = provider.rename_at_once(old, key, &new.record, version, plan.record.as_ref())?;
            Some(renamed.map(Answer::Renamed))
        }
        _ => None,
    }
}

/// Returns true if a session can be created in one call: nothing has to be counted or asked before.
#[inline]
fn may_create_at_once(engine: &Engine, login: bool) -> bool {
    if login { engine.config.user_limit.is_none() } else { !engine.admission.is_needed() }
}

/// Ends the sessions of a former store that a request presents beside its own. Otherwise the next request, without a session of its own,
/// would move one of them here. Returns true if it ended one, which may be the request's own, moved here before.
async fn end_old(engine: &Engine, old: &[Named]) -> Result<bool> {
    let mut ended = false;
    for name in old {
        ended |= engine.migration.end(name).await?;
    }
    Ok(ended)
}

/// Ends the session of `record`, or the one that it has become meanwhile; false if there is none.
async fn end(engine: &Engine, key: &StoreKey, record: &Record) -> Result<bool> {
    if engine.revocation.write_tombstone(key, record).await? == Updated::Done {
        engine.events.report(EventKind::Destroyed, about(key, record));
        return Ok(true);
    }
    engine.revocation.end(key).await
}

fn about<'a>(key: &'a StoreKey, record: &'a Record) -> About<'a> {
    About { record: Some(record), ..About::from(key) }
}

/// Takes back the login that began `new`. The visitor gets the session of before again, under one more id.
async fn withdraw(engine: &Engine, new: &Stored, present: Option<&Stored>) -> Result<Answer> {
    let key = new.name.key();
    let Some(Stored { name: left, record: former, .. }) = present else {
        engine.revocation.end(key).await?;
        return Ok(over_limit(None));
    };
    let version = new.record.version();
    let times = Times { version: version.wrapping_add(1), ..former.times() };
    let record = former.rewritten(times, former.data().len(), |data| {
        data.extend_from_slice(former.data());
        Ok(())
    })?;
    let name = engine.ids.new_name()?;
    let tombstone = engine.tombstones.of_replaced(&new.name, &new.record, &name, engine.now());
    match engine.provider.rename(key, name.key(), &record, version, tombstone.as_ref()).await? {
        Renamed::Done => {
            let back = Stored { name, record, by: By::Own };
            let about = About { former: Some(left.key()), ..About::from(&back) };
            engine.events.report(EventKind::Rotated, about);
            Ok(over_limit(Some(back)))
        }
        // The new session has ended or changed already.
        Renamed::Stale | Renamed::Gone | Renamed::Taken => Ok(over_limit(None)),
    }
}

fn over_limit(back: Option<Stored>) -> Answer {
    Answer::Rare(Box::new(RareAnswer::OverLimit(back)))
}
