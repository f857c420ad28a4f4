//! Large sessions, and sessions with many keys.

use std::time::Duration;

use cloakroom::Manager;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::measure::{Dice, Runner, Turns, in_turns};
use crate::report::{Report, Table};
use crate::{rig, stores};

const SESSIONS: usize = 1000;

pub fn run(report: &mut Report, quick: bool) {
    let turns = Turns { rounds: if quick { 5 } else { 31 }, each: Duration::from_millis(3) };
    let kib = |kib: usize| format!("{kib} KiB");
    let sizes = [("100 B".to_owned(), 100), (kib(1), 1 << 10), (kib(16), 1 << 14), (kib(64), 1 << 16)];
    let shapes = sizes.iter().map(|(name, size)| (name.clone(), vec![("v".to_owned(), "x".repeat(*size))]));
    table(
        report,
        "sizes",
        "One value of so many bytes, beside a small one that is read or changed",
        shapes,
        turns,
    );
    let shapes = [1, 10, 100, 1000].map(|keys| {
        let pairs = (0..keys).map(|n| (format!("key-{n}"), "0123456789abcdef".to_owned())).collect();
        (format!("{keys} keys"), pairs)
    });
    table(
        report,
        "keys",
        "So many keys of 16 bytes each, beside the one that is read or changed",
        shapes.into_iter(),
        turns,
    );
}

fn table(
    report: &mut Report,
    name: &str,
    title: &str,
    shapes: impl Iterator<Item = (String, Vec<(String, String)>)>,
    turns: Turns,
) {
    let title = format!("{title}: nanoseconds of processor time");
    let heads =
        ["", "cloakroom, read", "tower-sessions, read", "cloakroom, change", "tower-sessions, change"];
    let mut table = Table::new(&title, &heads);
    for (shape, pairs) in shapes {
        let runtime = stores::runtime();
        let (_, manager) = stores::cloakroom();
        let peer = tower_sessions::MemoryStore::default();
        let (cookies, ids) = runtime.block_on(async {
            let (mut cookies, mut ids) = (Vec::new(), Vec::new());
            for _ in 0..SESSIONS {
                cookies.push(ours(&manager, &pairs).await);
                ids.push(theirs(&peer, &pairs).await);
            }
            (cookies, ids)
        });
        let mut runners: Vec<Runner<'_>> = Vec::new();
        for changes in [false, true] {
            let (runtime, manager, peer, cookies, ids) = (&runtime, &manager, &peer, &cookies, &ids);
            let mut dice = Dice::new(11);
            runners.push(Runner::new(move |count| {
                stores::in_batches(count, |batch| {
                    let requests: Vec<_> =
                        (0..batch).map(|_| rig::headers(&cookies[dice.below(cookies.len())])).collect();
                    stores::timed(runtime, async {
                        for request in &requests {
                            let session = manager.start(request).await.expect("memory does not fail");
                            let n = session.get::<u64>("small").expect("a number").unwrap_or(0);
                            if changes {
                                session.set("small", n + 1).expect("the value fits");
                                let _ = session
                                    .release(&mut HeaderMap::new())
                                    .await
                                    .expect("memory does not fail");
                            }
                        }
                    })
                })
            }));
            let mut dice = Dice::new(11);
            runners.push(Runner::new(move |count| {
                stores::in_batches(count, |batch| {
                    let ids: Vec<_> = (0..batch).map(|_| ids[dice.below(ids.len())]).collect();
                    stores::timed(runtime, async {
                        let store = std::sync::Arc::new(peer.clone());
                        for id in ids {
                            let session = tower_sessions::Session::new(Some(id), store.clone(), None);
                            let n = session.get::<u64>("small").await.expect("a number").unwrap_or(0);
                            if changes {
                                session.insert("small", n + 1).await.expect("the value fits");
                                session.save().await.expect("memory does not fail");
                            }
                        }
                    })
                })
            }));
        }
        let cells = in_turns(&mut runners, turns).into_iter().map(|samples| samples.shown(0));
        table.row([shape].into_iter().chain(cells).collect());
    }
    report.table(name, table);
}

async fn ours(manager: &Manager, pairs: &[(String, String)]) -> HeaderValue {
    let session = manager.start(&HeaderMap::new()).await.expect("memory does not fail");
    for (key, value) in pairs {
        session.set(key, value).expect("the value fits");
    }
    session.set("small", 1_u64).expect("the value fits");
    let mut response = HeaderMap::new();
    let _ = session.release(&mut response).await.expect("memory does not fail");
    rig::cookie(response.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes))
        .expect("a new session has a cookie")
}

async fn theirs(
    store: &tower_sessions::MemoryStore,
    pairs: &[(String, String)],
) -> tower_sessions::session::Id {
    let session = tower_sessions::Session::new(None, std::sync::Arc::new(store.clone()), None);
    for (key, value) in pairs {
        session.insert(key, value).await.expect("the value fits");
    }
    session.insert("small", 1_u64).await.expect("the value fits");
    session.save().await.expect("memory does not fail");
    session.id().expect("a saved session has an id")
}
