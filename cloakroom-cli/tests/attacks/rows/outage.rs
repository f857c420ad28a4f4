//! Rows 50 to 53: stores that fail or hang, and servers that are not the configured one.

use std::time::{Duration, Instant};

use cloakroom::providers::AnyProvider;
use tokio::task::JoinSet;

use super::Outcome;
use crate::faulty::{Fault, Faulty, INDISCRETION};
use crate::hooked::Hooked;
use crate::site::{DEADLINE, Setup, Site};
use crate::target::{Backend, Target, root_of};
use crate::visitor::{Answer, PATIENCE, Request, Visitor};

/// A site whose store can fail: a real server behind a proxy, a folder that becomes a file, or injected errors for
/// sessions in memory.
struct Breakable {
    setup: Setup,
    faults: Faulty,
    proxy: Option<servers::Proxy>,
}

impl Breakable {
    async fn new(target: &Target) -> Breakable {
        let (mut setup, mut faults) = Setup::faulty(target).await;
        let mut proxy = None;
        if let Some((provider, before)) = setup.store.through_a_proxy().await {
            faults = Faulty::default();
            let provider = AnyProvider::new(Hooked::new(provider, faults.clone()));
            setup.site = Site::on(&setup.store, provider, |builder| builder.deadline(DEADLINE)).await;
            proxy = Some(before);
        }
        Breakable { setup, faults, proxy }
    }

    fn fail(&self) {
        match (&self.proxy, &self.setup.store.place) {
            (Some(proxy), _) => proxy.cut(),
            (None, Backend::File(folder)) => {
                let root = root_of(folder);
                std::fs::rename(&root, root.with_extension("away")).expect("a folder");
                std::fs::write(&root, "not a folder").expect("a file");
            }
            _ => self.faults.set_all(Fault::Fail),
        }
    }

    fn hang(&self) {
        match &self.proxy {
            Some(proxy) => proxy.blackhole(),
            None => self.faults.set_all(Fault::Hang),
        }
    }

    fn heal(&self) {
        match (&self.proxy, &self.setup.store.place) {
            (Some(proxy), _) => proxy.heal(),
            (None, Backend::File(folder)) if root_of(folder).is_file() => {
                let root = root_of(folder);
                std::fs::remove_file(&root).expect("a file");
                std::fs::rename(root.with_extension("away"), &root).expect("a folder");
            }
            _ => self.faults.heal(),
        }
    }

    /// Sends every request that calls the store, as a visitor with a session.
    async fn all_requests_of(&self, visitor: &Visitor) -> Vec<(&'static str, Answer)> {
        let mut answers = Vec::new();
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/api/session"),
            ("GET", "/api/session/data/key"),
            ("GET", "/api/sessions"),
            ("DELETE", "/api/session/data"),
            ("POST", "/api/session/data/sum/increment"),
            ("POST", "/api/session/regenerate"),
            ("POST", "/api/logout"),
        ] {
            answers.push((path, visitor.clone().send(Request::new(method, path)).await));
        }
        answers.push(("a write", visitor.clone().try_set("key", "other").await));
        answers.push(("a login", visitor.clone().try_login("alice").await));
        answers.push(("a first write", visitor.newcomer().try_set("key", "value").await));
        answers.push(("a first login", visitor.newcomer().try_login("alice").await));
        answers
    }

    /// Waits until the store answers again.
    async fn until_healed(&self, visitor: &mut Visitor) {
        let start = Instant::now();
        while visitor.get("/api/session").await.status() != 200 {
            assert!(start.elapsed() < PATIENCE, "the store does not recover");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Asserts that a response contains no word that helps an attacker.
fn assert_reveals_nothing(what: &str, answer: &Answer) {
    let text = format!("{:?} {}", answer.head, answer.text()).to_lowercase();
    for word in [
        "redis",
        "mysql",
        "maria",
        "postgres",
        "select ",
        "update ",
        "127.0.0.1",
        "/tmp",
        "panicked",
        "refused",
        "io error",
        "os error",
        "hunter2",
        "socket",
        ".rs:",
        "timed out",
        "sqlx",
        "permission",
    ] {
        assert!(!text.contains(word), "{what}: {word}");
    }
    assert!(!text.contains(&INDISCRETION.to_lowercase()));
}

pub(super) async fn row_50_a_failing_store_reveals_nothing(target: &Target) -> Outcome {
    let breakable = Breakable::new(target).await;
    let visitor = breakable.setup.user("alice").await;
    breakable.fail();
    for (what, answer) in breakable.all_requests_of(&visitor).await {
        assert_eq!(answer.status(), 503, "{what}: {}", answer.text());
        assert_reveals_nothing(what, &answer);
    }
    breakable.heal();
    breakable.faults.set_all(Fault::Corrupt);
    for (what, answer) in breakable.all_requests_of(&visitor).await {
        assert!(answer.status() >= 500, "{what}: {}", answer.text());
        assert_reveals_nothing(what, &answer);
    }
    Outcome::Held
}

pub(super) async fn row_51_an_outage_ends_no_session(target: &Target) -> Outcome {
    let breakable = Breakable::new(target).await;
    let mut visitor = breakable.setup.user("alice").await;
    visitor.set("key", "value").await;
    let id = visitor.id();
    for _ in 0..3 {
        breakable.fail();
        for (what, answer) in breakable.all_requests_of(&visitor).await {
            assert_eq!((answer.status(), answer.header("set-cookie")), (503, None), "{what}");
        }
        breakable.heal();
        breakable.until_healed(&mut visitor).await;
        assert_eq!(visitor.id(), id);
        assert_eq!(visitor.user().await.as_deref(), Some("alice"));
        assert_eq!(visitor.value("key").await.as_deref(), Some("value"));
    }
    Outcome::Held
}

pub(super) async fn row_52_a_hanging_store_gets_503_in_time(target: &Target) -> Outcome {
    let breakable = Breakable::new(target).await;
    let mut visitor = breakable.setup.user("alice").await;
    visitor.set("key", "value").await;
    breakable.hang();
    // All requests run at the same time, and none may wait for another.
    let mut request = JoinSet::new();
    for n in 0..32 {
        let mut visitor = visitor.clone();
        request.spawn(async move {
            match n % 4 {
                0 => visitor.get("/api/session").await,
                1 => visitor.try_set("key", "other").await,
                2 => visitor.try_login("alice").await,
                _ => visitor.newcomer().try_set("key", "value").await,
            }
        });
    }
    let start = Instant::now();
    for answer in request.join_all().await {
        assert_eq!((answer.status(), answer.header("set-cookie")), (503, None));
        assert_reveals_nothing("a hanging store", &answer);
    }
    // The deadline is two seconds; a busy test machine may add to it.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?} for a deadline of 2 s", start.elapsed());
    breakable.heal();
    breakable.until_healed(&mut visitor).await;
    assert_eq!(visitor.user().await.as_deref(), Some("alice"));
    Outcome::Held
}

pub(super) async fn row_53_the_store_connection_is_verified(target: &Target) -> Outcome {
    let setup = Setup::new(target).await;
    match &setup.store.place {
        Backend::Memory => {}
        Backend::Cookie(_) => {}
        Backend::File(folder) => {
            use std::os::unix::fs::PermissionsExt;
            let open = |path: &std::path::Path| cloakroom::FileProvider::connect(path);
            // A folder that only its group can write to, and that is otherwise empty, loses the group's permission
            // when it is opened.
            for mode in [0o777, 0o702] {
                let root = folder.path().join(format!("open-{mode:o}"));
                std::fs::create_dir(&root).expect("a folder");
                std::fs::set_permissions(&root, std::fs::Permissions::from_mode(mode)).expect("a mode");
                let refused = open(&root).expect_err("a folder that others can write to");
                assert_eq!(refused.kind(), cloakroom::ErrorKind::Config, "{mode:o}: {refused}");
            }
            // Only the owner can read stored sessions.
            setup.user("alice").await;
            for path in crate::target::files(folder.path()) {
                let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
                assert_eq!(mode & 0o077, 0, "{mode:o}");
            }
        }
        #[cfg(feature = "sqlite")]
        Backend::Sqlite(folder) => {
            setup.user("alice").await;
            crate::target::sqlite::files_are_the_owners_alone(folder).await;
        }
        #[cfg(feature = "redis")]
        Backend::Redis(_) => crate::target::redis::certificates_are_checked().await,
        #[cfg(feature = "mysql")]
        Backend::MySql(_) => crate::target::mysql::certificates_are_checked().await,
        #[cfg(feature = "postgres")]
        Backend::Postgres(_) => crate::target::postgres::certificates_are_checked().await,
    }
    Outcome::Held
}
