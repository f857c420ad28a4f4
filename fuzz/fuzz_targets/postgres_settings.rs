//! Any text as a connection string of PostgreSQL: a builder or an error, never a panic, and no output reveals the user or the password.
#![no_main]

use std::error::Error;

use cloakroom::PostgresProvider;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let shown = seen(text);
    // Two logins of the same form must have the same output.
    for write in [url as fn(&str) -> String, pairs] {
        let [one, other] = [text, &shifted(text)].map(write);
        assert_eq!(seen(&one), seen(&other));
    }
    // An error quotes nothing, so its length does not depend on the text.
    assert!(!shown.starts_with("refused") || shown.len() < 2_000, "{shown}");
});

/// Returns all output about the settings in `text`, or about their error.
fn seen(text: &str) -> String {
    match PostgresProvider::builder(text).check() {
        Ok(settings) => settings,
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

fn url(password: &str) -> String {
    let encoded: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("postgres://user:{encoded}@db,[::1]:6432/app?sslmode=require&pool=3")
}

fn pairs(password: &str) -> String {
    let quoted = password.replace('\\', "\\\\").replace('\'', "\\'");
    format!("host=/run/postgresql user=user password = '{quoted}' dbname=app")
}

/// Returns another text of the same form.
fn shifted(text: &str) -> String {
    let shift = |char| match char {
        'a'..='y' | 'A'..='Y' | '0'..='8' => char::from_u32(char as u32 + 1).unwrap_or(char),
        other => other,
    };
    text.chars().map(shift).collect()
}
