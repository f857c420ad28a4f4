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

/// The cart of the old version.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Old {
    items: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl SessionData for Old {
    const KEY: &'static str = "cart";
}

/// The cart of the new version, with one more field and one fewer.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct New {
    items: Vec<String>,
    #[serde(default)]
    coupon: Option<String>,
}

impl SessionData for New {
    const KEY: &'static str = "cart";
}

/// The cart of the next version. Its items have another name and another shape.
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

    /// Makes a request that changes the struct by `change`.
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
async fn a_struct_is_stored_and_its_default_is_read_first() {
    for codec in BOTH {
        let visitor = Visitor::new(codec).await;
        assert_eq!(visitor.read::<Old>().await, Old::default());
        visitor.request::<Old>(|cart| cart.items.push("tea".to_owned())).await;
        visitor.request::<Old>(|cart| cart.note = Some("as a gift".to_owned())).await;
        let expected = Old { items: items(&["tea"]), note: Some("as a gift".to_owned()) };
        assert_eq!(visitor.read::<Old>().await, expected);
        assert_eq!(visitor.session().await.get::<u64>("n").unwrap(), Some(1), "other keys stay");
    }
}

#[tokio::test]
async fn each_version_keeps_the_fields_of_the_other() {
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
async fn a_known_field_that_is_left_out_is_removed() {
    for codec in BOTH {
        let visitor = Visitor::new(codec).await;
        visitor.request::<Old>(|cart| cart.note = Some("as a gift".to_owned())).await;
        visitor.request::<Old>(|cart| cart.note = None).await;
        assert_eq!(visitor.read::<Old>().await.note, None);
    }
}

#[tokio::test]
async fn migrate_runs_until_the_struct_is_saved() {
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
        assert_eq!(visitor.read::<Next>().await, migrated, "reading writes nothing");
        visitor.request::<Next>(|cart| cart.lines.push(("milk".to_owned(), 2))).await;
        let expected = Next { lines: vec![("tea".to_owned(), 1), ("milk".to_owned(), 2)] };
        assert_eq!(visitor.read::<Next>().await, expected, "the data is migrated");

        // The old version fails without its items. The coupon is still stored, for a version that reads it.
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
        assert_eq!(
            visitor.read::<Next>().await,
            expected,
            "a write by an older version keeps the data's version"
        );
    }
}

#[tokio::test]
async fn concurrent_updates_of_a_struct_are_all_stored() {
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
async fn a_value_of_another_type_is_an_error_and_stays() {
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

/// A struct with a reserved key.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Forbidden {
    secret: String,
}

impl SessionData for Forbidden {
    const KEY: &'static str = "\u{1}csrf";
}

#[tokio::test]
async fn a_struct_with_a_reserved_key_is_refused() {
    let visitor = Visitor::new(Codec::MESSAGE_PACK).await;
    let session = visitor.session().await;
    let mut forbidden = session.typed::<Forbidden>().unwrap();
    for error in [forbidden.save().unwrap_err(), forbidden.update(|_| ()).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Value);
        assert!(error.to_string().contains("which the library reserves"), "{error}");
    }
}

#[tokio::test]
async fn unknown_data_beside_version_and_fields_stays() {
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
async fn a_handler_can_take_a_struct_as_an_argument() {
    async fn buy(mut cart: Typed<Old>) -> cloakroom::Result<String> {
        cart.items.push("tea".to_owned());
        cart.save()?;
        Ok(format!("{} {cart:?}", cart.items.join(" ")))
    }

    let rig = Rig::new();
    let site = Router::new().route("/", get(buy)).layer(SessionLayer::new(rig.manager.clone()));
    let first = ask(&site, "/", "").await;
    let cookie = pair(first.headers()).unwrap();
    assert_eq!(text(first).await, "tea Typed { .. }", "Debug shows no value");
    assert_eq!(text(ask(&site, "/", &cookie).await).await, "tea tea Typed { .. }");
    let bare: Router = Router::new().route("/", get(buy));
    assert_eq!(ask(&bare, "/", "").await.status(), http::StatusCode::INTERNAL_SERVER_ERROR);
}
