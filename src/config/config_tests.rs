use serde_json::{Value, json};

use super::*;

const SAMPLE: &str = include_str!("../../envoy/keycloak-bff.yaml");
const SECRET: &str = "secret-canary-secret-canary-secret-canary";

fn minimal() -> Value {
    json!({
        "listeners": {"grpc": "127.0.0.1:9191", "browser": "127.0.0.1:8081"},
        "keys": [{"value": SECRET}],
        "providers": [{
            "name": "users", "issuer": "https://id.example.com/realms/users", "client_id": "bff",
            "client_secret": {"value": SECRET}
        }],
        "frontends": [{
            "name": "app", "provider": "users", "origins": ["https://app.example.com"],
            "cookie": {}, "login": {}, "sessions": {}, "rules": [{"path": "/public/*", "session": "none"}]
        }]
    })
}

fn parse(config: &Value) -> Result<Config, ConfigErrors> {
    Config::parse(&config.to_string(), &|name| (name == "SET").then(|| SECRET.to_owned()))
}

/// The minimal configuration with the value at a JSON pointer changed; null takes it away.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = minimal();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(map), Value::Null) => drop(map.remove(key)),
        (Value::Object(map), value) => drop(map.insert(key.to_owned(), value)),
        (Value::Array(list), value) => list[key.parse::<usize>().unwrap()] = value,
        (other, _) => panic!("{other}"),
    }
    config
}

/// Sessions in Redis, with a change; null takes a key away.
fn redis(changes: Value) -> Value {
    let mut redis = json!({"url": "redis://127.0.0.1:6379"});
    for (key, value) in changes.as_object().unwrap() {
        redis[key] = value.clone();
    }
    redis.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    json!({"store": "redis", "redis": redis})
}

fn errors(config: &Value) -> Vec<(String, String)> {
    match parse(config) {
        Ok(_) => Vec::new(),
        Err(ConfigErrors(errors)) => {
            assert!(!format!("{errors:?}").contains("canary"), "a secret in {errors:?}");
            errors.into_iter().map(|error| (error.path, error.message)).collect()
        }
    }
}

#[test]
fn the_sample_and_the_least_are_good() {
    let config = Config::parse(SAMPLE, &|_| None).unwrap();
    assert_eq!((config.sites.len(), config.providers.len(), config.models.len()), (2, 2, 1));
    assert_eq!(config.warnings.len(), 1, "the demo's static key: {:?}", config.warnings);
    let config = parse(&minimal()).unwrap();
    assert_eq!(config.sites[0].frontend.cookie.name, "__Host-session");
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn each_mistake_is_named_with_its_path() {
    let name = "frontends[0].name";
    for (pointer, value, path, message) in [
        ("/surprise", json!(1), "surprise", "unknown key"),
        ("/threads", json!(0), "threads", "at least 1"),
        ("/log", json!({"level": "loud"}), "log.level", "neither a level"),
        ("/log", json!({"format": "xml"}), "log.format", "one of text, json"),
        ("/listeners", Value::Null, "listeners.grpc", "is missing"),
        ("/listeners/grpc", json!("localhost:9191"), "listeners.grpc", "IP address"),
        ("/listeners/grpc", json!("unix:relative"), "listeners.grpc", "absolute path"),
        ("/listeners/grpc", json!("0.0.0.0:9191"), "listeners.grpc", "plaintext: accepted"),
        ("/listeners/browser", json!("127.0.0.1:9191"), "listeners.browser", "same address"),
        ("/keys/0", json!({"value": "short"}), "keys[0]", "at least 32"),
        ("/keys/0", json!({"value": SECRET, "env": "SET"}), "keys[0]", "exactly one"),
        ("/keys/0", json!({"env": "UNSET"}), "keys[0]", "not set"),
        ("/keys/0", json!({"file": "/nonexistent"}), "keys[0]", "cannot be read"),
        ("/sessions", json!({"idle": "soon"}), "sessions.idle", "length of time"),
        ("/sessions", json!({"idle": "2h", "absolute": "1h"}), "sessions.absolute", "shorter than idle"),
        ("/sessions", json!({"maximum": 0}), "sessions.maximum", "at least 1"),
        ("/sessions", json!({"refresh_ahead": "2s"}), "sessions.refresh_ahead", "longer than"),
        ("/sessions", json!({"store": "disk"}), "sessions.store", "one of memory, redis"),
        ("/sessions", json!({"store": "redis"}), "sessions.redis", "is missing"),
        (
            "/sessions",
            json!({"redis": {"url": "redis://[::1]:6379"}}),
            "sessions.redis",
            "store is not redis",
        ),
        ("/sessions", redis(json!({"url": null})), "sessions.redis.url", "is missing"),
        ("/sessions", redis(json!({"url": "http://redis:6379"})), "sessions.redis.url", "must be redis://"),
        (
            "/sessions",
            redis(json!({"url": format!("redis://:{SECRET}@redis:6379")})),
            "sessions.redis.url",
            "credentials",
        ),
        (
            "/sessions",
            redis(json!({"mode": "many"})),
            "sessions.redis.mode",
            "one of single, sentinel, cluster",
        ),
        ("/sessions", redis(json!({"mode": "sentinel"})), "sessions.redis.master", "is missing"),
        ("/sessions", redis(json!({"master": "m"})), "sessions.redis.master", "mode is not sentinel"),
        ("/sessions", redis(json!({"urls": ["redis://[::1]"]})), "sessions.redis.urls", "a single server"),
        (
            "/sessions",
            redis(json!({"mode": "cluster", "urls": ["redis://[::1]"]})),
            "sessions.redis.urls",
            "url as well",
        ),
        (
            "/sessions",
            redis(json!({"mode": "cluster", "url": null, "urls": ["redis://[::1]", "x"]})),
            "sessions.redis.urls[1]",
            "must be redis://",
        ),
        ("/sessions", redis(json!({"prefix": "{x}"})), "sessions.redis.prefix", "characters"),
        ("/sessions", redis(json!({"username": {"value": "bff"}})), "sessions.redis.password", "is missing"),
        (
            "/sessions",
            redis(json!({"password": {"file": "/nonexistent"}})),
            "sessions.redis.password",
            "cannot be read",
        ),
        ("/sessions", redis(json!({"tls": {}})), "sessions.redis.tls", "rediss://"),
        (
            "/sessions",
            redis(json!({"url": "rediss://redis", "tls": {"ca_file": "/nonexistent"}})),
            "sessions.redis.tls.ca_file",
            "cannot be read",
        ),
        (
            "/sessions",
            redis(json!({"url": "rediss://redis", "tls": {"certificate_file": "/dev/null"}})),
            "sessions.redis.tls.key_file",
            "is missing",
        ),
        ("/providers", json!([]), "providers", "at least one"),
        ("/providers/0/name", json!("A B"), "providers[0].name", "a-z"),
        ("/providers/0/issuer", json!("http://id.example.com"), "providers[0].issuer", "must be https"),
        ("/providers/0/issuer", json!("https://id.example.com?x"), "providers[0].issuer", "no query"),
        ("/providers/0/issuer", json!(7), "providers[0].issuer", "must be a text"),
        ("/providers/0/client_secret", Value::Null, "providers[0].client_secret", "is missing"),
        (
            "/providers/0/client_authentication",
            json!("magic"),
            "providers[0].client_authentication",
            "one of client_secret_basic",
        ),
        ("/providers/0/client_authentication", json!("none"), "providers[0].client_secret", "has no use"),
        (
            "/providers/0/client_authentication",
            json!("private_key_jwt"),
            "providers[0].private_key",
            "is missing",
        ),
        (
            "/providers/0/client_authentication",
            json!("client_assertion"),
            "providers[0].client_assertion_file",
            "is missing",
        ),
        ("/providers/0/private_key", json!({"value": "x"}), "providers[0].private_key", "has no use"),
        (
            "/providers/0/signature_algorithms",
            json!(["HS256"]),
            "providers[0].signature_algorithms[0]",
            "one of [RS256",
        ),
        ("/providers/0/signature_algorithms", json!([]), "providers[0].signature_algorithms", "at least one"),
        ("/providers/0/scopes", json!(["a b"]), "providers[0].scopes[0]", "not a scope"),
        ("/providers/0/clock_skew", json!("5m"), "providers[0].clock_skew", "60s"),
        ("/providers/0/call_timeout", json!("5s"), "providers[0].call_timeout", "at least 15s"),
        ("/frontends/0/name", Value::Null, name, "is missing"),
        ("/frontends/0/name", json!(""), name, "a-z"),
        ("/frontends/0/provider", json!("nobody"), "frontends[0].provider", "not the name"),
        ("/frontends/0/origins", json!([]), "frontends[0].origins", "at least one"),
        ("/frontends/0/origins/0", json!("https://app.example.com/"), "frontends[0].origins[0]", "exactly"),
        ("/frontends/0/origins/0", json!("https://APP.example.com"), "frontends[0].origins[0]", "exactly"),
        (
            "/frontends/0/origins/0",
            json!("http://app.example.com"),
            "frontends[0].origins[0]",
            "must be https",
        ),
        ("/frontends/0/cookie/domain", json!("example.com"), "frontends[0].cookie.domain", "__Host-"),
        ("/frontends/0/cookie/name", json!("a b"), "frontends[0].cookie.name", "not a cookie name"),
        ("/frontends/0/cookie/name", json!("__Host-login-app-x"), "frontends[0].cookie.name", "sets itself"),
        (
            "/frontends/0/cookie",
            json!({"name": "s", "domain": "other.com"}),
            "frontends[0].cookie.domain",
            "above it",
        ),
        (
            "/frontends/0/cookie",
            json!({"name": "s", "domain": "com"}),
            "frontends[0].cookie.domain",
            "must be a domain",
        ),
        ("/frontends/0/cookie/same_site", json!("sometimes"), "frontends[0].cookie.same_site", "one of lax"),
        ("/frontends/0/login/start_page", json!("//evil"), "frontends[0].login.start_page", "one /"),
        ("/frontends/0/login/start_page", json!("/auth/login?x"), "frontends[0].login.start_page", "circles"),
        ("/sessions", json!({"drain": "1s"}), "sessions.drain", "call_timeout"),
        ("/frontends/0/login/idp_hints", json!(["a b"]), "frontends[0].login.idp_hints[0]", "alias"),
        ("/frontends/0/cors", json!({"origins": ["*"]}), "frontends[0].cors.origins[0]", "not an origin"),
        ("/frontends/0/cors", json!({"origins": ["null"]}), "frontends[0].cors.origins[0]", "not an origin"),
        ("/frontends/0/cors", json!({"headers": ["*"]}), "frontends[0].cors.headers[0]", "one name"),
        ("/frontends/0/sessions/idle", json!("1d"), "frontends[0].sessions.absolute", "shorter than idle"),
        (
            "/frontends/0/identity_headers",
            json!([{"header": "Cookie", "claim": "sub"}]),
            "frontends[0].identity_headers[0].header",
            "meaning",
        ),
        (
            "/frontends/0/identity_headers",
            json!([{"header": "a-b-c-d-e-f-g", "claim": "sub"}]),
            "frontends[0].identity_headers[0].header",
            "more than 5",
        ),
        (
            "/frontends/0/identity_headers",
            json!([{"header": "x-a"}]),
            "frontends[0].identity_headers[0].claim",
            "is missing",
        ),
        ("/frontends/0/rules/0/path", json!("public"), "frontends[0].rules[0].path", "start with /"),
        ("/frontends/0/rules/0/session", Value::Null, "frontends[0].rules[0].session", "is missing"),
        (
            "/frontends/0/rules/0/roles",
            json!([{"realm": "a"}]),
            "frontends[0].rules[0].roles",
            "session: required",
        ),
        ("/frontends/0/rules/0/acr", json!(["gold"]), "frontends[0].rules[0].acr", "session: required"),
        ("/frontends/0/rules/0/acr", json!(["a b"]), "frontends[0].rules[0].acr[0]", "one word"),
        ("/frontends/0/rules/0/acr", json!(["a".repeat(129)]), "frontends[0].rules[0].acr", "128"),
        ("/frontends/0/rules/0/max_age", json!("30s"), "frontends[0].rules[0].max_age", "session: required"),
        ("/frontends/0/rules/0/max_age", json!("0s"), "frontends[0].rules[0].max_age", "at least 1s"),
        ("/providers/0/concurrent_refreshes", json!(0), "providers[0].concurrent_refreshes", "at least 1"),
        ("/frontends/0/rules/0/token", json!("user"), "frontends[0].rules[0].token", "needs a session"),
        ("/frontends/0/rules/0/methods", json!(["get"]), "frontends[0].rules[0].methods[0]", "upper case"),
    ] {
        let found = errors(&with(pointer, value.clone()));
        let named = found.iter().any(|(at, why)| at == path && why.contains(message));
        assert!(named, "{pointer} = {value} gave {found:?}");
    }
}

#[test]
fn all_mistakes_of_a_file_come_to_light_at_once() {
    let mut config = minimal();
    config["surprise"] = json!(1);
    config["listeners"]["grpc"] = json!(7);
    config["providers"][0]["issuer"] = json!("http://id.example.com");
    config["providers"][0].as_object_mut().unwrap().remove("client_id");
    config["frontends"][0]["cookie"]["domain"] = json!("example.com");
    config["frontends"][0]["rules"][0]["session"] = json!("maybe");
    config["frontends"][0]["rules"][0]["path"] = json!("/a?b");
    let mut found: Vec<String> = errors(&config).into_iter().map(|(path, _)| path).collect();
    found.sort();
    let expected = [
        "frontends[0].cookie.domain",
        "frontends[0].rules[0].path",
        "frontends[0].rules[0].session",
        "listeners.grpc",
        "providers[0].client_id",
        "providers[0].issuer",
        "surprise",
    ];
    assert_eq!(found, expected);
}

#[test]
fn neighbours_must_not_take_each_others_place() {
    let mut config = minimal();
    config["frontends"] = json!([
        {"name": "app", "provider": "users", "origins": ["https://app.example.com", "https://app.example.com:8443"]},
        {"name": "app", "provider": "users", "origins": ["https://app.example.com"]},
        {"name": "port", "provider": "users", "origins": ["https://app.example.com:9443"]},
    ]);
    let provider = config["providers"][0].clone();
    config["providers"] = json!([provider, provider]);
    let found = errors(&config);
    for (path, message) in [
        ("frontends[1].name", "another frontend"),
        ("frontends[1].origins[0]", "another frontend"),
        ("frontends[2].cookie.name", "overwrite each other"),
        ("providers[1].name", "another provider"),
        ("providers[1]", "issuer and client_id"),
    ] {
        assert!(found.iter().any(|(at, why)| at == path && why.contains(message)), "{path} not in {found:?}");
    }
}

#[test]
fn cookies_that_reach_the_same_hosts_must_have_names_of_their_own() {
    let cookie = |name: &str, domain: Option<&str>| match domain {
        Some(domain) => json!({"name": name, "domain": domain}),
        None => json!({"name": name}),
    };
    for (first, second, clash) in [
        (cookie("s", Some("example.com")), cookie("s", Some("example.com")), true),
        (cookie("s", Some("example.com")), cookie("s", None), true),
        (cookie("s", None), cookie("s", None), false),
        (cookie("s", Some("example.com")), cookie("t", Some("example.com")), false),
    ] {
        let mut config = minimal();
        config["frontends"] = json!([
            {"name": "app", "provider": "users", "origins": ["https://app.example.com"], "cookie": first},
            {"name": "admin", "provider": "users", "origins": ["https://admin.example.com"], "cookie": second},
        ]);
        assert_eq!(!errors(&config).is_empty(), clash, "{first} {second}");
    }
}

#[test]
fn one_host_has_one_scheme() {
    let config = with("/frontends/0/origins", json!(["http://x.localhost", "https://x.localhost"]));
    assert!(errors(&config).iter().any(|(path, _)| path == "frontends[0].origins[1]"));
}

#[test]
fn what_is_allowed_and_unwise_is_said() {
    for (pointer, value, word) in [
        ("/keys", json!([]), "keys"),
        (
            "/listeners",
            json!({"grpc": "0.0.0.0:1", "browser": "127.0.0.1:2", "plaintext": "accepted"}),
            "without encryption",
        ),
        ("/frontends/0/cookie/name", json!("session"), "plant"),
        ("/frontends/0/cookie/same_site", json!("none"), "any site"),
        ("/frontends/0/cors", json!({"origins": ["https://other.org"]}), "another site"),
    ] {
        let config = parse(&with(pointer, value)).unwrap();
        assert!(
            config.warnings.iter().any(|warning| warning.contains(word)),
            "{pointer}: {:?}",
            config.warnings
        );
    }
}

#[test]
fn secrets_come_from_the_environment_and_from_files() {
    assert!(parse(&with("/keys/0", json!({"env": "SET"}))).is_ok());
    let file = std::env::temp_dir().join(format!("keycloak-bff-secret-{}", std::process::id()));
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let config = parse(&with("/keys/0", json!({"file": file})));
    std::fs::remove_file(&file).unwrap();
    assert!(config.is_ok());
}

#[test]
fn broken_yaml_is_told_without_its_lines() {
    for text in ["keys: [{value: secret-canary", "a: 1\na: 2", "- secret-canary", ""] {
        let error = Config::parse(text, &|_| None).err().unwrap();
        assert!(!error.to_string().contains("secret-canary"), "{error}");
    }
}

#[test]
fn sessions_in_redis_need_keys_that_every_replica_has() {
    let good = with(
        "/sessions",
        redis(json!({
            "url": "rediss://redis.example.com:6380/2", "password": {"env": "SET"}, "grace": "30s",
            "tls": {"ca_file": "/dev/null"},
        })),
    );
    let settings = parse(&good).unwrap().sessions.redis.unwrap();
    assert_eq!((settings.prefix.as_str(), settings.at_hand), ("keycloak-bff:", 100_000));
    assert_eq!(settings.grace, Some(std::time::Duration::from_secs(30)));
    assert!(!format!("{settings:?}").contains("canary"));
    for (url, warnings) in [
        ("redis://127.0.0.1:6379", 0),
        ("redis://localhost", 0),
        ("redis://[::1]:6379", 0),
        ("unix:///run/redis.sock", 0),
        ("rediss://redis", 0),
        ("redis://redis", 1),
    ] {
        let config = parse(&with("/sessions", redis(json!({"url": url})))).unwrap();
        assert_eq!(config.warnings.len(), warnings, "{url}: {:?}", config.warnings);
    }
    let mut without_keys = with("/sessions", redis(json!({})));
    without_keys["keys"] = json!([]);
    let errors = errors(&without_keys);
    assert!(errors.iter().any(|(path, message)| path == "sessions.store" && message.contains("needs keys")));
}
