//! Events as lines of the log.

use axum::Router;
use axum::routing::get;
use cloakroom::{CsrfLayer, CsrfToken, Manager, Principal, Session, SessionLayer, event::EventKind};

use crate::Watched;
use crate::support::faulty::Fault;
use crate::support::hooked::Call;
use crate::support::log::Log;
use crate::support::{ask, pair, request, send, text};

const USER: &str = "user-nobody-may-see";
const KEY: &str = "key-nobody-may-see";
const VALUE: &str = "value-nobody-may-see";
const EVENT_KEY: &str = "event-key-nobody-may-see";

#[tokio::test]
async fn an_event_is_one_escaped_line_without_id_or_user() {
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
    assert_eq!(lines.len(), heard.len(), "one line for each event: {text}");
    for (line, event) in lines.iter().zip(&heard) {
        // An event that a stranger can cause as often as they like is no warning.
        assert!(line.contains("DEBUG cloakroom::event: "), "{line}");
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

/// A site that uses flash messages, a form's token, a login and a logout.
fn site(sessions: &Manager) -> Router {
    let form = async |token: CsrfToken| token.to_string();
    let keep = async |session: Session| {
        session.set(KEY, VALUE)?;
        session.flash(KEY, VALUE)?;
        session.authenticate(Principal::new(USER)?)
    };
    let show = async |session: Session| -> cloakroom::Result<String> {
        let flashes = session.take_flashes::<String>().await?;
        Ok(format!("{} {}", flashes.len(), session.get::<u64>(KEY)?.unwrap_or(0)))
    };
    Router::new()
        .route("/form", get(form).post(keep))
        .route("/show", get(show))
        .route("/logout", get(async |session: Session| session.destroy()))
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(sessions.clone()))
}

#[tokio::test(start_paused = true)]
async fn no_request_logs_a_secret() {
    let (log, watched) = (Log::start(), Watched::with(|builder| builder.event_key(EVENT_KEY)));
    let site = site(&watched.manager);
    let mut secrets: Vec<String> = [KEY, VALUE, USER, EVENT_KEY].map(str::to_owned).into();
    for fault in [None, Some(Fault::Fail), Some(Fault::Corrupt), Some(Fault::LoseAnswer), Some(Fault::Lose)] {
        let mut cookie = watched.visited().await;
        let form = ask(&site, "/form", &cookie).await;
        let kept = pair(form.headers()).unwrap();
        secrets.push(kept.trim_start_matches("__Host-id-csrf=").to_owned());
        let token = text(form).await;
        secrets.extend([token.clone(), cookie.trim_start_matches("__Host-id=").to_owned()]);
        if let Some(fault) = fault {
            watched.faults.set(Call::Update, fault);
            watched.faults.set(Call::Rename, fault);
        }
        for token in ["wrong-token", &token] {
            let mut request = request("/form", &cookie);
            *request.method_mut() = http::Method::POST;
            request.headers_mut().insert("x-csrf-token", token.parse().unwrap());
            let answer = send(&site, request).await;
            cookie = pair(answer.headers()).unwrap_or(cookie);
        }
        secrets.push(cookie.trim_start_matches("__Host-id=").to_owned());
        if let Some(fault) = fault {
            watched.faults.set_all(fault);
        }
        for path in ["/show", "/show", "/logout", "/show"] {
            let _ = ask(&site, path, &cookie).await;
        }
        watched.faults.heal();
    }
    let logged = log.text();
    for expected in ["created", "authenticated", "destroyed", "corrupt", "conflict"] {
        assert!(logged.contains(&format!("event=\"{expected}\"")), "{expected}: {logged}");
    }
    for line in logged.lines().filter(|line| line.contains("cloakroom::event: ")) {
        let warns = ["corrupt", "conflict"].iter().any(|kind| line.contains(&format!("event=\"{kind}\"")));
        assert_eq!(line.contains(" WARN "), warns, "{line}");
    }
    assert!(logged.contains("a request was refused"), "{logged}");
    for secret in secrets.iter().map(String::as_str).chain(["wrong-token"]) {
        assert!(!logged.contains(secret), "{secret} in {logged}");
    }
}
