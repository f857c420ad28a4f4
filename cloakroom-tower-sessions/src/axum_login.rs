//! The user of axum-login.

use cloakroom::Principal;
use serde_json::Value;

use crate::requests::Data;

/// The key under which axum-login 0.18 keeps its data by default: `data_key` of its `AuthManagerLayerBuilder`.
const KEY: &str = "axum-login.data";

/// Returns the user whom axum-login has logged in, if the id is a text or an integer.
pub(crate) fn principal(values: &Data) -> Option<Principal> {
    match values.get(KEY)?.get("user_id")? {
        Value::String(id) => Principal::new(id).ok(),
        Value::Number(id) if id.is_i64() || id.is_u64() => Principal::new(id.to_string()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(value: Value) -> Option<String> {
        principal(&Data::from([(KEY.to_owned(), value)])).map(|user| user.as_str().to_owned())
    }

    #[test]
    fn a_text_or_an_integer_is_a_user() {
        let login = |id: Value| json!({"user_id": id, "auth_hash": [1, 2]});
        assert_eq!(user(login(json!("alice"))).as_deref(), Some("alice"));
        assert_eq!(user(login(json!(42))).as_deref(), Some("42"));
        assert_eq!(user(login(json!(-42))).as_deref(), Some("-42"));
        assert_eq!(user(login(json!(u64::MAX))).as_deref(), Some("18446744073709551615"));
    }

    #[test]
    fn other_values_are_no_user() {
        let of_id = |id: Value| user(json!({"user_id": id, "auth_hash": null}));
        for id in [
            json!(null),
            json!(1.5),
            json!(true),
            json!(["a"]),
            json!({"a": 1}),
            json!(""),
            json!("x".repeat(257)),
        ] {
            assert_eq!(of_id(id), None);
        }
        for data in [json!(null), json!("alice"), json!([]), json!({}), json!({"user": 1})] {
            assert_eq!(user(data), None);
        }
        assert_eq!(principal(&Data::new()), None);
    }
}
