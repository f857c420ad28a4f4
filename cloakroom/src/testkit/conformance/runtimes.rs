//! A provider outlives the tokio runtimes that use it, even the one in which it was opened.

use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::id::StoreKey;
use crate::provider::{Created, Provider, Renamed, Touched, Updated};
use crate::testkit::fixture::{Fixture, key};

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("the operating system gives a runtime")
}

/// Keeps calls under way in `runtime` until it ends.
fn busy(f: &Fixture, runtime: &Runtime, name: &str) {
    for n in 0..8 {
        let (f, name) = (f.clone(), key(&format!("{name}-{n}")));
        runtime.spawn(async move {
            let provider = f.handle(n);
            for version in 1.. {
                let record = f.record().principal("busy").version(version).build();
                // The outcome of the last call is unknown.
                drop(provider.create(&name, &record).await);
                drop(provider.load(&name).await);
                drop(provider.touch(&name, f.now()).await);
                drop(provider.delete(&name).await);
                tokio::task::yield_now().await;
            }
        });
    }
}

/// Ends `runtime` while calls are under way in it, from a thread that may block.
async fn ends(runtime: Runtime) {
    tokio::time::sleep(Duration::from_millis(20)).await;
    let ended = thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(5)));
    while !ended.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ended.join().expect("the runtime ends");
}

/// Leads a session through its whole life, `rounds` times, and checks every answer.
async fn lives(f: &Fixture, turn: usize, name: &str, rounds: usize) {
    let f = if turn.is_multiple_of(2) { f.clone() } else { f.swapped() };
    for round in 0..rounds {
        let old: StoreKey = key(&format!("{name}-{round}-old"));
        let new: StoreKey = key(&format!("{name}-{round}-new"));
        let stage = |version: u64| f.record().principal(name).value("n", version).version(version).build();
        assert_eq!(f.create(&old, &stage(1)).await, Created::Done, "nobody else has the key");
        assert_eq!(f.update(&old, &stage(2), 1).await, Updated::Done, "nobody else changes it");
        let touched = f.touch(&old).await;
        assert_eq!(touched, Touched::Done, "nobody else changes it");
        assert_eq!(f.rename(&old, &new, &stage(3), 2, None).await, Renamed::Done, "nobody else moves it");
        f.holds(&new, &stage(3), "the change that was just made").await;
        f.lacks(&old, "it has moved").await;
        if f.capabilities().lists {
            assert!(f.count().await > 0, "one at least is there");
            f.belong_to(name, &[&new], "the one that is there").await;
        }
        if f.capabilities().revocable {
            assert!(f.delete(&new).await, "nobody else ends it");
        }
        let _ = f.delete_expired(5).await;
    }
}

pub(super) async fn a_store_outlives_the_runtime_it_was_opened_in(f: Fixture) {
    let home = f.take_home();
    busy(&f, &home, "home");
    ends(home).await;
    lives(&f, 0, "after", 5).await;
    lives(&f, 1, "after-too", 5).await;
}

pub(super) async fn a_runtime_that_ends_disturbs_no_other(f: Fixture) {
    let home = f.take_home();
    for round in 0..4 {
        let brief = one_thread();
        busy(&f, &brief, &format!("brief-{round}"));
        let driver = thread::spawn(move || {
            brief.block_on(async { tokio::time::sleep(Duration::from_millis(30)).await });
            drop(brief);
        });
        let mut rounds = 0;
        while !driver.is_finished() || rounds == 0 {
            lives(&f, rounds, &format!("beside-{round}-{rounds}"), 1).await;
            rounds += 1;
        }
        driver.join().expect("the runtime ends");
        lives(&f, round, &format!("then-{round}"), 2).await;
    }
    let again = f.clone();
    let at_home = home.spawn(async move { lives(&again, 0, "home", 2).await });
    at_home.await.expect("the runtime that the store was opened in goes on");
    ends(home).await;
}

pub(super) async fn runtimes_that_come_and_go_share_one_store(f: Fixture) {
    let home = f.take_home();
    ends(home).await;
    // The tests of an application that share one static manager do this.
    let tests: Vec<_> = (0..8)
        .map(|n| {
            let f = f.clone();
            thread::spawn(move || {
                for round in 0..3 {
                    let name = format!("test-{n}-{round}");
                    if (n + round) % 2 == 0 {
                        one_thread().block_on(lives(&f, n, &name, 1 + n % 3));
                    } else {
                        let four = Builder::new_multi_thread().worker_threads(4).enable_all().build();
                        let four = four.expect("the operating system gives four threads");
                        four.block_on(lives(&f, n, &name, 1 + n % 3));
                    }
                }
            })
        })
        .collect();
    while tests.iter().any(|test| !test.is_finished()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for test in tests {
        test.join().unwrap_or_else(|failed| std::panic::resume_unwind(failed));
    }
    lives(&f, 0, "last", 2).await;
}
