//! Where the server is and how to log in: go-sql-driver's DSN, and `mysql://` URLs.
//!
//! No error shows a piece of the text: where a delimiter is missing, any piece may be of the password.

mod duration;
mod escape;
mod params;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

pub(super) use params::{Params, Tls};

use escape::unescape;

const PORT: u16 = 3306;
/// Where Go's driver looks for a socket that was not named.
const SOCKET: &str = "/tmp/mysql.sock";

/// A checked data source name.
///
/// `[user[:password]@][net[(addr)]]/dbname[?param1=value1&..]`, or `mysql://[user[:password]@]host[:port]/dbname[?..]`.
#[derive(Clone, PartialEq)]
pub(super) struct Dsn {
    pub(super) user: Option<Box<str>>,
    pub(super) password: Option<Box<str>>,
    pub(super) address: Address,
    /// Empty where none is named.
    pub(super) database: Box<str>,
    pub(super) params: Params,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Address {
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

    /// What can only be judged of the whole.
    fn checked(self) -> Result<Dsn, DsnError> {
        let verified = self.params.tls.is_some_and(|tls| tls.verifies());
        match self.address {
            Address::Unix { .. } if verified => Err(DsnError::VerifiedSocket),
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

/// The driver's own form. Its delimiters are searched from the right, so that a password needs no escaping.
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
        user: some(user),
        password: password.and_then(some),
        address: go_address(place)?,
        database: unescape(database, false).ok_or(DsnError::Database)?.into(),
        params: Params::parse(params)?,
    })
}

/// `[net[(addr)]]`
fn go_address(place: &str) -> Result<Address, DsnError> {
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
        "unix" if address.is_empty() => Ok(Address::Unix { socket: SOCKET.into() }),
        "unix" => Ok(Address::Unix { socket: address.into() }),
        _ => Err(DsnError::Protocol),
    }
}

/// `host`, `host:port`, `[v6]:port`, `[v6]`, or a bare IPv6 address; nothing is this machine.
fn tcp(address: &str) -> Result<Address, DsnError> {
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
    match host.contains(odd) {
        true => Err(DsnError::Host),
        false => Ok(Address::Tcp { host: host.into(), port }),
    }
}

/// What follows `mysql://`. Here the delimiters are searched from the left and each part is percent-encoded, as in any URL.
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
        Some(socket) => Address::Unix { socket },
        // A server behind a socket is spelled `%2Fpath` in the place of the host.
        None => match unescape(place, false).ok_or(DsnError::Host)? {
            socket if socket.starts_with('/') => Address::Unix { socket: socket.into() },
            host => tcp(&host)?,
        },
    };
    let database = unescape(database, false).filter(|name| !name.contains('/')).ok_or(DsnError::Database)?;
    Ok(Dsn { user, password, address, database: database.into(), params })
}

fn decoded(part: &str) -> Result<Option<Box<str>>, DsnError> {
    unescape(part, false).map(|text| some(&text)).ok_or(DsnError::Login)
}

fn some(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}

/// What is wrong with a data source name.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum DsnError {
    #[error(
        "expected a slash before the database's name, found none; write user:password@tcp(host:3306)/dbname"
    )]
    NoSlash,
    #[error("expected a closing parenthesis behind the address, found none; write tcp(host:3306)/dbname")]
    Parenthesis,
    #[error(
        "found text between the address and the last slash; a slash in the database's name or in a parameter is \
         written %2F"
    )]
    Unescaped,
    #[error("expected tcp or unix before the address, found another protocol")]
    Protocol,
    #[error(
        "expected an IPv6 address in brackets and perhaps a port, such as [::1]:3306, found another form"
    )]
    Bracket,
    #[error("expected a port from 1 to 65535 behind the host, found something else")]
    Port,
    #[error("expected the name or the number of a host, found characters that neither has")]
    Host,
    #[error("expected user:password, percent-encoded (an @ is %40, a % is %25), found a % of no encoding")]
    Login,
    #[error("expected a database's name, percent-encoded (a % is %25, a / is %2F), found another form")]
    Database,
    #[error("found a password and no user; write user:password@")]
    NoUser,
    #[error("found a zero byte, which no part can have")]
    Nul,
    #[error(
        "a certificate is verified against a host's name, and a socket has none; drop tls or take tls=skip-verify"
    )]
    VerifiedSocket,
    #[error("parameter {place}: expected name=value, found no =")]
    NoValue { place: usize },
    #[error(
        "parameter {place}: expected a value whose %, & and / are percent-encoded, found a % of no encoding"
    )]
    Encoding { place: usize },
    #[error("parameter {place} is no known one; did you mean {nearest}?")]
    Unknown { place: usize, nearest: &'static str },
    #[error("parameter {place} is neither one of the driver's nor the name of a system variable")]
    Name { place: usize },
    #[error("{name}: expected {expected}, found another value")]
    Value { name: &'static str, expected: &'static str },
    #[error("{name} cannot be honoured: {why}")]
    Refused { name: &'static str, why: &'static str },
    #[error(
        "the system variable that parameter {place} sets: expected a number, a word, or a text in single quotes \
         (%27) without quotes and backslashes in it, found another value"
    )]
    Literal { place: usize },
}
