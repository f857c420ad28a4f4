//! The connections that read. A read never waits for a writer, and runs on the caller's thread unless it might wait for the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::change::deadline_of;
use super::connection::{abandon, open_reader, retry_locked};
use super::error::SqliteError;
use super::place::{DatabaseFiles, DatabasePaths};
use super::wait::bounded;
use crate::sync::locks::Mutex;

/// The counts and lists that run at the same time. They are long, so loads have connections of their own.
const LISTS: usize = 2;

/// The time in microseconds for which a read on a caller's thread relies on an earlier look at the places of the database and its log. The
/// look costs half as much as a read.
const CHECK_PAUSE: u64 = 10_000;

/// The connections that read, and the limits on the threads that use them.
///
/// `idle` has no owner by kind: a load may take a connection that a list has put back. The semaphores limit how many of each run.
pub(super) struct ReadPool {
    paths: DatabasePaths,
    /// The files of the connection that writes, while it is open. All connections of a process to one database share the memory that
    /// describes its log, so none may open another log beside it.
    written: Mutex<Option<DatabaseFiles>>,
    idle: Mutex<Vec<ReadConnection>>,
    loads: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    most: usize,
    pace: Pace,
}

/// A connection, and the files that it was opened on. A database or log that was replaced is another file, and its readers are closed.
struct ReadConnection {
    connection: Connection,
    files: DatabaseFiles,
    /// The time at which a read on a caller's thread last found the files in their places, as [`Pace::now`] counts.
    checked: u64,
}

/// The kind of a read, which decides the connections that it may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ReadKind {
    Load,
    List,
}

impl ReadPool {
    pub(super) fn new(paths: DatabasePaths, loads: usize) -> ReadPool {
        ReadPool {
            paths,
            written: Mutex::default(),
            idle: Mutex::default(),
            loads: Arc::new(Semaphore::new(loads)),
            lists: Arc::new(Semaphore::new(LISTS)),
            most: loads + LISTS,
            pace: Pace::new(),
        }
    }

    /// Runs `step` on the caller's thread. Returns `None` if it might wait there, or if it failed: a thread that may block then repeats it.
    pub(super) fn try_here<T>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T, SqliteError>,
    ) -> Option<Result<T, SqliteError>> {
        let turn = self.pace.begin()?;
        // No permit: while others wait for one, none is ever free, and every read would wait behind them.
        let mut reader = self.idle.lock().pop()?;
        if turn.begun.saturating_sub(reader.checked) > CHECK_PAUSE {
            if !reader.is_in(&self.paths) {
                abandon(reader.connection);
                return None;
            }
            reader.checked = turn.begun;
        }
        let answer = step(&reader.connection);
        let is_final = matches!(answer, Ok(_) | Err(SqliteError::Row { .. }));
        if is_final {
            self.put_back(reader);
        }
        is_final.then_some(answer)
    }

    /// Runs `step` on a thread that may block, within `limit`. The step runs again while another process holds a lock that it needs.
    pub(super) async fn on_thread<T: Send + 'static>(
        self: &Arc<Self>,
        kind: ReadKind,
        limit: Option<Duration>,
        step: impl Fn(&Connection) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let (pool, deadline) = (Arc::clone(self), deadline_of(limit));
        let read = move || match retry_locked(deadline, || pool.run(&step)) {
            Err(error) if error.is_locked() => Err(SqliteError::Timeout { limit: limit.unwrap_or_default() }),
            answer => answer,
        };
        // Without tokio there are no blocking threads, so the read blocks the caller's thread.
        if Handle::try_current().is_err() {
            return read();
        }
        let permits = match kind {
            ReadKind::Load => &self.loads,
            ReadKind::List => &self.lists,
        };
        let permit = Arc::clone(permits).acquire_owned();
        let call = async move {
            let permit = permit.await.map_err(|_| SqliteError::Stopped)?;
            let done = tokio::task::spawn_blocking(move || {
                let answer = read();
                drop(permit);
                answer
            });
            done.await.unwrap_or(Err(SqliteError::BrokenOff))
        };
        bounded(limit, call).await
    }

    /// Runs `step` on an idle connection, or on a new one.
    fn run<T>(&self, step: impl Fn(&Connection) -> Result<T, SqliteError>) -> Result<T, SqliteError> {
        let reader = self.take()?;
        let answer = step(&reader.connection);
        match &answer {
            Err(error) if error.ends_connection() => drop(reader),
            _ => self.put_back(reader),
        }
        answer
    }

    /// Opens the connections that reads on the callers' threads take, since these never open one.
    pub(super) fn open_idle(&self) -> Result<(), SqliteError> {
        for _ in LISTS..self.most {
            self.put_back(self.open()?);
        }
        Ok(())
    }

    /// Follows the connection that writes to the files that it has opened.
    pub(super) fn follow(&self, files: DatabaseFiles) {
        *self.written.lock() = Some(files);
    }

    /// Closes the connections that are not in use, after the one that writes is closed. An open one would keep the shared memory of a removed log alive.
    pub(super) fn close_idle(&self) {
        *self.written.lock() = None;
        let idle = std::mem::take(&mut *self.idle.lock());
        idle.into_iter().for_each(|reader| abandon(reader.connection));
    }

    fn open(&self) -> Result<ReadConnection, SqliteError> {
        let (files, written) = (self.paths.files(), *self.written.lock());
        match files {
            Some(files) if written.is_none_or(|written| written == files) => {
                ReadConnection::open(&self.paths, files)
            }
            _ => Err(SqliteError::Moved),
        }
    }

    fn take(&self) -> Result<ReadConnection, SqliteError> {
        loop {
            // The lock is not held while a connection is closed.
            let idle = self.idle.lock().pop();
            match idle {
                Some(reader) if reader.is_in(&self.paths) => return Ok(reader),
                Some(reader) => abandon(reader.connection),
                None => return self.open(),
            }
        }
    }

    fn put_back(&self, reader: ReadConnection) {
        let mut idle = self.idle.lock();
        if idle.len() < self.most {
            idle.push(reader);
        }
    }
}

impl ReadConnection {
    fn open(paths: &DatabasePaths, before: DatabaseFiles) -> Result<ReadConnection, SqliteError> {
        let connection = open_reader(&paths.database)?;
        // SQLite opens the log with the first read.
        let read = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", (), |_| Ok(()));
        match paths.files() {
            Some(files) if files == before => {
                read?;
                Ok(ReadConnection { connection, files, checked: 0 })
            }
            _ => {
                abandon(connection);
                Err(SqliteError::Moved)
            }
        }
    }

    fn is_in(&self, paths: &DatabasePaths) -> bool {
        paths.files() == Some(self.files)
    }
}

/// Decides whether a read may run on the caller's thread: not while reads wait for the disk, as they do if it is cold or hangs.
///
/// One slow read proves nothing, since the kernel may have run another thread meanwhile. So slow reads are counted against quick ones.
struct Pace {
    start: Instant,
    running: AtomicUsize,
    /// The time of the last read that began alone or ended, in microseconds since `start`.
    progress: AtomicU64,
    /// [`WEIGHT`](Self::WEIGHT) for each slow read, less one for each quick one.
    score: AtomicI64,
    /// The time until which reads run on threads.
    slow_until: AtomicU64,
}

/// A read on the caller's thread.
struct ReadTurn<'p> {
    pace: &'p Pace,
    begun: u64,
}

impl Pace {
    /// The time of a slow read, in microseconds. A read from memory takes some 10, and one from a disk 100 to 10,000.
    const SLOW: u64 = 2_000;
    /// The quick reads that make up for a slow one.
    const WEIGHT: i64 = 64;
    /// The score at which the next reads run on threads.
    const MOST: i64 = 4 * Self::WEIGHT;
    /// The time of a read that hangs, in microseconds.
    const HANGS: u64 = 100_000;
    /// The time for which reads run on threads then.
    const PAUSE: u64 = 500_000;

    fn new() -> Self {
        Pace {
            start: Instant::now(),
            running: AtomicUsize::new(0),
            progress: AtomicU64::new(0),
            score: AtomicI64::new(0),
            slow_until: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Begins a read on the caller's thread; `None` while reads are slow.
    ///
    /// A read that hangs cannot count itself. So the next one looks at the time of the last progress: if reads are running and none
    /// has ended for 100 ms, the disk hangs, and the following reads run on threads.
    fn begin(&self) -> Option<ReadTurn<'_>> {
        let begun = self.now();
        if begun < self.slow_until.load(Ordering::Relaxed) {
            return None;
        }
        let running = self.running.fetch_add(1, Ordering::Relaxed);
        let turn = ReadTurn { pace: self, begun };
        if running == 0 {
            self.progress.store(begun, Ordering::Relaxed);
        } else if begun.saturating_sub(self.progress.load(Ordering::Relaxed)) > Self::HANGS {
            self.slow_until.store(begun + Self::PAUSE, Ordering::Relaxed);
            return None;
        }
        Some(turn)
    }

    /// Counts a read that took `micros` and ended at `now`.
    fn count(&self, micros: u64, now: u64) {
        if micros < Self::SLOW {
            if self.score.load(Ordering::Relaxed) > 0 {
                self.score.fetch_sub(1, Ordering::Relaxed);
            }
        } else if self.score.fetch_add(Self::WEIGHT, Ordering::Relaxed) + Self::WEIGHT >= Self::MOST {
            self.score.store(0, Ordering::Relaxed);
            self.slow_until.store(now + Self::PAUSE, Ordering::Relaxed);
        }
    }
}

impl Drop for ReadTurn<'_> {
    fn drop(&mut self) {
        let now = self.pace.now();
        self.pace.count(now.saturating_sub(self.begun), now);
        self.pace.progress.fetch_max(now, Ordering::Relaxed);
        self.pace.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_that_are_often_slow_send_the_next_ones_to_threads() {
        let pace = Pace::new();
        for _ in 0..10 {
            pace.count(Pace::SLOW, 0);
            (0..Pace::WEIGHT).for_each(|_| pace.count(10, 0));
        }
        assert!(pace.begin().is_some(), "one in 65 is slow");
        for _ in 0..4 {
            pace.count(Pace::SLOW, pace.now());
        }
        assert!(pace.begin().is_none());
        std::thread::sleep(Duration::from_micros(Pace::PAUSE + 10_000));
        assert!(pace.begin().is_some(), "after a pause");
    }

    #[test]
    fn a_read_that_hangs_sends_the_next_ones_to_threads() {
        let pace = Pace::new();
        let hangs = pace.begin().unwrap();
        assert!(pace.begin().is_some());
        std::thread::sleep(Duration::from_micros(Pace::HANGS + 10_000));
        assert!(pace.begin().is_none());
        drop(hangs);
        assert_eq!(pace.running.load(Ordering::Relaxed), 0);
    }
}
