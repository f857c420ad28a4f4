//! Password files: lines of `host:port:database:user:password`, as libpq reads them.

use std::io;
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::hosts::{HostName, ServerHost};
use super::params::Given;

/// The password file, and whether the connection string itself names it.
#[derive(Clone, PartialEq)]
pub(super) struct PasswordFile {
    path: PathBuf,
    is_named: bool,
}

/// A password file that the connection string names and that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("passfile: expected a readable file, found none; check its path and its permissions")]
pub(in super::super) struct PasswordFileError(#[source] io::Error);

impl PasswordFile {
    /// Takes `passfile`. The default is `.pgpass` in the user's home directory.
    pub(super) fn take(given: &mut Given, environment: &Environment) -> Option<PasswordFile> {
        if let Some((origin, path)) = given.take("passfile") {
            return Some(PasswordFile { path: path.into(), is_named: !origin.starts_with('$') });
        }
        let home = environment.home.as_ref()?;
        Some(PasswordFile { path: home.join(".pgpass"), is_named: false })
    }

    /// Returns the password of the first line that fits. The file is read for each connection, so that a new password counts at once.
    pub(super) fn password(
        &self,
        host: &ServerHost,
        database: &str,
        user: &str,
    ) -> Result<Option<Vec<u8>>, PasswordFileError> {
        let content = match read(&self.path) {
            Ok(content) => content,
            Err(error) if self.is_named => return Err(PasswordFileError(error)),
            Err(_) => return Ok(None),
        };
        let hosts = names(host);
        let port = host.port.to_string();
        let fits = |fields: &[Vec<u8>; 4]| {
            let fits = |field: &[u8], value: &str| field == b"*" || unescaped(field) == value.as_bytes();
            hosts.iter().any(|host| fits(&fields[0], host))
                && fits(&fields[1], &port)
                && fits(&fields[2], database)
                && fits(&fields[3], user)
        };
        let mut lines = content.split(|byte| *byte == b'\n').filter_map(fields);
        Ok(lines.find(|(fields, _)| fits(fields)).map(|(_, password)| password))
    }
}

/// Returns the content of the file. A file that others may read is ignored with a warning, as in libpq.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let facts = std::fs::metadata(path)?;
    if !facts.is_file() {
        tracing::warn!("the password file is no regular file, so it is ignored");
        return Ok(Vec::new());
    }
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&facts.permissions()) & 0o077 != 0 {
        tracing::warn!("other users may read the password file, so it is ignored; run chmod 600 on it");
        return Ok(Vec::new());
    }
    std::fs::read(path)
}

/// Returns the names of `host` in the file. A socket is `localhost`, or its folder.
fn names(host: &ServerHost) -> Vec<String> {
    match (&host.name, host.address) {
        (HostName::Tcp(name), _) => vec![name.to_string()],
        (HostName::Socket(folder), _) => vec!["localhost".to_owned(), folder.to_string_lossy().into_owned()],
        (HostName::Unnamed, address) => address.iter().map(ToString::to_string).collect(),
    }
}

/// Splits a line into four fields, still escaped, and the password. A colon or a backslash in a field has a backslash before it.
fn fields(line: &[u8]) -> Option<([Vec<u8>; 4], Vec<u8>)> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.starts_with(b"#") {
        return None;
    }
    let mut rest = line;
    let mut field = || {
        let end = end_of_field(rest);
        let field = rest[..end].to_vec();
        rest = rest.get(end + 1..)?;
        Some(field)
    };
    let fields = [field()?, field()?, field()?, field()?];
    let end = end_of_field(rest);
    Some((fields, unescaped(&rest[..end])))
}

/// Returns the place of the first colon without a backslash before it. libpq ignores what follows the password.
fn end_of_field(text: &[u8]) -> usize {
    let mut end = 0;
    while end < text.len() && text[end] != b':' {
        end += if text[end] == b'\\' { 2 } else { 1 };
    }
    end.min(text.len())
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = field.iter();
    let mut plain = Vec::with_capacity(field.len());
    while let Some(byte) = bytes.next() {
        plain.push(if *byte == b'\\' { *bytes.next().unwrap_or(byte) } else { *byte });
    }
    plain
}
