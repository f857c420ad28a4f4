//! A single server that stalls.

use std::sync::Arc;

use cloakroom::{Manager, RedisProvider, Released};
use http::HeaderMap;
use servers::{Proxy, Redis, RedisOptions};
use tokio::task::{JoinSet, block_in_place};

use crate::history::Tolerance;
use crate::visitors::{Load, PATIENCE};
use crate::{node, wait_ms};

/// Stalls the server briefly, as when it writes a snapshot or its machine is busy.
async fn five_stalls_fail_nothing(password: Option<&str>) {
    let options = RedisOptions { password: password.map(str::to_owned), ..RedisOptions::default() };
    let redis = block_in_place(|| Redis::with(options));
    let load = Load::start(vec![node(&redis.url()).await, node(&redis.url()).await]);
    for _ in 0..5 {
        wait_ms(300).await;
        redis.pause();
        wait_ms(250).await;
        redis.resume();
    }
    wait_ms(300).await;
    let history = Arc::clone(&load.history);
    let verdict = load.end(Tolerance::default()).await;
    servers::tell(format_args!("five stalls of 250 ms, password {}: {verdict}", password.is_some()));
    verdict.assert_clean();
    assert_eq!(history.errors(), Vec::<String>::new(), "a stall is shorter than a call may take");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn five_stalls_fail_nothing_without_a_password() {
    five_stalls_fail_nothing(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn five_stalls_fail_nothing_with_a_password() {
    five_stalls_fail_nothing(Some("secret")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_cancelled_crowd_leaves_the_next_visitor_served() {
    let redis = block_in_place(Redis::start);
    let here = node(&redis.url()).await;
    redis.pause();
    let mut crowd = JoinSet::new();
    for _ in 0..200 {
        let here = here.clone();
        crowd.spawn(async move {
            let session = here.start(&HeaderMap::new()).await?;
            session.set("n", 1)?;
            session.release(&mut HeaderMap::new()).await.map(drop)
        });
    }
    wait_ms(100).await;
    // All callers go away. The server resumes within the time that a call may take.
    crowd.abort_all();
    while crowd.join_next().await.is_some() {}
    redis.resume();
    let session = here.start(&HeaderMap::new()).await.unwrap();
    session.set("n", 1).unwrap();
    let saved = tokio::time::timeout(PATIENCE, session.release(&mut HeaderMap::new())).await;
    let released = saved.expect("a reply").expect("the healthy connection was treated as dead");
    assert_eq!(released, Released::Created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_stuck_connection_attempt_delays_no_call() {
    let redis = block_in_place(Redis::start);
    let proxy = Proxy::before(redis.address());
    let builder = RedisProvider::builder(redis.url_at(proxy.port()));
    let provider = builder.connect_timeout(PATIENCE).call_timeout(PATIENCE * 2).connect().await.unwrap();
    let here = Manager::builder(provider).deadline(PATIENCE * 2).build().unwrap();
    // In this order, no attempt to connect again is refused.
    proxy.blackhole();
    proxy.close_open();
    let begin = async |node: Manager| {
        let session = node.start(&HeaderMap::new()).await?;
        session.set("n", 1)?;
        session.release(&mut HeaderMap::new()).await
    };
    let waiting = tokio::spawn(begin(here.clone()));
    wait_ms(300).await;
    assert!(!waiting.is_finished(), "it waits for its connection");
    proxy.heal();
    let begun = tokio::time::timeout(PATIENCE / 2, waiting).await;
    let released = begun.expect("another connection is tried").unwrap();
    assert_eq!(released.unwrap(), Released::Created);
}
