//! Counts: concurrent callers share one walk.

use crate::record::base;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use super::count::{CountStep, Counter, KeyRange};
use super::threads::ThreadLimits;
use super::*;

const WHOLE: &[KeyRange] = &[("", None)];

/// A walk of two steps that each wait for a message, and a count of the walks that have begun.
#[derive(Clone)]
struct Slow {
    begun: Arc<AtomicUsize>,
    gate: Arc<Mutex<Receiver<()>>>,
}

impl Slow {
    fn new() -> (Slow, Sender<()>) {
        let (open, gate) = channel();
        (Slow { begun: Arc::default(), gate: Arc::new(Mutex::new(gate)) }, open)
    }

    fn walk(&self, after: &str) -> Result<CountStep> {
        if after.is_empty() {
            self.begun.fetch_add(1, Ordering::SeqCst);
        }
        // Once the sender is dropped, no step waits.
        let _ = self.gate.lock().unwrap().recv();
        Ok(CountStep { count: 7, next: after.is_empty().then(|| "half".to_owned()) })
    }

    async fn begun(&self, walks: usize) {
        while self.begun.load(Ordering::SeqCst) < walks {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_counts_share_a_walk() {
    let (threads, counter, (slow, open)) = (ThreadLimits::new(), Counter::default(), Slow::new());
    let asked = Arc::new(AtomicUsize::new(0));
    let ask = || {
        let (limit, counter, slow, asked) =
            (threads.walks.clone(), counter.clone(), slow.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            asked.fetch_add(1, Ordering::SeqCst);
            counter.count(&limit, WHOLE, move |after, _| slow.walk(after)).await.unwrap()
        })
    };
    let first = ask();
    slow.begun(1).await;
    let others: Vec<_> = (0..100).map(|_| ask()).collect();
    while asked.load(Ordering::SeqCst) < 101 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    open.send(()).unwrap();
    open.send(()).unwrap();
    assert_eq!(first.await.unwrap(), 14);
    // The first walk began before the other calls, so it may have missed records. The other calls share a second walk.
    slow.begun(2).await;
    drop(open);
    for other in others {
        assert_eq!(other.await.unwrap(), 14);
    }
    assert!(slow.begun.load(Ordering::SeqCst) <= 3, "{:?}", slow.begun);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_outlives_its_caller_and_serves_the_next() {
    let (threads, counter, (slow, open)) = (ThreadLimits::new(), Counter::default(), Slow::new());
    let ask = || {
        let slow = slow.clone();
        counter.count(&threads.walks, WHOLE, move |after, _| slow.walk(after))
    };
    for _ in 0..50 {
        let late = tokio::time::timeout(Duration::from_millis(2), ask()).await;
        assert!(late.is_err(), "the walk cannot end yet");
    }
    assert_eq!(slow.begun.load(Ordering::SeqCst), 1, "the callers that gave up shared one walk");
    // The first step ends now, the second after the next caller has waited for more than a second.
    open.send(()).unwrap();
    let goes_on = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        drop(open);
    });
    assert_eq!(ask().await.unwrap(), 14);
    assert_eq!(slow.begun.load(Ordering::SeqCst), 1, "the count is that of the walk under way");
    goes_on.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_walk_is_answered_with_the_last_count() {
    let (threads, counter, (slow, open)) = (ThreadLimits::new(), Counter::default(), Slow::new());
    open.send(()).unwrap();
    open.send(()).unwrap();
    let walk = slow.clone();
    assert_eq!(counter.count(&threads.walks, WHOLE, move |after, _| walk.walk(after)).await.unwrap(), 14);
    let walk = slow.clone();
    let (limit, asked) = (threads.walks.clone(), counter.clone());
    let asking =
        tokio::spawn(async move { asked.count(&limit, WHOLE, move |after, _| walk.walk(after)).await });
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // The walk ends its first step and waits in its second.
    open.send(()).unwrap();
    assert_eq!(asking.await.unwrap().unwrap(), 14);
    assert_eq!(slow.begun.load(Ordering::SeqCst), 2);
    drop(open);
}

#[test]
fn a_walk_whose_runtime_ends_is_started_again() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_time().build().unwrap()
    };
    let (threads, counter, (slow, open)) = (ThreadLimits::new(), Counter::default(), Slow::new());
    let (one, other) = (runtime(), runtime());
    let (limit, asked, walk) = (threads.walks.clone(), counter.clone(), slow.clone());
    drop(one.spawn(async move { asked.count(&limit, WHOLE, move |after, _| walk.walk(after)).await }));
    other.block_on(slow.begun(1));
    let (limit, asked, walk) = (threads.walks.clone(), counter.clone(), slow.clone());
    let joined =
        other.spawn(async move { asked.count(&limit, WHOLE, move |after, _| walk.walk(after)).await });
    one.shutdown_background();
    drop(open);
    assert_eq!(other.block_on(joined).unwrap().unwrap(), 14);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_count_names_the_cause_and_is_not_cached() {
    let rig = Rig::new();
    let provider = rig.provider();
    assert_eq!(provider.create(&key("ab12"), &rig.record()).await.unwrap(), Created::Done);
    fs::remove_dir_all(rig.path()).unwrap();
    fs::write(rig.path(), "").unwrap();
    let error = provider.count().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(format!("{error}").contains("is not a folder"), "{error}");
    fs::remove_file(rig.path()).unwrap();
    assert_eq!(provider.count().await.unwrap(), 0);
}

#[tokio::test]
async fn every_session_in_every_folder_is_counted_once() {
    let rig = Rig::new();
    let provider = rig.provider();
    let starts = "-059AZ_az3478bcdf";
    for (number, start) in starts.chars().enumerate() {
        for next in ["-", "0", "4", "c", "z"] {
            let name = key(&format!("{start}{next}{number}"));
            assert_eq!(provider.create(&name, &rig.record()).await.unwrap(), Created::Done);
        }
    }
    let count = 5 * starts.len() as u64;
    assert_eq!(provider.count().await.unwrap(), count);
    #[cfg(feature = "beego")]
    {
        let rig = Rig::new();
        for (number, start) in starts.chars().enumerate() {
            rig.plant(&key(&format!("{start}4{number}")), b"a value");
        }
        let provider = FileProvider::builder(rig.path()).connect_beego(Duration::from_secs(3600)).unwrap();
        assert_eq!(provider.count().await.unwrap(), starts.len() as u64);
    }
}

#[tokio::test]
async fn a_count_is_exact_after_every_change() {
    let rig = Rig::new();
    let (provider, other) = (rig.provider(), rig.provider());
    let is = |count| {
        let provider = provider.clone();
        async move { assert_eq!(provider.count().await.unwrap(), count) }
    };
    for round in 0..100_u64 {
        let name = key(&format!("ab{}", round % 3));
        // The count includes changes of another process.
        let mut record = rig.record();
        record.set_use(rig.time.clock().millis(), rig.time.clock().millis().after(Duration::from_secs(60)));
        assert_eq!(other.create(&name, &record).await.unwrap(), Created::Done);
        is(1).await;
        rig.time.advance(Duration::from_secs(30));
        assert_eq!(other.touch(&name, rig.time.clock().now()).await.unwrap(), Touched::Done);
        is(1).await;
        if round == 50 {
            // From now on the cached deadline of the file is used.
            tokio::time::sleep(Duration::from_millis(150)).await;
            is(1).await;
            is(1).await;
        }
        if round % 2 == 0 {
            assert!(other.delete(&name).await.unwrap());
        } else {
            rig.time.advance(Duration::from_secs(59));
            is(1).await;
            rig.time.advance(Duration::from_secs(1));
        }
        is(0).await;
    }
    let mut stone = rig.record();
    assert_eq!(other.create(&key("ab12"), &stone).await.unwrap(), Created::Done);
    is(1).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    is(1).await;
    stone = stone.tombstone(&Mark::Ended, Millis(1), Millis::NEVER);
    assert_eq!(other.update(&key("ab12"), &stone, &base(1)).await.unwrap(), Updated::Done);
    is(0).await;
}
