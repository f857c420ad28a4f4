//! Any text as a data source name: an answer, never a panic, and nothing that is shown tells the user or the password.
#![no_main]

use std::error::Error;

use cloakroom::MySqlProvider;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let shown = seen(text);
    // Whatever stands there, a login of other words of the same form must look the same.
    for dsn in [(text, "tcp(db:3306)/app"), (text, "unix(/s)/app?tls=false&pool=3")].map(with_login) {
        let [one, other] = dsn;
        assert_eq!(seen(&one), seen(&other));
    }
    // A refusal quotes nothing, so it is no longer for a longer text.
    assert!(!shown.starts_with("refused") || shown.len() < 2_000, "{shown}");
});

/// What a caller sees of the settings in `text`, or of why they are refused.
fn seen(text: &str) -> String {
    match MySqlProvider::builder(text) {
        Ok(builder) => format!("{builder:?}"),
        Err(error) => {
            let mut all = format!("refused: {error} {error:?}");
            let mut cause = error.source();
            while let Some(deeper) = cause {
                all += &format!(" {deeper} {deeper:?}");
                cause = deeper.source();
            }
            all
        }
    }
}

/// The text as a password, and one of the same length and form but other words.
fn with_login((text, place): (&str, &str)) -> [String; 2] {
    let other: String = text
        .chars()
        .map(|char| match char {
            'a'..='y' | 'A'..='Y' | '0'..='8' => char::from_u32(char as u32 + 1).unwrap_or(char),
            other => other,
        })
        .collect();
    [text, &other].map(|password| format!("user:{password}@{place}"))
}
