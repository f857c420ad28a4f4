//! A rename on a cluster. The two keys are in different slots, so no script can change both. It takes three steps:
//!
//! 1. Lock the old session. No other change can begin. (`move_begin.lua`)
//! 2. Create the new session, with an arrival mark that names the move. (`create.lua`)
//! 3. End the old session, if the lock is still held. This step decides. (`move_end.lua`)
//!
//! If the process dies before step 3, the old session is still there. The next change of it finds the lock, waits until the lock
//! expires, takes it over so that the move can no longer finish, deletes the new session, and unlocks the old one. The client does
//! not know the new id by then, so nothing that it could reach is lost. No ended session is revived.

use std::sync::Arc;

use super::super::error::StoreError;
use super::super::script::{self, Script, ScriptOutcome};
use super::{RedisStore, unexpected};
use crate::id::StoreKey;
use crate::provider::Renamed;
use crate::record::Record;

/// The time to live of locks and marks that a dead process leaves: an hour, in milliseconds.
const LOCK_TTL: &[u8] = b"3600000";

const TOKEN: usize = 16;

/// The lock of a session that is being moved: the token of the move, the lock's expiry, whether the move is being undone, and
/// the new key.
pub(in crate::provider::redis) struct MoveLock {
    bytes: Vec<u8>,
    new: StoreKey,
}

impl MoveLock {
    pub(super) fn read(bytes: &[u8]) -> Option<MoveLock> {
        let new = std::str::from_utf8(bytes.get(TOKEN + 9..)?).ok()?.parse().ok()?;
        Some(MoveLock { bytes: bytes.to_vec(), new })
    }

    fn token(&self) -> &[u8] {
        &self.bytes[..TOKEN]
    }
}

/// Moves the session under `old`, within the time of one call. The move goes on if the caller stops waiting, since an unfinished
/// move would block other changes.
pub(super) async fn rename(
    store: &Arc<RedisStore>,
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
    let limit = store.client.timeout();
    match tokio::time::timeout(limit, tokio::spawn(step.run())).await {
        Ok(moved) => moved.map_err(StoreError::Cancelled)?,
        Err(_) => Err(StoreError::Late { limit }),
    }
}

/// A move of a session between two slots. It owns its values, since it runs in a task that outlives its caller.
pub(in crate::provider::redis) struct Move {
    pub(in crate::provider::redis) store: Arc<RedisStore>,
    pub(in crate::provider::redis) old: StoreKey,
    pub(in crate::provider::redis) new: StoreKey,
    pub(in crate::provider::redis) record: Record,
    pub(in crate::provider::redis) tombstone: Option<Record>,
    pub(in crate::provider::redis) expected: u64,
    pub(in crate::provider::redis) token: [u8; TOKEN],
}

impl Move {
    /// Runs the three steps. If a step before the third one fails, the new session is removed and the old one unlocked.
    ///
    /// A failure of the third step leaves both in place: the old session may have ended. The lock tells the next change what to do.
    async fn run(self) -> Result<Renamed, StoreError> {
        match self.lock_old().await? {
            ScriptOutcome::Done => {}
            ScriptOutcome::Stale => return Ok(Renamed::Stale),
            ScriptOutcome::Gone => return Ok(Renamed::Gone),
            other => return Err(unexpected(other)),
        }
        let created = self.create_new().await;
        if !matches!(created, Ok(ScriptOutcome::Done)) {
            self.undo_create().await;
            return match created? {
                ScriptOutcome::Taken => Ok(Renamed::Taken),
                other => Err(unexpected(other)),
            };
        }
        match self.end_old().await {
            Ok(ScriptOutcome::Done) => {
                self.remove_mark().await;
                Ok(Renamed::Done)
            }
            // Another process has taken over the lock, and undoes the move.
            Ok(_) => Err(StoreError::MoveUndone),
            // The old session may have ended. If the lock is still there, the next change decides.
            Err(error) => Err(error),
        }
    }

    pub(in crate::provider::redis) async fn lock_old(&self) -> Result<ScriptOutcome, StoreError> {
        // The move needs up to three calls. After that another process may treat it as dead.
        let time = (3 * self.store.client.timeout().as_millis()).to_string();
        let args =
            [&self.token[..], time.as_bytes(), self.new.as_bytes(), &self.expected.to_be_bytes(), LOCK_TTL];
        self.store.change(&self.old, &script::MOVE_BEGIN, &args).await
    }

    pub(in crate::provider::redis) async fn create_new(&self) -> Result<ScriptOutcome, StoreError> {
        let partition = self.store.layout.partition_of(&self.new);
        let mut keys = self.store.keys(&partition, &self.new);
        keys.push(partition.arriving(&self.new));
        let args = [self.record.as_bytes(), &self.token[..], LOCK_TTL];
        self.store.outcome(&partition, &self.new, &script::CREATE, &keys, &args).await
    }

    pub(in crate::provider::redis) async fn end_old(&self) -> Result<ScriptOutcome, StoreError> {
        let tombstone = self.tombstone.as_ref().map_or(&b""[..], Record::as_bytes);
        step(&self.store, &self.old, &script::MOVE_END, &[&self.token, tombstone]).await
    }

    /// Removes the arrival mark, which is needed only while the move may be undone.
    async fn remove_mark(&self) {
        let partition = self.store.layout.partition_of(&self.new);
        if let Err(error) = self.store.client.forget(partition.number, &partition.arriving(&self.new)).await {
            tracing::debug!(%error, "could not remove the arrival mark of a rename: it expires");
        }
    }

    async fn undo_create(&self) {
        let undo = async {
            undo_create(&self.store, &self.new, &self.token).await?;
            step(&self.store, &self.old, &script::MOVE_FREE, &[&self.token]).await
        };
        if let Err(error) = undo.await {
            tracing::debug!(%error, "could not undo a failed rename: the next change does");
        }
    }
}

/// Undoes another process's move of the session under `old`, whose lock has expired.
pub(super) async fn undo(store: &RedisStore, old: &StoreKey, lock: &MoveLock) -> Result<(), StoreError> {
    if step(store, old, &script::MOVE_CLAIM, &[&lock.bytes]).await? != ScriptOutcome::Done {
        return Ok(());
    }
    undo_create(store, &lock.new, lock.token()).await?;
    step(store, old, &script::MOVE_FREE, &[lock.token()]).await.map(drop)
}

async fn undo_create(store: &RedisStore, new: &StoreKey, token: &[u8]) -> Result<(), StoreError> {
    let partition = store.layout.partition_of(new);
    let mut keys = store.keys(&partition, new);
    keys.push(partition.arriving(new));
    store.outcome(&partition, new, &script::MOVE_UNDO, &keys, &[token]).await.map(drop)
}

/// Runs one step of a move.
async fn step(
    store: &RedisStore,
    key: &StoreKey,
    script: &Script,
    args: &[&[u8]],
) -> Result<ScriptOutcome, StoreError> {
    let partition = store.layout.partition_of(key);
    store.outcome(&partition, key, script, &store.keys(&partition, key), args).await
}
