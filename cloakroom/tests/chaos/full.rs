//! A single server that is full, or refuses writes.

use std::time::Duration;

use cloakroom::{ErrorKind, Manager, ManualClock, Principal, RedisProvider};
use http::HeaderMap;
use servers::{Flavor, Redis, RedisOptions, free_port};
use tokio::task::block_in_place;

use crate::visitors::cookie_of;

/// An application of two processes whose clock the test sets.
struct Site {
    time: ManualClock,
    here: Manager,
    there: Manager,
}

impl Site {
    async fn on(redis: &Redis) -> Site {
        let time = ManualClock::default();
        let node = async || {
            let provider = RedisProvider::builder(redis.url()).clock(time.clock()).connect().await.unwrap();
            Manager::builder(provider).clock(time.clock()).build().unwrap()
        };
        Site { here: node().await, there: node().await, time }
    }

    async fn log_in(&self) -> cloakroom::Result<HeaderMap> {
        let session = self.here.start(&HeaderMap::new()).await?;
        session.authenticate(Principal::new("alice")?)?;
        session.set("n", 1)?;
        let mut response = HeaderMap::new();
        let _ = session.release(&mut response).await?;
        Ok(cookie_of(&response).unwrap())
    }

    /// Requests a page that only reads, at a time when the session is due to be touched.
    async fn read(&self, cookie: &HeaderMap) -> Option<u64> {
        self.time.advance(Duration::from_secs(120));
        let session = self.here.start(cookie).await.unwrap();
        let n = session.get("n").unwrap();
        let _ = session.release(&mut HeaderMap::new()).await.expect("a page that only reads is served");
        n
    }

    async fn log_out(&self, cookie: &HeaderMap) {
        let session = self.here.start(cookie).await.unwrap();
        session.destroy().unwrap();
        let _ = session.release(&mut HeaderMap::new()).await.expect("a logout needs no room");
        for node in [&self.here, &self.there] {
            assert_eq!(node.start(cookie).await.unwrap().get::<u64>("n").unwrap(), None, "it is still alive");
        }
    }
}

async fn a_full_server_serves_and_ends_those_it_has(flavor: Flavor) {
    let redis = block_in_place(|| Redis::with(RedisOptions::of(flavor)));
    let site = Site::on(&redis).await;
    let cookies = [site.log_in().await.unwrap(), site.log_in().await.unwrap(), site.log_in().await.unwrap()];
    block_in_place(|| redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]));
    assert_eq!(site.log_in().await.unwrap_err().kind(), ErrorKind::Unavailable, "a full server is no 413");
    // The reads go on past the deadline that the sessions began with, since each touch prolongs them.
    for _ in 0..20 {
        for cookie in &cookies {
            assert_eq!(site.read(cookie).await, Some(1));
        }
    }
    site.log_out(&cookies[0]).await;
    let user = Principal::new("alice").unwrap();
    assert_eq!(site.there.end_sessions(&user).await.unwrap(), 2);
    for cookie in &cookies {
        assert_eq!(site.read(cookie).await, None);
    }
    block_in_place(|| redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]));
    let cookie = site.log_in().await.unwrap();
    assert_eq!(site.read(&cookie).await, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_full_redis_7_0_serves_and_ends_sessions() {
    a_full_server_serves_and_ends_those_it_has(Flavor::Redis70).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Redis 6.2: cargo xtask test"]
async fn a_full_redis_6_2_serves_and_ends_sessions() {
    a_full_server_serves_and_ends_those_it_has(Flavor::Redis62).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Valkey 9: cargo xtask test"]
async fn a_full_valkey_9_serves_and_ends_sessions() {
    a_full_server_serves_and_ends_those_it_has(Flavor::Valkey9).await;
}

/// Makes the server a replica of one that does not answer: it has all sessions, and refuses writes.
async fn a_replica_still_serves_readers(flavor: Flavor) {
    let redis = block_in_place(|| Redis::with(RedisOptions::of(flavor)));
    let site = Site::on(&redis).await;
    let cookie = site.log_in().await.unwrap();
    block_in_place(|| redis.ask::<()>(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]));
    assert_eq!(site.read(&cookie).await, Some(1));
    assert_eq!(site.log_in().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(site.read(&cookie).await, Some(1));
    block_in_place(|| redis.ask::<()>(&["REPLICAOF", "NO", "ONE"]));
    let later = site.log_in().await.unwrap();
    assert_eq!(site.read(&later).await, Some(1));
    site.log_out(&cookie).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_replica_of_redis_7_0_still_serves_readers() {
    a_replica_still_serves_readers(Flavor::Redis70).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Redis 6.2: cargo xtask test"]
async fn a_replica_of_redis_6_2_still_serves_readers() {
    a_replica_still_serves_readers(Flavor::Redis62).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Valkey 9: cargo xtask test"]
async fn a_replica_of_valkey_9_still_serves_readers() {
    a_replica_still_serves_readers(Flavor::Valkey9).await;
}
