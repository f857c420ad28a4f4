//! `mariadbd` with the default durability of InnoDB: a committed transaction is on disk.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::instance::{Instance, LogFile, PATIENCE};
use crate::process::program;
use crate::{Certificates, SqlClient, until};

const PACKAGE: &str = "mariadb-server";

/// Settings for the server's own root, which then works the same however a test configures the server.
const OWN_SETTINGS: &str = "SET autocommit = 1, completion_type = 0";

/// The options of a `mariadbd`.
#[derive(Clone, Debug, Default)]
pub struct MariaDbOptions {
    /// Offers TLS.
    pub tls: bool,
    /// Further settings as on the command line: `["--max-allowed-packet=1M"]`, `["--autocommit=0"]`. [`MariaDb::sql`]
    /// commits whatever they say.
    pub settings: Vec<String>,
}

/// A `mariadbd` with a database `app` and a user for it. It is killed when this is dropped.
#[derive(Debug)]
pub struct MariaDb {
    options: MariaDbOptions,
    certificates: Option<Certificates>,
    instance: Instance,
}

impl MariaDb {
    /// The user of the database `app`.
    pub const USER: &str = "cloakroom";
    /// That user's password. It contains every delimiter of a DSN.
    pub const PASSWORD: &str = "p@ss:w/r(d)?x=1&y";

    /// Starts a server with the default options.
    pub fn start() -> MariaDb {
        MariaDb::with(MariaDbOptions::default())
    }

    /// Starts a server with these options and waits until it answers.
    ///
    /// # Panics
    /// If the server is not installed, or does not answer in time.
    pub fn with(options: MariaDbOptions) -> MariaDb {
        let instance = Instance::new("mariadb-");
        let certificates = options.tls.then(|| Certificates::write(instance.folder()));
        let mut server = MariaDb { options, certificates, instance };
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
            // A server that starts removes the temporary tables of all other servers in the same folder.
            .env("TMPDIR", self.instance.folder())
            .output()
            .expect("mariadb-install-db starts");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "mariadb-install-db failed: {}", String::from_utf8_lossy(&said));
    }

    /// Restarts the server on the same port with its data on disk. Kills it first if it runs.
    ///
    /// # Panics
    /// If the server does not answer in time.
    pub fn restart(&mut self) {
        self.start_again();
        self.ready();
    }

    /// Restarts the server as [`restart`](Self::restart) does, without waiting until it answers.
    pub fn start_again(&mut self) {
        self.instance.start(&program("mariadbd", PACKAGE), self.args());
    }

    /// Waits until the server answers.
    ///
    /// # Panics
    /// If it does not answer in time. The message contains the server's log.
    pub fn ready(&self) {
        self.instance.ready("mariadbd", "stderr", || self.answers());
    }

    fn answers(&self) -> bool {
        // The socket accepts connections a little before the port does.
        self.try_sql("SELECT 1").is_ok() && std::net::TcpStream::connect(self.address()).is_ok()
    }

    fn args(&self) -> Vec<String> {
        let folder = self.instance.folder().display();
        let mut args = vec![
            "--no-defaults".to_owned(),
            format!("--datadir={}", self.data().display()),
            format!("--socket={}", self.socket().display()),
            format!("--pid-file={folder}/pid"),
            format!("--port={}", self.instance.port()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--tmpdir={folder}"),
            "--skip-name-resolve".to_owned(),
            format!("--general-log-file={}", self.log().display()),
            "--innodb-buffer-pool-size=64M".to_owned(),
            "--innodb-log-file-size=16M".to_owned(),
            "--innodb-flush-log-at-trx-commit=1".to_owned(),
            // A write that io_uring has accepted may reach the file after a kill, when the next process already runs.
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

    /// Kills the server at once (SIGKILL). Its data on disk stays for [`restart`](Self::restart).
    pub fn kill(&mut self) {
        self.instance.kill();
    }

    /// Stops the server (SIGSTOP): its port accepts connections, but nothing answers.
    ///
    /// # Panics
    /// If the server was killed.
    pub fn pause(&self) {
        self.instance.process().pause();
    }

    /// Resumes the server (SIGCONT).
    ///
    /// # Panics
    /// If the server was killed.
    pub fn resume(&self) {
        self.instance.process().resume();
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.instance.address()
    }

    /// Returns the path of its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.instance.folder().join("socket")
    }

    /// Returns the certificates it uses.
    ///
    /// # Panics
    /// If the server offers no TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("MariaDbOptions::tls is set")
    }

    /// Returns the data source name of the database `app` at `place`, such as `tcp(127.0.0.1:3306)`, with `params`
    /// after the question mark.
    pub fn dsn_at(place: &str, params: &str) -> String {
        format!("{}:{}@{place}/app?{params}", Self::USER, Self::PASSWORD)
    }

    /// Returns the data source name at the server's own port.
    pub fn dsn(&self, params: &str) -> String {
        Self::dsn_at(&format!("tcp({})", self.address()), params)
    }

    /// Runs statements as root, in the database `app` if it exists. Returns the result, one line for each row.
    ///
    /// # Panics
    /// If a statement fails.
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
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Opens a connection of root that stays open until it is dropped, for locks and transactions that block others.
    ///
    /// # Panics
    /// If the client cannot be started.
    pub fn client(&self) -> SqlClient {
        let mut client = Command::new(program("mariadb", PACKAGE));
        client
            .args([
                "--no-defaults",
                "--user=root",
                "--batch",
                "--skip-column-names",
                "--unbuffered",
                "--database=app",
            ])
            .arg(format!("--init-command={OWN_SETTINGS}"))
            .arg(format!("--socket={}", self.socket().display()));
        SqlClient::start(&mut client)
    }

    /// Logs every statement from now on.
    pub fn log_statements(&self) -> GeneralLog {
        self.sql("SET GLOBAL general_log = ON");
        let mut log = GeneralLog(LogFile::new(self.log()));
        // Wait for the last entry of the connection that switched the log on.
        until(PATIENCE, "the end of a client", || log.take().contains(&"Quit".to_owned()).then_some(()));
        log
    }

    fn log(&self) -> PathBuf {
        self.instance.folder().join("general.log")
    }

    fn data(&self) -> PathBuf {
        self.instance.folder().join("data")
    }
}

/// The server's general query log, from some moment on.
#[derive(Clone, Debug)]
pub struct GeneralLog(LogFile);

impl GeneralLog {
    /// Returns the commands since the last call, one line each: the command and its text, such as `Execute UPDATE ..`.
    ///
    /// # Panics
    /// If the log cannot be read.
    pub fn take(&mut self) -> Vec<String> {
        // An entry begins with a time or blanks, the connection's number and the command. Further lines belong to the
        // same entry.
        let text = self.0.take();
        text.lines().filter_map(command).filter(|command| !command.ends_with(OWN_SETTINGS)).collect()
    }
}

/// Parses the first line of an entry: `261123 14:33:17\t     7 Execute\tSELECT 1` or `\t\t     7 Execute\tSELECT 1`.
fn command(line: &str) -> Option<String> {
    const COMMANDS: [&str; 8] =
        ["Execute", "Query", "Prepare", "Ping", "Connect", "Quit", "Close stmt", "Reset stmt"];
    let (head, text) = COMMANDS.iter().find_map(|command| {
        let (before, text) = line.split_once(&format!(" {command}\t"))?;
        Some((before, format!("{command} {text}")))
    })?;
    head.rsplit([' ', '\t']).next().filter(|number| number.parse::<u32>().is_ok())?;
    Some(text.trim_end().to_owned())
}

/// Returns the option without which the server refuses to run as root.
fn as_root() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_of_an_entry_is_a_command() {
        assert_eq!(command("261123 14:33:17\t     7 Execute\tSELECT 1").unwrap(), "Execute SELECT 1");
        assert_eq!(command("\t\t    12 Query\tCOMMIT").unwrap(), "Query COMMIT");
        assert_eq!(command("\t\t    12 Ping\t").unwrap(), "Ping");
        assert_eq!(command("  expires BIGINT"), None);
        assert_eq!(command("Time\t\t    Id Command\tArgument"), None);
    }

    #[test]
    #[ignore = "needs mariadbd: cargo xtask test"]
    fn a_commit_survives_a_kill_and_statements_are_logged() {
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
