//! One user, or one label, with very many sessions: they are listed and ended in bounded steps.
//!
//! The variable `CLOAKROOM_SESSIONS` sets the number. The long run uses 100,000.

use std::collections::BTreeSet;

use crate::provider::{Provider, Renamed};
use crate::record::IndexEntry;
use crate::testkit::RecordBuilder;
use crate::testkit::fixture::{Fixture, key, label, minutes, user};

/// The default number of sessions. It fills several pages and is quick enough for every run of the suite.
const SESSIONS: usize = 1_000;
const LIMIT: usize = 100;

fn sessions() -> usize {
    let asked = std::env::var("CLOAKROOM_SESSIONS").ok();
    asked.map_or(SESSIONS, |text| text.parse().expect("CLOAKROOM_SESSIONS is a number"))
}

/// The index entry that the sessions have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Common {
    User,
    Label,
}

impl Common {
    fn entry(self) -> IndexEntry {
        match self {
            Common::User => user("alice"),
            Common::Label => label("device"),
        }
    }

    fn record(self, f: &Fixture) -> RecordBuilder {
        match self {
            Common::User => f.record().principal("alice"),
            // The session has no user, so only the label finds it.
            Common::Label => f.record().label("device").label("another"),
        }
    }
}

/// Stores `sessions` sessions of `common`, in 16 tasks.
async fn stored(f: &Fixture, common: Common, sessions: usize) {
    let tasks: Vec<_> = (0..16usize)
        .map(|lane| {
            let f = f.clone();
            tokio::spawn(async move {
                let record = common.record(&f).build();
                for n in (lane..sessions).step_by(16) {
                    f.put(&key(&format!("many-{n:05}")), &record).await;
                }
            })
        })
        .collect();
    for task in tasks {
        finished(task).await;
    }
}

async fn finished(task: tokio::task::JoinHandle<()>) {
    task.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
}

/// Moves and ends every twentieth session.
async fn moves_and_ends(f: Fixture, common: Common, sessions: usize) {
    let next = common.record(&f).version(2).build();
    for n in (0..sessions).step_by(20) {
        let name = key(&format!("many-{n:05}"));
        if n % 40 == 0 {
            let renamed = f.rename(&name, &key(&format!("moved-{n:05}")), &next, 1, None).await;
            assert_eq!(renamed, Renamed::Done, "nobody else moves it");
        } else {
            assert!(f.delete(&name).await, "nobody else ends it");
        }
    }
}

pub(super) async fn a_users_many_sessions_end_in_bounded_steps(f: Fixture) {
    if f.lists().await && f.revokes().await && f.capabilities().users {
        end_in_bounded_steps(f, Common::User).await;
    }
}

pub(super) async fn a_labels_many_sessions_end_in_bounded_steps(f: Fixture) {
    if f.lists().await && f.revokes().await && f.capabilities().labels {
        end_in_bounded_steps(f, Common::Label).await;
    }
}

async fn end_in_bounded_steps(f: Fixture, common: Common) {
    f.put(&key("bobs"), &f.record().principal("bob").build()).await;
    let sessions = sessions();
    stored(&f, common, sessions).await;
    let beside = tokio::spawn(moves_and_ends(f.swapped(), common, sessions));
    let mut met = BTreeSet::new();
    loop {
        let over = beside.is_finished();
        met.extend(f.indexed(&common.entry(), LIMIT).await.into_iter().map(|entry| entry.key));
        // A provider that never waits would not let the other task run.
        tokio::task::yield_now().await;
        if over {
            break;
        }
    }
    finished(beside).await;
    for n in (0..sessions).filter(|n| n % 20 != 0) {
        let name = key(&format!("many-{n:05}"));
        assert!(met.contains(&name), "{name:?} was there throughout, and has to be met");
    }
    // One in forty sessions was moved, and as many were ended.
    let left = sessions - (0..sessions).filter(|n| n % 40 == 20).count();
    let found: BTreeSet<_> = f.indexed(&common.entry(), LIMIT).await.into_iter().map(|e| e.key).collect();
    assert_eq!(found.len(), left, "all but the ended ones");
    ends_all(&f, common, left).await;
    assert_eq!(f.count().await, 1, "bob's alone");
    f.belong_to("bob", &[&key("bobs")], "he has not logged out").await;
    // Sessions that expire all at once are collected in bounded steps, too.
    f.advance(minutes(60 * 9)).await;
    f.collect_all(LIMIT).await;
}

/// Ends every session of `common`, page by page.
async fn ends_all(f: &Fixture, common: Common, left: usize) {
    let (entry, mut ended) = (common.entry(), 0);
    for walk in 0.. {
        assert!(walk < 4, "{ended} of {left} sessions have ended after {walk} walks");
        let (before, mut cursor) = (ended, None);
        loop {
            let page = f.provider.indexed(&entry, cursor, LIMIT).await.expect("a page");
            assert!(page.entries.len() <= LIMIT, "a page of at most {LIMIT}");
            for entry in page.entries {
                ended += usize::from(f.delete(&entry.key).await);
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        if ended == before {
            break;
        }
    }
    assert_eq!(ended, left, "each ends once");
    f.have(&entry, &[], "all have ended").await;
}
