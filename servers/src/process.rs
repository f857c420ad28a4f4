//! A child process that ends with the test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Folders where Debian puts servers. An ordinary user's PATH lacks them.
const SERVER_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Starts the program and prints its process id. Kills it when the test closes the pipe or dies. Removes the folder
/// unless the last word from the pipe is `keep`.
const WATCH: &str = r#"
folder=$1; shift
"$@" </dev/null >>"$folder/stdout" 2>>"$folder/stderr" &
pid=$!
trap '' INT TERM HUP
echo "$pid"
exec >/dev/null
read -r word
kill -9 "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
[ "$word" = keep ] || rm -rf "$folder"
"#;

/// A program that runs until it is killed or dropped, or until the test's process dies.
#[derive(Debug)]
pub struct Process {
    watcher: Child,
    pipe: Option<ChildStdin>,
    pid: Pid,
}

impl Process {
    /// Starts `program`, which the Debian package `package` contains. Its output goes to the files `stdout` and
    /// `stderr` in `folder`.
    ///
    /// # Panics
    /// If the program is not installed.
    pub fn start<S: AsRef<OsStr>>(
        program: &str,
        package: &str,
        args: impl IntoIterator<Item = S>,
        folder: &Path,
    ) -> Process {
        Process::run(&self::program(program, package), args, folder)
    }

    /// Starts the program's file as [`start`](Self::start) does.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn run<S: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = S>, folder: &Path) -> Process {
        let mut watcher = Command::new("sh")
            .args(["-c", WATCH, "sh"])
            .arg(folder)
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut line = String::new();
        BufReader::new(watcher.stdout.take().expect("piped")).read_line(&mut line).expect("the process id");
        let pid = line.trim().parse().ok().and_then(Pid::from_raw).expect("a process id");
        Process { pipe: watcher.stdin.take(), watcher, pid }
    }

    /// Kills the process at once (SIGKILL) and waits until it has ended. Its folder stays.
    pub fn kill(mut self) {
        self.end();
    }

    /// Stops the process (SIGSTOP): its port accepts connections, but nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes the process (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Returns the processes that this one has started.
    pub(crate) fn children(&self) -> Vec<Pid> {
        crate::postgres::children_of(self.pid)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("the process exists until it is waited for");
    }

    fn end(&mut self) {
        let Some(mut pipe) = self.pipe.take() else { return };
        // The watcher would kill it too, but later: the test needs the kill to have happened when this returns.
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = pipe.write_all(b"keep\n");
        drop(pipe);
        let _ = self.watcher.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns the path of `program`, which the Debian package `package` contains.
///
/// # Panics
/// If the program is not installed.
pub(crate) fn program(program: &str, package: &str) -> std::path::PathBuf {
    find(program).unwrap_or_else(|| {
        panic!("{program} is not installed; run `apt-get install {package}` or `cargo xtask test`")
    })
}

/// Returns the path of a program of PostgreSQL, of the newest version that is installed. Debian puts them into a folder for each version.
///
/// # Panics
/// If none is installed.
pub(crate) fn postgres_program(name: &str) -> std::path::PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let numbered = versions.filter_map(|version| {
        let number: u32 = version.file_name().to_str()?.parse().ok()?;
        let file = version.path().join("bin").join(name);
        file.is_file().then_some((number, file))
    });
    let newest = numbered.max().map(|(_, file)| file);
    newest.unwrap_or_else(|| program(name, "postgresql"))
}

fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SERVER_FOLDERS.iter().map(Into::into));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Returns a free port. The port 10,000 above is free too, since a cluster's nodes use it among themselves.
///
/// # Panics
/// If there is no free port.
pub fn free_port() -> u16 {
    // The range is below the ports that the system uses for outgoing connections. Each test process starts at another
    // port.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() as u16).wrapping_mul(37);
    for _ in 0..5_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 11_000 + start.wrapping_add(step) % 10_000;
        if [port, port + 10_000].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
    panic!("no free port between 11000 and 21000");
}

/// Calls `look` until it returns something, and returns that.
///
/// # Panics
/// If `look` returns nothing within `patience`.
pub fn until<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} for this: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exists(pid: Pid) -> bool {
        rustix::process::test_kill_process(pid).is_ok()
    }

    #[test]
    fn a_process_ends_with_its_guard_even_if_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::start("sleep", "coreutils", ["600"], folder.path());
        let pid = process.pid;
        process.pause();
        assert!(exists(pid));
        drop(process);
        assert!(!exists(pid));
        assert!(folder.path().is_dir());
    }

    #[test]
    fn a_process_ends_and_its_folder_goes_if_the_test_dies() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start("sleep", "coreutils", ["600"], folder.path());
        // The system closes the pipe when the test's process dies.
        drop(process.pipe.take());
        process.watcher.wait().unwrap();
        assert!(!exists(process.pid));
        assert!(!folder.path().exists());
    }

    #[test]
    #[should_panic(expected = "apt-get install some-package")]
    fn a_missing_program_is_named_with_its_package() {
        let folder = tempfile::tempdir().unwrap();
        let _ = Process::start("no-such-program-anywhere", "some-package", [""], folder.path());
    }
}
