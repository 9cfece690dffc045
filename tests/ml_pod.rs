//! The sample of a pod that uses model tokens: `k8s/ml-pod`.

use crate::service_accounts::{AUDIENCE, By, Namespace};
use crate::steps::{SOON, claims};
use keycloak_bff_testbed::process::Process;
use keycloak_bff_testbed::{Cluster, Stand, files, wait};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::process::Command;

/// The sample's only object of this kind.
fn object(kind: &str) -> Value {
    let found = files::manifests("ml-pod/ml-pod.yaml").into_iter().find(|object| object["kind"] == kind);
    found.unwrap_or_else(|| panic!("the sample has no {kind}"))
}

/// What the Deployment runs, as a pod of its own.
fn pod() -> Value {
    let template = &object("Deployment")["spec"]["template"];
    let metadata = json!({"name": "trainer-0", "namespace": "ml", "labels": template["metadata"]["labels"]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

#[tokio::test]
async fn a_cluster_that_restricts_its_pods_takes_the_sample() {
    let cluster = Cluster::shared().await;
    for manifest in files::manifests("ml-pod/ml-pod.yaml") {
        // What is below must have somewhere to be.
        let answer = match manifest["kind"].as_str() {
            Some("Namespace" | "ServiceAccount") => cluster.create(&manifest).await,
            _ => cluster.dry_run(&manifest).await,
        };
        assert_eq!((answer.status, answer.warnings.as_slice()), (201, [].as_slice()), "{}", answer.body);
    }
    let answer = cluster.dry_run(&pod()).await;
    assert_eq!((answer.status, answer.warnings.as_slice()), (201, [].as_slice()), "{}", answer.body);

    // The cluster does look.
    let mut as_root = pod();
    as_root["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
    assert_eq!(cluster.dry_run(&as_root).await.status, 403);
    let mut as_root = object("Deployment");
    as_root["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
    assert_eq!(cluster.dry_run(&as_root).await.warnings.len(), 1);
    let mut misspelt = object("Deployment");
    misspelt["spec"]["template"]["spec"]["serviceAcountName"] = json!("trainer");
    assert_eq!(cluster.dry_run(&misspelt).await.status, 400);
}

#[test]
fn the_sample_finds_what_it_mounts() {
    let spec = &pod()["spec"];
    let container = &spec["containers"][0];
    let mounted_at = |volume: &str| {
        let mounts = container["volumeMounts"].as_array().expect("a list").iter();
        let mount = mounts.into_iter().find(|mount| mount["name"] == volume).expect("the volume is mounted");
        mount["mountPath"].as_str().expect("a path").to_owned()
    };
    assert_eq!(container["command"], json!(["python3", format!("{}/main.py", mounted_at("program"))]));
    assert_eq!(spec["volumes"][0]["configMap"]["name"], object("ConfigMap")["metadata"]["name"]);
    let projected = &spec["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(*projected, json!({"audience": AUDIENCE, "expirationSeconds": 600, "path": "token"}));
    assert_eq!(environment()["POD_TOKEN_FILE"], format!("{}/token", mounted_at("pod-token")));
    assert_eq!(spec["serviceAccountName"], object("ServiceAccount")["metadata"]["name"]);
}

/// The variables that the sample's container is given.
fn environment() -> BTreeMap<String, String> {
    let variables = pod()["spec"]["containers"][0]["env"].clone();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let variables = variables.as_array().expect("a list").iter();
    variables.map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
}

/// The tokens that the model server was called with, in their order.
fn presented(stand: &Stand) -> Vec<String> {
    let calls = stand.upstream.received().into_iter();
    let token = |call: Value| {
        call["headers"]["authorization"][0].as_str()?.strip_prefix("Bearer ").map(str::to_owned)
    };
    calls.filter_map(token).collect()
}

#[tokio::test]
async fn the_samples_loop_calls_its_model_with_tokens_of_the_second_realm() {
    let cluster = Cluster::shared().await;
    let namespace = Namespace::new(&cluster).await;
    let short = |config: &mut Value| config["models"][0]["least_token_life"] = json!("1s");
    let trust = namespace.trust(&cluster, By::Keys);
    let stand = Stand::builder().with_models().program(trust).program(short).start().await;
    stand.models().update(&json!({"accessTokenLifespan": 8})).await;
    stand.models_gate().close().await;

    let (script, token_file) = (stand.dir().join("main.py"), stand.dir().join("pod-token"));
    let program = object("ConfigMap")["data"]["main.py"].as_str().expect("a program").to_owned();
    fs::write(&script, program).expect("the script can be written");
    fs::write(&token_file, "one-of-yesterday").expect("the token can be written");
    let mut variables = environment();
    for (name, value) in [
        ("TOKENS_URL", format!("{}/get_model_tokens", stand.internal_listener())),
        ("POD_TOKEN_FILE", token_file.display().to_string()),
        ("MODEL_URL", format!("http://127.0.0.1:{}/ml/echo", stand.ports.upstream)),
        ("MIN_VALIDITY", "4".to_owned()),
        ("RENEW_AHEAD", "2".to_owned()),
        ("PAUSE", "0.1".to_owned()),
    ] {
        assert!(variables.insert(name.to_owned(), value).is_some(), "the sample sets {name}");
    }
    let mut pod = Process::spawn("ml-pod", Command::new("python3").arg(script).envs(variables), stand.dir());
    let says = async |text: &str| {
        let is_said = async || pod.log().contains(text).then_some(());
        wait::until(&format!("the loop to say {text:?}"), SOON, is_said).await;
    };
    says("no token: status 401").await;
    cluster.create_pod(&namespace.name, "trainer-0", "trainer").await;
    let own = cluster.pod_token(&namespace.name, "trainer", "trainer-0", AUDIENCE).await;
    fs::write(&token_file, format!("{own}\n")).expect("the token can be written");
    says("no token: status 503").await;
    assert_eq!(presented(&stand), Vec::<String>::new());
    stand.models_gate().open().await;
    says("the model answers").await;

    let is_renewed = async || {
        let tokens = presented(&stand);
        (tokens.last() != tokens.first()).then_some(())
    };
    wait::until("another token", SOON, is_renewed).await;
    let tokens = presented(&stand);
    let different: HashSet<&String> = tokens.iter().collect();
    let given = stand.program.log().matches("model token given").count();
    // The last one may be on its way to the model.
    assert!(
        given <= different.len() + 1,
        "a token is kept while it lives: {given} for {} calls",
        tokens.len()
    );
    for token in &tokens {
        let claims = claims(token);
        assert!(claims["iss"].as_str().is_some_and(|issuer| issuer.contains("/realms/models-")), "{claims}");
        assert!(!pod.log().contains(token), "the loop logs no token");
    }
    assert!(!pod.log().contains(&own));
    assert_eq!(pod.stop().await.code(), Some(0), "{}", pod.log());
}
