//! The statements of each kind of request, read from the server's own log.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use cloakroom::{Manager, ManualClock, MySqlProvider, Principal, Provider, Session, SessionLayer};
use http::Request;
use http::header::{COOKIE, SET_COOKIE};
use servers::{GeneralLog, MariaDb};
use tower::ServiceExt;

/// Returns a statement up to its first value, with the protocol's command.
fn shape(line: &str) -> String {
    let end = [" WHERE ", " VALUES ", " = "].iter().filter_map(|word| line.find(word)).min();
    line[..end.unwrap_or(line.len())].to_owned()
}

const LOAD: &str = "Execute SELECT record, touched FROM `t`";
const INSERT: &str = "Execute INSERT INTO `t` (version, expires, absolute, idle, tombstone, record, id)";
const INDEX: &str = "Execute INSERT IGNORE INTO `t_index` (kind, value, id)";
const UNINDEX: &str = "Execute DELETE FROM `t_index`";
const CHANGE: &str = "Execute UPDATE `t` SET version";
const TOUCH: &str = "Execute UPDATE `t` SET touched";
const BEGIN: &str = "Query START TRANSACTION";
const COMMIT: &str = "Query COMMIT AND NO CHAIN NO RELEASE";

/// A visitor of a site whose pool has one connection.
struct Rig {
    site: Router,
    sessions: Manager,
    log: GeneralLog,
    cookie: String,
}

impl Rig {
    /// Returns the statements that the server received for a request of `path`.
    async fn costs(&mut self, path: &str) -> Vec<String> {
        self.log.take();
        self.ask(path).await;
        self.log.take().iter().map(|line| shape(line)).collect()
    }

    async fn ask(&mut self, path: &str) {
        let request = Request::get(path).header(COOKIE, &self.cookie).body(Body::empty()).unwrap();
        let response = self.site.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        if let Some(cookie) = response.headers().get(SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            self.cookie = if pair.ends_with('=') { String::new() } else { pair.to_owned() };
        }
    }
}

fn site(sessions: &Manager) -> Router {
    let user = || Principal::new("alice").unwrap();
    Router::new()
        .route("/untouched", get(async || "nobody asked for the session"))
        .route("/read", get(async |session: Session| format!("{:?}", session.get::<u64>("n").unwrap())))
        .route("/set", get(async |session: Session| session.set("n", 2).unwrap()))
        .route(
            "/update",
            get(async |session: Session| {
                session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap();
            }),
        )
        .route("/login", get(async move |session: Session| session.authenticate(user()).unwrap()))
        .route("/regenerate", get(async |session: Session| session.regenerate().unwrap()))
        .route("/logout", get(async |session: Session| session.destroy().unwrap()))
        .layer(SessionLayer::new(sessions.clone()))
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn each_request_costs_the_documented_statements() {
    let server = MariaDb::start();
    // Statements with a bound time are those with the server's time.
    let time = ManualClock::default();
    let builder = MySqlProvider::builder(server.dsn("pool=1&table=t")).clock(time.clock());
    let provider = builder.connect().await.unwrap();
    let sessions = Manager::builder(provider).clock(time.clock()).build().unwrap();
    let log = server.log_statements();
    let mut rig = Rig { site: site(&sessions), sessions, log, cookie: String::new() };
    // Warm up, since each statement is prepared once for a connection.
    for path in ["/set", "/set", "/regenerate", "/login", "/regenerate", "/logout"] {
        rig.ask(path).await;
        time.advance(Duration::from_secs(61));
        rig.ask("/read").await;
    }
    rig.cookie.clear();
    let none = [""; 0];

    assert_eq!(rig.costs("/untouched").await, none, "a new visitor of a handler without a session");
    assert_eq!(rig.costs("/read").await, none, "a new visitor's read");
    assert_eq!(rig.costs("/logout").await, none, "a logout without a session");
    assert_eq!(rig.costs("/set").await, [INSERT], "the first visit");
    assert_eq!(rig.costs("/untouched").await, none, "a known visitor of a handler without a session");
    assert_eq!(rig.costs("/read").await, [LOAD], "a read");
    assert_eq!(rig.costs("/set").await, [LOAD, CHANGE], "a change");
    assert_eq!(rig.costs("/update").await, [LOAD, CHANGE], "an atomic change");
    time.advance(Duration::from_secs(61));
    assert_eq!(rig.costs("/read").await, [LOAD, TOUCH], "the first read after a minute");
    assert_eq!(rig.costs("/read").await, [LOAD], "the next one");
    // One transaction writes the tombstone and moves the session to its new id, with its index rows.
    assert_eq!(rig.costs("/regenerate").await, [LOAD, BEGIN, CHANGE, INSERT, COMMIT], "an anonymous new id");
    let moved = [LOAD, BEGIN, CHANGE, UNINDEX, INSERT, INDEX, COMMIT];
    assert_eq!(rig.costs("/login").await, moved, "a login");
    assert_eq!(rig.costs("/set").await, [LOAD, CHANGE], "a user's change");
    assert_eq!(rig.costs("/regenerate").await, moved, "a user's new id");
    let ended = [LOAD, BEGIN, CHANGE, UNINDEX, COMMIT];
    assert_eq!(rig.costs("/logout").await, ended, "a logout, which leaves a tombstone");
    rig.cookie.clear();
    rig.ask("/set").await;
    assert_eq!(rig.costs("/logout").await, [LOAD, CHANGE], "an anonymous logout");
    rig.cookie.clear();
    assert_eq!(rig.costs("/login").await, [BEGIN, INSERT, INDEX, COMMIT], "a new visitor's login");

    rig.log.take();
    assert_eq!(rig.sessions.active_sessions().await.unwrap(), 1);
    rig.sessions.sessions_of(&Principal::new("alice").unwrap()).await.unwrap();
    let lists: Vec<_> = rig.log.take().iter().map(|line| shape(line)).collect();
    let listed = "SELECT `t`.id, LEFT(record, 4176), touched FROM `t_index` STRAIGHT_JOIN `t` ON `t`.id";
    let twice = |statement: &str| [format!("Prepare {statement}"), format!("Execute {statement}")];
    assert_eq!(lists, [twice("SELECT COUNT(*) FROM `t`"), twice(listed)].concat());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_collection_deletes_small_batches_on_one_node() {
    let server = MariaDb::start();
    let builder = MySqlProvider::builder(server.dsn("pool=1&table=t"));
    let provider = builder.connect().await.unwrap();
    // Insert expired rows and a live one.
    server.sql(
        "INSERT INTO t (id, version, expires, absolute, idle, tombstone, record) \
         SELECT CONCAT('id-', seq), 1, seq, 1, 1, 0, 'x' FROM seq_1_to_2500; \
         INSERT INTO t_index (kind, value, id) \
         SELECT 'principal', CONCAT('user-', seq % 10), CONCAT('id-', seq) FROM seq_1_to_2500; \
         INSERT INTO t (id, version, expires, absolute, idle, tombstone, record) VALUES ('alive', 1, 1 << 50, 1, 1, 0, 'x'); \
         INSERT INTO t_index (kind, value, id) VALUES ('principal', 'user-1', 'alive')",
    );
    let mut log = server.log_statements();
    let first = provider.delete_expired(10_000).await.unwrap();
    assert!(first.more && (1..=1_000).contains(&first.removed), "{first:?}");
    let asked = log.take();
    let executed: Vec<_> = asked.iter().filter(|line| line.starts_with("Execute")).collect();
    let shapes: Vec<_> = executed.iter().map(|line| shape(line)).collect();
    let expected = [
        "Execute SELECT GET_LOCK(",
        "Execute DELETE `t_index` FROM (SELECT id FROM `t`",
        "Execute DELETE FROM `t`",
        "Execute SELECT version FROM `t`",
        "Execute DO RELEASE_LOCK(",
    ];
    assert_eq!(shapes.len(), expected.len(), "{shapes:?}");
    for (found, expected) in shapes.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} is not {expected}");
    }
    assert!(executed[2].ends_with(&format!("ORDER BY expires LIMIT {}", first.removed)), "{}", executed[2]);
    let plan = server.sql(&format!("EXPLAIN {}", executed[1].trim_start_matches("Execute ")));
    assert!(plan.contains("\tsession\t"), "{plan}");
    let oldest = server.sql("SELECT MIN(expires) FROM t");
    assert_eq!(oldest, format!("{}\n", first.removed + 1), "the oldest go first");
    let left = server.sql("SELECT COUNT(*) FROM t_index");
    assert_eq!(left, format!("{}\n", 2_501 - first.removed), "the index rows go with them");

    // Another node is collecting: it holds the lock of this table.
    let name = executed[0].split('\'').nth(1).unwrap().to_owned();
    let mut other = server.client();
    assert_eq!(other.ask(&format!("SELECT GET_LOCK('{name}', 0)")), "1");
    let meanwhile = provider.delete_expired(10).await.unwrap();
    assert_eq!((meanwhile.removed, meanwhile.more), (0, false));
    drop(other);
    let mut removed = 0;
    loop {
        let step = provider.delete_expired(10_000).await.unwrap();
        removed += step.removed;
        if removed > 0 && !step.more {
            break;
        }
    }
    assert_eq!(first.removed + removed, 2_500);
    let batches = log.take();
    let sizes =
        batches.iter().filter_map(|line| line.strip_prefix("Execute DELETE FROM `t` ")?.rsplit(' ').next());
    assert!(
        sizes.clone().count() > 2
            && sizes.map(|size| size.parse::<u32>()).all(|size| size.is_ok_and(|n| n <= 1_000))
    );
    assert_eq!(server.sql("SELECT COUNT(*) FROM t"), "1\n");
    assert_eq!(server.sql("SELECT value, id FROM t_index"), "user-1\talive\n");
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_new_connection_is_set_up_and_checked() {
    let server = MariaDb::start();
    let mut log = server.log_statements();
    let _provider = MySqlProvider::connect(&server.dsn("table=t&lock_wait_timeout=5")).await.unwrap();
    let asked = log.take();
    let (connect, rest) = asked.split_first().unwrap();
    assert!(connect.starts_with("Connect cloakroom@"), "{connect}");
    assert_eq!(rest[0], "Query SET NAMES utf8mb4");
    let settings = [
        "Query SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1",
        ", lock_wait_timeout = 5, autocommit = 1, completion_type = 'NO_CHAIN', ",
        "sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', wait_timeout = 60, ",
    ];
    assert!(settings.iter().all(|piece| rest[1].contains(piece)), "{}", rest[1]);
    assert_eq!(rest[2], "Query SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE");
    assert!(rest[3].starts_with("Query SELECT VERSION(), "), "{}", rest[3]);
    assert!(rest[4].starts_with("Prepare SELECT LOWER("), "{}", rest[4]);
}
