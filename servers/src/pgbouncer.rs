//! `pgbouncer`, a pooler in front of a `postgres`.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use crate::account::{Account, run_as};
use crate::instance::{Instance, PATIENCE};
use crate::process::program;
use crate::{Postgres, until};

const PACKAGE: &str = "pgbouncer";

/// A pooler in transaction mode: each transaction may run on another connection to the server. It is killed when this is dropped.
#[derive(Debug)]
pub struct PgBouncer {
    account: Option<Account>,
    instance: Instance,
}

impl PgBouncer {
    /// Starts a pooler in front of `server` with at most `size` connections to it, and waits until it accepts connections.
    /// `settings` are further lines of its configuration: `["max_client_conn=5"]`.
    ///
    /// # Panics
    /// If it is not installed, or accepts no connections in time.
    pub fn start(server: &Postgres, size: usize, settings: &[&str]) -> PgBouncer {
        let instance = Instance::new("pgbouncer-");
        let (account, folder) = (Account::for_root(), instance.folder());
        let users = folder.join("users");
        let password = Postgres::PASSWORD.replace('"', "\"\"");
        let configuration = format!(
            "[databases]\n\
             app = host=127.0.0.1 port={server} dbname=app\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = scram-sha-256\n\
             auth_file = {users}\n\
             pool_mode = transaction\n\
             default_pool_size = {size}\n\
             {settings}\n",
            port = instance.port(),
            server = server.address().port(),
            users = users.display(),
            settings = settings.join("\n"),
        );
        let file = folder.join("pgbouncer.ini");
        fs::write(&file, configuration).expect("a file");
        fs::write(&users, format!("\"{}\" \"{password}\"\n", Postgres::USER)).expect("a file");
        if let Some(account) = account {
            [folder, &file, &users].into_iter().for_each(|path| account.own(path));
        }
        let mut pooler = PgBouncer { account, instance };
        pooler.restart();
        pooler
    }

    /// Restarts it on the same port. Kills it first if it runs.
    ///
    /// # Panics
    /// If it accepts no connections in time.
    pub fn restart(&mut self) {
        let (file, mut args) = run_as(self.account, &program("pgbouncer", PACKAGE));
        args.push(self.instance.folder().join("pgbouncer.ini").into());
        self.instance.start(Path::new(&file), args);
        until(PATIENCE, "a pgbouncer that accepts connections", || TcpStream::connect(self.address()).ok());
    }

    /// Kills it at once (SIGKILL).
    pub fn kill(&mut self) {
        self.instance.kill();
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.instance.address()
    }

    /// Returns the URL of the database `app` through the pooler, with `params` after the question mark.
    pub fn url(&self, params: &str) -> String {
        Postgres::url_at(&self.address().to_string(), params)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    #[ignore = "needs postgres and pgbouncer: cargo xtask test"]
    fn a_statement_passes_through_the_pooler() {
        let server = Postgres::start();
        let pooler = PgBouncer::start(&server, 2, &[]);
        let output = Command::new(crate::process::postgres_program("psql"))
            .args(["--tuples-only", "--no-align", "--command", "SELECT current_user", &pooler.url("")])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "cloakroom\n", "{error}");
    }
}
