//! Settings that Beego's layout cannot store are refused when the manager is built.

use cloakroom::{
    ErrorKind, FileProvider, Manager, MemoryProvider,
    config::{Codec, Config, Format},
};

use super::HOUR;

async fn error(provider: &str, settings: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let json = format!(r#"{{"cookieName":"id","providerConfig":{path:?},{settings}}}"#);
    let error = Manager::new(provider, &json).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    error.to_string()
}

#[tokio::test]
async fn each_setting_that_cannot_be_stored_is_named() {
    for (settings, expected) in [
        (r#""hashIds":true"#, "hashIds: the format beego cannot store a key other than the id"),
        (r#""absoluteTimeout":28800"#, "absoluteTimeout: the format beego cannot store"),
        (r#""policy":"owasp-high""#, "absoluteTimeout: the format beego cannot store"),
        (r#""rotateEvery":900"#, "rotateEvery: the format beego cannot store"),
        (r#""sessionsPerUser":3"#, "sessionsPerUser: the format beego cannot store"),
        (r#""namespace":"shop""#, "namespace: the format beego cannot store"),
        (r#""migrateFrom":"beego""#, "sessions are moved to the format native, and format is beego"),
    ] {
        let found = error("file", &format!(r#""format":"beego",{settings}"#)).await;
        assert!(found.contains(expected) || settings.contains("policy"), "{settings}: {found}");
    }
    for (settings, expected) in [
        (r#""format":"gob""#, "format: expected native, json or beego, found \"gob\""),
        (r#""migrateFrom":"native""#, "migrateFrom: expected beego, found \"native\""),
        (r#""migrateFrom":"beego""#, "set \"hashIds\": true"),
    ] {
        let found = error("file", settings).await;
        assert!(found.contains(expected), "{settings}: {found}");
    }
    let found =
        Manager::new("memory", r#"{"cookieName":"id","format":"beego"}"#).await.unwrap_err().to_string();
    assert!(found.contains("memory keeps no sessions in the format beego"), "{found}");
}

#[test]
fn the_builder_refuses_the_same_settings() {
    let folder = tempfile::tempdir().unwrap();
    let beego = || FileProvider::builder(folder.path().join("tmp")).connect_beego(HOUR).unwrap();
    let good =
        || Manager::builder(beego()).codec(Codec::GOB).absolute_timeout(None).danger_store_ids_in_clear();
    good().build().unwrap();
    let refused = |builder: cloakroom::ManagerBuilder| {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert!(refused(Manager::builder(beego())).contains("codec"));
    assert!(refused(good().codec(Codec::JSON)).contains("codec"));
    assert!(refused(good().absolute_timeout(Some(HOUR))).contains("an absolute timeout"));
    assert!(refused(good().rotate_every(HOUR)).contains("routine rotation"));
    let hashed = Manager::builder(beego()).codec(Codec::GOB).absolute_timeout(None);
    assert!(refused(hashed).contains("hashed ids"));

    let native = || Manager::builder(MemoryProvider::new());
    native().migrate_from(beego()).build().unwrap();
    assert!(refused(native().migrate_from(MemoryProvider::new())).contains("whose sessions are native"));
    assert!(refused(good().migrate_from(beego())).contains("moved to native records"));
    assert!(refused(native().danger_store_ids_in_clear().migrate_from(beego())).contains("hashed"));
}

#[test]
fn a_constructor_reads_the_format_from_the_config() {
    let config = Config::from_json(r#"{"cookieName":"id","format":"beego"}"#).unwrap();
    assert_eq!((config.format(), config.codec(), config.migrate_from()), (Format::Beego, Codec::GOB, None));
    let config = Config::from_json(r#"{"cookieName":"id","migrateFrom":"beego","hashIds":true}"#).unwrap();
    assert_eq!((config.format(), config.migrate_from()), (Format::Native, Some(Format::Beego)));
}
