//! Dropped calls: no other call reads the reply to one.

use crate::server::shared;
use crate::sql::crosstalk;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn no_call_reads_the_reply_to_a_dropped_call() {
    crosstalk::no_call_reads_the_reply_to_a_dropped_call(shared()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_call_dropped_during_its_prepare_harms_no_other() {
    crosstalk::a_call_dropped_during_its_prepare_harms_no_other(shared()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn connections_are_bounded_and_reused() {
    crosstalk::connections_are_bounded_and_reused(shared()).await;
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_connection_that_ended_while_idle_is_replaced() {
    crosstalk::a_connection_that_ended_while_idle_is_replaced(shared()).await;
}

#[tokio::test]
#[ignore = "needs mariadbd: cargo xtask test"]
async fn a_silent_server_is_noticed_at_the_deadline() {
    crosstalk::a_silent_server_is_noticed_at_the_deadline(shared()).await;
}
