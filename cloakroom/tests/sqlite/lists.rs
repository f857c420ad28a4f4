//! Pages are bounded by the rows that they look at, and not by the sessions that they find.

use std::time::Duration;

use cloakroom::providers::{Created, Cursor, IndexEntry, Page, StoreKey};
use cloakroom::testkit::record;
use cloakroom::{ManualClock, Principal, Provider, SqliteProvider};

use crate::folder::DataFolder;

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_page_looks_at_no_more_rows_than_its_limit() {
    let (folder, time) = (DataFolder::new(), ManualClock::default());
    let provider = SqliteProvider::builder(folder.path()).clock(time.clock()).connect().await.unwrap();
    let create = async |name: String, idle: Duration| {
        let key: StoreKey = name.parse().unwrap();
        let record = record(&time.clock()).idle(idle).principal("alice").build();
        assert_eq!(provider.create(&key, &record).await.unwrap(), Created::Done);
    };
    for number in 0..25 {
        create(format!("expired-{number:02}"), HOUR).await;
    }
    create("live".to_owned(), 3 * HOUR).await;
    time.advance(2 * HOUR);
    let alice = IndexEntry::from(&Principal::new("alice").unwrap());
    let indexed = async |cursor: Option<Cursor>| provider.indexed(&alice, cursor, 10).await.unwrap();
    let scanned = async |cursor: Option<Cursor>| provider.scan(cursor, 10).await.unwrap();
    let found =
        |page: &Page| page.entries.iter().map(|listed| listed.key.as_str().to_owned()).collect::<Vec<_>>();
    let mut pages = (indexed(None).await, scanned(None).await);
    for _ in 0..2 {
        assert_eq!((found(&pages.0), found(&pages.1)), (vec![], vec![]), "ten expired rows fill a page");
        pages = (indexed(pages.0.next).await, scanned(pages.1.next).await);
    }
    assert_eq!((found(&pages.0), found(&pages.1)), (vec!["live".to_owned()], vec!["live".to_owned()]));
    assert!(pages.0.next.is_none() && pages.1.next.is_none());
}
