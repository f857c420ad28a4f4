//! Strings of the form `name=value name='value with blanks'`, as libpq and lib/pq parse them.

use super::SettingsError;
use super::params::GivenPair;

/// Parses `text`. A backslash takes the next character literally, inside quotes and outside.
///
/// Blanks around `=` are skipped, so an empty value must be written as `''`.
pub(super) fn parse(text: &str) -> Result<Vec<GivenPair>, SettingsError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let place = pairs.len() + 1;
        let end = rest.find(|char: char| char == '=' || char.is_whitespace()).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let after = after.trim_start().strip_prefix('=').ok_or(SettingsError::NoValue { place })?;
        let (value, after) = value(after.trim_start()).ok_or(SettingsError::Quote { place })?;
        pairs.push(GivenPair { place, name: name.to_owned(), value });
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// Splits off the value at the beginning of `text`. Returns `None` if a quote is not closed, or if a backslash ends the text.
fn value(text: &str) -> Option<(String, &str)> {
    let (quoted, text) = match text.strip_prefix('\'') {
        Some(inside) => (true, inside),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => value.push(chars.next()?.1),
            '\'' if quoted => return Some((value, &text[at + 1..])),
            blank if !quoted && blank.is_whitespace() => return Some((value, &text[at..])),
            other => value.push(other),
        }
    }
    (!quoted).then_some((value, ""))
}
