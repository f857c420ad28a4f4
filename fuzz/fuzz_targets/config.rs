//! Any text as a configuration string: a config or an error, never a panic, and no output reveals the key of the id hash.
#![no_main]

use std::error::Error;
use std::fmt;

use cloakroom::{Manager, MemoryProvider, config::Config};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use serde_json::{Deserializer, Value};

fuzz_target!(|text: &str| {
    let seen = seen(text);
    if serde_json::from_str::<Value>(text).is_err() {
        // The key can be anywhere in this text, so the message must contain nothing of it.
        let message = Config::from_json(text).expect_err("a configuration must be JSON").to_string();
        let words: String = message.chars().filter(|char| !char.is_ascii_digit()).collect();
        assert_eq!(
            words,
            "the session configuration cannot work: expected a JSON object of settings, found other text \
             (line , column )"
        );
    } else if let Some(entries) = entries(text) {
        // All output is the same for two different keys, so it does not reveal the key.
        let [one, other] = ['1', '2'].map(|digit| self::seen(&with_key_of(&entries, digit)));
        assert_eq!(one, other);
    } else {
        assert!(seen.starts_with("refused"), "settings that are no object: {seen}");
    }
});

/// Returns all output about the settings in `text`, or about their error.
fn seen(text: &str) -> String {
    let config = match Config::from_json(text) {
        Ok(config) => config,
        Err(error) => return refused(&error),
    };
    let settings = format!("{config:?}");
    match Manager::with_config(MemoryProvider::new(), config).build() {
        Ok(manager) => format!("{settings} {manager:?} {:?}", manager.advice()),
        Err(error) => refused(&error) + &settings,
    }
}

fn refused(error: &cloakroom::Error) -> String {
    let mut all = format!("refused: {error} {error:?}");
    let mut cause = error.source();
    while let Some(deeper) = cause {
        all += &format!(" {deeper} {deeper:?}");
        cause = deeper.source();
    }
    all
}

/// Returns the settings with the key of the id hash replaced by one of the same type, made of `digit`.
fn with_key_of(entries: &[(String, &RawValue)], digit: char) -> String {
    let entry = |(name, value): &(String, &RawValue)| {
        let value = match value.get().as_bytes() {
            value if !name.eq_ignore_ascii_case("sessionIDHashKey") => {
                String::from_utf8_lossy(value).into_owned()
            }
            [b'"', _, _, ..] if value.get() != r#""""# => format!(r#""{digit}{digit}""#),
            [b'[', ..] => format!("[{digit}]"),
            [b'{', ..] => format!(r#"{{"k":{digit}}}"#),
            [b'0'..=b'9', ..] => digit.to_string(),
            other => String::from_utf8_lossy(other).into_owned(),
        };
        format!("{}:{value}", Value::from(name.as_str()))
    };
    format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
}

/// Returns the entries of an object, including repeated keys; `None` for other JSON.
fn entries(text: &str) -> Option<Vec<(String, &RawValue)>> {
    struct Entries;

    impl<'de> serde::de::Visitor<'de> for Entries {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(entry) = map.next_entry()? {
                all.push(entry);
            }
            Ok(all)
        }
    }

    serde::Deserializer::deserialize_map(&mut Deserializer::from_str(text), Entries).ok()
}
