//! The settings of the provider, and their names in URLs and JSON.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::error::StoreError;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ServerAddress {
    Tcp { host: Box<str>, port: u16 },
    Unix(PathBuf),
}

/// The kind of installation, with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    Server(ServerAddress),
    /// Some of the nodes. The others are discovered.
    Cluster(Vec<ServerAddress>),
    Sentinels {
        sentinels: Vec<ServerAddress>,
        master: Box<str>,
    },
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) Box<str>);

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Credentials {
    pub(super) username: Option<Box<str>>,
    pub(super) password: Option<Secret>,
}

/// The trusted authorities and the client's own certificate, each in PEM.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Certificates {
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) client: Option<Vec<u8>>,
    pub(super) client_key: Option<Vec<u8>>,
}

/// The number of replicas that must have a change before the call returns, and the longest wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplicaWait {
    pub(super) replicas: u32,
    pub(super) limit: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RedisSettings {
    pub(super) topology: Topology,
    pub(super) tls: bool,
    pub(super) certificates: Certificates,
    pub(super) credentials: Credentials,
    pub(super) sentinel_credentials: Credentials,
    pub(super) database: u32,
    pub(super) pool: usize,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) connect_timeout: Duration,
    pub(super) call_timeout: Duration,
    pub(super) retries: u32,
    pub(super) prefix: Box<str>,
    pub(super) wait: Option<ReplicaWait>,
}

impl RedisSettings {
    /// The largest allowed pool, for each server and runtime.
    const MOST_CONNECTIONS: usize = 10_000;
    pub(super) const DEFAULT_PREFIX: &str = "cloakroom";
    pub(super) const DEFAULT_PORT: u16 = 6379;
    /// The default port of sentinels.
    pub(super) const SENTINEL_PORT: u16 = 26379;
    /// The default name of the primary. Redis's documentation of Sentinel and Beego's provider use it too.
    pub(super) const MASTER: &str = "mymaster";

    pub(super) fn new(topology: Topology) -> RedisSettings {
        RedisSettings {
            topology,
            tls: false,
            certificates: Certificates::default(),
            credentials: Credentials::default(),
            sentinel_credentials: Credentials::default(),
            database: 0,
            pool: 8,
            idle_timeout: None,
            connect_timeout: Duration::from_millis(500),
            call_timeout: Duration::from_secs(1),
            retries: 2,
            prefix: Self::DEFAULT_PREFIX.into(),
            wait: None,
        }
    }

    /// Applies one setting of a URL's query or of a JSON object. Where a setting has two names, Beego's comes first.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        match key {
            "poolsize" | "pool" => self.pool = number("poolsize", value)?,
            "username" => self.credentials.username = Some(value.into()),
            "password" => self.credentials.password = Some(Secret(value.into())),
            "db_num" | "db" => self.database = number("db_num", value)?,
            "idle_timeout" => {
                self.idle_timeout = Some(duration("idle_timeout", value)?).filter(|time| !time.is_zero());
            }
            // Has no effect: an idle connection is checked when it is next needed.
            "idle_check_frequency" => drop(duration("idle_check_frequency", value)?),
            "max_retries" | "retries" => self.retries = number("max_retries", value)?,
            "master_name" | "master" => self.set_master(value)?,
            "connect_timeout" => self.connect_timeout = duration("connect_timeout", value)?,
            "timeout" => self.call_timeout = duration("timeout", value)?,
            "prefix" => self.prefix = value.into(),
            "wait" => self.wait_mut().replicas = number("wait", value)?,
            "wait_timeout" => self.wait_mut().limit = duration("wait_timeout", value)?,
            "tls" => self.tls = flag("tls", value)?,
            "ca_file" => self.certificates.authorities = Some(pem("ca_file", value)?),
            "cert_file" => self.certificates.client = Some(pem("cert_file", value)?),
            "key_file" => self.certificates.client_key = Some(pem("key_file", value)?),
            "sentinel_username" => self.sentinel_credentials.username = Some(value.into()),
            "sentinel_password" => self.sentinel_credentials.password = Some(Secret(value.into())),
            _ => {
                return Err(unknown(key));
            }
        }
        Ok(())
    }

    fn set_master(&mut self, name: &str) -> Result<(), StoreError> {
        match &mut self.topology {
            Topology::Sentinels { master, .. } if !name.is_empty() => *master = name.into(),
            Topology::Sentinels { .. } => {}
            _ => return Err(StoreError::setting("master_name", "sentinels to ask for it", "none")),
        }
        Ok(())
    }

    pub(super) fn wait_mut(&mut self) -> &mut ReplicaWait {
        // The default is half of the default `call_timeout`.
        self.wait.get_or_insert(ReplicaWait { replicas: 1, limit: Duration::from_millis(500) })
    }

    /// Returns an error if the settings cannot work, alone or together.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let prefix = &*self.prefix;
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '}');
        if !(1..=64).contains(&prefix.len()) || !prefix.chars().all(plain) {
            return Err(StoreError::setting(
                "prefix",
                "1 to 64 visible ASCII characters without braces",
                "another text",
            ));
        }
        if !(1..=Self::MOST_CONNECTIONS).contains(&self.pool) {
            return Err(StoreError::setting("poolsize", "1 to 10000 connections", self.pool.to_string()));
        }
        let (millisecond, hour) = (Duration::from_millis(1), Duration::from_secs(3600));
        let times = [("connect_timeout", self.connect_timeout), ("timeout", self.call_timeout)];
        let wait = self.wait.map(|wait| ("wait_timeout", wait.limit));
        for (what, time) in times.into_iter().chain(wait) {
            if !(millisecond..=hour).contains(&time) {
                return Err(StoreError::setting(what, "1 ms to an hour", format!("{time:?}")));
            }
        }
        if self.wait.is_some_and(|wait| wait.limit >= self.call_timeout) {
            return Err(StoreError::setting(
                "wait_timeout",
                "less than the timeout of the whole call",
                "as much or more",
            ));
        }
        if self.retries > 100 {
            return Err(StoreError::setting("max_retries", "at most 100", self.retries.to_string()));
        }
        if matches!(self.topology, Topology::Cluster(_)) && self.database != 0 {
            return Err(StoreError::setting(
                "db_num",
                "0, since a cluster has no other database",
                self.database.to_string(),
            ));
        }
        if self.credentials.username.is_some() && self.credentials.password.is_none() {
            return Err(StoreError::setting("username", "a password as well", "none"));
        }
        if self.certificates.client.is_some() != self.certificates.client_key.is_some() {
            return Err(StoreError::setting(
                "cert_file",
                "a certificate and its key (key_file)",
                "only one of them",
            ));
        }
        if self.certificates != Certificates::default() && !self.tls {
            return Err(StoreError::setting("ca_file", "TLS, as in rediss://", "a connection without TLS"));
        }
        Ok(())
    }
}

const KNOWN: &str = "save_path, poolsize, username, password, db_num, idle_timeout, idle_check_frequency, max_retries, master_name, \
                     connect_timeout, timeout, prefix, wait, wait_timeout, tls, ca_file, cert_file, key_file, sentinel_username, \
                     sentinel_password";

/// Returns the error of an unknown setting. It shows a name that is similar to a known one. Any other name stays hidden, since
/// it may be part of a password that was not escaped.
fn unknown(key: &str) -> StoreError {
    let near = |known: &&str| key.len() <= 40 && strsim::osa_distance(known, key) <= 2;
    match KNOWN.split(", ").find(near) {
        Some(known) => StoreError::setting("providerConfig", known, format!("{key:?}")),
        None => StoreError::setting("providerConfig", KNOWN, "another name"),
    }
}

/// Shown in the place of the value that was found: if a field is missing or a character is not escaped, the value may be a
/// password.
const OTHER: &str = "something else";

pub(super) fn number<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, StoreError> {
    text.trim().parse().map_err(|_| StoreError::setting(what, "a whole number from 0 on", OTHER))
}

fn flag(what: &'static str, text: &str) -> Result<bool, StoreError> {
    text.parse().map_err(|_| StoreError::setting(what, "true or false", OTHER))
}

/// Parses a number of seconds, or a duration in Go's notation: `1m30s`, `0.5s`, `250ms`.
pub(super) fn duration(what: &'static str, text: &str) -> Result<Duration, StoreError> {
    let wrong = || StoreError::setting(what, "seconds, or a duration such as 1m30s or 250ms", OTHER);
    let (mut rest, mut sum) = (text.trim(), 0.0);
    if rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        sum = rest.parse::<f64>().map_err(|_| wrong())?;
        rest = "";
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (count, unit) = rest.split_at(digits);
        let letters = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let seconds = match &unit[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        sum += count.parse::<f64>().map_err(|_| wrong())? * seconds;
        rest = &unit[letters..];
    }
    Duration::try_from_secs_f64(sum).map_err(|_| wrong())
}

fn pem(what: &'static str, path: &str) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|cause| StoreError::Pem { what, cause })
}

/// Parses `host`, `host:port` or `[::1]:port`.
pub(super) fn address(text: &str, default_port: u16) -> Result<ServerAddress, StoreError> {
    let wrong = || StoreError::setting("the address", "host:port, such as 127.0.0.1:6379", "something else");
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(default_port), |port| port.parse().map_err(|_| wrong()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(wrong());
    }
    Ok(ServerAddress::Tcp { host: host.into(), port })
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            ServerAddress::Tcp { host, port } => write!(f, "{host}:{port}"),
            ServerAddress::Unix(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_in_gos_notation() {
        for (text, expected) in [
            ("0", Duration::ZERO),
            ("3", Duration::from_secs(3)),
            ("1m30s", Duration::from_secs(90)),
            ("0.5m", Duration::from_secs(30)),
            ("250ms", Duration::from_millis(250)),
            ("1h", Duration::from_secs(3600)),
        ] {
            assert_eq!(duration("timeout", text).unwrap(), expected, "{text}");
        }
        for text in ["", "s", "1x", "-1s", "1s2", "..s", "1e400s"] {
            let error = duration("timeout", text).unwrap_err().to_string();
            let expected = "timeout: expected seconds, or a duration such as 1m30s or 250ms, found ";
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_without_a_port_gets_the_default() {
        let tcp = |host: &str, port| ServerAddress::Tcp { host: host.into(), port };
        for (text, expected) in [
            ("127.0.0.1:6380", tcp("127.0.0.1", 6380)),
            ("cache", tcp("cache", 6379)),
            ("[::1]:7000", tcp("::1", 7000)),
            ("[::1]", tcp("::1", 6379)),
        ] {
            assert_eq!(address(text, RedisSettings::DEFAULT_PORT).unwrap(), expected);
        }
        for text in ["", ":6379", "host:", "host:port", "host:99999", "a b:1", "[::1", "user@host:1"] {
            let error = address(text, 1).unwrap_err().to_string();
            assert!(error.contains("expected host:port"), "{text}: {error}");
        }
    }

    #[test]
    fn an_impossible_setting_is_refused_by_name() {
        let settings = RedisSettings::new(Topology::Server(ServerAddress::Unix("/s".into())));
        for (key, value, expected) in [
            ("prefix", "a{b", "prefix: expected 1 to 64"),
            ("prefix", "", "prefix: expected 1 to 64"),
            ("poolsize", "0", "poolsize: expected 1 to 10000"),
            ("timeout", "0", "timeout: expected 1 ms to an hour"),
            ("wait_timeout", "2", "wait_timeout: expected less"),
            ("max_retries", "101", "max_retries: expected at most 100"),
            ("username", "app", "username: expected a password"),
        ] {
            let mut settings = settings.clone();
            settings.set(key, value).unwrap();
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{key}={value}: {error}");
        }
        let error = settings.clone().set("master", "x").unwrap_err().to_string();
        assert!(error.contains("master_name: expected sentinels"), "{error}");
        let error = settings.clone().set("pool_size", "1").unwrap_err().to_string();
        assert!(error.contains(r#"expected poolsize, found "pool_size""#), "{error}");
        let error = settings.clone().set("hunter2", "1").unwrap_err().to_string();
        assert!(
            error.contains("another name") && !error.contains("hunter2"),
            "part of a password is shown: {error}"
        );
    }
}
