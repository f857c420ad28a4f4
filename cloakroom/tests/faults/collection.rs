//! Garbage collection in the background: a failed round is logged, and the next one runs.

use std::time::Duration;

use cloakroom::ErrorKind;

use crate::support::Rig;
use crate::support::faulty::Fault;
use crate::support::hooked::Call;
use crate::support::log::Log;

/// Waits for `count` rounds. Returns the time that they took.
async fn rounds(rig: &Rig, count: usize) -> Duration {
    let start = tokio::time::Instant::now();
    let mut seen = 0;
    while seen < count {
        assert!(start.elapsed() < Duration::from_secs(3600), "{seen} rounds within an hour");
        tokio::time::sleep(Duration::from_millis(100)).await;
        seen += rig.faults.calls().iter().filter(|call| **call == Call::DeleteExpired).count();
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_failed_round_is_logged_and_the_next_one_runs() {
    let log = Log::start();
    let rig = Rig::new();
    let _collecting = rig.manager.spawn_gc();
    rig.faults.set(Call::DeleteExpired, Fault::Fail);
    rounds(&rig, 3).await;
    let failures = || log.text().matches("garbage collection failed; the next round will try again").count();
    assert_eq!(failures(), 3);
    rig.faults.heal();
    rounds(&rig, 2).await;
    assert_eq!(failures(), 3);
    assert!(log.text().contains("garbage collected"));
}

#[tokio::test(start_paused = true)]
async fn rounds_come_at_the_interval_within_a_fifth() {
    let rig = Rig::with(|builder| builder.gc_interval(Duration::from_secs(100)));
    let _collecting = rig.manager.spawn_gc();
    let took = rounds(&rig, 20).await.as_secs();
    assert!((20 * 80..=20 * 121).contains(&took), "20 rounds in {took} s");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_guard_stops_a_hanging_round() {
    for fault in [None, Some(Fault::Hang)] {
        let rig = Rig::new();
        if let Some(fault) = fault {
            rig.faults.set(Call::DeleteExpired, fault);
        }
        let collecting = rig.manager.spawn_gc();
        rounds(&rig, 1).await;
        drop(collecting);
        rig.faults.heal();
        rig.faults.calls();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(rig.faults.calls(), []);
    }
}

#[tokio::test]
async fn collect_garbage_returns_the_error() {
    let rig = Rig::new();
    rig.faults.set(Call::DeleteExpired, Fault::Fail);
    assert_eq!(rig.manager.collect_garbage().await.unwrap_err().kind(), ErrorKind::Unavailable);
    rig.faults.heal();
    assert_eq!(rig.manager.collect_garbage().await.unwrap(), 0);
}
