//! URLs: `postgres://[user[:password]@][host[:port],..][/dbname][?name=value&..]`.

use super::SettingsError;
use super::params::GivenPair;
use crate::provider::sql::escape::unescape;

/// Parses the text after `postgres://`. Each part is percent-encoded.
///
/// The parameters of the authority come first with the place 0, so that those of the query replace them.
pub(super) fn parse(rest: &str) -> Result<Vec<GivenPair>, SettingsError> {
    let (front, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = front.split_once('/').unwrap_or((front, ""));
    // Without its escape, a slash or a question mark in the password ends the authority. The rest would then be read as a name.
    if database.contains('@') || query.contains('@') {
        return Err(SettingsError::Login);
    }
    let mut pairs = Vec::new();
    let mut add = |name: &str, value: String| {
        pairs.push(GivenPair { place: 0, name: name.to_owned(), value });
    };
    let hosts = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            add("user", unescape(user, false).ok_or(SettingsError::Login)?);
            add("password", unescape(password, false).ok_or(SettingsError::Login)?);
            hosts
        }
        None => authority,
    };
    if !hosts.is_empty() {
        let (hosts, ports) = host_lists(hosts)?;
        add("host", hosts);
        add("port", ports);
    }
    add("dbname", unescape(database, false).ok_or(SettingsError::Database)?);
    pairs.extend(parameters(query)?);
    Ok(pairs)
}

/// Parses `host[:port],..` into the lists of the parameters `host` and `port`.
fn host_lists(text: &str) -> Result<(String, String), SettingsError> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for one in text.split(',') {
        let (host, port) = match one.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(SettingsError::Bracket)?;
                let port = match rest {
                    "" => "",
                    rest => rest.strip_prefix(':').ok_or(SettingsError::Bracket)?,
                };
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(SettingsError::Bracket);
                }
                (host, port)
            }
            None => one.split_once(':').unwrap_or((one, "")),
        };
        let host = unescape(host, false).filter(|host| !host.contains(',')).ok_or(SettingsError::Host)?;
        hosts.push(host);
        ports.push(port);
    }
    // `port` of the query may replace this list, so a list of empty ports is left out.
    let ports = if ports.iter().all(|port| port.is_empty()) { String::new() } else { ports.join(",") };
    Ok((hosts.join(","), ports))
}

fn parameters(query: &str) -> Result<Vec<GivenPair>, SettingsError> {
    let mut pairs: Vec<GivenPair> = Vec::new();
    for (place, pair) in query.split('&').enumerate().filter(|(_, pair)| !pair.is_empty()) {
        let place = place + 1;
        let (name, value) = pair.split_once('=').ok_or(SettingsError::NoValue { place })?;
        // libpq reads a plus as itself, and lib/pq as a blank.
        if value.contains('+') {
            return Err(SettingsError::Plus { place });
        }
        let decoded = |text| unescape(text, false).ok_or(SettingsError::Encoding { place });
        let (name, value) = (decoded(name)?, decoded(value)?);
        // libpq uses the last of two values, and lib/pq the first.
        if pairs.iter().any(|before| before.name == name && before.value != value) {
            return Err(SettingsError::Twice { place });
        }
        // JDBC's name, which libpq understands in URLs.
        let (name, value) = match (&*name, &*value) {
            ("ssl", "true") => ("sslmode".to_owned(), "require".to_owned()),
            _ => (name, value),
        };
        pairs.push(GivenPair { place, name, value });
    }
    Ok(pairs)
}
