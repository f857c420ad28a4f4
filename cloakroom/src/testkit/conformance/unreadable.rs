//! Records that cannot be read. The first method that meets one returns an error of the kind `Corrupt`; after that the key is free.

use crate::error::ErrorKind;
use crate::id::StoreKey;
use crate::provider::{Created, Provider};
use crate::record::Record;
use crate::testkit::base;
use crate::testkit::fixture::{Fixture, key, keys, keys_of, user};

/// Returns byte strings that are no record in any format: none, too few, noise, half a record, another program's text, and very many.
fn unreadable(f: &Fixture) -> Vec<(&'static str, Vec<u8>)> {
    let whole = f.record().principal("alice").value("n", 1).build().as_bytes().to_vec();
    let noise = (0..200u8).map(|n| n.wrapping_mul(167).wrapping_add(13)).collect();
    vec![
        ("nothing", Vec::new()),
        ("one byte", vec![0]),
        ("noise", noise),
        ("half a record", whole[..whole.len() / 2].to_vec()),
        ("text", b"a:1:{s:4:\"user\";s:5:\"alice\";}".to_vec()),
        ("a great many zeros", vec![0; 300_000]),
    ]
}

/// Stores a session of alice under `name`, and replaces its record by `bytes`.
async fn planted(f: &Fixture, name: &StoreKey, bytes: &[u8]) {
    f.put(name, &f.record().principal("alice").value("n", 1).build()).await;
    f.plant(name, bytes).await;
}

/// Checks that the key is free again, and that a new session under it stays.
async fn is_as_new(f: &Fixture, name: &StoreKey, why: &str) {
    for side in [f, &f.swapped()] {
        side.lacks(name, &format!("{why}: reported once, then it is not there")).await;
    }
    let record = f.record().principal("bob").value("n", 2).build();
    assert_eq!(f.create(name, &record).await, Created::Done, "{why}: the key is free");
    f.holds(name, &record, &format!("{why}: the new session has nothing of the old")).await;
    if f.capabilities().lists && f.capabilities().users {
        f.belong_to("alice", &[], &format!("{why}: hers cannot be read")).await;
    }
    if f.revokes().await {
        assert!(f.delete(name).await, "{why}: the new session ends like any other");
    }
}

pub(super) async fn an_unreadable_record_is_an_error_once(f: Fixture) {
    if !f.plants() {
        return;
    }
    for (n, (what, bytes)) in unreadable(&f).into_iter().enumerate() {
        let name = key(&format!("unreadable-{n}"));
        planted(&f, &name, &bytes).await;
        let found = f.provider.load(&name).await;
        let kind = found.as_ref().map_err(crate::Error::kind);
        assert!(kind == Err(ErrorKind::Corrupt), "expected {what} to be corrupt, found {found:?}");
        is_as_new(&f, &name, what).await;
    }
}

/// Calls `method` once on the record under `name`. Returns true if it was an error of the right kind.
async fn meets(f: &Fixture, method: &str, name: &StoreKey, next: &Record) -> bool {
    let provider = &f.provider;
    let answer = match method {
        "create" => provider.create(name, next).await.map(drop),
        "update" => provider.update(name, next, &base(1)).await.map(drop),
        "touch" => provider.touch(name, f.now()).await.map(drop),
        "rename" => provider.rename(name, &key("elsewhere"), next, 1, None).await.map(drop),
        "rename onto" => {
            f.put(&key("other"), &f.record().build()).await;
            provider.rename(&key("other"), name, next, 1, None).await.map(drop)
        }
        "delete" => provider.delete(name).await.map(drop),
        other => panic!("{other} is no method"),
    };
    match answer {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{method}: {error}");
            true
        }
    }
}

pub(super) async fn a_change_of_an_unreadable_record_is_no_dead_end(f: Fixture) {
    if !f.plants() {
        return;
    }
    let methods = ["create", "update", "touch", "rename", "rename onto", "delete"];
    let methods = methods.into_iter().filter(|method| *method != "delete" || f.capabilities().revocable);
    for (n, method) in methods.enumerate() {
        for (m, (what, bytes)) in unreadable(&f).into_iter().enumerate() {
            let name = key(&format!("unreadable-{n}-{m}"));
            let why = format!("{method} of {what}");
            planted(&f, &name, &bytes).await;
            let next = f.record().principal("bob").version(2).build();
            let told = meets(&f, method, &name, &next).await;
            // Any call may put it aside. A load does so at the latest.
            match f.provider.load(&name).await {
                Ok(None) => {}
                Ok(Some(found)) => {
                    assert!(!told, "{why}: it was reported, and something is there still: {found:?}");
                    assert_eq!(found, next, "{why}: the new record has taken its place");
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{why}"),
            }
            if f.load(&name).await.is_none() {
                is_as_new(&f, &name, &why).await;
            }
            for left in ["elsewhere", "other"] {
                drop(f.provider.delete(&key(left)).await);
            }
        }
    }
}

pub(super) async fn an_unreadable_record_hides_no_other_in_a_list(f: Fixture) {
    if !f.plants() || !f.lists().await {
        return;
    }
    let all = keys(9);
    for (n, (what, bytes)) in unreadable(&f).into_iter().enumerate() {
        let unreadable = key(&format!("session-0004-{n}"));
        for name in &all {
            // The key exists after the first round.
            let _ = f.create(name, &f.record().principal("alice").build()).await;
        }
        planted(&f, &unreadable, &bytes).await;
        // The method that meets it first returns an error, and no later call does.
        let mut errors = 0;
        let mut cursor = None;
        let mut met = Vec::new();
        loop {
            match f.provider.scan(cursor.clone(), 4).await {
                Ok(page) => {
                    met.extend(page.entries);
                    cursor = page.next;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
                    errors += 1;
                    assert!(errors <= 1, "{what}: reported once already");
                    continue;
                }
            }
            if cursor.is_none() {
                break;
            }
        }
        let met = keys_of(&met);
        assert!(all.iter().all(|name| met.contains(name)), "{what}: a walk meets all others, found {met:?}");
        let theirs = f.provider.indexed(&user("alice"), None, 100).await;
        let theirs = match theirs {
            Err(error) if error.kind() == ErrorKind::Corrupt && errors == 0 => {
                f.provider.indexed(&user("alice"), None, 100).await
            }
            answer => answer,
        };
        let theirs = keys_of(&theirs.expect("a list beside an unreadable record").entries);
        assert!(all.iter().all(|name| theirs.contains(name)), "{what}: hers are all there, found {theirs:?}");
        drop(f.provider.load(&unreadable).await);
        f.lacks(&unreadable, "it was reported and put aside").await;
        assert_eq!(f.count().await, all.len() as u64, "{what}: it counts no longer");
        assert_eq!(keys_of(&f.scan(4).await), all, "{what}: nor is it met");
        f.belong_to("alice", &all.iter().collect::<Vec<_>>(), "nor is it hers").await;
    }
    assert_eq!(f.collect_all(10).await, 0, "what was put aside is nothing to collect");
}
