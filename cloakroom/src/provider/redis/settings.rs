//! Every setting of the provider, and the names by which texts give them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::error::StoreError;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Address {
    Tcp { host: Box<str>, port: u16 },
    Unix(PathBuf),
}

/// What kind of installation it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    Server(Address),
    /// Some of the nodes.
    Cluster(Vec<Address>),
    Sentinels {
        sentinels: Vec<Address>,
        master: Box<str>,
    },
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) Box<str>);

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Credentials {
    pub(super) username: Option<Box<str>>,
    pub(super) password: Option<Secret>,
}

/// Whom we trust and who we are, each in PEM.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Certificates {
    pub(super) authorities: Option<Vec<u8>>,
    pub(super) client: Option<Vec<u8>>,
    pub(super) client_key: Option<Vec<u8>>,
}

/// How many replicas must have a change before it is answered, and how long that may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) replicas: u32,
    pub(super) limit: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
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
    pub(super) wait: Option<Wait>,
}

impl Settings {
    /// The most connections to a server.
    const MOST_CONNECTIONS: usize = 10_000;
    pub(super) const DEFAULT_PREFIX: &str = "cloakroom";
    pub(super) const DEFAULT_PORT: u16 = 6379;
    /// Where sentinels listen.
    pub(super) const SENTINEL_PORT: u16 = 26379;
    /// What the documentation of Sentinel calls its example, and the seed its default.
    pub(super) const MASTER: &str = "mymaster";

    pub(super) fn new(topology: Topology) -> Settings {
        Settings {
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

    /// Takes a setting of a URL's query or of the seed's JSON. The seed's names come first, ours after them.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        match key {
            "poolsize" | "pool" => self.pool = number("poolsize", value)?,
            "username" => self.credentials.username = Some(value.into()),
            "password" => self.credentials.password = Some(Secret(value.into())),
            "db_num" | "db" => self.database = number("db_num", value)?,
            "idle_timeout" => {
                self.idle_timeout = Some(duration("idle_timeout", value)?).filter(|time| !time.is_zero());
            }
            // A connection that has been idle for too long is noticed when it is next needed: there is nothing to check between.
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

    pub(super) fn wait_mut(&mut self) -> &mut Wait {
        // Less than a call may take in all.
        self.wait.get_or_insert(Wait { replicas: 1, limit: Duration::from_millis(500) })
    }

    /// Refuses what cannot work, as a whole.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let prefix = &*self.prefix;
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '}');
        if !(1..=64).contains(&prefix.len()) || !prefix.chars().all(plain) {
            return Err(StoreError::setting(
                "prefix",
                "1 to 64 visible ASCII characters without braces",
                "others or more",
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
                "no less",
            ));
        }
        if self.retries > 100 {
            return Err(StoreError::setting("max_retries", "at most 100", self.retries.to_string()));
        }
        if matches!(self.topology, Topology::Cluster(_)) && self.database != 0 {
            return Err(StoreError::setting(
                "db_num",
                "0: a cluster has no other",
                self.database.to_string(),
            ));
        }
        if self.credentials.username.is_some() && self.credentials.password.is_none() {
            return Err(StoreError::setting("username", "a password beside it", "none"));
        }
        if self.certificates.client.is_some() != self.certificates.client_key.is_some() {
            return Err(StoreError::setting(
                "cert_file",
                "a certificate and its key (key_file)",
                "one of them alone",
            ));
        }
        if self.certificates != Certificates::default() && !self.tls {
            return Err(StoreError::setting("ca_file", "TLS, as in rediss://", "a connection without"));
        }
        Ok(())
    }
}

const KNOWN: &str = "save_path, poolsize, username, password, db_num, idle_timeout, idle_check_frequency, max_retries, master_name, \
                     connect_timeout, timeout, prefix, wait, wait_timeout, tls, ca_file, cert_file, key_file, sentinel_username, \
                     sentinel_password";

/// An unknown setting. One that is nearly a known one is told; any other may be the rest of a password that is not escaped.
fn unknown(key: &str) -> StoreError {
    let near = |known: &&str| key.len() <= 40 && strsim::osa_distance(known, key) <= 2;
    match KNOWN.split(", ").find(near) {
        Some(known) => StoreError::setting("providerConfig", known, format!("{key:?}")),
        None => StoreError::setting("providerConfig", KNOWN, "another name"),
    }
}

/// What was found is not told: where a field was left out or a character not escaped, a password stands in another one's place.
const OTHER: &str = "something else";

pub(super) fn number<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, StoreError> {
    text.trim().parse().map_err(|_| StoreError::setting(what, "a whole number from 0 on", OTHER))
}

fn flag(what: &'static str, text: &str) -> Result<bool, StoreError> {
    text.parse().map_err(|_| StoreError::setting(what, "true or false", OTHER))
}

/// A number of seconds, or a text as Go writes durations: `1m30s`, `0.5s`, `250ms`.
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

/// `host`, `host:port` or `[::1]:port`.
pub(super) fn address(text: &str, default_port: u16) -> Result<Address, StoreError> {
    let wrong = || StoreError::setting("the address", "host:port, such as 127.0.0.1:6379", "something else");
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(default_port), |port| port.parse().map_err(|_| wrong()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    match !host.is_empty() && host.chars().all(plain) {
        true => Ok(Address::Tcp { host: host.into(), port }),
        false => Err(wrong()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => path.display().fmt(f),
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
    fn durations_are_seconds_or_as_go_writes_them() {
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
        for text in ["", "s", "1", "1x", "-1s", "1s2", "..s", "1e400s"] {
            let found = duration("timeout", text);
            assert_eq!(found.is_err(), text != "1", "{text}: {found:?}");
        }
    }

    #[test]
    fn addresses_have_a_port_or_get_the_usual_one() {
        let tcp = |host: &str, port| Address::Tcp { host: host.into(), port };
        for (text, expected) in [
            ("127.0.0.1:6380", tcp("127.0.0.1", 6380)),
            ("cache", tcp("cache", 6379)),
            ("[::1]:7000", tcp("::1", 7000)),
            ("[::1]", tcp("::1", 6379)),
        ] {
            assert_eq!(address(text, Settings::DEFAULT_PORT).unwrap(), expected);
        }
        for text in ["", ":6379", "host:", "host:port", "host:99999", "a b:1", "[::1", "user@host:1"] {
            let error = address(text, 1).unwrap_err().to_string();
            assert!(error.contains("expected host:port"), "{text}: {error}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_settings_name() {
        let settings = Settings::new(Topology::Server(Address::Unix("/s".into())));
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
            "a rest of a password: {error}"
        );
    }
}
