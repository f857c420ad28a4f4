//! `postgres` with its default durability: a committed transaction is on disk.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::account::{Account, Runner, command};
use crate::instance::{Instance, LogFile, PATIENCE};
use crate::{Certificates, Process, SqlClient, until};

/// Sets up the server's own superuser, who then works the same however a test configures the server.
const OWN_SETTINGS: &str = "SET default_transaction_read_only = off; SET synchronous_commit = on; \
                            SET log_statement = 'none'; SET statement_timeout = 0";

/// The options of a `postgres`.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// Offers TLS. The role `client` then logs in over TCP with [`Certificates::client`] alone.
    pub tls: bool,
    /// Further settings: `["max_connections=5"]`.
    pub settings: Vec<String>,
    /// The size in MiB of a disk for [`Postgres::small_disk`]. Only the server's processes see it, and it ends with them. It needs the
    /// kernel's user namespaces, and no rights.
    pub small_disk: Option<u32>,
    /// Lines of `pg_hba.conf` in front of the usual ones: `["hostssl app cloakroom 127.0.0.1/32 cert"]`.
    pub access: Vec<String>,
}

/// A `postgres` with a database `app` and a role that owns it. It is killed when this is dropped.
#[derive(Debug)]
pub struct Postgres {
    options: PostgresOptions,
    certificates: Option<Certificates>,
    runner: Runner,
    instance: Instance,
}

impl Postgres {
    /// The role that owns the database `app`.
    pub const USER: &str = "cloakroom";
    /// That role's password. It contains every delimiter of a URL and of a `key=value` string.
    pub const PASSWORD: &str = "p@ss:w/r(d)?x=1&y '\\%";

    /// Starts a server with the default options.
    pub fn start() -> Postgres {
        Postgres::with(PostgresOptions::default())
    }

    /// Starts a server with these options and waits until it answers.
    ///
    /// # Panics
    /// If the server is not installed, or does not answer in time.
    pub fn with(options: PostgresOptions) -> Postgres {
        let mut server = Postgres::new(options);
        server.install();
        server.restart();
        server
            .admin(&[
                "--dbname=postgres",
                "--command",
                &format!("CREATE ROLE {} LOGIN PASSWORD {}", Self::USER, quoted(Self::PASSWORD)),
            ])
            .and_then(|_| {
                server.admin(&[
                    "--dbname=postgres",
                    "--command",
                    &format!("CREATE DATABASE app OWNER {}", Self::USER),
                ])
            })
            .and_then(|_| server.admin(&["--dbname=postgres", "--command", "CREATE ROLE client LOGIN"]))
            .unwrap_or_else(|error| panic!("the database cannot be created: {error}"));
        server
    }

    fn new(options: PostgresOptions) -> Postgres {
        let instance = Instance::new("postgres-");
        let account = Account::for_root().filter(|_| options.small_disk.is_none());
        let runner = match account {
            _ if options.small_disk.is_some() => Runner::Isolated,
            Some(account) => Runner::Account(account),
            None => Runner::Own,
        };
        let certificates = options.tls.then(|| Certificates::write(instance.folder()));
        if let Some(account) = account {
            account.own(instance.folder());
            for path in
                certificates.iter().flat_map(|files| [&files.server, &files.server_key, &files.authority])
            {
                account.own(path);
            }
        }
        Postgres { options, certificates, runner, instance }
    }

    fn install(&self) {
        if let Some(certificates) = &self.certificates {
            private(&certificates.server_key);
            private(&certificates.client_key);
        }
        self.made(self.command("initdb").arg(format!("--pgdata={}", self.data().display())).args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]));
        self.allow();
    }

    /// Runs a program that makes the data folder.
    fn made(&self, command: &mut Command) {
        let output = command.output().expect("the program starts");
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&said));
    }

    /// Writes who may log in, and how.
    fn allow(&self) {
        let mut lines = self.options.access.clone();
        lines.push("local all postgres trust".to_owned());
        lines.push("local replication postgres trust".to_owned());
        if self.options.tls {
            lines.push("hostssl all client 127.0.0.1/32 cert".to_owned());
        }
        lines.push("local all all scram-sha-256".to_owned());
        lines.push("host all all 127.0.0.1/32 scram-sha-256".to_owned());
        fs::write(self.data().join("pg_hba.conf"), lines.join("\n") + "\n").expect("a file");
    }

    /// Starts a standby that follows this server, on a port of its own, and waits until it answers.
    ///
    /// # Panics
    /// If it cannot be made, or does not answer in time.
    pub fn standby(&self) -> Postgres {
        let mut standby = Postgres::new(self.options.clone());
        self.made(
            standby
                .command("pg_basebackup")
                .arg(format!("--pgdata={}", standby.data().display()))
                .arg(format!("--host={}", self.socket_folder().display()))
                .arg(format!("--port={}", self.instance.port()))
                .args(["--username=postgres", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]),
        );
        standby.restart();
        standby
    }

    /// Makes a standby the primary, and waits until it accepts changes.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn promote(&self) {
        self.sql("SELECT pg_promote()");
        until(PATIENCE, "the end of the recovery", || {
            (self.sql("SELECT pg_is_in_recovery()").trim() == "f").then_some(())
        });
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
        self.kill();
        let program = crate::process::postgres_program("postgres");
        let (program, mut args) = self.runner.command_line(&program, &self.mount());
        args.extend(self.args().into_iter().map(Into::into));
        self.instance.start(Path::new(&program), args);
    }

    /// Returns the shell commands that mount the small disk.
    fn mount(&self) -> String {
        let Some(size) = self.options.small_disk else { return "true".to_owned() };
        let folder = self.instance.folder().join("small");
        let (folder, space) = (folder.display(), self.small_disk());
        format!(
            "mkdir -p {folder} && mount -t tmpfs -o size={size}m,mode=700 tmpfs {folder} && mkdir {}",
            space.display()
        )
    }

    /// Returns the folder for a tablespace on the small disk, which is empty after each start.
    pub fn small_disk(&self) -> PathBuf {
        self.instance.folder().join("small/space")
    }

    /// Waits until the server answers.
    ///
    /// # Panics
    /// If it does not answer in time. The message contains the server's log.
    pub fn ready(&self) {
        self.instance.ready("postgres", "stderr", || self.answers());
    }

    fn answers(&self) -> bool {
        self.admin(&["--dbname=postgres", "--command", "SELECT 1"]).is_ok()
    }

    fn args(&self) -> Vec<String> {
        let folder = self.instance.folder().display();
        let mut args = vec!["-D".to_owned(), self.data().display().to_string()];
        let mut set = |setting: String| args.extend(["-c".to_owned(), setting]);
        set("listen_addresses=127.0.0.1".to_owned());
        set(format!("port={}", self.instance.port()));
        set(format!("unix_socket_directories={folder}"));
        set("shared_buffers=64MB".to_owned());
        set("max_connections=100".to_owned());
        // The folder of a test holds no locale of the system.
        set("lc_messages=C".to_owned());
        // Each entry of the log begins with the connection's process.
        set("log_line_prefix=%p ".to_owned());
        if let Some(certificates) = &self.certificates {
            set("ssl=on".to_owned());
            set(format!("ssl_ca_file={}", certificates.authority.display()));
            set(format!("ssl_cert_file={}", certificates.server.display()));
            set(format!("ssl_key_file={}", certificates.server_key.display()));
        }
        self.options.settings.iter().cloned().for_each(set);
        args
    }

    /// Kills the server and all its processes at once (SIGKILL). Its data on disk stays for [`restart`](Self::restart).
    pub fn kill(&mut self) {
        let children = self.instance.running().map(Process::children).unwrap_or_default();
        self.instance.kill();
        for &child in &children {
            // A child that has ended already is what is wanted.
            let _ = kill_process(child, Signal::KILL);
        }
        // The next server refuses to start while one of them has the shared memory.
        until(PATIENCE, "the end of the server's processes", || {
            children.iter().all(|&child| test_kill_process(child).is_err()).then_some(())
        });
    }

    /// Stops the server and all its processes (SIGSTOP): its port accepts connections, but nothing answers.
    ///
    /// # Panics
    /// If the server was killed.
    pub fn pause(&self) {
        let process = self.instance.process();
        process.pause();
        // A stopped server starts no further processes.
        self.signal_children(Signal::STOP);
    }

    /// Resumes the server (SIGCONT).
    ///
    /// # Panics
    /// If the server was killed.
    pub fn resume(&self) {
        self.signal_children(Signal::CONT);
        self.instance.process().resume();
    }

    fn signal_children(&self, signal: Signal) {
        for child in self.instance.process().children() {
            // A child may have ended since.
            let _ = kill_process(child, signal);
        }
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.instance.address()
    }

    /// Returns the folder of its Unix socket, which is what a connection string names as its host.
    pub fn socket_folder(&self) -> &Path {
        self.instance.folder()
    }

    /// Returns the certificates it uses.
    ///
    /// # Panics
    /// If the server offers no TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("PostgresOptions::tls is set")
    }

    /// Returns the URL of the database `app` at `place`, such as `127.0.0.1:5432`, with `params` after the question mark.
    pub fn url_at(place: &str, params: &str) -> String {
        let question = if params.is_empty() { "" } else { "?" };
        format!("postgres://{}:{}@{place}/app{question}{params}", Self::USER, escaped(Self::PASSWORD))
    }

    /// Returns the URL at the server's own port.
    pub fn url(&self, params: &str) -> String {
        Self::url_at(&self.address().to_string(), params)
    }

    /// Runs statements as the superuser, in the database `app`. Returns the result, one line for each row.
    ///
    /// # Panics
    /// If a statement fails.
    pub fn sql(&self, statements: &str) -> String {
        self.try_sql(statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// Runs statements as [`sql`](Self::sql) does, and returns the server's message if one fails.
    ///
    /// # Errors
    /// The server's message.
    pub fn try_sql(&self, statements: &str) -> Result<String, String> {
        self.admin(&["--dbname=app", "--command", OWN_SETTINGS, "--command", statements])
    }

    fn admin(&self, args: &[&str]) -> Result<String, String> {
        let output = self.psql().args(args).output().expect("psql starts");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    fn psql(&self) -> Command {
        let mut psql = Command::new(crate::process::postgres_program("psql"));
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1"])
            .arg("--username=postgres")
            .arg(format!("--host={}", self.socket_folder().display()))
            .arg(format!("--port={}", self.instance.port()))
            .env("PGCONNECT_TIMEOUT", "2")
            .env("PGOPTIONS", "-c client_min_messages=warning");
        psql
    }

    /// Opens a connection of the superuser that stays open until it is dropped, for locks and transactions that block others.
    ///
    /// # Panics
    /// If psql cannot be started.
    pub fn client(&self) -> SqlClient {
        SqlClient::start(self.psql().arg("--dbname=app"))
    }

    /// Logs every statement of other connections from now on.
    pub fn log_statements(&self) -> StatementLog {
        self.sql("ALTER SYSTEM SET log_statement = 'all'");
        self.sql("SELECT pg_reload_conf()");
        let mut log = StatementLog(LogFile::new(self.instance.folder().join("stderr")));
        // Each connection notices the change between two statements, so wait for the first that is logged.
        until(PATIENCE, "a logged statement", || {
            let _ = self.admin(&["--dbname=app", "--command", "SELECT 'logged'"]);
            log.take().iter().any(|line| line.contains("'logged'")).then_some(())
        });
        log
    }

    fn data(&self) -> PathBuf {
        self.instance.folder().join("data")
    }

    fn command(&self, program: &str) -> Command {
        command(self.runner, &crate::process::postgres_program(program), self.instance.folder())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The statements in the server's log, from some moment on.
#[derive(Clone, Debug)]
pub struct StatementLog(LogFile);

impl StatementLog {
    /// Returns the statements since the last call, each with how it was sent: `execute s1: UPDATE ..`, `execute <unnamed>: ..` or
    /// `statement: ..`. A statement of several lines is joined by blanks.
    ///
    /// # Panics
    /// If the log cannot be read.
    pub fn take(&mut self) -> Vec<String> {
        statements(&self.0.take())
    }
}

/// Parses the entries of the log that are statements.
fn statements(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(more) = line.strip_prefix('\t') {
            if let Some(last) = found.last_mut().filter(|_| inside) {
                *last += &format!(" {}", more.trim_start());
            }
            continue;
        }
        let entry = line.split_once("LOG:  ").map(|(_, entry)| entry);
        let statement =
            entry.filter(|entry| entry.starts_with("statement: ") || entry.starts_with("execute "));
        inside = statement.is_some();
        found.extend(statement.map(str::to_owned));
    }
    found.retain(|statement| !statement.contains(OWN_SETTINGS));
    found
}

/// Takes from others the right to read a key, without which servers and clients refuse it.
fn private(key: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("the key's mode can be set");
}

/// Quotes a text as a literal of SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Percent-encodes what is not a letter or a digit.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}

/// Returns the processes whose parent is `parent`.
pub(crate) fn children_of(parent: Pid) -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let number = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<i32>().ok();
    let child = |&process: &i32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The second field is the program's name in parentheses, which may contain blanks; the fourth is the parent.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().nth(1) == Some(&parent.as_raw_nonzero().to_string())
    };
    processes.filter_map(number).filter(child).filter_map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_statement_of_several_lines_is_one() {
        let text = "12 LOG:  execute s1: SELECT 1\n\tFROM t\n12 DETAIL:  parameters: $1 = '7'\n13 LOG:  statement: COMMIT\n\
                    13 ERROR:  no\n\thint\n";
        assert_eq!(statements(text), ["execute s1: SELECT 1 FROM t", "statement: COMMIT"]);
    }

    #[test]
    fn a_password_is_escaped_for_urls_and_statements() {
        assert_eq!(escaped("a@ 1"), "a%40%201");
        assert_eq!(quoted("it's"), "'it''s'");
    }

    #[test]
    #[ignore = "needs postgres: cargo xtask test"]
    fn a_commit_survives_a_kill_and_a_standby_follows() {
        let mut server = Postgres::start();
        server.sql("CREATE TABLE t (n INT); INSERT INTO t VALUES (7)");
        server.kill();
        server.restart();
        let mut log = server.log_statements();
        server.admin(&["--dbname=app", "--command", "SELECT n FROM t"]).unwrap();
        assert!(log.take().contains(&"statement: SELECT n FROM t".to_owned()));
        let standby = server.standby();
        assert_eq!(standby.sql("SELECT n FROM t"), "7\n");
        assert!(standby.try_sql("INSERT INTO t VALUES (8)").unwrap_err().contains("read-only"));
        server.kill();
        standby.promote();
        standby.sql("INSERT INTO t VALUES (8)");
        assert_eq!(standby.sql("SELECT count(*) FROM t"), "2\n");
    }

    #[test]
    #[ignore = "needs postgres: cargo xtask test"]
    fn a_stopped_server_answers_nothing_until_it_is_resumed() {
        let server = Postgres::start();
        let mut client = server.client();
        assert_eq!(client.ask("SELECT 1"), "1");
        server.pause();
        client.run("SELECT 2");
        assert!(!server.answers());
        server.resume();
        assert_eq!(client.answer(), "2");
    }
}
