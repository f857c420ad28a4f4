//! The thread that writes: changes that wait at the same time share a transaction, and no answer leaves before its commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::change::{PendingChange, TypedChange, deadline_of};
use super::connection::{LOCK_PAUSE, abandon};
use super::database::{DatabaseSettings, OpenDatabase};
use super::error::SqliteError;
use super::readers::ReadPool;
use super::reserve::Reserve;
use super::steps::ChangeStep;
use super::value::bound;
use super::wait::bounded;

/// The most changes of one transaction. More would delay its first caller without a gain.
const MAX_GROUP: usize = 256;

/// The size of the log in bytes that is worth a warning: four times the size to which it is cut when it can be.
const LARGE_LOG: u64 = 256 << 20;

/// The size of the log in bytes from which it is cut: four times that of SQLite's own checkpoints.
const CUT_LOG: u64 = 16 << 20;

/// The least time between two attempts to cut the log, each of which may hold up changes for a moment.
const CUT_PAUSE: Duration = Duration::from_secs(1);

/// The least time between two warnings about the log.
const WARNING_PAUSE: Duration = Duration::from_secs(60);

type BoxedChange = Box<dyn PendingChange>;

/// The handle on the thread that writes. The thread ends with it.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<BoxedChange>,
}

impl Writer {
    /// Starts the thread and opens the database in it. Returns the handle and the connections for reads, which the thread closes.
    pub(super) async fn start(
        settings: DatabaseSettings,
        readers: usize,
        limit: Option<Duration>,
    ) -> Result<(Writer, Arc<ReadPool>), SqliteError> {
        let (queue, changes) = mpsc::channel();
        let (opened, answer) = oneshot::channel();
        let deadline = deadline_of(limit);
        let run = move || match OpenDatabase::open(&settings, deadline) {
            Err(error) => drop(opened.send(Err(error))),
            Ok(database) => {
                let readers = Arc::new(ReadPool::new(database.paths.clone(), readers));
                readers.follow(database.files);
                if let Err(error) = readers.open_idle() {
                    tracing::debug!(%error, "a connection for reads could not be opened; the first read tries again");
                }
                if opened.send(Ok(Arc::clone(&readers))).is_ok() {
                    let reserve = Reserve::beside(&database.paths.database);
                    let database = Some(database);
                    GroupWriter { settings, database, readers, reserve, cut: None, warned: None }
                        .serve(&changes);
                }
            }
        };
        // The kernel shows 15 characters.
        let started = thread::Builder::new().name("cloakroom-sql".to_owned()).spawn(run);
        started.map_err(|cause| SqliteError::Thread(Arc::new(cause)))?;
        let opened = bounded(limit, async { answer.await.unwrap_or(Err(SqliteError::Stopped)) }).await;
        match (opened, limit) {
            (Err(error), Some(limit)) if error.is_locked() => Err(SqliteError::Timeout { limit }),
            (opened, _) => opened.map(|readers| (Writer { queue }, readers)),
        }
    }

    /// Runs `step` in a transaction of the thread that writes, and returns its outcome after the commit.
    ///
    /// A change whose caller has gone, or whose deadline is over, is left out if it has not begun.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        limit: Option<Duration>,
        frees_room: bool,
        step: impl Fn(&ChangeStep<'_>) -> Result<T, SqliteError> + Send + 'static,
    ) -> Result<T, SqliteError> {
        let (caller, answer) = oneshot::channel();
        let deadline = deadline_of(limit);
        let change = TypedChange { step, frees_room, deadline, outcome: None, caller };
        self.queue.send(Box::new(change)).map_err(|_| SqliteError::Stopped)?;
        // The thread drops a change whose deadline is over.
        let unanswered = || match limit {
            Some(limit) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                SqliteError::Timeout { limit }
            }
            _ => SqliteError::Stopped,
        };
        bounded(limit, async { answer.await.unwrap_or_else(|_| Err(unanswered())) }).await
    }
}

/// The state of the thread that writes.
struct GroupWriter {
    settings: DatabaseSettings,
    /// `None` after an error of the file, until the next change opens it again.
    database: Option<OpenDatabase>,
    readers: Arc<ReadPool>,
    reserve: Reserve,
    /// The time of the last attempt to cut the log.
    cut: Option<Instant>,
    /// The time of the last warning about the size of the log.
    warned: Option<Instant>,
}

/// The end of a transaction.
enum GroupEnd {
    Committed,
    /// SQLite has rolled back the transaction because of one change.
    RolledBack,
    /// The commit failed.
    Failed(SqliteError),
}

impl GroupWriter {
    /// Writes what is in the queue until its last sender is dropped.
    fn serve(mut self, changes: &mpsc::Receiver<BoxedChange>) {
        while let Ok(first) = changes.recv() {
            let mut group = vec![first];
            gather(&mut group, changes);
            // A panic would be a bug. It must not end every later change.
            let run = catch_unwind(AssertUnwindSafe(|| self.run(group, Some(changes), true)));
            if run.is_err() {
                tracing::error!("the thread that writes sessions panicked; it opens the database again");
                self.close();
            }
        }
        // The last connection copies the log into the database and removes it, which one that only reads cannot. So it is closed last,
        // and here, off the async workers.
        drop(self.readers);
        drop(self.database);
    }

    /// Runs a group in one transaction and answers each of its callers. `retry`: a group without room may run again.
    fn run(
        &mut self,
        mut group: Vec<BoxedChange>,
        changes: Option<&mpsc::Receiver<BoxedChange>>,
        retry: bool,
    ) {
        let database = self.database.as_ref();
        if !self.reserve.is_held(|| database.map_or(0, OpenDatabase::free_bytes)) {
            let (frees_room, needs_room): (Vec<_>, Vec<_>) =
                group.into_iter().partition(|change| change.frees_room());
            fail(needs_room, &SqliteError::full());
            group = frees_room;
        }
        if let Err(error) = self.begin(&mut group, changes) {
            if error.ends_connection() {
                self.close();
            }
            return fail(group, &error);
        }
        // Everybody has gone.
        let Some(database) = self.database.as_ref().filter(|_| !group.is_empty()) else { return };
        match write(database, &self.settings, &mut group) {
            GroupEnd::Committed => self.answer(group, retry),
            GroupEnd::RolledBack => self.run_apart(group, retry),
            GroupEnd::Failed(error) if error.is_full() && retry => self.run_in_reserve(group),
            GroupEnd::Failed(error) => {
                if error.ends_connection() {
                    self.close();
                }
                fail(group, &error);
            }
        }
    }

    /// Answers a committed group, unless its file is not the one in its place any more.
    fn answer(&mut self, group: Vec<BoxedChange>, retry: bool) {
        let Some(size) = self.database.as_ref().and_then(OpenDatabase::log_size) else {
            self.close();
            return fail(group, &SqliteError::Moved);
        };
        let lacks_room = |change: &BoxedChange| retry && change.error().is_some_and(SqliteError::is_full);
        let (without_room, done): (Vec<_>, Vec<_>) = group.into_iter().partition(lacks_room);
        done.into_iter().for_each(PendingChange::answer);
        if !without_room.is_empty() {
            self.run_in_reserve(without_room);
        }
        if size > CUT_LOG && self.cut.is_none_or(|last| last.elapsed() > CUT_PAUSE) {
            self.cut = Some(Instant::now());
            self.database.iter().for_each(OpenDatabase::restart_log);
        }
        if size > LARGE_LOG && self.warned.is_none_or(|last| last.elapsed() > WARNING_PAUSE) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                bytes = size,
                "the log of the sessions database is large: a long read keeps it from being copied into the database; end \
                 long transactions of other programs"
            );
        }
    }

    /// Gives up the reserve, and runs those changes of a failed group that need no further room.
    fn run_in_reserve(&mut self, group: Vec<BoxedChange>) {
        self.reserve.release();
        self.database.iter().for_each(OpenDatabase::checkpoint);
        group.into_iter().for_each(|change| self.run(vec![change], None, false));
    }

    /// Runs each change of a group in a transaction of its own, after SQLite has rolled back the group because of one of them.
    fn run_apart(&mut self, group: Vec<BoxedChange>, retry: bool) {
        if retry && group.iter().any(|change| change.error().is_some_and(SqliteError::is_full)) {
            return self.run_in_reserve(group);
        }
        let is_alone = group.len() == 1;
        for change in group {
            match change.error() {
                Some(error) if is_alone => {
                    if error.ends_connection() {
                        self.close();
                    }
                    change.answer();
                }
                _ => self.run(vec![change], None, retry),
            }
        }
    }

    /// Begins a transaction. While another process holds the lock, it leaves out those whose deadline is over and takes in newcomers.
    fn begin(
        &mut self,
        group: &mut Vec<BoxedChange>,
        changes: Option<&mpsc::Receiver<BoxedChange>>,
    ) -> Result<(), SqliteError> {
        loop {
            // A caller that is not wanted any more has its own timer and needs no answer.
            group.retain(|change| change.is_wanted());
            if group.is_empty() {
                return Ok(());
            }
            match self.try_begin() {
                Err(error) if error.is_locked() => {}
                answer => return answer,
            }
            thread::sleep(LOCK_PAUSE);
            if let Some(changes) = changes {
                gather(group, changes);
            }
        }
    }

    fn try_begin(&mut self) -> Result<(), SqliteError> {
        if self.database.as_ref().is_some_and(|database| database.log_size().is_none()) {
            tracing::warn!(path = %self.path().display(), "the sessions database was removed or replaced; opening it again");
            self.close();
        }
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let opened = OpenDatabase::open(&self.settings, Some(Instant::now()));
                opened
                    .inspect(|database| self.readers.follow(database.files))
                    .map_err(SqliteError::while_in_use)?
            }
        };
        self.database.insert(database).execute("BEGIN IMMEDIATE")
    }

    fn path(&self) -> PathBuf {
        self.settings.place.path()
    }

    /// Closes the database without touching files that may not be its own any more.
    fn close(&mut self) {
        if let Some(database) = self.database.take() {
            abandon(database.connection);
            self.readers.close_idle();
        }
    }
}

/// Runs the changes, each in a savepoint, and commits.
fn write(database: &OpenDatabase, settings: &DatabaseSettings, group: &mut [BoxedChange]) -> GroupEnd {
    let connection = &database.connection;
    let mut run = || {
        for change in &mut *group {
            database.execute("SAVEPOINT change")?;
            let now = bound(settings.clock.millis().0);
            change.run(&ChangeStep { connection, sql: &settings.sql, now });
            if change.error().is_some() {
                // SQLite may have rolled back all of it, such as after a failed write.
                if connection.is_autocommit() {
                    return Ok(GroupEnd::RolledBack);
                }
                database.execute("ROLLBACK TO change")?;
            }
            database.execute("RELEASE change")?;
        }
        database.execute("COMMIT")?;
        Ok(GroupEnd::Committed)
    };
    let end = run().unwrap_or_else(GroupEnd::Failed);
    if !connection.is_autocommit()
        && let Err(error) = database.execute("ROLLBACK")
    {
        tracing::debug!(%error, "a transaction could not be rolled back; its connection is closed");
        return GroupEnd::Failed(SqliteError::Moved);
    }
    end
}

/// Adds the changes in the queue to a group, up to its greatest size.
fn gather(group: &mut Vec<BoxedChange>, changes: &mpsc::Receiver<BoxedChange>) {
    let free = MAX_GROUP.saturating_sub(group.len());
    group.extend(changes.try_iter().take(free));
}

fn fail(group: Vec<BoxedChange>, error: &SqliteError) {
    group.into_iter().for_each(|change| change.fail(error.clone()));
}
