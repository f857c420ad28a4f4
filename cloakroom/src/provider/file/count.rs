//! Counts of live sessions. Concurrent callers share one walk, which goes on when its callers have given up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::error::FileError;
use super::threads::ThreadLimit;
use crate::clock::Millis;
use crate::error::{Error, Result};

/// The time that a caller waits for a walk of its own, one that began after its call. The engine's default deadline is two seconds.
const WAIT_FOR_OWN_WALK: Duration = Duration::from_secs(1);
/// The greatest age of a count that is returned in place of a longer walk.
const MAX_AGE: Duration = Duration::from_secs(60);

/// The state of counting: the walk under way and the last count.
#[derive(Clone, Default)]
pub(super) struct Counter(Arc<Mutex<CounterState>>);

/// The state that the callers of one store share. The walk belongs to none of them, so it goes on if its caller gives up.
#[derive(Default)]
struct CounterState {
    /// The number of walks that have begun.
    begun: u64,
    running: Option<SharedWalk>,
    last: Option<(Instant, u64)>,
}

/// A walk under way. `number` tells a caller whether the walk began after its call: only such a walk has seen every session that existed
/// then.
#[derive(Clone)]
struct SharedWalk {
    number: u64,
    /// Changes after every step; holds the result once the walk has ended.
    progress: watch::Receiver<Option<CountResult>>,
}

type CountResult = Result<u64, Arc<Error>>;

/// A range of keys: from the first text, inclusive, to the second, exclusive.
pub(super) type KeyRange = (&'static str, Option<&'static str>);

/// Four ranges that are walked concurrently. Hashed keys are hexadecimal, so the ranges hold equal shares.
pub(super) const KEY_RANGES: &[KeyRange] =
    &[("", Some("4")), ("4", Some("8")), ("8", Some("c")), ("c", None)];

/// The result of one step of a walk.
pub(super) struct CountStep {
    pub(super) count: u64,
    /// The key or prefix after which the next step begins; `None` at the end.
    pub(super) next: Option<String>,
}

impl Counter {
    /// Counts by a walk that began after the call. If that takes longer than a second, returns a count of the last minute, or that of
    /// the walk that was already under way.
    ///
    /// `step` runs one step, from after one key up to another, on a thread of `limit`.
    pub(super) async fn count<F>(
        &self,
        limit: &ThreadLimit,
        parts: &'static [KeyRange],
        step: F,
    ) -> Result<u64>
    where
        F: Fn(&str, Option<&str>) -> Result<CountStep> + Clone + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            return all_of(limit.clone(), ("", None), step, || ()).await;
        };
        let start = Instant::now();
        let before = self.state().begun;
        loop {
            let mut walk = self.join(&runtime, limit, parts, &step);
            let own = walk.number > before;
            // The channel closes without a result if the runtime of the walk ends. Then the loop starts another walk.
            while walk.progress.changed().await.is_ok() {
                let found = walk.progress.borrow_and_update().clone();
                let late = start.elapsed() >= WAIT_FOR_OWN_WALK;
                match found {
                    Some(Ok(count)) if own || late => return Ok(count),
                    Some(Err(error)) if own => return Err(FileError::Count(error).into()),
                    Some(_) => break,
                    None if late => {
                        let last = self.state().last;
                        if let Some((_, count)) = last.filter(|(at, _)| at.elapsed() < MAX_AGE) {
                            return Ok(count);
                        }
                    }
                    None => {}
                }
            }
        }
    }

    /// Returns the walk that is under way, or starts one.
    fn join<F>(
        &self,
        runtime: &Handle,
        limit: &ThreadLimit,
        parts: &'static [KeyRange],
        step: &F,
    ) -> SharedWalk
    where
        F: Fn(&str, Option<&str>) -> Result<CountStep> + Clone + Send + 'static,
    {
        let (sender, progress) = watch::channel(None);
        let walk = {
            let mut state = self.state();
            if let Some(running) = &state.running {
                return running.clone();
            }
            state.begun += 1;
            let number = state.begun;
            state.running.insert(SharedWalk { number, progress }).clone()
        };
        let running = WalkGuard(self.clone());
        let (limit, step) = (limit.clone(), step.clone());
        runtime.spawn(async move {
            let mut walks = JoinSet::new();
            for part in parts {
                let sender = sender.clone();
                let report = move || drop(sender.send_replace(None));
                walks.spawn(all_of(limit.clone(), *part, step.clone(), report));
            }
            let found = sum(walks).await.map_err(Arc::new);
            if let Ok(count) = found {
                running.0.state().last = Some((Instant::now(), count));
            }
            // Before the result is sent: a caller that counts again after it must start a new walk.
            drop(running);
            sender.send_replace(Some(found));
        });
        walk
    }

    fn state(&self) -> MutexGuard<'_, CounterState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks the walk as ended when its task ends, also if the task is cancelled.
struct WalkGuard(Counter);

impl Drop for WalkGuard {
    fn drop(&mut self) {
        self.0.state().running = None;
    }
}

/// Adds up the counts of the ranges. The first error ends the count, and the other walks with it.
async fn sum(mut walks: JoinSet<Result<u64>>) -> Result<u64> {
    let mut sum = 0;
    while let Some(walked) = walks.join_next().await {
        sum += walked.map_err(|error| Error::from(FileError::BrokenOff(error)))??;
    }
    Ok(sum)
}

/// Counts one range of keys, step by step. `report` is called after each step, so that waiting callers look at the clock.
async fn all_of<F>(
    limit: ThreadLimit,
    (from, until): KeyRange,
    step: F,
    report: impl Fn() + Send,
) -> Result<u64>
where
    F: Fn(&str, Option<&str>) -> Result<CountStep> + Clone + Send + 'static,
{
    let (mut count, mut after) = (0, from.to_owned());
    loop {
        let step = step.clone();
        let walked = limit.run(move || step(&after, until)).await?;
        count += walked.count;
        match walked.next {
            None => return Ok(count),
            Some(next) => after = next,
        }
        report();
    }
}

/// The deadlines read from files, by folder. A count reads only the files that have changed since.
#[derive(Default)]
pub(super) struct DeadlineCache(HashMap<String, Vec<CachedDeadline>>);

/// The deadline read from one file, and the identity of that file.
#[derive(Clone, Copy)]
pub(super) struct CachedDeadline {
    file: u64,
    /// The file's time of change (ctime), in nanoseconds since 1970.
    changed: u64,
    /// The deadline of the session; zero if the file holds none.
    pub(super) deadline: Millis,
}

impl DeadlineCache {
    /// Takes the deadlines of one folder, in the order of the inodes. [`put_back`](Self::put_back) puts them back.
    pub(super) fn take(&mut self, folder: &str) -> Vec<CachedDeadline> {
        self.0.remove(folder).unwrap_or_default()
    }

    pub(super) fn put_back(&mut self, folder: &str, mut deadlines: Vec<CachedDeadline>) {
        if !deadlines.is_empty() {
            deadlines.sort_unstable_by_key(|cached| cached.file);
            self.0.insert(folder.to_owned(), deadlines);
        }
    }
}

impl CachedDeadline {
    pub(super) fn new(stat: &Stat, deadline: Millis) -> Self {
        CachedDeadline { file: stat.st_ino, changed: changed(stat), deadline }
    }

    /// Finds the deadline of the file that `stat` describes, if the file has not changed.
    pub(super) fn find(known: &[CachedDeadline], stat: &Stat) -> Option<CachedDeadline> {
        let at = known.binary_search_by_key(&stat.st_ino, |cached| cached.file).ok()?;
        Some(known[at]).filter(|cached| cached.changed == changed(stat))
    }

    /// Returns true if a later change of the file would show in its time of change. File systems keep that time in steps of up
    /// to ten milliseconds or so.
    pub(super) fn is_reliable(&self) -> bool {
        const CLOCK_STEP: Duration = Duration::from_millis(100);
        let changed = UNIX_EPOCH + Duration::from_nanos(self.changed);
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > CLOCK_STEP)
    }
}

fn changed(stat: &Stat) -> u64 {
    let seconds = u64::try_from(stat.st_ctime).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec)
}
