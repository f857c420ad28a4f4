//! A counter in a session of tower-sessions 0.15, in a file of this machine:
//! `cargo run -p cloakroom-tower-sessions --example counter`, then open <http://localhost:3000/>.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use cloakroom::FileProvider;
use cloakroom_tower_sessions::CloakroomStore;
use tower_sessions::{Expiry, Session, SessionManagerLayer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join("cloakroom-counter");
    let store = CloakroomStore::new(FileProvider::builder(&folder).connect()?);
    store.check()?;
    // Secure cookies reach http://localhost in most browsers; `with_secure(false)` helps with the others.
    let layer = SessionManagerLayer::new(store)
        .with_secure(false)
        .with_expiry(Expiry::OnInactivity(time::Duration::minutes(30)));
    let app = Router::new().route("/", get(visits)).layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://localhost:3000/, sessions in {}", folder.display());
    axum::serve(listener, app).await?;
    Ok(())
}

/// Counts a visit. If two tabs count at once, one of them gets a 500 and no count is lost.
async fn visits(session: Session) -> Result<String, StatusCode> {
    let failed = |_| StatusCode::INTERNAL_SERVER_ERROR;
    let visits: u32 = session.get("visits").await.map_err(failed)?.unwrap_or(0) + 1;
    session.insert("visits", visits).await.map_err(failed)?;
    Ok(format!("visit {visits}\n"))
}
