//! The sorted sets beside the sessions. Most changes leave them as they are, and counts and lists are still right.

use std::time::{Duration, SystemTime};

use cloakroom::testkit::{RecordBuilder, base, record};
use cloakroom::{
    ErrorKind, ManualClock, Principal, Provider, RedisProvider,
    providers::{Collected, Created, IndexEntry, StoreKey, Touched, Updated},
};
use servers::Redis;

/// The idle timeout of a session, in milliseconds.
const IDLE: u64 = 80_000;
const EIGHTH: u64 = 10_000;
/// The time at which the tests begin. The deadline of a session created then is the start of an eighth.
const START: u64 = EIGHTH * (EIGHTH + 1) * 18_000 - IDLE;

struct Fixture {
    redis: Redis,
    time: ManualClock,
    provider: RedisProvider,
}

impl Fixture {
    async fn open() -> Fixture {
        let redis = Redis::start();
        let time = ManualClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_millis(START));
        let provider = RedisProvider::builder(redis.url()).clock(time.clock()).connect().await.unwrap();
        Fixture { redis, time, provider }
    }

    fn now(&self) -> u64 {
        let since = self.time.clock().now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        since.as_millis() as u64
    }

    fn pass(&self, millis: u64) {
        self.time.advance(Duration::from_millis(millis));
    }

    /// Returns a session of Alice's that was used now.
    fn used_now(&self) -> RecordBuilder {
        record(&self.time.clock()).principal("alice").idle(Duration::from_millis(IDLE))
    }

    async fn create(&self) {
        assert_eq!(self.provider.create(&key(), &self.used_now().build()).await.unwrap(), Created::Done);
    }

    async fn change(&self, version: u64) {
        let record = self.used_now().version(version).build();
        assert_eq!(self.provider.update(&key(), &record, &base(version - 1)).await.unwrap(), Updated::Done);
    }

    fn score(&self, set: &str) -> Option<u64> {
        self.redis.ask::<Option<u64>>(&["ZSCORE", &format!("cloakroom:{{0}}:{set}"), "aa"])
    }

    async fn listed(&self) -> usize {
        self.provider
            .indexed(&IndexEntry::from(&Principal::new("alice").unwrap()), None, 100)
            .await
            .unwrap()
            .entries
            .len()
    }
}

fn key() -> StoreKey {
    "aa".parse().unwrap()
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn one_change_per_eighth_of_the_idle_timeout_moves_the_sets() {
    let fixture = Fixture::open().await;
    fixture.create().await;
    let mut scores = Vec::new();
    for version in 2..=81 {
        fixture.pass(1000);
        fixture.change(version).await;
        let (deadline, score) = (fixture.now() + IDLE, fixture.score("deadlines").unwrap());
        assert!((deadline - EIGHTH..=deadline).contains(&score), "{score} for {deadline}");
        let theirs = fixture.score("user:alice").unwrap();
        assert!((deadline..=deadline + EIGHTH).contains(&theirs), "{theirs} for {deadline}");
        scores.push(score);
    }
    scores.dedup();
    assert_eq!(scores.len(), 9, "the eighth in which it was created, and eight more");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_session_outlives_its_score_until_its_deadline() {
    for by_touch in [false, true] {
        let fixture = Fixture::open().await;
        fixture.create().await;
        let first = fixture.score("deadlines").unwrap();
        assert_eq!(first, fixture.now() + IDLE);
        fixture.pass(5000);
        if by_touch {
            let touched = fixture.provider.touch(&key(), fixture.time.clock().now()).await.unwrap();
            assert_eq!(touched, Touched::Done);
        } else {
            fixture.change(2).await;
        }
        assert_eq!(fixture.score("deadlines"), Some(first), "the sets were left alone");
        fixture.pass(IDLE - 4000);
        assert!(fixture.now() > first);
        assert_eq!(fixture.listed().await, 1);
        assert_eq!(fixture.provider.delete_expired(10).await.unwrap(), Collected { removed: 0, more: false });
        assert_eq!(fixture.score("deadlines"), Some(first + 5000), "its deadline is its score now");
        assert_eq!((fixture.provider.count().await.unwrap(), fixture.listed().await), (1, 1));
        assert!(fixture.provider.load(&key()).await.unwrap().is_some());
        fixture.pass(4000);
        assert_eq!((fixture.provider.count().await.unwrap(), fixture.listed().await), (0, 0));
        assert_eq!(
            (fixture.score("deadlines"), fixture.score("keys"), fixture.score("user:alice")),
            (None, None, None)
        );
        assert_eq!(fixture.redis.ask::<u8>(&["EXISTS", "cloakroom:{0}:session:aa"]), 0);
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_full_server_counts_and_collects_prolonged_sessions() {
    let fixture = Fixture::open().await;
    fixture.create().await;
    fixture.pass(5000);
    fixture.change(2).await;
    fixture.pass(IDLE - 4000);
    fixture.redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(
        fixture.provider.create(&"bb".parse().unwrap(), &fixture.used_now().build()).await.is_err(),
        "it is full"
    );
    assert_eq!(fixture.provider.count().await.unwrap(), 1);
    fixture.pass(5000);
    assert_eq!(fixture.provider.delete_expired(10).await.unwrap(), Collected { removed: 1, more: false });
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_shortened_session_moves_at_once_except_in_its_users_set() {
    let fixture = Fixture::open().await;
    fixture.create().await;
    let mut theirs = fixture.score("user:alice").unwrap();
    for (version, millis) in [(2, IDLE - 10), (3, IDLE + 8), (4, 2 * IDLE)] {
        let record = fixture.used_now().version(version).idle(Duration::from_millis(millis)).build();
        assert_eq!(
            fixture.provider.update(&key(), &record, &base(version - 1)).await.unwrap(),
            Updated::Done
        );
        assert_eq!(fixture.score("deadlines"), Some(fixture.now() + millis));
        // A score in a user's set only increases, so that a walk over the set misses no session.
        let before = std::mem::replace(&mut theirs, fixture.score("user:alice").unwrap());
        let expected = before..=before.max(fixture.now() + millis + millis / 8);
        assert!(expected.contains(&theirs), "{theirs} is not within {expected:?}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_clock_that_is_behind_leaves_no_score_past_the_deadline() {
    let mut fixture = Fixture::open().await;
    fixture.pass(5000);
    fixture.create().await;
    fixture.time = ManualClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_millis(START + 3000));
    let behind = RedisProvider::builder(fixture.redis.url()).clock(fixture.time.clock()).connect();
    fixture.provider = behind.await.unwrap();
    fixture.change(2).await;
    assert_eq!(fixture.score("deadlines"), Some(START + 3000 + IDLE));
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn the_sets_stay_small_without_garbage_collection() {
    let redis = Redis::start();
    let time = ManualClock::default();
    let provider = RedisProvider::builder(redis.url()).clock(time.clock()).connect().await.unwrap();
    for round in 0..5 {
        for n in 0..50 {
            time.advance(Duration::from_millis(1));
            let record = record(&time.clock()).principal("alice").idle(Duration::from_secs(60)).build();
            assert_eq!(
                provider.create(&format!("s-{round}-{n}").parse().unwrap(), &record).await.unwrap(),
                Created::Done
            );
        }
        time.advance(Duration::from_secs(60));
    }
    let members = |set: &str| redis.ask::<i64>(&["ZCARD", &format!("cloakroom:{{0}}:{set}")]);
    for set in ["deadlines", "keys", "user:alice"] {
        assert!(
            members(set) <= 50,
            "{set} has {} members, but 200 of 250 expired before the last were created",
            members(set)
        );
    }
    assert_eq!(provider.count().await.unwrap(), 0);
    assert_eq!((members("deadlines"), members("keys")), (0, 0));
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn no_entry_stays_in_a_users_set_past_the_absolute_deadline() {
    let fixture = Fixture::open().await;
    let end = Duration::from_millis(IDLE + 1000);
    let record = fixture.used_now().absolute(end);
    assert_eq!(fixture.provider.create(&key(), &record.clone().build()).await.unwrap(), Created::Done);
    assert_eq!(fixture.score("user:alice"), Some(START + IDLE + 1000));
    // A later absolute deadline is another end, and so another score.
    let later = record.version(2).absolute(end * 2).build();
    assert_eq!(fixture.provider.update(&key(), &later, &base(1)).await.unwrap(), Updated::Done);
    assert_eq!(fixture.score("user:alice"), Some(START + IDLE + EIGHTH));
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_collection_sets_aside_unreadable_values() {
    let fixture = Fixture::open().await;
    fixture.create().await;
    fixture.redis.ask::<()>(&["DEL", "cloakroom:{0}:session:aa"]);
    fixture.redis.ask::<()>(&["HSET", "cloakroom:{0}:session:aa", "what", "is this"]);
    fixture.pass(2 * IDLE);
    assert_eq!(fixture.provider.delete_expired(10).await.unwrap(), Collected { removed: 1, more: false });
    assert_eq!(fixture.redis.ask::<String>(&["HGET", "cloakroom:{0}:corrupt:aa", "what"]), "is this");
    assert!(fixture.redis.ask::<i64>(&["TTL", "cloakroom:{0}:corrupt:aa"]) > 0);
    assert_eq!(fixture.provider.load(&key()).await.unwrap(), None);
    for set in ["deadlines", "keys", "user:alice", "users"] {
        assert_eq!(fixture.redis.ask::<u8>(&["EXISTS", &format!("cloakroom:{{0}}:{set}")]), 0, "{set}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_count_waits_for_no_replica() {
    let fixture = Fixture::open().await;
    fixture.create().await;
    let builder = RedisProvider::builder(fixture.redis.url()).clock(fixture.time.clock());
    let waiting = builder.wait_for_replicas(1, Duration::from_millis(50)).connect().await.unwrap();
    let record = fixture.used_now().version(2).build();
    assert_eq!(waiting.update(&key(), &record, &base(1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(waiting.count().await.unwrap(), 1);
    fixture.pass(IDLE);
    assert_eq!(waiting.delete_expired(10).await.unwrap(), Collected { removed: 1, more: false });
}
