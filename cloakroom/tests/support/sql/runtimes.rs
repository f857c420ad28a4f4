//! One provider in several runtimes, some of which end. No call fails because of that.

use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, Provider,
    providers::{Created, StoreKey, Updated},
};
use tokio::runtime::{Builder, Runtime};

use super::{PATIENCE, SqlServer, a_table};

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn four_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

/// Connects a provider with `pool` connections in a runtime of its own, which then ends.
pub(crate) fn connected<S: SqlServer>(server: &S, pool: usize) -> S::Provider {
    let url = url(server, pool);
    let connect = std::thread::spawn(move || one_thread().block_on(S::connect(&url, PATIENCE)).unwrap());
    connect.join().unwrap()
}

fn url(server: &impl SqlServer, pool: usize) -> String {
    server.url_at(server.address(), &format!("pool={pool}&table={}", a_table()))
}

/// Creates, changes, renames and deletes a session.
async fn a_life(provider: &impl Provider, name: &str) {
    let key: StoreKey = name.parse().unwrap();
    let other: StoreKey = format!("{name}-other").parse().unwrap();
    let at = |version| record(&Clock::system()).version(version).build();
    assert_eq!(provider.create(&key, &at(1)).await.unwrap(), Created::Done);
    assert_eq!(provider.update(&key, &at(2), &base(1)).await.unwrap(), Updated::Done);
    let renamed = provider.rename(&key, &other, &at(3), 2, None).await.unwrap();
    assert_eq!(renamed, cloakroom::providers::Renamed::Done);
    assert!(provider.delete(&other).await.unwrap());
}

pub(crate) fn consecutive_runtimes_share_a_provider(shared: &'static impl Provider) {
    for round in 0..4 {
        one_thread().block_on(a_life(shared, &format!("follow-{round}")));
        four_threads().block_on(async {
            let lives = (0..4).map(|number| {
                tokio::spawn(async move { a_life(shared, &format!("follow-{round}-{number}")).await })
            });
            for life in lives.collect::<Vec<_>>() {
                life.await.unwrap();
            }
        });
    }
}

pub(crate) fn concurrent_runtimes_share_a_provider(shared: &'static impl Provider) {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                for round in 0..5 {
                    let runtime = if number % 2 == 0 { one_thread() } else { four_threads() };
                    runtime.block_on(a_life(shared, &format!("beside-{number}-{round}")));
                }
            });
        }
    });
}

pub(crate) fn a_runtime_is_unaffected_by_the_end_of_another<S: SqlServer>(server: &S) {
    let provider = connected(server, 2);
    let (first, second) = (four_threads(), one_thread());
    for round in 0..20 {
        first.block_on(a_life(&provider, &format!("first-{round}")));
        second.block_on(a_life(&provider, &format!("second-{round}")));
    }
    // End the first runtime during its calls.
    for number in 0..8 {
        let provider = provider.clone();
        first.spawn(async move {
            for round in 0.. {
                a_life(&provider, &format!("ended-{number}-{round}")).await;
            }
        });
    }
    second.block_on(async { tokio::time::sleep(Duration::from_millis(100)).await });
    first.shutdown_timeout(Duration::from_millis(1));
    for round in 0..20 {
        second.block_on(a_life(&provider, &format!("after-{round}")));
    }
}

pub(crate) fn an_idle_runtime_delays_no_other<S: SqlServer>(server: &S) {
    let idle = one_thread();
    let provider = idle.block_on(S::connect(&url(server, 1), PATIENCE)).unwrap();
    idle.block_on(a_life(&provider, "idle"));
    let other = one_thread();
    other.block_on(a_life(&provider, "other"));
    idle.block_on(a_life(&provider, "again"));
}
