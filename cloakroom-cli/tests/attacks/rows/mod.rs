//! The rows of the checklist. Each is a function named after its number. It panics if a promise does not hold.

mod cookie;
mod ended;
mod identifier;
mod life;
mod outage;
mod past;
mod sealed;
mod users;
mod web;

use std::future::Future;
use std::pin::Pin;

use cloakroom::providers::Capabilities;

use crate::target::Target;

/// The outcome of a row that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every attack of the row failed.
    Held,
    /// The provider declares that it does not promise this, or a part of it. The rest held.
    Excused(Excuse),
}

/// A capability that the provider declares to lack, or that leaves a row nothing to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// No session outlives the process, so nothing at rest can be stolen, and there is no server to connect to.
    NotPersistent,
    /// The store keeps no tombstones.
    NoTombstones,
    /// The server cannot end a session.
    NotRevocable,
    /// The store cannot list sessions.
    NoLists,
    /// The token is the record: nothing is stored, and the last of parallel responses wins.
    TokenIsRecord,
    /// The token is only an id: nothing is sealed in it.
    TokenIsId,
}

impl Excuse {
    /// Returns the flag's name in the table.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Excuse::NotPersistent => "not persistent",
            Excuse::NoTombstones => "no tombstones",
            Excuse::NotRevocable => "not revocable",
            Excuse::NoLists => "no lists",
            Excuse::TokenIsRecord => "token is record",
            Excuse::TokenIsId => "token is an id",
        }
    }

    /// Returns whether the provider declares this.
    pub(crate) fn is_declared(self, declared: &Capabilities) -> bool {
        match self {
            Excuse::NotPersistent => !declared.persistent,
            Excuse::NoTombstones => !declared.tombstones,
            Excuse::NotRevocable => !declared.revocable,
            Excuse::NoLists => !declared.lists,
            Excuse::TokenIsRecord => declared.token_is_record(),
            Excuse::TokenIsId => !declared.token_is_record(),
        }
    }

    /// Returns [`Outcome::Excused`] if the provider declares this.
    pub(crate) fn outcome(self, declared: &Capabilities) -> Outcome {
        if self.is_declared(declared) { Outcome::Excused(self) } else { Outcome::Held }
    }
}

type Run = fn(Target) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The row does not run on a provider that declares one of these.
    pub(crate) excuses: &'static [Excuse],
    pub(crate) run: Run,
}

macro_rules! rows {
    ($($module:ident: $($row:ident $(unless $($excuse:ident)|+)?,)*;)*) => {
        /// Every row, in the checklist's order.
        pub(crate) const ALL: &[Row] = &[$($(
            Row {
                name: stringify!($row),
                excuses: &[$($(Excuse::$excuse),+)?],
                run: |target| Box::pin(async move { $module::$row(&target).await }),
            },
        )*)*];
    };
}

rows! {
    identifier:
        row_01_ids_are_random,
        row_02_without_randomness_no_session,
        row_03_a_clients_id_is_never_adopted,
        row_04_a_malformed_id_costs_no_store_call unless TokenIsRecord,
        row_05_an_id_reveals_nothing_about_its_user,
        row_06_the_cookie_names_no_product,
        row_07_every_request_reads_the_store unless TokenIsRecord,
        row_08_the_store_holds_no_ids unless TokenIsRecord,
        row_09_a_taken_id_is_never_reused unless TokenIsRecord,
        row_10_namespaces_are_separate,;
    cookie:
        row_11_secure_on_every_scheme,
        row_12_host_prefix_is_checked_at_build,
        row_13_the_id_is_only_in_set_cookie,
        row_14_same_site_is_always_sent,
        row_15_the_cookie_ends_with_the_browser,
        row_16_no_cookie_above_4096_bytes,
        row_17_one_set_cookie,
        row_18_odd_cookie_settings_are_refused,
        row_19_two_live_cookies_are_anonymous,
        row_20_several_cookie_headers_are_one,
        row_21_names_are_compared_by_byte,
        row_22_an_id_is_only_read_from_the_cookie,
        row_23_a_logout_clears_the_cookie,;
    life:
        row_24_a_login_changes_the_id unless NotRevocable,
        row_25_a_new_level_changes_the_id unless NotRevocable,
        row_26_an_unused_session_ends,
        row_27_a_used_session_ends_too,
        row_28_use_moves_no_absolute_deadline,
        row_29_rotation_ends_no_session unless TokenIsRecord,
        row_30_an_ended_session_stays_ended unless NotRevocable,
        row_31_a_cookie_is_dead_after_the_logout unless NotRevocable,;
    users:
        row_32_ending_the_others_covers_parallel_logins unless NoLists,
        row_33_a_limit_holds_under_parallel_logins unless NoLists,
        row_34_an_old_login_is_not_enough,
        row_35_end_by_is_the_latest_end,
        row_36_anonymous_requests_store_nothing,
        row_37_another_browser_is_ignored_by_default,
        row_38_an_open_stream_ends_with_its_session unless NoLists,;
    sealed:
        row_39_a_changed_token_is_refused unless TokenIsId,
        row_40_nothing_unsealed_is_read,
        row_41_a_token_contains_its_deadline unless TokenIsId,
        row_42_a_token_is_bound_to_its_manager,
        row_43_no_nonce_is_used_twice unless TokenIsId,
        row_44_keys_rotate_and_retire,
        row_45_weak_keys_are_refused,;
    web:
        row_46_every_access_adds_vary_cookie,
        row_47_other_sites_change_nothing,
        row_48_nothing_secret_is_logged,
        row_49_events_are_reported unless TokenIsRecord,;
    outage:
        row_50_a_failing_store_reveals_nothing,
        row_51_an_outage_ends_no_session,
        row_52_a_hanging_store_gets_503_in_time,
        row_53_the_store_connection_is_verified unless NotPersistent | TokenIsRecord,;
    web:
        row_54_no_increment_is_lost unless TokenIsRecord,
        row_55_a_slow_request_blocks_no_reader,
        row_56_a_session_has_limits,
        row_57_explain_matches_the_behaviour,;
    past:
        past_records_are_replaced_never_overwritten unless TokenIsRecord,
        past_an_empty_cookie_shares_no_session,
        past_a_planted_record_is_an_error unless NotPersistent | TokenIsRecord,
        past_a_login_after_a_logout_gets_a_new_session unless NotRevocable,
        past_a_slow_request_keeps_the_logins_cookie unless NoTombstones,
        past_parallel_regenerations_leave_one_id unless TokenIsRecord,
        past_cancelled_requests_mix_up_no_visitors,
        past_two_handles_and_late_writes,
        past_traversal_is_refused_by_every_method unless TokenIsRecord,;
    ended:
        ended_a_planted_id_logs_nobody_out unless NotRevocable,
        ended_a_login_joins_only_the_same_login unless NotRevocable,
        ended_reuse_ends_sessions_only_after_rotations unless TokenIsRecord | NoTombstones,
        ended_a_revoked_remembered_cookie_stays_dead unless NotRevocable,;
}
