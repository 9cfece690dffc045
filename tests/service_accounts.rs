//! Pods that prove who they are by service-account tokens of Kubernetes' own API server.

use crate::steps::{SOON, claims, now};
use keycloak_bff_testbed::kubernetes::OldKeys;
use keycloak_bff_testbed::provider::sign_none;
use keycloak_bff_testbed::{Cluster, Response, Stand, UserAgent, wait};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the tokens must be made for.
pub const AUDIENCE: &str = "keycloak-bff";

/// For how long the API server's word is kept.
const A_MINUTE: Duration = Duration::from_secs(60);

/// How the program knows whose a token is.
#[derive(Clone, Copy, Debug)]
pub enum By {
    /// By the keys that the issuer's discovery document leads to.
    Discovery,
    /// By the keys at an address of the configuration.
    Keys,
    /// By the API server's review.
    Reviews,
}

/// A namespace of a test, whose service account `trainer` is allowed, and what the program asks the API server with.
pub struct Namespace {
    pub name: String,
    token_file: PathBuf,
}

impl Namespace {
    pub async fn new(cluster: &Cluster) -> Self {
        let name = cluster.new_namespace(&["trainer", "default"]).await;
        let token_file = cluster.program_token_file(&name).await;
        Self { name, token_file }
    }

    /// A configuration that believes the cluster.
    pub fn trust(&self, cluster: &Cluster, by: By) -> impl FnOnce(&mut Value) + Send + 'static {
        let mut accounts = trusted(cluster, by, &self.token_file);
        accounts["audience"] = json!(AUDIENCE);
        let allowed = json!([{"namespace": self.name, "service_account": "trainer"}]);
        move |config| {
            config["models"][0]["on_behalf_of_users"] = json!([]);
            config["workloads"] = json!({"service_accounts": accounts});
            config["models"][0]["allowed"] = allowed;
        }
    }

    /// A fresh token of `trainer`.
    async fn token(&self, cluster: &Cluster) -> String {
        cluster.token(&self.name, "trainer", Some(AUDIENCE)).await
    }
}

fn trusted(cluster: &Cluster, by: By, token_file: &Path) -> Value {
    let (url, ca_file) = (cluster.url(), cluster.ca_file());
    match by {
        By::Discovery => json!({"issuer": url, "ca_file": ca_file, "token_file": token_file}),
        By::Keys => json!({
            "issuer": url, "jwks_uri": cluster.jwks_uri(), "ca_file": ca_file, "token_file": token_file,
        }),
        By::Reviews => json!({"api_server": url, "ca_file": ca_file, "token_file": token_file}),
    }
}

async fn stand(cluster: &Cluster, namespace: &Namespace, by: By) -> Stand {
    Stand::builder().with_models().program(namespace.trust(cluster, by)).start().await
}

async fn ask(stand: &Stand, credential: &str) -> Response {
    let address = format!("{}/get_model_tokens", stand.internal_listener());
    UserAgent::new().fetch(address).header("authorization", format!("Bearer {credential}")).await
}

/// The answer's status, and its word for what is wrong.
async fn outcome(stand: &Stand, credential: &str) -> (u16, Option<String>) {
    let answer = ask(stand, credential).await;
    (answer.status, answer.json()["error"].as_str().map(str::to_owned))
}

fn refused(status: u16, error: &str) -> (u16, Option<String>) {
    (status, Some(error.to_owned()))
}

async fn until_status(stand: &Stand, credential: &str, status: u16, limit: Duration) {
    let has_come = async || (ask(stand, credential).await.status == status).then_some(());
    wait::until(&format!("status {status}"), limit, has_come).await;
}

/// The token with another letter at the beginning of its part of this number.
fn tampered(token: &str, part: usize) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let other = if parts[part].starts_with('A') { "B" } else { "A" };
    parts[part].replace_range(..1, other);
    parts.join(".")
}

#[tokio::test]
async fn a_pod_of_a_real_cluster_proves_who_it_is() {
    let cluster = Cluster::shared().await;
    let namespace = Namespace::new(&cluster).await;
    let elsewhere = cluster.new_namespace(&["trainer"]).await;
    let own = &namespace.name;
    cluster.create_pod(own, "trainer-0", "trainer").await;
    let projected = cluster.pod_token(own, "trainer", "trainer-0", AUDIENCE).await;
    let good = namespace.token(&cluster).await;
    let from_elsewhere = cluster.token(&elsewhere, "trainer", Some(AUDIENCE)).await;
    let default = cluster.token(own, "default", Some(AUDIENCE)).await;
    let payload = good.split('.').nth(1).expect("a JWT has three parts");
    let another_payload = default.replace(default.split('.').nth(1).expect("three parts"), payload);
    let ended = json!({"iat": now() - 700, "nbf": now() - 700, "exp": now() - 100});
    let bad = [
        ("expired", cluster.sign_anew(&good, &ended)),
        ("another audience", cluster.token(own, "trainer", Some("another")).await),
        ("for the API server", cluster.token(own, "trainer", None).await),
        ("algorithm none", sign_none("JWT", &claims(&good))),
        ("without a signature", format!("{}.", good.rsplit_once('.').expect("three parts").0)),
        ("a tampered signature", tampered(&good, 2)),
        ("another token's claims", another_payload),
        ("the administrator's", "admin-token".to_owned()),
    ];
    let mut stand = stand(&cluster, &namespace, By::Discovery).await;
    for by in [By::Discovery, By::Keys, By::Reviews] {
        stand.reconfigure(namespace.trust(&cluster, by)).await;
        for (what, token) in [("good", &good), ("of a pod", &projected)] {
            let answer = ask(&stand, token).await;
            assert_eq!(answer.status, 200, "{by:?}, {what}: {}\n{}", answer.text(), stand.program.log());
        }
        for (what, token) in [("another namespace", &from_elsewhere), ("the default account", &default)] {
            assert_eq!(outcome(&stand, token).await, refused(403, "not_allowed"), "{by:?}, {what}");
        }
        for (what, token) in &bad {
            let answer = ask(&stand, token).await;
            let challenge = answer.header("www-authenticate");
            let expected = (401, Some("Bearer error=\"invalid_token\""));
            assert_eq!((answer.status, challenge.as_deref()), expected, "{by:?}, {what}: {}", answer.text());
        }
    }
    let log = stand.program.log();
    assert!(log.contains(&format!("service account {own}/trainer")), "the log says who asked");
    assert!(log.contains(&format!("service account {elsewhere}/trainer")), "also who was not allowed");
    for token in [&good, &projected, &default] {
        assert!(!log.contains(token.rsplit('.').next().expect("three parts")), "the log holds no token");
    }
}

#[tokio::test]
async fn the_keys_may_be_elsewhere_than_the_issuer() {
    let cluster = Cluster::shared().await;
    let namespace = Namespace::new(&cluster).await;
    // Most clusters' issuer: a name that only means something inside of them, where nobody answers from here.
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let token = cluster.sign_anew(&namespace.token(&cluster).await, &json!({"iss": issuer}));
    let mut stand = stand(&cluster, &namespace, By::Keys).await;
    stand.reconfigure(|config| config["workloads"]["service_accounts"]["issuer"] = json!(issuer)).await;
    assert_eq!(ask(&stand, &token).await.status, 200, "{}", stand.program.log());
    let its_own = namespace.token(&cluster).await;
    assert_eq!(outcome(&stand, &its_own).await, refused(401, "invalid_token"), "the issuer is compared");
    let without_keys = |config: &mut Value| {
        let accounts = config["workloads"]["service_accounts"].as_object_mut().expect("an object");
        accounts.remove("jwks_uri");
    };
    stand.reconfigure(without_keys).await;
    assert_eq!(outcome(&stand, &token).await, refused(503, "cannot_verify"), "discovery leads nowhere");

    stand.reconfigure(namespace.trust(&cluster, By::Keys)).await;
    let without_token = |config: &mut Value| {
        let accounts = config["workloads"]["service_accounts"].as_object_mut().expect("an object");
        accounts.remove("token_file");
    };
    stand.reconfigure(without_token).await;
    assert_eq!(
        outcome(&stand, &its_own).await,
        refused(503, "cannot_verify"),
        "not everyone is told the keys"
    );
}

#[tokio::test]
async fn who_was_deleted_is_refused_by_the_api_server_and_not_by_keys_alone() {
    let cluster = Cluster::shared().await;
    let namespace = Namespace::new(&cluster).await;
    let own = &namespace.name;
    let stand_by_keys = stand(&cluster, &namespace, By::Keys).await;
    let stand = stand(&cluster, &namespace, By::Reviews).await;
    cluster.create_pod(own, "trainer-0", "trainer").await;
    let pod = cluster.pod_token(own, "trainer", "trainer-0", AUDIENCE).await;
    let account = namespace.token(&cluster).await;
    let unseen = namespace.token(&cluster).await;
    assert_eq!(ask(&stand, &account).await.status, 200);

    cluster.delete_pod(own, "trainer-0").await;
    cluster.until_refused(&pod, AUDIENCE).await;
    assert_eq!(
        outcome(&stand, &pod).await,
        refused(401, "invalid_token"),
        "at once: nobody had asked with it"
    );

    cluster.delete_service_account(own, "trainer").await;
    cluster.until_refused(&account, AUDIENCE).await;
    assert_eq!(outcome(&stand, &unseen).await, refused(401, "invalid_token"), "at once");
    until_status(&stand, &account, 401, A_MINUTE + SOON).await;
    for token in [&pod, &account, &unseen] {
        assert_eq!(ask(&stand_by_keys, token).await.status, 200, "until its end, as documented");
    }
}

#[tokio::test]
async fn the_cluster_may_change_its_signing_key() {
    let mut cluster = Cluster::start().await;
    let namespace = Namespace::new(&cluster).await;
    let first = namespace.token(&cluster).await;
    let unseen = namespace.token(&cluster).await;
    let stand_by_keys = stand(&cluster, &namespace, By::Keys).await;
    let stand = stand(&cluster, &namespace, By::Reviews).await;
    assert_eq!(ask(&stand_by_keys, &first).await.status, 200);

    cluster.rotate_signing_key(OldKeys::Kept).await;
    let second = namespace.token(&cluster).await;
    for token in [&first, &second] {
        assert_eq!(ask(&stand_by_keys, token).await.status, 200, "both keys are published");
        assert_eq!(ask(&stand, token).await.status, 200);
    }

    // The token that the program itself asks with is one of the old key's.
    cluster.rotate_signing_key(OldKeys::Removed).await;
    let third = namespace.token(&cluster).await;
    assert_eq!(outcome(&stand, &third).await, refused(503, "cannot_verify"), "it must be read anew");
    let own = cluster.token(&namespace.name, "keycloak-bff", None).await;
    std::fs::write(&namespace.token_file, own).expect("the token can be written");
    until_status(&stand, &third, 200, SOON).await;
    until_status(&stand_by_keys, &third, 200, SOON).await;
    for token in [&first, &second] {
        assert_eq!(outcome(&stand_by_keys, token).await, refused(401, "invalid_token"), "its key is gone");
    }
    assert_eq!(outcome(&stand, &unseen).await, refused(401, "invalid_token"));
}

#[tokio::test]
async fn without_the_api_server_only_those_who_are_known_go_on() {
    let mut cluster = Cluster::start().await;
    let namespace = Namespace::new(&cluster).await;
    let (known, unknown) = (namespace.token(&cluster).await, namespace.token(&cluster).await);
    let mut stand_by_keys = stand(&cluster, &namespace, By::Keys).await;
    let stand = stand(&cluster, &namespace, By::Reviews).await;
    assert_eq!(ask(&stand_by_keys, &known).await.status, 200);
    assert_eq!(ask(&stand, &known).await.status, 200);

    cluster.stop().await;
    assert_eq!(ask(&stand, &known).await.status, 200, "for a minute");
    let answer = ask(&stand, &unknown).await;
    assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("cannot_verify")));
    assert!(answer.header("retry-after").is_some());
    for token in [&known, &unknown] {
        assert_eq!(ask(&stand_by_keys, token).await.status, 200, "the keys are at hand");
    }
    stand_by_keys.program.restart().await;
    assert_eq!(outcome(&stand_by_keys, &known).await, refused(503, "cannot_verify"), "and now they are not");

    cluster.start_again().await;
    for stand in [&stand, &stand_by_keys] {
        until_status(stand, &unknown, 200, SOON).await;
    }
}
