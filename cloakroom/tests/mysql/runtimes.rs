//! One provider in several runtimes, some of which end. No call fails because of that.

use std::sync::LazyLock;

use cloakroom::MySqlProvider;

use crate::server::shared;
use crate::sql::runtimes;

/// A provider in a static, as applications have it. The first test that uses it connects it.
static SHARED: LazyLock<MySqlProvider> = LazyLock::new(|| runtimes::connected(shared(), 4));

#[test]
#[ignore = "needs mariadbd: cargo xtask test"]
fn consecutive_runtimes_share_a_provider() {
    runtimes::consecutive_runtimes_share_a_provider(&*SHARED);
}

#[test]
#[ignore = "needs mariadbd: cargo xtask test"]
fn concurrent_runtimes_share_a_provider() {
    runtimes::concurrent_runtimes_share_a_provider(&*SHARED);
}

#[test]
#[ignore = "needs mariadbd: cargo xtask test"]
fn a_runtime_is_unaffected_by_the_end_of_another() {
    runtimes::a_runtime_is_unaffected_by_the_end_of_another(shared());
}

#[test]
#[ignore = "needs mariadbd: cargo xtask test"]
fn an_idle_runtime_delays_no_other() {
    runtimes::an_idle_runtime_delays_no_other(shared());
}
