//! Parts that the readers share: the bounds of stored sessions, and values in JSON text.

use serde_json::{Map, Value};

use super::OldSession;
use crate::error::{Error, ErrorKind};

/// The largest old record that is parsed, in bytes. A manager's own limit is 64 KiB by default.
pub(crate) const LARGEST: usize = 1 << 20;

/// The deepest nesting that is parsed: that of `serde_json`. A manager's own limit is 32 by default.
#[allow(dead_code, reason = "not every reader needs it, and each is a feature")]
pub(crate) const MAX_DEPTH: usize = 128;

/// Returns the error of an old session that cannot be read.
pub(crate) fn corrupt(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Corrupt, error)
}

/// Sets the values of `session` to those in `texts`, each of which is JSON text. Returns false if one is not.
#[allow(dead_code, reason = "not every reader has values in JSON text, and each is a feature")]
pub(crate) fn insert_texts(session: &mut OldSession, texts: &Map<String, Value>) -> bool {
    texts.iter().all(|(key, text)| {
        let value = text.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        value.map(|value| session.insert(key.as_str(), value)).is_some()
    })
}
