//! A call that was dropped half-way leaves no reply for another one to read.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloakroom::testkit::record;
use cloakroom::{
    Clock, ErrorKind, MySqlProvider, Provider,
    providers::{Created, Record, StoreKey, Updated},
};
use servers::{MariaDb, Proxy};
use tokio::task::JoinSet;

use crate::server::{a_table, shared};

async fn through(proxy: &Proxy, pool: usize) -> MySqlProvider {
    let place = format!("tcp({})", SocketAddr::from(([127, 0, 0, 1], proxy.port())));
    let builder = MySqlProvider::builder(&MariaDb::dsn_at(&place, "")).unwrap();
    builder.table(&a_table()).unwrap().pool(pool).unwrap().connect().await.unwrap()
}

/// The record of `owner` at `version`, of a size of its own, so that replies differ in every way.
fn of(owner: usize, version: u64) -> Record {
    record(&Clock::system()).version(version).value("owner", owner).filled(40 + 97 * owner).build()
}

fn size(owner: usize) -> usize {
    of(owner, 1).data().len()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn nobody_ever_reads_the_reply_to_a_call_that_was_dropped() {
    const OWNERS: usize = 12;
    const CALLS: usize = 400;
    let proxy = Proxy::before(shared().address());
    // Fewer connections than callers: whatever one leaves behind, the next one finds.
    let provider = through(&proxy, 3).await;
    // Long enough for most of those that are dropped to be dropped while a reply is on its way.
    proxy.delay(Duration::from_millis(1));
    let dropped = Arc::new(AtomicU64::new(0));
    let mut owners = JoinSet::new();
    for owner in 0..OWNERS {
        let (provider, dropped) = (provider.clone(), Arc::clone(&dropped));
        owners.spawn(async move {
            let mut chance = owner as u64;
            let key: StoreKey = format!("owner-{owner}").parse().unwrap();
            assert_eq!(provider.create(&key, &of(owner, 1)).await.unwrap(), Created::Done);
            let mut version = 1;
            for call in 0..CALLS {
                // Knuth's MMIX: any spread will do.
                chance =
                    chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let patience = Duration::from_micros((chance >> 33) % 60_000);
                let over = match call % 3 {
                    0 => {
                        let next = of(owner, version + 1);
                        let update = provider.update(&key, &next, version);
                        match tokio::time::timeout(patience, update).await {
                            Ok(answer) => {
                                assert_eq!(answer.unwrap(), Updated::Done);
                                version += 1;
                                true
                            }
                            Err(_) => false,
                        }
                    }
                    _ => match tokio::time::timeout(patience, provider.load(&key)).await {
                        Ok(found) => {
                            mine(owner, found.unwrap());
                            true
                        }
                        Err(_) => false,
                    },
                };
                if !over {
                    dropped.fetch_add(1, Ordering::Relaxed);
                    // Whether a dropped update happened is unknown, and may be decided a little later. A live statement
                    // holds the row's lock, so a touch waits for it, whatever version it expects.
                    let _ = provider
                        .touch(&key, Clock::system().now(), of(owner, 1).expires(), version)
                        .await
                        .unwrap();
                    version = mine(owner, provider.load(&key).await.unwrap()).version();
                }
            }
        });
    }
    owners.join_all().await;
    let dropped = dropped.load(Ordering::Relaxed);
    servers::tell(format_args!(
        "{OWNERS} callers on 3 connections, {} calls, {dropped} of them dropped, 0 foreign replies",
        OWNERS * CALLS
    ));
    assert!(dropped > 200, "only {dropped} calls were dropped: nothing was tested");
}

fn mine(owner: usize, found: Option<Record>) -> Record {
    let found = found.unwrap_or_else(|| panic!("the record of {owner} is gone"));
    assert_eq!(found.data().len(), size(owner), "{owner} was given the record of another");
    found
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_call_that_was_dropped_while_its_statement_was_prepared_spoils_no_other() {
    const ROUNDS: u64 = 150;
    let proxy = Proxy::before(shared().address());
    let table = a_table();
    let place = format!("tcp({})", SocketAddr::from(([127, 0, 0, 1], proxy.port())));
    let builder = MySqlProvider::builder(&MariaDb::dsn_at(&place, "pool=1")).unwrap().table(&table).unwrap();
    let [one, two]: [StoreKey; 2] = ["one", "two"].map(|text| text.parse().unwrap());
    let provider = builder.clone().connect().await.unwrap();
    for (owner, key) in [(1, &one), (2, &two)] {
        assert_eq!(provider.create(key, &of(owner, 1)).await.unwrap(), Created::Done);
    }
    let mut dropped = 0;
    for round in 0..ROUNDS {
        // A statement is prepared once a connection, so each round has a new one.
        let provider = builder.clone().connect().await.unwrap();
        proxy.delay(Duration::from_millis(2));
        let patience = Duration::from_micros(500 + 80 * round);
        dropped += u32::from(tokio::time::timeout(patience, provider.load(&one)).await.is_err());
        // A change is not tried again: it has to find a connection without a foreign reply.
        let next = of(2, round + 2);
        assert_eq!(provider.update(&two, &next, round + 1).await.unwrap(), Updated::Done);
        assert_eq!(provider.load(&two).await.unwrap(), Some(next));
        proxy.heal();
    }
    servers::tell(format_args!(
        "{ROUNDS} first calls of a connection, {dropped} of them dropped, 0 others spoilt"
    ));
    assert!(dropped > 20, "only {dropped} calls were dropped: nothing was tested");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn connections_are_bounded_and_used_again() {
    let proxy = Proxy::before(shared().address());
    let provider = through(&proxy, 4).await;
    let mut callers = JoinSet::new();
    for caller in 0..40 {
        let provider = provider.clone();
        callers.spawn(async move {
            let key: StoreKey = format!("caller-{caller}").parse().unwrap();
            assert_eq!(provider.create(&key, &of(caller, 1)).await.unwrap(), Created::Done);
            mine(caller, provider.load(&key).await.unwrap());
        });
    }
    callers.join_all().await;
    assert!((1..=4).contains(&proxy.connections()), "{} connections", proxy.connections());
    let keys: HashSet<_> =
        provider.scan(None, 100).await.unwrap().entries.into_iter().map(|one| one.key).collect();
    assert_eq!((keys.len(), provider.count().await.unwrap()), (40, 40));
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_connection_that_ended_while_nobody_used_it_is_replaced_without_help() {
    let proxy = Proxy::before(shared().address());
    let provider = through(&proxy, 1).await;
    let key: StoreKey = "one".parse().unwrap();
    assert_eq!(provider.create(&key, &of(1, 1)).await.unwrap(), Created::Done);
    let end = || {
        proxy.cut();
        proxy.heal();
    };
    // What may be done twice is done again at once.
    end();
    mine(1, provider.load(&key).await.unwrap());
    end();
    assert_eq!(provider.count().await.unwrap(), 1);
    // A change is not: nobody knows whether the server had it. The one after it finds a new connection.
    end();
    let error = provider.update(&key, &of(1, 2), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(provider.update(&key, &of(1, 2), 1).await.unwrap(), Updated::Done);
    // One that was idle for longer is asked first.
    end();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(provider.update(&key, &of(1, 3), 2).await.unwrap(), Updated::Done);
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_server_that_swallows_everything_is_noticed_by_the_deadline_and_its_connections_are_all_dropped() {
    let proxy = Proxy::before(shared().address());
    let place = format!("tcp({})", SocketAddr::from(([127, 0, 0, 1], proxy.port())));
    let builder = MySqlProvider::builder(&MariaDb::dsn_at(&place, "")).unwrap();
    let builder = builder.table(&a_table()).unwrap().pool(3).unwrap().deadline(Duration::from_millis(1_200));
    let provider = builder.connect().await.unwrap();
    let key: StoreKey = "one".parse().unwrap();
    assert_eq!(provider.create(&key, &of(1, 1)).await.unwrap(), Created::Done);
    // Three connections, all of them idle.
    let three = tokio::join!(provider.load(&key), provider.load(&key), provider.load(&key));
    drop((three.0.unwrap(), three.1.unwrap(), three.2.unwrap()));
    proxy.blackhole();
    assert_eq!(provider.load(&key).await.unwrap_err().kind(), ErrorKind::Timeout);
    proxy.heal();
    // The two others would have to be waited for as long.
    mine(1, provider.load(&key).await.unwrap());
}
