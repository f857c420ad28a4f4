//! The checks of every server before the provider uses it.

use super::client::RedisClient;
use super::error::StoreError;
use super::layout::Layout;
use super::script;
use super::settings::Topology;

/// Checks the version and the kind of every server that holds sessions.
pub(super) async fn inspect(client: &RedisClient, topology: &Topology) -> Result<(), StoreError> {
    for partition in client.primaries().await? {
        client.describe(partition).await?.check(topology)?;
    }
    Ok(())
}

/// Checks that this user may run every command that sessions need, by running them on keys reserved for the check.
pub(super) async fn check_rights(
    client: &RedisClient,
    layout: &Layout,
    is_cluster: bool,
) -> Result<(), StoreError> {
    for partition in client.primaries().await? {
        let Some(keys) = layout.partition(partition) else { continue };
        let names = ["one", "two", "set"].map(|name| keys.check(name));
        let kind: &[u8] = if is_cluster { b"cluster" } else { b"server" };
        let args = [b"0", kind];
        let mut get = redis::cmd("GET");
        get.arg(&names[0]);
        let call = script::CHECK.call(&names, &args);
        // `EVAL` is tried besides `EVALSHA`, since a server that has lost the script needs it.
        for command in [get, call.by_text(), call.by_hash()] {
            match client.read(partition, command).await {
                Ok(_) => {}
                Err(error @ StoreError::Rights { .. }) => return Err(error),
                Err(error @ StoreError::Reply { .. }) if error.is_unknown_command() => return Err(error),
                // Other errors are temporary, such as a full disk or a failover.
                Err(error) => {
                    tracing::warn!(%error, "Redis refuses changes at the moment: the rights of this user were not checked");
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}
