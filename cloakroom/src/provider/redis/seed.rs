//! The string door: the seed's strings and JSON, and URLs in their place.

use serde_json::{Map, Value};

use super::error::StoreError;
use super::settings::{Secret, Settings, number};
use super::url::{self, Kind};

/// Reads a `providerConfig` of the provider named `redis`, `redis_cluster` or `redis_sentinel`.
pub(super) fn parse(text: &str, kind: Kind) -> Result<Settings, StoreError> {
    let text = text.trim();
    if text.starts_with('{') {
        return json(text, kind);
    }
    match url::is_url(text) {
        true => url::parse(text, kind),
        false => fields(text, kind),
    }
}

/// `address,pool,password,db,idle_timeout_s,idle_check_s,max_retries`; for sentinels the master's name after the database.
/// What is left out or empty takes its default.
fn fields(text: &str, kind: Kind) -> Result<Settings, StoreError> {
    let mut fields = text.split(',').map(|field| Some(field.trim()).filter(|field| !field.is_empty()));
    let mut next = || fields.next().flatten();
    let mut settings = of_path(next().unwrap_or_default(), kind)?;
    if let Some(pool) = next() {
        settings.set("poolsize", pool)?;
    }
    // 0 is the seed's word for the default, too.
    if settings.pool == 0 {
        settings.pool = DEFAULT_POOL;
    }
    settings.credentials.password = next().map(|password| Secret(password.into()));
    if let Some(database) = next() {
        settings.database = number("db_num", database)?;
    }
    if kind == Kind::Sentinels
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

/// What Beego's providers open where no number is given.
const DEFAULT_POOL: usize = 100;

fn of_path(path: &str, kind: Kind) -> Result<Settings, StoreError> {
    if url::is_url(path) {
        return url::parse(path, kind);
    }
    let port = if kind == Kind::Sentinels { Settings::SENTINEL_PORT } else { Settings::DEFAULT_PORT };
    let topology = url::topology(kind, url::addresses(path, ';', port)?, "")?;
    Ok(Settings { pool: DEFAULT_POOL, ..Settings::new(topology) })
}

fn json(text: &str, kind: Kind) -> Result<Settings, StoreError> {
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
        // The seed's documents leave these empty.
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
    use crate::provider::redis::settings::{Address, Topology};

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    #[test]
    fn the_documentations_own_string_is_read() {
        let settings = parse("127.0.0.1:6379,100,astaxie", Kind::Server).unwrap();
        assert_eq!(settings.topology, Topology::Server(tcp("127.0.0.1", 6379)));
        assert_eq!((settings.pool, settings.database), (100, 0));
        assert_eq!(&*settings.credentials.password.unwrap().0, "astaxie");
    }

    #[test]
    fn the_later_fields_are_read_and_empty_ones_take_their_defaults() {
        let settings = parse("127.0.0.1:6379,20,,3,180,30,5", Kind::Server).unwrap();
        assert_eq!((settings.pool, settings.database, settings.retries), (20, 3, 5));
        assert_eq!(settings.idle_timeout, Some(Duration::from_secs(180)));
        assert_eq!(settings.credentials.password, None);
        let settings = parse("127.0.0.1:6379", Kind::Server).unwrap();
        assert_eq!((settings.pool, settings.database, settings.idle_timeout), (100, 0, None));
        assert_eq!(parse("h:1,0,,,,,", Kind::Server).unwrap().pool, 100);
    }

    #[test]
    fn clusters_and_sentinels_have_semicolons_between_addresses() {
        let settings = parse("127.0.0.1:7000;127.0.0.1:7001,100,pw,0,180,30,5", Kind::Cluster).unwrap();
        assert_eq!(
            settings.topology,
            Topology::Cluster(vec![tcp("127.0.0.1", 7000), tcp("127.0.0.1", 7001)])
        );
        assert_eq!(settings.retries, 5);
        let settings = parse("127.0.0.1:26379;127.0.0.2,100,1qaz2wsx,2,sessions", Kind::Sentinels).unwrap();
        let sentinels = vec![tcp("127.0.0.1", 26379), tcp("127.0.0.2", 26379)];
        assert_eq!(settings.topology, Topology::Sentinels { sentinels, master: "sessions".into() });
        assert_eq!(settings.database, 2);
    }

    #[test]
    fn the_json_form_takes_all_keys() {
        let text = r#"{"save_path":"127.0.0.1:6379","poolsize":7,"password":"a,b","db_num":4,"idle_timeout":"3m",
            "idle_check_frequency":"1m","max_retries":1}"#;
        let settings = parse(text, Kind::Server).unwrap();
        assert_eq!((settings.pool, settings.database, settings.retries), (7, 4, 1));
        assert_eq!(settings.idle_timeout, Some(Duration::from_secs(180)));
        assert_eq!(&*settings.credentials.password.unwrap().0, "a,b");
        let text = r#"{"save_path":"redis://app:pw@h:1/2","password":"","idle_timeout":"","poolsize":0,"prefix":"shop"}"#;
        let settings = parse(text, Kind::Server).unwrap();
        assert_eq!((settings.database, &*settings.prefix, settings.pool), (2, "shop", 8));
        assert_eq!(&*settings.credentials.password.unwrap().0, "pw");
        let text = r#"{"save_path":"s:1;t:2","master_name":"sessions"}"#;
        let Topology::Sentinels { master, .. } = parse(text, Kind::Sentinels).unwrap().topology else {
            panic!()
        };
        assert_eq!(&*master, "sessions");
    }

    #[test]
    fn a_string_of_another_form_is_refused_and_never_shown() {
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
            let error = parse(text, Kind::Server).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("expected") && !shown.contains("hunter2"), "{text}: {shown}");
        }
    }
}
