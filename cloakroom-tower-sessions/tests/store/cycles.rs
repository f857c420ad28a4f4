//! New ids and ends: `cycle_id` and `flush`, alone and against other requests.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cloakroom::providers::{Created, Meta, Record, StoreKey};
use cloakroom::{Clock, Provider};
use cloakroom_tower_sessions::CloakroomStore;
use tower_sessions::session::{Error, Id};
use tower_sessions::{Session, session_store};

use super::{CHANGED, ENDED, created, data, session, values};
use crate::support::{Opened, on_every_store};

on_every_store!(
    cycle_id_moves_the_session_to_a_new_id,
    cycle_id_after_saves_of_the_same_request_works,
    of_two_cycles_one_wins,
    a_cycle_does_not_lose_a_newer_save,
    a_cycle_takes_no_notice_of_an_expiry_alone,
    a_cycle_does_not_revive_a_session_that_was_flushed,
    a_cycle_does_not_outrun_a_logout,
    a_cycle_does_not_revive_what_another_process_ended,
    flush_ends_the_session,
    a_flushed_session_begins_anew_under_a_new_id,
);

#[track_caller]
fn refused(answer: Result<(), Error>, part: &str) {
    let Err(Error::Store(session_store::Error::Backend(text))) = answer else {
        panic!("expected a refusal, found {answer:?}")
    };
    assert!(text.contains(part), "{text}");
}

/// Loads the session, as a request does that reads a value.
async fn request(store: &CloakroomStore, id: Id) -> Session {
    let session = session(store, id);
    assert_eq!(session.get::<u32>("n").await.unwrap(), Some(1));
    session
}

async fn cycle_id_moves_the_session_to_a_new_id(opened: Opened) {
    let store = CloakroomStore::new(opened.provider.clone());
    // A session that began a minute ago.
    let (old, now) = (Id::default(), Clock::system().now());
    let began = now - Duration::from_secs(60);
    let record = Record::encode(&Meta::begin(began, now + Duration::from_secs(60)), &data(1), 1000).unwrap();
    let key = StoreKey::derive("", &old.to_string().parse().unwrap());
    assert_eq!(opened.provider.create(&key, &record).await.unwrap(), Created::Done);
    let session = request(&store, old).await;
    session.cycle_id().await.unwrap();
    session.insert("n", 2).await.unwrap();
    session.save().await.unwrap();
    let new = session.id().unwrap();
    assert_ne!(new, old);
    assert_eq!((values(&store, old).await, values(&store, new).await), (None, Some(data(2))));
    let page = opened.provider.scan(None, 10).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    let whole = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_millis();
    assert_eq!(whole(page.entries[0].meta.created()), whole(began));
    // The next change of id in the same request, and a save after it.
    session.cycle_id().await.unwrap();
    session.save().await.unwrap();
    session.insert("n", 3).await.unwrap();
    session.save().await.unwrap();
    assert_eq!(
        (values(&store, new).await, values(&store, session.id().unwrap()).await),
        (None, Some(data(3)))
    );
}

async fn cycle_id_after_saves_of_the_same_request_works(opened: Opened) {
    let store = CloakroomStore::new(opened.provider);
    let old = created(&store, 1).await;
    let session = request(&store, old).await;
    for n in 2..4 {
        session.insert("n", n).await.unwrap();
        session.save().await.unwrap();
    }
    session.cycle_id().await.unwrap();
    session.save().await.unwrap();
    assert_eq!(
        (values(&store, old).await, values(&store, session.id().unwrap()).await),
        (None, Some(data(3)))
    );
}

async fn of_two_cycles_one_wins(opened: Opened) {
    let store = CloakroomStore::new(opened.provider.clone());
    let old = created(&store, 1).await;
    let (one, other) = (request(&store, old).await, request(&store, old).await);
    one.cycle_id().await.unwrap();
    one.save().await.unwrap();
    other.cycle_id().await.unwrap();
    refused(other.save().await, ENDED);
    assert_eq!(values(&store, one.id().unwrap()).await, Some(data(1)));
    assert_eq!(opened.provider.count().await.unwrap(), 1);
}

async fn a_cycle_does_not_lose_a_newer_save(opened: Opened) {
    let store = CloakroomStore::new(opened.provider.clone());
    let old = created(&store, 1).await;
    let (one, other) = (request(&store, old).await, request(&store, old).await);
    other.insert("m", 5).await.unwrap();
    other.save().await.unwrap();
    one.cycle_id().await.unwrap();
    refused(one.save().await, CHANGED);
    assert_eq!(opened.provider.count().await.unwrap(), 0);
}

async fn a_cycle_takes_no_notice_of_an_expiry_alone(opened: Opened) {
    let store = CloakroomStore::new(opened.provider);
    let old = created(&store, 1).await;
    let (one, other) = (request(&store, old).await, request(&store, old).await);
    other.save().await.unwrap();
    one.cycle_id().await.unwrap();
    one.save().await.unwrap();
    assert_eq!(values(&store, one.id().unwrap()).await, Some(data(1)));
}

async fn a_cycle_does_not_revive_a_session_that_was_flushed(opened: Opened) {
    let store = CloakroomStore::new(opened.provider.clone());
    let old = created(&store, 1).await;
    let (late, logout) = (request(&store, old).await, request(&store, old).await);
    logout.flush().await.unwrap();
    late.cycle_id().await.unwrap();
    refused(late.save().await, ENDED);
    assert_eq!(opened.provider.count().await.unwrap(), 0);
}

async fn a_cycle_does_not_outrun_a_logout(opened: Opened) {
    let store = CloakroomStore::new(opened.provider.clone());
    let old = created(&store, 1).await;
    let (late, logout) = (request(&store, old).await, request(&store, old).await);
    late.cycle_id().await.unwrap();
    logout.flush().await.unwrap();
    refused(late.save().await, ENDED);
    assert_eq!(opened.provider.count().await.unwrap(), 0);
}

async fn a_cycle_does_not_revive_what_another_process_ended(opened: Opened) {
    let (here, there) = (CloakroomStore::new(opened.provider.clone()), CloakroomStore::new(opened.another));
    let old = created(&here, 1).await;
    let (late, logout) = (request(&here, old).await, request(&there, old).await);
    logout.flush().await.unwrap();
    late.cycle_id().await.unwrap();
    refused(late.save().await, ENDED);
    assert_eq!(opened.provider.count().await.unwrap(), 0);
}

async fn flush_ends_the_session(opened: Opened) {
    let store = CloakroomStore::new(opened.provider.clone());
    let id = created(&store, 1).await;
    let late = request(&store, id).await;
    let logout = request(&store, id).await;
    logout.flush().await.unwrap();
    assert!(logout.id().is_none() && logout.is_empty().await);
    assert_eq!(values(&store, id).await, None);
    late.insert("n", 9).await.unwrap();
    refused(late.save().await, ENDED);
    assert_eq!(opened.provider.count().await.unwrap(), 0);
}

async fn a_flushed_session_begins_anew_under_a_new_id(opened: Opened) {
    let store = CloakroomStore::new(opened.provider.clone());
    let old = created(&store, 1).await;
    let late = request(&store, old).await;
    let session = request(&store, old).await;
    session.flush().await.unwrap();
    session.insert("n", 1).await.unwrap();
    session.save().await.unwrap();
    let new = session.id().unwrap();
    assert_ne!(new, old);
    // The record that was loaded before has no way into the new session.
    late.insert("user", "ada").await.unwrap();
    refused(late.save().await, ENDED);
    assert_eq!(values(&store, new).await, Some(data(1)));
    assert_eq!(opened.provider.count().await.unwrap(), 1);
    // A session that is begun without an id, too.
    let fresh = Session::new(None, Arc::new(store.clone()), None);
    fresh.cycle_id().await.unwrap();
    fresh.insert("n", 7).await.unwrap();
    fresh.save().await.unwrap();
    assert_eq!(values(&store, fresh.id().unwrap()).await, Some(data(7)));
}
