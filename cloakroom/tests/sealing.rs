//! Sessions at rest: sealed records, and ids that were stored in clear before they were hashed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "support/hooked.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod hooked;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloakroom::testkit::base;
use cloakroom::{
    Clock, ErrorKind, KeyRing, Manager, ManagerBuilder, ManualClock, MemoryProvider, Principal, Provider,
    Released, SessionId,
    providers::{AnyProvider, Capabilities, Created, Record, Renamed, SealedProvider, StoreKey, Updated},
    seal::SealKey,
    testkit,
};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};

use hooked::{Call, Hook, Hooked, Verdict};

const HOUR: Duration = Duration::from_secs(3600);

/// A store that outlives the process as far as the library can tell, so that ids are hashed; and a clock that stands still.
struct Rig {
    store: AnyProvider,
    time: ManualClock,
    ring: KeyRing,
}

impl Rig {
    fn new() -> Self {
        let time = ManualClock::default();
        let store =
            AnyProvider::new(Hooked::new(MemoryProvider::builder().clock(time.clock()).build(), Persistent));
        Rig { store, time, ring: KeyRing::new(SealKey::generate().unwrap()) }
    }

    fn manager(&self, settings: impl FnOnce(ManagerBuilder) -> ManagerBuilder) -> Manager {
        settings(Manager::builder(self.store.clone())).clock(self.time.clock()).build().unwrap()
    }

    fn sealed(&self) -> Manager {
        self.manager(|builder| builder.seal(self.ring.clone()))
    }

    /// The keys in the store, with the records as they lie there.
    async fn lying(&self) -> Vec<(StoreKey, Record)> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.store.scan(cursor, 1000).await.unwrap();
            for listed in page.entries {
                let record = self.store.load(&listed.key).await.unwrap().unwrap();
                all.push((listed.key, record));
            }
            cursor = page.next;
            if cursor.is_none() {
                return all;
            }
        }
    }

    async fn only(&self) -> (StoreKey, Record) {
        let mut all = self.lying().await;
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// Replaces what is under `key` by `record`, as an attacker with write access to the store does.
    async fn plant(&self, key: &StoreKey, record: &Record) {
        let _ = self.store.delete(key).await.unwrap();
        assert_eq!(self.store.create(key, record).await.unwrap(), Created::Done);
    }
}

/// Says that the store outlives the process.
struct Persistent;

impl Hook for Persistent {
    fn capabilities(&self, inner: Capabilities) -> Capabilities {
        let mut capabilities = inner;
        capabilities.persistent = true;
        capabilities
    }
}

fn with_token(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(format!("__Host-id={token}")).unwrap())])
}

/// A new session in which `secret` is under `note`, of `user` if one is given; the visitor's token.
async fn visit(manager: &Manager, secret: &str, user: Option<&str>) -> String {
    let session = manager.start(&HeaderMap::new()).await.unwrap();
    session.set("note", secret).unwrap();
    if let Some(user) = user {
        session.authenticate(Principal::new(user).unwrap()).unwrap();
    }
    let mut headers = HeaderMap::new();
    assert_eq!(session.release(&mut headers).await.unwrap(), Released::Created);
    token_of(&headers)
}

fn token_of(headers: &HeaderMap) -> String {
    let cookie = headers[SET_COOKIE].to_str().unwrap();
    cookie.strip_prefix("__Host-id=").unwrap().split(';').next().unwrap().to_owned()
}

/// Returns the value of `note` for the visitor with `token`; `None` for a fresh, anonymous session.
async fn note(manager: &Manager, token: &str) -> cloakroom::Result<Option<String>> {
    let session = manager.start(&with_token(token)).await?;
    assert_eq!(session.id().is_some(), session.contains("note").unwrap());
    session.get("note")
}

#[tokio::test]
async fn a_sealed_sessions_data_is_nowhere_in_the_store() {
    let rig = Rig::new();
    let manager = rig.sealed();
    let token = visit(&manager, "a word that nobody says", Some("alice")).await;
    assert_eq!(note(&manager, &token).await.unwrap().as_deref(), Some("a word that nobody says"));
    let (key, record) = rig.only().await;
    let bytes = record.as_bytes();
    assert!(!bytes.windows(6).any(|part| part == b"nobody" || part == b"note\xb7a"));
    assert_eq!(record.principal(), Some(Principal::new("alice").unwrap()), "the store's index can read it");
    assert_eq!(Record::from_bytes(bytes).unwrap(), record, "a provider can read it back");
    assert_eq!(manager.sessions_of(&Principal::new("alice").unwrap()).await.unwrap()[0].key, key);

    let session = manager.start(&with_token(&token)).await.unwrap();
    session.set("note", "another").unwrap();
    assert_eq!(session.release(&mut HeaderMap::new()).await.unwrap(), Released::Saved);
    assert_eq!(note(&manager, &token).await.unwrap().as_deref(), Some("another"));
    assert_eq!(rig.only().await.1.version(), 2);
}

#[tokio::test]
async fn a_touch_moves_the_times_of_a_sealed_record() {
    let rig = Rig::new();
    let manager = rig.sealed();
    let token = visit(&manager, "word", None).await;
    let before = rig.only().await.1;
    rig.time.advance(Duration::from_secs(600));
    let session = manager.start(&with_token(&token)).await.unwrap();
    assert_eq!(session.release(&mut HeaderMap::new()).await.unwrap(), Released::Touched);
    let after = rig.only().await.1;
    assert_eq!(after.data(), before.data(), "no data is written for a touch");
    assert!(after.expires() > before.expires());
    assert_eq!(note(&manager, &token).await.unwrap().as_deref(), Some("word"));

    let session = manager.start(&with_token(&token)).await.unwrap();
    session.regenerate().unwrap();
    let mut headers = HeaderMap::new();
    assert_eq!(session.release(&mut headers).await.unwrap(), Released::Regenerated);
    assert_eq!(note(&manager, &token_of(&headers)).await.unwrap().as_deref(), Some("word"));
    assert_eq!(note(&manager, &token).await.unwrap(), None);
}

#[tokio::test]
async fn a_forged_tombstone_leads_to_no_session() {
    let rig = Rig::new();
    let rotating = || rig.manager(|builder| builder.seal(rig.ring.clone()).rotate_every(HOUR / 4));
    let (manager, victim) = (rotating(), visit(&rotating(), "the victim's", None).await);
    rig.time.advance(HOUR / 3);
    let session = manager.start(&with_token(&victim)).await.unwrap();
    assert_eq!(session.release(&mut HeaderMap::new()).await.unwrap(), Released::Regenerated);
    assert_eq!(note(&manager, &victim).await.unwrap().as_deref(), Some("the victim's"), "in its grace");

    // A writer in the store who has a session of his own puts a tombstone over it that leads to the victim's.
    let (victims_key, _) = rig.only().await;
    let own = visit(&manager, "own", None).await;
    let own_key = rig.lying().await.into_iter().find(|(key, _)| *key != victims_key).unwrap().0;
    let forged = cloakroom::testkit::record(&rig.time.clock()).tombstone(&victims_key, HOUR);
    rig.plant(&own_key, &forged).await;
    assert_eq!(note(&manager, &own).await.unwrap(), None);
    let plain = rig.manager(|builder| builder);
    let refused = plain.start(&with_token(&own)).await.expect_err("it leads to the victim's session");
    assert_eq!(refused.kind(), ErrorKind::Corrupt, "a manager without the keys cannot read a sealed record");
}

#[tokio::test]
async fn a_record_opens_only_under_its_key_and_metadata() {
    let rig = Rig::new();
    let manager = rig.sealed();
    let (alice, bob) =
        (visit(&manager, "alice's", Some("alice")).await, visit(&manager, "bob's", Some("bob")).await);
    let lying = rig.lying().await;
    let of = |user: &str| {
        let user = Principal::new(user).unwrap();
        lying.iter().find(|(_, record)| record.principal() == Some(user.clone())).unwrap()
    };
    let ((alices_key, alices), (bobs_key, _)) = (of("alice"), of("bob"));

    rig.plant(bobs_key, alices).await;
    assert_eq!(note(&manager, &bob).await.unwrap_err().kind(), ErrorKind::Corrupt, "moved to another key");

    // Every byte of header and fields, but the two times that a touch moves and the lengths, which must fit.
    let bytes = alices.as_bytes();
    let mut tried = 0;
    for place in (0..bytes.len()).filter(|place| !(32..48).contains(place)) {
        let mut changed = bytes.to_vec();
        changed[place] ^= 1;
        let Ok(changed) = Record::from_bytes(&changed) else { continue };
        if changed.is_expired(rig.time.clock().now()) {
            continue;
        }
        tried += 1;
        rig.plant(alices_key, &changed).await;
        let found = note(&manager, &alice).await;
        assert!(
            found.as_ref().is_ok_and(Option::is_none)
                || found.is_err_and(|error| error.kind() == ErrorKind::Corrupt),
            "byte {place}"
        );
    }
    assert!(tried > 80, "{tried} bytes");
    rig.plant(alices_key, alices).await;
    assert_eq!(note(&manager, &alice).await.unwrap().as_deref(), Some("alice's"));

    // A key that is the plain id does not depend on the namespace, but the seal does.
    let clear = |namespace: &'static str| {
        rig.manager(|builder| builder.seal(rig.ring.clone()).danger_store_ids_in_clear().namespace(namespace))
    };
    let shopper = visit(&clear("shop"), "shopping", None).await;
    assert_eq!(note(&clear("shop"), &shopper).await.unwrap().as_deref(), Some("shopping"));
    assert_eq!(note(&clear("shop2"), &shopper).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn an_unsealed_record_is_accepted_only_by_option() {
    let rig = Rig::new();
    let token = visit(&rig.manager(|builder| builder), "from before", None).await;
    assert_eq!(note(&rig.sealed(), &token).await.unwrap(), None);

    let until = rig.time.clock().now() + HOUR / 10;
    let migrating = rig.manager(|builder| builder.seal(rig.ring.clone()).danger_accept_unsealed_until(until));
    assert!(migrating.advice().iter().any(|advice| advice.setting() == "acceptUnsealedUntil"));
    let stays_plain = visit(&rig.manager(|builder| builder), "too late", None).await;
    let session = migrating.start(&with_token(&token)).await.unwrap();
    assert_eq!(session.get::<String>("note").unwrap().as_deref(), Some("from before"));
    session.set("seen", true).unwrap();
    assert_eq!(session.release(&mut HeaderMap::new()).await.unwrap(), Released::Saved);
    rig.time.advance(HOUR / 10);
    assert_eq!(
        note(&migrating, &token).await.unwrap().as_deref(),
        Some("from before"),
        "the change sealed it"
    );
    assert_eq!(note(&migrating, &stays_plain).await.unwrap(), None);
}

#[tokio::test]
async fn a_sealed_record_is_an_error_to_a_manager_without_keys() {
    let rig = Rig::new();
    let token = visit(&rig.sealed(), "word", None).await;
    let error = note(&rig.manager(|builder| builder), &token).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("give it the key ring"), "{error}");
    // The same where nothing waits.
    let memory = MemoryProvider::new();
    let [sealed, plain] = [true, false].map(|seal| {
        let builder = Manager::builder(memory.clone());
        if seal { builder.seal(rig.ring.clone()).build() } else { builder.build() }.unwrap()
    });
    let token = visit(&sealed, "word", None).await;
    assert_eq!(note(&plain, &token).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_session_outlives_the_rotation_of_its_key() {
    let rig = Rig::new();
    let manager = rig.sealed();
    let (token, changed) = (visit(&manager, "old", None).await, visit(&manager, "old", None).await);
    let former = rig.ring.newest();
    rig.ring.rotate(SealKey::generate().unwrap());
    assert_eq!(note(&manager, &token).await.unwrap().as_deref(), Some("old"));
    let session = manager.start(&with_token(&changed)).await.unwrap();
    session.set("note", "new").unwrap();
    assert_eq!(session.release(&mut HeaderMap::new()).await.unwrap(), Released::Saved);
    assert!(rig.ring.retire(former).unwrap());
    assert_eq!(note(&manager, &token).await.unwrap(), None);
    assert_eq!(note(&manager, &changed).await.unwrap().as_deref(), Some("new"), "the newest key sealed it");
}

/// An attacker with write access to the store can do this, as the documentation says: delete, restore an earlier state of the same key, and move the two times.
#[tokio::test]
async fn a_store_writer_can_only_roll_back_and_prolong() {
    let rig = Rig::new();
    let manager = rig.sealed();
    let token = visit(&manager, "first", None).await;
    let (key, first) = rig.only().await;
    let session = manager.start(&with_token(&token)).await.unwrap();
    session.set("note", "second").unwrap();
    let _ = session.release(&mut HeaderMap::new()).await.unwrap();
    rig.plant(&key, &first).await;
    assert_eq!(note(&manager, &token).await.unwrap().as_deref(), Some("first"));

    let mut prolonged = first.clone();
    prolonged.touch(rig.time.clock().now() + 1000 * HOUR);
    rig.plant(&key, &prolonged).await;
    rig.time.advance(8 * HOUR - Duration::from_millis(1));
    assert_eq!(note(&manager, &token).await.unwrap().as_deref(), Some("first"));
    rig.time.advance(Duration::from_millis(1));
    assert_eq!(note(&manager, &token).await.unwrap(), None, "never past the absolute deadline");
}

#[tokio::test]
async fn a_forged_record_does_not_stop_a_log_out_everywhere() {
    let rig = Rig::new();
    let manager = rig.sealed();
    let alice = Principal::new("alice").unwrap();
    let tokens = [visit(&manager, "one", Some("alice")).await, visit(&manager, "two", Some("alice")).await];
    let (_, sealed) = rig.lying().await.remove(0);
    for forged in ["aa", "zz"] {
        rig.plant(&forged.parse().unwrap(), &sealed).await;
    }
    manager.end_sessions(&alice).await.unwrap();
    for token in tokens {
        assert_eq!(note(&manager, &token).await.unwrap(), None);
    }
    assert_eq!(manager.sessions_of(&alice).await.unwrap(), []);
}

#[tokio::test]
async fn a_plain_id_is_moved_to_its_hash_until_the_date() {
    let rig = Rig::new();
    let clear = rig.manager(ManagerBuilder::danger_store_ids_in_clear);
    let (token, late) = (visit(&clear, "early", None).await, visit(&clear, "late", None).await);
    assert_eq!(note(&rig.manager(|builder| builder), &token).await.unwrap(), None, "not without the option");

    let until = rig.time.clock().now() + HOUR / 10;
    let migrating = rig.manager(|builder| builder.danger_accept_plain_ids_until(until));
    assert!(migrating.advice().iter().any(|advice| advice.setting() == "acceptPlainIdsUntil"));
    assert_eq!(note(&migrating, &token).await.unwrap().as_deref(), Some("early"));
    let plain: StoreKey = token.parse().unwrap();
    assert_eq!(rig.store.load(&plain).await.unwrap(), None, "the store holds its id no more");
    assert_eq!(rig.lying().await.iter().filter(|(key, _)| key.as_str().len() == 64).count(), 1);
    assert_eq!(note(&clear, &token).await.unwrap(), None);

    rig.time.advance(HOUR / 10);
    assert_eq!(note(&migrating, &late).await.unwrap(), None);
    assert!(rig.store.load(&late.parse().unwrap()).await.unwrap().is_some(), "it was not even looked for");
    assert_eq!(note(&migrating, &token).await.unwrap().as_deref(), Some("early"), "what was moved stays");
}

/// Renames nothing for as long as it is told not to.
#[derive(Clone, Default)]
struct Unmoving(Arc<AtomicBool>);

impl Hook for Unmoving {
    async fn before(&self, call: Call) -> cloakroom::Result<Verdict> {
        if call == Call::Rename && self.0.load(Ordering::SeqCst) {
            return Err(cloakroom::Error::new(ErrorKind::Unavailable, "no rename now"));
        }
        Ok(Verdict::Forward)
    }
}

#[tokio::test]
async fn a_request_that_could_not_move_a_plain_id_follows_it() {
    let mut rig = Rig::new();
    let clear = rig.manager(ManagerBuilder::danger_store_ids_in_clear);
    let tokens = [visit(&clear, "one", None).await, visit(&clear, "two", None).await];
    let (until, unmoving) = (rig.time.clock().now() + HOUR, Unmoving::default());
    rig.store = AnyProvider::new(Hooked::new(rig.store.clone(), unmoving.clone()));
    let manager = rig.manager(|builder| builder.danger_accept_plain_ids_until(until));
    let [changed, ended] = tokens.each_ref().map(|token| with_token(token));
    unmoving.0.store(true, Ordering::SeqCst);
    let [changing, ending] = [manager.start(&changed).await.unwrap(), manager.start(&ended).await.unwrap()];
    unmoving.0.store(false, Ordering::SeqCst);
    for (token, expected) in tokens.iter().zip(["one", "two"]) {
        assert_eq!(
            note(&manager, token).await.unwrap().as_deref(),
            Some(expected),
            "moved by another request"
        );
    }
    changing.set("note", "changed").unwrap();
    assert_eq!(changing.release(&mut HeaderMap::new()).await.unwrap(), Released::Saved);
    assert_eq!(note(&manager, &tokens[0]).await.unwrap().as_deref(), Some("changed"));
    ending.destroy().unwrap();
    assert_eq!(ending.release(&mut HeaderMap::new()).await.unwrap(), Released::Destroyed);
    assert_eq!(note(&manager, &tokens[1]).await.unwrap(), None, "the logout is not undone by the move");
}

#[tokio::test]
async fn a_stored_key_sent_as_a_cookie_reaches_nothing() {
    let rig = Rig::new();
    let until = rig.time.clock().now() + HOUR;
    // Ids that have the very form of a hashed key are the worst case.
    let func = cloakroom::config::HashFunc::Sha256;
    let migrating = rig.manager(|builder| builder.danger_accept_plain_ids_until(until).hash_func(func));
    let token = visit(&migrating, "word", None).await;
    assert_eq!(token.len(), 64);
    let (key, _) = rig.only().await;
    assert_eq!(note(&migrating, key.as_str()).await.unwrap(), None, "whoever has read the store is nobody");
    assert_eq!(note(&migrating, &token).await.unwrap().as_deref(), Some("word"));
    assert_eq!(rig.only().await.0, key, "nothing was moved");
    let id: SessionId = key.as_str().parse().unwrap();
    assert!(migrating.session(&id).await.unwrap().is_none());
}

#[tokio::test]
async fn parallel_requests_move_a_session_once() {
    let rig = Rig::new();
    let token =
        visit(&rig.manager(ManagerBuilder::danger_store_ids_in_clear), "from before", Some("alice")).await;
    let until = rig.time.clock().now() + HOUR;
    let manager = rig.manager(|builder| {
        builder
            .seal(rig.ring.clone())
            .danger_accept_unsealed_until(until)
            .danger_accept_plain_ids_until(until)
    });
    let requests = (0..50).map(|_| {
        let (manager, token) = (manager.clone(), token.clone());
        tokio::spawn(async move { note(&manager, &token).await.unwrap() })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap().as_deref(), Some("from before"));
    }
    rig.time.advance(HOUR / 4);
    assert_eq!(rig.only().await.1.principal(), Some(Principal::new("alice").unwrap()));
    assert_eq!(
        note(&rig.sealed(), &token).await.unwrap().as_deref(),
        Some("from before"),
        "the move sealed it"
    );
}

#[tokio::test]
async fn a_generator_that_fails_while_sealing_stores_nothing() {
    let rig = Rig::new();
    fn fails_for_nonces(buffer: &mut [u8]) -> std::io::Result<()> {
        match buffer.len() {
            24 => Err(std::io::Error::other("no entropy")),
            _ => {
                buffer.fill(7);
                Ok(())
            }
        }
    }
    let manager = rig.manager(|builder| builder.seal(rig.ring.clone()).danger_random(fails_for_nonces));
    let session = manager.start(&HeaderMap::new()).await.unwrap();
    session.set("note", "word").unwrap();
    let mut headers = HeaderMap::new();
    assert_eq!(session.release(&mut headers).await.unwrap_err().kind(), ErrorKind::Random);
    assert!(headers.get(SET_COOKIE).is_none() && rig.lying().await.is_empty());
}

#[tokio::test]
async fn a_configuration_string_seals_too() {
    let folder = tempfile::tempdir().unwrap();
    let config = |keys: &str| {
        format!(
            r#"{{"cookieName":"__Host-id","hashIds":true,"sealKeys":[{keys}],"providerConfig":{:?}}}"#,
            folder.path().to_str().unwrap()
        )
    };
    let [new, old] = [
        "2f8c1ae07bd36945f0a2c6d81e7b9350d4ac0e6f7b12983ca5d6e0f1427b8cff",
        "L4wa4HvTaUXwosbYHnuTUNSsDm97EpjA8tbg8UJ7jP8",
    ];
    let before = Manager::new("file", &config(&format!("{old:?}"))).await.unwrap();
    let token = visit(&before, "word", None).await;
    let after = Manager::new("file", &config(&format!("{new:?}, {old:?}"))).await.unwrap();
    assert_eq!(note(&after, &token).await.unwrap().as_deref(), Some("word"));
    let retired = Manager::new("file", &config(&format!("{new:?}"))).await.unwrap();
    assert_eq!(note(&retired, &token).await.unwrap(), None);
    assert!(!format!("{after:?}").contains("2f8c1ae0"), "Debug shows no key");
}

/// The store sees sealed records of sessions it can no longer open as sessions: they count until they expire.
#[tokio::test]
async fn outcomes_of_the_store_pass_through_the_seal() {
    let rig = Rig::new();
    let provider = cloakroom::providers::SealedProvider::new(rig.store.clone(), rig.ring.clone(), "shop");
    let key = |text: &str| text.parse::<StoreKey>().unwrap();
    let record = cloakroom::testkit::record(&rig.time.clock()).value("n", 1).build();
    assert_eq!(provider.create(&key("aa"), &record).await.unwrap(), Created::Done);
    assert_eq!(provider.create(&key("aa"), &record).await.unwrap(), Created::Taken);
    assert_eq!(provider.update(&key("aa"), &record, &base(99)).await.unwrap(), Updated::Stale);
    assert_eq!(provider.update(&key("bb"), &record, &base(1)).await.unwrap(), Updated::Gone);
    assert_eq!(provider.rename(&key("bb"), &key("cc"), &record, 1, None).await.unwrap(), Renamed::Gone);
    assert_eq!(provider.load(&key("aa")).await.unwrap(), Some(record));
}

/// Says that its store takes 1,000 bytes a record.
struct Small;

impl Hook for Small {
    fn capabilities(&self, inner: Capabilities) -> Capabilities {
        let mut capabilities = inner;
        capabilities.max_record = Some(1_000);
        capabilities
    }
}

#[tokio::test]
async fn what_sealing_takes_is_left_free_in_a_record() {
    let memory = MemoryProvider::new();
    let ring = KeyRing::new(SealKey::generate().unwrap());
    let sealed = SealedProvider::new(Hooked::new(memory.clone(), Small), ring, "shop");
    let most = sealed.capabilities().max_record.unwrap();
    let of = |data: usize| testkit::record(&Clock::system()).filled(data).build();
    let largest = of(500 + most - of(500).as_bytes().len());
    assert_eq!(largest.as_bytes().len(), most);
    let key: StoreKey = "key".parse().unwrap();
    assert_eq!(sealed.create(&key, &largest).await.unwrap(), Created::Done);
    assert_eq!(memory.load(&key).await.unwrap().unwrap().as_bytes().len(), 1_000);
}

#[tokio::test]
async fn a_retired_keys_session_does_not_lock_its_user_out() {
    let rig = Rig::new();
    let one = std::num::NonZeroUsize::MIN;
    let sessions = rig.manager(|builder| {
        builder.seal(rig.ring.clone()).sessions_per_user(one, cloakroom::config::OverLimit::Refuse)
    });
    let alice = Principal::new("alice").unwrap();
    let login = async || {
        let session = sessions.start(&HeaderMap::new()).await.unwrap();
        session.authenticate(alice.clone()).unwrap();
        session.release(&mut HeaderMap::new()).await
    };
    assert_eq!(login().await.unwrap(), Released::Created);
    assert_eq!(login().await.unwrap_err().kind(), ErrorKind::Refused);
    let (lost, _) = rig.only().await;
    let former = rig.ring.newest();
    rig.ring.rotate(SealKey::generate().unwrap());
    assert!(rig.ring.retire(former).unwrap());

    assert_eq!(sessions.active_sessions().await.unwrap(), 0);
    assert!(sessions.sessions_of(&alice).await.unwrap().is_empty());
    assert!(sessions.provider().scan(None, 10).await.unwrap().entries.is_empty());
    assert_eq!(login().await.unwrap(), Released::Created);
    assert_eq!(sessions.active_sessions().await.unwrap(), 1);
    assert_eq!(sessions.end_sessions(&alice).await.unwrap(), 1);

    assert!(rig.store.load(&lost).await.unwrap().is_some(), "nobody deletes what another ring may open");
    assert!(sessions.provider().delete(&lost).await.unwrap());
    assert!(rig.store.load(&lost).await.unwrap().is_none());
}
