//! Which server is the primary, by the sentinels' word and by its own.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connect::{Connector, Purpose};
use super::error::StoreError;
use super::link::{Commands, Link};
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
            let link = connector.open(&sentinel, Purpose::Sentinel).await.ok()?;
            let found = tokio::time::timeout(connector.limit(), ask(&link, &master)).await;
            found.ok().flatten()
        });
    }
    while let Some(answer) = asked.join_next().await {
        if let Ok(Some(address)) = answer {
            return Ok(address);
        }
    }
    Err(StoreError::NoPrimary { master: master.into() })
}

async fn ask(link: &Link, master: &str) -> Option<Address> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
    let answer = link.call(&Commands::One(question), Instant::now()).await.ok()?.into_iter().next()?;
    let (host, port): (String, u16) = redis::from_redis_value(answer).ok()?;
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    address(&text, port).ok()
}

/// Sentinels may be behind, and a primary that was replaced may not know yet: it is asked itself, as Redis's guide for clients says.
pub(super) async fn check_primary(link: &Link, limit: Duration) -> Result<(), StoreError> {
    let question = redis::cmd("ROLE");
    let answer = match tokio::time::timeout(limit, link.call(&Commands::One(question), Instant::now())).await
    {
        Ok(answer) => answer.map_err(|error| StoreError::of_call(&error))?,
        Err(_) => return Err(StoreError::Late { limit }),
    };
    let role = match answer.into_iter().next() {
        Some(Value::Array(parts)) => parts.into_iter().next(),
        _ => None,
    };
    match role.map(redis::from_redis_value::<String>) {
        Some(Ok(role)) if role == "master" => Ok(()),
        _ => Err(StoreError::NotPrimary),
    }
}
