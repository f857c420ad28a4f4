//! The errors with which each release refuses commands, and the provider's reactions.

use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, ErrorKind, ManualClock, Principal, Provider, RedisProvider,
    providers::{Created, IndexEntry, StoreKey, Touched, Updated},
};
use servers::{Flavor, Redis, RedisOptions};

const RELEASES: [Flavor; 3] = [Flavor::Redis62, Flavor::Redis70, Flavor::Valkey9];

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

fn with(flavor: Flavor, settings: &[&str]) -> Redis {
    let settings = settings.iter().map(|&word| word.to_owned()).collect();
    Redis::with(RedisOptions { settings, ..RedisOptions::of(flavor) })
}

async fn creates(provider: &RedisProvider, name: &str) -> cloakroom::Result<Created> {
    provider.create(&key(name), &record(&Clock::system()).principal("alice").build()).await
}

/// Checks that a change is refused with a 503 that names its cause, and that reads still work.
async fn refuses(provider: &RedisProvider, cause: &str) {
    let error = creates(provider, "refused").await.unwrap_err();
    assert_eq!(error.status(), http::StatusCode::SERVICE_UNAVAILABLE, "{error}");
    assert!(error.to_string().contains(cause), "{cause}: {error}");
    assert!(provider.load(&key("aa")).await.unwrap().is_some(), "a stored session can be read");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_full_server_prolongs_and_ends_its_sessions() {
    for flavor in RELEASES {
        let redis = Redis::with(RedisOptions::of(flavor));
        let provider = RedisProvider::connect(redis.url()).await.unwrap();
        for name in ["aa", "bb", "cc"] {
            assert_eq!(creates(&provider, name).await.unwrap(), Created::Done);
        }
        redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
        refuses(&provider, "Redis is full").await;
        // The deadline enters another eighth of the idle timeout, so that the sets change as well.
        let clock = Clock::system();
        let later = clock.now() + Duration::from_secs(18_200);
        let touched = provider.touch(&key("aa"), later).await.unwrap();
        assert_eq!(touched, Touched::Done, "{flavor:?}: a session in use is prolonged");
        let ttl = redis.ask::<i64>(&["TTL", "cloakroom:{0}:session:aa"]);
        assert!(ttl > 19_000, "{flavor:?}: {ttl}");
        assert!(
            provider.load(&key("aa")).await.unwrap().unwrap().expires()
                > clock.now() + Duration::from_secs(19_000)
        );
        // A logout leaves either a tombstone or no record.
        let tombstone = record(&clock).version(2).tombstone(&key("dd"), Duration::from_secs(60));
        assert_eq!(
            provider.update(&key("bb"), &tombstone, &base(1)).await.unwrap(),
            Updated::Done,
            "{flavor:?}"
        );
        assert!(provider.delete(&key("cc")).await.unwrap(), "{flavor:?}");
        assert_eq!(provider.count().await.unwrap(), 1);
        let alice = Principal::new("alice").unwrap();
        assert_eq!(provider.indexed(&IndexEntry::from(&alice), None, 10).await.unwrap().entries.len(), 1);
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_replica_refuses_changes_and_is_counted() {
    for flavor in RELEASES {
        let redis = Redis::with(RedisOptions::of(flavor));
        let time = ManualClock::default();
        let provider = RedisProvider::builder(redis.url()).clock(time.clock()).connect().await.unwrap();
        for (name, lifetime) in [("aa", 600), ("bb", 60)] {
            let record = record(&time.clock()).principal("alice").idle(Duration::from_secs(lifetime)).build();
            assert_eq!(provider.create(&key(name), &record).await.unwrap(), Created::Done);
        }
        redis.ask::<()>(&["REPLICAOF", "127.0.0.1", &servers::free_port().to_string()]);
        refuses(&provider, "READONLY to").await;
        time.advance(Duration::from_secs(60));
        assert_eq!(provider.count().await.unwrap(), 1, "{flavor:?}: a count needs no write");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_server_that_cannot_save_is_named_as_the_cause() {
    for flavor in RELEASES {
        let folder = tempfile::tempdir().unwrap();
        let redis = with(flavor, &["--dir", folder.path().to_str().unwrap(), "--save", "3600", "1"]);
        let provider = RedisProvider::connect(redis.url()).await.unwrap();
        assert_eq!(creates(&provider, "aa").await.unwrap(), Created::Done);
        drop(folder);
        let _ = redis.try_ask::<String>(&["BGSAVE"]);
        servers::until(Duration::from_secs(20), "a save that fails", || {
            let info = redis.ask::<String>(&["INFO", "persistence"]);
            info.contains("rdb_last_bgsave_status:err").then_some(())
        });
        refuses(&provider, "MISCONF to").await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_server_without_its_replicas_is_named_as_the_cause() {
    // Redis 6.2 does not look at min-replicas-to-write in scripts.
    for flavor in [Flavor::Redis70, Flavor::Valkey9] {
        let redis = Redis::with(RedisOptions::of(flavor));
        let provider = RedisProvider::connect(redis.url()).await.unwrap();
        assert_eq!(creates(&provider, "aa").await.unwrap(), Created::Done);
        redis.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        refuses(&provider, "NOREPLICAS to").await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_missing_right_is_named_when_connecting() {
    for flavor in RELEASES {
        let users = [
            ("all", "~cloakroom:* +@read +@write +@connection +@scripting +wait +info", ""),
            ("noinfo", "~cloakroom:* +@read +@write +@connection +@scripting +wait", ""),
            ("noeval", "~cloakroom:* +@all -eval", "this user may not run EVAL;"),
            ("noevalsha", "~cloakroom:* +@all -evalsha", "this user may not run EVALSHA;"),
            ("noget", "~cloakroom:* +@all -get", "this user may not run GET;"),
            ("reader", "~cloakroom:* +@read +@connection +@scripting +info", "in a script"),
            ("nozadd", "~cloakroom:* +@all -zadd", "this user may not run ZADD in a script;"),
            ("elsewhere", "~shop:* +@all", "this user may not use keys that begin with the prefix;"),
        ];
        let lines = users.map(|(name, rights, _)| format!("{name} on >secret {rights}")).to_vec();
        let redis = Redis::with(RedisOptions { users: lines, ..RedisOptions::of(flavor) });
        for (name, _, cause) in users {
            let opened = RedisProvider::builder(redis.url()).credentials(name, "secret").connect().await;
            if cause.is_empty() {
                assert_eq!(
                    creates(&opened.unwrap(), name).await.unwrap(),
                    Created::Done,
                    "{flavor:?} {name}"
                );
                continue;
            }
            let error = opened.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{flavor:?} {name}: {error}");
            let text = error.to_string();
            assert!(text.contains("NOPERM") && text.contains(cause), "{flavor:?} {name}: {text}");
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_server_that_refuses_info_works_and_logs_a_warning() {
    for flavor in RELEASES {
        let redis = with(flavor, &["--rename-command", "INFO", ""]);
        let (opened, log) = super::server::logged(RedisProvider::connect(redis.url())).await;
        assert!(log.contains("Redis refuses INFO"), "{flavor:?}: {log}");
        assert_eq!(creates(&opened.unwrap(), "aa").await.unwrap(), Created::Done);
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_renamed_command_is_an_error_when_connecting() {
    let redis = with(Flavor::Redis70, &["--rename-command", "EVAL", ""]);
    let error = RedisProvider::connect(redis.url()).await.unwrap_err().to_string();
    assert!(error.contains("does not know a command that the provider needs"), "{error}");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn tls_on_only_one_side_is_named_as_the_cause() {
    let plain = Redis::start();
    let url = format!("rediss://{}/", plain.address());
    let error = RedisProvider::connect(url).await.unwrap_err().to_string();
    assert!(error.contains("TLS"), "{error}");
    let url = super::fixtures::tls_url().replace("rediss://", "redis://");
    let error = RedisProvider::connect(url).await.unwrap_err().to_string();
    assert!(error.contains("use rediss:// if it expects TLS"), "{error}");
}
