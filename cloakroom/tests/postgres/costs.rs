//! The statements of each step, read from the server's own log, and what they do to the table.

use std::time::Duration;

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, PostgresProvider, Principal, Provider,
    providers::{Created, IndexEntry, Renamed, StoreKey, Touched, Updated},
};
use servers::Postgres;

fn key(text: &str) -> StoreKey {
    text.parse().unwrap()
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn each_step_is_one_statement() {
    let server = Postgres::start();
    let provider = PostgresProvider::connect(server.url("table=t&pool=1")).await.unwrap();
    let clock = Clock::system();
    let at = |version| record(&clock).version(version).build();
    let of = |version| record(&clock).version(version).principal("alice").label("a").build();
    let stone = record(&clock).tombstone(&key("three"), Duration::from_secs(30));
    let mut log = server.log_statements();
    let mut one = |what: &str, begins: &str| {
        let asked = log.take();
        assert_eq!(asked.len(), 1, "{what}: {asked:?}");
        let (sent, statement) = asked[0].split_once(": ").unwrap();
        assert!(sent.starts_with("execute s") && statement.starts_with(begins), "{what}: {asked:?}");
    };
    assert_eq!(provider.create(&key("one"), &at(1)).await.unwrap(), Created::Done);
    one("a first visit", "INSERT INTO \"public\".\"t\"");
    provider.load(&key("one")).await.unwrap().unwrap();
    one("a read", "SELECT record, touched FROM");
    assert_eq!(provider.update(&key("one"), &at(2), &base(1)).await.unwrap(), Updated::Done);
    one("a change", "WITH done AS (UPDATE");
    assert_eq!(provider.update(&key("one"), &at(2), &base(1)).await.unwrap(), Updated::Stale);
    one("a stale change", "WITH done AS (UPDATE");
    assert_eq!(provider.update(&key("none"), &at(2), &base(1)).await.unwrap(), Updated::Gone);
    one("a change of nothing", "WITH done AS (UPDATE");
    assert_eq!(provider.update(&key("one"), &of(3), &at(2)).await.unwrap(), Updated::Done);
    one("a login", "WITH done AS (UPDATE");
    assert_eq!(provider.touch(&key("one"), clock.now()).await.unwrap(), Touched::Done);
    one("a use", "UPDATE");
    assert_eq!(provider.rename(&key("one"), &key("two"), &of(4), 3, None).await.unwrap(), Renamed::Done);
    one("a new id", "WITH old AS");
    let renamed = provider.rename(&key("two"), &key("three"), &of(5), 4, Some(&stone)).await.unwrap();
    assert_eq!(renamed, Renamed::Done);
    one("a new id with a tombstone", "WITH old AS");
    assert_eq!(provider.create(&key("four"), &of(1)).await.unwrap(), Created::Done);
    one("a first visit with a login", "WITH done AS (INSERT");
    assert!(provider.delete(&key("three")).await.unwrap());
    one("a logout", "WITH gone AS");
    let alice = IndexEntry::from(&Principal::new("alice").unwrap());
    assert_eq!(provider.indexed(&alice, None, 10).await.unwrap().entries.len(), 1);
    one("a page of a user", "SELECT page.id");
    assert_eq!(provider.scan(None, 10).await.unwrap().entries.len(), 1);
    one("a page", "SELECT id");
    assert_eq!(provider.count().await.unwrap(), 1);
    one("a count", "SELECT pg_catalog.count(*)");
    assert_eq!(provider.delete_expired(10).await.unwrap().removed, 0);
    one("a collection", "WITH picked AS");
}

#[tokio::test]
#[ignore = "needs postgres: cargo xtask test"]
async fn changes_and_uses_leave_the_indexes_as_they_are() {
    const SESSIONS: u64 = 200;
    let server = Postgres::start();
    let clock = Clock::system();
    let at = |version| record(&clock).version(version).principal("alice").filled(400).build();
    {
        let provider = PostgresProvider::connect(server.url("table=t&pool=1")).await.unwrap();
        for number in 0..SESSIONS {
            let key = key(&format!("key-{number}"));
            assert_eq!(provider.create(&key, &at(1)).await.unwrap(), Created::Done);
        }
        for round in 1..=5 {
            for number in 0..SESSIONS {
                let key = key(&format!("key-{number}"));
                assert_eq!(provider.update(&key, &at(round + 1), &at(round)).await.unwrap(), Updated::Done);
                assert_eq!(provider.touch(&key, clock.now()).await.unwrap(), Touched::Done);
            }
        }
    }
    let mut counts = (0, 0);
    for _ in 0..500 {
        let text = server
            .sql("SELECT n_tup_upd || ' ' || n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 't'");
        let (all, hot) = text.trim().split_once(' ').unwrap();
        counts = (all.parse::<u64>().unwrap(), hot.parse::<u64>().unwrap());
        if counts.0 == 10 * SESSIONS {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (all, hot) = counts;
    assert_eq!(all, 10 * SESSIONS);
    servers::tell(format_args!("{hot} of {all} updates left the indexes as they are"));
    assert!(hot * 10 >= all * 9, "{hot} of {all} updates were HOT");
    assert_eq!(
        server
            .sql("SELECT n_tup_ins || ' ' || n_tup_del FROM pg_stat_user_tables WHERE relname = 't_index'")
            .trim(),
        format!("{SESSIONS} 0"),
        "a change without another user or label leaves the index rows alone"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres: cargo xtask test"]
async fn a_collection_deletes_small_batches_on_one_node() {
    let server = Postgres::start();
    let provider = PostgresProvider::connect(server.url("pool=1&table=t")).await.unwrap();
    // Insert expired rows, rows that were used since, and a live one.
    server.sql(
        "INSERT INTO t (id, version, expires, absolute, idle, tombstone, due, record) \
         SELECT 'id-' || n, 1, n, 1, 1, false, n, 'x' FROM generate_series(1, 2500) n; \
         INSERT INTO t_index (kind, value, id) \
         SELECT 'principal', convert_to('user-' || n % 10, 'UTF8'), 'id-' || n FROM generate_series(1, 2500) n; \
         INSERT INTO t (id, version, expires, absolute, idle, tombstone, due, record) \
         SELECT 'used-' || n, 1, 1::bigint << 50, 1, 1, false, 2, 'x' FROM generate_series(1, 50) n; \
         INSERT INTO t_index (kind, value, id) VALUES ('principal', 'user-1', 'used-1')",
    );
    let first = provider.delete_expired(10_000).await.unwrap();
    assert!(first.more && (1..=1_000).contains(&first.removed), "{first:?}");
    assert_eq!(
        server.sql("SELECT count(*) FROM t WHERE due < expires"),
        "0\n",
        "each that was used is due at its end"
    );
    let left = server.sql("SELECT count(*) FROM t_index");
    assert_eq!(left, format!("{}\n", 2_501 - first.removed), "the index rows go with them");

    // Another transaction has locked some of them. The collection skips those.
    let mut removed = first.removed;
    let mut other = server.client();
    other.run("BEGIN");
    assert_eq!(other.ask("SELECT count(*) FROM (SELECT id FROM t WHERE due < 2000 FOR UPDATE) AS held"), {
        server.sql("SELECT count(*) FROM t WHERE due < 2000").trim().to_owned()
    });
    let mut beside = 0;
    loop {
        let step = provider.delete_expired(10_000).await.unwrap();
        beside += step.removed;
        if !step.more {
            break;
        }
    }
    assert_eq!(
        server.sql("SELECT count(*) FROM t WHERE due >= 2000 AND expires < 3000"),
        "0\n",
        "rows that are not locked"
    );
    drop(other);
    removed += beside;
    for _ in 0..100 {
        let step = provider.delete_expired(10_000).await.unwrap();
        removed += step.removed;
        if removed == 2_500 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(removed, 2_500);
    assert_eq!(server.sql("SELECT count(*) FROM t"), "50\n");
    assert_eq!(server.sql("SELECT convert_from(value, 'UTF8'), id FROM t_index"), "user-1|used-1\n");
}
