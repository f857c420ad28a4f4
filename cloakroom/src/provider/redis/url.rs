//! Redis URLs: `redis://`, `rediss://`, `unix:`, and those of clusters and sentinels.

use percent_encoding::percent_decode_str;

use super::error::StoreError;
use super::settings::{RedisSettings, Secret, ServerAddress, Topology, address, number};

const FORMS: &str = "redis://host:port/db, rediss://.., unix:///path, redis+cluster://host,host or \
                     redis+sentinel://host,host/master/db, with user:password@ before the host";

/// The kind of installation that plain `redis://` means. `redis://a,b` is a cluster for the provider `redis_cluster`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopologyKind {
    Server,
    Cluster,
    Sentinels,
}

/// Returns true if `text` is a URL, and not a string of comma-separated fields.
pub(super) fn is_url(text: &str) -> bool {
    text.contains("://") || text.starts_with("unix:")
}

/// Parses a URL. `kind` is the kind of installation that plain `redis://` means.
pub(super) fn parse(text: &str, kind: TopologyKind) -> Result<RedisSettings, StoreError> {
    // If a password with a question mark was not escaped, the error would be about another part of the URL.
    let at_end =
        text.split_once('?').is_some_and(|(front, query)| query.contains('@') && !front.contains('@'));
    read(text, kind).map_err(|error| match error {
        StoreError::Setting { .. } if at_end => StoreError::setting(
            "the URL",
            "user and password percent-encoded before the @ (? is %3F, / is %2F, @ is %40, # is %23)",
            "an @ after a question mark",
        ),
        error => error,
    })
}

fn read(text: &str, kind: TopologyKind) -> Result<RedisSettings, StoreError> {
    // The error shows no part of the URL: if a password is not escaped, any part may hold it.
    let wrong = || StoreError::setting("the URL", FORMS, "another form");
    let (scheme, rest) = text.trim().split_once(':').ok_or_else(wrong)?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut settings = match scheme {
        "redis" | "valkey" => with_hosts(rest, kind)?,
        "rediss" | "valkeys" => with_tls(with_hosts(rest, kind)?),
        "redis+cluster" => with_hosts(rest, TopologyKind::Cluster)?,
        "rediss+cluster" => with_tls(with_hosts(rest, TopologyKind::Cluster)?),
        "redis+sentinel" => with_hosts(rest, TopologyKind::Sentinels)?,
        "rediss+sentinel" => with_tls(with_hosts(rest, TopologyKind::Sentinels)?),
        "unix" | "redis+unix" if kind == TopologyKind::Server && !rest.is_empty() => {
            RedisSettings::new(Topology::Server(ServerAddress::Unix(decoded(rest)?.into())))
        }
        _ => return Err(wrong()),
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        // The names in the query of Redis's own `unix:` URLs.
        let key = match key {
            "user" => "username",
            "pass" => "password",
            key => key,
        };
        settings.set(key, &decoded(value)?)?;
    }
    Ok(settings)
}

fn with_tls(settings: RedisSettings) -> RedisSettings {
    RedisSettings { tls: true, ..settings }
}

/// Parses `[user[:password]@]host[:port],..[/path]`. The path is the database, or for sentinels the primary's name and the
/// database.
fn with_hosts(rest: &str, kind: TopologyKind) -> Result<RedisSettings, StoreError> {
    // The hosts begin after the last @. An unescaped slash in a password would end the authority otherwise.
    let (userinfo, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let port = if kind == TopologyKind::Sentinels {
        RedisSettings::SENTINEL_PORT
    } else {
        RedisSettings::DEFAULT_PORT
    };
    let hosts = addresses(hosts, ',', port)?;
    let (master, database) = match kind {
        TopologyKind::Sentinels => path.split_once('/').unwrap_or((path, "")),
        _ => ("", path),
    };
    let mut settings = RedisSettings::new(topology(kind, hosts, &decoded(master)?)?);
    let database = database.trim_matches('/');
    if !database.is_empty() {
        settings.database = number("db_num", database)?;
    }
    if let Some(userinfo) = userinfo {
        let (user, password) = userinfo.split_once(':').map_or((userinfo, None), |(u, p)| (u, Some(p)));
        let user = decoded(user)?;
        settings.credentials.username = Some(user).filter(|user| !user.is_empty()).map(Into::into);
        if let Some(password) = password {
            settings.credentials.password = Some(Secret(decoded(password)?.into()));
        }
    }
    Ok(settings)
}

pub(super) fn addresses(text: &str, between: char, port: u16) -> Result<Vec<ServerAddress>, StoreError> {
    text.split(between).filter(|host| !host.trim().is_empty()).map(|host| address(host, port)).collect()
}

pub(super) fn topology(
    kind: TopologyKind,
    hosts: Vec<ServerAddress>,
    master: &str,
) -> Result<Topology, StoreError> {
    let mut first = hosts.iter();
    match (kind, first.next(), first.next()) {
        (_, None, _) => {
            Err(StoreError::setting("the address", "host:port, such as 127.0.0.1:6379", "nothing"))
        }
        (TopologyKind::Server, Some(address), None) => Ok(Topology::Server(address.clone())),
        (TopologyKind::Server, ..) => {
            let expected = "one address (redis_cluster and redis_sentinel take several)";
            Err(StoreError::setting("the address", expected, "several"))
        }
        (TopologyKind::Cluster, ..) => Ok(Topology::Cluster(hosts)),
        (TopologyKind::Sentinels, ..) => {
            let master = if master.is_empty() { RedisSettings::MASTER } else { master };
            Ok(Topology::Sentinels { sentinels: hosts, master: master.into() })
        }
    }
}

fn decoded(text: &str) -> Result<String, StoreError> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into)
        .map_err(|_| StoreError::setting("the URL", "UTF-8 after percent-decoding", "other bytes"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::provider::redis::settings::ReplicaWait;

    fn tcp(host: &str, port: u16) -> ServerAddress {
        ServerAddress::Tcp { host: host.into(), port }
    }

    fn of(text: &str) -> RedisSettings {
        parse(text, TopologyKind::Server).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_servers_url_holds_user_password_host_and_database() {
        let settings = of("redis://app:p%40ss%2Fword@cache.local:6380/3");
        assert_eq!(settings.topology, Topology::Server(tcp("cache.local", 6380)));
        assert_eq!(settings.credentials.username.as_deref(), Some("app"));
        assert_eq!(&*settings.credentials.password.unwrap().0, "p@ss/word");
        assert_eq!((settings.database, settings.tls), (3, false));

        let settings = of("rediss://:secret@[::1]");
        assert_eq!(settings.topology, Topology::Server(tcp("::1", 6379)));
        assert_eq!((settings.credentials.username, settings.tls), (None, true));
    }

    #[test]
    fn a_sockets_url_holds_its_settings_in_the_query() {
        for text in [
            "unix:///run/redis.sock?db=2&user=app&pass=s%26t",
            "unix:/run/redis.sock?db=2&user=app&pass=s%26t",
        ] {
            let settings = of(text);
            assert_eq!(settings.topology, Topology::Server(ServerAddress::Unix("/run/redis.sock".into())));
            assert_eq!(settings.database, 2);
            assert_eq!(&*settings.credentials.password.unwrap().0, "s&t");
        }
    }

    #[test]
    fn urls_of_clusters_and_sentinels_hold_several_hosts() {
        let cluster = vec![tcp("a", 7000), tcp("b", 6379)];
        assert_eq!(of("redis+cluster://a:7000,b").topology, Topology::Cluster(cluster.clone()));
        assert_eq!(
            parse("redis://a:7000,b", TopologyKind::Cluster).unwrap().topology,
            Topology::Cluster(cluster)
        );
        assert!(of("rediss+cluster://a:7000,b").tls);
        let settings = of("redis+sentinel://:pw@a,b:1/sessions/5");
        let sentinels = vec![tcp("a", 26379), tcp("b", 1)];
        assert_eq!(settings.topology, Topology::Sentinels { sentinels, master: "sessions".into() });
        assert_eq!(settings.database, 5);
        let Topology::Sentinels { master, .. } = of("redis+sentinel://a").topology else { panic!() };
        assert_eq!(&*master, "mymaster");
    }

    #[test]
    fn the_query_holds_any_setting() {
        let settings = of(
            "redis://h?pool=3&connect_timeout=2s&timeout=3&retries=0&prefix=shop&wait=2&wait_timeout=100ms",
        );
        assert_eq!((settings.pool, settings.retries, &*settings.prefix), (3, 0, "shop"));
        assert_eq!(settings.connect_timeout, Duration::from_secs(2));
        assert_eq!(settings.call_timeout, Duration::from_secs(3));
        assert_eq!(settings.wait, Some(ReplicaWait { replicas: 2, limit: Duration::from_millis(100) }));
    }

    #[test]
    fn an_unescaped_password_is_named_as_the_cause() {
        for text in ["redis://app:1234/x?hunter2@h/0", "redis://:a?b@h", "redis://app:p/a?s=1&s@h:1/0"] {
            let error = parse(text, TopologyKind::Server).unwrap_err().to_string();
            assert!(error.contains("percent-encoded") && !error.contains("db_num"), "{text}: {error}");
        }
    }

    #[test]
    fn a_malformed_url_is_refused_and_never_shown() {
        for text in [
            "http://:hunter2@h",
            "redis://:hunter2@",
            "redis://:hunter2@a,b",
            "redis://:hunter2@h:port",
            "redis://:hunter2@h/db",
            "redis://:hunter2@h?colour=blue",
            "redis://:pass?hunter2@h",
            "redis://h/hunter2",
            "redis://h?pool=hunter2",
            "redis://:hunter2%ff@h",
            "unix:?pass=hunter2",
            "redis://:hunter2 @h:0x1",
        ] {
            let error = parse(text, TopologyKind::Server).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("expected") && !shown.contains("hunter2"), "{text}: {shown}");
        }
    }
}
