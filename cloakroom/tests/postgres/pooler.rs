//! Behind PgBouncer in transaction mode: no answer is another statement's.

use std::time::{Duration, Instant};

use cloakroom::testkit::{base, record};
use cloakroom::{
    Clock, PostgresProvider, Principal, Provider,
    providers::{Created, IndexEntry, Record, StoreKey, Touched, Updated},
};
use servers::PgBouncer;
use tokio::task::JoinSet;

use crate::server::{a_table, shared};

/// Returns the record of `owner` at `version`. Each owner's record has another size, so that all answers differ.
fn of(owner: usize, version: u64) -> Record {
    let record = record(&Clock::system()).version(version).principal(format!("user-{owner}"));
    record.value("owner", owner).filled(40 + 97 * owner).build()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgres and pgbouncer: cargo xtask test"]
async fn eight_clients_on_two_servers_get_their_own_answers() {
    const OWNERS: usize = 8;
    let calls: u64 = std::env::var("CLOAKROOM_POOLER_CALLS").map_or(10_000, |text| text.parse().unwrap());
    let pooler = PgBouncer::start(shared(), 2, &[]);
    let table = a_table();
    let begun = Instant::now();
    let mut owners = JoinSet::new();
    for owner in 0..OWNERS {
        // A provider each, as eight processes have.
        let builder = PostgresProvider::builder(pooler.url("pool=1")).table(&table);
        let provider = builder
            .deadline(Duration::from_secs(60))
            .connect_timeout(Duration::from_secs(60))
            .connect()
            .await
            .unwrap();
        owners.spawn(async move { a_client(&provider, owner, calls / OWNERS as u64).await });
    }
    let calls: u64 = owners.join_all().await.into_iter().sum();
    servers::tell(format_args!(
        "{OWNERS} clients, 2 servers, {calls} calls in {:?}, 0 foreign answers",
        begun.elapsed()
    ));
}

/// Makes calls of different statements, and checks each answer.
async fn a_client(provider: &PostgresProvider, owner: usize, calls: u64) -> u64 {
    let key: StoreKey = format!("owner-{owner}").parse().unwrap();
    let user = IndexEntry::from(&Principal::new(format!("user-{owner}")).unwrap());
    assert_eq!(provider.create(&key, &of(owner, 1)).await.unwrap(), Created::Done);
    let (mut version, size) = (1, of(owner, 1).data().len());
    for call in 0..calls {
        match (call + owner as u64) % 5 {
            0 => {
                let next = of(owner, version + 1);
                assert_eq!(provider.update(&key, &next, &base(version)).await.unwrap(), Updated::Done);
                version += 1;
            }
            1 => {
                let found = provider.load(&key).await.unwrap().unwrap();
                assert_eq!((found.version(), found.data().len()), (version, size), "owner {owner}");
            }
            2 => {
                let touched = provider.touch(&key, Clock::system().now()).await.unwrap();
                assert_eq!(touched, Touched::Done);
            }
            3 => {
                let page = provider.indexed(&user, None, 10).await.unwrap();
                assert_eq!(page.entries.len(), 1, "owner {owner}");
                assert_eq!(page.entries[0].key, key);
            }
            _ => {
                let other: StoreKey = format!("other-{owner}-{call}").parse().unwrap();
                assert_eq!(provider.create(&other, &of(owner, 7)).await.unwrap(), Created::Done);
                assert!(provider.delete(&other).await.unwrap());
            }
        }
    }
    calls
}

#[tokio::test]
#[ignore = "needs postgres and pgbouncer: cargo xtask test"]
async fn a_pooler_is_recognised_and_gets_unprepared_statements() {
    let pooler = PgBouncer::start(shared(), 2, &[]);
    let table = a_table();
    let server = servers::Postgres::start();
    let direct = PostgresProvider::connect(server.url("pool=1&table=t")).await.unwrap();
    let mut log = server.log_statements();
    let key: StoreKey = "one".parse().unwrap();
    assert_eq!(direct.create(&key, &of(1, 1)).await.unwrap(), Created::Done);
    assert!(log.take()[0].starts_with("execute s"), "a direct connection prepares by name");
    let own = PgBouncer::start(&server, 2, &[]);
    let pooled = PostgresProvider::connect(own.url("pool=1&table=t")).await.unwrap();
    log.take();
    assert_eq!(pooled.load(&key).await.unwrap().map(|found| found.version()), Some(1));
    let asked = log.take();
    assert!(asked[0].starts_with("execute <unnamed>: SELECT record"), "{asked:?}");
    assert_eq!(asked.len(), 1, "and sets nothing: {asked:?}");
    // Statements that are prepared nevertheless get lost, and the provider goes on without.
    let named = PostgresProvider::builder(pooler.url("pool=2&prepared_statements=true")).table(&table);
    let named = named
        .deadline(Duration::from_secs(20))
        .connect_timeout(Duration::from_secs(20))
        .connect()
        .await
        .unwrap();
    assert_eq!(named.create(&key, &of(1, 1)).await.unwrap(), Created::Done);
    for _ in 0..50 {
        let two = tokio::join!(named.load(&key), named.load(&key));
        assert_eq!(two.0.unwrap().unwrap().version(), two.1.unwrap().unwrap().version());
    }
}
