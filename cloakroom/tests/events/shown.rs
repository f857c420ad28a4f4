//! The `Debug` output of every public type that holds a secret shows no id, key, token, value or user.

use std::fmt::Debug;
use std::num::NonZeroUsize;

use cloakroom::{
    CsrfLayer, Device, Level, Manager, ManagerBuilder, MemoryProvider, Principal, Provider, SessionData,
    SessionLayer, Visit, config::Config, event::Event, providers::AnyProvider, session::Fields,
};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};

use crate::support::{cookies, pair};

const VALUE: &str = "value-nobody-may-see";
const KEY: &str = "key-nobody-may-see";
const USER: &str = "user-nobody-may-see";
const HASH_KEY: &str = "hash-key-nobody-may-see";
const EVENT_KEY: &str = "event-key-nobody-may-see";
const PASSWORD: &str = "password-nobody-may-see";
const AGENT: &str = "agent-nobody-may-see";

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    secret: String,
}

impl SessionData for Kept {
    const KEY: &'static str = KEY;
    const VERSION: u32 = 2;

    fn migrate(_: u32, fields: &mut Fields<'_>) -> cloakroom::Result<Self> {
        panic!("{fields:?}")
    }
}

/// The `Debug` output of everything, plain and pretty.
#[derive(Default)]
struct Shown(String);

impl Shown {
    fn add(&mut self, thing: &dyn Debug) {
        self.0.push_str(&format!("{thing:?}\n{thing:#?}\n"));
    }
}

fn builder(config: &Config, shown: &Arc<Mutex<Shown>>) -> ManagerBuilder {
    let (events, visits) = (Arc::clone(shown), Arc::clone(shown));
    Manager::with_config(MemoryProvider::new(), config.clone())
        .on_event(move |event: &Event| events.lock().unwrap().add(event))
        .admit(move |visit: &Visit| {
            visits.lock().unwrap().add(visit);
            true
        })
        .sessions_per_user(NonZeroUsize::MIN, cloakroom::config::OverLimit::EndOldest)
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let text = format!(
        r#"{{"cookieName":"id","sessionIDHashKey":"{HASH_KEY}","eventKey":"{EVENT_KEY}",
            "providerConfig":"127.0.0.1:6379,100,{PASSWORD}"}}"#
    );
    let config = Config::from_json(&text).unwrap();
    let shown = Arc::new(Mutex::new(Shown::default()));
    let add = |thing: &dyn Debug| shown.lock().unwrap().add(thing);
    add(&config);
    add(&builder(&config, &shown));
    let manager = builder(&config, &shown).build().unwrap();
    add(&manager);
    add(&(SessionLayer::new(manager.clone()), CsrfLayer::new()));

    let mut visit = HeaderMap::new();
    visit.insert("user-agent", AGENT.parse().unwrap());
    let handle = manager.handle(&visit);
    let session = handle.load().await.unwrap();
    session.set(KEY, VALUE).unwrap();
    session.flash(KEY, VALUE).unwrap();
    add(&session);
    let mut response = HeaderMap::new();
    add(&session.release(&mut response).await.unwrap());
    let cookie = pair(&response).unwrap();
    let mut secrets = vec![session.id().unwrap().expose().to_owned()];

    let session = manager.start(&cookies(&cookie)).await.unwrap();
    let token = session.csrf_token().await.unwrap();
    let flashes = session.take_flashes::<String>().await.unwrap();
    add(&(&token, &flashes, session.verify_csrf_token("x").unwrap_err()));
    add(&session.get::<u64>(KEY).unwrap_err());
    add(&session.typed::<Kept>().map(drop).unwrap_err());
    session.delete(KEY).unwrap();
    let mut kept = session.typed::<Kept>().unwrap();
    kept.secret = VALUE.to_owned();
    kept.save().unwrap();
    add(&kept);
    session.authenticate_at(Principal::new(USER).unwrap(), Level::new(2)).unwrap();
    session.set_device(Device::of_request(&visit)).unwrap();
    let _ = session.release(&mut response).await.unwrap();
    secrets.push(session.id().unwrap().expose().to_owned());
    secrets.push(token.as_str().to_owned());
    add(&(&handle, &session, session.id(), session.id_hash(), session.principal(), session.level()));

    let listed = manager.sessions_of(&Principal::new(USER).unwrap()).await.unwrap();
    let provider: &AnyProvider = manager.provider();
    let record = provider.load(&listed[0].key).await.unwrap().unwrap();
    let page = provider.scan(None, 10).await.unwrap();
    add(&(&listed, &record, record.meta(), &page, provider, provider.capabilities(), manager.advice()));
    let _ = manager.start(&cookies("id=malformed-nobody-may-see")).await.unwrap();

    let shown = shown.lock().unwrap();
    let words = [VALUE, KEY, USER, HASH_KEY, EVENT_KEY, PASSWORD, "malformed-nobody-may-see"];
    for secret in words.into_iter().chain(secrets.iter().map(String::as_str)) {
        assert!(!shown.0.contains(secret), "{secret} in {}", shown.0);
    }
    for kind in ["Created", "Rotated", "Authenticated", "MalformedId"] {
        assert!(shown.0.contains(kind), "{kind} is missing, so the test shows too little");
    }
}
