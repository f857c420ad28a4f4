//! The parameters after the question mark: those of Go's driver, of URLs and of this provider, and system variables.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::DsnError;
use crate::provider::sql::duration;
use crate::provider::sql::escape::unescape;

/// The known parameters. Any other parameter is a system variable.
const NAMES: [&str; 34] = [
    "allowAllFiles",
    "allowCleartextPasswords",
    "allowFallbackToPlaintext",
    "allowNativePasswords",
    "allowOldPasswords",
    "charset",
    "checkConnLiveness",
    "clientFoundRows",
    "collation",
    "columnsWithAlias",
    "compress",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "pool",
    "readTimeout",
    "rejectReadOnly",
    "serverPubKey",
    "socket",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "strict",
    "table",
    "timeTruncate",
    "timeout",
    "tinyInt1IsBool",
    "tls",
    "writeTimeout",
    "autocommit",
];

/// The parameters of a data source name. A parameter that is not given is `None`, false or empty.
#[derive(Clone, Default, PartialEq)]
pub(in super::super) struct Params {
    pub(in super::super) tls: Option<Tls>,
    pub(in super::super) ca: Option<PathBuf>,
    pub(in super::super) certificate: Option<PathBuf>,
    pub(in super::super) key: Option<PathBuf>,
    /// The time limit for connecting (`timeout`). Zero means no limit.
    pub(in super::super) connect: Option<Duration>,
    pub(in super::super) read: Option<Duration>,
    pub(in super::super) write: Option<Duration>,
    /// The most bytes of a packet. Zero means the server's limit.
    pub(in super::super) max_packet: Option<usize>,
    /// The character sets in order of preference. The first that the server knows is used.
    pub(in super::super) charsets: Vec<Box<str>>,
    pub(in super::super) collation: Option<Box<str>>,
    pub(in super::super) cleartext_passwords: bool,
    pub(in super::super) unchecked: bool,
    pub(in super::super) reject_read_only: bool,
    /// The Unix socket that a URL names.
    pub(in super::super) socket: Option<PathBuf>,
    pub(in super::super) table: Option<Box<str>>,
    pub(in super::super) pool: Option<usize>,
    pub(in super::super) variables: Vec<Variable>,
    fall_back: bool,
}

/// The encryption of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) enum Tls {
    Off,
    /// Encrypts if the server offers it, without verifying the certificate.
    Preferred,
    /// Always encrypts, without verifying the certificate.
    Unverified,
    /// Always encrypts, and verifies the certificate's authority.
    Authority,
    /// Always encrypts, and verifies the certificate's authority and host name.
    Verified,
}

impl Tls {
    pub(super) fn verifies(self) -> bool {
        matches!(self, Tls::Authority | Tls::Verified)
    }
}

/// A system variable to set on each connection. Its name and value are checked, so that a statement may contain them.
#[derive(Clone, PartialEq)]
pub(in super::super) struct Variable {
    pub(in super::super) name: Box<str>,
    pub(in super::super) literal: Box<str>,
}

impl Params {
    pub(super) fn parse(text: &str) -> Result<Params, DsnError> {
        let mut params = Params::default();
        for (place, pair) in text.split('&').enumerate().filter(|(_, pair)| !pair.is_empty()) {
            let place = place + 1;
            let (name, value) = pair.split_once('=').ok_or(DsnError::NoValue { place })?;
            let value = unescape(value, true).ok_or(DsnError::Encoding { place })?;
            match NAMES.iter().find(|known| **known == name) {
                Some(name) => params.set(name, &value)?,
                None => params.variables.push(Variable::new(place, name, &value)?),
            }
        }
        params.checked()
    }

    fn set(&mut self, name: &'static str, value: &str) -> Result<(), DsnError> {
        match name {
            "tls" | "ssl-mode" | "ssl-ca" | "ssl-cert" | "ssl-key" => self.encrypt(name, value)?,
            "timeout" => self.connect = Some(time(name, value)?),
            "readTimeout" => self.read = Some(time(name, value)?),
            "writeTimeout" => self.write = Some(time(name, value)?),
            "maxAllowedPacket" => self.max_packet = Some(number(name, value, 0)?),
            "charset" => self.charsets = charsets(value)?,
            "collation" => self.collation = Some(charset_word("collation", value)?),
            "allowCleartextPasswords" => self.cleartext_passwords = flag(name, value)?,
            "allowFallbackToPlaintext" => self.fall_back = flag(name, value)?,
            "checkConnLiveness" => self.unchecked = !flag(name, value)?,
            "rejectReadOnly" => self.reject_read_only = flag(name, value)?,
            "socket" => self.socket = Some(path(name, value)?),
            "table" => self.table = Some(value.into()),
            "pool" => self.pool = Some(number(name, value, 1)?),
            _ => check_ignored(name, value)?,
        }
        Ok(())
    }

    fn encrypt(&mut self, name: &'static str, value: &str) -> Result<(), DsnError> {
        match name {
            "tls" => self.tls = Some(tls(value)?),
            "ssl-mode" => self.tls = Some(ssl_mode(value)?),
            "ssl-ca" => self.ca = Some(path(name, value)?),
            "ssl-cert" => self.certificate = Some(path(name, value)?),
            _ => self.key = Some(path(name, value)?),
        }
        Ok(())
    }

    /// Checks the rules that concern several parameters.
    fn checked(mut self) -> Result<Params, DsnError> {
        if self.fall_back {
            self.tls = match self.tls {
                None | Some(Tls::Off) => self.tls,
                Some(Tls::Preferred | Tls::Unverified) => Some(Tls::Preferred),
                Some(Tls::Authority | Tls::Verified) => {
                    let why =
                        "a connection that may fall back to clear text is not verified; write tls=preferred";
                    return Err(DsnError::Refused { name: "allowFallbackToPlaintext", why });
                }
            };
        }
        let encrypted = self.tls.is_some_and(|tls| tls != Tls::Off);
        let files = [&self.ca, &self.certificate, &self.key];
        if !encrypted && files.iter().any(|file| file.is_some()) {
            let why = "the connection is not encrypted; add tls=true";
            return Err(DsnError::Refused { name: "ssl-ca, ssl-cert or ssl-key", why });
        }
        if self.ca.is_some() && !self.tls.is_some_and(Tls::verifies) {
            let why = "no certificate is verified; write tls=true, or ssl-mode=verify_ca";
            return Err(DsnError::Refused { name: "ssl-ca", why });
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(DsnError::Refused {
                name: "ssl-cert",
                why: "ssl-cert and ssl-key need each other; give both",
            });
        }
        if self.cleartext_passwords && !encrypted {
            let why = "the password would cross the network in clear text; add tls=true";
            return Err(DsnError::Refused { name: "allowCleartextPasswords", why });
        }
        Ok(self)
    }
}

/// Checks the parameters that have no effect here, and refuses those that ask for something unsupported.
fn check_ignored(name: &'static str, value: &str) -> Result<(), DsnError> {
    let refused = |why| Err(DsnError::Refused { name, why });
    match name {
        // The representation of rows in Go and the transport of statements have no effect on a session.
        "clientFoundRows" | "columnsWithAlias" | "compress" | "interpolateParams" | "multiStatements"
        | "parseTime" | "tinyInt1IsBool" => flag(name, value).map(drop),
        "timeTruncate" => time(name, value).map(drop),
        // Times are numbers in UTC, so `loc` has no effect. `connectionAttributes` only labels connections in the server's list.
        "loc" | "connectionAttributes" => Ok(()),
        "allowAllFiles" if flag(name, value)? => {
            refused("the provider sends no file to the server; remove it")
        }
        "allowOldPasswords" if flag(name, value)? => {
            refused("the login of MySQL 4.0 is insecure; give the user another plugin")
        }
        "allowNativePasswords" if !flag(name, value)? => {
            refused("mysql_native_password cannot be switched off here; give the user another plugin")
        }
        "serverPubKey" => refused("it names a key that a Go program has registered; write tls=true"),
        "strict" => refused("the driver has removed it, and strict mode is always on; remove it"),
        "autocommit" if !matches!(&*value.to_ascii_lowercase(), "1" | "on" | "true") => {
            refused("every statement must commit by itself; remove it")
        }
        _ => Ok(()),
    }
}

fn tls(value: &str) -> Result<Tls, DsnError> {
    if let Ok(on) = flag("tls", value) {
        return Ok(if on { Tls::Verified } else { Tls::Off });
    }
    match &*value.to_ascii_lowercase() {
        "skip-verify" => Ok(Tls::Unverified),
        "preferred" => Ok(Tls::Preferred),
        _ => {
            let expected = "true, false, skip-verify or preferred (a configuration that a Go program has registered \
                            under a name is given by ssl-ca, ssl-cert and ssl-key)";
            Err(DsnError::Value { name: "tls", expected })
        }
    }
}

/// Parses the word that the servers' own programs use.
fn ssl_mode(value: &str) -> Result<Tls, DsnError> {
    match &*value.to_ascii_lowercase().replace('-', "_") {
        "disabled" => Ok(Tls::Off),
        "preferred" => Ok(Tls::Preferred),
        "required" => Ok(Tls::Unverified),
        "verify_ca" => Ok(Tls::Authority),
        "verify_identity" => Ok(Tls::Verified),
        _ => {
            let expected = "disabled, preferred, required, verify_ca or verify_identity";
            Err(DsnError::Value { name: "ssl-mode", expected })
        }
    }
}

/// Parses Go's words for true and false.
fn flag(name: &'static str, value: &str) -> Result<bool, DsnError> {
    match value {
        "1" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(DsnError::Value { name, expected: "true or false" }),
    }
}

fn time(name: &'static str, value: &str) -> Result<Duration, DsnError> {
    duration::parse(value)
        .ok_or(DsnError::Value { name, expected: "a duration such as 30s, 0.5m or 1m30s, not below zero" })
}

fn number(name: &'static str, value: &str, least: usize) -> Result<usize, DsnError> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|number| digits && *number >= least);
    let expected = if least == 0 { "a number of bytes" } else { "a number from 1 on" };
    number.ok_or(DsnError::Value { name, expected })
}

fn path(name: &'static str, value: &str) -> Result<PathBuf, DsnError> {
    match value {
        "" => Err(DsnError::Value { name, expected: "a path" }),
        path => Ok(path.into()),
    }
}

fn charsets(value: &str) -> Result<Vec<Box<str>>, DsnError> {
    value.split(',').map(|word| charset_word("charset", word)).collect()
}

fn charset_word(name: &'static str, word: &str) -> Result<Box<str>, DsnError> {
    let fits = (1..=64).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fits {
        return Ok(word.into());
    }
    Err(DsnError::Value { name, expected: "a name of letters, digits and _, such as utf8mb4" })
}

impl Variable {
    fn new(place: usize, name: &str, value: &str) -> Result<Variable, DsnError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if let Some(nearest) = misspelt(name) {
            return Err(DsnError::Unknown { place, nearest });
        }
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            return Err(DsnError::Name { place });
        }
        if !is_literal(value) {
            return Err(DsnError::Literal { place });
        }
        Ok(Variable { name: name.into(), literal: value.into() })
    }
}

/// Returns the parameter that `name` probably means. System variables have underscores, and some are close to a parameter, such as `sql_mode`.
fn misspelt(name: &str) -> Option<&'static str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
    let most = if name.contains('_') { 0 } else { name.len() / 5 };
    let name = plain(name);
    let distance = |known: &&str| {
        let known = plain(known);
        // The distance is at least the difference of the lengths. The comparison of long names would take long.
        let near = known.len().abs_diff(name.len()) <= most;
        near.then(|| strsim::osa_distance(&known, &name)).filter(|distance| *distance <= most)
    };
    let near = NAMES.into_iter().filter_map(|known| Some((distance(&known)?, known)));
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Returns true if `value` is a number, a word, or a quoted text without quotes and backslashes.
fn is_literal(value: &str) -> bool {
    let word = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
            && !text.contains("--")
    };
    let quoted = |quote: char| {
        let inside = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        inside
            .is_some_and(|text| !text.chars().any(|char| char == quote || char == '\\' || char.is_control()))
    };
    (!value.is_empty() && word(value)) || quoted('\'') || quoted('"')
}

impl fmt::Debug for Params {
    /// Leaves out the names and values of system variables: with a delimiter missing, they may be a piece of the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params")
            .field("tls", &self.tls)
            .field("connect", &self.connect)
            .field("read", &self.read)
            .field("write", &self.write)
            .field("pool", &self.pool)
            .field("variables", &self.variables.len())
            .finish_non_exhaustive()
    }
}
