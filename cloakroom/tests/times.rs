//! Random times. With any settings a session in use lives until its absolute deadline, and an ended session stays ended
//! at every later instant.
//!
//! The long run is `CLOAKROOM_TIMES=20000 cargo test -p cloakroom --all-features --test times`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "times/site.rs"]
mod site;

use std::time::Duration;

use cloakroom::{Level, Lifetime, Session};
use proptest::prelude::*;
use proptest::test_runner::Config;

use site::{Client, Kept, Settings, Site, principal};

fn config() -> Config {
    let asked = std::env::var("CLOAKROOM_TIMES").ok();
    let cases = asked.map_or(256, |text| text.parse().expect("CLOAKROOM_TIMES is a number"));
    Config { max_global_rejects: 20 * cases, failure_persistence: None, ..Config::with_cases(cases) }
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A time of 2 s to 36 days. Short times are as likely as long ones.
fn a_time() -> impl Strategy<Value = Duration> {
    (1u32..21, 0u64..1000)
        .prop_map(|(power, part)| Duration::from_secs((1 << power) + (1 << power) * part / 1000))
}

fn maybe_a_time() -> impl Strategy<Value = Option<Duration>> {
    prop_oneof![Just(None), a_time().prop_map(Some)]
}

fn kept() -> impl Strategy<Value = Kept> {
    let sealed = (maybe_a_time(), a_time());
    prop_oneof![Just(Kept::Memory), sealed.prop_map(|(max_age, longest)| Kept::Cookie { max_age, longest })]
}

fn settings() -> impl Strategy<Value = Settings> {
    let times = (a_time(), maybe_a_time(), maybe_a_time(), maybe_a_time());
    (kept(), times, maybe_a_time(), a_time(), a_time()).prop_map(|(kept, times, rotate, grace, longest)| {
        let (idle, absolute, anonymous, cookie) = times;
        Settings { kept, idle, absolute, anonymous, cookie, rotate, grace, longest }
    })
}

/// A lifetime for one session.
fn lifetime() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        a_time().prop_map(Lifetime::idle),
        a_time().prop_map(Lifetime::remembered),
        (a_time(), a_time(), any::<bool>())
            .prop_map(|(idle, most, persistent)| Lifetime::idle(idle).at_most(most).persistent(persistent)),
    ]
}

/// Makes the change with the number `number`.
fn act(session: &Session, number: u8) {
    match number % 6 {
        0 | 1 => {}
        2 | 3 => session.set("n", number).unwrap(),
        4 => session.regenerate().unwrap(),
        _ if session.principal().is_some() => session.set_level(Level::new(1 + number % 3)).unwrap(),
        _ => {}
    }
}

/// The beginning of a session.
#[derive(Clone, Debug)]
struct Beginning {
    logs_in: bool,
    own: Option<Lifetime>,
    /// True if a second request sets the lifetime.
    later: bool,
    ends_by: Option<Duration>,
}

fn beginning() -> impl Strategy<Value = Beginning> {
    (any::<bool>(), proptest::option::of(lifetime()), any::<bool>(), maybe_a_time())
        .prop_map(|(logs_in, own, later, ends_by)| Beginning { logs_in, own, later, ends_by })
}

/// Returns the absolute deadline of a session that begins at time 0, and its idle timeout.
fn end_and_idle(settings: &Settings, beginning: &Beginning) -> (Option<Duration>, Duration) {
    let policy = match settings.anonymous.filter(|_| !beginning.logs_in) {
        Some(anonymous) => anonymous.min(settings.idle),
        None => settings.idle,
    };
    let (absolute, idle) = match &beginning.own {
        Some(own) => (own.absolute_timeout(), own.idle_timeout()),
        None => (settings.absolute, policy),
    };
    let end = [absolute, beginning.ends_by].into_iter().flatten().min();
    (end, idle)
}

/// Begins a session now.
async fn begin(site: &Site, client: &mut Client, beginning: &Beginning) {
    let by = beginning.ends_by.map(|time| site.now() + time);
    let request = |session: &Session| {
        session.set("n", 0).unwrap();
        if beginning.logs_in {
            session.authenticate(principal("alice")).unwrap();
        }
        by.iter().for_each(|time| session.end_by(*time).unwrap());
        if let Some(own) = beginning.own.filter(|_| !beginning.later) {
            session.set_lifetime(own).unwrap();
        }
    };
    site.request(client, request).await;
    if let Some(own) = beginning.own.filter(|_| beginning.later) {
        site.request(client, |session| session.set_lifetime(own).unwrap()).await;
    }
}

async fn lives_while_used(
    settings: Settings,
    beginning: Beginning,
    steps: Vec<(u8, u8)>,
) -> Result<(), TestCaseError> {
    let Some(site) = Site::new(&settings) else { return Err(TestCaseError::reject("refused at build")) };
    let mut client = Client::default();
    let start = site.now();
    begin(&site, &mut client, &beginning).await;
    let (end, idle) = end_and_idle(&settings, &beginning);
    let end = end.map(|end| start + end);
    // The browser and the provider may forget a cookie that is not renewed.
    let mut unused = idle;
    if let Kept::Cookie { max_age: Some(age), .. } = settings.kept {
        unused = unused.min(age.max(Duration::from_secs(60)));
    }
    if let (Some(cookie), None) = (settings.cookie, &beginning.own) {
        unused = unused.min(cookie);
    }
    for (n, (part, number)) in steps.into_iter().enumerate() {
        let step = unused.mul_f64(f64::from(part) / 512.0).max(ms(1));
        site.time.advance(step);
        let over = end.is_some_and(|end| site.now() >= end);
        let session = site.start(&mut client).await;
        let told =
            format!("step {n}, {step:?} later; {:?} after the beginning", site.now().duration_since(start));
        // A browser keeps a lasting cookie for whole seconds, so it may forget it up to a second early.
        let nearly = end.is_some_and(|end| site.now() + Duration::from_secs(1) > end);
        if over || (nearly && client.has_forgotten()) {
            prop_assert!(session.id().is_none(), "{}", told);
            return Ok(());
        }
        prop_assert!(session.id().is_some(), "{}", told);
        prop_assert_eq!(session.principal(), beginning.logs_in.then(|| principal("alice")), "{}", told);
        act(&session, number);
        site.release(&mut client, &session).await;
        cookie_is_right(&site, &settings, &beginning, &mut client).await?;
    }
    // The session is not used from here on.
    site.time.advance(idle);
    prop_assert!(site.start(&mut client).await.id().is_none(), "unused for {:?}", idle);
    Ok(())
}

/// Checks that the browser keeps the cookie as long as it should, and no longer than the session lives.
async fn cookie_is_right(
    site: &Site,
    settings: &Settings,
    beginning: &Beginning,
    client: &mut Client,
) -> Result<(), TestCaseError> {
    let lasting = beginning.own.as_ref().map_or(settings.cookie.is_some(), Lifetime::is_persistent);
    prop_assert_eq!(client.kept_until.is_some(), lasting, "the cookie outlives the browser");
    let (Some(until), true) = (client.kept_until, beginning.own.is_some()) else { return Ok(()) };
    let session = site.start(client).await;
    // A cookie with less than a second left is kept for one. The browser may also keep a cookie that the cookie
    // provider's own age has ended.
    let aged = matches!(settings.kept, Kept::Cookie { max_age: Some(_), .. });
    if let (Some(expires), false) = (session.expires(), aged) {
        let expires = expires.max(site.now() + Duration::from_secs(1));
        prop_assert!(until <= expires, "kept for {:?} longer than it lives", until.duration_since(expires));
    }
    Ok(())
}

/// A step in the life of a session.
#[derive(Clone, Debug)]
enum Step {
    Wait(u8),
    Act(u8),
    Login(bool),
    Lifetime(Lifetime),
    EndBy(Duration),
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<u8>().prop_map(Step::Wait),
        3 => any::<u8>().prop_map(Step::Act),
        1 => any::<bool>().prop_map(Step::Login),
        2 => lifetime().prop_map(Step::Lifetime),
        1 => a_time().prop_map(Step::EndBy),
        1 => Just(Step::Collect),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Logout,
    EndSessions,
    Limit,
    Expiry,
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![Just(Ending::Logout), Just(Ending::EndSessions), Just(Ending::Limit), Just(Ending::Expiry)]
}

async fn takes(site: &Site, client: &mut Client, step: &Step) {
    match step {
        Step::Wait(part) => {
            let left = site.start(client).await.expires().and_then(|end| end.duration_since(site.now()).ok());
            site.time.advance(left.unwrap_or_default().mul_f64(f64::from(*part) / 300.0));
        }
        Step::Act(number) => site.request(client, |session| act(session, *number)).await,
        Step::Login(carries) => {
            let login = |session: &Session| {
                session.authenticate(principal("alice")).unwrap();
                if *carries {
                    session.set("n", 1).unwrap();
                }
            };
            site.request(client, login).await;
        }
        Step::Lifetime(own) => site.request(client, |session| session.set_lifetime(*own).unwrap()).await,
        Step::EndBy(time) => {
            let by = site.now() + *time;
            site.request(client, |session| session.end_by(by).unwrap()).await;
        }
        Step::Collect => site.collects().await,
    }
}

async fn ends(site: &Site, client: &mut Client, ending: Ending) {
    match ending {
        Ending::Logout => site.request(client, |session| session.destroy().unwrap()).await,
        Ending::EndSessions => site.ends_all_of("alice").await,
        Ending::Limit => {
            let login = |session: &Session| session.authenticate(principal("alice")).unwrap();
            let mut other = Client::default();
            // With two logins in one millisecond, either may be the older.
            site.time.advance(ms(1));
            site.request(&mut other, login).await;
        }
        Ending::Expiry => {
            let end = client.latest_end.expect("the session has begun");
            site.time.set(end.max(site.now()));
        }
    }
}

async fn stays_dead(
    settings: Settings,
    life: Vec<Step>,
    ending: Ending,
    later: Vec<u16>,
) -> Result<(), TestCaseError> {
    let Some(site) = Site::new(&settings) else { return Err(TestCaseError::reject("refused at build")) };
    if ending == Ending::Limit && !site.limits() {
        return Err(TestCaseError::reject("a provider that cannot list has no limit"));
    }
    let mut client = Client::default();
    let login = |session: &Session| {
        session.set("n", 1).unwrap();
        session.authenticate(principal("alice")).unwrap();
    };
    site.request(&mut client, |session| session.set("n", 0).unwrap()).await;
    site.request(&mut client, login).await;
    for step in &life {
        takes(&site, &mut client, step).await;
    }
    // A visitor who is logged out already has no session to end.
    if site.start(&mut client).await.principal().is_none() {
        let end = client.latest_end.expect("the session has begun");
        site.time.set(end.max(site.now()));
    } else {
        ends(&site, &mut client, ending).await;
    }
    let ended = site.now();
    let last =
        client.latest_end.expect("the session has begun").max(ended) + Duration::from_secs(24 * 60 * 60);
    let whole = last.duration_since(ended).unwrap();
    let mut instants: Vec<_> =
        later.iter().map(|part| ended + whole.mul_f64(f64::from(*part) / 65_535.0)).collect();
    instants.extend([ended, ended + ms(1), last]);
    instants.sort();
    for (n, instant) in instants.into_iter().enumerate() {
        site.time.set(instant.max(site.now()));
        if n % 2 == 1 {
            site.collects().await;
        }
        for token in &client.past {
            let mut thief = Client::with(token);
            let session = site.start(&mut thief).await;
            let told = format!("{:?} after the end", site.now().duration_since(ended).unwrap());
            prop_assert_eq!(session.principal(), None, "{}", told);
            prop_assert_eq!(session.get::<u8>("n").unwrap(), None, "{}", told);
            if n % 3 == 2 {
                session.set("stolen", true).unwrap();
                site.release(&mut thief, &session).await;
                let session = site.start(&mut thief).await;
                prop_assert_eq!(session.principal(), None, "a change revives nothing, {}", told);
                prop_assert_eq!(session.get::<u8>("n").unwrap(), None, "a change revives nothing, {}", told);
            }
        }
    }
    Ok(())
}

fn run(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_session_in_use_lives_until_its_absolute_end(
        settings in settings(),
        beginning in beginning(),
        steps in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..50),
    ) {
        run(lives_while_used(settings, beginning, steps))?;
    }

    #[test]
    fn an_ended_session_stays_ended_at_every_later_instant(
        settings in settings(),
        life in proptest::collection::vec(step(), 0..14),
        ending in ending(),
        later in proptest::collection::vec(any::<u16>(), 1..8),
    ) {
        run(stays_dead(settings, life, ending, later))?;
    }

    #[test]
    fn a_cookie_is_kept_no_longer_than_its_session_lives(
        settings in settings(),
        lifetimes in proptest::collection::vec(lifetime(), 1..5),
    ) {
        run(async {
            let Some(site) = Site::new(&settings) else { return Err(TestCaseError::reject("refused at build")) };
            let mut client = Client::default();
            let mut beginning = Beginning { logs_in: true, own: None, later: false, ends_by: None };
            begin(&site, &mut client, &beginning).await;
            for own in lifetimes {
                site.request(&mut client, |session| session.set_lifetime(own).unwrap()).await;
                beginning.own = Some(own);
                if site.start(&mut client).await.id().is_none() {
                    return Ok(());
                }
                cookie_is_right(&site, &settings, &beginning, &mut client).await?;
            }
            Ok(())
        })?;
    }
}
