//! `indexed` by user: it lists the sessions of one user and of no other, whatever the users are called.

use crate::principal::Principal;
use crate::provider::{Cursor, Provider, Renamed, Touched, Updated};
use crate::testkit::fixture::{Fixture, key, keys, keys_of, minutes, user};

/// Checks that each of `names` has its own sessions and no others.
async fn never_mix(f: &Fixture, names: &[&str]) {
    if !f.lists().await {
        return;
    }
    for (n, name) in names.iter().enumerate() {
        f.put(&key(&format!("user-{n}")), &f.record().principal(name).build()).await;
    }
    f.put(&key("anonymous"), &f.record().build()).await;
    for (n, name) in names.iter().enumerate() {
        let session = key(&format!("user-{n}"));
        f.belong_to(name, &[&session], &format!("the sessions of {name:?} among those of {names:?}")).await;
        let record = f.load(&session).await.expect("it was stored");
        assert_eq!(
            record.meta().principal().map(Principal::as_str),
            Some(*name),
            "a name comes back exactly"
        );
    }
}

pub(super) async fn a_list_has_only_that_users_sessions(f: Fixture) {
    if !f.lists().await {
        return;
    }
    let all = keys(12);
    for (n, key) in all.iter().enumerate() {
        f.put(key, &f.record().principal(["alice", "bob", "carol"][n % 3]).build()).await;
    }
    f.put(&key("anonymous"), &f.record().build()).await;
    f.belong_to("alice", &[&all[0], &all[3], &all[6], &all[9]], "every third is hers").await;
    f.belong_to("bob", &[&all[1], &all[4], &all[7], &all[10]], "every third is his").await;
    f.belong_to("nobody", &[], "a user without sessions").await;
}

pub(super) async fn a_users_list_tells_times_and_user(f: Fixture) {
    if !f.lists().await {
        return;
    }
    let record = f.record().aged(minutes(8)).principal("alice").version(3).filled(80).build();
    f.put(&key("aa"), &record).await;
    let found = f.of_user("alice").await;
    assert_eq!(found.len(), 1, "one session");
    assert_eq!((&found[0].key, &found[0].meta), (&key("aa"), &record.meta()), "its version and times");
    f.advance(minutes(2)).await;
    assert_eq!(f.touch(&key("aa")).await, Touched::Done, "it is alive");
    let touched = f.load(&key("aa")).await.expect("it is alive");
    assert_eq!(&f.of_user("alice").await[0].meta, &touched.meta(), "and the last touch");
}

pub(super) async fn a_session_belongs_to_a_user_from_the_update_that_says_so(f: Fixture) {
    if !f.lists().await {
        return;
    }
    f.put(&key("aa"), &f.record().build()).await;
    f.belong_to("alice", &[], "anonymous so far").await;
    let steps = [(Some("alice"), 2), (Some("bob"), 3), (Some("bob"), 4), (None, 5)];
    for (user, version) in steps {
        let record = f.record().version(version);
        let record = user.map_or(record.clone(), |name| record.principal(name)).build();
        assert_eq!(f.update(&key("aa"), &record, version - 1).await, Updated::Done, "version {version}");
        for name in ["alice", "bob"] {
            let a = key("aa");
            let expected: &[_] = if user == Some(name) { &[&a] } else { &[] };
            f.belong_to(name, expected, &format!("{name}'s sessions, after it became {user:?}'s")).await;
        }
    }
}

pub(super) async fn a_stale_update_moves_no_session_to_another_user(f: Fixture) {
    if !f.lists().await {
        return;
    }
    f.put(&key("aa"), &f.record().principal("alice").version(7).build()).await;
    let stolen = f.record().principal("mallory").version(8).build();
    assert_eq!(f.update(&key("aa"), &stolen, 6).await, Updated::Stale, "the record is at version 7");
    assert_eq!(
        f.rename(&key("aa"), &key("bb"), &stolen, 6, None).await,
        Renamed::Stale,
        "the record is at version 7"
    );
    f.belong_to("mallory", &[], "nothing was changed").await;
    f.belong_to("alice", &[&key("aa")], "nothing was changed").await;
}

pub(super) async fn a_users_list_leaves_out_ended_sessions(f: Fixture) {
    if !f.lists().await || !f.revokes().await {
        return;
    }
    for name in ["deleted", "expired", "left", "alive"] {
        let idle = if name == "expired" { minutes(5) } else { minutes(30) };
        f.put(&key(name), &f.record().principal("alice").idle(idle).build()).await;
    }
    assert!(f.delete(&key("deleted")).await, "a live record was there");
    let moved = f.record().principal("alice").version(2).build();
    assert_eq!(
        f.rename(&key("left"), &key("moved"), &moved, 1, None).await,
        Renamed::Done,
        "version 1 is there"
    );
    f.advance(minutes(5)).await;
    f.belong_to("alice", &[&key("alive"), &key("moved")], "not the deleted, expired and left ones").await;
    f.collect_all(10).await;
    f.belong_to("alice", &[&key("alive"), &key("moved")], "the same after a collection").await;
}

pub(super) async fn a_key_that_is_used_again_belongs_to_its_new_user_alone(f: Fixture) {
    if !f.lists().await {
        return;
    }
    f.put(&key("aa"), &f.record().principal("alice").idle(minutes(5)).build()).await;
    f.advance(minutes(5)).await;
    f.put(&key("aa"), &f.record().principal("bob").build()).await;
    f.belong_to("alice", &[], "her session has expired, and its key is another's now").await;
    f.belong_to("bob", &[&key("aa")], "the key is his now").await;
    f.collect_all(10).await;
    f.belong_to("bob", &[&key("aa")], "the collection of hers does not take his").await;
}

pub(super) async fn a_key_that_was_deleted_or_left_belongs_to_its_new_user_alone(f: Fixture) {
    if !f.lists().await || !f.revokes().await {
        return;
    }
    for name in ["deleted", "left"] {
        f.put(&key(name), &f.record().principal("alice").build()).await;
    }
    assert!(f.delete(&key("deleted")).await, "a live record was there");
    let moved = f.record().version(2).build();
    assert_eq!(
        f.rename(&key("left"), &key("moved"), &moved, 1, None).await,
        Renamed::Done,
        "version 1 is there"
    );
    for name in ["deleted", "left"] {
        f.put(&key(name), &f.record().principal("bob").build()).await;
    }
    f.belong_to("alice", &[], "her sessions have ended, and their keys are another's now").await;
    f.belong_to("bob", &[&key("deleted"), &key("left")], "the keys are his now").await;
}

pub(super) async fn users_that_differ_in_case_never_mix(f: Fixture) {
    never_mix(&f, &["alice", "Alice", "ALICE", "alicE"]).await;
}

pub(super) async fn users_of_which_one_is_a_prefix_of_the_other_never_mix(f: Fixture) {
    never_mix(&f, &["a", "al", "alice", "alice:", "alice:session", "alice/1"]).await;
}

pub(super) async fn users_that_differ_in_blanks_never_mix(f: Fixture) {
    never_mix(&f, &["alice", "alice ", " alice", "alice\t", "alice\n", "alice\r\n", "\nalice", " ", "\n"])
        .await;
}

pub(super) async fn users_with_control_characters_never_mix(f: Fixture) {
    never_mix(
        &f,
        &["alice", "alice\0", "\0alice", "al\0ice", "\0", "\0\0", "\u{1}", "\u{7f}", "alice\u{1b}[0m"],
    )
    .await;
}

pub(super) async fn users_that_read_as_paths_never_mix(f: Fixture) {
    never_mix(&f, &["a/b", "a", "b", "/", ".", "..", "../a", "/etc/passwd", "a\\b", "C:", "a//b", "%2e%2e"])
        .await;
}

pub(super) async fn users_with_the_metacharacters_of_queries_never_mix(f: Fixture) {
    let names =
        ["alice", "al%", "%", "_lice", "*", "al*", "a?ice", "[a]lice", "' OR '1'='1", "\"", "\\", "$1", "?"];
    never_mix(&f, &names).await;
    never_mix_more(&f).await;
}

async fn never_mix_more(f: &Fixture) {
    if !f.capabilities().lists {
        return;
    }
    let braced = ["{alice}", "a{b,c}", "a:b", "a b"];
    for (n, name) in braced.iter().enumerate() {
        f.put(&key(&format!("braced-{n}")), &f.record().principal(name).build()).await;
    }
    for (n, name) in braced.iter().enumerate() {
        f.belong_to(name, &[&key(&format!("braced-{n}"))], "the metacharacters of keys and globs").await;
    }
}

pub(super) async fn users_beyond_ascii_never_mix(f: Fixture) {
    // The names are composed and decomposed, with and without accent, with sharp and double s, in full width, and beyond the first plane.
    let names =
        ["é", "e\u{301}", "e", "E", "ß", "ss", "ａ", "a", "🦀", "🦀🦀", "🐚", "\u{200d}", "\u{feff}a"];
    never_mix(&f, &names).await;
}

pub(super) async fn users_of_the_greatest_length_never_mix(f: Fixture) {
    let long = "u".repeat(Principal::MAX_LEN);
    let last = format!("{}x", &long[1..]);
    let wide = "🦀".repeat(Principal::MAX_LEN / 4);
    let nothing = "\0".repeat(Principal::MAX_LEN);
    never_mix(&f, &[&long, &last, &long[1..], &wide, &nothing]).await;
}

pub(super) async fn a_user_may_have_many_sessions(f: Fixture) {
    if !f.lists().await {
        return;
    }
    let all = keys(150);
    for key in &all {
        f.put(key, &f.record().principal("alice").build()).await;
    }
    f.belong_to("alice", &all.iter().collect::<Vec<_>>(), "all of them, without pages").await;
}

pub(super) async fn a_users_sessions_come_in_pages(f: Fixture) {
    if !f.lists().await || !f.capabilities().users {
        return;
    }
    let names: Vec<_> = (0..23).map(|n| key(&format!("session-{n:02}"))).collect();
    for name in &names {
        f.put(name, &f.record().principal("alice").build()).await;
    }
    f.put(&key("other"), &f.record().principal("bob").build()).await;
    for limit in [1, 2, 7, 22, 23, 24, 100] {
        let mut met = keys_of(&f.indexed(&user("alice"), limit).await);
        met.dedup();
        assert_eq!(met, names, "all of hers and no others, in pages of {limit}");
    }
    assert_eq!(f.indexed(&user("nobody"), 1).await, [], "a user without a session");
}

pub(super) async fn a_foreign_cursor_of_a_list_is_answered_or_refused(f: Fixture) {
    if !f.lists().await || !f.capabilities().users {
        return;
    }
    for key in keys(3) {
        f.put(&key, &f.record().principal("alice").build()).await;
    }
    let alice = user("alice");
    for text in [
        "",
        "0",
        "-1",
        "18446744073709551616",
        "zz",
        "../..",
        "'; --",
        "\u{0}",
        "ü\n",
        "a:b:c",
        &"x".repeat(5_000),
    ] {
        let page = f.provider.indexed(&alice, Some(Cursor::new(text)), 2).await;
        assert!(page.map_or(0, |page| page.entries.len()) <= 2, "the limit holds from {text:?} on too");
    }
    f.belong_to("alice", &keys(3).iter().collect::<Vec<_>>(), "the store is as usable as before").await;
}

pub(super) async fn a_cursor_of_a_users_list_may_be_used_again(f: Fixture) {
    if !f.lists().await || !f.capabilities().users || !f.revokes().await {
        return;
    }
    let all = keys(10);
    for key in &all {
        f.put(key, &f.record().principal("alice").build()).await;
    }
    let alice = user("alice");
    let first = f.provider.indexed(&alice, None, 4).await.expect("a page");
    let Some(from) = first.next else { return };
    let again =
        async || keys_of(&f.provider.indexed(&alice, Some(from.clone()), 100).await.expect("a page").entries);
    let once = again().await;
    assert_eq!(again().await, once, "a cursor is a place, not a state");
    // A caller ends the sessions of a page, and goes on from the end of that page.
    for entry in &first.entries {
        assert!(f.delete(&entry.key).await, "nobody else ends it");
    }
    assert_eq!(again().await, once, "the end of those before it moves nobody past it");
}

pub(super) async fn a_page_of_a_users_list_may_have_no_room(f: Fixture) {
    if !f.lists().await || !f.capabilities().users {
        return;
    }
    f.put(&key("aa"), &f.record().principal("alice").build()).await;
    let page = f.provider.indexed(&user("alice"), None, 0).await.expect("a page without room");
    assert_eq!(page.entries, [], "none were asked for");
    f.belong_to("alice", &[&key("aa")], "she has one").await;
}
