//! Counting: one walk at a time, however many ask, which goes on when its askers have gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::error::FileError;
use super::lanes::Lane;
use crate::clock::Millis;
use crate::error::{Error, Result};

/// How long an asker waits for a walk that began after it asked. The engine's deadline is two seconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// How old an answer may be that is given in the place of a walk that takes longer.
const HOLDS: Duration = Duration::from_secs(60);

/// The walk that counts, and what the last one found.
#[derive(Clone, Default)]
pub(super) struct Tally(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// How many walks were begun.
    begun: u64,
    running: Option<Walk>,
    last: Option<(Instant, u64)>,
}

#[derive(Clone)]
struct Walk {
    number: u64,
    /// Told after every stretch, and at the end what was found.
    news: watch::Receiver<Option<Found>>,
}

type Found = Result<u64, Arc<Error>>;

/// A part of all keys: those from the first text on and below the second.
pub(super) type Part = (&'static str, Option<&'static str>);

/// Four parts, which are walked at the same time. Hashed keys are hexadecimal, so the parts are equal.
pub(super) const PARTS: &[Part] = &[("", Some("4")), ("4", Some("8")), ("8", Some("c")), ("c", None)];

/// A stretch of a walk.
pub(super) struct Stretch {
    pub(super) count: u64,
    /// Behind what the next stretch begins; `None` at the end.
    pub(super) next: Option<String>,
}

impl Tally {
    /// How many there are, by a walk that began after the call. Where a walk takes longer than a second, the answer is that of one
    /// that ended within the last minute, or of one that was under way already.
    ///
    /// `stretch` walks from behind one key to another at most, on a thread of `lane`.
    pub(super) async fn ask<F>(&self, lane: &Lane, parts: &'static [Part], stretch: F) -> Result<u64>
    where
        F: Fn(&str, Option<&str>) -> Result<Stretch> + Clone + Send + 'static,
    {
        let Ok(runtime) = Handle::try_current() else {
            return all_of(lane.clone(), ("", None), stretch, || ()).await;
        };
        let start = Instant::now();
        let before = self.state().begun;
        loop {
            let mut walk = self.join(&runtime, lane, parts, &stretch);
            let own = walk.number > before;
            // The news end without an answer if the runtime of the walk ends.
            while walk.news.changed().await.is_ok() {
                let found = walk.news.borrow_and_update().clone();
                let late = start.elapsed() >= PATIENCE;
                match found {
                    Some(Ok(count)) if own || late => return Ok(count),
                    Some(Err(error)) if own => return Err(FileError::Count(error).into()),
                    Some(_) => break,
                    None if late => {
                        let last = self.state().last;
                        if let Some((_, count)) = last.filter(|(at, _)| at.elapsed() < HOLDS) {
                            return Ok(count);
                        }
                    }
                    None => {}
                }
            }
        }
    }

    /// The walk that is under way, or a new one.
    fn join<F>(&self, runtime: &Handle, lane: &Lane, parts: &'static [Part], stretch: &F) -> Walk
    where
        F: Fn(&str, Option<&str>) -> Result<Stretch> + Clone + Send + 'static,
    {
        let (sender, news) = watch::channel(None);
        let walk = {
            let mut state = self.state();
            if let Some(running) = &state.running {
                return running.clone();
            }
            state.begun += 1;
            let number = state.begun;
            state.running.insert(Walk { number, news }).clone()
        };
        let running = Running(self.clone());
        let (lane, stretch) = (lane.clone(), stretch.clone());
        runtime.spawn(async move {
            let mut walks = JoinSet::new();
            for part in parts {
                let sender = sender.clone();
                let told = move || drop(sender.send_replace(None));
                walks.spawn(all_of(lane.clone(), *part, stretch.clone(), told));
            }
            let found = sum(walks).await.map_err(Arc::new);
            if let Ok(count) = found {
                running.0.state().last = Some((Instant::now(), count));
            }
            // A caller that hears of the end and asks again begins another walk.
            drop(running);
            sender.send_replace(Some(found));
        });
        walk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A walk under way is none any more when its task ends, in whatever way.
struct Running(Tally);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state().running = None;
    }
}

async fn sum(mut walks: JoinSet<Result<u64>>) -> Result<u64> {
    let mut sum = 0;
    while let Some(walked) = walks.join_next().await {
        sum += walked.map_err(|error| Error::from(FileError::BrokenOff(error)))??;
    }
    Ok(sum)
}

async fn all_of<F>(lane: Lane, (from, until): Part, stretch: F, told: impl Fn() + Send) -> Result<u64>
where
    F: Fn(&str, Option<&str>) -> Result<Stretch> + Clone + Send + 'static,
{
    let (mut count, mut after) = (0, from.to_owned());
    loop {
        let stretch = stretch.clone();
        let walked = lane.run(move || stretch(&after, until)).await?;
        count += walked.count;
        match walked.next {
            None => return Ok(count),
            Some(next) => after = next,
        }
        told();
    }
}

/// Facts learnt of files that have not changed since, so that a count reads only those that have.
#[derive(Default)]
pub(super) struct Known(HashMap<String, Vec<Glance>>);

/// One file: which it is, when it was put in place, and the deadline of the session in it; zero if none is.
#[derive(Clone, Copy)]
pub(super) struct Glance {
    file: u64,
    /// In nanoseconds since 1970.
    changed: u64,
    pub(super) deadline: Millis,
}

impl Known {
    /// Takes out the facts known of the files of one folder, in the order of their numbers. [`keep`](Self::keep) hands them back.
    pub(super) fn of(&mut self, folder: &str) -> Vec<Glance> {
        self.0.remove(folder).unwrap_or_default()
    }

    pub(super) fn keep(&mut self, folder: &str, mut glances: Vec<Glance>) {
        if !glances.is_empty() {
            glances.sort_unstable_by_key(|glance| glance.file);
            self.0.insert(folder.to_owned(), glances);
        }
    }
}

impl Glance {
    pub(super) fn new(stat: &Stat, deadline: Millis) -> Self {
        Glance { file: stat.st_ino, changed: changed(stat), deadline }
    }

    /// Finds the facts known of the file with these numbers.
    pub(super) fn find(known: &[Glance], stat: &Stat) -> Option<Glance> {
        let at = known.binary_search_by_key(&stat.st_ino, |glance| glance.file).ok()?;
        Some(known[at]).filter(|glance| glance.changed == changed(stat))
    }

    /// True if the time of the change is long enough past that another change would show by another one: file systems tell the
    /// time in steps of up to some ten milliseconds.
    pub(super) fn is_firm(&self) -> bool {
        const STEP: Duration = Duration::from_millis(100);
        let changed = UNIX_EPOCH + Duration::from_nanos(self.changed);
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > STEP)
    }
}

fn changed(stat: &Stat) -> u64 {
    let seconds = u64::try_from(stat.st_ctime).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec)
}
