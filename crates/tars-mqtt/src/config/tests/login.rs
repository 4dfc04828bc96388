//! User name, password, and the files for TLS.

use secrecy::ExposeSecret as _;
use tars_ports::ErrorKind;

use super::{password, problems, with};
use crate::config::Config;
use crate::config::files::tests::Scratch;

#[test]
fn credentials_override_their_part_of_the_url() {
    type Row = (
        &'static str,
        &'static [(&'static str, &'static str)],
        Option<(&'static str, Option<&'static str>)>,
    );
    let table: [Row; 8] = [
        ("mqtt://h", &[], None),
        ("mqtt://u:p@h", &[], Some(("u", Some("p")))),
        ("mqtt://u@h", &[], Some(("u", None))),
        ("mqtt://u:p@h", &[("MQTT_USERNAME", "x")], Some(("x", Some("p")))),
        ("mqtt://u:p@h", &[("MQTT_PASSWORD", "x")], Some(("u", Some("x")))),
        ("mqtt://u@h", &[("MQTT_PASSWORD", "x%20")], Some(("u", Some("x%20")))),
        (
            "mqtt://h",
            &[("MQTT_USERNAME", "x"), ("MQTT_PASSWORD", "y")],
            Some(("x", Some("y"))),
        ),
        ("mqtt://h", &[("MQTT_USERNAME", "x")], Some(("x", None))),
    ];
    for (url, variables, expected) in table {
        let builder = Config::builder()
            .url(url)
            .client_id("svc")
            .vars(variables.iter().copied());
        let config = builder.build().unwrap();
        let username = config.credentials.as_ref().map(|credentials| &*credentials.username);
        assert_eq!(username, expected.map(|(username, _)| username), "{url} {variables:?}");
        assert_eq!(
            password(&config).as_deref(),
            expected.and_then(|(_, password)| password),
            "{url} {variables:?}"
        );
    }
}

#[test]
fn a_password_needs_a_user_name() {
    let found = problems(with(&[("MQTT_PASSWORD", "hunter2")]));
    assert!(
        found[0].starts_with("MQTT_PASSWORD (environment) is a password without a user name"),
        "{found:?}"
    );
    let scratch = Scratch::new();
    let file = scratch.write("password", "hunter2");
    let builder = Config::builder().client_id("svc").password_file(&file);
    let found = problems(builder.clone().url("mqtt://h").build());
    assert!(
        found[0].starts_with("password_file (code) is a password without"),
        "{found:?}"
    );
    let found = problems(builder.url("mqtt://u:p@h:x").build());
    assert_eq!(
        found.len(),
        1,
        "the user name may be in the URL that is wrong: {found:?}"
    );
}

#[test]
fn user_names_and_passwords_have_limits() {
    let long = "x".repeat(65_536);
    let builder = Config::builder().url("mqtt://h").client_id("svc");
    assert!(
        builder
            .clone()
            .username(&long[1..])
            .password(&long[1..])
            .build()
            .is_ok()
    );
    let found = problems(builder.clone().username(&*long).password(&*long).build());
    assert_eq!(found.len(), 2);
    assert!(
        found[0].starts_with("username is ") && found[1].starts_with("password is *** (code)"),
        "{found:?}"
    );
    assert_eq!(problems(builder.username("a\0").build()).len(), 1);
}

#[test]
fn a_password_file_is_read_now_and_again_later() {
    let scratch = Scratch::new();
    let file = scratch.write("password", "first\n");
    let config = Config::builder()
        .url("mqtt://u:url@h")
        .client_id("svc")
        .password_file(&file)
        .build()
        .unwrap();
    assert_eq!(password(&config).unwrap(), "first");
    assert_eq!(config.password_file.as_ref(), Some(&file));

    scratch.write("password", "second\n");
    let current = config.current_credentials().unwrap().unwrap();
    assert_eq!(
        (&*current.username, current.password.unwrap().expose_secret()),
        ("u", "second")
    );
    std::fs::remove_file(&file).unwrap();
    let error = config.current_credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("password file"), "{error}");
    assert!(config.validate().is_err());

    let without = Config::new("mqtt://u:p@h", "svc")
        .unwrap()
        .current_credentials()
        .unwrap()
        .unwrap();
    assert_eq!(without.password.unwrap().expose_secret(), "p");
}

#[test]
fn a_password_file_that_is_missing_is_reported() {
    let found = problems(with(&[("MQTT_USERNAME", "u"), ("MQTT_PASSWORD_FILE", "no/such/file")]));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with(r#"MQTT_PASSWORD_FILE is "no/such/file" (environment): it cannot be read"#),
        "{found:?}"
    );
}

#[test]
fn of_password_and_file_the_higher_source_counts() {
    let scratch = Scratch::new();
    let file = scratch.write("password", "file");
    let path = file.to_str().unwrap();
    let builder = Config::builder().url("mqtt://u@h").client_id("svc");

    let config = builder
        .clone()
        .vars([("MQTT_PASSWORD_FILE", path)])
        .password("code")
        .build()
        .unwrap();
    assert_eq!(
        (password(&config).unwrap(), config.password_file),
        ("code".to_owned(), None)
    );
    let config = builder
        .clone()
        .vars([("MQTT_PASSWORD", "env")])
        .password_file(path)
        .build()
        .unwrap();
    assert_eq!(
        (password(&config).unwrap(), config.password_file),
        ("file".to_owned(), Some(file.clone()))
    );

    let both = [("MQTT_PASSWORD", "hunter2"), ("MQTT_PASSWORD_FILE", path)];
    let found = problems(builder.vars(both).build());
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("MQTT_PASSWORD is given as well; expected one of them"),
        "{found:?}"
    );
}

#[test]
fn certificate_and_key_go_together() {
    let scratch = Scratch::new();
    let pem = scratch.write("pem", "-----BEGIN X-----\n");
    let der = scratch.write("der", "0\u{82}");
    let builder = || Config::builder().url("mqtts://h").client_id("svc");
    assert!(builder().cert_file(&pem).key_file(&pem).ca_file(&pem).build().is_ok());
    let found = problems(builder().cert_file(&pem).build());
    assert!(
        found[0].starts_with("cert_file is ") && found[0].contains("MQTT_KEY_FILE as well"),
        "{found:?}"
    );
    let found = problems(builder().key_file(&pem).build());
    assert!(
        found[0].starts_with("key_file is ") && found[0].contains("MQTT_CERT_FILE as well"),
        "{found:?}"
    );
    let found = problems(builder().ca_file(&der).cert_file("none").key_file(&pem).build());
    assert_eq!(found.len(), 2);
    assert!(
        found[0].contains("not PEM") && found[1].contains("cannot be read"),
        "{found:?}"
    );

    let config = Config::builder()
        .url("ws://h")
        .client_id("svc")
        .ca_file(&pem)
        .build()
        .unwrap();
    assert_eq!(
        config.warnings(),
        ["ca_file (code) has no effect: ws:// is not encrypted"]
    );
}
