//! Sessions that a newer release wrote, while an upgrade is under way.

use cloakroom::{
    ErrorKind, KeyRing, MemoryProvider, Provider, Released,
    providers::{Created, Record, StoreKey},
    seal::SealKey,
    testkit,
};
use http::HeaderMap;

use crate::visitor::{Browser, Rig, alice, seconds};

/// Logs alice in. Then rewrites her session as a newer release does.
async fn upgraded(rig: &Rig, browser: &mut Browser) -> Record {
    let _ = rig.request(browser, |session| session.authenticate(alice()).unwrap()).await;
    let key = rig.manager.sessions_of(&alice()).await.unwrap()[0].key.clone();
    let newer = testkit::record(&rig.time.clock()).principal("alice").version(5).newer();
    replace(&rig.provider, &key, &newer).await;
    newer
}

async fn replace(provider: &MemoryProvider, key: &StoreKey, record: &Record) {
    assert!(provider.delete(key).await.unwrap());
    assert_eq!(provider.create(key, record).await.unwrap(), Created::Done);
}

async fn stored_keys(provider: &MemoryProvider) -> Vec<StoreKey> {
    let (mut keys, mut cursor) = (Vec::new(), None);
    loop {
        let page = provider.scan(cursor, 1000).await.unwrap();
        keys.extend(page.entries.into_iter().map(|listed| listed.key));
        cursor = page.next;
        if cursor.is_none() {
            return keys;
        }
    }
}

async fn stored(rig: &Rig) -> Option<Record> {
    let listed = rig.manager.sessions_of(&alice()).await.unwrap();
    match listed.first() {
        Some(listed) => rig.provider.load(&listed.key).await.unwrap(),
        None => None,
    }
}

#[tokio::test]
async fn a_session_of_a_newer_release_is_refused_and_kept() {
    let (rig, mut browser) = (Rig::new(), Browser::default());
    let newer = upgraded(&rig, &mut browser).await;
    for _ in 0..3 {
        let error = rig.manager.start(&browser.headers()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        assert_eq!(error.status(), http::StatusCode::SERVICE_UNAVAILABLE);
        assert!(error.to_string().contains("newer release"), "{error}");
    }
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 1);
    assert_eq!(stored(&rig).await, Some(newer), "the record is unchanged");
}

#[tokio::test]
async fn a_request_under_way_keeps_an_upgraded_session() {
    let (rig, mut browser) = (Rig::new(), Browser::default());
    let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
    let session = rig.start(&browser).await;
    session.set("n", 1).unwrap();
    let key = rig.manager.sessions_of(&alice()).await.unwrap()[0].key.clone();
    let newer = testkit::record(&rig.time.clock()).principal("alice").version(5).newer();
    replace(&rig.provider, &key, &newer).await;
    let error = session.release(&mut HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert_eq!(stored(&rig).await, Some(newer));
}

#[tokio::test]
async fn a_logout_ends_a_session_of_a_newer_release() {
    let (rig, mut browser) = (Rig::new(), Browser::default());
    upgraded(&rig, &mut browser).await;
    let mut response = HeaderMap::new();
    let ended = rig.manager.destroy(&browser.headers(), &mut response).await.unwrap();
    assert_eq!(ended, Released::Destroyed);
    assert!(response["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 0);
    assert!(rig.start(&browser).await.principal().is_none(), "the id belongs to an ended session");
}

#[tokio::test]
async fn logging_out_everywhere_ends_a_newer_session() {
    let (rig, mut browser) = (Rig::new(), Browser::default());
    upgraded(&rig, &mut browser).await;
    assert_eq!(rig.manager.end_sessions(&alice()).await.unwrap(), 1);
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 0);
}

#[tokio::test]
async fn a_session_of_a_newer_release_is_collected() {
    let (rig, mut browser) = (Rig::new(), Browser::default());
    upgraded(&rig, &mut browser).await;
    rig.time.advance(seconds(31 * 60));
    assert_eq!(rig.manager.collect_garbage().await.unwrap(), 1);
    assert!(rig.start(&browser).await.principal().is_none());
}

#[tokio::test]
async fn an_unknown_field_survives_a_change() {
    let (rig, mut browser) = (Rig::new(), Browser::default());
    let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
    let key = stored_keys(&rig.provider).await.remove(0);
    let record = rig.provider.load(&key).await.unwrap().unwrap();
    // A field with the tag 200, which a reader may skip: docs/format.md.
    let mut bytes = record.as_bytes().to_vec();
    bytes.splice(72..72, [200, 0, 2, 7, 7]);
    bytes[67] += 5;
    replace(&rig.provider, &key, &Record::from_bytes(&bytes).unwrap()).await;
    let _ = rig.request(&mut browser, |session| session.set("n", 2).unwrap()).await;
    let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
    let listed = rig.manager.sessions_of(&alice()).await.unwrap();
    let changed = rig.provider.load(&listed[0].key).await.unwrap().unwrap();
    assert!(changed.as_bytes().windows(5).any(|field| field == [200, 0, 2, 7, 7]));
}

#[tokio::test]
async fn a_sealed_session_of_a_newer_release_can_be_ended() {
    let ring = KeyRing::new(SealKey::generate().unwrap());
    let (rig, mut browser) = (Rig::with(|builder| builder.seal(ring.clone())), Browser::default());
    let _ = rig.request(&mut browser, |session| session.authenticate(alice()).unwrap()).await;
    let key = rig.manager.sessions_of(&alice()).await.unwrap()[0].key.clone();
    let mut bytes = rig.provider.load(&key).await.unwrap().unwrap().as_bytes().to_vec();
    bytes[4] = 2;
    let newer = Record::from_bytes(&bytes).unwrap();
    replace(&rig.provider, &key, &newer).await;
    assert_eq!(rig.manager.start(&browser.headers()).await.unwrap_err().kind(), ErrorKind::Incompatible);
    assert_eq!(stored(&rig).await, Some(newer));
    assert_eq!(rig.manager.end_sessions(&alice()).await.unwrap(), 1);
    assert!(rig.start(&browser).await.principal().is_none());
}

#[tokio::test]
async fn a_forged_tombstone_of_a_newer_format_is_not_followed() {
    let ring = KeyRing::new(SealKey::generate().unwrap());
    let rig = Rig::with(|builder| builder.seal(ring.clone()));
    let (mut victim, mut thief) = (Browser::default(), Browser::default());
    let _ = rig.request(&mut victim, |session| session.authenticate(alice()).unwrap()).await;
    let _ = rig.request(&mut thief, |session| session.set("n", 1).unwrap()).await;
    let theirs = rig.manager.sessions_of(&alice()).await.unwrap()[0].key.clone();
    let own = stored_keys(&rig.provider).await.into_iter().find(|key| *key != theirs).unwrap();
    // An attacker who can write to the store reads the key's id in any record.
    let sealed = rig.provider.load(&own).await.unwrap().unwrap();
    let mark = testkit::record(&rig.time.clock()).tombstone(&theirs, seconds(600));
    let mut bytes = mark.as_bytes().to_vec();
    (bytes[4], bytes[5]) = (2, 0x81);
    bytes.extend_from_slice(sealed.data());
    bytes[68..72].copy_from_slice(&(sealed.data().len() as u32).to_be_bytes());
    replace(&rig.provider, &own, &Record::from_bytes(&bytes).unwrap()).await;
    let error = rig.manager.start(&thief.headers()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
}

#[tokio::test]
async fn a_session_in_an_unknown_codec_is_kept() {
    let (rig, mut browser) = (Rig::new(), Browser::default());
    let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
    let key = stored_keys(&rig.provider).await.remove(0);
    let mut bytes = rig.provider.load(&key).await.unwrap().unwrap().as_bytes().to_vec();
    bytes[5] = 0x55;
    let other = Record::from_bytes(&bytes).unwrap();
    replace(&rig.provider, &key, &other).await;
    let error = rig.manager.start(&browser.headers()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert_eq!(rig.provider.load(&key).await.unwrap(), Some(other));
    assert_eq!(
        rig.manager.destroy(&browser.headers(), &mut HeaderMap::new()).await.unwrap(),
        Released::Destroyed
    );
}
