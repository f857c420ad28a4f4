//! A store that fails or lies. The request gets an error, never an empty session, and only the request is lost.

use cloakroom::{ErrorKind, FileProvider, Manager, Released};
use http::HeaderMap;

use crate::site;
use crate::support::faulty::{Fault, INDISCRETION};
use crate::support::hooked::Call;
use crate::support::{Rig, ask, cookies, pair, set_cookies, text};

#[tokio::test]
async fn a_failed_load_is_503_and_keeps_the_cookie() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for path in ["/read", "/set", "/login", "/regenerate", "/logout"] {
        rig.faults.set(Call::Load, Fault::Fail);
        let response = ask(&site(&rig.manager), path, &alive).await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (503, vec![]), "{path}");
        let body = text(response).await;
        assert_eq!(body, "Service Unavailable");
        assert!(INDISCRETION.split(' ').all(|word| !body.contains(word)));
        assert_eq!(rig.faults.calls(), [Call::Load], "nothing was written");
        rig.faults.heal();
        assert_eq!(text(ask(&site(&rig.manager), "/read", &alive).await).await, "Some(1)", "{path}");
        rig.faults.calls();
    }
    assert_eq!(rig.count().await, 1);
}

#[tokio::test]
async fn a_failed_commit_is_503_and_changes_nothing() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for (path, cookie) in
        [("/set", &*alive), ("/login", &alive), ("/regenerate", &alive), ("/logout", &alive), ("/set", "")]
    {
        for call in [Call::Create, Call::Update, Call::Rename, Call::End, Call::Delete] {
            rig.faults.set(call, Fault::Fail);
        }
        let response = ask(&site(&rig.manager), path, cookie).await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (503, vec![]), "{path}");
        assert_eq!(text(response).await, "");
        assert_eq!((rig.stored(&alive).await, rig.count().await), (Some(1), 1), "{path}");
    }
    rig.faults.heal();
    assert_eq!(ask(&site(&rig.manager), "/set", &alive).await.status(), 200);
    assert_eq!(rig.stored(&alive).await, Some(2));
}

#[tokio::test]
async fn after_a_failed_save_a_release_stores_everything() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for fault in [Fault::Fail, Fault::LoseAnswer] {
        let session = rig.manager.start(&cookies(&alive)).await.unwrap();
        session.set("a", 1).unwrap();
        session.delete("n").unwrap();
        rig.faults.set(Call::Update, fault);
        assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Unavailable);
        session.set("b", 2).unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(session.release(&mut headers).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(headers["vary"], "Cookie");
        session.set("a", 3).unwrap();
        rig.faults.heal();
        assert_eq!(session.release(&mut headers).await.unwrap(), Released::Saved);
        assert_eq!(set_cookies(&headers), [""; 0]);
        let seen = rig.store.start(&cookies(&alive)).await.unwrap();
        assert_eq!(seen.keys().unwrap(), ["a", "b"], "{fault:?}");
        assert_eq!((seen.get("a").unwrap(), seen.get("b").unwrap()), (Some(3), Some(2)));
        assert_eq!(
            session.release(&mut headers).await.unwrap(),
            Released::Saved,
            "a second release does nothing"
        );
        rig.faults.calls();
    }
}

#[tokio::test]
async fn after_a_failed_first_save_one_session_is_created() {
    let rig = Rig::new();
    let session = rig.manager.start(&HeaderMap::new()).await.unwrap();
    session.set("n", 5).unwrap();
    rig.faults.set(Call::Create, Fault::Fail);
    let mut headers = HeaderMap::new();
    assert_eq!(session.release(&mut headers).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(set_cookies(&headers), [""; 0]);
    rig.faults.heal();
    assert_eq!(session.release(&mut headers).await.unwrap(), Released::Created);
    assert_eq!((rig.stored(&pair(&headers).unwrap()).await, rig.count().await), (Some(5), 1));
}

#[tokio::test(start_paused = true)]
async fn endless_conflicts_are_409_after_65_tries() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    for (path, call) in [("/set", Call::Update), ("/login", Call::Rename)] {
        rig.faults.set(call, Fault::Lose);
        let response = ask(&site(&rig.manager), path, &alive).await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (409, vec![]), "{path}");
        let tries = rig.faults.calls().into_iter().filter(|made| *made == call).count();
        assert_eq!(tries, 65, "one try and 64 retries");
        rig.faults.heal();
    }
    let session = rig.manager.start(&cookies(&alive)).await.unwrap();
    rig.faults.set(Call::Update, Fault::Lose);
    let error = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    rig.faults.heal();
    assert_eq!(session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap(), 2);
}

#[tokio::test]
async fn an_unreadable_record_is_500_and_no_empty_session() {
    let rig = Rig::new();
    let alive = rig.session_with(1).await;
    rig.faults.set(Call::Load, Fault::Corrupt);
    for path in ["/read", "/set", "/login", "/logout"] {
        let response = ask(&site(&rig.manager), path, &alive).await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (500, vec![]), "{path}");
        assert_eq!(text(response).await, "Internal Server Error");
    }
    assert_eq!(rig.manager.start(&cookies(&alive)).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!((rig.stored(&alive).await, rig.count().await), (Some(1), 1));
}

#[tokio::test]
async fn a_corrupt_file_is_500_once_and_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions");
    let sessions = Manager::builder(FileProvider::connect(&path).unwrap()).build().unwrap();
    let alive = pair(ask(&site(&sessions), "/set", "").await.headers()).unwrap();
    let file = record_below(&path);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let response = ask(&site(&sessions), "/read", &alive).await;
    assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (500, vec![]));
    assert_eq!(std::fs::read_dir(path.join(".corrupt")).unwrap().count(), 1);
    let response = ask(&site(&sessions), "/read", &alive).await;
    assert_eq!(text(response).await, "None", "the session's file was put aside");
}

/// Returns the path of the only record in the folder.
fn record_below(path: &std::path::Path) -> std::path::PathBuf {
    let visible = |path: &std::path::Path| {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let shown =
            |path: &std::path::PathBuf| !path.file_name().unwrap().as_encoded_bytes().starts_with(b".");
        entries.filter(shown).collect::<Vec<_>>()
    };
    let mut at = path.to_owned();
    while at.is_dir() {
        let [only] = &visible(&at)[..] else { panic!("not one entry in {at:?}") };
        at = only.clone();
    }
    at
}
