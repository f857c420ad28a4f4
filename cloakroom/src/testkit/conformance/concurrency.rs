//! Each method is one atomic step, whatever runs at the same time: of several creates, updates or renames exactly one succeeds.

use std::future::Future;

use http::HeaderMap;

use crate::codec::Codec;
use crate::id::StoreKey;
use crate::manager::Manager;
use crate::provider::{AnyProvider, Created, Provider, Renamed, Touched, Updated};
use crate::record::Record;
use crate::testkit::fixture::{Fixture, key, keys, keys_of, minutes, user};

/// Runs `count` calls at the same time, on both handles in turn, and returns their answers.
async fn at_once<T, R>(f: &Fixture, count: usize, call: impl Fn(usize, AnyProvider) -> R) -> Vec<T>
where
    T: Send + 'static,
    R: Future<Output = crate::Result<T>> + Send + 'static,
{
    let tasks: Vec<_> = (0..count).map(|n| tokio::spawn(call(n, f.handle(n)))).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(finished(task).await.expect("a call beside others is expected to answer, not to fail"));
    }
    answers
}

/// Returns the result of a task, and panics if the task panicked.
async fn finished<T>(task: tokio::task::JoinHandle<T>) -> T {
    task.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}

fn times<T: PartialEq>(answers: &[T], wanted: T) -> usize {
    answers.iter().filter(|answer| **answer == wanted).count()
}

fn number(record: &Record) -> u64 {
    let value =
        Codec::MESSAGE_PACK.find(record.data(), "n").expect("data that reads").expect("a value under n");
    Codec::MESSAGE_PACK.decode(&value).expect("a number")
}

pub(super) async fn of_parallel_creates_of_one_key_exactly_one_is_done(f: Fixture) {
    for round in 0..10 {
        let name = key(&format!("round-{round}"));
        let records: Vec<_> = (0..16).map(|n| f.record().value("n", n).build()).collect();
        let answers = at_once(&f, 16, |n, provider| {
            let (name, record) = (name.clone(), records[n].clone());
            async move { provider.create(&name, &record).await }
        });
        let answers = answers.await;
        assert_eq!(times(&answers, Created::Done), 1, "one of sixteen has the key: {answers:?}");
        let winner = answers.iter().position(|answer| *answer == Created::Done).expect("one was done");
        f.holds(&name, &records[winner], "the record of the one that was answered with Done").await;
    }
}

pub(super) async fn a_hundred_parallel_increments_make_one_hundred(f: Fixture) {
    f.put(&key("aa"), &f.record().value("n", 0u64).build()).await;
    let tries = at_once(&f, 10, |_, provider| {
        let f = f.clone();
        async move {
            for _ in 0..10 {
                increment(&f, &provider).await?;
            }
            Ok(())
        }
    });
    tries.await;
    let record = f.load(&key("aa")).await.expect("nobody ended it");
    assert_eq!(number(&record), 100, "every increment that was answered with Done is in the sum");
    assert_eq!(record.meta().version(), 101, "one version for each");
}

/// Loads the number and adds one, and tries again as long as another call is first.
async fn increment(f: &Fixture, provider: &AnyProvider) -> crate::Result<()> {
    loop {
        let found = provider.load(&key("aa")).await?.expect("nobody ended it");
        let version = found.meta().version();
        let next = f.record().value("n", number(&found) + 1).version(version + 1).build();
        match provider.update(&key("aa"), &next, &found).await? {
            Updated::Done => return Ok(()),
            Updated::Stale => tokio::task::yield_now().await,
            Updated::Gone => panic!("nobody ended it"),
        }
    }
}

pub(super) async fn of_parallel_updates_of_one_version_exactly_one_is_done(f: Fixture) {
    let mut base = f.record().version(0).build();
    f.put(&key("aa"), &base).await;
    for round in 0..20u64 {
        let records: Vec<_> =
            (0..8u64).map(|n| f.record().value("n", n).version(round + 1).build()).collect();
        let answers = at_once(&f, 8, |n, provider| {
            let (record, base) = (records[n].clone(), base.clone());
            async move { provider.update(&key("aa"), &record, &base).await }
        });
        let answers = answers.await;
        let expected = (times(&answers, Updated::Done), times(&answers, Updated::Stale));
        assert_eq!(expected, (1, 7), "one is first, the others are stale: {answers:?}");
        let winner = answers.iter().position(|answer| *answer == Updated::Done).expect("one was done");
        f.holds(&key("aa"), &records[winner], "the record of the one that was answered with Done").await;
        base = records[winner].clone();
    }
}

pub(super) async fn of_parallel_renames_exactly_one_is_done(f: Fixture) {
    for round in 0..10 {
        let old = key(&format!("old-{round}"));
        let targets: Vec<StoreKey> = (0..8).map(|n| key(&format!("new-{round}-{n}"))).collect();
        f.put(&old, &f.record().build()).await;
        let moved = f.record().version(2).build();
        let answers = at_once(&f, 8, |n, provider| {
            let (old, new, moved) = (old.clone(), targets[n].clone(), moved.clone());
            async move { provider.rename(&old, &new, &moved, 1, None).await }
        });
        let answers = answers.await;
        assert_eq!(times(&answers, Renamed::Done), 1, "a session moves to one place: {answers:?}");
        assert_eq!(times(&answers, Renamed::Gone), 7, "for the others it has gone: {answers:?}");
        for (target, answer) in targets.iter().zip(&answers) {
            let found = f.load(target).await.is_some();
            assert_eq!(
                found,
                *answer == Renamed::Done,
                "the session lives where Done was said, and only there"
            );
        }
        f.lacks(&old, "the old id is dead").await;
    }
}

pub(super) async fn parallel_renames_to_one_key_let_one_session_in(f: Fixture) {
    for round in 0..10 {
        let new = key(&format!("new-{round}"));
        let old: Vec<StoreKey> = (0..6).map(|n| key(&format!("old-{round}-{n}"))).collect();
        for (n, old) in old.iter().enumerate() {
            f.put(old, &f.record().value("n", n).build()).await;
        }
        let moved: Vec<_> = (0..6).map(|n| f.record().value("n", n).version(2).build()).collect();
        let answers = at_once(&f, 6, |n, provider| {
            let (old, new, moved) = (old[n].clone(), new.clone(), moved[n].clone());
            async move { provider.rename(&old, &new, &moved, 1, None).await }
        });
        let answers = answers.await;
        assert_eq!(times(&answers, Renamed::Done), 1, "a key takes one session: {answers:?}");
        assert_eq!(times(&answers, Renamed::Taken), 5, "for the others it is taken: {answers:?}");
        for (n, answer) in answers.iter().enumerate() {
            match answer {
                Renamed::Done => f.holds(&new, &moved[n], "the session that was let in").await,
                _ => assert!(f.load(&old[n]).await.is_some(), "a session that found the key taken stays"),
            }
        }
    }
}

pub(super) async fn of_parallel_deletes_exactly_one_says_that_it_was_there(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    for round in 0..10 {
        let name = key(&format!("round-{round}"));
        f.put(&name, &f.record().build()).await;
        let answers = at_once(&f, 8, |_, provider| {
            let name = name.clone();
            async move { provider.delete(&name).await }
        });
        let answers = answers.await;
        assert_eq!(times(&answers, true), 1, "a session ends once: {answers:?}");
        f.lacks(&name, "it was deleted").await;
    }
}

pub(super) async fn a_delete_wins_against_every_change_beside_it(f: Fixture) {
    if !f.revokes().await {
        return;
    }
    for round in 0..25 {
        let name = key(&format!("round-{round}"));
        let base = f.record().principal("alice").build();
        f.put(&name, &base).await;
        let next = f.record().principal("alice").version(2).build();
        let now = f.now() + minutes(10);
        at_once(&f, 7, |n, provider| {
            let (name, next, base) = (name.clone(), next.clone(), base.clone());
            async move {
                match n {
                    3 => assert!(provider.delete(&name).await?, "nobody else deletes it"),
                    1 | 5 => drop(provider.touch(&name, now).await?),
                    _ => drop(provider.update(&name, &next, &base).await?),
                }
                Ok(())
            }
        })
        .await;
        f.lacks(&name, "a dead session stays dead, whatever was on its way").await;
    }
    if f.lists().await {
        assert_eq!(f.count().await, 0, "all are dead");
        f.belong_to("alice", &[], "all are dead").await;
    }
}

pub(super) async fn a_rename_beside_an_update_loses_neither(f: Fixture) {
    for round in 0..25 {
        let (old, new) = (key(&format!("old-{round}")), key(&format!("new-{round}")));
        let first = f.record().build();
        f.put(&old, &first).await;
        let moved = f.record().value("moved", true).version(2).build();
        let changed = f.record().value("changed", true).version(2).build();
        let rename = {
            let (provider, old, new, moved) = (f.handle(0), old.clone(), new.clone(), moved.clone());
            tokio::spawn(async move { provider.rename(&old, &new, &moved, 1, None).await })
        };
        let update = {
            let (provider, old, changed) = (f.handle(1), old.clone(), changed.clone());
            tokio::spawn(async move { provider.update(&old, &changed, &first).await })
        };
        let answers = (finished(rename).await.expect("rename"), finished(update).await.expect("update"));
        match answers {
            (Renamed::Done, Updated::Gone) => {
                f.lacks(&old, "the rename was first").await;
                f.holds(&new, &moved, "the rename was first").await;
            }
            (Renamed::Stale, Updated::Done) => {
                f.holds(&old, &changed, "the update was first").await;
                f.lacks(&new, "the update was first").await;
            }
            other => panic!("one of the two is first, and the other has to see that; found {other:?}"),
        }
    }
}

pub(super) async fn a_touch_beside_an_update_loses_no_data(f: Fixture) {
    let mut base = f.record().version(0).build();
    f.put(&key("aa"), &base).await;
    for round in 0..60u64 {
        let next = f.record().value("n", round).version(round + 1).build();
        let at = f.now() + minutes(10);
        // A few touches only, since more could hide a fault of one. The update takes every place among them.
        let calls = 2 + round as usize % 3;
        at_once(&f, calls, |n, provider| {
            let (next, base) = (next.clone(), base.clone());
            async move {
                if n == round as usize % calls {
                    let updated = provider.update(&key("aa"), &next, &base).await?;
                    assert_eq!(updated, Updated::Done, "no touch makes it stale");
                } else {
                    let touched = provider.touch(&key("aa"), at).await?;
                    assert_eq!(touched, Touched::Done, "it is alive");
                }
                Ok(())
            }
        })
        .await;
        let found = f.load(&key("aa")).await.expect("it is alive");
        assert_eq!(number(&found), round, "a touch never brings old data back");
        assert_eq!(found.meta().version(), round + 1, "a touch never brings an old version back");
        base = next;
    }
}

pub(super) async fn a_touch_beside_a_change_of_lifetime_never_undoes_it(f: Fixture) {
    for round in 0..40 {
        let name = key(&format!("round-{round}"));
        let base = f.record().idle(minutes(30)).build();
        f.put(&name, &base).await;
        let own = if round % 2 == 0 { minutes(30 * 24 * 60) } else { minutes(2) };
        let changed = f.record().idle(own).no_absolute().version(2).build();
        let at = f.now() + minutes(1);
        at_once(&f, 4, |n, provider| {
            let (name, changed, base) = (name.clone(), changed.clone(), base.clone());
            async move {
                if n == round % 4 {
                    let updated = provider.update(&name, &changed, &base).await?;
                    assert_eq!(updated, Updated::Done, "no touch makes it stale");
                } else {
                    let touched = provider.touch(&name, at).await?;
                    assert_eq!(touched, Touched::Done, "it is alive");
                }
                Ok(())
            }
        })
        .await;
        let mut touched = changed.clone();
        touched.touch(at);
        let found = f.load(&name).await;
        let fits = found.as_ref().is_some_and(|found| *found == changed || *found == touched);
        assert!(fits, "its idle time is the one that was set, whoever was first: {found:?}");
    }
}

pub(super) async fn parallel_work_on_many_keys_leaves_the_lists_exact(f: Fixture) {
    if !f.lists().await || !f.revokes().await {
        return;
    }
    let all = keys(48);
    let mark = f.record().tombstone(&key("anywhere"), minutes(1));
    at_once(&f, 48, |n, provider| {
        let (name, away) = (all[n].clone(), key(&format!("away-{n:04}")));
        let (first, second) =
            (f.record().principal("alice").build(), f.record().principal("bob").version(2).build());
        let mark = mark.clone();
        async move {
            assert_eq!(provider.create(&name, &first).await?, Created::Done, "nobody else has the key");
            match n % 4 {
                0 => assert_eq!(
                    provider.update(&name, &second, &first).await?,
                    Updated::Done,
                    "nobody else changes it"
                ),
                1 => assert!(provider.delete(&name).await?, "nobody else ends it"),
                2 => {
                    let renamed = provider.rename(&name, &away, &second, 1, Some(&mark)).await?;
                    assert_eq!(renamed, Renamed::Done, "nobody else moves it");
                }
                _ => {}
            }
            Ok(())
        }
    })
    .await;
    assert_eq!(f.count().await, 36, "a quarter of 48 was deleted");
    let ours =
        |rest: usize| all.iter().enumerate().filter(move |(n, _)| n % 4 == rest).map(|(_, key)| key.clone());
    let away = (0..48).filter(|n| n % 4 == 2).map(|n| key(&format!("away-{n:04}")));
    let mut bobs: Vec<_> = ours(0).chain(away).collect();
    bobs.sort();
    assert_eq!(keys_of(&f.of_user("bob").await), bobs, "the updated and the renamed ones");
    assert_eq!(keys_of(&f.of_user("alice").await), ours(3).collect::<Vec<_>>(), "the ones left alone");
    assert_eq!(f.scan(5).await.len(), 36, "a walk meets as many as are counted");
}

pub(super) async fn of_parallel_readers_one_takes_each_flash_message(f: Fixture) {
    let managers: Vec<_> = [&f.provider, &f.second].map(|provider| manager(&f, provider)).into();
    let session = managers[0].start(&HeaderMap::new()).await.expect("an empty session");
    for name in ["one", "two", "three"] {
        session.flash(name, 0u8).expect("a small message");
    }
    session.save().await.expect("a create");
    let id = session.id().expect("it was stored");
    let readers = at_once(&f, 8, |n, _| {
        let (manager, id) = (managers[n % 2].clone(), id.clone());
        async move {
            let session = manager.session(&id).await?.expect("nobody ended it");
            session.take_flashes::<u8>().await
        }
    });
    let mut taken: Vec<_> = readers.await.into_iter().flatten().map(|flash| flash.name).collect();
    taken.sort_unstable();
    assert_eq!(taken, ["one", "three", "two"], "each message went to one of the eight");
}

/// Returns a manager over one of the handles on the store.
fn manager(f: &Fixture, provider: &AnyProvider) -> Manager {
    let builder = Manager::builder(provider.clone()).clock(f.clock.clone()).deadline(minutes(1));
    builder.build().expect("the defaults work together")
}

pub(super) async fn parallel_collections_remove_each_record_once(f: Fixture) {
    for key in keys(40) {
        f.put(&key, &f.record().idle(minutes(5)).build()).await;
    }
    let alive = f.record().idle(minutes(50)).build();
    f.put(&key("alive"), &alive).await;
    f.advance(minutes(5)).await;
    let answers = at_once(&f, 8, |_, provider| async move { provider.delete_expired(10).await }).await;
    let mut removed: usize = answers.iter().map(|answer| answer.removed).sum();
    removed += f.collect_all(10).await;
    let native = f.capabilities().native_expiry;
    assert!(removed == 40 || (native && removed < 40), "40 have expired, {removed} were said to be removed");
    f.holds(&key("alive"), &alive, "nobody collects the living").await;
}

pub(super) async fn a_collection_beside_a_create_never_takes_the_new_record(f: Fixture) {
    for round in 0..20 {
        let name = key(&format!("round-{round}"));
        f.put(&name, &f.record().idle(minutes(1)).build()).await;
        f.advance(minutes(1)).await;
        let fresh = f.record().value("n", round).idle(minutes(600)).absolute(minutes(600)).build();
        at_once(&f, 4, |n, provider| {
            let (name, fresh) = (name.clone(), fresh.clone());
            async move {
                match n {
                    2 => assert_eq!(
                        provider.create(&name, &fresh).await?,
                        Created::Done,
                        "the former has expired"
                    ),
                    _ => drop(provider.delete_expired(10).await?),
                }
                Ok(())
            }
        })
        .await;
        f.holds(&name, &fresh, "the collection was after the expired one under this key").await;
    }
}

pub(super) async fn a_users_list_shows_a_session_once_while_it_moves(f: Fixture) {
    if !f.lists().await {
        return;
    }
    let name = |n: u64| key(&format!("step-{n}"));
    f.put(&name(1), &f.record().principal("alice").build()).await;
    let mover = f.handle(0);
    let (side, finish) = (f.clone(), 1 + 100);
    let moving = tokio::spawn(async move {
        for n in 1..finish {
            let record = side.record().principal("alice").version(n + 1).build();
            let mark = side.record().version(n).tombstone(&name(n + 1), minutes(1));
            let renamed = mover.rename(&name(n), &name(n + 1), &record, n, Some(&mark)).await;
            assert_eq!(renamed.expect("a rename beside a list"), Renamed::Done, "nobody else moves it");
        }
    });
    let (lister, alice) = (f.handle(1), user("alice"));
    let mut looks = 0;
    while !moving.is_finished() || looks == 0 {
        let page = lister.indexed(&alice, None, 10).await.expect("a list beside renames");
        let listed = page.entries;
        assert_eq!(listed.len(), 1, "one session, whatever its key: {listed:?}");
        looks += 1;
        // A provider that never waits would not let the other task run.
        tokio::task::yield_now().await;
    }
    finished(moving).await;
    f.belong_to("alice", &[&name(finish)], "where it came to in the end").await;
}
