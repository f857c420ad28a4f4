//! The errors of opening a connection.

use std::error::Error as StdError;
use std::time::Duration;
use std::{fmt, io};

use tokio_postgres::error::SqlState;

use super::passfile::PasswordFileError;
use super::tls::CertificateFileError;

/// A host that could not be used, or a file that cannot. Hosts count from 1.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum OpenError {
    #[error("host {host}: the connection failed; check that the server runs and can be reached")]
    Connect {
        host: usize,
        #[source]
        cause: DriverError,
    },
    #[error("host {host}: expected an address of the host, found none; check the name and the resolver")]
    Lookup {
        host: usize,
        #[source]
        cause: Option<io::Error>,
    },
    #[error(
        "host {host}: expected a connection within {limit:?}, found none; check that the server runs and can be reached, or raise connect_timeout"
    )]
    Late { host: usize, limit: Duration },
    #[error(
        "host {host}: expected a server that encrypts, found one without TLS; switch its ssl on, or write sslmode=disable on a trusted network"
    )]
    NoTls { host: usize },
    #[error(
        "host {host}: the connection could not be encrypted; check the server's certificate, sslrootcert and the host's name"
    )]
    Handshake {
        host: usize,
        #[source]
        cause: DriverError,
    },
    #[error(
        "host {host}: expected a login by the password or certificate that is given, found that the server asks for another; write password, use a password file, or check channel_binding"
    )]
    Login {
        host: usize,
        #[source]
        cause: DriverError,
    },
    #[error(
        "host {host}: expected a server that is {expected} (target_session_attrs), found another; name one that is"
    )]
    Target { host: usize, expected: &'static str },
    #[error(transparent)]
    PasswordFile(#[from] PasswordFileError),
    #[error(transparent)]
    CertificateFile(#[from] CertificateFileError),
    #[error("the runtime cancelled the reading of a file")]
    Cancelled(#[source] tokio::task::JoinError),
}

impl OpenError {
    /// Returns the driver's error. Its text may quote the user's name.
    pub(in super::super) fn driver_error(&self) -> Option<&tokio_postgres::Error> {
        match self {
            OpenError::Connect { cause, .. }
            | OpenError::Handshake { cause, .. }
            | OpenError::Login { cause, .. } => Some(&cause.0),
            _ => None,
        }
    }

    /// Returns true if only another configuration can help.
    pub(in super::super) fn is_config(&self) -> bool {
        let file = matches!(self, OpenError::PasswordFile(_) | OpenError::CertificateFile(_));
        file || matches!(self, OpenError::NoTls { .. } | OpenError::Login { .. }) || self.is_refusal()
    }

    pub(in super::super) fn is_timeout(&self) -> bool {
        matches!(self, OpenError::Late { .. })
    }

    /// Returns true if the server has refused the login. Like libpq, this ends the search for a host: each one would count it as an attempt.
    fn is_refusal(&self) -> bool {
        let code = self.driver_error().and_then(tokio_postgres::Error::code);
        code.is_some_and(|code| code.code().starts_with("28") || *code == SqlState::INVALID_CATALOG_NAME)
    }

    pub(super) fn ends_search(&self) -> bool {
        let file = matches!(self, OpenError::PasswordFile(_) | OpenError::CertificateFile(_));
        file || self.is_refusal() || matches!(self, OpenError::Login { .. })
    }
}

/// An error of the driver. It shows the server's code alone, since the server's text quotes users and values.
pub(in super::super) struct DriverError(pub(super) tokio_postgres::Error);

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.code() {
            Some(code) => write!(f, "the server answered with SQLSTATE {}", code.code()),
            None => self.0.fmt(f),
        }
    }
}

impl fmt::Debug for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DriverError({self})")
    }
}

impl StdError for DriverError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if self.0.code().is_some() { None } else { self.0.source() }
    }
}
