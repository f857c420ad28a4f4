//! Each release's answers when it refuses something, and what comes of them.

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

/// A refusal that is answered 503 and names its cause.
async fn refuses(provider: &RedisProvider, cause: &str) {
    let error = creates(provider, "refused").await.unwrap_err();
    assert_eq!(error.status(), http::StatusCode::SERVICE_UNAVAILABLE, "{error}");
    assert!(error.to_string().contains(cause), "{cause}: {error}");
    assert!(provider.load(&key("aa")).await.unwrap().is_some(), "what is there is read");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_full_server_keeps_what_is_used_and_lets_go_what_ends() {
    for flavor in RELEASES {
        let redis = Redis::with(RedisOptions::of(flavor));
        let provider = RedisProvider::connect(redis.url()).await.unwrap();
        for name in ["aa", "bb", "cc"] {
            assert_eq!(creates(&provider, name).await.unwrap(), Created::Done);
        }
        redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
        refuses(&provider, "Redis is full").await;
        // Into another eighth of the idle time, so that it moves in the sets as well.
        let clock = Clock::system();
        let later = clock.now() + Duration::from_secs(18_200);
        let touched = provider.touch(&key("aa"), later).await.unwrap();
        assert_eq!(touched, Touched::Done, "{flavor:?}: a session in use lives on");
        let ttl = redis.ask::<i64>(&["TTL", "cloakroom:{0}:session:aa"]);
        assert!(ttl > 19_000, "{flavor:?}: {ttl}");
        assert!(
            provider.load(&key("aa")).await.unwrap().unwrap().expires()
                > clock.now() + Duration::from_secs(19_000)
        );
        // A logout leaves a tombstone or nothing.
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
        assert_eq!(provider.count().await.unwrap(), 1, "{flavor:?}: a count does without writing");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_server_that_cannot_save_says_so() {
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
async fn a_server_that_lacks_its_replicas_says_so() {
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
async fn a_right_that_is_missing_is_named_when_connecting() {
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
async fn a_server_without_info_serves_and_is_logged() {
    for flavor in RELEASES {
        let redis = with(flavor, &["--rename-command", "INFO", ""]);
        let (opened, log) = super::own::logged(RedisProvider::connect(redis.url())).await;
        assert!(log.contains("does not answer INFO"), "{flavor:?}: {log}");
        assert_eq!(creates(&opened.unwrap(), "aa").await.unwrap(), Created::Done);
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_command_that_was_renamed_is_an_error_when_connecting() {
    let redis = with(Flavor::Redis70, &["--rename-command", "EVAL", ""]);
    let error = RedisProvider::connect(redis.url()).await.unwrap_err().to_string();
    assert!(error.contains("does not know a command that is needed"), "{error}");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn tls_on_one_side_alone_is_named_as_the_cause() {
    let plain = Redis::start();
    let url = format!("rediss://{}/", plain.address());
    let error = RedisProvider::connect(url).await.unwrap_err().to_string();
    assert!(error.contains("TLS"), "{error}");
    let url = super::fixtures::tls_url().replace("rediss://", "redis://");
    let error = RedisProvider::connect(url).await.unwrap_err().to_string();
    assert!(error.contains("use rediss:// if it expects TLS"), "{error}");
}
