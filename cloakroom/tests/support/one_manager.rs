//! One manager that several tests use at the same time. Each test has a runtime of its own. The runtimes end one after
//! another while the manager is still in use.

use std::time::Duration;

use cloakroom::{Manager, Principal, Released};
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};

/// Makes eight tests on a runtime of one thread, and eight on a runtime of four. They share one manager. The first test
/// awaits the expression that gives it.
///
/// Attributes after the expression are put on each test, such as `#[ignore = "needs redis-server"]`.
#[macro_export]
macro_rules! one_manager {
    ($module:ident, $manager:expr $(, #[$attribute:meta])*) => {
        mod $module {
            #[allow(unused_imports, reason = "the expression may use names around the macro call")]
            use super::*;

            static MANAGER: tokio::sync::OnceCell<cloakroom::Manager> = tokio::sync::OnceCell::const_new();

            async fn manager() -> &'static cloakroom::Manager {
                MANAGER.get_or_init(|| async { $manager.await }).await
            }

            $crate::one_manager!(@each [one two three four five six seven eight]
                (#[tokio::test] one_thread) [$(#[$attribute])*]);
            $crate::one_manager!(@each [one two three four five six seven eight]
                (#[tokio::test(flavor = "multi_thread", worker_threads = 4)] four_threads) [$(#[$attribute])*]);
        }
    };
    (@each [$($name:ident)*] (#[$test:meta] $module:ident) $attributes:tt) => {
        mod $module {
            $($crate::one_manager!(@one $name #[$test] $attributes);)*
        }
    };
    (@one $name:ident #[$test:meta] [$(#[$attribute:meta])*]) => {
        #[$test]
        $(#[$attribute])*
        async fn $name() {
            let user = concat!(module_path!(), "::", stringify!($name));
            $crate::support::one_manager::use_it(super::manager().await, user).await;
        }
    };
}

/// Visits, logs in, changes in parallel, lists and logs out, with pauses in which other tests end.
pub(crate) async fn use_it(manager: &Manager, user: &str) {
    // The number of rounds depends on the name, so that some tests end while others go on.
    let rounds = 2 + user.len() as u64 % 5;
    let principal = Principal::new(user).unwrap();
    for round in 0..rounds {
        let mut browser = HeaderMap::new();
        assert_eq!(
            change(manager, &mut browser, |session| session.set("n", round).unwrap()).await,
            Released::Created
        );
        let login = |session: &cloakroom::Session| session.authenticate(principal.clone()).unwrap();
        assert_eq!(change(manager, &mut browser, login).await, Released::Regenerated);
        let adds: Vec<_> = (0..4)
            .map(|_| {
                let (manager, browser) = (manager.clone(), browser.clone());
                tokio::spawn(async move {
                    let session = manager.start(&browser).await.unwrap();
                    session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
                })
            })
            .collect();
        for add in adds {
            add.await.unwrap();
        }
        let session = manager.start(&browser).await.unwrap();
        assert_eq!(session.get::<u64>("n").unwrap(), Some(round + 4));
        assert_eq!(manager.sessions_of(&principal).await.unwrap().len(), 1);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(manager.active_sessions().await.unwrap() >= 1);
        let logout = |session: &cloakroom::Session| session.destroy().unwrap();
        assert_eq!(change(manager, &mut browser, logout).await, Released::Destroyed);
        assert_eq!(manager.sessions_of(&principal).await.unwrap().len(), 0);
    }
}

/// Makes one request of `browser` that changes its session.
async fn change(
    manager: &Manager,
    browser: &mut HeaderMap,
    change: impl FnOnce(&cloakroom::Session),
) -> Released {
    let session = manager.start(browser).await.unwrap();
    change(&session);
    let mut response = HeaderMap::new();
    let released = session.release(&mut response).await.unwrap();
    if let Some(cookie) = response.get(SET_COOKIE) {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        browser.insert(COOKIE, HeaderValue::try_from(pair).unwrap());
    }
    released
}
