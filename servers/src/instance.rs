//! A server's process with its port and its folder.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Process, free_port};

/// The longest wait for a server, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server that can be killed, and started again on the same port and folder. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Instance {
    process: Option<Process>,
    port: u16,
    // Fields are dropped in order, so the folder is removed after the process has ended.
    folder: TempDir,
}

impl Instance {
    /// Returns a server that is not started yet. The name of its folder begins with `prefix`.
    pub(crate) fn new(prefix: &str) -> Instance {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir().expect("a folder");
        Instance { process: None, port: free_port(), folder }
    }

    /// Starts the program's file. Kills the server first if it runs.
    pub(crate) fn start<S: AsRef<OsStr>>(&mut self, program: &Path, args: impl IntoIterator<Item = S>) {
        self.kill();
        self.process = Some(Process::run(program, args, self.folder()));
    }

    /// Calls `answers` until it returns true.
    ///
    /// # Panics
    /// If the server does not answer in time. The message contains the file `log` of its folder.
    pub(crate) fn ready(&self, program: &str, log: &str, answers: impl Fn() -> bool) {
        let start = Instant::now();
        while !answers() {
            let log = || fs::read_to_string(self.folder().join(log)).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "{program} does not answer; its log:\n{}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Returns the process, if the server was not killed.
    pub(crate) fn running(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Returns the process.
    ///
    /// # Panics
    /// If the server was killed.
    pub(crate) fn process(&self) -> &Process {
        self.running().expect("the server runs")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A server's log, from some moment on.
#[derive(Clone, Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    from: u64,
}

impl LogFile {
    pub(crate) fn new(path: PathBuf) -> LogFile {
        LogFile { path, from: 0 }
    }

    /// Returns the whole lines since the last call.
    ///
    /// # Panics
    /// If the log cannot be read.
    pub(crate) fn take(&mut self) -> String {
        let mut text = Vec::new();
        // A server may create the file with the first entry.
        let Ok(mut file) = fs::File::open(&self.path) else { return String::new() };
        file.seek(SeekFrom::Start(self.from)).expect("a file");
        file.read_to_end(&mut text).expect("a file");
        // A line that is being written is left for the next call.
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        self.from += whole as u64;
        String::from_utf8_lossy(&text[..whole]).into_owned()
    }
}
