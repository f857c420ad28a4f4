//! placeholder until the merge
use crate::provider::memory::MemoryProvider;
pub(crate) async fn from_config(_: crate::config::Config) -> crate::error::Result<MemoryProvider> {
    Ok(MemoryProvider::new())
}
