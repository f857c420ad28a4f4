//! Lists of many sessions: they use an index and are bounded in bytes.

use std::collections::HashSet;

use cloakroom::testkit::record;
use cloakroom::{
    Clock, KeyRing, MySqlProvider, Principal, Provider,
    providers::{Created, IndexEntry, SealedProvider},
    seal::SealKey,
};
use servers::MariaDb;

use crate::server::{a_table, plain};

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_page_of_a_user_reads_only_its_own_rows() {
    const SESSIONS: u64 = 100_000;
    let server = MariaDb::start();
    let provider = MySqlProvider::connect(&server.dsn("table=t&pool=1")).await.unwrap();
    let alice = Principal::new("alice").unwrap();
    let stored = record(&Clock::system()).principal("alice").build();
    assert_eq!(provider.create(&"sample".parse().unwrap(), &stored).await.unwrap(), Created::Done);
    server.sql(&format!(
        "INSERT INTO t (id, version, expires, absolute, idle, tombstone, record) \
         SELECT CONCAT('id-', seq), s.version, s.expires, s.absolute, s.idle, 0, s.record \
         FROM seq_2_to_{SESSIONS} JOIN (SELECT * FROM t) s; \
         INSERT INTO t_index (kind, value, id) \
         SELECT 'principal', 'alice', CONCAT('id-', seq) FROM seq_2_to_{SESSIONS}; \
         INSERT INTO t_index (kind, value, id) \
         SELECT 'principal', CONCAT('user-', seq), CONCAT('other-', seq) FROM seq_1_to_10000; \
         INSERT INTO t (id, version, expires, absolute, idle, tombstone, record) \
         SELECT CONCAT('other-', seq), s.version, s.expires, s.absolute, s.idle, 0, s.record \
         FROM seq_1_to_10000 JOIN (SELECT * FROM t WHERE id = 'sample') s; ANALYZE TABLE t, t_index",
    ));
    let mut log = server.log_statements();
    log.take();
    let mut seen = HashSet::new();
    let mut cursor = None;
    loop {
        let page = provider.indexed(&IndexEntry::from(&alice), cursor, 1_000).await.unwrap();
        seen.extend(page.entries.into_iter().map(|listed| listed.key));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen.len() as u64, SESSIONS);
    let asked = log.take();
    let pages: Vec<_> = asked.iter().filter_map(|line| line.strip_prefix("Execute ")).collect();
    assert_eq!(pages.len() as u64, SESSIONS / 1_000 + 1);
    // Check the first page, one in the middle and one near the end.
    for statement in [pages[0], pages[50], pages[98]] {
        let plan = server.sql(&format!("EXPLAIN {statement}"));
        assert!(plan.lines().all(|line| line.contains("\tPRIMARY\t")), "{statement}\n{plan}");
        assert!(!plan.contains("filesort") && !plan.contains("temporary"), "{statement}\n{plan}");
        let read =
            server.sql(&format!("FLUSH STATUS; {statement}; SHOW SESSION STATUS LIKE 'Handler_read_next'"));
        let rows: u64 = read.lines().last().unwrap().split('\t').nth(1).unwrap().parse().unwrap();
        assert!(rows <= 1_000, "{rows} rows were read: {statement}");
    }
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_page_holds_the_heads_of_records_and_no_data() {
    let server = MariaDb::start();
    let provider = MySqlProvider::connect(&server.dsn("table=t&pool=1")).await.unwrap();
    let alice = Principal::new("alice").unwrap();
    let large = record(&Clock::system()).principal("alice").filled(1 << 20).build();
    for number in 0..10 {
        let key = format!("key-{number}").parse().unwrap();
        assert_eq!(provider.create(&key, &large).await.unwrap(), Created::Done);
    }
    let sent = || -> u64 {
        let status = server.sql("SHOW GLOBAL STATUS LIKE 'Bytes_sent'");
        status.trim().split('\t').nth(1).unwrap().parse().unwrap()
    };
    for by_user in [true, false] {
        let before = sent();
        let page = if by_user {
            provider.indexed(&IndexEntry::from(&alice), None, 100).await.unwrap()
        } else {
            provider.scan(None, 100).await.unwrap()
        };
        assert_eq!(page.entries.len(), 10);
        assert!(page.entries.iter().all(|listed| listed.meta == large.meta()));
        assert!(sent() - before < 10 * 5_000, "{} bytes for ten heads", sent() - before);
    }
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_sealed_session_is_listed_only_with_its_key() {
    let provider = MySqlProvider::connect(&(plain() + "table=" + &a_table())).await.unwrap();
    let alice = Principal::new("alice").unwrap();
    let ring = || KeyRing::new(SealKey::generate().unwrap());
    let sealed = SealedProvider::new(provider.clone(), ring(), "");
    let stored = record(&Clock::system()).principal("alice").filled(10_000).build();
    assert_eq!(sealed.create(&"one".parse().unwrap(), &stored).await.unwrap(), Created::Done);
    let other = SealedProvider::new(provider, ring(), "");
    for (provider, expected) in [(sealed, 1), (other, 0)] {
        assert_eq!(
            provider.indexed(&IndexEntry::from(&alice), None, 10).await.unwrap().entries.len(),
            expected
        );
        assert_eq!(provider.scan(None, 10).await.unwrap().entries.len(), expected);
        assert_eq!(provider.count().await.unwrap(), expected as u64);
    }
}
