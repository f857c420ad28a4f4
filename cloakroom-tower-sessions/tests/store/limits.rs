//! Limits, and stores that fail or do not fit.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cloakroom::providers::StoreKey;
use cloakroom::seal::SealKey;
use cloakroom::{
    Clock, CookieProvider, ErrorKind, KeyRing, ManualClock, MemoryProvider, Provider, RedisProvider, testkit,
};
use cloakroom_tower_sessions::CloakroomStore;
use serde_json::json;
use servers::Redis;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::Error;
use tower_sessions::{ExpiredDeletion, SessionStore};

use super::{CHANGED, created, data, hour, loaded, refused, session, values};

#[tokio::test]
async fn a_provider_without_records_is_refused_by_every_call() {
    let store = CloakroomStore::new(CookieProvider::new(KeyRing::new(SealKey::generate().unwrap())));
    let error = store.check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let mut record = Record { id: Id::default(), data: data(1), expiry_date: hour() };
    let part = "found \"cookie\"";
    refused(store.create(&mut record).await, part);
    refused(store.save(&record).await, part);
    refused(store.load(&record.id).await, part);
    refused(store.delete(&record.id).await, part);
    refused(store.delete_expired().await, part);
}

#[tokio::test]
async fn data_past_a_limit_is_an_error_and_nothing_changes() {
    let store = CloakroomStore::new(MemoryProvider::new());
    let id = created(&store, 1).await;
    let nested = (0..33).fold(json!(1), |value, _| json!([value]));
    for value in [json!("x".repeat(65_536)), nested] {
        let mut record = loaded(&store, id).await;
        record.data.insert("k".to_owned(), value.clone());
        let mut new =
            Record { id: Id::default(), data: HashMap::from([("k".to_owned(), value)]), expiry_date: hour() };
        for error in [store.save(&record).await.unwrap_err(), store.create(&mut new).await.unwrap_err()] {
            assert!(matches!(&error, Error::Encode(text) if text.contains("expected at most")), "{error:?}");
        }
    }
    assert_eq!(values(&store, id).await, Some(data(1)));

    let roomy = CloakroomStore::new(MemoryProvider::new()).with_max_bytes(100_000);
    let large = HashMap::from([("k".to_owned(), json!("x".repeat(65_536)))]);
    let mut record = Record { id: Id::default(), data: large.clone(), expiry_date: hour() };
    roomy.create(&mut record).await.unwrap();
    assert_eq!(values(&roomy, record.id).await, Some(large));
}

#[tokio::test]
async fn a_record_of_a_newer_release_is_an_error_and_can_be_ended() {
    let provider = MemoryProvider::new();
    let store = CloakroomStore::new(provider.clone());
    let id = Id::default();
    let key = StoreKey::derive("", &id.to_string().parse().unwrap());
    let _done = provider.create(&key, &testkit::record(&Clock::system()).newer()).await.unwrap();
    let error = store.load(&id).await.unwrap_err();
    assert!(matches!(&error, Error::Decode(text) if text.contains("this build cannot read")), "{error:?}");
    store.delete(&id).await.unwrap();
    assert_eq!(store.load(&id).await.unwrap(), None);
}

#[tokio::test]
async fn an_expired_session_is_collected() {
    let time = ManualClock::default();
    let provider = MemoryProvider::builder().clock(time.clock()).build();
    let store = CloakroomStore::new(provider.clone());
    let id = created(&store, 0).await;
    for n in 1..2500 {
        created(&store, n).await;
    }
    assert_eq!(provider.count().await.unwrap(), 2500);
    time.advance(Duration::from_secs(7200));
    assert_eq!(store.load(&id).await.unwrap(), None);
    store.delete_expired().await.unwrap();
    assert_eq!(provider.delete_expired(5000).await.unwrap().removed, 0);
}

#[tokio::test]
async fn the_data_of_one_session_does_not_replace_anothers() {
    let store = CloakroomStore::new(MemoryProvider::new());
    let (own, other) = (created(&store, 1).await, created(&store, 2).await);
    let mut record = loaded(&store, own).await;
    record.id = other;
    refused(store.save(&record).await, CHANGED);
    assert_eq!(values(&store, other).await, Some(data(2)));
}

#[tokio::test]
async fn many_loads_meanwhile_do_not_disturb_a_request() {
    let store = CloakroomStore::new(MemoryProvider::new());
    let (id, busy) = (created(&store, 1).await, created(&store, 1).await);
    let saving = session(&store, id);
    saving.insert("n", 2).await.unwrap();
    saving.save().await.unwrap();
    // More than the process remembers.
    for _ in 0..100_000 {
        loaded(&store, busy).await;
    }
    saving.insert("n", 3).await.unwrap();
    saving.save().await.unwrap();
    saving.cycle_id().await.unwrap();
    saving.save().await.unwrap();
    assert_eq!(values(&store, saving.id().unwrap()).await, Some(data(3)));
}

#[tokio::test]
#[ignore = "needs redis-server: cargo xtask test"]
async fn a_store_that_hangs_is_an_error_within_the_deadline() {
    let redis = Redis::start();
    let store = CloakroomStore::new(RedisProvider::connect(redis.url()).await.unwrap())
        .with_deadline(Duration::from_millis(300));
    let id = created(&store, 1).await;
    redis.pause();
    let start = Instant::now();
    let Err(Error::Backend(text)) = store.load(&id).await else { panic!("expected an error") };
    assert!(text.contains("300ms"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    redis.resume();
}
