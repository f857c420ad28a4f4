//! The cases that hold on every store in Beego's layout.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cloakroom::testkit::base;
use cloakroom::{
    Device, ErrorKind, Lifetime, Manager, ManualClock, Principal, Provider, Released, Session, SessionData,
    config::Codec,
    go::GoTime,
    providers::{AnyProvider, Created, Renamed, StoreKey, Touched, Updated},
};

use super::{COOKIE_NAME, EMPTY, HOUR, PATIENCE, hex, noon, release, request, unhex};

/// A store of one kind, with direct access that bypasses the library.
pub(crate) trait Layout {
    /// Returns a provider of Beego's layout on the store.
    async fn provider(&self, time: &ManualClock) -> AnyProvider;

    /// Stores a value as Beego does, last used at `used`.
    async fn put(&self, key: &str, value: &[u8], used: SystemTime);

    /// Returns the stored value, expired or not.
    async fn value(&self, key: &str) -> Option<Vec<u8>>;

    /// Returns the time of the last use, to the second.
    async fn used(&self, key: &str) -> SystemTime;

    /// Advances the time of the clock and the store.
    async fn pass(&self, time: &ManualClock, span: Duration) {
        time.advance(span);
    }

    /// Returns true if the store removes expired sessions on its own.
    fn drops_expired(&self) -> bool {
        false
    }
}

const ID: &str = "4964887021784b5975bc56b27a0a5b6bd10d7cbb";
const OTHER: &str = "20494fd6d9ec604a29672ac5778a1bbb";
/// The gob of `username: "astaxie"`, as the samples have it.
pub(crate) const ONE: &str = "0d7f040102ff800001100110000029ff80000106737472696e670c0a0008757365726e616d6506737472696e670c09000761737461786965";

pub(crate) async fn manager(layout: &impl Layout, time: &ManualClock) -> Manager {
    Manager::builder(layout.provider(time).await)
        .cookie_name(COOKIE_NAME)
        .codec(Codec::GOB)
        .hash_func(cloakroom::config::HashFunc::Sha1)
        .idle_timeout(HOUR)
        .deadline(PATIENCE)
        .absolute_timeout(None)
        .danger_store_ids_in_clear()
        .clock(time.clock())
        .build()
        .unwrap()
}

/// Compares two times with a tolerance, since some stores use their own clock.
fn near(found: SystemTime, expected: SystemTime) {
    let apart = found.duration_since(expected).unwrap_or_else(|error| error.duration());
    assert!(apart < Duration::from_secs(30), "{found:?} and not {expected:?}");
}

/// Checks that a session has the values that the samples describe.
pub(crate) fn is_as_the_samples_say(session: &Session, what: &str) {
    let expected: &[(&str, &str)] = match what {
        "one" => &[("username", "astaxie")],
        "several" => &[("username", "bob"), ("lang", "zh-CN")],
        _ => &[],
    };
    for (key, value) in expected {
        assert_eq!(session.get::<String>(key).unwrap().as_deref(), Some(*value), "{what}");
    }
    if what == "several" {
        assert_eq!(session.get::<i64>("n").unwrap(), Some(42));
    }
    let keys = if what == "several" { 3 } else { expected.len() };
    assert_eq!(session.len().unwrap(), keys, "{what}");
}

/// Checks the session of a sample, and stores it with a further key and then without it.
pub(crate) async fn a_sample_is_changed_and_restored(manager: &Manager, key: &str, what: &str) {
    let session = request(manager, key).await;
    is_as_the_samples_say(&session, what);
    session.set("beside", [1, 2]).unwrap();
    assert_eq!(release(&session).await.0, Released::Saved);
    let session = request(manager, key).await;
    session.delete("beside").unwrap();
    assert_eq!(release(&session).await.0, Released::Saved);
}

pub(crate) async fn every_case(layout: &impl Layout) {
    let time = ManualClock::starting_at(noon());
    let manager = manager(layout, &time).await;
    reads_what_beego_wrote(layout, &manager).await;
    writes_what_beego_reads(layout, &manager, &time).await;
    a_read_and_a_change_extend_the_session(layout, &manager, &time).await;
    an_expired_session_is_not_there(layout, &manager, &time).await;
    changes_of_two_requests_are_both_kept(layout, &manager).await;
    a_concurrent_change_by_beego_is_kept(layout, &manager).await;
    a_session_that_has_ended_stays_ended(layout, &manager).await;
    a_new_id_keeps_the_data(layout, &manager).await;
    an_unreadable_value_is_an_error_once(layout, &manager).await;
    ids_are_accepted_in_the_forms_of_beego(layout, &manager).await;
    unsupported_features_are_refused(layout, &manager).await;
    the_providers_contract_holds(layout, &manager).await;
    sessions_are_counted_and_listed(layout, &manager).await;
    concurrent_increments_all_count(layout, &time).await;
}

async fn reads_what_beego_wrote(layout: &impl Layout, manager: &Manager) {
    layout.put(ID, &unhex(ONE), noon()).await;
    let session = request(manager, ID).await;
    assert_eq!(session.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
    assert_eq!((session.keys().unwrap(), session.id().unwrap().expose()), (vec!["username".to_owned()], ID));
    assert_eq!(release(&session).await, (Released::Unchanged, None));
    assert_eq!(layout.value(ID).await.unwrap(), unhex(ONE), "a read writes nothing");

    // A session without keys has two forms.
    for empty in ["", EMPTY] {
        layout.put(OTHER, &unhex(empty), noon()).await;
        let session = request(manager, OTHER).await;
        assert!(session.is_empty().unwrap() && session.id().is_some(), "{empty:?}");
        session.set("username", "astaxie").unwrap();
        assert_eq!(release(&session).await.0, Released::Saved);
        assert_eq!(hex(&layout.value(OTHER).await.unwrap()), ONE, "{empty:?}");
    }
}

async fn writes_what_beego_reads(layout: &impl Layout, manager: &Manager, time: &ManualClock) {
    let session = request(manager, "").await;
    session.set("username", "astaxie").unwrap();
    let (released, id) = release(&session).await;
    let id = id.unwrap();
    assert_eq!((released, id.len()), (Released::Created, 40));
    assert_eq!(hex(&layout.value(&id).await.unwrap()), ONE);
    near(layout.used(&id).await, time.clock().now());

    let session = request(manager, &id).await;
    session.clear().unwrap();
    let _ = release(&session).await;
    assert_eq!(hex(&layout.value(&id).await.unwrap()), EMPTY, "Beego's own value for no keys");

    let session = request(manager, &id).await;
    session.set("last", GoTime::from(time.clock().now())).unwrap();
    session.set("n", 41_u8).unwrap();
    let _ = release(&session).await;
    let read = request(manager, &id).await;
    assert_eq!(read.get::<GoTime>("last").unwrap(), Some(GoTime::from(time.clock().now())));
    assert_eq!(read.get::<i64>("n").unwrap(), Some(41));
}

async fn a_read_and_a_change_extend_the_session(layout: &impl Layout, manager: &Manager, time: &ManualClock) {
    layout.put(ID, &unhex(ONE), time.clock().now()).await;
    layout.pass(time, Duration::from_secs(600)).await;
    let session = request(manager, ID).await;
    assert_eq!(release(&session).await.0, Released::Touched);
    near(layout.used(ID).await, time.clock().now());
    assert_eq!(layout.value(ID).await.unwrap(), unhex(ONE), "a touch moves no data");

    layout.pass(time, Duration::from_secs(600)).await;
    let session = request(manager, ID).await;
    session.set("n", 1).unwrap();
    let _ = release(&session).await;
    near(layout.used(ID).await, time.clock().now());
}

async fn an_expired_session_is_not_there(layout: &impl Layout, manager: &Manager, time: &ManualClock) {
    if layout.drops_expired() {
        return;
    }
    layout.put(ID, &unhex(ONE), time.clock().now() - HOUR).await;
    layout.put(OTHER, &unhex(ONE), time.clock().now() - HOUR + Duration::from_secs(1)).await;
    assert!(request(manager, ID).await.id().is_none());
    assert!(request(manager, OTHER).await.id().is_some());
    let removed = manager.collect_garbage().await.unwrap();
    assert!(removed >= 1);
    assert!(layout.value(ID).await.is_none() && layout.value(OTHER).await.is_some());
    assert_eq!(manager.collect_garbage().await.unwrap(), 0);
}

async fn changes_of_two_requests_are_both_kept(layout: &impl Layout, manager: &Manager) {
    layout.put(ID, &unhex(ONE), manager_now(manager).await).await;
    let (one, two) = (request(manager, ID).await, request(manager, ID).await);
    one.set("one", 1).unwrap();
    two.set("two", 2).unwrap();
    assert_eq!(release(&one).await.0, Released::Saved);
    assert_eq!(release(&two).await.0, Released::Saved);
    let session = request(manager, ID).await;
    assert_eq!(session.keys().unwrap(), ["username", "one", "two"]);

    // Several commits in one request, and atomic updates.
    session.set("three", 3).unwrap();
    session.save().await.unwrap();
    assert_eq!(session.update("one", |one: Option<u8>| one.unwrap_or(0) + 1).await.unwrap(), 2);
    assert_eq!(session.update("one", |one: Option<u8>| one.unwrap_or(0) + 1).await.unwrap(), 3);
    session.set("four", 4).unwrap();
    assert_eq!(release(&session).await.0, Released::Saved);
    let session = request(manager, ID).await;
    assert_eq!(session.keys().unwrap(), ["username", "one", "two", "three", "four"]);
    assert_eq!(session.get::<u8>("one").unwrap(), Some(3));
}

/// Returns the current time by the store's clock.
async fn manager_now(manager: &Manager) -> SystemTime {
    let session = request(manager, "").await;
    session.set("k", 1).unwrap();
    let _ = release(&session).await;
    session.last_active().unwrap()
}

async fn a_concurrent_change_by_beego_is_kept(layout: &impl Layout, manager: &Manager) {
    let now = manager_now(manager).await;
    layout.put(ID, &unhex(EMPTY), now).await;
    let session = request(manager, ID).await;
    session.set("n", 1).unwrap();
    // Beego writes while our request runs. The commit reads that value again and keeps it.
    layout.put(ID, &unhex(ONE), now).await;
    assert_eq!(release(&session).await.0, Released::Saved);
    assert_eq!(request(manager, ID).await.keys().unwrap(), ["username", "n"]);
}

async fn a_session_that_has_ended_stays_ended(layout: &impl Layout, manager: &Manager) {
    layout.put(ID, &unhex(ONE), manager_now(manager).await).await;
    let slow = request(manager, ID).await;
    slow.set("n", 1).unwrap();
    let logout = request(manager, ID).await;
    logout.destroy().unwrap();
    assert_eq!(release(&logout).await.0, Released::Destroyed);
    assert!(layout.value(ID).await.is_none());
    assert_eq!(release(&slow).await, (Released::Gone { lost_write: true }, None));
    assert!(layout.value(ID).await.is_none(), "Beego would have revived it");
    assert!(request(manager, ID).await.id().is_none(), "an unknown id is not adopted");
}

async fn a_new_id_keeps_the_data(layout: &impl Layout, manager: &Manager) {
    layout.put(ID, &unhex(ONE), manager_now(manager).await).await;
    let session = request(manager, ID).await;
    session.regenerate().unwrap();
    let (released, id) = release(&session).await;
    assert_eq!(released, Released::Regenerated);
    assert!(layout.value(ID).await.is_none());
    assert_eq!(hex(&layout.value(&id.unwrap()).await.unwrap()), ONE);
}

async fn an_unreadable_value_is_an_error_once(layout: &impl Layout, manager: &Manager) {
    layout.put(ID, b"no gob", manager_now(manager).await).await;
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::COOKIE, format!("{COOKIE_NAME}={ID}").parse().unwrap());
    let error = manager.start(&headers).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!format!("{error} {error:?}").contains("no gob"));
    assert!(layout.value(ID).await.is_none(), "it was put aside");
    assert!(manager.start(&headers).await.unwrap().id().is_none());
}

async fn ids_are_accepted_in_the_forms_of_beego(layout: &impl Layout, manager: &Manager) {
    let now = manager_now(manager).await;
    for id in [ID, OTHER, &"ab".repeat(16), &"0f".repeat(32)] {
        layout.put(id, &unhex(ONE), now).await;
        let escaped: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for token in [id.to_owned(), escaped, format!("%{:02x}{}", id.as_bytes()[0], &id[1..])] {
            let session = request(manager, &token).await;
            assert_eq!(session.id().unwrap().expose(), id, "{token}");
        }
        for token in
            [format!("{id}+"), format!("{id}%20"), format!("{id}%2"), id.to_uppercase(), format!("../{id}")]
        {
            assert!(request(manager, &token).await.id().is_none() || token == id, "{token}");
        }
        let session = request(manager, id).await;
        session.destroy().unwrap();
        let _ = release(&session).await;
    }
}

async fn unsupported_features_are_refused(layout: &impl Layout, manager: &Manager) {
    layout.put(ID, &unhex(ONE), manager_now(manager).await).await;
    let alice = || Principal::new("alice").unwrap();
    let lifetime = "a lifetime of the session's own";
    let remembered = Lifetime::remembered(3 * HOUR);
    is_refused(layout, manager, |session| session.authenticate(alice()), "keep the name under a key").await;
    is_refused(layout, manager, |session| session.set_lifetime(remembered), lifetime).await;
    is_refused(layout, manager, |session| session.end_by(noon() + 30 * HOUR), lifetime).await;
    is_refused(layout, manager, |session| session.set_device(device()), "a level or a device").await;
    is_refused(layout, manager, |session| session.typed::<Cart>()?.save(), "typed data is kept").await;
    let error = manager.sessions_of(&alice()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);

    // Flash messages are plain keys, so they can be stored.
    let session = request(manager, ID).await;
    session.flash("notice", "saved").unwrap();
    assert_eq!(release(&session).await.0, Released::Saved);
    let session = request(manager, ID).await;
    assert_eq!(session.take_flashes_of::<String>("notice").await.unwrap(), ["saved"]);
    let _ = release(&session).await;
    assert_eq!(layout.value(ID).await.unwrap(), unhex(ONE));
}

/// Checks that `act` is refused at once or at the release, and changes nothing.
async fn is_refused(
    layout: &impl Layout,
    manager: &Manager,
    act: impl FnOnce(&Session) -> cloakroom::Result<()>,
    expected: &str,
) {
    let session = request(manager, ID).await;
    session.set("beside", 1).unwrap();
    let error = match act(&session) {
        Ok(()) => session.release(&mut http::HeaderMap::new()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{expected}: {error}");
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(layout.value(ID).await.unwrap(), unhex(ONE), "nothing was changed");
}

fn device() -> Device {
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::USER_AGENT, "Mozilla/5.0".parse().unwrap());
    Device::of_request(&headers)
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Cart {
    items: u8,
}

impl SessionData for Cart {
    const KEY: &'static str = "cart";
}

/// Checks the parts of the provider contract that sessions do not reach.
async fn the_providers_contract_holds(layout: &impl Layout, manager: &Manager) {
    let provider = manager.provider();
    let now = manager_now(manager).await;
    layout.put(ID, &unhex(ONE), now).await;
    layout.put(OTHER, &unhex(EMPTY), now).await;
    let [id, other, free] = [ID, OTHER, &"ef".repeat(20)].map(|key| key.parse::<StoreKey>().unwrap());
    let record = provider.load(&id).await.unwrap().unwrap();
    let version = record.version();

    assert_eq!(provider.create(&other, &record).await.unwrap(), Created::Taken);
    assert_eq!(provider.rename(&id, &other, &record, version, None).await.unwrap(), Renamed::Taken);
    assert_eq!(provider.rename(&id, &free, &record, version ^ 1, None).await.unwrap(), Renamed::Stale);
    assert_eq!(provider.update(&id, &record, &base(version ^ 1)).await.unwrap(), Updated::Stale);
    assert_eq!(hex(&layout.value(OTHER).await.unwrap()), EMPTY);
    assert_eq!(hex(&layout.value(ID).await.unwrap()), ONE);
    assert!(provider.load(&free).await.unwrap().is_none());

    assert_eq!(provider.update(&free, &record, &base(version)).await.unwrap(), Updated::Gone);
    assert_eq!(provider.rename(&free, &id, &record, version, None).await.unwrap(), Renamed::Gone);
    assert_eq!(provider.touch(&free, now).await.unwrap(), Touched::Gone);
    assert!(!provider.delete(&free).await.unwrap());
    assert!(layout.value(free.as_str()).await.is_none(), "an update never creates");

    assert_eq!(provider.create(&free, &record).await.unwrap(), Created::Done);
    assert_eq!(hex(&layout.value(free.as_str()).await.unwrap()), ONE);
    assert!(provider.delete(&free).await.unwrap() && layout.value(free.as_str()).await.is_none());
    // An expired session does not exist, and its key is free.
    if !layout.drops_expired() {
        layout.put(free.as_str(), &unhex(ONE), now - HOUR - Duration::from_secs(1)).await;
        assert_eq!(provider.update(&free, &record, &base(version)).await.unwrap(), Updated::Gone);
        assert_eq!(provider.touch(&free, now).await.unwrap(), Touched::Gone);
        assert!(!provider.delete(&free).await.unwrap());
        assert_eq!(provider.create(&free, &record).await.unwrap(), Created::Done);
        assert!(provider.delete(&free).await.unwrap());
        layout.put(free.as_str(), &unhex(EMPTY), now - HOUR - Duration::from_secs(1)).await;
        assert_eq!(provider.rename(&id, &free, &record, version, None).await.unwrap(), Renamed::Done);
        assert_eq!(hex(&layout.value(free.as_str()).await.unwrap()), ONE);
        assert!(layout.value(ID).await.is_none());
        assert!(provider.delete(&free).await.unwrap());
    }
}

async fn sessions_are_counted_and_listed(layout: &impl Layout, manager: &Manager) {
    let before = manager.active_sessions().await.unwrap();
    let now = manager_now(manager).await;
    layout.put(ID, &unhex(ONE), now).await;
    layout.put(OTHER, &unhex(EMPTY), now).await;
    // Earlier cases may have left some of these sessions.
    let after = manager.active_sessions().await.unwrap();
    assert!((before + 1..=before + 3).contains(&after), "{before}, {after}");
    let mut listed = listed(manager).await;
    listed.sort();
    assert_eq!(listed.len() as u64, after);
    listed.dedup();
    assert_eq!(listed.len() as u64, after);
    assert!(listed.iter().any(|key| key == ID) && listed.iter().any(|key| key == OTHER));
}

/// Returns the keys of all sessions, in the order of the pages.
pub(crate) async fn listed(manager: &Manager) -> Vec<String> {
    let (mut listed, mut cursor) = (Vec::new(), None);
    loop {
        let page = manager.provider().scan(cursor, 2).await.unwrap();
        listed.extend(page.entries.into_iter().map(|listed| listed.key.as_str().to_owned()));
        cursor = page.next;
        if cursor.is_none() {
            return listed;
        }
    }
}

/// Uses two managers, each with its own provider, like two processes.
async fn concurrent_increments_all_count(layout: &impl Layout, time: &ManualClock) {
    let managers = [Arc::new(manager(layout, time).await), Arc::new(manager(layout, time).await)];
    layout.put(ID, &unhex(ONE), time.clock().now()).await;
    let tasks: Vec<_> = (0..40)
        .map(|task| {
            let manager = Arc::clone(&managers[task % 2]);
            tokio::spawn(async move {
                let session = request(&manager, ID).await;
                session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap();
                session.set(&format!("own {task}"), task).unwrap();
                release(&session).await.0
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Released::Saved);
    }
    let session = request(&managers[0], ID).await;
    assert_eq!(session.get::<u64>("n").unwrap(), Some(40));
    assert_eq!(session.len().unwrap(), 42);
    assert_eq!(session.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
}
