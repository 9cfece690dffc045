use serde_json::{Value, json};

use super::*;

const DIGEST: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

/// A configuration with one model that one key may ask for, and these changes.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = json!({
        "listeners": {"grpc": "127.0.0.1:9191", "browser": "127.0.0.1:8081", "internal": "127.0.0.1:8082"},
        "providers": [{
            "name": "models", "issuer": "https://id.example.com/realms/models", "client_id": "ml",
            "client_secret": {"value": "secret"}
        }],
        "models": [{
            "name": "ml", "provider": "models", "grants": ["client_credentials"], "allowed": [{"key": "dev"}]
        }],
        "workloads": {"keys": [{"name": "dev", "sha256": DIGEST}]},
        "frontends": [{
            "name": "app", "provider": "models", "origins": ["https://app.example.com"],
            "rules": [{"path": "/ml/*", "session": "required", "token": "model"}]
        }]
    });
    if !pointer.is_empty() {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match (config.pointer_mut(parent).unwrap(), value) {
            (Value::Object(map), Value::Null) => drop(map.remove(key)),
            (Value::Object(map), value) => drop(map.insert(key.to_owned(), value)),
            (Value::Array(list), value) => list[key.parse::<usize>().unwrap()] = value,
            (other, _) => panic!("{other}"),
        }
    }
    config
}

fn parse(config: &Value) -> Result<Config, ConfigErrors> {
    Config::parse(&config.to_string(), &|_| None)
}

#[test]
fn a_model_and_its_workloads_are_read() {
    let config = parse(&with("", Value::Null)).unwrap();
    assert_eq!((&*config.models[0].settings.name, config.models[0].settings.allowed.len()), ("ml", 1));
    let keys = config.warnings.iter().filter(|warning| warning.contains("workloads.keys"));
    assert_eq!(keys.count(), 1, "static keys are for development");
}

#[test]
fn the_keys_of_a_cluster_may_be_elsewhere_than_its_discovery_says() {
    let keys = |jwks_uri: &Value| {
        let accounts = json!({"issuer": "https://c.example", "jwks_uri": jwks_uri, "audience": "bff"});
        let config = parse(&with("/workloads/service_accounts", accounts)).unwrap();
        match config.workloads.service_accounts.unwrap().verified_by {
            VerifiedBy::Issuer { issuer, jwks_uri } => (issuer.to_string(), jwks_uri.map(String::from)),
            VerifiedBy::ApiServer(server) => panic!("{server}"),
        }
    };
    for uri in ["https://kubernetes.default.svc/openid/v1/jwks", "http://localhost:8001/openid/v1/jwks"] {
        assert_eq!(keys(&json!(uri)), ("https://c.example".to_owned(), Some(uri.to_owned())));
    }
    assert_eq!(keys(&Value::Null).1, None);
}

#[test]
fn workloads_of_the_mesh_are_believed_where_only_the_proxy_can_connect() {
    let with_listener = |grpc: &str| {
        let mut config = with("/workloads", json!({"mesh": {"hosts": ["models.mesh"]}}));
        config["listeners"] = json!({"grpc": grpc, "browser": "127.0.0.1:8081"});
        config["models"][0]["allowed"] = json!([{"principal": "spiffe://cluster.local/ns/ml/sa/trainer"}]);
        config
    };
    let config = parse(&with_listener("unix:/run/grpc.sock")).unwrap();
    assert_eq!(config.workloads.mesh_hosts, ["models.mesh"]);
    assert!(config.listeners.internal.is_none(), "those of the mesh ask through the proxy");
    let errors = parse(&with_listener("127.0.0.1:9191")).err().unwrap().0;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].path, "workloads.mesh");
}

#[test]
fn a_model_by_exchange_is_for_users_of_its_own_realm() {
    let mut config = with("/models/0/grants", json!(["token_exchange"]));
    config["models"][0]["allowed"] = json!([]);
    config["models"][0]["audience"] = json!("orders");
    assert!(parse(&config).is_ok());
    config["providers"].as_array_mut().unwrap().push(json!({
        "name": "users", "issuer": "https://id.example.com/realms/users", "client_id": "bff",
        "client_secret": {"value": "secret"}
    }));
    config["frontends"][0]["provider"] = json!("users");
    let errors = parse(&config).err().unwrap().0;
    assert_eq!(errors[0].path, "frontends[0].rules[0].model");
    assert!(errors[0].message.contains("own realm"), "{errors:?}");
}

#[test]
fn every_mistake_names_its_place() {
    for (pointer, value, path, message) in [
        ("/listeners/internal", Value::Null, "listeners.internal", "is missing"),
        ("/listeners/internal", json!("127.0.0.1:8081"), "listeners.internal", "same address"),
        ("/listeners/internal", json!("0.0.0.0:8082"), "listeners.internal", "loopback"),
        ("/models/0/name", Value::Null, "models[0].name", "is missing"),
        ("/models/0/provider", json!("unknown"), "models[0].provider", "not the name"),
        ("/models/0/grants", Value::Null, "models[0].grants", "at least one"),
        ("/models/0/grants", json!(["jwt_authorization"]), "models[0].allowed", "client_credentials"),
        ("/models/0/grants", json!(["password"]), "models[0].grants[0]", "client_credentials"),
        ("/models/0/scopes", json!(["a b"]), "models[0].scopes", "one word"),
        ("/models/0/audience", json!(""), "models[0].audience", "is empty"),
        (
            "/models/0/on_behalf_of_users",
            json!([{"workload": {"key": "dev"}, "audience": "trainer"}]),
            "models[0].on_behalf_of_users",
            "jwt_authorization",
        ),
        (
            "/models/0/on_behalf_of_users",
            json!([{"workload": {"key": "dev"}}]),
            "models[0].on_behalf_of_users[0].audience",
            "is missing",
        ),
        ("/providers/0/private_key_id", json!("k"), "providers[0].private_key_id", "needs a private_key"),
        ("/models/0/refresh_ahead", json!("5s"), "models[0].refresh_ahead", "longer"),
        ("/models/0/least_token_life", json!("10ms"), "models[0].least_token_life", "at least 1s"),
        ("/models/0/allowed", json!([{"key": "unknown"}]), "models[0].allowed[0].key", "not the name"),
        ("/models/0/allowed", json!([{}]), "models[0].allowed[0]", "must have either"),
        (
            "/models/0/allowed",
            json!([{"namespace": "ml", "service_account": "trainer"}]),
            "models[0].allowed[0].service_account",
            "needs",
        ),
        (
            "/workloads/service_accounts",
            json!({"issuer": "http://cluster.example", "audience": "bff"}),
            "workloads.service_accounts.issuer",
            "http",
        ),
        ("/workloads/service_accounts", json!({}), "workloads.service_accounts.audience", "is missing"),
        ("/workloads/service_accounts", json!({"audience": "bff"}), "workloads.service_accounts", "either"),
        (
            "/workloads/service_accounts",
            json!({"api_server": "https://cluster.example", "audience": "bff"}),
            "workloads.service_accounts.token_file",
            "is missing",
        ),
        (
            "/workloads/service_accounts",
            json!({"issuer": "https://c.example", "jwks_uri": "http://c.example/keys", "audience": "bff"}),
            "workloads.service_accounts.jwks_uri",
            "must be https",
        ),
        (
            "/workloads/service_accounts",
            json!({"issuer": "https://c.example", "jwks_uri": "keys", "audience": "bff"}),
            "workloads.service_accounts.jwks_uri",
            "not a URL",
        ),
        (
            "/workloads/service_accounts",
            json!({"api_server": "https://c.example", "jwks_uri": "https://c.example/keys",
                "token_file": "/token", "audience": "bff"}),
            "workloads.service_accounts.jwks_uri",
            "not for api_server",
        ),
        (
            "/workloads/service_accounts",
            json!({"issuer": "https://cluster.example", "audience": "bff", "ca_file": "/nowhere"}),
            "workloads.service_accounts.ca_file",
            "cannot be read",
        ),
        ("/workloads/keys", json!([{"name": "dev", "sha256": "secret"}]), "workloads.keys[0].sha256", "64"),
        ("/frontends/0/rules/0/model", json!("unknown"), "frontends[0].rules[0].model", "not the name"),
        ("/frontends/0/rules/0/token", json!("user"), "", ""),
        (
            "/frontends/0/rules/0/session",
            json!("optional"),
            "frontends[0].rules[0].token",
            "session: required",
        ),
        ("/models", Value::Null, "frontends[0].rules[0].model", "must name one"),
        ("/models/0/grants", json!(["token_exchange"]), "models[0].audience", "is missing"),
        ("/models/0/grants", json!(["token_exchange", "jwt_authorization"]), "models[0].grants", "two ways"),
        ("/frontends/0/rules/0/token", json!("exchange"), "frontends[0].rules[0].audience", "is missing"),
        (
            "/frontends/0/rules/0/audience",
            json!("orders"),
            "frontends[0].rules[0].audience",
            "token: exchange",
        ),
        (
            "/frontends/0/rules/0",
            json!({"path": "/o/*", "session": "optional", "token": "exchange", "audience": "orders"}),
            "frontends[0].rules[0].token",
            "session: required",
        ),
        (
            "/frontends/0/rules/0",
            json!({"path": "/o/*", "session": "required", "token": "exchange", "audience": ""}),
            "frontends[0].rules[0].audience",
            "is empty",
        ),
        ("/workloads/mesh", json!({"hosts": ["models.mesh"]}), "workloads.mesh", "anyone who reaches"),
        ("/workloads/mesh", json!({}), "workloads.mesh.hosts", "at least one host"),
        ("/workloads/mesh", json!({"hosts": ["a:80"]}), "workloads.mesh.hosts[0]", "without a port"),
        ("/workloads/mesh", json!({"hosts": ["App.example.com"]}), "workloads.mesh.hosts[0]", "a frontend"),
        (
            "/models/0/allowed",
            json!([{"principal": "spiffe://x"}]),
            "models[0].allowed[0].principal",
            "needs",
        ),
        ("/models/0/allowed", json!([{"principal": "x", "key": "dev"}]), "models[0].allowed[0]", "either"),
        ("/listeners/grpc_tls", json!({}), "listeners.grpc_tls.certificate_file", "is missing"),
        (
            "/listeners/grpc_tls",
            json!({"certificate_file": "/nowhere.pem", "key_file": "/nowhere.key"}),
            "listeners.grpc_tls",
            "/nowhere.pem cannot be read",
        ),
        (
            "/listeners/browser_tls",
            json!({"certificate_file": "/nowhere.pem", "key_file": "/nowhere.key", "clients": ["proxy"]}),
            "listeners.browser_tls.client_ca_file",
            "is missing",
        ),
        (
            "/listeners",
            json!({"grpc": "unix:/grpc", "browser": "127.0.0.1:1", "internal": "127.0.0.1:2",
                "grpc_tls": {"certificate_file": "/c", "key_file": "/k"}}),
            "listeners.grpc_tls",
            "of no use on a unix socket",
        ),
    ] {
        let found = match parse(&with(pointer, value.clone())) {
            Ok(_) => Vec::new(),
            Err(ConfigErrors(errors)) => errors,
        };
        let named = found.iter().any(|error| error.path == path && error.message.contains(message));
        assert!(named || (path.is_empty() && found.is_empty()), "{pointer} = {value} gave {found:?}");
    }
}
