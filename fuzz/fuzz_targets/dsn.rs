//! Any text as a data source name: a builder or an error, never a panic, and no output reveals the user or the password.
#![no_main]

use std::error::Error;

use cloakroom::MySqlProvider;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let shown = seen(text);
    // Two logins of the same form must have the same output.
    for dsn in [(text, "tcp(db:3306)/app"), (text, "unix(/s)/app?tls=false&pool=3")].map(with_login) {
        let [one, other] = dsn;
        assert_eq!(seen(&one), seen(&other));
    }
    // An error quotes nothing, so its length does not depend on the text.
    assert!(!shown.starts_with("refused") || shown.len() < 2_000, "{shown}");
});

/// Returns all output about the settings in `text`, or about their error.
fn seen(text: &str) -> String {
    let builder = MySqlProvider::builder(text);
    match builder.check() {
        Ok(()) => format!("{builder:?}"),
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

/// Returns two names with a login: one with the text as the password, and one with another password of the same form.
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
