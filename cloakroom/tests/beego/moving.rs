//! The migration `"migrateFrom": "beego"`: each session becomes a native one at its first use.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cloakroom::{
    FileProvider, Manager, ManagerBuilder, MemoryProvider, Released,
    go::{GoTime, go_key},
};

use super::hooked::{Call, Hook, Hooked, Verdict};
use super::{COOKIE_NAME, HOUR, release, request};

fn json(folder: &Path, settings: &str) -> String {
    let folder = folder.to_str().unwrap();
    format!(
        r#"{{"cookieName":"gosessionid","maxLifetime":3600,"secure":false,"deadline":60,"providerConfig":{folder:?},{settings}}}"#
    )
}

async fn beego(folder: &Path) -> Manager {
    Manager::new("file", &json(folder, r#""format":"beego""#)).await.unwrap()
}

async fn moving(folder: &Path) -> Manager {
    let settings =
        r#""migrateFrom":"beego","hashIds":true,"absoluteTimeout":28800,"sessionIDHashFunc":"random""#;
    Manager::new("file", &json(folder, settings)).await.unwrap()
}

/// Creates a Beego session with a value of each kind, and returns its id.
async fn beego_session(beego: &Manager) -> String {
    let session = request(beego, "").await;
    session.set("username", "astaxie").unwrap();
    session.set("n", u64::MAX).unwrap();
    session.set("cart", BTreeMap::from([("tea", 2)])).unwrap();
    session.set("by id", BTreeMap::from([(7, "seven")])).unwrap();
    session.set("at", GoTime::from(SystemTime::UNIX_EPOCH)).unwrap();
    session.set(&go_key("int", 5), "five").unwrap();
    release(&session).await.1.unwrap()
}

/// Sends `requests` at once that change the old session `old`, and returns the new ids that the responses set.
pub(crate) async fn in_parallel(managers: &[Manager; 2], old: &str, requests: usize) -> Vec<String> {
    let tasks: Vec<_> = (0..requests)
        .map(|task| {
            let (manager, old) = (managers[task % 2].clone(), old.to_owned());
            tokio::spawn(async move {
                let session = request(&manager, &old).await;
                assert_eq!(session.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
                session.set(&format!("own {task}"), task).unwrap();
                release(&session).await
            })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        let (released, id) = task.await.unwrap();
        assert_eq!(released, Released::Saved);
        ids.extend(id);
    }
    ids
}

#[tokio::test]
async fn an_old_session_is_converted_and_gets_a_new_id() {
    let folder = tempfile::tempdir().unwrap();
    let old_manager = beego(folder.path()).await;
    let (old, other) = (beego_session(&old_manager).await, beego_session(&old_manager).await);
    let path = |id: &str| folder.path().join(&id[..1]).join(&id[1..2]).join(id);

    let manager = moving(folder.path()).await;
    let session = request(&manager, &old).await;
    assert_eq!(session.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
    // A request that only reads moves the session.
    let (released, id) = release(&session).await;
    let id = id.unwrap();
    assert_eq!((released, id.len()), (Released::Unchanged, 43));
    assert!(!path(&old).exists(), "its old record is removed");
    assert!(path(&other).exists(), "the others wait until they are used");

    let session = request(&manager, &id).await;
    assert_eq!(session.get::<u64>("n").unwrap(), Some(u64::MAX));
    assert_eq!(session.get::<BTreeMap<String, u8>>("cart").unwrap().unwrap()["tea"], 2);
    assert_eq!(session.get::<BTreeMap<i64, String>>("by id").unwrap().unwrap()[&7], "seven");
    assert_eq!(session.get::<GoTime>("at").unwrap(), Some(GoTime::from(SystemTime::UNIX_EPOCH)));
    assert_eq!(session.get::<String>(&go_key("int", 5)).unwrap().as_deref(), Some("five"));
    session.authenticate(cloakroom::Principal::new("astaxie").unwrap()).unwrap();
    assert_eq!(release(&session).await.0, Released::Regenerated, "it has the features of a native session");

    // Counting, listing and collecting do not confuse files of the two kinds.
    assert_eq!(manager.active_sessions().await.unwrap(), 1);
    assert_eq!(old_manager.active_sessions().await.unwrap(), 1);
    let _ = manager.collect_garbage().await.unwrap();
    let _ = old_manager.collect_garbage().await.unwrap();
    assert!(path(&other).exists());
    assert!(!folder.path().join(".corrupt").exists(), "nothing was put aside");
    assert_eq!(manager.active_sessions().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_requests_move_a_session_once_and_all_find_it() {
    let folder = tempfile::tempdir().unwrap();
    let old = beego_session(&beego(folder.path()).await).await;
    let managers = [moving(folder.path()).await, moving(folder.path()).await];
    let ids = in_parallel(&managers, &old, 12).await;
    assert_eq!(managers[0].active_sessions().await.unwrap(), 1);
    assert!(!ids.is_empty(), "the request that moved it sent the new id");
    let session = request(&managers[1], &ids[0]).await;
    assert_eq!(session.len().unwrap(), 6 + 12);
}

/// Lets another manager move a session before the old store is read.
struct MovedBefore {
    by: Manager,
    old: Mutex<Option<String>>,
}

impl Hook for MovedBefore {
    async fn before(&self, call: Call) -> cloakroom::Result<Verdict> {
        let old = self.old.lock().unwrap().take().filter(|_| call == Call::Load);
        if let Some(old) = old {
            let session = request(&self.by, &old).await;
            assert!(release(&session).await.1.is_some(), "it was moved");
        }
        Ok(Verdict::Forward)
    }
}

#[tokio::test]
async fn a_session_that_moves_between_two_lookups_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let old = beego_session(&beego(folder.path()).await).await;
    let store = MemoryProvider::new();
    let files = || FileProvider::builder(folder.path()).connect_beego(HOUR).unwrap();
    let by = Manager::builder(store.clone()).cookie_name(COOKIE_NAME).migrate_from(files()).build().unwrap();
    let former = Hooked::new(files(), MovedBefore { by, old: Mutex::new(Some(old.clone())) });
    let manager = Manager::builder(store).cookie_name(COOKIE_NAME).migrate_from(former).build().unwrap();
    let session = request(&manager, &old).await;
    assert_eq!(session.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
    session.set("late", 1).unwrap();
    assert_eq!(release(&session).await.0, Released::Saved);
    assert_eq!(manager.active_sessions().await.unwrap(), 1);
}

#[tokio::test]
async fn an_expired_or_ended_old_session_is_not_moved() {
    let folder = tempfile::tempdir().unwrap();
    let old_manager = beego(folder.path()).await;
    let (expired, ended) = (beego_session(&old_manager).await, beego_session(&old_manager).await);
    let path = folder.path().join(&expired[..1]).join(&expired[1..2]).join(&expired);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3601)).unwrap();
    let manager = moving(folder.path()).await;
    assert!(request(&manager, &expired).await.id().is_none());

    let logout = request(&manager, &ended).await;
    logout.destroy().unwrap();
    assert_eq!(release(&logout).await.0, Released::Destroyed);
    let after = request(&manager, &ended).await;
    assert!(after.is_empty().unwrap() && after.id().is_none());
    assert_eq!(manager.active_sessions().await.unwrap(), 0);

    assert_eq!(manager.collect_garbage().await.unwrap(), 1);
    assert!(!path.exists(), "an expired session is collected");
}

/// A hook that fails the given calls.
#[derive(Clone, Default)]
struct Failing(Arc<Mutex<Vec<Call>>>);

impl Failing {
    fn set(&self, calls: &[Call]) {
        *self.0.lock().unwrap() = calls.to_vec();
    }
}

impl Hook for Failing {
    async fn before(&self, call: Call) -> cloakroom::Result<Verdict> {
        if self.0.lock().unwrap().contains(&call) {
            return Err(cloakroom::Error::new(
                cloakroom::ErrorKind::Unavailable,
                "refused, as it was asked to",
            ));
        }
        Ok(Verdict::Forward)
    }
}

/// A manager that moves sessions from files to a store, with a hook around each, and a clock that the test sets.
struct Site {
    manager: Manager,
    store: Failing,
    former: Failing,
    time: cloakroom::ManualClock,
}

impl Site {
    fn open(folder: &Path) -> Self {
        let (store, former, time) =
            (Failing::default(), Failing::default(), cloakroom::ManualClock::default());
        time.set(SystemTime::now());
        let memory = MemoryProvider::builder().clock(time.clock()).build();
        let files = FileProvider::builder(folder).clock(time.clock()).connect_beego(HOUR).unwrap();
        let builder = Manager::builder(Hooked::new(memory, store.clone())).cookie_name(COOKIE_NAME);
        let builder = builder.migrate_from(Hooked::new(files, former.clone())).clock(time.clock());
        Site { manager: builder.build().unwrap(), store, former, time }
    }
}

#[tokio::test]
async fn a_moved_session_stays_ended_if_no_delete_succeeded() {
    let folder = tempfile::tempdir().unwrap();
    let old = beego_session(&beego(folder.path()).await).await;
    let site = Site::open(folder.path());
    site.former.set(&[Call::Delete]);
    let session = request(&site.manager, &old).await;
    let id = release(&session).await.1.expect("the client is told the new id");
    // The client missed that response and presents the old id, so the new id is sent again.
    site.time.advance(Duration::from_secs(120));
    let session = request(&site.manager, &old).await;
    assert_eq!(session.get::<String>("username").unwrap().as_deref(), Some("astaxie"));
    assert_eq!(release(&session).await.1, Some(id.clone()));
    let logout = request(&site.manager, &id).await;
    logout.destroy().unwrap();
    assert_eq!(release(&logout).await.0, Released::Destroyed);
    for minutes in [0, 2, 33, 56, 59, 63] {
        site.time.set(SystemTime::now() + Duration::from_secs(60 * minutes));
        for id in [&old, &id] {
            let session = request(&site.manager, id).await;
            assert!(session.id().is_none() && session.is_empty().unwrap(), "after {minutes} min");
        }
    }
}

#[tokio::test]
async fn each_request_that_finds_the_claim_deletes_again() {
    let folder = tempfile::tempdir().unwrap();
    let old = beego_session(&beego(folder.path()).await).await;
    let path = folder.path().join(&old[..1]).join(&old[1..2]).join(&old);
    let site = Site::open(folder.path());
    site.former.set(&[Call::Delete]);
    let _ = release(&request(&site.manager, &old).await).await;
    assert!(path.exists());
    site.former.set(&[]);
    let _ = request(&site.manager, &old).await;
    assert!(!path.exists(), "the retry deleted it");
}

#[tokio::test]
async fn a_session_that_cannot_be_moved_is_read_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let old = beego_session(&beego(folder.path()).await).await;
    let site = Site::open(folder.path());
    site.store.set(&[Call::Create, Call::Update, Call::Rename, Call::Touch]);
    site.time.advance(Duration::from_secs(300));
    let session = request(&site.manager, &old).await;
    assert_eq!(session.get::<u64>("n").unwrap(), Some(u64::MAX));
    assert_eq!(release(&session).await, (Released::Unchanged, None), "and no cookie is set");

    let session = request(&site.manager, &old).await;
    session.set("n", 1).unwrap();
    let error = session.release(&mut http::HeaderMap::new()).await.unwrap_err();
    assert_eq!(error.kind(), cloakroom::ErrorKind::Unavailable, "a change needs the move");
    site.store.set(&[]);
    let mut headers = http::HeaderMap::new();
    assert_eq!(
        session.release(&mut headers).await.unwrap(),
        Released::Saved,
        "the retry moves it when the store works again"
    );
    assert!(headers.contains_key("set-cookie"), "the new id");
    assert_eq!(site.manager.active_sessions().await.unwrap(), 1);
}

#[tokio::test]
async fn a_logout_of_a_session_that_cannot_be_moved_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let old = beego_session(&beego(folder.path()).await).await;
    let site = Site::open(folder.path());
    site.store.set(&[Call::Create, Call::Update, Call::Rename, Call::Touch]);
    let logout = request(&site.manager, &old).await;
    logout.destroy().unwrap();
    assert_eq!(release(&logout).await.0, Released::Destroyed);
    site.store.set(&[]);
    assert!(request(&site.manager, &old).await.is_empty().unwrap());
}

/// A store that loses its answer to the second `create`, which is the claim on a moved session.
#[derive(Default)]
struct LostClaim(AtomicUsize);

impl Hook for LostClaim {
    async fn after(&self, call: Call, _: bool) -> cloakroom::Result<()> {
        if call == Call::Create && self.0.fetch_add(1, Ordering::SeqCst) == 1 {
            return Err(cloakroom::Error::new(cloakroom::ErrorKind::Unavailable, "the answer was lost"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_logout_ends_a_move_whose_answer_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    let old = beego_session(&beego(folder.path()).await).await;
    let files = FileProvider::builder(folder.path()).connect_beego(HOUR).unwrap();
    let store = Hooked::new(MemoryProvider::new(), LostClaim::default());
    let manager = Manager::builder(store).cookie_name(COOKIE_NAME).migrate_from(files).build().unwrap();
    let logout = request(&manager, &old).await;
    logout.destroy().unwrap();
    assert_eq!(release(&logout).await.0, Released::Destroyed);
    assert!(request(&manager, &old).await.is_empty().unwrap(), "the old id has no session");
    assert_eq!(manager.active_sessions().await.unwrap(), 0);
}

/// A store where another request logs out before the second `create`, which is the claim.
struct LoggedOutBefore {
    by: Manager,
    refusing: Failing,
    old: String,
    creates: AtomicUsize,
}

impl Hook for LoggedOutBefore {
    async fn before(&self, call: Call) -> cloakroom::Result<Verdict> {
        if call == Call::Create && self.creates.fetch_add(1, Ordering::SeqCst) == 1 {
            self.refusing.set(&[Call::Create]);
            let logout = request(&self.by, &self.old).await;
            self.refusing.set(&[]);
            logout.destroy().unwrap();
            assert_eq!(release(&logout).await.0, Released::Destroyed);
        }
        Ok(Verdict::Forward)
    }
}

#[tokio::test]
async fn a_running_move_does_not_undo_a_logout() {
    let folder = tempfile::tempdir().unwrap();
    let old = beego_session(&beego(folder.path()).await).await;
    let (memory, refusing) = (MemoryProvider::new(), Failing::default());
    let site = |store| {
        let files = FileProvider::builder(folder.path()).connect_beego(HOUR).unwrap();
        ManagerBuilder::migrate_from(store, files).build().unwrap()
    };
    let by = Manager::builder(Hooked::new(memory.clone(), refusing.clone())).cookie_name(COOKIE_NAME);
    let hook = LoggedOutBefore { by: site(by), refusing, old: old.clone(), creates: AtomicUsize::new(0) };
    let manager = site(Manager::builder(Hooked::new(memory, hook)).cookie_name(COOKIE_NAME));
    assert!(request(&manager, &old).await.is_empty().unwrap(), "the session has ended meanwhile");
    assert!(request(&manager, &old).await.is_empty().unwrap(), "and stays ended");
    assert_eq!(manager.active_sessions().await.unwrap(), 0);
}
