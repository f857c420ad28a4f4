//! A rename on a cluster, where the two keys are in different slots and so no script can change both.
//!
//! 1. A note beside the old session says that it is on its way: from here on nobody changes it. (`move_begin.lua`)
//! 2. The new session comes to life, with a mark that tells whose move it is. (`create.lua`)
//! 3. The old session ends, if the note is still there. This decides. (`move_end.lua`)
//!
//! If the mover dies on its way, the session is where it was: whoever wants to change it next finds the note, waits until its time is
//! over, claims it so that the move cannot end any more, takes back what the move has made under the new key, and frees the session. The
//! client has not been told the new id by then, so nothing that it could reach is lost, and what has ended is never brought back.

use std::sync::Arc;

use super::super::error::StoreError;
use super::super::script::{self, Answer, Script};
use super::{Store, unexpected};
use crate::id::StoreKey;
use crate::provider::Renamed;
use crate::record::Record;

/// How long notes and marks are kept if nobody comes by: an hour, in milliseconds.
const KEPT: &[u8] = b"3600000";

const TOKEN: usize = 16;

/// What stands beside a session on its way: whose move it is, until when, whether it is being undone, and where it goes.
pub(in crate::provider::redis) struct Note {
    bytes: Vec<u8>,
    new: StoreKey,
}

impl Note {
    pub(super) fn read(bytes: &[u8]) -> Option<Note> {
        let new = std::str::from_utf8(bytes.get(TOKEN + 9..)?).ok()?.parse().ok()?;
        Some(Note { bytes: bytes.to_vec(), new })
    }

    fn token(&self) -> &[u8] {
        &self.bytes[..TOKEN]
    }
}

/// Moves the session under `old`. Goes on if the caller does not wait for it, or no longer than for any call: a half-done move would
/// hold others up.
pub(super) async fn rename(
    store: &Arc<Store>,
    old: &StoreKey,
    new: &StoreKey,
    record: &Record,
    expected: u64,
    tombstone: Option<&Record>,
) -> Result<Renamed, StoreError> {
    let mut token = [0; TOKEN];
    getrandom::fill(&mut token).map_err(|_| StoreError::NoRandom)?;
    let step = Move {
        store: Arc::clone(store),
        old: old.clone(),
        new: new.clone(),
        record: record.clone(),
        tombstone: tombstone.cloned(),
        expected,
        token,
    };
    let limit = store.caller.timeout();
    match tokio::time::timeout(limit, tokio::spawn(step.go())).await {
        Ok(moved) => moved.map_err(StoreError::BrokenOff)?,
        Err(_) => Err(StoreError::Late { limit }),
    }
}

pub(in crate::provider::redis) struct Move {
    pub(in crate::provider::redis) store: Arc<Store>,
    pub(in crate::provider::redis) old: StoreKey,
    pub(in crate::provider::redis) new: StoreKey,
    pub(in crate::provider::redis) record: Record,
    pub(in crate::provider::redis) tombstone: Option<Record>,
    pub(in crate::provider::redis) expected: u64,
    pub(in crate::provider::redis) token: [u8; TOKEN],
}

impl Move {
    async fn go(self) -> Result<Renamed, StoreError> {
        match self.begin().await? {
            Answer::Done => {}
            Answer::Stale => return Ok(Renamed::Stale),
            Answer::Gone => return Ok(Renamed::Gone),
            other => return Err(unexpected(other)),
        }
        let made = self.make().await;
        if !matches!(made, Ok(Answer::Done)) {
            self.take_back().await;
            return match made? {
                Answer::Taken => Ok(Renamed::Taken),
                other => Err(unexpected(other)),
            };
        }
        match self.end().await {
            Ok(Answer::Done) => {
                self.forget_mark().await;
                Ok(Renamed::Done)
            }
            // Somebody has claimed the note, and takes back what was made.
            Ok(_) => Err(StoreError::TakenBack),
            // It may have ended. What to do is up to whoever meets the note, if it is still there.
            Err(error) => Err(error),
        }
    }

    pub(in crate::provider::redis) async fn begin(&self) -> Result<Answer, StoreError> {
        // Three calls are to come; whoever finds the note after that may take it for a dead one's.
        let time = (3 * self.store.caller.timeout().as_millis()).to_string();
        let args =
            [&self.token[..], time.as_bytes(), self.new.as_bytes(), &self.expected.to_be_bytes(), KEPT];
        self.store.change(&self.old, &script::MOVE_BEGIN, &args).await
    }

    pub(in crate::provider::redis) async fn make(&self) -> Result<Answer, StoreError> {
        let place = self.store.layout.of(&self.new);
        let mut keys = self.store.keys(&place, &self.new);
        keys.push(place.arriving(&self.new));
        let args = [self.record.as_bytes(), &self.token[..], KEPT];
        self.store.answer(&place, &self.new, &script::CREATE, &keys, &args).await
    }

    pub(in crate::provider::redis) async fn end(&self) -> Result<Answer, StoreError> {
        let tombstone = self.tombstone.as_ref().map_or(&b""[..], Record::as_bytes);
        one(&self.store, &self.old, &script::MOVE_END, &[&self.token, tombstone]).await
    }

    /// The mark only says whose the new session is while the move may be undone.
    async fn forget_mark(&self) {
        let place = self.store.layout.of(&self.new);
        if let Err(error) = self.store.caller.forget(place.partition, &place.arriving(&self.new)).await {
            tracing::debug!(%error, "the mark of a move is left to expire");
        }
    }

    async fn take_back(&self) {
        let undone = async {
            take_back(&self.store, &self.new, &self.token).await?;
            one(&self.store, &self.old, &script::MOVE_FREE, &[&self.token]).await
        };
        if let Err(error) = undone.await {
            tracing::debug!(%error, "a move that failed is left for the next one to undo");
        }
    }
}

/// Undoes somebody's move of the session under `old`, whose time is over.
pub(super) async fn undo(store: &Store, old: &StoreKey, note: &Note) -> Result<(), StoreError> {
    if one(store, old, &script::MOVE_CLAIM, &[&note.bytes]).await? != Answer::Done {
        return Ok(());
    }
    take_back(store, &note.new, note.token()).await?;
    one(store, old, &script::MOVE_FREE, &[note.token()]).await.map(drop)
}

async fn take_back(store: &Store, new: &StoreKey, token: &[u8]) -> Result<(), StoreError> {
    let place = store.layout.of(new);
    let mut keys = store.keys(&place, new);
    keys.push(place.arriving(new));
    store.answer(&place, new, &script::MOVE_UNDO, &keys, &[token]).await.map(drop)
}

/// One step of a move. None does anything that is not there to be done, so each may be sent again.
async fn one(store: &Store, key: &StoreKey, script: &Script, args: &[&[u8]]) -> Result<Answer, StoreError> {
    let place = store.layout.of(key);
    store.answer(&place, key, script, &store.keys(&place, key), args).await
}
