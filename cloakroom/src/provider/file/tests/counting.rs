//! How many sessions there are: one walk at a time, whoever asks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use super::lanes::Lanes;
use super::tally::{Part, Stretch, Tally};
use super::*;

const WHOLE: &[Part] = &[("", None)];

/// A walk that takes until it is told to go on, and counts how often it was begun.
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

    fn walk(&self, after: &str) -> Result<Stretch> {
        if after.is_empty() {
            self.begun.fetch_add(1, Ordering::SeqCst);
        }
        // Once nobody holds the gate any longer it stands open.
        let _ = self.gate.lock().unwrap().recv();
        Ok(Stretch { count: 7, next: after.is_empty().then(|| "half".to_owned()) })
    }

    async fn begun(&self, walks: usize) {
        while self.begun.load(Ordering::SeqCst) < walks {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_askers_share_a_walk() {
    let (lanes, tally, (slow, open)) = (Lanes::new(), Tally::default(), Slow::new());
    let asked = Arc::new(AtomicUsize::new(0));
    let ask = || {
        let (lane, tally, slow, asked) =
            (lanes.walks.clone(), tally.clone(), slow.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            asked.fetch_add(1, Ordering::SeqCst);
            tally.ask(&lane, WHOLE, move |after, _| slow.walk(after)).await.unwrap()
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
    // Records created before the others asked may be behind the first walk: they share one of their own.
    slow.begun(2).await;
    drop(open);
    for other in others {
        assert_eq!(other.await.unwrap(), 14);
    }
    assert!(slow.begun.load(Ordering::SeqCst) <= 3, "{:?}", slow.begun);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_outlives_its_asker_and_answers_the_next() {
    let (lanes, tally, (slow, open)) = (Lanes::new(), Tally::default(), Slow::new());
    let ask = || {
        let slow = slow.clone();
        tally.ask(&lanes.walks, WHOLE, move |after, _| slow.walk(after))
    };
    for _ in 0..50 {
        let late = tokio::time::timeout(Duration::from_millis(2), ask()).await;
        assert!(late.is_err(), "the walk cannot end yet");
    }
    assert_eq!(slow.begun.load(Ordering::SeqCst), 1, "one walk, however many have given up on it");
    // The first half ends now, the second only when the next asker has lost patience.
    open.send(()).unwrap();
    let goes_on = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        drop(open);
    });
    assert_eq!(ask().await.unwrap(), 14);
    assert_eq!(slow.begun.load(Ordering::SeqCst), 1, "the answer is that of the walk under way");
    goes_on.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_walks_take_too_long_the_last_answer_serves() {
    let (lanes, tally, (slow, open)) = (Lanes::new(), Tally::default(), Slow::new());
    open.send(()).unwrap();
    open.send(()).unwrap();
    let walk = slow.clone();
    assert_eq!(tally.ask(&lanes.walks, WHOLE, move |after, _| walk.walk(after)).await.unwrap(), 14);
    let walk = slow.clone();
    let (lane, asked) = (lanes.walks.clone(), tally.clone());
    let asking = tokio::spawn(async move { asked.ask(&lane, WHOLE, move |after, _| walk.walk(after)).await });
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // The walk is half-way and stays there.
    open.send(()).unwrap();
    assert_eq!(asking.await.unwrap().unwrap(), 14);
    assert_eq!(slow.begun.load(Ordering::SeqCst), 2);
    drop(open);
}

#[test]
fn a_walk_whose_runtime_ends_is_begun_anew_by_another() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_time().build().unwrap()
    };
    let (lanes, tally, (slow, open)) = (Lanes::new(), Tally::default(), Slow::new());
    let (one, other) = (runtime(), runtime());
    let (lane, asked, walk) = (lanes.walks.clone(), tally.clone(), slow.clone());
    drop(one.spawn(async move { asked.ask(&lane, WHOLE, move |after, _| walk.walk(after)).await }));
    other.block_on(slow.begun(1));
    let (lane, asked, walk) = (lanes.walks.clone(), tally.clone(), slow.clone());
    let joined = other.spawn(async move { asked.ask(&lane, WHOLE, move |after, _| walk.walk(after)).await });
    one.shutdown_background();
    drop(open);
    assert_eq!(other.block_on(joined).unwrap().unwrap(), 14);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_that_fails_names_the_cause_and_the_next_is_its_own() {
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
async fn every_session_is_counted_once_wherever_it_lies() {
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
        let provider = FileProvider::builder(rig.path()).open_beego(Duration::from_secs(3600)).unwrap();
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
        // Another process's changes count as well.
        assert_eq!(other.create(&name, &rig.record()).await.unwrap(), Created::Done);
        is(1).await;
        let now = rig.time.clock().now();
        let times = (now, now + Duration::from_secs(90));
        assert_eq!(other.touch(&name, times.0, times.1, 1).await.unwrap(), Touched::Done);
        is(1).await;
        if round == 50 {
            // From now on what was learnt of the file is trusted.
            tokio::time::sleep(Duration::from_millis(150)).await;
            is(1).await;
            is(1).await;
        }
        if round % 2 == 0 {
            assert!(other.delete(&name).await.unwrap());
        } else {
            rig.time.advance(Duration::from_secs(89));
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
    assert_eq!(other.update(&key("ab12"), &stone, 1).await.unwrap(), Updated::Done);
    is(0).await;
}
