//! One provider in several runtimes, some of which end. No call fails because of that.

use std::sync::LazyLock;
use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, PostgresProvider, Provider,
    providers::{Created, StoreKey, Updated},
};
use tokio::runtime::{Builder, Runtime};

use crate::server::{a_table, url_with};

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Connects with a deadline for a busy machine.
async fn connected(url: &str) -> cloakroom::Result<PostgresProvider> {
    let limit = Duration::from_secs(20);
    PostgresProvider::builder(url).deadline(limit).connect_timeout(limit).connect().await
}

fn four_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
}

/// A provider in a static, as applications have it. The first test that uses it connects it.
static SHARED: LazyLock<PostgresProvider> = LazyLock::new(|| {
    let url = url_with(&format!("pool=4&table={}", a_table()));
    let connect = std::thread::spawn(move || one_thread().block_on(connected(&url)).unwrap());
    connect.join().unwrap()
});

/// Creates, changes, renames and deletes a session.
async fn a_life(provider: &PostgresProvider, name: &str) {
    let key: StoreKey = name.parse().unwrap();
    let other: StoreKey = format!("{name}-other").parse().unwrap();
    let at = |version| record(&Clock::system()).version(version).build();
    assert_eq!(provider.create(&key, &at(1)).await.unwrap(), Created::Done);
    assert_eq!(provider.update(&key, &at(2), &base(1)).await.unwrap(), Updated::Done);
    let renamed = provider.rename(&key, &other, &at(3), 2, None).await.unwrap();
    assert_eq!(renamed, cloakroom::providers::Renamed::Done);
    assert!(provider.delete(&other).await.unwrap());
}

#[test]
#[ignore = "needs postgres: cargo xtask test"]
fn consecutive_runtimes_share_a_provider() {
    for round in 0..4 {
        one_thread().block_on(a_life(&SHARED, &format!("follow-{round}")));
        four_threads().block_on(async {
            let lives = (0..4).map(|number| {
                tokio::spawn(async move { a_life(&SHARED, &format!("follow-{round}-{number}")).await })
            });
            for life in lives.collect::<Vec<_>>() {
                life.await.unwrap();
            }
        });
    }
}

#[test]
#[ignore = "needs postgres: cargo xtask test"]
fn concurrent_runtimes_share_a_provider() {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                for round in 0..5 {
                    let runtime = if number % 2 == 0 { one_thread() } else { four_threads() };
                    runtime.block_on(a_life(&SHARED, &format!("beside-{number}-{round}")));
                }
            });
        }
    });
}

#[test]
#[ignore = "needs postgres: cargo xtask test"]
fn a_runtime_is_unaffected_by_the_end_of_another() {
    let provider =
        one_thread().block_on(connected(&url_with(&format!("pool=2&table={}", a_table())))).unwrap();
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

#[test]
#[ignore = "needs postgres: cargo xtask test"]
fn an_idle_runtime_delays_no_other() {
    let idle = one_thread();
    let builder = PostgresProvider::builder(url_with(&format!("pool=1&table={}", a_table())));
    let provider = idle
        .block_on(
            builder.deadline(Duration::from_secs(20)).connect_timeout(Duration::from_secs(20)).connect(),
        )
        .unwrap();
    idle.block_on(a_life(&provider, "idle"));
    let other = one_thread();
    other.block_on(a_life(&provider, "other"));
    idle.block_on(a_life(&provider, "again"));
}
