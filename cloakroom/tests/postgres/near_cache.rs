//! A near cache in front of PostgreSQL, kept up to date by notifications.

use std::time::{Duration, Instant};

use cloakroom::testkit::{base, record};
use cloakroom::{
    Cached, Clock, ErrorKind, PostgresProvider, Provider,
    providers::{Created, Record, Renamed, StoreKey, Updated},
};
use servers::{PgBouncer, Postgres, Proxy};

use crate::server::shared;

/// Longer than any wait here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

async fn provider(url: &str) -> PostgresProvider {
    PostgresProvider::builder(url)
        .table("near")
        .notify(true)
        .deadline(PATIENCE)
        .connect_timeout(PATIENCE)
        .connect()
        .await
        .unwrap()
}

async fn near(url: &str) -> Cached<PostgresProvider> {
    Cached::builder(provider(url).await).watching().await.unwrap()
}

fn key() -> StoreKey {
    "aa".parse().unwrap()
}

fn at(version: u64) -> Record {
    record(&Clock::system()).principal("alice").version(version).value("n", version).build()
}

/// Loads until `wanted` returns true.
async fn until(
    provider: &impl Provider,
    what: &str,
    wanted: impl Fn(cloakroom::Result<Option<Record>>) -> bool,
) {
    let start = Instant::now();
    while !wanted(provider.load(&key()).await) {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn until_version(provider: &impl Provider, version: u64) {
    let wanted = |loaded: cloakroom::Result<Option<Record>>| {
        loaded.is_ok_and(|found| found.is_some_and(|found| found.version() == version))
    };
    until(provider, &format!("version {version}"), wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_change_on_one_node_is_seen_on_the_other() {
    let server = Postgres::start();
    let (here, there) = (near(&server.url("")).await, provider(&server.url("pool=1")).await);
    assert_eq!(there.create(&key(), &at(1)).await.unwrap(), Created::Done);
    until_version(&here, 1).await;
    let mut log = server.log_statements();
    for _ in 0..500 {
        assert_eq!(here.load(&key()).await.unwrap().map(|found| found.version()), Some(1));
    }
    let loads = log.take().iter().filter(|line| line.contains("SELECT record")).count();
    assert!(loads <= 1, "{loads} loads of 500 went to the server");

    assert_eq!(there.update(&key(), &at(2), &at(1)).await.unwrap(), Updated::Done);
    until_version(&here, 2).await;
    let before = here.load(&key()).await.unwrap().unwrap().expires();
    let _ = there.touch(&key(), Clock::system().now() + Duration::from_secs(60)).await.unwrap();
    until(&here, "the use", |loaded| loaded.unwrap().is_some_and(|found| found.expires() > before)).await;
    let renamed = there.rename(&key(), &"bb".parse().unwrap(), &at(3), 2, None).await.unwrap();
    assert_eq!(renamed, Renamed::Done);
    until(&here, "the end of the old id", |loaded| loaded.unwrap().is_none()).await;
    assert_eq!(there.create(&key(), &at(1)).await.unwrap(), Created::Done);
    until_version(&here, 1).await;
    assert!(there.delete(&key()).await.unwrap());
    until(&here, "the end", |loaded| loaded.unwrap().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn copies_are_used_again_only_once_the_server_is_back() {
    let mut server = Postgres::start();
    let here = near(&server.url("")).await;
    assert_eq!(here.create(&key(), &at(1)).await.unwrap(), Created::Done);
    until_version(&here, 1).await;
    server.kill();
    let quick = PostgresProvider::builder(server.url("")).table("near").deadline(Duration::from_millis(500));
    assert!(quick.connect().await.is_err(), "nobody answers");
    // The copy is not used once the lease has ended, so the call waits for the server.
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.restart();
    let there = provider(&server.url("")).await;
    assert_eq!(there.update(&key(), &at(2), &base(1)).await.unwrap(), Updated::Done);
    until_version(&here, 2).await;
    assert_eq!(there.update(&key(), &at(3), &base(2)).await.unwrap(), Updated::Done);
    until_version(&here, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_silently_dead_connection_ends_the_use_of_copies() {
    let server = Postgres::start();
    let proxy = Proxy::before(server.address());
    let url = Postgres::url_at(&format!("127.0.0.1:{}", proxy.port()), "");
    let builder = PostgresProvider::builder(&url).table("near").notify(true);
    let here = builder.deadline(Duration::from_millis(500)).connect().await.unwrap();
    let here = Cached::builder(here).watching().await.unwrap();
    assert_eq!(here.create(&key(), &at(1)).await.unwrap(), Created::Done);
    until_version(&here, 1).await;
    proxy.blackhole();
    assert!(provider(&server.url("")).await.delete(&key()).await.unwrap());
    until(&here, "the end of the copies", |loaded| !loaded.is_ok_and(|found| found.is_some())).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres and pgbouncer: cargo xtask test"]
async fn a_near_cache_that_cannot_be_exact_is_refused() {
    let silent = PostgresProvider::builder(shared().url("")).table("near").connect().await.unwrap();
    let error = Cached::builder(silent).watching().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("notify(true)"), "{error}");
    let pooler = PgBouncer::start(shared(), 2, &[]);
    let error = Cached::builder(provider(&pooler.url("")).await).watching().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("within("), "{error}");
}
