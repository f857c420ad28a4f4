//! The log during faults, down to TRACE: it holds no id, no value and no user.

use cloakroom::{Principal, Session};
use http::HeaderMap;

use crate::support::faulty::Fault;
use crate::support::hooked::Call;
use crate::support::log::Log;
use crate::support::{Rig, cookies, pair};

const VALUE: &str = "the-value-nobody-may-see";
const KEY: &str = "key-of-the-value";
const USER: &str = "user-nobody-may-see";

/// Every kind of change that a request can make.
fn changes() -> [fn(&Session); 6] {
    [
        |_| (),
        |session| session.set(KEY, VALUE).unwrap(),
        |session| session.authenticate(Principal::new(USER).unwrap()).unwrap(),
        |session| session.regenerate().unwrap(),
        |session| session.clear().unwrap(),
        |session| session.destroy().unwrap(),
    ]
}

#[tokio::test(start_paused = true)]
async fn neither_log_nor_error_holds_an_id_a_value_or_a_user() {
    let log = Log::start();
    let rig = Rig::new();
    let mut ids = Vec::new();
    let mut told = String::new();
    for fault in [
        None,
        Some(Fault::Fail),
        Some(Fault::LoseAnswer),
        Some(Fault::Corrupt),
        Some(Fault::Hang),
        Some(Fault::Lose),
    ] {
        for change in changes() {
            let session = rig.store.start(&HeaderMap::new()).await.unwrap();
            session.set(KEY, VALUE).unwrap();
            session.authenticate(Principal::new(USER).unwrap()).unwrap();
            let mut headers = HeaderMap::new();
            let _ = session.release(&mut headers).await.unwrap();
            let cookie = pair(&headers).unwrap();
            ids.push(session.id().unwrap().expose().to_owned());

            let session = rig.manager.start(&cookies(&cookie)).await.unwrap();
            change(&session);
            if let Some(fault) = fault {
                rig.faults.set_all(fault);
            }
            let released = session.release(&mut headers).await;
            let again = rig.manager.start(&cookies(&cookie)).await;
            let number = session.get::<u64>(KEY);
            told.push_str(&format!("{session:?} {released:?} {again:?} {number:?} {headers:?}"));
            for error in [released.err(), again.err(), number.err()].into_iter().flatten() {
                told.push_str(&format!("{error} {error:#?}"));
            }
            ids.extend(session.id().map(|id| id.expose().to_owned()));
            rig.faults.heal();
        }
    }
    strange_cookies(&rig, &ids).await;
    told.push_str(&format!(
        "{:?} {:?}",
        rig.manager,
        rig.store.sessions_of(&Principal::new(USER).unwrap()).await
    ));

    let logged = log.text();
    assert!(logged.contains("malformed_id"), "{logged}");
    assert!(logged.contains("duplicate"), "{logged}");
    for secret in ids.iter().map(String::as_str).chain([VALUE, USER, "weird-cookie-value"]) {
        assert!(!logged.contains(secret), "{secret} in {logged}");
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

/// Makes requests whose cookies cause log lines.
async fn strange_cookies(rig: &Rig, ids: &[String]) {
    let live = rig.session_with(1).await;
    let cookie = |id: &String| format!("__Host-id={id}");
    let too_many: Vec<_> = ids.iter().take(8).map(cookie).collect();
    for odd in ["__Host-id=weird-cookie-value", &too_many.join("; "), &format!("{live}; {}", cookie(&ids[0]))]
    {
        let _ = rig.manager.start(&cookies(odd)).await.unwrap();
    }
    let _ = rig.manager.spawn_gc();
    rig.faults.set(Call::DeleteExpired, Fault::Fail);
    let _ = rig.manager.collect_garbage().await.unwrap_err();
    rig.faults.heal();
}
