//! Parses `providerConfig`: Beego's comma-separated strings and JSON objects, and URLs.

use serde_json::{Map, Value};

use super::error::StoreError;
use super::settings::{RedisSettings, Secret, number};
use super::url::{self, TopologyKind};

/// Parses the `providerConfig` of the provider named `redis`, `redis_cluster` or `redis_sentinel`.
pub(super) fn parse(text: &str, kind: TopologyKind) -> Result<RedisSettings, StoreError> {
    let text = text.trim();
    if text.starts_with('{') {
        return json(text, kind);
    }
    if url::is_url(text) { url::parse(text, kind) } else { fields(text, kind) }
}

/// Parses `address,pool,password,db,idle_timeout_s,idle_check_s,max_retries`. For sentinels the primary's name follows the
/// database. A field that is missing or empty takes its default.
fn fields(text: &str, kind: TopologyKind) -> Result<RedisSettings, StoreError> {
    let mut fields = text.split(',').map(|field| Some(field.trim()).filter(|field| !field.is_empty()));
    let mut next = || fields.next().flatten();
    let mut settings = of_path(next().unwrap_or_default(), kind)?;
    if let Some(pool) = next() {
        settings.set("poolsize", pool)?;
    }
    // In Beego's string, 0 also means the default.
    if settings.pool == 0 {
        settings.pool = DEFAULT_POOL;
    }
    settings.credentials.password = next().map(|password| Secret(password.into()));
    if let Some(database) = next() {
        settings.database = number("db_num", database)?;
    }
    if kind == TopologyKind::Sentinels
        && let Some(master) = next()
    {
        settings.set("master_name", master)?;
    }
    for key in ["idle_timeout", "idle_check_frequency", "max_retries"] {
        if let Some(value) = next() {
            settings.set(key, value)?;
        }
    }
    match fields.next() {
        None => Ok(settings),
        Some(_) => {
            let expected = "address,pool,password,db,idle_timeout,idle_check,max_retries; a password with a comma needs the JSON form";
            Err(StoreError::setting("providerConfig", expected, "more fields"))
        }
    }
}

/// The pool size of Beego's providers if none is configured.
const DEFAULT_POOL: usize = 100;

fn of_path(path: &str, kind: TopologyKind) -> Result<RedisSettings, StoreError> {
    if url::is_url(path) {
        return url::parse(path, kind);
    }
    let port = if kind == TopologyKind::Sentinels {
        RedisSettings::SENTINEL_PORT
    } else {
        RedisSettings::DEFAULT_PORT
    };
    let topology = url::topology(kind, url::addresses(path, ';', port)?, "")?;
    Ok(RedisSettings { pool: DEFAULT_POOL, ..RedisSettings::new(topology) })
}

fn json(text: &str, kind: TopologyKind) -> Result<RedisSettings, StoreError> {
    let wrong = |found: &str| StoreError::setting("providerConfig", "an object of settings in JSON", found);
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|_| wrong("other text"))?;
    let path = ["save_path", "SavePath"].iter().find_map(|key| object.get(*key));
    let path = path
        .and_then(Value::as_str)
        .ok_or_else(|| StoreError::setting("save_path", "the address, or a URL, as a text", "none"))?;
    let mut settings = of_path(path, kind)?;
    for (key, value) in
        object.iter().filter(|(key, _)| !key.eq_ignore_ascii_case("save_path") && *key != "SavePath")
    {
        let key = key.to_ascii_lowercase();
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => {
                return Err(StoreError::setting("providerConfig", "texts and numbers as values", "others"));
            }
        };
        // Beego's documentation leaves these empty.
        let empty = value.is_empty();
        match &*key {
            "password" | "username" | "master_name" | "idle_timeout" | "idle_check_frequency" if empty => {}
            "poolsize" if value == "0" => {}
            _ => settings.set(&key, &value)?,
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::provider::redis::settings::{ServerAddress, Topology};

    fn tcp(host: &str, port: u16) -> ServerAddress {
        ServerAddress::Tcp { host: host.into(), port }
    }

    #[test]
    fn the_string_of_beegos_documentation_is_parsed() {
        let settings = parse("127.0.0.1:6379,100,astaxie", TopologyKind::Server).unwrap();
        assert_eq!(settings.topology, Topology::Server(tcp("127.0.0.1", 6379)));
        assert_eq!((settings.pool, settings.database), (100, 0));
        assert_eq!(&*settings.credentials.password.unwrap().0, "astaxie");
    }

    #[test]
    fn later_fields_are_parsed_and_empty_ones_take_defaults() {
        let settings = parse("127.0.0.1:6379,20,,3,180,30,5", TopologyKind::Server).unwrap();
        assert_eq!((settings.pool, settings.database, settings.retries), (20, 3, 5));
        assert_eq!(settings.idle_timeout, Some(Duration::from_secs(180)));
        assert_eq!(settings.credentials.password, None);
        let settings = parse("127.0.0.1:6379", TopologyKind::Server).unwrap();
        assert_eq!((settings.pool, settings.database, settings.idle_timeout), (100, 0, None));
        assert_eq!(parse("h:1,0,,,,,", TopologyKind::Server).unwrap().pool, 100);
    }

    #[test]
    fn semicolons_separate_addresses_of_clusters_and_sentinels() {
        let settings =
            parse("127.0.0.1:7000;127.0.0.1:7001,100,pw,0,180,30,5", TopologyKind::Cluster).unwrap();
        assert_eq!(
            settings.topology,
            Topology::Cluster(vec![tcp("127.0.0.1", 7000), tcp("127.0.0.1", 7001)])
        );
        assert_eq!(settings.retries, 5);
        let settings =
            parse("127.0.0.1:26379;127.0.0.2,100,1qaz2wsx,2,sessions", TopologyKind::Sentinels).unwrap();
        let sentinels = vec![tcp("127.0.0.1", 26379), tcp("127.0.0.2", 26379)];
        assert_eq!(settings.topology, Topology::Sentinels { sentinels, master: "sessions".into() });
        assert_eq!(settings.database, 2);
    }

    #[test]
    fn the_json_form_holds_any_setting() {
        let text = r#"{"save_path":"127.0.0.1:6379","poolsize":7,"password":"a,b","db_num":4,"idle_timeout":"3m",
            "idle_check_frequency":"1m","max_retries":1}"#;
        let settings = parse(text, TopologyKind::Server).unwrap();
        assert_eq!((settings.pool, settings.database, settings.retries), (7, 4, 1));
        assert_eq!(settings.idle_timeout, Some(Duration::from_secs(180)));
        assert_eq!(&*settings.credentials.password.unwrap().0, "a,b");
        let text = r#"{"save_path":"redis://app:pw@h:1/2","password":"","idle_timeout":"","poolsize":0,"prefix":"shop"}"#;
        let settings = parse(text, TopologyKind::Server).unwrap();
        assert_eq!((settings.database, &*settings.prefix, settings.pool), (2, "shop", 8));
        assert_eq!(&*settings.credentials.password.unwrap().0, "pw");
        let text = r#"{"save_path":"s:1;t:2","master_name":"sessions"}"#;
        let Topology::Sentinels { master, .. } = parse(text, TopologyKind::Sentinels).unwrap().topology
        else {
            panic!()
        };
        assert_eq!(&*master, "sessions");
    }

    #[test]
    fn a_malformed_string_is_refused_and_never_shown() {
        for text in [
            "",
            "127.0.0.1:port,100,hunter2",
            "127.0.0.1:1;127.0.0.1:2,100,hunter2",
            "127.0.0.1:1,many,hunter2",
            "127.0.0.1:1,hunter2",
            "127.0.0.1:1,1,,hunter2",
            "127.0.0.1:hunter2",
            "127.0.0.1:1,1,hunter2,x",
            "127.0.0.1:1,1,hunter2,0,1,1,1,1",
            r#"{"password":"hunter2"}"#,
            r#"{"save_path":"h","password":["hunter2"]}"#,
            r#"{"save_path":"h","passwort":"hunter2"}"#,
            r#"{"save_path":"h","password":"hunter2""#,
        ] {
            let error = parse(text, TopologyKind::Server).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("expected") && !shown.contains("hunter2"), "{text}: {shown}");
        }
    }
}
