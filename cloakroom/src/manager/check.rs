//! Checks a configuration against what its provider can do.

use crate::clock::Clock;
use crate::codec::Codec;
use crate::config::{Config, Format};
use crate::migration::MigrationSource;
use crate::provider::Capabilities;

/// Returns the first combination that cannot work. `clock` is the manager's.
pub(super) fn problem(
    config: &Config,
    provider: &Capabilities,
    former: Option<&Capabilities>,
    clock: &Clock,
) -> Option<BuildError> {
    format_mismatch(config, provider)
        .or_else(|| {
            let other = [Some(provider), former]
                .into_iter()
                .flatten()
                .find(|of| of.clock().is_some_and(|of| of != clock));
            other.map(|of| BuildError::Clock { provider: of.name })
        })
        .or_else(|| former.and_then(|former| cannot_move(config, former, provider)))
        .or_else(|| token_mismatch(config, provider))
        .or_else(|| {
            // Without a tombstone the former id would be dead at once, also for requests that are running.
            let graceless = config.rotate_every.is_some() && !provider.tombstones;
            graceless.then_some(BuildError::Graceless { provider: provider.name })
        })
        .or_else(|| {
            let needs = [
                (
                    "a limit on the sessions of a user (sessionsPerUser)",
                    config.user_limit.is_some(),
                    provider.users,
                ),
                ("a quota on all sessions (sessionQuota)", config.session_quota.is_some(), true),
            ];
            let unlisted = needs.into_iter().find(|(_, set, able)| *set && !(provider.lists && *able));
            unlisted.map(|(setting, ..)| BuildError::NoLists { setting, provider: provider.name })
        })
}

/// Checks the provider's layout: that it is the one that the settings name, and that it can hold what they ask for.
fn format_mismatch(config: &Config, capabilities: &Capabilities) -> Option<BuildError> {
    let provider = capabilities.name;
    let Some(codec) = capabilities.codec else {
        let foreign = config.format != Format::Native;
        return foreign.then_some(BuildError::Format { provider, format: config.format });
    };
    if config.codec != codec {
        return Some(BuildError::Codec { provider, codec });
    }
    let asked = [
        (config.hash_ids, "hashed ids"),
        (config.absolute_timeout.is_some(), "an absolute timeout"),
        (config.rotate_every.is_some(), "routine rotation"),
        (config.seal.is_some(), "sealed records"),
    ];
    let (_, what) = asked.into_iter().find(|(asked, _)| *asked)?;
    Some(BuildError::Homeless { provider, what })
}

/// Checks that sessions can be moved from `former`.
fn cannot_move(config: &Config, former: &Capabilities, capabilities: &Capabilities) -> Option<BuildError> {
    let provider = former.name;
    match former.codec {
        None => Some(BuildError::MoveNative { provider }),
        Some(_) if capabilities.codec.is_some() => Some(BuildError::MoveToForeign),
        Some(_) if !config.hash_ids => Some(BuildError::MoveInClear),
        Some(_) => None,
    }
}

/// Checks that sessions can be moved here from a reader of another library's sessions.
pub(super) fn reader_problem(
    config: &Config,
    capabilities: &Capabilities,
    source: Option<&MigrationSource>,
) -> Option<BuildError> {
    source?.reader()?;
    if capabilities.codec.is_some() {
        return Some(BuildError::MoveToForeign);
    }
    if !capabilities.tombstones || capabilities.token_is_record() {
        return Some(BuildError::Claimless { provider: capabilities.name });
    }
    (capabilities.persistent && !config.hash_ids).then_some(BuildError::MoveInClear)
}

/// Checks the settings for a provider whose token is the sealed record.
fn token_mismatch(config: &Config, capabilities: &Capabilities) -> Option<BuildError> {
    let tokens = capabilities.sealed_tokens()?;
    if config.rotate_every.is_some() {
        return Some(BuildError::Rotation);
    }
    config.seal.as_ref().is_some_and(|ring| ring != tokens.ring()).then_some(BuildError::Ring)
}

#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error(
        "expected one clock for the manager and its provider, found two; give the same clock to ManagerBuilder::clock and to the \
         builder of the provider {provider}"
    )]
    Clock { provider: &'static str },
    #[error(
        "migrate_from: expected a provider in another library's layout, found {provider}, whose sessions are native; leave it out"
    )]
    MoveNative { provider: &'static str },
    #[error(
        "migrate_from: expected a native provider for the manager, found one in another library's layout; sessions can only be moved to native records"
    )]
    MoveToForeign,
    #[error(
        "migrate_from: expected hashed ids, which keep moved sessions apart from old ones, found ids in clear; set hashIds"
    )]
    MoveInClear,
    #[error(
        "migrate_from: expected a provider that keeps tombstones, found {provider}, which could not keep an ended session from coming back; \
         use another provider"
    )]
    Claimless { provider: &'static str },
    #[error(
        "format: the provider {provider} keeps no sessions in the format {format}; take file, redis, mysql or postgresql"
    )]
    Format { provider: &'static str, format: Format },
    #[error(
        "codec: expected {codec:?}, since this {provider} provider keeps sessions in another library's layout, found another codec; set {codec:?}"
    )]
    Codec { provider: &'static str, codec: Codec },
    #[error(
        "this {provider} provider keeps sessions in another library's layout, which cannot hold {what}; switch that off"
    )]
    Homeless { provider: &'static str, what: &'static str },
    #[error(
        "{setting} needs a provider that lists sessions, and {provider} does not; use another provider, or remove the setting"
    )]
    NoLists { setting: &'static str, provider: &'static str },
    #[error(
        "rotateEvery has no meaning for the cookie provider, which seals the cookie anew whenever it is sent; remove the setting"
    )]
    Rotation,
    #[error(
        "rotateEvery: expected a provider that keeps tombstones, found {provider}, on which a former id could not go on for a while; \
         take another provider, or drop the setting"
    )]
    Graceless { provider: &'static str },
    #[error(
        "the cookie provider seals with its own keys, and the manager was given others; give the ring to the provider alone"
    )]
    Ring,
}
