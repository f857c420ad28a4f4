//! The sets beside the sessions: a change leaves them alone where it can, and nobody sees that it did.

use std::time::{Duration, SystemTime};

use cloakroom::testkit::{RecordBuilder, base, record};
use cloakroom::{
    ErrorKind, ManualClock, Principal, Provider, RedisProvider,
    providers::{Collected, Created, IndexEntry, StoreKey, Touched, Updated},
};
use servers::Redis;

/// How long a session lives unused, in milliseconds; and an eighth of it.
const IDLE: u64 = 80_000;
const EIGHTH: u64 = 10_000;
/// A deadline of one made now is where an eighth begins, also one of a millisecond more.
const START: u64 = EIGHTH * (EIGHTH + 1) * 18_000 - IDLE;

struct Place {
    redis: Redis,
    time: ManualClock,
    provider: RedisProvider,
}

impl Place {
    async fn open() -> Place {
        let redis = Redis::start();
        let time = ManualClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_millis(START));
        let provider = RedisProvider::builder(redis.url()).clock(time.clock()).connect().await.unwrap();
        Place { redis, time, provider }
    }

    fn now(&self) -> u64 {
        let since = self.time.clock().now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        since.as_millis() as u64
    }

    fn pass(&self, millis: u64) {
        self.time.advance(Duration::from_millis(millis));
    }

    /// A session of Alice's, used now.
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
async fn one_change_in_each_eighth_of_the_idle_time_moves_the_sets() {
    let place = Place::open().await;
    place.create().await;
    let mut scores = Vec::new();
    for version in 2..=81 {
        place.pass(1000);
        place.change(version).await;
        let (deadline, score) = (place.now() + IDLE, place.score("deadlines").unwrap());
        assert!((deadline - EIGHTH..=deadline).contains(&score), "{score} for {deadline}");
        let theirs = place.score("user:alice").unwrap();
        assert!((deadline..=deadline + EIGHTH).contains(&theirs), "{theirs} for {deadline}");
        scores.push(score);
    }
    scores.dedup();
    assert_eq!(scores.len(), 9, "the eighth it was made in, and eight more");
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_session_whose_place_is_over_lives_until_it_ends() {
    for by_touch in [false, true] {
        let place = Place::open().await;
        place.create().await;
        let first = place.score("deadlines").unwrap();
        assert_eq!(first, place.now() + IDLE);
        place.pass(5000);
        if by_touch {
            let touched = place.provider.touch(&key(), place.time.clock().now()).await.unwrap();
            assert_eq!(touched, Touched::Done);
        } else {
            place.change(2).await;
        }
        assert_eq!(place.score("deadlines"), Some(first), "the sets were left alone");
        place.pass(IDLE - 4000);
        assert!(place.now() > first);
        assert_eq!(place.listed().await, 1);
        assert_eq!(place.provider.delete_expired(10).await.unwrap(), Collected { removed: 0, more: false });
        assert_eq!(place.score("deadlines"), Some(first + 5000), "it has the place of its own deadline now");
        assert_eq!((place.provider.count().await.unwrap(), place.listed().await), (1, 1));
        assert!(place.provider.load(&key()).await.unwrap().is_some());
        place.pass(4000);
        assert_eq!((place.provider.count().await.unwrap(), place.listed().await), (0, 0));
        assert_eq!(
            (place.score("deadlines"), place.score("keys"), place.score("user:alice")),
            (None, None, None)
        );
        assert_eq!(place.redis.ask::<u8>(&["EXISTS", "cloakroom:{0}:session:aa"]), 0);
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_full_server_counts_and_collects_what_was_prolonged() {
    let place = Place::open().await;
    place.create().await;
    place.pass(5000);
    place.change(2).await;
    place.pass(IDLE - 4000);
    place.redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(
        place.provider.create(&"bb".parse().unwrap(), &place.used_now().build()).await.is_err(),
        "it is full"
    );
    assert_eq!(place.provider.count().await.unwrap(), 1);
    place.pass(5000);
    assert_eq!(place.provider.delete_expired(10).await.unwrap(), Collected { removed: 1, more: false });
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_shortened_session_moves_at_once_but_in_its_users_set() {
    let place = Place::open().await;
    place.create().await;
    let mut theirs = place.score("user:alice").unwrap();
    for (version, millis) in [(2, IDLE - 10), (3, IDLE + 8), (4, 2 * IDLE)] {
        let record = place.used_now().version(version).idle(Duration::from_millis(millis)).build();
        assert_eq!(place.provider.update(&key(), &record, &base(version - 1)).await.unwrap(), Updated::Done);
        assert_eq!(place.score("deadlines"), Some(place.now() + millis));
        // There it moves up alone, so that a walk over the user's sessions does not miss it.
        let before = std::mem::replace(&mut theirs, place.score("user:alice").unwrap());
        let expected = before..=before.max(place.now() + millis + millis / 8);
        assert!(expected.contains(&theirs), "{theirs} is not within {expected:?}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_clock_that_is_behind_leaves_no_place_after_the_deadline() {
    let mut place = Place::open().await;
    place.pass(5000);
    place.create().await;
    place.time = ManualClock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_millis(START + 3000));
    let behind = RedisProvider::builder(place.redis.url()).clock(place.time.clock()).connect();
    place.provider = behind.await.unwrap();
    place.change(2).await;
    assert_eq!(place.score("deadlines"), Some(START + 3000 + IDLE));
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn the_sets_shrink_with_what_lives_though_nobody_collects() {
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
            "{set} has {} members, 200 of 250 expired before the last were made",
            members(set)
        );
    }
    assert_eq!(provider.count().await.unwrap(), 0);
    assert_eq!((members("deadlines"), members("keys")), (0, 0));
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn no_name_stays_in_a_users_set_past_the_absolute_deadline() {
    let place = Place::open().await;
    let end = Duration::from_millis(IDLE + 1000);
    let record = place.used_now().absolute(end);
    assert_eq!(place.provider.create(&key(), &record.clone().build()).await.unwrap(), Created::Done);
    assert_eq!(place.score("user:alice"), Some(START + IDLE + 1000));
    // Later is another end, and so another place.
    let later = record.version(2).absolute(end * 2).build();
    assert_eq!(place.provider.update(&key(), &later, &base(1)).await.unwrap(), Updated::Done);
    assert_eq!(place.score("user:alice"), Some(START + IDLE + EIGHTH));
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_collection_puts_aside_what_it_cannot_read() {
    let place = Place::open().await;
    place.create().await;
    place.redis.ask::<()>(&["DEL", "cloakroom:{0}:session:aa"]);
    place.redis.ask::<()>(&["HSET", "cloakroom:{0}:session:aa", "what", "is this"]);
    place.pass(2 * IDLE);
    assert_eq!(place.provider.delete_expired(10).await.unwrap(), Collected { removed: 1, more: false });
    assert_eq!(place.redis.ask::<String>(&["HGET", "cloakroom:{0}:corrupt:aa", "what"]), "is this");
    assert!(place.redis.ask::<i64>(&["TTL", "cloakroom:{0}:corrupt:aa"]) > 0);
    assert_eq!(place.provider.load(&key()).await.unwrap(), None);
    for set in ["deadlines", "keys", "user:alice", "users"] {
        assert_eq!(place.redis.ask::<u8>(&["EXISTS", &format!("cloakroom:{{0}}:{set}")]), 0, "{set}");
    }
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_count_waits_for_no_replica() {
    let place = Place::open().await;
    place.create().await;
    let builder = RedisProvider::builder(place.redis.url()).clock(place.time.clock());
    let waiting = builder.wait_for_replicas(1, Duration::from_millis(50)).connect().await.unwrap();
    let record = place.used_now().version(2).build();
    assert_eq!(waiting.update(&key(), &record, &base(1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(waiting.count().await.unwrap(), 1);
    place.pass(IDLE);
    assert_eq!(waiting.delete_expired(10).await.unwrap(), Collected { removed: 1, more: false });
}
