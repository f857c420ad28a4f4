//! Data source names: the form of go-sql-driver, and `mysql://` URLs.
//!
//! No error shows a part of the text, since without its delimiters any part may be a piece of the password.

mod params;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

pub(super) use params::{Params, Tls};

use crate::provider::sql::escape::unescape;

const PORT: u16 = 3306;
/// The default socket of Go's driver.
const SOCKET: &str = "/tmp/mysql.sock";

/// A checked data source name.
///
/// `[user[:password]@][net[(addr)]]/dbname[?param1=value1&..]`, or `mysql://[user[:password]@]host[:port]/dbname[?..]`.
#[derive(Clone, PartialEq)]
pub(super) struct Dsn {
    pub(super) user: Option<Box<str>>,
    pub(super) password: Option<Box<str>>,
    pub(super) address: DsnAddress,
    /// The database's name; empty if none is given.
    pub(super) database: Box<str>,
    pub(super) params: Params,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum DsnAddress {
    Tcp { host: Box<str>, port: u16 },
    Unix { socket: PathBuf },
}

impl Dsn {
    pub(super) fn parse(text: &str) -> Result<Dsn, DsnError> {
        if text.contains('\0') {
            return Err(DsnError::Nul);
        }
        let url = ["mysql://", "mariadb://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let dsn = url.map_or_else(|| from_go(text), from_url)?;
        dsn.checked()
    }

    /// Checks the rules that concern several parts.
    fn checked(self) -> Result<Dsn, DsnError> {
        let verified = self.params.tls.is_some_and(|tls| tls.verifies());
        match self.address {
            DsnAddress::Unix { .. } if verified => Err(DsnError::VerifiedSocket),
            _ if self.password.is_some() && self.user.is_none() => Err(DsnError::NoUser),
            _ => Ok(self),
        }
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dsn")
            .field("address", &self.address)
            .field("database", &self.database)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

/// Parses the driver's own form. It searches delimiters from the right, so that a password needs no escaping.
fn from_go(text: &str) -> Result<Dsn, DsnError> {
    let (before, after) = match text.rsplit_once('/') {
        Some(parts) => parts,
        None if text.is_empty() => ("", ""),
        None => return Err(DsnError::NoSlash),
    };
    let (login, place) = before.rsplit_once('@').unwrap_or(("", before));
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let (database, params) = after.split_once('?').unwrap_or((after, ""));
    Ok(Dsn {
        user: non_empty(user),
        password: password.and_then(non_empty),
        address: go_address(place)?,
        database: unescape(database, false).ok_or(DsnError::Database)?.into(),
        params: Params::parse(params)?,
    })
}

/// Parses `[net[(addr)]]`.
fn go_address(place: &str) -> Result<DsnAddress, DsnError> {
    let (net, address) = match place.split_once('(') {
        None => (place, ""),
        Some((net, rest)) => match rest.strip_suffix(')') {
            Some(address) => (net, address),
            None if rest.contains(')') => return Err(DsnError::Unescaped),
            None => return Err(DsnError::Parenthesis),
        },
    };
    match net {
        "" | "tcp" => tcp(address),
        "unix" if address.is_empty() => Ok(DsnAddress::Unix { socket: SOCKET.into() }),
        "unix" => Ok(DsnAddress::Unix { socket: address.into() }),
        _ => Err(DsnError::Protocol),
    }
}

/// Parses `host`, `host:port`, `[v6]:port`, `[v6]` or a bare IPv6 address. An empty text means this machine.
fn tcp(address: &str) -> Result<DsnAddress, DsnError> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(DsnError::Bracket)?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or(DsnError::Bracket)?),
            };
            host.parse::<Ipv6Addr>().map_err(|_| DsnError::Bracket)?;
            (host, port)
        }
        None if address.parse::<Ipv6Addr>().is_ok() => (address, None),
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = match port {
        None => PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(DsnError::Port)?,
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let odd = |char: char| char.is_whitespace() || char.is_control() || "/@?#()[]".contains(char);
    if host.contains(odd) { Err(DsnError::Host) } else { Ok(DsnAddress::Tcp { host: host.into(), port }) }
}

/// Parses the text after `mysql://`. As in any URL, delimiters are searched from the left and each part is percent-encoded.
fn from_url(rest: &str) -> Result<Dsn, DsnError> {
    let (rest, params) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    let (user, password) = match login {
        Some(login) => match login.split_once(':') {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (decoded(login)?, None),
        },
        None => (None, None),
    };
    let mut params = Params::parse(params)?;
    let address = match params.socket.take() {
        Some(socket) => DsnAddress::Unix { socket },
        // A socket may be given as `%2Fpath` in the place of the host.
        None => match unescape(place, false).ok_or(DsnError::Host)? {
            socket if socket.starts_with('/') => DsnAddress::Unix { socket: socket.into() },
            host => tcp(&host)?,
        },
    };
    let database = unescape(database, false).filter(|name| !name.contains('/')).ok_or(DsnError::Database)?;
    Ok(Dsn { user, password, address, database: database.into(), params })
}

fn decoded(part: &str) -> Result<Option<Box<str>>, DsnError> {
    unescape(part, false).map(|text| non_empty(&text)).ok_or(DsnError::Login)
}

fn non_empty(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}

/// The faults of a data source name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum DsnError {
    #[error(
        "expected a slash before the database's name, found none; write user:password@tcp(host:3306)/dbname"
    )]
    NoSlash,
    #[error("expected a closing parenthesis after the address, found none; write tcp(host:3306)/dbname")]
    Parenthesis,
    #[error(
        "expected a slash after the address, found other text; write a slash in the database's name or in a parameter as %2F"
    )]
    Unescaped,
    #[error(
        "expected tcp or unix before the address, found another protocol; write tcp(host:3306) or unix(path)"
    )]
    Protocol,
    #[error(
        "expected an IPv6 address in brackets and an optional port, such as [::1]:3306, found another form"
    )]
    Bracket,
    #[error("expected a port from 1 to 65535 after the host, found another text")]
    Port,
    #[error("expected a host's name or address, found characters that neither has")]
    Host,
    #[error(
        "expected user:password, percent-encoded (an @ is %40, a % is %25), found a % without two hex digits"
    )]
    Login,
    #[error("expected a database's name, percent-encoded (a % is %25, a / is %2F), found another form")]
    Database,
    #[error("expected a user before the password, found none; write user:password@")]
    NoUser,
    #[error("expected a text without zero bytes, found one; remove it")]
    Nul,
    #[error(
        "expected no certificate check on a socket, which has no host name, found one; remove tls, or write tls=skip-verify"
    )]
    VerifiedSocket,
    #[error("parameter {place}: expected name=value, found no =; write the value after an =")]
    NoValue { place: usize },
    #[error(
        "parameter {place}: expected a value whose %, & and / are percent-encoded, found a % without two hex digits"
    )]
    Encoding { place: usize },
    #[error("parameter {place}: expected a known name, found another; did you mean {nearest}?")]
    Unknown { place: usize, nearest: &'static str },
    #[error("parameter {place}: expected a parameter of the driver or a system variable, found another name")]
    Name { place: usize },
    #[error("{name}: expected {expected}, found another value")]
    Value { name: &'static str, expected: &'static str },
    #[error("{name} is not supported with this value: {why}")]
    Refused { name: &'static str, why: &'static str },
    #[error(
        "parameter {place} sets a system variable: expected a number, a word, or a text in single quotes (%27) without quotes \
         and backslashes in it, found another value"
    )]
    Literal { place: usize },
}
