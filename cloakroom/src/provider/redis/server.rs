//! The questions to every server before it is used.

use super::call::Caller;
use super::error::StoreError;
use super::layout::Layout;
use super::script;
use super::settings::Topology;

/// Asks every server that holds sessions what it is, and whether this user may do what a session needs.
pub(super) async fn inspect(caller: &Caller, topology: &Topology) -> Result<(), StoreError> {
    for partition in caller.primaries().await? {
        caller.describe(partition).await?.check(topology)?;
    }
    Ok(())
}

/// Asks every server whether this user may do what sessions need, by doing it on names of its own.
pub(super) async fn check_rights(
    caller: &Caller,
    layout: &Layout,
    is_cluster: bool,
) -> Result<(), StoreError> {
    for partition in caller.primaries().await? {
        let Some(place) = layout.numbered(partition) else { continue };
        let names = ["one", "two", "set"].map(|name| place.check(name));
        let kind: &[u8] = if is_cluster { b"cluster" } else { b"server" };
        let args = [b"0", kind];
        let mut get = redis::cmd("GET");
        get.arg(&names[0]);
        let call = script::CHECK.call(&names, &args);
        // Both, since the second is for servers that have forgotten the script.
        for command in [get, call.by_text(), call.by_hash()] {
            match caller.read(partition, command).await {
                Ok(_) => {}
                Err(error @ StoreError::Rights { .. }) => return Err(error),
                Err(error @ StoreError::Reply { .. }) if error.is_unknown_command() => return Err(error),
                // This passes: a full disk, a failover.
                Err(error) => {
                    tracing::warn!(%error, "Redis takes no changes at the moment: this user's rights are not checked");
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
