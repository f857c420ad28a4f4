//! The path of the database: a plain path, `sqlite:` with parameters, or a `file:` URL.

use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::provider::durability::Durability;

const NAMES: [&str; 6] = ["create_table", "deadline", "durability", "mode", "readers", "table"];

/// A parsed path. A parameter that is not given is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Address {
    pub(super) path: PathBuf,
    pub(super) table: Option<String>,
    pub(super) durability: Option<Durability>,
    pub(super) deadline: Option<Duration>,
    pub(super) readers: Option<usize>,
    pub(super) create: Option<bool>,
}

impl Address {
    /// Parses `given`. A text that begins with `sqlite:` or `file:` is a URL, and any other is a path.
    pub(super) fn parse(given: &Path) -> Result<Address, AddressError> {
        let text = given.to_str().unwrap_or_default();
        let url = ["sqlite:", "file:"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let Some(url) = url else {
            return match text {
                ":memory:" => Err(AddressError::Memory),
                _ if given.as_os_str().is_empty() => Err(AddressError::Empty),
                _ => Ok(Address { path: given.to_owned(), ..Address::default() }),
            };
        };
        let url = url.split_once('#').map_or(url, |(url, _)| url);
        let (path, params) = url.split_once('?').unwrap_or((url, ""));
        let path = decoded(without_host(path, text.starts_with("file:"))?).ok_or(AddressError::Encoding)?;
        match &*path {
            ":memory:" => return Err(AddressError::Memory),
            "" => return Err(AddressError::Empty),
            _ => {}
        }
        let mut address = Address { path: path.into(), ..Address::default() };
        for pair in params.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(AddressError::NoValue)?;
            let value = decoded(value).ok_or(AddressError::Encoding)?;
            address.set(name, &value)?;
        }
        Ok(address)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), AddressError> {
        let wrong = |name, expected| AddressError::Value { name, expected };
        match name {
            "table" => self.table = Some(value.to_owned()),
            "durability" => {
                let parsed = value.parse().map_err(|_| wrong("durability", "atomic or durable"))?;
                self.durability = Some(parsed);
            }
            "deadline" => {
                let parsed = duration(value).ok_or(wrong("deadline", "a time such as 500ms or 2s"))?;
                self.deadline = Some(parsed);
            }
            "readers" => {
                self.readers = Some(value.parse().map_err(|_| wrong("readers", "1 to 64 connections"))?);
            }
            "create_table" => {
                self.create = Some(value.parse().map_err(|_| wrong("create_table", "true or false"))?);
            }
            // As SQLite and its drivers spell it.
            "mode" => match value {
                "rwc" => self.create = Some(true),
                "rw" => self.create = Some(false),
                "memory" => return Err(AddressError::Memory),
                _ => return Err(wrong("mode", "rwc or rw")),
            },
            _ => return Err(AddressError::unknown(name)),
        }
        Ok(())
    }
}

/// Removes the slashes before the path. `file://host/path` names a host, which must be this machine.
fn without_host(path: &str, is_file: bool) -> Result<&str, AddressError> {
    let Some(rest) = path.strip_prefix("//") else { return Ok(path) };
    match rest.strip_prefix("localhost/").or(rest.strip_prefix('/')) {
        // Drivers of SQLite read `sqlite://name` as the relative path `name`.
        None if !is_file => Ok(rest),
        None => Err(AddressError::Host),
        Some(below) => Ok(&rest[rest.len() - below.len() - 1..]),
    }
}

fn decoded(text: &str) -> Option<String> {
    let is_hex =
        |part: &str| part.get(..2).is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let valid = text.split('%').skip(1).all(is_hex);
    let bytes = valid.then(|| percent_decode_str(text).decode_utf8().ok())??;
    Some(bytes.into_owned()).filter(|text| !text.contains('\0'))
}

/// Parses a whole number of `ms`, `s` or `m`; `0` needs no unit.
fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let unit = text.trim_start_matches(|char: char| char.is_ascii_digit());
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    number.checked_mul(factor).map(Duration::from_millis)
}

/// The reason why a path is refused. No message contains the path.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    #[error("expected the path of a file, found nothing; give one such as ./data/sessions.db")]
    Empty,
    #[error(
        "expected the path of a file, found a database in memory, which ends with its connection; use MemoryProvider, which is faster"
    )]
    Memory,
    #[error("expected a path on this machine, found a host; write file:///path")]
    Host,
    #[error("expected text with valid %XX escapes, found other bytes; escape % as %25 and ? as %3F")]
    Encoding,
    #[error("expected name=value after the question mark, found a name alone; write name=value&name=value")]
    NoValue,
    #[error("the parameter {name}: expected {expected}, found another value")]
    Value { name: &'static str, expected: &'static str },
    #[error("expected one of the parameters {known}, found {found:?}{near}", known = NAMES.join(", "))]
    Parameter { found: String, near: String },
}

impl AddressError {
    fn unknown(name: &str) -> Self {
        // A long or strange name may be a value, which no message shows.
        let plain = name.len() <= 30 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let found = if plain { name.to_owned() } else { "another name".to_owned() };
        let lower = name.to_ascii_lowercase();
        let near = NAMES.iter().filter(|_| plain).find(|known| strsim::osa_distance(known, &lower) <= 2);
        AddressError::Parameter {
            found,
            near: near.map_or_else(String::new, |near| format!("; did you mean {near}?")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> String {
        Address::parse(Path::new(text)).unwrap().path.display().to_string()
    }

    fn error(text: &str) -> String {
        Address::parse(Path::new(text)).unwrap_err().to_string()
    }

    #[test]
    fn every_form_of_a_path_is_parsed() {
        for (text, expected) in [
            ("./data/s.db", "./data/s.db"),
            ("/var/lib/app/s.db", "/var/lib/app/s.db"),
            ("a?b.db", "a?b.db"),
            ("sqlite:s.db", "s.db"),
            ("sqlite://s.db", "s.db"),
            ("sqlite:///var/s.db", "/var/s.db"),
            ("sqlite:/var/s.db?table=t", "/var/s.db"),
            ("file:s.db", "s.db"),
            ("file:/var/s.db", "/var/s.db"),
            ("file:///var/s.db", "/var/s.db"),
            ("file://localhost/var/s.db", "/var/s.db"),
            ("file:/var/a%20b%3F.db#part", "/var/a b?.db"),
        ] {
            assert_eq!(path(text), expected, "{text}");
        }
    }

    #[test]
    fn every_parameter_is_parsed() {
        let text =
            "sqlite:s.db?table=visitors&durability=durable&deadline=500ms&readers=3&create_table=false";
        let expected = Address {
            path: "s.db".into(),
            table: Some("visitors".to_owned()),
            durability: Some(Durability::Durable),
            deadline: Some(Duration::from_millis(500)),
            readers: Some(3),
            create: Some(false),
        };
        assert_eq!(Address::parse(Path::new(text)).unwrap(), expected);
        let create = |mode| Address::parse(Path::new(mode)).unwrap().create;
        assert_eq!((create("file:s.db?mode=rwc"), create("file:s.db?mode=rw")), (Some(true), Some(false)));
        let times = [("0", 0), ("2s", 2_000), ("1m", 60_000), ("7ms", 7)];
        for (text, millis) in times {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "2", "s", "-1s", "1h", "1.5s", "99999999999999999999s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_database_in_memory_is_refused() {
        for text in
            [":memory:", "sqlite::memory:", "sqlite://:memory:", "file::memory:", "file:s.db?mode=memory"]
        {
            assert!(error(text).contains("MemoryProvider"), "{text}");
        }
        for text in ["", "sqlite:", "file://localhost/../"] {
            assert!(text.contains("..") || error(text).contains("found nothing"), "{text}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_an_error_with_a_near_match() {
        assert!(error("sqlite:s.db?tabel=x").contains("did you mean table?"));
        assert!(error("sqlite:s.db?Durability=x").contains("did you mean durability?"));
        assert!(error("sqlite:s.db?vfs=x").contains("found \"vfs\""));
        assert!(!error("sqlite:s.db?se%20cret=x").contains("cret"));
        assert!(error("sqlite:s.db?table").contains("name=value"));
        assert!(error("sqlite:s.db?mode=ro").contains("rwc or rw"));
        assert!(error("sqlite:s%zz.db").contains("%XX"));
        assert!(error("file://host/s.db").contains("file:///path"));
    }
}
