//! The provider contract as tests: each case is one sentence of it, written once and run on every provider.
//!
//! [`conformance!`](crate::conformance) makes one `#[test]` of each. Every case gets a fresh, empty store from the
//! factory, with a clock that stands still until the case moves it, and a time limit of its own, so that a deadlock is a failure.
//!
//! If a provider's [`Capabilities`] say that it cannot do something, the method must return
//! [`Unsupported`](crate::ErrorKind::Unsupported). The case expects exactly that.
//!
//! Some cases need more than a provider: a second handle, unreadable bytes in the store, a store that refuses changes. A
//! [`Store`] gives these [`Part`](crate::testkit::Part)s or says why it cannot. The case
//! `the_store_gives_every_part_or_says_why_not` fails otherwise, so no part is left out in silence.

mod beside;
mod cancellation;
mod collection;
mod concurrency;
mod count;
mod create;
mod data;
mod delete;
mod expiry;
mod handles;
mod keys;
mod label;
mod list;
mod load;
mod many;
mod newer;
mod pages;
mod parts;
mod principal;
mod races;
mod refusing;
mod rename;
mod runtimes;
mod scan;
mod tombstones;
mod touch;
mod unreadable;
mod update;

use std::fmt;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::Store;
use super::fixture::Fixture;
use crate::clock::{Clock, ManualClock};
#[cfg(doc)]
use crate::provider::Capabilities;

/// The time limit of a case. The slowest case on the slowest known store takes less.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// One sentence of the contract, and the test of it.
///
/// ```
/// let cases = cloakroom::testkit::conformance::cases();
/// assert!(cases.iter().any(|case| case.name() == "a_destroyed_session_stays_dead"));
/// ```
#[derive(Clone, Copy)]
pub struct Case {
    name: &'static str,
    module: &'static str,
    run: fn(Fixture) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Case {
    /// Returns the sentence, with underscores for blanks.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Case({})", self.name)
    }
}

/// Returns every case, in the order in which [`conformance!`](crate::conformance) lists them.
///
/// A test that names them shows what a provider has to do.
///
/// ```
/// let cases = cloakroom::testkit::conformance::cases();
/// assert!(cases.len() > 100);
/// assert!(cases.iter().any(|case| case.name() == "update_never_creates"));
/// ```
pub fn cases() -> &'static [Case] {
    CASES
}

/// Runs the case called `name` on the store that `factory` makes. [`conformance!`](crate::conformance) puts this call into each test.
///
/// It builds a runtime of two threads, so call it from a plain `#[test]`.
///
/// ```
/// use cloakroom::MemoryProvider;
/// use cloakroom::testkit::conformance;
///
/// conformance::run("update_never_creates", |clock| async { MemoryProvider::builder().clock(clock).build() });
/// ```
///
/// # Panics
///
/// It panics if the provider breaks the sentence, if the case takes longer than two minutes, or if there is no such case.
pub fn run<F, R, S>(name: &str, factory: F)
where
    F: FnOnce(Clock) -> R,
    R: Future<Output = S>,
    S: Into<Store>,
{
    let case = CASES.iter().find(|case| case.name == name);
    let case = case.unwrap_or_else(|| panic!("there is no conformance case called {name}"));
    let runtime = runtime();
    let time = ManualClock::default();
    // The store has a time limit too: one that never opens is a failure.
    let open = async |clock| tokio::time::timeout(TIME_LIMIT, factory(clock)).await.expect("the store opens");
    let (store, home): (Store, _) = if case.module == APART {
        let home = self::runtime();
        (home.block_on(open(time.clock())).into(), Some(home))
    } else {
        (runtime.block_on(open(time.clock())).into(), None)
    };
    let fixture = Fixture::new(&store, time).opened_in(home);
    let outcome = runtime.block_on(async {
        // The case runs in a task of its own, so that a provider that blocks its thread is noticed.
        let task = tokio::spawn((case.run)(fixture));
        tokio::time::timeout(TIME_LIMIT, task).await
    });
    // A thread that hangs must not keep the test from failing.
    runtime.shutdown_timeout(Duration::from_secs(5));
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(failed)) => resume_unwind(failed.into_panic()),
        Err(_) => panic!("{name} hangs: it was not over after {} s", TIME_LIMIT.as_secs()),
    }
}

/// The module whose cases end the runtime in which their store was opened.
const APART: &str = "runtimes";

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("the operating system gives two threads")
}

macro_rules! name_the_cases {
    (; $($module:ident :: $case:ident)*) => {
        const CASES: &[Case] = &[$(
            Case { name: stringify!($case), module: stringify!($module), run: |fixture| Box::pin($module::$case(fixture)) }
        ),*];
    };
}

crate::__conformance_cases!([name_the_cases]);

/// Tests a provider against the whole contract of [`Provider`](crate::Provider): one `#[test]` for each [`Case`](crate::testkit::conformance::Case).
///
/// It takes a name for the module of the tests, and a factory. The factory is an async function or closure that takes a
/// [`Clock`](crate::Clock) and returns an empty store that uses it. A store is a provider, a pair of a provider and a guard
/// (such as a temporary folder), or a [`Store`](crate::testkit::Store).
///
/// ```
/// use cloakroom::MemoryProvider;
///
/// cloakroom::conformance!(memory, |clock| async move { MemoryProvider::builder().clock(clock).build() });
/// # fn main() {}
/// ```
///
/// Attributes before the name go onto every test, for stores that need a server:
///
/// ```
/// # use cloakroom::MemoryProvider;
/// cloakroom::conformance!(
///     #[ignore = "needs a server: cargo xtask test"]
///     remote,
///     |clock| async move { MemoryProvider::builder().clock(clock).build() }
/// );
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance {
    ($(#[$attribute:meta])* $name:ident, $factory:expr $(,)?) => {
        mod $name {
            #[allow(unused_imports, reason = "the factory may need none of the names around it")]
            use super::*;

            // One function for all cases: each would compile the factory and all around it anew.
            fn __run(case: &str) {
                $crate::testkit::conformance::run(case, $factory);
            }

            $crate::__conformance_cases!([$crate::__conformance_tests] [$(#[$attribute])*]);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($attributes:tt; $($module:ident :: $case:ident)*) => {
        $($crate::__conformance_test!($attributes $case);)*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test {
    ([$($attributes:tt)*] $case:ident) => {
        #[test]
        $($attributes)*
        fn $case() {
            __run(stringify!($case));
        }
    };
}
