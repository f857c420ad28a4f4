//! Rows 1 to 10: ids and how they are looked up.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use cloakroom::{ErrorKind, event::EventKind};
use data_encoding::BASE64URL_NOPAD;

use super::{Excuse, Outcome};
use crate::site::{Setup, Site};
use crate::target::{Kind, Target};
use crate::visitor::{Request, put, raw};

/// An id of the right form that was never issued.
pub(super) const MADE_UP: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Returns how many ids row 1 examines: `CLOAKROOM_IDS`, by default 100,000 in memory. Other providers get a fiftieth,
/// since each id costs a write there and the provider does not make it.
fn ids_to_see(target: &Target) -> usize {
    let request = std::env::var("CLOAKROOM_IDS").ok().and_then(|text| text.parse().ok());
    let all = request.unwrap_or(100_000);
    if target.kind == Kind::Memory { all } else { all / 50 }
}

pub(super) async fn row_01_ids_are_random(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let count = ids_to_see(target);
    let (workers, each) = (4, count / 4);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..workers {
        let visitor = setup.visitor();
        tasks.spawn(async move { visitor.flood(&put("key", "value"), each).await });
    }
    let mut seen = HashSet::new();
    let mut ones = [0_u64; 256];
    // A sealed token is not a random number. It contains one, which row 43 examines.
    let (sealed, mut others) = (setup.store.capabilities().token_is_record(), HashSet::new());
    for answer in tasks.join_all().await.into_iter().flatten() {
        let id = answer.set_cookie("__Host-id").expect("a cookie").token;
        if sealed {
            assert!(others.insert(id), "a token was given twice");
            continue;
        }
        assert_eq!(id.len(), 43);
        let bytes = BASE64URL_NOPAD.decode(id.as_bytes()).expect("base64url, without spare bits");
        for (place, count) in ones.iter_mut().enumerate() {
            *count += u64::from(bytes[place / 8] >> (place % 8) & 1);
        }
        assert!(seen.insert(bytes), "an id was given twice");
    }
    assert_eq!(seen.len() + others.len(), workers * each);
    if sealed {
        return Outcome::Held;
    }
    // A chi-squared test with one degree of freedom, with p > 10^-9 for each of 256 bits: one run in four million
    // fails by chance.
    let n = (workers * each) as f64;
    for (place, &ones) in ones.iter().enumerate() {
        let square = (2.0 * ones as f64 - n).powi(2) / n;
        assert!(square < 37.3, "bit {place} was set in {ones} of {n} ids");
    }
    Outcome::Held
}

pub(super) async fn row_02_without_randomness_no_session(target: &Target) -> Outcome {
    let setup = Setup::with(target, |builder| builder.danger_random(of_this(target, DRY))).await;
    let mut visitor = setup.visitor();
    for answer in [visitor.try_login("alice").await, visitor.try_set("key", "value").await] {
        assert_eq!(answer.status(), 503, "{}", answer.text());
        assert_eq!(answer.header("set-cookie"), None);
    }
    setup.store.assert_count(0).await;
    let mut reader = setup.visitor();
    reader.assert_fresh().await;
    Outcome::Held
}

type Generator = fn(&mut [u8]) -> io::Result<()>;

/// Picks the generator of this provider. A generator is a plain function, so each provider needs one with a counter of
/// its own.
fn of_this(target: &Target, all: [Generator; 8]) -> Generator {
    let place = Kind::ALL.iter().position(|kind| *kind == target.kind);
    all[place.expect("one of them")]
}

const DRY: [Generator; 8] = [dry::<0>, dry::<1>, dry::<2>, dry::<3>, dry::<4>, dry::<5>, dry::<6>, dry::<7>];

/// Gives the manager its key, and fails from then on.
fn dry<const PLACE: usize>(buffer: &mut [u8]) -> io::Result<()> {
    static DRAWS: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
    if DRAWS[PLACE].fetch_add(1, Ordering::SeqCst) > 0 {
        return Err(io::Error::other("no entropy"));
    }
    buffer.fill(7);
    Ok(())
}

pub(super) async fn row_03_a_clients_id_is_never_adopted(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut former = setup.user("alice").await;
    let ended = former.id();
    former.logout().await;
    // The tombstone of a logout is gone after a minute. The id is then like any unknown id.
    setup.time.advance(std::time::Duration::from_secs(61));
    // Without revocations a token works even after its logout: row 31.
    let others = if setup.store.capabilities().revocable { vec![MADE_UP, &ended] } else { vec![MADE_UP] };
    for id in others {
        for request in [put("key", "value"), Request::new("POST", "/api/session/data/sum/increment")] {
            let mut visitor = setup.visitor().with(id);
            let answer = visitor.send(request).await;
            assert!(matches!(answer.status(), 200 | 204), "{}", answer.text());
            assert_ne!(visitor.id(), id, "adopted");
            assert!(visitor.is_alive().await);
            setup.visitor().with(id).assert_fresh().await;
        }
        let mut visitor = setup.visitor().with(id);
        visitor.login("mallory").await;
        assert_ne!(visitor.id(), id, "adopted by a login");
        let answer = setup.visitor().with(id).post("/api/session/regenerate").await;
        assert_eq!((answer.status(), answer.header("set-cookie")), (204, None));
        setup.visitor().with(id).assert_fresh().await;
    }
    Outcome::Held
}

/// Returns texts that are not ids, as a header can carry them.
pub(super) fn malformed_ids() -> Vec<Vec<u8>> {
    let long = "A".repeat(4_000);
    let texts: [&str; 24] = [
        "",
        "x",
        "..",
        "../x",
        "../../../../etc/passwd",
        "..%2f..%2fx",
        "..\\x",
        "/etc/passwd",
        "a/b",
        "con",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/A",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.A",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA:A",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA*A",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%00",
        "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"",
        "' OR '1'='1",
        "1 UNION SELECT record FROM session",
        "*\r\n",
        "{0}:session:*",
        &long,
    ];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| text.trim_end().as_bytes().to_vec()).collect();
    // U+212A, which some functions fold to k, and bytes that are not UTF-8.
    all.push("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\u{212a}".as_bytes().to_vec());
    all.push([b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".as_slice(), &[0xff]].concat());
    all
}

pub(super) async fn row_04_a_malformed_id_costs_no_store_call(target: &Target) -> Outcome {
    let (setup, faults) = Setup::faulty(target).await;
    for id in malformed_ids() {
        let cookie = [b"__Host-id=".as_slice(), &id].concat();
        let answer =
            setup.visitor().send(Request::new("GET", "/api/session").header("Cookie", &cookie)).await;
        assert_eq!(answer.json()["present"], false);
        assert_eq!(answer.header("set-cookie"), None);
        assert_eq!(faults.calls(), [], "{:?}", String::from_utf8_lossy(&id));
    }
    // The HTTP server may refuse these requests or pass them on, but the store must not be called.
    for filling in [vec![0], vec![b'A'; 1 << 20], vec![b'\r', b'\n', b' ', b'x']] {
        let head = b"GET /api/session HTTP/1.1\r\nHost: attacked.example\r\nCookie: __Host-id=".as_slice();
        let answer = raw(setup.site.address, &[head, &filling, b"\r\n\r\n"].concat()).await;
        if let Some(answer) = answer {
            assert_eq!(answer.header("set-cookie"), None);
            assert!(matches!(answer.status(), 200 | 400 | 431), "{}", answer.status());
        }
        assert_eq!(faults.calls(), []);
    }
    let mut visitor = setup.user("alice").await;
    assert!(visitor.is_alive().await, "the site still works");
    Outcome::Held
}

pub(super) async fn row_05_an_id_reveals_nothing_about_its_user(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let (one, other) = (setup.user("alice").await.id(), setup.user("alice").await.id());
    // A sealed token begins with the key's id of 8 bytes.
    let first = if setup.store.capabilities().token_is_record() { 11 } else { 0 };
    for start in first..one.len() - 6 {
        assert!(
            !other.contains(&one[start..start + 6]),
            "the ids of two logins of one user share six characters"
        );
    }
    assert!(!one.contains("alice"));
    Outcome::Held
}

pub(super) async fn row_06_the_cookie_names_no_product(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let answer = setup.visitor().try_set("key", "value").await;
    let cookie = answer.header("set-cookie").expect("a cookie");
    assert!(cookie.starts_with("__Host-id="), "another name");
    for name in ["server", "x-powered-by", "x-aspnet-version", "x-session", "via"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    let shown = format!("{:?}", answer.head).to_lowercase();
    for product in
        ["cloakroom", "rust", "axum", "hyper", "session", "redis", "maria", "mysql", "postgres", "memory"]
    {
        assert!(!shown.contains(product), "{product}");
    }
    Outcome::Held
}

pub(super) async fn row_07_every_request_reads_the_store(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.user("alice").await;
    assert!(visitor.is_alive().await);
    let key = setup.only_key().await;
    // Delete the record through another process, if the provider has one.
    assert!(cloakroom::Provider::delete(&setup.store.second().await, &key).await.expect("the store answers"));
    visitor.assert_fresh().await;
    Outcome::Held
}

pub(super) async fn row_08_the_store_holds_no_ids(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let mut visitor = setup.visitor();
    visitor.set("key", "value").await;
    let anonymous = visitor.id();
    visitor.login("alice").await;
    visitor.post("/api/session/regenerate").await;
    let ids = [anonymous, visitor.id()];
    let keys = setup.store.keys().await;
    assert_eq!(keys.len(), 1);
    let dump = String::from_utf8_lossy(&setup.store.dump()).into_owned();
    for key in &keys {
        setup.visitor().with(key.as_str()).assert_fresh().await;
        let cut = &key.as_str()[..43.min(key.as_str().len())];
        setup.visitor().with(cut).assert_fresh().await;
    }
    let outcome = Excuse::NotPersistent.outcome(&setup.store.capabilities());
    if outcome == Outcome::Held {
        assert!(dump.contains(keys[0].as_str()), "the dump misses what is stored");
        for id in ids {
            assert!(!dump.contains(&id), "an id in plain text");
            let raw = BASE64URL_NOPAD.decode(id.as_bytes()).expect("base64url");
            assert!(!dump.contains(&data_encoding::HEXLOWER.encode(&raw)), "an id in hex");
        }
    }
    outcome
}

const REPLAYING: [Generator; 8] = [
    replays::<0>,
    replays::<1>,
    replays::<2>,
    replays::<3>,
    replays::<4>,
    replays::<5>,
    replays::<6>,
    replays::<7>,
];

/// Draws the same bytes for the second session as for the first.
fn replays<const PLACE: usize>(buffer: &mut [u8]) -> io::Result<()> {
    static DRAWS: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
    // The first draw is the manager's own key.
    let draw = DRAWS[PLACE].fetch_add(1, Ordering::SeqCst);
    buffer.fill(if draw == 2 { 101 } else { 100 + draw as u8 });
    Ok(())
}

/// Returns the id of a draw in which every byte is `byte`: 42 characters of six bits, and one of four.
fn id_of(byte: u8) -> String {
    let six = BASE64URL_NOPAD.encode(&[byte << 2, 0, 0])[..1].repeat(42);
    let four = &BASE64URL_NOPAD.encode(&[(byte & 0b11_1100) << 2, 0, 0])[..1];
    six + four
}

pub(super) async fn row_09_a_taken_id_is_never_reused(target: &Target) -> Outcome {
    let setup = Setup::with(target, |builder| builder.danger_random(of_this(target, REPLAYING))).await;
    let (mut first, mut second) = (setup.visitor(), setup.visitor());
    first.set("key", "first").await;
    second.set("key", "second").await;
    assert_eq!(first.id(), id_of(101));
    assert_ne!(second.id(), first.id());
    assert_eq!(second.id(), id_of(103), "the first attempt found the id taken");
    assert_eq!(first.value("key").await.as_deref(), Some("first"));
    assert_eq!(second.value("key").await.as_deref(), Some("second"));
    setup.store.assert_count(2).await;
    Outcome::Held
}

pub(super) async fn row_10_namespaces_are_separate(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    let store = &setup.store;
    let mut sites = Vec::new();
    for namespace in ["user", "admin", "prod", "prod2"] {
        let site = Site::on(store, store.second().await, |builder| builder.namespace(namespace)).await;
        let mut visitor = site.visitor();
        visitor.login(namespace).await;
        sites.push((site, visitor));
    }
    for (at, (site, _)) in sites.iter().enumerate() {
        for (from, (_, visitor)) in sites.iter().enumerate() {
            let mut visitor = visitor.at(site.address);
            if at == from {
                assert!(visitor.is_alive().await);
            } else {
                visitor.assert_fresh().await;
            }
        }
        let unknown = site.event_kinds().iter().filter(|kind| **kind == EventKind::UnknownId).count();
        assert_eq!(unknown, sites.len() - 1);
    }
    let control = Site::on(store, store.second().await, |builder| builder.namespace("user")).await;
    assert!(sites[0].1.at(control.address).is_alive().await, "another process of the same manager");
    let refused =
        cloakroom::Manager::builder(store.second().await).namespace("a\0b").build().expect_err("no manager");
    assert_eq!(refused.kind(), ErrorKind::Config);
    Outcome::Held
}
