//! The four methods of `SessionStore`, on every kind of store, and `Session` of tower-sessions on top of them.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

#[path = "store/cycles.rs"]
mod cycles;
#[path = "store/limits.rs"]
mod limits;

use std::collections::HashMap;
use std::sync::Arc;

use cloakroom::Provider;
use cloakroom::providers::StoreKey;
use cloakroom_tower_sessions::CloakroomStore;
use serde_json::{Value, json};
use support::{Opened, on_every_store};
use time::{Duration, OffsetDateTime};
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::Error;
use tower_sessions::{Session, SessionStore};

on_every_store!(
    a_session_is_created_loaded_saved_and_deleted,
    of_two_requests_that_save_one_wins,
    of_two_processes_that_save_one_wins,
    a_request_may_save_several_times,
    a_cleared_session_is_saved_if_nobody_was_faster,
    a_cleared_session_does_not_replace_a_newer_save,
    a_clear_before_any_load_replaces_the_session,
    a_deleted_session_is_not_saved_again,
    an_expiry_alone_is_no_conflict,
    a_taken_id_is_replaced_by_a_new_one,
    an_expired_session_is_none,
    the_store_holds_hashes_and_no_ids,
);

fn hour() -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::HOUR
}

fn data(n: u32) -> HashMap<String, Value> {
    HashMap::from([("n".to_owned(), json!(n))])
}

/// Creates a session with `n`, and returns its id.
async fn created(store: &CloakroomStore, n: u32) -> Id {
    let mut record = Record { id: Id::default(), data: data(n), expiry_date: hour() };
    store.create(&mut record).await.unwrap();
    record.id
}

/// Loads the session as one request does.
async fn loaded(store: &CloakroomStore, id: Id) -> Record {
    store.load(&id).await.unwrap().expect("the session lives")
}

/// Returns the application's own values of the session.
async fn values(store: &CloakroomStore, id: Id) -> Option<HashMap<String, Value>> {
    let record = store.load(&id).await.unwrap()?;
    Some(record.data.into_iter().filter(|(key, _)| !key.starts_with("cloakroom.")).collect())
}

fn session(store: &CloakroomStore, id: Id) -> Session {
    Session::new(Some(id), Arc::new(store.clone()), None)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, part: &str) {
    let Err(Error::Backend(text)) = answer else { panic!("expected a refusal, found {answer:?}") };
    assert!(text.contains(part), "{text}");
}

const CHANGED: &str = "another request changed the session";
const ENDED: &str = "the session has ended";

async fn a_session_is_created_loaded_saved_and_deleted(opened: Opened) {
    let store = CloakroomStore::new(opened.provider);
    let mut record = Record { id: Id::default(), data: data(1), expiry_date: hour() };
    let wanted = record.clone();
    store.create(&mut record).await.unwrap();
    assert_eq!(record.id, wanted.id);

    let mut one = loaded(&store, record.id).await;
    assert_eq!((one.id, &one.data["n"]), (wanted.id, &json!(1)));
    assert!((one.expiry_date - wanted.expiry_date).abs() <= Duration::MILLISECOND);
    one.data.insert("deep".to_owned(), json!({"list": [1, -2, 0.5, null], "text": "ü"}));
    one.data.remove("n");
    one.expiry_date += Duration::HOUR;
    store.save(&one).await.unwrap();

    let two = loaded(&store, record.id).await;
    assert_eq!(two.data["deep"], one.data["deep"]);
    assert_eq!(two.data.get("n"), None);
    assert!((two.expiry_date - one.expiry_date).abs() <= Duration::MILLISECOND);

    store.delete(&record.id).await.unwrap();
    assert_eq!(store.load(&record.id).await.unwrap(), None);
    store.delete(&record.id).await.unwrap();
}

async fn of_two_requests_that_save_one_wins(opened: Opened) {
    let store = CloakroomStore::new(opened.provider);
    one_wins(&store, &store).await;
}

async fn of_two_processes_that_save_one_wins(opened: Opened) {
    one_wins(&CloakroomStore::new(opened.provider), &CloakroomStore::new(opened.another)).await;
}

async fn one_wins(here: &CloakroomStore, there: &CloakroomStore) {
    let id = created(here, 1).await;
    let (mut one, mut other) = (loaded(here, id).await, loaded(there, id).await);
    one.data.extend(data(2));
    other.data.insert("m".to_owned(), json!(3));
    here.save(&one).await.unwrap();
    refused(there.save(&other).await, CHANGED);
    assert_eq!(values(here, id).await, Some(data(2)));
    // The loser succeeds once it has seen the newer state.
    let mut again = loaded(there, id).await;
    again.data.extend(data(4));
    there.save(&again).await.unwrap();
    assert_eq!(values(here, id).await, Some(data(4)));
}

async fn a_request_may_save_several_times(opened: Opened) {
    let store = CloakroomStore::new(opened.provider);
    let id = created(&store, 0).await;
    let (one, other) = (session(&store, id), session(&store, id));
    for n in 1..4 {
        one.insert("n", n).await.unwrap();
        one.save().await.unwrap();
        assert_eq!(values(&store, id).await, Some(data(n)));
    }
    // Another request ends the series.
    other.insert("n", 10).await.unwrap();
    other.save().await.unwrap();
    one.insert("n", 4).await.unwrap();
    one.save().await.unwrap_err();
    assert_eq!(values(&store, id).await, Some(data(10)));
    // A request that creates the session may save again, too.
    let new = Session::new(None, Arc::new(store.clone()), None);
    for n in 1..4 {
        new.insert("n", n).await.unwrap();
        new.save().await.unwrap();
        assert_eq!(values(&store, new.id().unwrap()).await, Some(data(n)));
    }
}

async fn a_cleared_session_is_saved_if_nobody_was_faster(opened: Opened) {
    let store = CloakroomStore::new(opened.provider);
    let id = created(&store, 1).await;
    let session = session(&store, id);
    assert_eq!(session.get::<u32>("n").await.unwrap(), Some(1));
    session.clear().await;
    session.insert("n", 2).await.unwrap();
    session.save().await.unwrap();
    session.clear().await;
    session.save().await.unwrap();
    assert_eq!(values(&store, id).await, Some(HashMap::new()));
}

async fn a_cleared_session_does_not_replace_a_newer_save(opened: Opened) {
    let store = CloakroomStore::new(opened.provider);
    let id = created(&store, 1).await;
    let (mut one, mut other) = (loaded(&store, id).await, loaded(&store, id).await);
    one.data.extend(data(2));
    store.save(&one).await.unwrap();
    other.data.clear();
    refused(store.save(&other).await, CHANGED);
    other.data.extend(data(3));
    refused(store.save(&other).await, CHANGED);
    assert_eq!(values(&store, id).await, Some(data(2)));
    // The first request has seen its own save.
    one.data.clear();
    store.save(&one).await.unwrap();
    assert_eq!(values(&store, id).await, Some(HashMap::new()));
}

async fn a_clear_before_any_load_replaces_the_session(opened: Opened) {
    let store = CloakroomStore::new(opened.provider);
    let id = created(&store, 1).await;
    let session = session(&store, id);
    session.clear().await;
    session.insert("m", 2).await.unwrap();
    session.save().await.unwrap();
    assert_eq!(values(&store, id).await, Some(HashMap::from([("m".to_owned(), json!(2))])));
    // It revives nothing either.
    let session = self::session(&store, id);
    session.clear().await;
    store.delete(&id).await.unwrap();
    session.save().await.unwrap_err();
    assert_eq!(values(&store, id).await, None);
}

async fn a_deleted_session_is_not_saved_again(opened: Opened) {
    let (here, there) = (CloakroomStore::new(opened.provider), CloakroomStore::new(opened.another));
    for other in [&here, &there] {
        let id = created(&here, 1).await;
        let mut changed = loaded(&here, id).await;
        changed.data.extend(data(2));
        let unchanged = loaded(&here, id).await;
        let mut cleared = loaded(&here, id).await;
        cleared.data.clear();
        other.delete(&id).await.unwrap();
        for late in [&changed, &unchanged, &cleared] {
            refused(here.save(late).await, ENDED);
        }
        assert_eq!(values(&here, id).await, None);
    }
}

async fn an_expiry_alone_is_no_conflict(opened: Opened) {
    let store = CloakroomStore::new(opened.provider);
    let id = created(&store, 1).await;
    let (mut one, mut two, mut three) =
        (loaded(&store, id).await, loaded(&store, id).await, loaded(&store, id).await);
    // Requests that change nothing do not disturb one that changes a value, before it or after it.
    one.expiry_date += Duration::HOUR;
    store.save(&one).await.unwrap();
    two.data.extend(data(2));
    store.save(&two).await.unwrap();
    three.expiry_date += 3 * Duration::HOUR;
    store.save(&three).await.unwrap();
    let last = loaded(&store, id).await;
    assert!((last.expiry_date - three.expiry_date).abs() <= Duration::MILLISECOND);
    assert_eq!(values(&store, id).await, Some(data(2)));
    // The request whose value it is may save again.
    two.data.extend(data(3));
    store.save(&two).await.unwrap();
    // A request that prolonged the session and then changes a value has not seen the newer one.
    three.data.extend(data(4));
    refused(store.save(&three).await, CHANGED);
    assert_eq!(values(&store, id).await, Some(data(3)));
}

async fn a_taken_id_is_replaced_by_a_new_one(opened: Opened) {
    let store = CloakroomStore::new(opened.provider);
    let first = created(&store, 1).await;
    let mut second = Record { id: first, data: data(2), expiry_date: hour() };
    store.create(&mut second).await.unwrap();
    assert_ne!(second.id, first);
    assert_eq!(values(&store, first).await, Some(data(1)));
    assert_eq!(values(&store, second.id).await, Some(data(2)));
}

async fn an_expired_session_is_none(opened: Opened) {
    let store = CloakroomStore::new(opened.provider);
    let past = OffsetDateTime::now_utc() - Duration::SECOND;
    let mut expired = Record { id: Id::default(), data: data(1), expiry_date: past };
    store.create(&mut expired).await.unwrap();
    assert_eq!(store.load(&expired.id).await.unwrap(), None);

    let id = created(&store, 1).await;
    let mut record = loaded(&store, id).await;
    let late = loaded(&store, id).await;
    record.expiry_date = past;
    store.save(&record).await.unwrap();
    assert_eq!(store.load(&id).await.unwrap(), None);
    refused(store.save(&late).await, ENDED);
    assert_eq!(store.load(&id).await.unwrap(), None);
}

async fn the_store_holds_hashes_and_no_ids(opened: Opened) {
    let store = CloakroomStore::new(opened.provider.clone()).with_namespace("shop");
    let id = created(&store, 1).await;
    let mut record = loaded(&store, id).await;
    record.data.extend(data(2));
    store.save(&record).await.unwrap();

    let key = StoreKey::derive("shop", &id.to_string().parse().unwrap());
    let page = opened.provider.scan(None, 10).await.unwrap();
    assert_eq!(page.entries.iter().map(|listed| &listed.key).collect::<Vec<_>>(), [&key]);
    let stored = opened.provider.load(&key).await.unwrap().unwrap();
    let contains = |part: &[u8]| stored.as_bytes().windows(part.len()).any(|window| window == part);
    for form in [id.to_string().as_bytes(), &id.0.to_le_bytes(), &id.0.to_be_bytes(), key.as_bytes()] {
        assert!(!contains(form), "{form:?}");
    }
    assert!(!contains(b"cloakroom.version"));
    assert_eq!(stored.version(), 2);
    // Another namespace knows nothing of it.
    assert_eq!(CloakroomStore::new(opened.provider).load(&id).await.unwrap(), None);
}
