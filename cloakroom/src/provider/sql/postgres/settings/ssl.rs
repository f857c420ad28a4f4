//! The parameters of encryption, as libpq understands them.

use std::path::{Path, PathBuf};

use super::SettingsError;
use super::environment::Environment;
use super::params::Given;

/// The encryption of a connection over TCP (`sslmode`). A socket is never encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    /// Encrypts only if the server refuses a connection in clear text.
    Allow,
    /// Encrypts if the server can.
    Prefer,
    /// Encrypts, and verifies the certificate only if there is a file of authorities.
    Require,
    /// Encrypts, and verifies the certificate's authority.
    VerifyCa,
    /// Encrypts, and verifies the certificate's authority and host name.
    VerifyFull,
}

/// The authorities that a server's certificate is verified with (`sslrootcert`).
#[derive(Clone, PartialEq)]
pub(super) enum Authorities {
    /// The file in the user's home directory, if there is one.
    Default(Option<PathBuf>),
    File(PathBuf),
    /// The certificate store of the operating system.
    System,
    Inline(Box<str>),
}

/// The client's own certificate and its key (`sslcert`, `sslkey`).
#[derive(Clone, PartialEq)]
pub(super) enum ClientCertificate {
    None,
    /// The files in the user's home directory, if there are any.
    Default {
        certificate: PathBuf,
        key: PathBuf,
    },
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    Inline {
        certificate: Box<str>,
        key: Box<str>,
    },
}

#[derive(Clone, PartialEq)]
pub(super) struct SslSettings {
    pub(super) mode: SslMode,
    pub(super) authorities: Authorities,
    pub(super) client: ClientCertificate,
    pub(super) sni: bool,
    /// True if the handshake begins at once, without asking whether the server can encrypt.
    pub(super) direct: bool,
    pub(super) binding: BindingMode,
    pub(super) versions: TlsVersions,
}

/// The use of channel binding by a login with SCRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BindingMode {
    Disable,
    Prefer,
    Require,
}

/// The allowed versions of TLS. At least one is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TlsVersions {
    pub(super) tls12: bool,
    pub(super) tls13: bool,
}

impl SslSettings {
    pub(super) fn take(given: &mut Given, environment: &Environment) -> Result<SslSettings, SettingsError> {
        let folder = environment.home.as_ref().map(|home| home.join(".postgresql"));
        let inline = given.flag("sslinline")?.unwrap_or(false);
        let authorities = match given.text("sslrootcert") {
            Some(pem) if inline => Authorities::Inline(pem),
            Some(name) if &*name == "system" => Authorities::System,
            Some(path) => Authorities::File(PathBuf::from(&*path)),
            None => Authorities::Default(folder.as_ref().map(|folder| folder.join("root.crt"))),
        };
        let mode = mode(given, &authorities)?;
        let client = client(given, inline, folder.as_deref())?;
        let direct = given.word("sslnegotiation", "postgres or direct", |word| match word {
            "postgres" => Some(false),
            "direct" => Some(true),
            _ => None,
        })?;
        let binding = given.word("channel_binding", "disable, prefer or require", |word| match word {
            "disable" => Some(BindingMode::Disable),
            "prefer" => Some(BindingMode::Prefer),
            "require" => Some(BindingMode::Require),
            _ => None,
        })?;
        let settings = SslSettings {
            mode,
            authorities,
            client,
            sni: given.flag("sslsni")?.unwrap_or(true),
            direct: direct.unwrap_or(false),
            binding: binding.unwrap_or(BindingMode::Prefer),
            versions: versions(given)?,
        };
        settings.checked()
    }

    /// Checks the rules that concern several parameters.
    fn checked(self) -> Result<SslSettings, SettingsError> {
        let may_be_plain = matches!(self.mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer);
        if self.direct && may_be_plain {
            let why = "a connection in clear text remains possible; write sslmode=require or better";
            return Err(SettingsError::Refused { name: "sslnegotiation=direct", why });
        }
        if self.binding == BindingMode::Require && self.mode == SslMode::Disable {
            let why = "channel binding needs an encrypted connection; write sslmode=require or better";
            return Err(SettingsError::Refused { name: "channel_binding=require", why });
        }
        if self.authorities == Authorities::System && self.mode != SslMode::VerifyFull {
            let why = "anyone can get a certificate from the system's authorities, so the host name must be verified; write sslmode=verify-full";
            return Err(SettingsError::Refused { name: "sslrootcert=system", why });
        }
        Ok(self)
    }
}

fn mode(given: &mut Given, authorities: &Authorities) -> Result<SslMode, SettingsError> {
    // libpq's name before there was `sslmode`.
    let required = given.flag("requiressl")?.filter(|on| *on).map(|_| SslMode::Require);
    if let Some((name, value)) = given.take("sslmode") {
        return match value.trim() {
            "disable" => Ok(SslMode::Disable),
            "allow" => Ok(SslMode::Allow),
            "prefer" => Ok(SslMode::Prefer),
            "require" => Ok(SslMode::Require),
            "verify-ca" => Ok(SslMode::VerifyCa),
            "verify-full" => Ok(SslMode::VerifyFull),
            registered if registered.starts_with("pqgo-") => {
                let why = "it names a configuration that a Go program has registered; write verify-full, and sslrootcert";
                Err(SettingsError::Refused { name, why })
            }
            _ => Err(SettingsError::Value {
                name,
                expected: "disable, allow, prefer, require, verify-ca or verify-full",
            }),
        };
    }
    let default = if *authorities == Authorities::System { SslMode::VerifyFull } else { SslMode::Prefer };
    Ok(required.unwrap_or(default))
}

fn client(
    given: &mut Given,
    inline: bool,
    folder: Option<&Path>,
) -> Result<ClientCertificate, SettingsError> {
    let sends = given.word("sslcertmode", "disable, allow or require", |word| match word {
        "disable" => Some(Ok(false)),
        "allow" => Some(Ok(true)),
        "require" => Some(Err(())),
        _ => None,
    })?;
    let (certificate, key) = (given.text("sslcert"), given.text("sslkey"));
    let default = |name: &str| folder.map(|folder| folder.join(name));
    match sends.unwrap_or(Ok(true)) {
        Err(()) => {
            let why = "whether the server asks for a certificate is not checked; demand one in the server's pg_hba.conf";
            return Err(SettingsError::Refused { name: "sslcertmode=require", why });
        }
        Ok(false) => return Ok(ClientCertificate::None),
        Ok(true) => {}
    }
    let missing =
        |name| SettingsError::Refused { name, why: "sslcert and sslkey need each other; give both" };
    match (certificate, key) {
        (Some(certificate), Some(key)) if inline => Ok(ClientCertificate::Inline { certificate, key }),
        (None, None) if inline => Ok(ClientCertificate::None),
        (Some(_), None) if inline => Err(missing("sslcert")),
        (Some(certificate), key) => {
            let key = key.map(|key| PathBuf::from(&*key)).or_else(|| default("postgresql.key"));
            let certificate = PathBuf::from(&*certificate);
            Ok(ClientCertificate::Files { certificate, key: key.ok_or(missing("sslcert"))? })
        }
        (None, Some(_)) => Err(missing("sslkey")),
        (None, None) => match (default("postgresql.crt"), default("postgresql.key")) {
            (Some(certificate), Some(key)) => Ok(ClientCertificate::Default { certificate, key }),
            _ => Ok(ClientCertificate::None),
        },
    }
}

/// Takes the range of versions. TLS 1.0 and 1.1 are insecure and never used.
fn versions(given: &mut Given) -> Result<TlsVersions, SettingsError> {
    let expected = "TLSv1.2 or TLSv1.3";
    let least = given.word("ssl_min_protocol_version", expected, version)?.unwrap_or(0);
    let most = match given.take("ssl_max_protocol_version") {
        Some((name, value)) => match version(value.trim()) {
            Some(most) if most >= least.max(2) => most,
            Some(_) => {
                return Err(SettingsError::Refused {
                    name,
                    why: "no version of TLS is left; write TLSv1.3, or remove it",
                });
            }
            None => return Err(SettingsError::Value { name, expected }),
        },
        None => 3,
    };
    Ok(TlsVersions { tls12: least <= 2, tls13: most >= 3 })
}

fn version(word: &str) -> Option<u8> {
    match word {
        "TLSv1" | "TLSv1.0" => Some(0),
        "TLSv1.1" => Some(1),
        "TLSv1.2" => Some(2),
        "TLSv1.3" => Some(3),
        _ => None,
    }
}
