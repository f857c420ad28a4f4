//! Dropped calls: no other call reads the reply to one.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, ErrorKind, Provider,
    providers::{Created, Record, StoreKey, Updated},
};
use servers::Proxy;
use tokio::task::JoinSet;

use super::{PATIENCE, SqlServer, a_table};

/// Returns the connection string of a new table through `proxy`.
fn through(server: &impl SqlServer, proxy: &Proxy, pool: usize) -> String {
    let address = SocketAddr::from(([127, 0, 0, 1], proxy.port()));
    server.url_at(address, &format!("table={}&pool={pool}", a_table()))
}

/// Returns the record of `owner` at `version`. Each owner's record has another size, so that all replies differ.
fn of(owner: usize, version: u64) -> Record {
    record(&Clock::system()).version(version).value("owner", owner).filled(40 + 97 * owner).build()
}

fn size(owner: usize) -> usize {
    of(owner, 1).data().len()
}

pub(crate) async fn no_call_reads_the_reply_to_a_dropped_call<S: SqlServer>(server: &S) {
    const OWNERS: usize = 12;
    const CALLS: usize = 400;
    let proxy = Proxy::before(server.address());
    // Fewer connections than callers, so that another caller uses a connection after a dropped call.
    let provider = S::connect(&through(server, &proxy, 3), PATIENCE).await.unwrap();
    // Delay replies, so that most dropped calls are dropped while a reply is under way.
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
                // Knuth's MMIX generator; any other would do.
                chance =
                    chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let patience = Duration::from_micros((chance >> 33) % 60_000);
                let over = match call % 3 {
                    0 => {
                        let next = of(owner, version + 1);
                        let base = base(version);
                        let update = provider.update(&key, &next, &base);
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
                    // A dropped update may still be running on the server. It holds the row's lock, so a touch waits
                    // for its end.
                    let _ = provider.touch(&key, Clock::system().now()).await.unwrap();
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
    assert!(dropped > 200, "only {dropped} calls were dropped, too few for the test");
}

fn mine(owner: usize, found: Option<Record>) -> Record {
    let found = found.unwrap_or_else(|| panic!("the record of {owner} is gone"));
    assert_eq!(found.data().len(), size(owner), "{owner} was given the record of another");
    found
}

pub(crate) async fn a_call_dropped_during_its_prepare_harms_no_other<S: SqlServer>(server: &S) {
    const ROUNDS: u64 = 150;
    let proxy = Proxy::before(server.address());
    let url = through(server, &proxy, 1);
    let [one, two]: [StoreKey; 2] = ["one", "two"].map(|text| text.parse().unwrap());
    let provider = S::connect(&url, PATIENCE).await.unwrap();
    for (owner, key) in [(1, &one), (2, &two)] {
        assert_eq!(provider.create(key, &of(owner, 1)).await.unwrap(), Created::Done);
    }
    let mut dropped = 0;
    for round in 0..ROUNDS {
        // A statement is prepared once for a connection, so each round opens a new one.
        let provider = S::connect(&url, PATIENCE).await.unwrap();
        proxy.delay(Duration::from_millis(2));
        let patience = Duration::from_micros(500 + 80 * round);
        dropped += u32::from(tokio::time::timeout(patience, provider.load(&one)).await.is_err());
        // An update is not retried, so its connection must have no foreign reply.
        let next = of(2, round + 2);
        assert_eq!(provider.update(&two, &next, &base(round + 1)).await.unwrap(), Updated::Done);
        assert_eq!(provider.load(&two).await.unwrap(), Some(next));
        proxy.heal();
    }
    servers::tell(format_args!(
        "{ROUNDS} first calls of a connection, {dropped} of them dropped, 0 others spoilt"
    ));
    assert!(dropped > 20, "only {dropped} calls were dropped, too few for the test");
}

pub(crate) async fn connections_are_bounded_and_reused<S: SqlServer>(server: &S) {
    let proxy = Proxy::before(server.address());
    let provider = S::connect(&through(server, &proxy, 4), PATIENCE).await.unwrap();
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

pub(crate) async fn a_connection_that_ended_while_idle_is_replaced<S: SqlServer>(server: &S) {
    let proxy = Proxy::before(server.address());
    let provider = S::connect(&through(server, &proxy, 1), PATIENCE).await.unwrap();
    let key: StoreKey = "one".parse().unwrap();
    assert_eq!(provider.create(&key, &of(1, 1)).await.unwrap(), Created::Done);
    let end = || {
        proxy.cut();
        proxy.heal();
    };
    // A call that may run twice is retried at once.
    end();
    mine(1, provider.load(&key).await.unwrap());
    end();
    assert_eq!(provider.count().await.unwrap(), 1);
    // An update is not retried, since the server may have run it. The next one opens a new connection.
    end();
    let error = provider.update(&key, &of(1, 2), &base(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(provider.update(&key, &of(1, 2), &base(1)).await.unwrap(), Updated::Done);
    // A connection that was idle for more than a second is checked first.
    end();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(provider.update(&key, &of(1, 3), &base(2)).await.unwrap(), Updated::Done);
}

pub(crate) async fn a_silent_server_is_noticed_at_the_deadline<S: SqlServer>(server: &S) {
    let proxy = Proxy::before(server.address());
    let limit = Duration::from_millis(2_500);
    let provider = S::connect(&through(server, &proxy, 3), limit).await.unwrap();
    let key: StoreKey = "one".parse().unwrap();
    assert_eq!(provider.create(&key, &of(1, 1)).await.unwrap(), Created::Done);
    // Open three connections and leave them idle.
    let three = tokio::join!(provider.load(&key), provider.load(&key), provider.load(&key));
    drop((three.0.unwrap(), three.1.unwrap(), three.2.unwrap()));
    proxy.blackhole();
    assert_eq!(provider.load(&key).await.unwrap_err().kind(), ErrorKind::Timeout);
    proxy.heal();
    // The two other connections must not cost another deadline each.
    mine(1, provider.load(&key).await.unwrap());
}
