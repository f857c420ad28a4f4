//! Searches everything that is logged at TRACE while the rows run, for secrets that must not be logged.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::{LazyLock, Mutex, MutexGuard};

use tracing::level_filters::LevelFilter;

/// The prefix of every value that these tests store.
pub(crate) const VALUE: &str = "stored-v4lue-";
/// The prefix of every user's name.
pub(crate) const USER: &str = "us3r-of-the-tests-";
/// A part of the database's password, in plain text and percent-encoded.
const CREDENTIALS: [&str; 2] = ["p@ss:w/r(d)", "p%40ss%3Aw"];

/// The least length of a run of characters that may contain an id.
const RUN: usize = 32;

#[derive(Default)]
struct Log {
    lines: u64,
    bytes: u64,
    /// Every run of at least [`RUN`] id characters that was logged.
    runs: HashSet<Box<str>>,
    leaks: Vec<String>,
    /// Ids, and the keys under which sessions are stored.
    secrets: HashSet<Box<str>>,
}

static LOG: LazyLock<Mutex<Log>> = LazyLock::new(Mutex::default);

fn log() -> MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Starts to search everything that is logged.
pub(crate) fn listen() {
    tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false).with_writer(|| Scan).init();
}

/// Adds a secret: it must neither have been logged before nor be logged later.
pub(crate) fn keep_secret(secret: &str) {
    log().secrets.insert(secret.into());
}

/// Returns how much was logged and searched for, and every leak that was found.
pub(crate) fn findings() -> (String, Vec<String>) {
    let log = log();
    let mut leaks = log.leaks.clone();
    for run in &log.runs {
        let lengths = [RUN, 40, 43, 64];
        let windows = lengths.iter().flat_map(|length| run.as_bytes().windows(*length));
        let found = windows
            .into_iter()
            .any(|window| std::str::from_utf8(window).is_ok_and(|window| log.secrets.contains(window)));
        if found || log.secrets.contains(run) {
            leaks.push(format!("an id or a store key, in a run of {} characters", run.len()));
        }
    }
    let summary = format!(
        "{} lines ({} KiB) at TRACE, {} ids and keys looked for",
        log.lines,
        log.bytes / 1024,
        log.secrets.len()
    );
    (summary, leaks)
}

struct Scan;

impl Write for Scan {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let mut log = log();
        log.lines += 1;
        log.bytes += bytes.len() as u64;
        for word in [VALUE, USER].into_iter().chain(CREDENTIALS) {
            if text.contains(word) {
                let shown: String = text.chars().take(200).collect();
                log.leaks.push(format!("{word:?} in {shown:?}"));
            }
        }
        let id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        for run in text.split(|c| !id(c)).filter(|run| run.len() >= RUN) {
            if !log.runs.contains(run) {
                log.runs.insert(run.into());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
