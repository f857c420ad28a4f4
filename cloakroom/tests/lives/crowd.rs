//! One user with a hundred thousand sessions. Listing and ending them takes bounded steps.

use cloakroom::providers::IndexEntry;
use cloakroom::{Provider, Session};

use crate::visitor::{Browser, Rig, alice, principal, seconds};

const SESSIONS: usize = 100_000;
const LIMIT: usize = 500;

#[tokio::test]
async fn a_hundred_thousand_sessions_of_a_user_can_be_ended() {
    let rig = Rig::new();
    let login = |session: &Session| session.authenticate(alice()).unwrap();
    for _ in 0..SESSIONS {
        let _ = rig.request(&mut Browser::default(), login).await;
    }
    let mut his = Browser::default();
    let _ = rig.request(&mut his, |session| session.authenticate(principal("bob")).unwrap()).await;
    let (mut found, mut pages, mut cursor) = (0, 0, None);
    loop {
        let page = rig.provider.indexed(&IndexEntry::from(&alice()), cursor, LIMIT).await.unwrap();
        assert!(page.entries.len() <= LIMIT);
        (found, pages, cursor) = (found + page.entries.len(), pages + 1, page.next);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, SESSIONS);
    assert!(pages <= 2 * SESSIONS / LIMIT, "{pages} pages");
    assert_eq!(end_all(&rig).await, SESSIONS as u64);
    assert_eq!(rig.manager.sessions_of(&alice()).await.unwrap(), []);
    assert_eq!(rig.manager.active_sessions().await.unwrap(), 1);
    assert_eq!(rig.start(&his).await.principal(), Some(principal("bob")));
    rig.time.advance(seconds(120));
    assert_eq!(rig.manager.collect_garbage().await.unwrap(), SESSIONS as u64, "a tombstone each");
}

async fn end_all(rig: &Rig) -> u64 {
    rig.manager.end_sessions(&alice()).await.unwrap()
}
