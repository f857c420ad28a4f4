//! Which server is the primary, by the sentinels' word and by its own.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::task::JoinSet;

use super::connect::{Connector, Purpose};
use super::error::StoreError;
use super::link::Link;
use super::settings::{Address, address};

/// Asks all sentinels at once; the first answer counts.
pub(super) async fn primary(
    connector: &Arc<Connector>,
    sentinels: &[Address],
    master: &str,
) -> Result<Address, StoreError> {
    let mut asked = JoinSet::new();
    for sentinel in sentinels {
        let (connector, sentinel, master) =
            (Arc::clone(connector), sentinel.clone(), Box::<str>::from(master));
        asked.spawn(async move {
            let link = connector.open(&sentinel, Purpose::Sentinel).await?;
            ask(&link, &master, connector.limit()).await
        });
    }
    // One that refuses says more than one that is away.
    let mut refusal = None;
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(Some(address))) => return Ok(address),
            Ok(Err(refused @ (StoreError::Refused { .. } | StoreError::Reply { .. }))) => {
                refusal = Some(refused)
            }
            _ => {}
        }
    }
    Err(refusal.unwrap_or_else(|| StoreError::NoPrimary { master: master.into() }))
}

/// None of a name that the sentinel does not know.
async fn ask(link: &Link, master: &str, limit: Duration) -> Result<Option<Address>, StoreError> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let form = |_| StoreError::Form { expected: "SENTINEL GET-MASTER-ADDR-BY-NAME" };
    let found: Option<(String, u16)> =
        redis::from_redis_value(link.ask(question, limit).await?).map_err(form)?;
    let Some((host, port)) = found else { return Ok(None) };
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Ok(address(&text, port).ok())
}

/// Sentinels may be behind, and a primary that was replaced may not know yet: it is asked itself, as Redis's guide for clients says.
pub(super) async fn check_primary(link: &Link, limit: Duration) -> Result<(), StoreError> {
    let role = match link.ask(redis::cmd("ROLE"), limit).await? {
        Value::Array(parts) => parts.into_iter().next(),
        _ => None,
    };
    match role.map(redis::from_redis_value::<String>) {
        Some(Ok(role)) if role == "master" => Ok(()),
        _ => Err(StoreError::NotPrimary),
    }
}
