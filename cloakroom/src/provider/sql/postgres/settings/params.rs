//! The parameters of a connection string: which there are, which cannot be honoured, and those of this provider.

use std::time::Duration;

use super::SettingsError;
use super::environment::{Environment, VARIABLES};
use crate::provider::sql::duration;

/// The known parameters: those of libpq 18, of lib/pq and of this provider. Any other name is a setting of the server.
pub(super) const NAMES: [&str; 69] = [
    "application_name",
    "binary_parameters",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "create_table",
    "database",
    "datestyle",
    "dbname",
    "deadline",
    "disable_prepared_binary_result",
    "durability",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbspn",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_ca_file",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "options",
    "passfile",
    "password",
    "pool",
    "port",
    "prepared_statements",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "ssl",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslinline",
    "sslkey",
    "sslkeylogfile",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "table",
    "target_session_attrs",
    "tcp_user_timeout",
    "timezone",
    "tz",
    "user",
    "geqo",
];

/// A name and a value as the string has them. The authority of a URL has the place 0.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GivenPair {
    pub(super) place: usize,
    pub(super) name: String,
    pub(super) value: String,
}

/// A setting of the server for each connection.
#[derive(Clone, PartialEq)]
pub(super) struct ServerSetting {
    pub(super) name: Box<str>,
    pub(super) value: Box<str>,
}

/// The values of the known parameters, and the settings of the server. An empty value counts as not given, as in libpq.
#[derive(Default)]
pub(super) struct Given {
    values: Vec<GivenValue>,
    pub(super) server: Vec<ServerSetting>,
}

struct GivenValue {
    name: &'static str,
    /// The name for errors: the parameter's, or that of an environment variable.
    origin: &'static str,
    value: String,
}

impl Given {
    /// Collects the pairs of the string, then what `environment` supplies in addition. The last of two values counts.
    pub(super) fn collect(pairs: Vec<GivenPair>, environment: &Environment) -> Result<Given, SettingsError> {
        let mut given = Given::default();
        for GivenPair { place, name, value } in pairs {
            if value.contains('\0') || name.contains('\0') {
                return Err(SettingsError::Nul);
            }
            match NAMES.iter().find(|known| **known == name) {
                Some(&"database") => given.put("dbname", "database", value),
                Some(&"tz" | &"timezone") => given.put("timezone", "timezone", value),
                Some(name) => given.put(name, name, value),
                None => given.server.push(ServerSetting::new(place, &name, &value)?),
            }
        }
        let has_host = given.has("host") || given.has("hostaddr");
        for (at, value) in &environment.values {
            let Some((origin, name)) = VARIABLES.get(*at).copied() else { continue };
            let name = if name == "tz" { "timezone" } else { name };
            // A variable must not send a named host's password to another address.
            let misdirects = name == "hostaddr" && has_host;
            if !given.has(name) && !misdirects {
                given.put(name, origin, value.clone());
            }
        }
        for name in ["timezone", "geqo"] {
            if let Some((_, value)) = given.take(name) {
                given.server.push(ServerSetting { name: name.into(), value: value.into() });
            }
        }
        Ok(given)
    }

    fn put(&mut self, name: &'static str, origin: &'static str, value: String) {
        self.values.retain(|before| before.name != name);
        if !value.is_empty() {
            self.values.push(GivenValue { name, origin, value });
        }
    }

    /// Returns true if every value has been taken out.
    #[cfg(test)]
    pub(super) fn is_used_up(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.values.iter().any(|value| value.name == name)
    }

    /// Takes a value out, with its name for errors.
    pub(super) fn take(&mut self, name: &str) -> Option<(&'static str, String)> {
        let at = self.values.iter().position(|value| value.name == name)?;
        let GivenValue { origin, value, .. } = self.values.swap_remove(at);
        Some((origin, value))
    }

    pub(super) fn text(&mut self, name: &str) -> Option<Box<str>> {
        self.take(name).map(|(_, value)| value.into())
    }

    /// Takes out a switch. libpq writes it as 0 or 1, lib/pq as yes or no.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, SettingsError> {
        self.word(name, "true or false", |value| match value {
            "1" | "true" | "yes" | "on" => Some(true),
            "0" | "false" | "no" | "off" => Some(false),
            _ => None,
        })
    }

    /// Takes out a whole number.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, SettingsError> {
        self.word(name, "a whole number from 0 on", whole)
    }

    /// Takes out one of several words.
    pub(super) fn word<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        let Some((origin, value)) = self.take(name) else { return Ok(None) };
        read(value.trim()).map(Some).ok_or(SettingsError::Value { name: origin, expected })
    }

    /// Refuses the parameters that cannot be honoured, and takes out those without effect here.
    pub(super) fn refuse_unsupported(&mut self) -> Result<(), SettingsError> {
        for (name, why) in REFUSED {
            if let Some((name, _)) = self.take(name) {
                return Err(SettingsError::Refused { name, why });
            }
        }
        for (name, fits, why) in LIMITED {
            if let Some((name, value)) = self.take(name)
                && !fits.contains(&value.trim())
            {
                return Err(SettingsError::Refused { name, why });
            }
        }
        let utf8 = |value: &str| {
            let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
            matches!(&*plain.to_ascii_lowercase(), "utf8" | "unicode").then_some(())
        };
        self.word("client_encoding", "UTF8; remove it, since UTF8 is always used", utf8)?;
        self.flag("disable_prepared_binary_result")?;
        Ok(())
    }
}

const KERBEROS: &str =
    "Kerberos, GSSAPI and SSPI are not supported; give the user a password or a certificate";
const OAUTH: &str = "OAuth is not supported; give the user a password or a certificate";
const REVOKED: &str = "lists of revoked certificates are not read; remove it";
const SERVICE: &str = "service files are not read; write the service's parameters into the connection string";

/// The parameters that cannot be honoured, each with the reason.
const REFUSED: [(&str, &str); 19] = [
    ("gsslib", KERBEROS),
    ("krbspn", KERBEROS),
    ("krbsrvname", KERBEROS),
    ("oauth_ca_file", OAUTH),
    ("oauth_client_id", OAUTH),
    ("oauth_client_secret", OAUTH),
    ("oauth_issuer", OAUTH),
    ("oauth_scope", OAUTH),
    (
        "require_auth",
        "the login's method cannot be restricted; write channel_binding=require, or sslmode=verify-full",
    ),
    (
        "requirepeer",
        "the owner of a socket is not checked; keep the socket in a folder that only the server can write to",
    ),
    (
        "scram_client_key",
        "a login without the password is not supported; write password, or use a password file",
    ),
    (
        "scram_server_key",
        "a login without the password is not supported; write password, or use a password file",
    ),
    ("service", SERVICE),
    ("servicefile", SERVICE),
    ("ssl", "the only value is true, and only in a URL; write sslmode"),
    ("sslcrl", REVOKED),
    ("sslcrldir", REVOKED),
    ("sslkeylogfile", "the keys of an encrypted connection are not written to a file; remove it"),
    ("sslpassword", "encrypted keys are not supported; decrypt the key's file"),
];

/// The parameters of which only some values can be honoured. These have no effect here.
const LIMITED: [(&str, &[&str], &str); 7] = [
    (
        "datestyle",
        &["ISO, MDY", "ISO,MDY", "iso, mdy"],
        "only \"ISO, MDY\" is supported, as in lib/pq; remove it",
    ),
    ("gssdelegation", &["0"], KERBEROS),
    (
        "gssencmode",
        &["disable", "prefer"],
        "GSSAPI is not supported; write gssencmode=disable, and encrypt by sslmode",
    ),
    ("max_protocol_version", &["3.0", "3.2", "latest"], "the protocol's version is 3.0; remove it"),
    ("min_protocol_version", &["3.0"], "the protocol's version is 3.0; remove it"),
    (
        "replication",
        &["false", "off", "no", "0"],
        "a connection for replication cannot store sessions; remove it",
    ),
    ("sslcompression", &["0"], "compression makes TLS insecure, and the server no longer has it; remove it"),
];

/// The parameters of this provider. One that is not given is `None` or false.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct PostgresParams {
    /// The schema before the dot of `table`.
    pub(in super::super) schema: Option<Box<str>>,
    pub(in super::super) table: Option<Box<str>>,
    pub(in super::super) pool: Option<usize>,
    /// True if statements are prepared by name. A pooler in transaction mode may need it to be false.
    pub(in super::super) prepared_statements: Option<bool>,
    pub(in super::super) durability: Option<CommitDurability>,
    /// The time limit for opening a connection to one host. Zero means no limit.
    pub(in super::super) connect_timeout: Option<Duration>,
    /// The deadline of one call. Zero means no deadline.
    pub(in super::super) deadline: Option<Duration>,
    pub(in super::super) create_table: Option<bool>,
}

/// The effect of a failure of the server's machine on changes that have just been acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum CommitDurability {
    /// A commit waits for the disk.
    Atomic,
    /// `synchronous_commit = off`: the server may lose the changes of the last moments.
    Relaxed,
}

impl PostgresParams {
    pub(super) fn take(given: &mut Given) -> Result<PostgresParams, SettingsError> {
        let (schema, table) = match given.text("table") {
            Some(name) => match name.split_once('.') {
                Some((schema, table)) => (Some(schema.into()), Some(table.into())),
                None => (None, Some(name)),
            },
            None => (None, None),
        };
        let size =
            |value: &str| whole(value).and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
        let durability = |value: &str| match value {
            "atomic" => Some(CommitDurability::Atomic),
            "relaxed" => Some(CommitDurability::Relaxed),
            _ => None,
        };
        // lib/pq has this for poolers. Like an unprepared statement, it needs one round trip and no state on the server.
        let unnamed = given.flag("binary_parameters")?.filter(|on| *on).map(|_| false);
        Ok(PostgresParams {
            schema,
            table,
            pool: given.word("pool", "a number from 1 on", size)?,
            prepared_statements: given.flag("prepared_statements")?.or(unnamed),
            durability: given.word("durability", "atomic or relaxed", durability)?,
            connect_timeout: given.word(
                "connect_timeout",
                "a number of seconds, or a duration such as 500ms",
                seconds,
            )?,
            deadline: given.word("deadline", "a duration such as 2s or 500ms", duration::parse)?,
            create_table: given.flag("create_table")?,
        })
    }
}

/// Parses a number of seconds, or a duration in Go's notation. In libpq a number below zero means no limit.
fn seconds(value: &str) -> Option<Duration> {
    if value.strip_prefix('-').and_then(whole).is_some() {
        return Some(Duration::ZERO);
    }
    // 300 years are as good as no limit, and can be added to any time.
    whole(value)
        .map(|seconds| Duration::from_secs(seconds.min(10_000_000_000)))
        .or_else(|| duration::parse(value))
}

/// Parses digits without a sign.
pub(super) fn whole(value: &str) -> Option<u64> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits)
}

impl ServerSetting {
    fn new(place: usize, name: &str, value: &str) -> Result<ServerSetting, SettingsError> {
        if let Some(nearest) = misspelt(name) {
            return Err(SettingsError::Unknown { place, nearest });
        }
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.');
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if !begins || name.len() > 128 || !name.bytes().all(plain) {
            return Err(SettingsError::Name { place });
        }
        Ok(ServerSetting { name: name.into(), value: value.into() })
    }

    /// Returns the command-line option that sets it. A backslash keeps a blank from ending the option.
    pub(super) fn option(&self) -> String {
        let mut option = format!("-c {}=", self.name);
        for char in self.value.chars() {
            if char.is_ascii_whitespace() || matches!(char, '\\' | '\u{b}') {
                option.push('\\');
            }
            option.push(char);
        }
        option
    }
}

/// Returns the parameter that `name` probably means. Settings of PostgreSQL's own are further away from every parameter.
fn misspelt(name: &str) -> Option<&'static str> {
    const MOST: usize = 2;
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
    if SERVER_SETTINGS.contains(&name) || name.len() > 64 {
        return None;
    }
    let name = plain(name);
    if let Some((_, known)) = SYNONYMS.iter().find(|(other, _)| *other == name) {
        return Some(known);
    }
    let near = NAMES.into_iter().filter_map(|known| {
        let distance = strsim::osa_distance(&plain(known), &name);
        // A short name is similar to many words.
        (distance <= MOST.min(name.len() / 4)).then_some((distance, known))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// The names that other drivers have for a parameter.
const SYNONYMS: [(&str, &str); 6] = [
    ("db", "dbname"),
    ("hostname", "host"),
    ("pass", "password"),
    ("pwd", "password"),
    ("sslca", "sslrootcert"),
    ("username", "user"),
];

/// The settings of PostgreSQL whose names are similar to a parameter's. A test compares the list with the server's.
const SERVER_SETTINGS: [&str; 1] = ["wal_compression"];
