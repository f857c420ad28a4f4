//! The servers that a connection string names, and what a connection needs of them.

use std::net::IpAddr;
use std::path::PathBuf;

use super::SettingsError;
use super::params::{Given, whole};

const PORT: u16 = 5432;

/// A server. `address` is the numeric address of a host whose name must not be looked up.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ServerHost {
    pub(super) name: HostName,
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum HostName {
    /// A name, or a numeric address.
    Tcp(Box<str>),
    /// The folder of a Unix socket.
    Socket(PathBuf),
    /// A host with `hostaddr` alone.
    Unnamed,
}

impl ServerHost {
    pub(super) fn is_socket(&self) -> bool {
        self.address.is_none() && matches!(self.name, HostName::Socket(_))
    }
}

/// Takes `host`, `hostaddr` and `port`. Each is a list, and the lists have the same length.
pub(super) fn take(given: &mut Given) -> Result<Box<[ServerHost]>, SettingsError> {
    let names = given.take("host").map(|(_, value)| value);
    let addresses = given.take("hostaddr");
    let ports = given.take("port");
    let names: Vec<&str> = names.iter().flat_map(|list| list.split(',')).map(str::trim).collect();
    let numbers: Vec<Option<IpAddr>> = match &addresses {
        Some((origin, list)) => list.split(',').map(|one| address(origin, one)).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let count = names.len().max(numbers.len()).max(1);
    if !names.is_empty() && !numbers.is_empty() && names.len() != numbers.len() {
        return Err(SettingsError::HostCount { hosts: names.len(), addresses: numbers.len() });
    }
    let ports: Vec<u16> = match &ports {
        Some((origin, list)) => list.split(',').map(|one| port(origin, one)).collect::<Result<_, _>>()?,
        None => vec![PORT],
    };
    if ports.len() != 1 && ports.len() != count {
        return Err(SettingsError::PortCount { ports: ports.len(), hosts: count });
    }
    let host = |at: usize| {
        let address = numbers.get(at).copied().flatten();
        let name = match names.get(at).copied().unwrap_or_default() {
            "" if address.is_some() => HostName::Unnamed,
            // The default of lib/pq. libpq prefers a socket, whose folder each system has elsewhere.
            "" => HostName::Tcp("localhost".into()),
            name => host_name(name)?,
        };
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
        Ok(ServerHost { name, address, port })
    };
    (0..count).map(host).collect()
}

fn host_name(name: &str) -> Result<HostName, SettingsError> {
    if name.starts_with('@') {
        let why = "sockets without a file are not supported; write the folder of the server's socket";
        return Err(SettingsError::Refused { name: "host", why });
    }
    if name.starts_with('/') {
        return if cfg!(unix) { Ok(HostName::Socket(name.into())) } else { Err(SettingsError::Host) };
    }
    let odd = |char: char| char.is_whitespace() || char.is_control() || "/@?#()[]=&'\\".contains(char);
    if name.contains(odd) { Err(SettingsError::Host) } else { Ok(HostName::Tcp(name.into())) }
}

fn address(origin: &'static str, text: &str) -> Result<Option<IpAddr>, SettingsError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = SettingsError::Value {
        name: origin,
        expected: "numeric addresses such as 10.0.0.5 or ::1, separated by commas",
    };
    text.parse().map(Some).map_err(|_| wrong)
}

fn port(origin: &'static str, text: &str) -> Result<u16, SettingsError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(PORT);
    }
    let port = whole(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    port.ok_or(SettingsError::Value { name: origin, expected: "ports from 1 to 65535, separated by commas" })
}

/// The condition that a server must meet (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetSession {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    /// A standby, or any server if there is none.
    PreferStandby,
}

impl TargetSession {
    pub(super) fn take(given: &mut Given, hosts: usize) -> Result<TargetSession, SettingsError> {
        let expected = "any, read-write, read-only, primary, standby or prefer-standby";
        let target = given.word("target_session_attrs", expected, |word| match word {
            "any" => Some(TargetSession::Any),
            "read-write" => Some(TargetSession::ReadWrite),
            "read-only" => Some(TargetSession::ReadOnly),
            "primary" => Some(TargetSession::Primary),
            "standby" => Some(TargetSession::Standby),
            "prefer-standby" => Some(TargetSession::PreferStandby),
            _ => None,
        })?;
        // Sessions are written, so one of several servers must be one that accepts writes.
        Ok(target.unwrap_or(if hosts > 1 { TargetSession::ReadWrite } else { TargetSession::Any }))
    }
}
