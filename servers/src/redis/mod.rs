//! `redis-server`: a single server, a cluster, and a primary with sentinels.

mod cluster;
mod flavor;
mod monitor;
mod sentinel;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::instance::Instance;
use crate::{Certificates, free_port, until};

pub use cluster::RedisCluster;
pub use flavor::Flavor;
pub use monitor::Monitor;
pub use sentinel::RedisSentinels;

const PACKAGE: &str = "redis-server";
/// The longest wait for a server, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The options of a `redis-server`. By default it has no password, listens on TCP only and stores nothing on disk.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// The release; Debian's Redis 7.0 by default.
    pub flavor: Flavor,
    /// Writes are on disk before they are answered: `appendonly yes`, `appendfsync always`.
    pub durable: bool,
    /// The default user's password.
    pub password: Option<String>,
    /// Further users, each a line of `ACL SETUSER`, such as `app on >secret ~* &* +@all`.
    pub users: Vec<String>,
    /// Listens on a Unix socket too.
    pub unix_socket: bool,
    /// Listens with TLS too, and requires a client certificate.
    pub tls: bool,
    /// Further settings as on the command line: `["--maxmemory-policy", "allkeys-lru"]`.
    pub settings: Vec<String>,
}

/// A `redis-server`. It is killed when this is dropped.
pub struct Redis {
    options: RedisOptions,
    tls_port: Option<u16>,
    certificates: Option<Certificates>,
    instance: Instance,
}

impl RedisOptions {
    /// Returns the default options for this release.
    pub fn of(flavor: Flavor) -> RedisOptions {
        RedisOptions { flavor, ..RedisOptions::default() }
    }
}

impl Redis {
    /// Starts a server with the default options.
    pub fn start() -> Redis {
        Redis::with(RedisOptions::default())
    }

    /// Starts a server with these options and waits until it answers.
    ///
    /// # Panics
    /// If the server is not installed, or does not answer in time.
    pub fn with(options: RedisOptions) -> Redis {
        let instance = Instance::new("redis-");
        let certificates = options.tls.then(|| Certificates::write(instance.folder()));
        let tls_port = options.tls.then(free_port);
        let mut redis = Redis { options, tls_port, certificates, instance };
        redis.restart();
        redis
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
        self.instance.start(&self.options.flavor.program(), self.args());
    }

    /// Waits until the server answers.
    ///
    /// # Panics
    /// If it does not answer in time. The message contains the server's log.
    pub fn ready(&self) {
        self.instance.ready("redis-server", "stdout", || self.answers());
    }

    fn answers(&self) -> bool {
        let client = redis::Client::open(self.url()).expect("a URL");
        let Ok(mut connection) = client.get_connection_with_timeout(Duration::from_millis(200)) else {
            return false;
        };
        redis::cmd("PING").query::<String>(&mut connection).is_ok()
    }

    fn args(&self) -> Vec<String> {
        let folder = self.instance.folder().to_str().expect("a folder's path in UTF-8");
        let mut args: Vec<String> = Vec::new();
        let mut set = |words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
        set(&["--bind", "127.0.0.1", "--port", &self.instance.port().to_string(), "--dir", folder]);
        set(&["--save", "", "--daemonize", "no", "--loglevel", "notice"]);
        if self.options.durable {
            set(&["--appendonly", "yes", "--appendfsync", "always"]);
        }
        if let Some(password) = &self.options.password {
            set(&["--requirepass", password, "--masterauth", password]);
        }
        for user in &self.options.users {
            set(&["--user"]);
            set(&user.split(' ').collect::<Vec<_>>());
        }
        if self.options.unix_socket {
            set(&["--unixsocket", self.socket().to_str().expect("a path in UTF-8")]);
        }
        if let (Some(port), Some(certificates)) = (self.tls_port, &self.certificates) {
            let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
            set(&["--tls-port", &port.to_string(), "--tls-auth-clients", "yes"]);
            set(&["--tls-ca-cert-file", &path(&certificates.authority)]);
            set(&["--tls-cert-file", &path(&certificates.server)]);
            set(&["--tls-key-file", &path(&certificates.server_key)]);
        }
        args.extend(self.options.settings.iter().cloned());
        args
    }

    /// Kills the server at once (SIGKILL). Its data on disk stays for [`restart`](Self::restart).
    pub fn kill(&mut self) {
        self.instance.kill();
    }

    /// Stops the server (SIGSTOP): it accepts connections, but does not answer.
    ///
    /// # Panics
    /// If the server does not run.
    pub fn pause(&self) {
        self.instance.process().pause();
    }

    /// Resumes the server (SIGCONT).
    ///
    /// # Panics
    /// If the server does not run.
    pub fn resume(&self) {
        self.instance.process().resume();
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.instance.address()
    }

    /// Returns the URL of the default user, over plain TCP.
    pub fn url(&self) -> String {
        self.url_at(self.instance.port())
    }

    /// Returns the URL through a proxy on `port`.
    pub fn url_at(&self, port: u16) -> String {
        match &self.options.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{port}/"),
            None => format!("redis://127.0.0.1:{port}/"),
        }
    }

    /// Returns the URL over TLS.
    ///
    /// # Panics
    /// If the server was started without TLS.
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}/", self.tls_address().port())
    }

    /// Returns the address it listens on with TLS.
    ///
    /// # Panics
    /// If the server was started without TLS.
    pub fn tls_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.tls_port.expect("started with TLS")))
    }

    /// Returns the path of its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.instance.folder().join("socket")
    }

    /// Returns its own certificate and the authority that it trusts.
    ///
    /// # Panics
    /// If it was started without TLS.
    pub fn certificates(&self) -> &Certificates {
        self.certificates.as_ref().expect("started with TLS")
    }

    /// Opens a connection of the default user, for the test itself.
    ///
    /// # Panics
    /// If the server does not answer.
    pub fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_connection_with_timeout(PATIENCE).expect("a connection")
    }

    /// Sends one command and returns the answer.
    ///
    /// # Panics
    /// If the command fails.
    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Sends one command as [`ask`](Self::ask) does, and returns an error if it fails.
    pub fn try_ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(1))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        command(words).query(&mut connection)
    }
}

fn command(words: &[&str]) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    command.arg(words);
    command
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("port", &self.instance.port()).finish_non_exhaustive()
    }
}

/// Waits until `look` returns true.
fn wait(what: &str, mut look: impl FnMut() -> bool) {
    until(PATIENCE, what, || look().then_some(()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs redis-server: cargo xtask test"]
    fn an_answered_write_of_a_durable_server_survives_a_kill() {
        let mut redis = Redis::with(RedisOptions { durable: true, ..RedisOptions::default() });
        redis.ask::<()>(&["SET", "key", "value"]);
        redis.kill();
        let gone = redis.try_ask::<String>(&["GET", "key"]).unwrap_err();
        assert!(gone.is_connection_refusal(), "{gone}");
        redis.restart();
        assert_eq!(redis.ask::<String>(&["GET", "key"]), "value");
    }

    #[test]
    #[ignore = "needs redis-server: cargo xtask test"]
    fn cluster_and_sentinels_replace_a_killed_primary() {
        let mut cluster = RedisCluster::start();
        assert_eq!(cluster.primaries(), [0, 1, 2]);
        cluster.node_mut(0).kill();
        cluster.await_failover_of(0);
        assert_eq!(cluster.primaries(), [1, 2, 3]);

        let mut group = RedisSentinels::start();
        assert_eq!(group.primary(), Some(0));
        group.node_mut(0).kill();
        group.await_failover_of(0);
        assert_ne!(group.primary(), Some(0));
    }
}
