//! The sessions of a user: listed in pages, and complete after evictions.

use std::collections::BTreeSet;
use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, ManualClock, Principal, Provider, RedisProvider,
    providers::{Created, Cursor, IndexEntry, StoreKey, Touched, Updated},
};
use servers::{Redis, RedisOptions};

use super::fixtures::{cluster_url, prefix};

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

fn alice() -> Principal {
    Principal::new("alice").unwrap()
}

/// Returns the names on a page, and the cursor of the next one.
async fn page(provider: &RedisProvider, from: Option<Cursor>, limit: usize) -> (Vec<String>, Option<Cursor>) {
    let page = provider.indexed(&IndexEntry::from(&alice()), from, limit).await.unwrap();
    assert!(page.entries.len() <= limit);
    (page.entries.into_iter().map(|entry| entry.key.as_str().to_owned()).collect(), page.next)
}

/// Returns all names that a walk meets. Runs `meanwhile` between the pages.
async fn walk(
    provider: &RedisProvider,
    limit: usize,
    mut meanwhile: impl AsyncFnMut(usize),
) -> BTreeSet<String> {
    let (mut met, mut from) = (BTreeSet::new(), None);
    for turn in 0.. {
        let (names, next) = page(provider, from, limit).await;
        met.extend(names);
        if next.is_none() {
            break;
        }
        from = next;
        meanwhile(turn).await;
    }
    met
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_user_with_150_000_sessions_is_listed_and_logged_out() {
    let redis = Redis::start();
    let provider = RedisProvider::connect(redis.url()).await.unwrap();
    let session = record(&Clock::system()).principal("alice").value("n", 1).build();
    assert_eq!(provider.create(&key("first"), &session).await.unwrap(), Created::Done);
    // The same record under many names, all with the same scores in the sets.
    let copy =
        "local base, score = 'cloakroom:{0}:', redis.call('ZSCORE', 'cloakroom:{0}:user:alice', 'first')
        local bytes = redis.call('GET', base .. 'session:first')
        for n = ARGV[1], ARGV[1] + 9999 do
            redis.call('SET', base .. 'session:s-' .. n, bytes, 'PX', 3600000)
            for _, set in ipairs({'deadlines', 'keys', 'user:alice'}) do
                redis.call('ZADD', base .. set, set == 'keys' and 0 or score, 's-' .. n)
            end
        end";
    for from in (10_001..160_000).step_by(10_000) {
        redis.ask::<()>(&["EVAL", copy, "0", &from.to_string()]);
    }
    assert_eq!(walk(&provider, 1000, async |_| ()).await.len(), 150_001);
    // Some are deleted page by page, each from the start.
    for _ in 0..3 {
        let (names, _) = page(&provider, None, 1000).await;
        assert_eq!(names.len(), 1000);
        for names in names.chunks(20) {
            let keys: Vec<StoreKey> = names.iter().map(|name| key(name)).collect();
            for gone in futures_util::future::join_all(keys.iter().map(|key| provider.delete(key))).await {
                assert!(gone.unwrap());
            }
        }
    }
    assert_eq!(provider.count().await.unwrap(), 147_001);
    assert_eq!(walk(&provider, 1000, async |_| ()).await.len(), 147_001);
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_walk_meets_sessions_that_move_while_it_runs() {
    let redis = Redis::start();
    let time = ManualClock::default();
    for url in [redis.url(), cluster_url()] {
        let builder = RedisProvider::builder(url).prefix(prefix()).clock(time.clock());
        let provider = builder.connect().await.unwrap();
        let all: BTreeSet<String> = (0..60).map(|n| format!("session-{n:02}")).collect();
        for (n, name) in all.iter().enumerate() {
            let idle = Duration::from_secs(600 + n as u64 % 7 * 100);
            let session = record(&time.clock()).principal("alice").idle(idle).build();
            assert_eq!(provider.create(&key(name), &session).await.unwrap(), Created::Done);
        }
        for limit in [1, 7, 59, 60, 1000] {
            let met = walk(&provider, limit, async |turn| {
                // Some are prolonged, some shortened, in the order of their names.
                for (n, name) in all.iter().enumerate().filter(|(n, _)| (n + turn).is_multiple_of(5)) {
                    let session = provider.load(&key(name)).await.unwrap().unwrap();
                    let (now, version) = (time.clock().now(), session.version());
                    if n % 2 == 0 {
                        let later = now + Duration::from_secs(1400 + 100 * turn as u64);
                        let touched = provider.touch(&key(name), later).await.unwrap();
                        assert_eq!(touched, Touched::Done);
                    } else {
                        let session = record(&time.clock()).principal("alice").version(version + 1);
                        let shorter = session.idle(Duration::from_secs(300 + n as u64)).build();
                        assert_eq!(
                            provider.update(&key(name), &shorter, &base(version)).await.unwrap(),
                            Updated::Done
                        );
                    }
                }
            });
            assert_eq!(met.await, all, "in pages of {limit}");
        }
    }
}

/// Returns the names of the sessions that the server has.
fn stored(redis: &Redis) -> BTreeSet<String> {
    let keys: Vec<String> = redis.ask(&["KEYS", "cloakroom:{0}:session:*"]);
    keys.into_iter().map(|key| key["cloakroom:{0}:session:".len()..].to_owned()).collect()
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn evicted_sessions_are_not_counted_and_all_others_are_listed() {
    for policy in ["volatile-lru", "volatile-ttl", "volatile-random"] {
        let settings = ["--maxmemory-policy", policy, "--maxmemory", "8mb"].map(str::to_owned).to_vec();
        let redis = Redis::with(RedisOptions { settings, ..RedisOptions::default() });
        let provider = RedisProvider::connect(redis.url()).await.unwrap();
        for n in 0..3000 {
            let session = record(&Clock::system()).principal("alice").filled(2000).build();
            assert_eq!(
                provider.create(&key(&format!("session-{n}")), &session).await.unwrap(),
                Created::Done
            );
        }
        // The server evicts nothing more from here on.
        redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
        let there = stored(&redis);
        assert!(there.len() < 3000, "{policy}: nothing was evicted");
        assert_eq!(walk(&provider, 1000, async |_| ()).await, there, "{policy}: log out everywhere");
        assert_eq!(provider.count().await.unwrap(), there.len() as u64, "{policy}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_users_set_is_removed_with_its_last_session() {
    let redis = Redis::start();
    let time = ManualClock::default();
    let provider = RedisProvider::builder(redis.url()).clock(time.clock()).connect().await.unwrap();
    for name in ["aa", "bb"] {
        let session = record(&time.clock()).principal(name).idle(Duration::from_secs(60)).build();
        assert_eq!(provider.create(&key(name), &session).await.unwrap(), Created::Done);
        // The server has expired the record itself, so its user is no longer known.
        redis.ask::<()>(&["DEL", &format!("cloakroom:{{0}}:session:{name}")]);
    }
    time.advance(Duration::from_secs(600));
    assert_eq!(provider.delete_expired(100).await.unwrap().removed, 2);
    assert_eq!(redis.ask::<Vec<String>>(&["KEYS", "cloakroom:*"]), [""; 0]);
}
