//! A struct in a session, while two versions of an application run side by side.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use axum::Router;
use axum::routing::get;
use cloakroom::{
    Error, ErrorKind, Manager, Session, SessionData, SessionLayer, Typed, config::Codec, session::Fields,
};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use support::{Rig, ask, cookies, pair, text};

/// The cart of the application as it was.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Old {
    items: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl SessionData for Old {
    const KEY: &'static str = "cart";
}

/// And as it is now: one more field, one fewer.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct New {
    items: Vec<String>,
    #[serde(default)]
    coupon: Option<String>,
}

impl SessionData for New {
    const KEY: &'static str = "cart";
}

/// And as it will be: the items have another name and another shape.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Next {
    lines: Vec<(String, u32)>,
}

impl SessionData for Next {
    const KEY: &'static str = "cart";
    const VERSION: u32 = 2;

    fn migrate(version: u32, fields: &mut Fields<'_>) -> cloakroom::Result<Self> {
        assert_eq!(version, 1);
        let items: Vec<String> = fields.take("items")?.unwrap_or_default();
        Ok(Next { lines: items.into_iter().map(|item| (item, 1)).collect() })
    }
}

const BOTH: [Codec; 2] = [Codec::MESSAGE_PACK, Codec::JSON];

struct Visitor {
    manager: Manager,
    cookie: String,
}

impl Visitor {
    async fn new(codec: Codec) -> Self {
        let rig = Rig::with(|builder| builder.codec(codec));
        let cookie = rig.session_with(1).await;
        Visitor { manager: rig.manager, cookie }
    }

    async fn session(&self) -> Session {
        self.manager.start(&cookies(&self.cookie)).await.unwrap()
    }

    /// A request that changes the struct by `change`.
    async fn request<T: SessionData>(&self, change: impl FnOnce(&mut T)) {
        let session = self.session().await;
        let mut typed = session.typed::<T>().unwrap();
        change(&mut typed);
        typed.save().unwrap();
        let _ = session.release(&mut HeaderMap::new()).await.unwrap();
    }

    async fn read<T: SessionData>(&self) -> T {
        self.session().await.typed::<T>().unwrap().into_inner()
    }
}

fn items(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn a_struct_comes_back_and_its_default_stands_where_nothing_is() {
    for codec in BOTH {
        let visitor = Visitor::new(codec).await;
        assert_eq!(visitor.read::<Old>().await, Old::default());
        visitor.request::<Old>(|cart| cart.items.push("tea".to_owned())).await;
        visitor.request::<Old>(|cart| cart.note = Some("as a gift".to_owned())).await;
        let expected = Old { items: items(&["tea"]), note: Some("as a gift".to_owned()) };
        assert_eq!(visitor.read::<Old>().await, expected);
        assert_eq!(visitor.session().await.get::<u64>("n").unwrap(), Some(1), "beside other keys");
    }
}

#[tokio::test]
async fn while_two_versions_run_each_keeps_the_fields_of_the_other() {
    for codec in BOTH {
        let visitor = Visitor::new(codec).await;
        visitor.request::<Old>(|cart| cart.note = Some("as a gift".to_owned())).await;
        visitor.request::<New>(|cart| cart.coupon = Some("SAVE10".to_owned())).await;
        visitor.request::<Old>(|cart| cart.items.push("tea".to_owned())).await;
        visitor.request::<New>(|cart| cart.items.push("milk".to_owned())).await;

        let (both, gift) = (items(&["tea", "milk"]), Some("as a gift".to_owned()));
        assert_eq!(visitor.read::<Old>().await, Old { items: both.clone(), note: gift });
        assert_eq!(visitor.read::<New>().await, New { items: both, coupon: Some("SAVE10".to_owned()) });
    }
}

#[tokio::test]
async fn a_field_that_a_version_knows_and_leaves_out_is_gone() {
    for codec in BOTH {
        let visitor = Visitor::new(codec).await;
        visitor.request::<Old>(|cart| cart.note = Some("as a gift".to_owned())).await;
        visitor.request::<Old>(|cart| cart.note = None).await;
        assert_eq!(visitor.read::<Old>().await.note, None);
    }
}

#[tokio::test]
async fn an_older_version_goes_through_the_hook_and_what_it_takes_goes_with_the_next_write() {
    for codec in BOTH {
        let visitor = Visitor::new(codec).await;
        visitor
            .request::<New>(|cart| {
                cart.items = items(&["tea"]);
                cart.coupon = Some("SAVE10".to_owned());
            })
            .await;
        let migrated = Next { lines: vec![("tea".to_owned(), 1)] };
        assert_eq!(visitor.read::<Next>().await, migrated);
        assert_eq!(visitor.read::<Next>().await, migrated, "nothing is written by reading");
        visitor.request::<Next>(|cart| cart.lines.push(("milk".to_owned(), 2))).await;
        let expected = Next { lines: vec![("tea".to_owned(), 1), ("milk".to_owned(), 2)] };
        assert_eq!(visitor.read::<Next>().await, expected, "the hook has run for the last time");

        // The old version needs its items and finds them gone; the coupon is still there for whoever asks.
        let error = visitor.session().await.typed::<Old>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        #[derive(Default, Serialize, Deserialize)]
        struct Coupon {
            coupon: Option<String>,
        }
        impl SessionData for Coupon {
            const KEY: &'static str = "cart";
        }
        assert_eq!(visitor.read::<Coupon>().await.coupon.as_deref(), Some("SAVE10"));
        visitor.request::<Coupon>(|cart| cart.coupon = None).await;
        assert_eq!(visitor.read::<Next>().await, expected, "an older process' write keeps the version");
    }
}

#[tokio::test]
async fn atomic_updates_of_requests_at_the_same_time_all_stand() {
    let visitor = Visitor::new(Codec::MESSAGE_PACK).await;
    let mut requests = Vec::new();
    for n in 0..20 {
        let session = visitor.session().await;
        requests.push(tokio::spawn(async move {
            let mut cart = session.typed::<Old>()?;
            cart.update(|cart| cart.items.push(n.to_string())).await?;
            assert!(cart.items.contains(&n.to_string()));
            Ok::<_, Error>(())
        }));
    }
    for request in requests {
        request.await.unwrap().unwrap();
    }
    assert_eq!(visitor.read::<Old>().await.items.len(), 20);
}

#[tokio::test]
async fn what_is_no_such_struct_is_an_error_and_is_left_as_it_is() {
    #[derive(Default, Serialize, Deserialize)]
    struct Unit;
    impl SessionData for Unit {
        const KEY: &'static str = "unit";
    }

    for codec in BOTH {
        let visitor = Visitor::new(codec).await;
        let session = visitor.session().await;
        for value in ["a text", ""] {
            session.set("cart", value).unwrap();
            let error = session.typed::<Old>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Value);
            assert!(!error.to_string().contains("a text"), "{error}");
            assert_eq!(session.get::<String>("cart").unwrap().as_deref(), Some(value));
        }
        let unit = session.typed::<Unit>().unwrap();
        assert_eq!(unit.save().unwrap_err().kind(), ErrorKind::Value);
    }
}

/// One whose key is the library's.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Forbidden {
    secret: String,
}

impl SessionData for Forbidden {
    const KEY: &'static str = "\u{1}csrf";
}

#[tokio::test]
async fn a_key_of_the_librarys_own_is_refused_to_a_struct_as_to_any_value() {
    let visitor = Visitor::new(Codec::MESSAGE_PACK).await;
    let session = visitor.session().await;
    let mut forbidden = session.typed::<Forbidden>().unwrap();
    for error in [forbidden.save().unwrap_err(), forbidden.update(|_| ()).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains("which the library keeps for its own"), "{error}");
    }
}

#[tokio::test]
async fn what_a_later_release_keeps_beside_version_and_fields_stays() {
    for codec in BOTH {
        let visitor = Visitor::new(codec).await;
        let later = serde_json::json!({ "version": 1, "fields": { "items": ["tea"] }, "later": [7] });
        let session = visitor.session().await;
        session.set("cart", &later).unwrap();
        let mut cart = session.typed::<Old>().unwrap();
        cart.items.push("milk".to_owned());
        cart.save().unwrap();
        let stored: serde_json::Value = session.get("cart").unwrap().unwrap();
        let expected =
            serde_json::json!({ "version": 1, "fields": { "items": ["tea", "milk"] }, "later": [7] });
        assert_eq!(stored, expected);
    }
}

#[tokio::test]
async fn a_struct_is_an_argument_of_a_handler() {
    async fn buy(mut cart: Typed<Old>) -> cloakroom::Result<String> {
        cart.items.push("tea".to_owned());
        cart.save()?;
        Ok(format!("{} {cart:?}", cart.items.join(" ")))
    }

    let rig = Rig::new();
    let site = Router::new().route("/", get(buy)).layer(SessionLayer::new(rig.manager.clone()));
    let first = ask(&site, "/", "").await;
    let cookie = pair(first.headers()).unwrap();
    assert_eq!(text(first).await, "tea Typed { .. }", "and no value in a log");
    assert_eq!(text(ask(&site, "/", &cookie).await).await, "tea tea Typed { .. }");
    let bare: Router = Router::new().route("/", get(buy));
    assert_eq!(ask(&bare, "/", "").await.status(), http::StatusCode::INTERNAL_SERVER_ERROR);
}
