//! Connection strings: `postgres://` URLs, and libpq's `name=value` strings.
//!
//! No error and no `Debug` output shows a value, since without its delimiters any part may be a piece of the password.

mod environment;
mod failures;
mod handshake;
mod hosts;
mod keywords;
mod open;
mod open_error;
mod params;
mod passfile;
mod ssl;
mod tls;
mod url;

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub(super) use open::OpenConnection;
pub(super) use open_error::OpenError;
pub(super) use params::{CommitDurability, PostgresParams};

use environment::Environment;
use failures::RecentFailures;
use hosts::{ServerHost, TargetSession};
use params::{Given, ServerSetting};
use passfile::PasswordFile;
use ssl::SslSettings;

/// A checked connection string.
#[derive(Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) params: PostgresParams,
    hosts: Box<[ServerHost]>,
    /// True if the hosts are tried in a random order.
    shuffled: bool,
    target: TargetSession,
    login: DatabaseLogin,
    ssl: SslSettings,
    transport: Transport,
    application_name: Box<str>,
    options: Option<Box<str>>,
    server: Vec<ServerSetting>,
    failures: RecentFailures,
}

/// The user and the database. Without a database, the server takes the user's name.
#[derive(Clone, PartialEq)]
struct DatabaseLogin {
    user: Box<str>,
    password: Option<Box<str>>,
    file: Option<PasswordFile>,
    database: Option<Box<str>>,
}

/// The settings of TCP.
#[derive(Clone, Debug, Default, PartialEq)]
struct Transport {
    keepalives: bool,
    idle: Option<Duration>,
    interval: Option<Duration>,
    count: Option<u32>,
    user_timeout: Option<Duration>,
}

impl Settings {
    /// Parses a URL or a string of `name=value`. The environment variables of libpq supply what `text` leaves out.
    pub(super) fn parse(text: &str) -> Result<Settings, SettingsError> {
        Settings::parse_in(text, &Environment::of_process())
    }

    fn parse_in(text: &str, environment: &Environment) -> Result<Settings, SettingsError> {
        let url = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let pairs = match url {
            // A file's last line ends with a line break.
            Some(rest) => url::parse(rest.trim_end())?,
            None if is_other_url(text) => return Err(SettingsError::Scheme),
            None => keywords::parse(text)?,
        };
        let mut given = Given::collect(pairs, environment)?;
        given.refuse_unsupported()?;
        Settings::take(&mut given, environment)
    }

    fn take(given: &mut Given, environment: &Environment) -> Result<Settings, SettingsError> {
        let params = PostgresParams::take(given)?;
        let hosts = hosts::take(given)?;
        let target = TargetSession::take(given, hosts.len())?;
        let ssl = SslSettings::take(given, environment)?;
        let unnamed = hosts.iter().any(|host| host.name == hosts::HostName::Unnamed);
        if unnamed && ssl.mode == ssl::SslMode::VerifyFull {
            let why = "the certificate's host name cannot be verified without one; add host";
            return Err(SettingsError::Refused { name: "hostaddr", why });
        }
        let shuffled = given.word("load_balance_hosts", "disable or random", |word| match word {
            "disable" => Some(false),
            "random" => Some(true),
            _ => None,
        })?;
        let application = given.text("application_name");
        let fallback = given.text("fallback_application_name");
        Ok(Settings {
            failures: RecentFailures::new(hosts.len()),
            params,
            hosts,
            shuffled: shuffled.unwrap_or(false),
            target,
            login: DatabaseLogin::take(given, environment)?,
            ssl,
            transport: Transport::take(given)?,
            application_name: application.or(fallback).unwrap_or("cloakroom".into()),
            options: given.text("options"),
            server: std::mem::take(&mut given.server),
        })
    }

    /// Returns the options of the connection's start: those that are given, then a setting of the server each.
    fn startup_options(&self) -> Option<String> {
        let given = self.options.as_deref().map(str::to_owned);
        let settings = self.server.iter().map(ServerSetting::option);
        let all: Vec<_> = given.into_iter().chain(settings).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }
}

/// Returns true if `text` is a URL of another scheme, and not a string of `name=value`.
fn is_other_url(text: &str) -> bool {
    text.find("://")
        .is_some_and(|end| !text[..end].contains(|char: char| char == '=' || char.is_whitespace()))
}

impl DatabaseLogin {
    fn take(given: &mut Given, environment: &Environment) -> Result<DatabaseLogin, SettingsError> {
        let password = given.text("password");
        let file = PasswordFile::take(given, environment);
        let user = match given.text("user") {
            Some(user) => user,
            None => (environment.user)().ok_or(SettingsError::NoUser)?.into(),
        };
        Ok(DatabaseLogin {
            user,
            file: file.filter(|_| password.is_none()),
            password,
            database: given.text("dbname"),
        })
    }

    /// Returns the database's name, which is the user's if none is given.
    fn database(&self) -> &str {
        self.database.as_deref().unwrap_or(&self.user)
    }
}

impl Transport {
    fn take(given: &mut Given) -> Result<Transport, SettingsError> {
        // Zero means the system's default.
        let positive = |number: Option<u64>| number.filter(|number| *number > 0);
        let mut seconds =
            |name| Ok(positive(given.number(name)?).map(|time| Duration::from_secs(time.min(1 << 31))));
        let (idle, interval) = (seconds("keepalives_idle")?, seconds("keepalives_interval")?);
        let count =
            positive(given.number("keepalives_count")?).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let user_timeout =
            positive(given.number("tcp_user_timeout")?).map(|time| Duration::from_millis(time.min(1 << 31)));
        let keepalives = given.flag("keepalives")?.unwrap_or(true);
        Ok(Transport { keepalives, idle, interval, count, user_timeout })
    }
}

impl fmt::Debug for Settings {
    /// Leaves out the login, the options and the settings of the server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("hosts", &self.hosts)
            .field("target", &self.target)
            .field("sslmode", &self.ssl.mode)
            .field("transport", &self.transport)
            .field("params", &self.params)
            .field("server", &self.server.len())
            .finish_non_exhaustive()
    }
}

/// The faults of a connection string.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum SettingsError {
    #[error(
        "expected postgres://user:password@host/dbname, or name=value pairs such as host=db dbname=app, found a URL of another scheme"
    )]
    Scheme,
    #[error("parameter {place}: expected name=value, found no =; write the value after an =")]
    NoValue { place: usize },
    #[error(
        "parameter {place}: expected a closing quote and a character after each backslash, found the end; write ' as \\' and \\ as \\\\"
    )]
    Quote { place: usize },
    #[error(
        "expected user:password before the @, percent-encoded (an @ is %40, a / is %2F, a ? is %3F, a % is %25), found another form; \
         encode it, also in the parameters after the ?"
    )]
    Login,
    #[error("expected a database's name, percent-encoded (a % is %25, a ? is %3F), found another form")]
    Database,
    #[error(
        "expected an IPv6 address in brackets and an optional port, such as [::1]:5432, found another form"
    )]
    Bracket,
    #[error(
        "expected a host's name or address, or the folder of a socket, found another text; write a socket's folder in a URL as %2Frun%2Fpostgresql"
    )]
    Host,
    #[error(
        "hostaddr: expected one address for each of {hosts} hosts, found {addresses}; write as many, separated by commas"
    )]
    HostCount { hosts: usize, addresses: usize },
    #[error(
        "port: expected one port, or one for each of {hosts} hosts, found {ports}; write as many, separated by commas"
    )]
    PortCount { ports: usize, hosts: usize },
    #[error(
        "expected a user, found none, and the operating system knows no name for this one; write user=name"
    )]
    NoUser,
    #[error("expected a text without zero bytes, found one; remove it")]
    Nul,
    #[error(
        "parameter {place}: expected a value whose % and & are percent-encoded, found a % without two hex digits; write a % as %25"
    )]
    Encoding { place: usize },
    #[error(
        "parameter {place}: expected %20 for a blank or %2B for a plus, found a plus, which libpq and lib/pq read differently; write one of them"
    )]
    Plus { place: usize },
    #[error("parameter {place}: expected each name once, found it with two values; remove one of them")]
    Twice { place: usize },
    #[error("parameter {place}: expected a known name, found another; did you mean {nearest}?")]
    Unknown { place: usize, nearest: &'static str },
    #[error(
        "parameter {place}: expected a parameter or a setting of the server in small letters, digits, _ and dots, found another name; \
         check its spelling"
    )]
    Name { place: usize },
    #[error("{name}: expected {expected}, found another value")]
    Value { name: &'static str, expected: &'static str },
    #[error("{name} is not supported with this value: {why}")]
    Refused { name: &'static str, why: &'static str },
}
