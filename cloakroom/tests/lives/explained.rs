//! `Manager::explain` describes what happens: its text is parsed, and each time in it is tried.

use std::num::NonZeroUsize;
use std::time::Duration;

use cloakroom::{
    ManagerBuilder, Released, Session,
    config::{OverLimit, Policy},
};

use crate::visitor::{Browser, Rig, alice, release_without_cookie, seconds};

/// The times and limits in the text.
struct Said {
    idle: Duration,
    touch: Duration,
    absolute: Option<Duration>,
    rotation: Option<(Duration, Duration)>,
    /// The time for which a change under a replaced id is refused.
    arrival: Duration,
    cookie: Option<Duration>,
    limit: Option<usize>,
}

/// Returns the time between two texts.
fn time(line: &str, before: &str, after: &str) -> Duration {
    let text = line.split_once(before).unwrap_or_else(|| panic!("{before:?} in {line:?}")).1;
    let text = text.split_once(after).unwrap_or_else(|| panic!("{after:?} in {line:?}")).0;
    let words: Vec<_> = text.split(' ').collect();
    let parts = words.chunks(2).map(|part| {
        let unit = match part[1] {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "min" => 60.0,
            "s" => 1.0,
            other => panic!("{other:?} in {line:?}"),
        };
        Duration::from_secs_f64(part[0].parse::<f64>().unwrap() * unit)
    });
    parts.sum()
}

fn read(words: &str) -> Said {
    let line = |part: &str| words.lines().find(|line| line.contains(part));
    let (idle, arriving) = (line("(idle timeout)").unwrap(), line("arrives under a replaced id").unwrap());
    Said {
        idle: time(idle, "ends ", " after its last stored use"),
        touch: time(idle, "last stored one is ", " old or more"),
        absolute: line("(absolute timeout)").map(|line| time(line, "ends ", " after the login")),
        rotation: line("replaced in passing once")
            .map(|line| (time(line, "once it is ", " old"), time(line, "the session for ", " more"))),
        arrival: time(arriving, "nothing else within ", " of the replacement"),
        cookie: line("The cookie is kept for").map(|line| time(line, "kept for ", " from its last")),
        limit: line("A user has at most").map(|line| line.split(' ').nth(6).unwrap().parse().unwrap()),
    }
}

fn login(session: &Session) {
    session.authenticate(alice()).unwrap();
}

/// Returns true if a new session is alive after `after`, used every `used_every`.
async fn lives(rig: &Rig, after: Duration, used_every: Option<Duration>) -> bool {
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, login).await;
    let mut rest = after;
    while let Some(step) = used_every.filter(|step| *step < rest) {
        rig.time.advance(step);
        let _ = rig.request(&mut browser, |_| ()).await;
        rest -= step;
    }
    rig.time.advance(rest);
    rig.start(&browser).await.id().is_some()
}

async fn words_match_deeds(settings: impl Fn(ManagerBuilder) -> ManagerBuilder) -> Said {
    let rig = Rig::with(&settings);
    let said = read(&rig.manager.explain());
    let instant = Duration::from_millis(1);
    let idle = said.idle.min(said.absolute.unwrap_or(said.idle));
    assert!(lives(&rig, idle - instant, None).await && !lives(&rig, idle, None).await, "the idle timeout");
    let often = Some((said.idle / 3).max(said.touch));
    match said.absolute {
        Some(most) => {
            assert!(lives(&rig, most - instant, often).await, "in use, it lives until the absolute timeout");
            assert!(!lives(&rig, most, often).await, "in use, it ends at the absolute timeout");
        }
        None => assert!(lives(&rig, said.idle * 40, often).await, "it lives as long as it is used"),
    }

    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, login).await;
    rig.time.advance(said.touch - instant);
    assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Unchanged, "too early for a touch");
    rig.time.advance(instant);
    let due = if said.rotation.is_some_and(|(age, _)| age <= said.touch) {
        Released::Regenerated
    } else {
        Released::Touched
    };
    assert_eq!(rig.request(&mut browser, |_| ()).await, due);

    let _ = rig.request(&mut browser, |session| session.destroy().unwrap()).await;
    rotation_is_as_said(&rig, &said).await;
    said
}

async fn rotation_is_as_said(rig: &Rig, said: &Said) {
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, login).await;
    let old = browser.clone();
    match said.rotation {
        Some((age, grace)) => {
            rig.time.advance(age);
            assert_eq!(
                rig.request(&mut browser, |_| ()).await,
                Released::Regenerated,
                "a read rotates the id"
            );
            rig.time.advance(grace - Duration::from_millis(1));
            assert!(rig.start(&old).await.id().is_some(), "the old id is in its grace");
            rig.time.advance(Duration::from_millis(1));
        }
        None => {
            rig.time.advance(said.idle - Duration::from_millis(1));
            assert_ne!(
                rig.request(&mut browser, |_| ()).await,
                Released::Regenerated,
                "a read never rotates the id"
            );
            let _ = rig.request(&mut browser, login).await;
        }
    }
    for (advance, ended) in
        [(said.arrival - Duration::from_millis(1), true), (Duration::from_millis(1), false)]
    {
        rig.time.advance(advance);
        let session = rig.start(&old).await;
        session.set("n", 1).unwrap();
        if ended {
            assert_eq!(release_without_cookie(&session).await, Released::Gone { lost_write: true });
        } else {
            assert_eq!(old.clone().release(&session).await, Released::Created);
        }
    }
}

#[tokio::test]
async fn every_policy_does_what_explain_says() {
    let default = words_match_deeds(|builder| builder).await;
    assert_eq!((default.idle, default.absolute), (seconds(1800), Some(seconds(8 * 3600))));
    for policy in [Policy::NIST_AAL2, Policy::NIST_AAL3, Policy::OWASP_HIGH_VALUE, Policy::OWASP_LOW_VALUE] {
        let said = words_match_deeds(|builder| builder.policy(policy)).await;
        assert_eq!((said.idle, said.absolute), (policy.idle_timeout(), Some(policy.absolute_timeout())));
    }
    words_match_deeds(|builder| builder.absolute_timeout(None).idle_timeout(seconds(93_784))).await;
    let said = words_match_deeds(|builder| {
        builder.rotate_every(seconds(900)).rotation_grace(seconds(45)).longest_request(seconds(75))
    })
    .await;
    assert_eq!((said.rotation, said.arrival), (Some((seconds(900), seconds(45))), seconds(5)));
}

#[tokio::test]
async fn explain_names_the_cookie_and_the_session_limit() {
    let three = NonZeroUsize::new(3).unwrap();
    let rig = Rig::with(|builder| {
        builder.cookie_lifetime(Some(seconds(7200))).sessions_per_user(three, OverLimit::EndOldest)
    });
    let said = read(&rig.manager.explain());
    assert_eq!((said.cookie, said.limit), (Some(seconds(7200)), Some(3)));
    let rig =
        Rig::with(|builder| builder.sessions_per_user(three, OverLimit::Refuse).end_user_on_reuse(true));
    let words = rig.manager.explain();
    assert!(
        words.contains("one more login is refused") && words.contains("until the browser is closed"),
        "{words}"
    );
    let rig = Rig::with(|builder| builder.rotate_every(seconds(60)).end_user_on_reuse(true));
    assert!(rig.manager.explain().contains("and ends every session of the user"));
}

#[tokio::test]
async fn an_anonymous_use_is_stored_as_often_as_said() {
    let rig = Rig::with(|builder| builder.anonymous_timeout(Some(seconds(60))));
    let words = rig.manager.explain();
    let line = words.lines().find(|line| line.contains("(anonymous timeout)")).unwrap();
    let (ends, touch) =
        (time(line, "logged in it ends ", " after"), time(line, "last stored one is ", " old or more"));
    assert_eq!((ends, touch), (seconds(60), seconds(3)));
    let mut browser = Browser::default();
    let _ = rig.request(&mut browser, |session| session.set("n", 1).unwrap()).await;
    rig.time.advance(touch - Duration::from_millis(1));
    assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Unchanged);
    rig.time.advance(Duration::from_millis(1));
    assert_eq!(rig.request(&mut browser, |_| ()).await, Released::Touched);
}
