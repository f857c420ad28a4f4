//! Commits of concurrent requests on one session or of one user. The requests use one manager, or each its own, like
//! processes that share a store.

use std::future::Future;
use std::num::NonZeroUsize;

use cloakroom::{ErrorKind, Manager, ManagerBuilder, Released, Session, config::OverLimit};
use http::HeaderMap;
use shuttle::future::{block_on, spawn};
use shuttle::rand::{Rng, thread_rng};

use crate::explore::at_random;
use crate::visitor::{Browser, Rig, alice, seconds};

const GONE: Result<Released, ErrorKind> = Ok(Released::Gone { lost_write: true });

/// A site of one process, or of one process for each request.
struct Site {
    rig: Rig,
    managers: Vec<Manager>,
}

/// The outcome of a request, and the cookie of its browser afterwards.
struct Answered {
    released: Result<Released, ErrorKind>,
    browser: Browser,
}

impl Site {
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(settings: impl Fn(ManagerBuilder) -> ManagerBuilder) -> Self {
        let rig = Rig::with(&settings);
        let another = || settings(Manager::builder(rig.provider.clone())).clock(rig.time.clock()).build();
        let mut managers = vec![rig.manager.clone()];
        if thread_rng().gen_bool(0.5) {
            managers.extend([another().unwrap(), another().unwrap()]);
        }
        Site { rig, managers }
    }

    fn is_one_process(&self) -> bool {
        self.managers.len() == 1
    }

    /// Returns the manager for request `n`.
    fn manager(&self, n: usize) -> Manager {
        self.managers[n % self.managers.len()].clone()
    }

    /// Makes a visitor whose session has `n` = 1 and the changes of `change`.
    async fn visited(&self, change: impl FnOnce(&Session)) -> Browser {
        let mut browser = Browser::default();
        let released = self.rig.request(&mut browser, |session| {
            session.set("n", 1).unwrap();
            change(session);
        });
        assert_eq!(released.await, Released::Created);
        browser
    }

    /// Makes two concurrent requests of one browser.
    async fn both(
        &self,
        browser: &Browser,
        one: impl FnOnce(&Session) + Send + 'static,
        other: impl FnOnce(&Session) + Send + 'static,
    ) -> [Answered; 2] {
        let one = spawn(request(self.manager(0), browser.clone(), one));
        let other = spawn(request(self.manager(1), browser.clone(), other));
        [one.await.unwrap(), other.await.unwrap()]
    }

    async fn count(&self) -> u64 {
        self.rig.manager.active_sessions().await.unwrap()
    }

    async fn hers(&self) -> usize {
        self.rig.manager.sessions_of(&alice()).await.unwrap().len()
    }

    async fn is_alive(&self, browser: &Browser) -> bool {
        self.rig.start(browser).await.id().is_some()
    }

    async fn keys(&self, browser: &Browser) -> Vec<String> {
        let mut keys = self.rig.start(browser).await.keys().unwrap();
        keys.sort();
        keys
    }

    async fn value(&self, browser: &Browser, key: &str) -> Option<u64> {
        self.rig.start(browser).await.get(key).unwrap()
    }
}

async fn request(manager: Manager, mut browser: Browser, change: impl FnOnce(&Session)) -> Answered {
    let session = manager.start(&browser.headers()).await.unwrap();
    change(&session);
    let mut headers = HeaderMap::new();
    let released = session.release(&mut headers).await.map_err(|error| error.kind());
    browser.take(&headers);
    Answered { released, browser }
}

fn explore<F: Future<Output = ()> + 'static>(name: &str, kernel: fn() -> F) {
    at_random(name, move || block_on(kernel()));
}

fn set(key: &'static str) -> impl FnOnce(&Session) + Send {
    move |session| session.set(key, 7).unwrap()
}

fn login(session: &Session) {
    session.authenticate(alice()).unwrap();
}

fn logout(session: &Session) {
    session.destroy().unwrap();
}

fn regenerate(session: &Session) {
    session.regenerate().unwrap();
}

async fn increment(session: Session) -> u64 {
    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap()
}

#[test]
fn two_concurrent_increments_are_both_counted() {
    explore("two increments", || async {
        let site = Site::new();
        let browser = site.visited(|_| ()).await;
        let increments = [0, 1].map(|n| {
            let (manager, browser) = (site.manager(n), browser.clone());
            spawn(async move { increment(manager.start(&browser.headers()).await.unwrap()).await })
        });
        let mut became = Vec::new();
        for one in increments {
            became.push(one.await.unwrap());
        }
        became.sort_unstable();
        assert_eq!(became, [2, 3]);
        assert_eq!(site.value(&browser, "n").await, Some(3));
    });
}

#[test]
fn two_tasks_of_one_request_may_use_its_session() {
    explore("two increments in one request", || async {
        let site = Site::new();
        let browser = site.visited(|_| ()).await;
        let handle = site.manager(0).handle(&browser.headers());
        let increments = [0, 1].map(|_| {
            let handle = handle.clone();
            spawn(async move { increment(handle.load().await.unwrap()).await })
        });
        let mut became = Vec::new();
        for one in increments {
            became.push(one.await.unwrap());
        }
        became.sort_unstable();
        assert_eq!(became, [2, 3]);
        assert_eq!(site.value(&browser, "n").await, Some(3));
    });
}

#[test]
fn changes_of_different_keys_are_both_stored() {
    explore("two changes to different keys", || async {
        let site = Site::new();
        let browser = site.visited(|_| ()).await;
        let answers = site.both(&browser, set("one"), set("other")).await;
        assert_eq!(answers.map(|answered| answered.released), [Ok(Released::Saved); 2]);
        assert_eq!(site.keys(&browser).await, ["n", "one", "other"]);
    });
}

#[test]
fn no_concurrent_change_revives_a_session_after_its_logout() {
    explore("a logout and a change", || async {
        let site = Site::new();
        let browser = site.visited(|_| ()).await;
        let [left, changed] = site.both(&browser, logout, set("k")).await;
        assert_eq!(left.released, Ok(Released::Destroyed));
        assert_eq!(left.browser.0, None);
        let anew = changed.released == Ok(Released::Created);
        assert!(anew || [Ok(Released::Saved), GONE].contains(&changed.released), "{:?}", changed.released);
        assert_eq!(changed.browser.0 != browser.0, anew, "a session that ended gets no cookie");
        assert_eq!((site.is_alive(&browser).await, site.count().await), (false, u64::from(anew)));
    });
}

#[test]
fn a_change_beside_a_login_is_stored_or_refused() {
    explore("a login and a change", || async {
        let site = Site::new();
        let browser = site.visited(|_| ()).await;
        let [entered, changed] = site.both(&browser, login, set("k")).await;
        assert_eq!(entered.released, Ok(Released::Regenerated));
        let expected = match changed.released {
            Ok(Released::Saved) => Some(7),
            _ => None,
        };
        assert!(expected.is_some() || changed.released == GONE, "{:?}", changed.released);
        assert_eq!(changed.browser.0, browser.0, "only the login gets the new id");
        assert_eq!(site.value(&entered.browser, "k").await, expected);
        assert_eq!(site.value(&entered.browser, "n").await, Some(1));
        assert_eq!((site.is_alive(&browser).await, site.count().await, site.hers().await), (false, 1, 1));
    });
}

#[test]
fn a_logout_ends_the_session_of_a_concurrent_login() {
    explore("a login and a logout", || async {
        let site = Site::new();
        let browser = site.visited(|_| ()).await;
        let [entered, left] = site.both(&browser, login, logout).await;
        let alive = match (entered.released, left.released) {
            (Ok(Released::Regenerated) | GONE, Ok(Released::Destroyed)) => 0,
            // The login arrived after the end of the session.
            (Ok(Released::Created), Ok(Released::Destroyed)) => 1,
            // The logout arrived after the login had replaced the id.
            (Ok(Released::Regenerated), Ok(Released::Gone { lost_write: false })) => 1,
            other => panic!("{other:?}"),
        };
        assert_eq!((site.count().await, site.hers().await), (alive, alive as usize));
        assert_eq!(site.is_alive(&entered.browser).await, alive == 1);
        assert!(!site.is_alive(&browser).await);
    });
}

#[test]
fn of_two_regenerations_one_gets_a_new_id() {
    explore("two regenerations", || async {
        let site = Site::new();
        let browser = site.visited(|_| ()).await;
        let answers = site.both(&browser, regenerate, regenerate).await;
        let (done, late): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answered| answered.released == Ok(Released::Regenerated));
        assert_eq!((done.len(), late[0].released), (1, GONE));
        assert_eq!(late[0].browser.0, browser.0);
        assert_eq!(site.value(&done[0].browser, "n").await, Some(1));
        assert_eq!((site.is_alive(&browser).await, site.count().await), (false, 1));
    });
}

#[test]
fn a_double_click_on_login_gives_one_session() {
    explore("a double click", || async {
        let site = match thread_rng().gen_range(0..3) {
            0 => Site::new(),
            1 => Site::with(|builder| builder.sessions_per_user(NonZeroUsize::MIN, OverLimit::Refuse)),
            _ => Site::with(|builder| builder.sessions_per_user(NonZeroUsize::MIN, OverLimit::EndOldest)),
        };
        let browser = site.visited(|_| ()).await;
        let answers = site.both(&browser, login, login).await;
        for answered in &answers {
            assert_eq!(answered.released, Ok(Released::Regenerated));
            assert_eq!(answered.browser.0, answers[0].browser.0, "both get the same id");
            assert_eq!(site.value(&answered.browser, "n").await, Some(1));
        }
        assert_eq!((site.is_alive(&browser).await, site.count().await, site.hers().await), (false, 1, 1));
    });
}

#[test]
fn of_two_requests_at_a_due_rotation_one_rotates() {
    explore("two changes when rotation is due", || async {
        let site = Site::with(|builder| builder.rotate_every(seconds(60)));
        let browser = site.visited(|_| ()).await;
        site.rig.time.advance(seconds(61));
        let answers = site.both(&browser, set("one"), set("other")).await;
        let rotated = answers.iter().filter(|answered| answered.released == Ok(Released::Regenerated));
        assert_eq!(rotated.count(), 1);
        for answered in &answers {
            assert!([Ok(Released::Regenerated), Ok(Released::Saved)].contains(&answered.released));
            let told = answered.browser.0 != browser.0;
            assert_eq!(told, answered.released == Ok(Released::Regenerated));
            assert_eq!(site.keys(&answered.browser).await, ["n", "one", "other"]);
        }
        assert_eq!(site.count().await, 1);
    });
}

#[test]
fn end_sessions_ends_a_concurrently_regenerated_session() {
    explore("the end of a user's sessions and a regeneration", || async {
        let site = Site::new();
        let browser = site.visited(login).await;
        let ending = site.manager(1);
        let ending = spawn(async move { ending.end_sessions(&alice()).await.unwrap() });
        let renewed = request(site.manager(0), browser, regenerate).await;
        assert_eq!(ending.await.unwrap(), 1);
        // A request that arrived after the end had no session to renew.
        let expected = [Ok(Released::Regenerated), Ok(Released::Unchanged), GONE];
        assert!(expected.contains(&renewed.released), "{:?}", renewed.released);
        assert!(!site.is_alive(&renewed.browser).await);
        assert_eq!((site.count().await, site.hers().await), (0, 0));
    });
}

#[test]
fn end_sessions_leaves_only_a_later_login() {
    explore("the end of a user's sessions and a login", || async {
        let site = Site::new();
        let browser = site.visited(login).await;
        let ending = site.manager(1);
        let ending = spawn(async move { ending.end_sessions(&alice()).await.unwrap() });
        let entered = request(site.manager(0), Browser::default(), login).await;
        assert_eq!(entered.released, Ok(Released::Created));
        let ended = ending.await.unwrap();
        assert!([1, 2].contains(&ended), "{ended}");
        assert!(!site.is_alive(&browser).await);
        assert_eq!(site.is_alive(&entered.browser).await, ended == 1);
        assert_eq!((site.count().await, site.hers().await as u64), (2 - ended, 2 - ended));
    });
}

/// Makes three logins of a user who may have two sessions.
async fn three_logins(over: OverLimit) -> (Site, Vec<Answered>) {
    let site = Site::with(|builder| builder.sessions_per_user(NonZeroUsize::new(2).unwrap(), over));
    let logins = [0, 1, 2].map(|n| spawn(request(site.manager(n), Browser::default(), login)));
    let mut answers = Vec::new();
    for one in logins {
        answers.push(one.await.unwrap());
    }
    (site, answers)
}

#[test]
fn concurrent_logins_never_exceed_the_limit() {
    explore("three logins where two are let in", || async {
        let (site, answers) = three_logins(OverLimit::Refuse).await;
        let mut entered = 0;
        for answered in &answers {
            match answered.released {
                Ok(Released::Created) => entered += 1,
                refused => assert_eq!(refused, Err(ErrorKind::Refused)),
            }
            assert_eq!(site.is_alive(&answered.browser).await, answered.released.is_ok());
        }
        // Logins of two processes may both withdraw. Those of one process queue.
        assert!(entered == 2 || (entered < 2 && !site.is_one_process()), "{entered} have entered");
        assert_eq!((site.count().await, site.hers().await), (entered as u64, entered));
    });
}

#[test]
fn concurrent_logins_end_only_the_surplus_sessions() {
    explore("three logins where the oldest session ends", || async {
        let (site, answers) = three_logins(OverLimit::EndOldest).await;
        let mut alive = 0;
        for answered in &answers {
            assert_eq!(answered.released, Ok(Released::Created));
            alive += usize::from(site.is_alive(&answered.browser).await);
        }
        assert_eq!((alive, site.count().await, site.hers().await), (2, 2, 2));
    });
}

#[test]
fn a_flash_message_is_taken_by_one() {
    explore("two who take one flash message", || async {
        let site = Site::new();
        let browser = site.visited(|session| session.flash("note", "hello").unwrap()).await;
        let takers = [0, 1].map(|n| {
            let (manager, browser) = (site.manager(n), browser.clone());
            spawn(async move {
                let session = manager.start(&browser.headers()).await.unwrap();
                let taken = session.take_flashes_of::<String>("note").await.unwrap();
                let released = session.release(&mut HeaderMap::new()).await.unwrap();
                assert_eq!(released, Released::Unchanged);
                taken
            })
        });
        let mut taken = Vec::new();
        for one in takers {
            taken.extend(one.await.unwrap());
        }
        assert_eq!(taken, ["hello"]);
        assert_eq!(site.value(&browser, "n").await, Some(1));
    });
}
