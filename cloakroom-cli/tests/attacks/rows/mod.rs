//! The rows of the checklist. Each is a function named after its number, and panics where a promise does not hold.

mod cookie;
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

/// How a row ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every attack of the row was fought off.
    Held,
    /// The provider declares that it does not promise this, or a part of it; the rest held.
    Excused(Excuse),
}

/// A capability that a provider declares not to have, or that makes a row pointless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// Nothing outlives the process, so there is nothing to steal or to spoil, and nobody to connect to.
    NotPersistent,
    /// The store keeps no marks of what has ended.
    NoTombstones,
    /// No session can be ended from the server's side.
    NotRevocable,
    /// The store lists no sessions.
    NoLists,
    /// The token is the record: nothing is stored, and the last of parallel responses wins.
    TokenIsRecord,
    /// The token is an id alone: nothing is sealed in it.
    TokenIsId,
}

impl Excuse {
    /// The flag, as the table shows it.
    pub(crate) fn flag(self) -> &'static str {
        match self {
            Excuse::NotPersistent => "not persistent",
            Excuse::NoTombstones => "no tombstones",
            Excuse::NotRevocable => "not revocable",
            Excuse::NoLists => "no lists",
            Excuse::TokenIsRecord => "token is record",
            Excuse::TokenIsId => "token is no record",
        }
    }

    /// Whether `declared` has it: an excuse that the provider does not declare is none.
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

    /// [`Outcome::Excused`] where `declared` has it.
    pub(crate) fn outcome(self, declared: &Capabilities) -> Outcome {
        if self.is_declared(declared) { Outcome::Excused(self) } else { Outcome::Held }
    }
}

type Run = fn(Target) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Of a provider that declares one of these there is nothing to ask.
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
        row_02_no_randomness_no_session,
        row_03_a_clients_id_is_never_adopted,
        row_04_what_is_no_id_costs_no_call unless TokenIsRecord,
        row_05_an_id_says_nothing_of_its_user,
        row_06_the_cookie_names_no_product,
        row_07_every_request_asks_the_store unless TokenIsRecord,
        row_08_the_store_holds_no_ids unless TokenIsRecord,
        row_09_a_taken_id_is_not_taken_over unless TokenIsRecord,
        row_10_managers_on_one_store_are_apart,;
    cookie:
        row_11_secure_whatever_the_scheme,
        row_12_host_prefix_is_checked_at_build,
        row_13_the_id_is_in_set_cookie_alone,
        row_14_same_site_is_said,
        row_15_the_cookie_ends_with_the_browser,
        row_16_no_cookie_above_4096_bytes,
        row_17_one_set_cookie,
        row_18_odd_cookie_settings_are_refused,
        row_19_of_two_live_cookies_none_counts,
        row_20_several_cookie_headers_are_one,
        row_21_names_are_compared_by_byte,
        row_22_an_id_comes_by_cookie_alone,
        row_23_a_logout_clears_the_cookie,;
    life:
        row_24_a_login_changes_the_id unless NotRevocable,
        row_25_a_new_level_changes_the_id unless NotRevocable,
        row_26_an_unused_session_ends,
        row_27_a_used_session_ends_too,
        row_28_use_moves_no_absolute_deadline,
        row_29_rotation_loses_nobody unless TokenIsRecord,
        row_30_what_has_ended_stays_ended unless NotRevocable,
        row_31_a_cookie_from_before_the_logout_is_dead unless NotRevocable,;
    users:
        row_32_ending_the_others_beats_their_logins unless NoLists,
        row_33_a_limit_holds_under_parallel_logins unless NoLists,
        row_34_an_old_login_is_not_enough,
        row_35_a_foreign_deadline_counts,
        row_36_the_anonymous_leave_nothing,
        row_37_another_browser_changes_nothing_unasked,
        row_38_an_open_stream_ends_with_its_session unless NoLists,;
    sealed:
        row_39_a_changed_token_is_nobodys unless TokenIsId,
        row_40_nothing_unsealed_is_read,
        row_41_a_token_says_when_it_ends unless TokenIsId,
        row_42_a_token_is_bound_to_its_place,
        row_43_no_nonce_comes_twice unless TokenIsId,
        row_44_keys_rotate_and_retire,
        row_45_weak_keys_are_refused,;
    web:
        row_46_every_access_is_told_to_caches,
        row_47_other_sites_change_nothing,
        row_48_nothing_secret_is_logged,
        row_49_what_happens_is_told unless TokenIsRecord,;
    outage:
        row_50_a_failing_store_tells_nothing,
        row_51_an_outage_ends_no_session,
        row_52_a_hanging_store_is_answered_for,
        row_53_the_way_to_the_store_is_checked unless NotPersistent | TokenIsRecord,;
    web:
        row_54_no_increment_is_lost unless TokenIsRecord,
        row_55_a_slow_holder_holds_up_no_reader,
        row_56_a_session_has_limits,
        row_57_the_explanation_is_what_happens,;
    past:
        past_a_record_is_replaced_and_never_written_over unless TokenIsRecord,
        past_an_empty_cookie_is_nobodys_session,
        past_a_planted_record_is_an_error unless NotPersistent | TokenIsRecord,
        past_a_login_after_a_logout_begins_anew unless NotRevocable,
        past_a_slow_request_takes_no_login_away unless NoTombstones,
        past_parallel_regenerations_leave_one_id unless TokenIsRecord,
        past_cancelled_requests_mix_nobody_up,
        past_two_handles_and_late_writes,
        past_traversal_is_refused_by_every_method unless TokenIsRecord,;
}
