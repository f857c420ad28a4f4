//! A random generator that fails or repeats itself. It never causes a weaker id or access to another session.

use std::cell::Cell;
use std::io;

use cloakroom::{ErrorKind, Manager, MemoryProvider, Released};
use http::HeaderMap;

use crate::site;
use crate::support::faulty::Fault;
use crate::support::hooked::Call;
use crate::support::{Rig, ask, pair, set_cookies, text};

thread_local! {
    /// The generator of this thread. It fails at `None`. Otherwise it returns each number that many times.
    static REPEATS: Cell<Option<u32>> = const { Cell::new(Some(1)) };
    static DRAWN: Cell<u32> = const { Cell::new(0) };
}

fn generator(buffer: &mut [u8]) -> io::Result<()> {
    let repeats = REPEATS.get().ok_or_else(|| io::Error::other("no entropy today"))?;
    let drawn = DRAWN.replace(DRAWN.get() + 1);
    buffer.fill(0);
    buffer[..4].copy_from_slice(&(drawn / repeats).to_be_bytes());
    Ok(())
}

fn rig() -> Rig {
    Rig::with(|builder| builder.danger_random(generator))
}

#[tokio::test]
async fn without_randomness_a_new_session_is_503() {
    let rig = rig();
    let alive = rig.session_with(1).await;
    REPEATS.set(None);
    for (path, cookie) in [("/set", ""), ("/login", ""), ("/login", &*alive), ("/regenerate", &alive)] {
        let response = ask(&site(&rig.manager), path, cookie).await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (503, vec![]), "{path}");
        assert_eq!(text(response).await, "");
    }
    assert_eq!((rig.stored(&alive).await, rig.count().await), (Some(1), 1));
    assert_eq!(
        ask(&site(&rig.manager), "/set", &alive).await.status(),
        200,
        "a request that needs no new id succeeds"
    );
    REPEATS.set(Some(1));
    let response = ask(&site(&rig.manager), "/login", &alive).await;
    assert_eq!(rig.stored(&pair(response.headers()).unwrap()).await, Some(2));
}

#[tokio::test]
async fn a_repeated_id_is_never_given_to_a_second_session() {
    let rig = rig();
    let first = rig.session_with(1).await;
    DRAWN.set(DRAWN.get() - 1);
    rig.faults.calls();
    let response = ask(&site(&rig.manager), "/set", "").await;
    let second = pair(response.headers()).unwrap();
    assert_ne!(first, second);
    assert_eq!(rig.faults.calls(), [Call::Create, Call::Create], "the first id is taken");
    assert_eq!((rig.stored(&first).await, rig.stored(&second).await), (Some(1), Some(2)));

    DRAWN.set(DRAWN.get() - 1);
    let response = ask(&site(&rig.manager), "/login", &first).await;
    let third = pair(response.headers()).unwrap();
    assert_eq!((rig.stored(&second).await, rig.stored(&third).await), (Some(2), Some(1)));
    assert_eq!(rig.faults.calls(), [Call::Load, Call::Rename, Call::Rename]);
}

#[tokio::test]
async fn a_repeated_id_is_refused_in_memory_too() {
    let sessions = Manager::builder(MemoryProvider::new()).danger_random(generator).build().unwrap();
    let created = async |value: u32| {
        let session = sessions.start(&HeaderMap::new()).await.unwrap();
        session.set("n", value).unwrap();
        assert_eq!(session.release(&mut HeaderMap::new()).await.unwrap(), Released::Created);
        session.id().unwrap()
    };
    let first = created(1).await;
    DRAWN.set(DRAWN.get() - 1);
    let second = created(2).await;
    assert_ne!(first, second);
    let stored = async |id| sessions.session(&id).await.unwrap().unwrap().get::<u32>("n").unwrap();
    assert_eq!((stored(first).await, stored(second).await), (Some(1), Some(2)));
}

#[tokio::test]
async fn a_stuck_generator_is_503_and_harms_no_session() {
    let rig = rig();
    REPEATS.set(Some(1000));
    DRAWN.set(5000);
    let first = rig.session_with(1).await;
    for path in ["/set", "/login"] {
        rig.faults.calls();
        let response = ask(&site(&rig.manager), path, "").await;
        assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (503, vec![]), "{path}");
        assert_eq!(rig.faults.calls().len(), 4, "one try and three retries");
    }
    let response = ask(&site(&rig.manager), "/regenerate", &first).await;
    assert_eq!((response.status().as_u16(), set_cookies(response.headers())), (503, vec![]));
    assert_eq!((rig.stored(&first).await, rig.count().await), (Some(1), 1));
}

#[tokio::test]
async fn a_create_gives_up_after_four_taken_ids() {
    let rig = Rig::new();
    rig.faults.set(Call::Create, Fault::Lose);
    let session = rig.manager.start(&HeaderMap::new()).await.unwrap();
    session.set("n", 1).unwrap();
    assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Random);
    assert_eq!(rig.faults.calls(), [Call::Create; 4]);
    rig.faults.heal();
    let mut headers = HeaderMap::new();
    let _ = session.release(&mut headers).await.unwrap();
    assert_eq!(rig.stored(&pair(&headers).unwrap()).await, Some(1));
}
