//! Sessions of each store in Beego's layout move to a native store of each kind.

use std::time::Duration;

use cloakroom::{
    Manager, ManualClock, MemoryProvider, PostgresProvider, Principal, Released, SqliteProvider,
    providers::AnyProvider,
};
use tempfile::TempDir;

use super::layout::{Layout, ONE};
use super::{COOKIE_NAME, EMPTY, HOUR, PATIENCE, noon, release, request, unhex};

const MINUTE: Duration = Duration::from_secs(60);

/// A native store that sessions move to.
pub(crate) enum Target {
    Memory(MemoryProvider),
    Sqlite(TempDir),
    Postgres(Box<servers::Postgres>),
}

impl Target {
    pub(crate) fn memory(time: &ManualClock) -> Target {
        Target::Memory(MemoryProvider::builder().clock(time.clock()).build())
    }

    pub(crate) fn sqlite() -> Target {
        Target::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) fn postgres() -> Target {
        Target::Postgres(Box::new(servers::Postgres::start()))
    }

    /// Opens a handle of its own, as each process does.
    async fn open(&self, time: &ManualClock) -> AnyProvider {
        match self {
            Target::Memory(provider) => AnyProvider::new(provider.clone()),
            Target::Sqlite(folder) => {
                let builder = SqliteProvider::builder(folder.path().join("data/sessions.db"));
                let builder = builder.clock(time.clock()).deadline(PATIENCE);
                AnyProvider::new(builder.connect().await.unwrap())
            }
            Target::Postgres(server) => {
                let builder = PostgresProvider::builder(server.url("")).clock(time.clock());
                AnyProvider::new(builder.deadline(PATIENCE).connect().await.unwrap())
            }
        }
    }
}

/// Moves sessions from `layout` to SQLite, and to PostgreSQL.
pub(crate) async fn move_to_sqlite_and_postgres(layout: &impl Layout) {
    for target in [Target::sqlite(), Target::postgres()] {
        // Boxed, since the compiler bounds how deeply futures nest.
        Box::pin(sessions_move_to(layout, &target, &ManualClock::starting_at(noon()))).await;
    }
}

fn id(number: u8) -> String {
    format!("{number:02x}").repeat(20)
}

pub(crate) async fn sessions_move_to(layout: &impl Layout, target: &Target, time: &ManualClock) {
    let process = async || {
        Manager::builder(Box::pin(target.open(time)).await)
            .migrate_from(Box::pin(layout.provider(time)).await)
            .cookie_name(COOKIE_NAME)
            .idle_timeout(HOUR)
            .deadline(PATIENCE)
            .clock(time.clock())
            .build()
            .unwrap()
    };
    let (here, there) = (process().await, process().await);
    let [read, changed, ended, quiet, expired] = [1, 2, 3, 4, 5].map(id);
    for (id, value, used) in [
        (&read, ONE, noon() - 30 * MINUTE),
        (&changed, EMPTY, noon()),
        (&ended, ONE, noon()),
        (&quiet, ONE, noon() - 58 * MINUTE),
    ] {
        layout.put(id, &unhex(value), used).await;
    }
    if !layout.drops_expired() {
        layout.put(&expired, &unhex(ONE), noon() - HOUR).await;
    }

    // A request that only reads moves its session. The other process finds it, under the old id too.
    let session = request(&here, &read).await;
    assert_eq!(session.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
    let (released, moved) = release(&session).await;
    let moved = moved.expect("the client is told the new id");
    assert_eq!((released, moved != read), (Released::Unchanged, true));
    assert_eq!(layout.value(&read).await, None, "the old record is removed");
    for id in [&read, &moved] {
        let session = request(&there, id).await;
        assert_eq!(session.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
        assert_eq!(session.keys().unwrap(), ["username"]);
    }

    // A login moves its session, too, and has what native sessions have.
    let login = request(&there, &changed).await;
    login.set("n", u64::MAX).unwrap();
    login.authenticate(Principal::new("alice").unwrap()).unwrap();
    let (_, logged_in) = release(&login).await;
    let logged_in = logged_in.unwrap();
    assert_eq!(layout.value(&changed).await, None);
    let session = request(&here, &logged_in).await;
    assert_eq!(session.get::<u64>("n").unwrap(), Some(u64::MAX));
    assert_eq!(here.sessions_of(&Principal::new("alice").unwrap()).await.unwrap().len(), 1);

    // A logout ends the session in both stores.
    let logout = request(&here, &ended).await;
    logout.destroy().unwrap();
    assert_eq!(release(&logout).await.0, Released::Destroyed);
    assert_eq!(layout.value(&ended).await, None);
    for process in [&here, &there] {
        assert!(request(process, &ended).await.id().is_none());
        assert!(request(process, &expired).await.id().is_none(), "an expired session is not moved");
    }
    assert_eq!(here.active_sessions().await.unwrap(), 2);

    // A session that was not used keeps its deadline, and a moved one lives for the idle timeout from its last use.
    layout.pass(time, 2 * MINUTE).await;
    assert!(request(&here, &quiet).await.id().is_none());
    assert!(request(&here, &moved).await.id().is_some());
    time.set(noon() + HOUR - MINUTE);
    assert!(request(&there, &moved).await.id().is_some());
    time.set(noon() + HOUR);
    assert!(request(&there, &moved).await.id().is_none());
    assert!(request(&there, &read).await.id().is_none(), "the claim ends no later than the session");
    assert_eq!(here.active_sessions().await.unwrap(), 0);
    let _ = here.collect_garbage().await.unwrap();
    assert_eq!(layout.value(&quiet).await, None, "an expired session is collected in its old store");
}
