//! The same as `tracing` events.

use cloakroom::{EventKind, Principal};

use crate::Watched;
use crate::support::log::Log;

const USER: &str = "user-nobody-may-see";

#[tokio::test]
async fn events_are_logged_as_single_escaped_lines_without_ids_and_users() {
    let (log, watched) = (Log::start(), Watched::waiting());
    let forged = "__Host-id=x%0d%0a\tWARN cloakroom::event: forged";
    let first = watched.visited().await;
    let login = |session: &cloakroom::Session| session.authenticate(Principal::new(USER).unwrap()).unwrap();
    let second = watched.request(&first, login).await;
    watched.request(&second, |session| session.destroy().unwrap()).await;
    watched.request(forged, |_| ()).await;
    let both = format!("{}; {}", watched.visited().await, watched.visited().await);
    watched.request(&both, |_| ()).await;

    let (text, heard) = (log.text(), watched.heard.events());
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), heard.len(), "one line an event, and nothing else: {text}");
    for (line, event) in lines.iter().zip(&heard) {
        // What a stranger can bring about as often as they like does not warn.
        let level = if event.kind() == EventKind::Duplicate { " WARN" } else { "DEBUG" };
        assert!(line.contains(&format!("{level} cloakroom::event: ")), "{line}");
        assert!(line.contains(&format!("event=\"{}\"", event.kind())), "{line}");
        for (name, hash) in [("session", event.session()), ("former", event.former())] {
            let shown = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            assert_eq!(shown.map(str::to_owned), hash.map(|hash| hash.to_string()), "{name}: {line}");
        }
        assert_eq!(line.contains("count=2"), event.kind() == EventKind::Duplicate, "{line}");
    }
    let secrets = [&first, &second].map(|cookie| cookie.trim_start_matches("__Host-id="));
    for secret in secrets.into_iter().chain([USER, "forged", "%0d"]) {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
