//! `mariadbd`, with InnoDB as durable as it is by default: what was committed is on the disk.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::program;
use crate::{Certificates, Process, free_port, until};

const PACKAGE: &str = "mariadb-server";
/// More than it takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server's own root works as usual, however a test sets the server up.
const OWN_SETTINGS: &str = "SET autocommit = 1, completion_type = 0";

/// How a `mariadbd` is to run.
#[derive(Clone, Debug, Default)]
pub struct MariaDbOptions {
    /// Offers TLS.
    pub tls: bool,
    /// Further settings, as on the command line: `["--max-allowed-packet=1M"]`, `["--autocommit=0"]`. What [`MariaDb::sql`] runs is
    /// committed whatever they say.
    pub settings: Vec<String>,
}

/// A `mariadbd` with a database `app` and a user for it, which is killed when this is dropped.
pub struct MariaDb {
    process: Option<Process>,
    options: MariaDbOptions,
    port: u16,
    certificates: Option<Certificates>,
    // Last, so that it goes after the process.
    folder: TempDir,
}

impl MariaDb {
    /// The user of the database `app`.
    pub const USER: &str = "cloakroom";
    /// That user's password, which has every delimiter of a DSN in it.
    pub const PASSWORD: &str = "p@ss:w/r(d)?x=1&y";

    /// One with the default options.
    pub fn start() -> MariaDb {
        MariaDb::with(MariaDbOptions::default())
    }

    /// One with these options, ready to answer.
    ///
    /// # Panics
    /// If it is not installed, or does not answer in time.
    pub fn with(options: MariaDbOptions) -> MariaDb {
        let folder = tempfile::Builder::new().prefix("mariadb-").tempdir().expect("a folder");
        let certificates = options.tls.then(|| Certificates::write(folder.path()));
        let mut server = MariaDb { process: None, options, port: free_port(), certificates, folder };
        server.install();
        server.restart();
        server.sql(&format!(
            "CREATE DATABASE app; CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'; GRANT ALL ON app.* TO '{user}'@'%'",
            user = Self::USER,
            password = Self::PASSWORD
        ));
        server
    }

    fn install(&self) {
        let output = Command::new(program("mariadb-install-db", PACKAGE))
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .args(as_root())
            .arg(format!("--datadir={}", self.data().display()))
            .arg("--innodb-log-file-size=16M")
            // One that starts removes the temporary tables of all others in the same folder.
            .env("TMPDIR", self.folder.path())
            .output()
            .expect("mariadb-install-db starts");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "mariadb-install-db failed: {}", String::from_utf8_lossy(&said));
    }

    /// Starts it again, on the same port and with what it has on disk. It is killed before if it runs.
    ///
    /// # Panics
    /// If it does not answer in time.
    pub fn restart(&mut self) {
        self.start_again();
        self.ready();
    }

    /// [`restart`](Self::restart) without waiting for it to answer.
    pub fn start_again(&mut self) {
        self.kill();
        self.process = Some(Process::start("mariadbd", PACKAGE, self.args(), self.folder.path()));
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// If it does not in time; with its log.
    pub fn ready(&self) {
        let start = Instant::now();
        while !self.answers() {
            let log = || std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "mariadbd does not answer; its log:\n{}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn answers(&self) -> bool {
        // Its own socket is there a little before the port is.
        self.try_sql("SELECT 1").is_ok() && std::net::TcpStream::connect(self.address()).is_ok()
    }

    fn args(&self) -> Vec<String> {
        let folder = self.folder.path().display();
        let mut args = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={}", self.data().display()),
            format!("--socket={}", self.socket().display()),
            format!("--pid-file={folder}/pid"),
            format!("--port={}", self.port),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--tmpdir={folder}"),
            "--skip-name-resolve".to_owned(),
            format!("--general-log-file={}", self.log().display()),
            "--innodb-buffer-pool-size=64M".to_owned(),
            "--innodb-log-file-size=16M".to_owned(),
            "--innodb-flush-log-at-trx-commit=1".to_owned(),
            // A write that io_uring has taken may reach the file after its process was killed, and so after the next one has started.
            "--innodb-use-native-aio=OFF".to_owned(),
            "--innodb-buffer-pool-dump-at-shutdown=OFF".to_owned(),
            "--performance-schema=OFF".to_owned(),
            "--max-connections=300".to_owned(),
        ];
        args.extend(as_root().map(str::to_owned));
        if let Some(certificates) = &self.certificates {
            let path = |path: &Path| path.display().to_string();
            args.push(format!("--ssl-ca={}", path(&certificates.authority)));
            args.push(format!("--ssl-cert={}", path(&certificates.server)));
            args.push(format!("--ssl-key={}", path(&certificates.server_key)));
        }
        args.extend(self.options.settings.iter().cloned());
        args
    }

    /// Ends it at once (SIGKILL). What it has on disk stays, for [`restart`](Self::restart).
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops it (SIGSTOP): its port takes connections, and nothing answers.
    ///
    /// # Panics
    /// If it was killed.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").pause();
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Panics
    /// If it was killed.
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").resume();
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The certificates it goes by.
    ///
    /// # Panics
    /// If it offers no TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("MariaDbOptions::tls is set")
    }

    /// The data source name of the database `app` on `place`, such as `tcp(127.0.0.1:3306)`, with `params` behind the question mark.
    pub fn dsn_at(place: &str, params: &str) -> String {
        format!("{}:{}@{place}/app?{params}", Self::USER, Self::PASSWORD)
    }

    /// The same for its own port.
    pub fn dsn(&self, params: &str) -> String {
        Self::dsn_at(&format!("tcp({})", self.address()), params)
    }

    /// Runs statements in the database `app`, if it is there, as the server's own root, and gives back what they answer, a line a row.
    ///
    /// # Panics
    /// If the server does not take them.
    pub fn sql(&self, statements: &str) -> String {
        self.try_sql(statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    fn try_sql(&self, statements: &str) -> Result<String, String> {
        let has_app = self.data().join("app").is_dir();
        let output = Command::new(program("mariadb", PACKAGE))
            .args(["--no-defaults", "--user=root", "--batch", "--skip-column-names", "--connect-timeout=2"])
            .arg(format!("--init-command={OWN_SETTINGS}"))
            .arg(format!("--socket={}", self.socket().display()))
            .args(has_app.then_some("--database=app"))
            .args(["--execute", statements])
            .output()
            .expect("the mariadb client starts");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// A connection of root's own, which lasts until it is dropped: for locks and transactions that are in the way.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn client(&self) -> MariaDbClient {
        let mut child = Command::new(program("mariadb", PACKAGE))
            .args([
                "--no-defaults",
                "--user=root",
                "--batch",
                "--skip-column-names",
                "--unbuffered",
                "--database=app",
            ])
            .arg(format!("--init-command={OWN_SETTINGS}"))
            .arg(format!("--socket={}", self.socket().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the mariadb client starts");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        MariaDbClient { child, answers }
    }

    /// Notes every statement that comes in from now on.
    pub fn log_statements(&self) -> GeneralLog {
        self.sql("SET GLOBAL general_log = ON");
        let mut log = GeneralLog { path: self.log(), from: 0 };
        // The last that is noted of the connection which switched it on.
        until(PATIENCE, "the end of a client", || log.take().contains(&"Quit".to_owned()).then_some(()));
        log
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("general.log")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl fmt::Debug for MariaDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MariaDb")
            .field("options", &self.options)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// A connection of root's own. It ends, with its locks and its transaction, when this is dropped.
#[derive(Debug)]
pub struct MariaDbClient {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl MariaDbClient {
    /// Runs `statement`, and what is to follow until the next one waits for it.
    ///
    /// # Panics
    /// If the connection has ended.
    pub fn run(&mut self, statement: &str) {
        let pipe = self.child.stdin.as_mut().expect("piped");
        writeln!(pipe, "{statement};").and_then(|()| pipe.flush()).expect("the connection stands");
    }

    /// Runs `statement`, which answers with one line.
    ///
    /// # Panics
    /// If the connection has ended.
    pub fn ask(&mut self, statement: &str) -> String {
        self.run(statement);
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the connection stands");
        line.trim_end().to_owned()
    }
}

impl Drop for MariaDbClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the server has been asked: its general query log, from some moment on.
#[derive(Clone, Debug)]
pub struct GeneralLog {
    path: PathBuf,
    from: u64,
}

impl GeneralLog {
    /// What has been asked since the last call, a line each: the command and its text, such as `Execute UPDATE ..`.
    ///
    /// # Panics
    /// If the log cannot be read.
    pub fn take(&mut self) -> Vec<String> {
        let mut text = Vec::new();
        // It is made with its first line.
        let Ok(mut file) = std::fs::File::open(&self.path) else { return Vec::new() };
        file.seek(SeekFrom::Start(self.from)).expect("a file");
        file.read_to_end(&mut text).expect("a file");
        self.from += text.len() as u64;
        // An entry begins with a time or blanks, a connection's number and the command; further lines belong to it.
        let text = String::from_utf8_lossy(&text);
        text.lines().filter_map(asked).filter(|asked| !asked.ends_with(OWN_SETTINGS)).collect()
    }
}

/// `261123 14:33:17\t     7 Execute\tSELECT 1` or `\t\t     7 Execute\tSELECT 1`
fn asked(line: &str) -> Option<String> {
    const COMMANDS: [&str; 8] =
        ["Execute", "Query", "Prepare", "Ping", "Connect", "Quit", "Close stmt", "Reset stmt"];
    let (head, text) = COMMANDS.iter().find_map(|command| {
        let (before, text) = line.split_once(&format!(" {command}\t"))?;
        Some((before, format!("{command} {text}")))
    })?;
    head.rsplit([' ', '\t']).next().filter(|number| number.parse::<u32>().is_ok())?;
    Some(text.trim_end().to_owned())
}

/// It refuses to run as root unless it is told to.
fn as_root() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_told_from_the_rest_of_an_entry() {
        assert_eq!(asked("261123 14:33:17\t     7 Execute\tSELECT 1").unwrap(), "Execute SELECT 1");
        assert_eq!(asked("\t\t    12 Query\tCOMMIT").unwrap(), "Query COMMIT");
        assert_eq!(asked("\t\t    12 Ping\t").unwrap(), "Ping");
        assert_eq!(asked("  expires BIGINT"), None);
        assert_eq!(asked("Time\t\t    Id Command\tArgument"), None);
    }

    #[test]
    #[ignore = "needs mariadbd: cargo xtask test"]
    fn what_was_committed_is_there_after_a_kill_and_what_is_asked_is_noted() {
        let mut server = MariaDb::start();
        server.sql("CREATE TABLE t (n INT); INSERT INTO t VALUES (7)");
        server.kill();
        server.restart();
        let mut log = server.log_statements();
        assert_eq!(server.sql("SELECT n FROM t"), "7\n");
        assert!(log.take().contains(&"Query SELECT n FROM t".to_owned()));
        assert_eq!(log.take(), Vec::<String>::new());
    }
}
