//! The overlays of `k8s/`, before Kubernetes' own API server, which knows the objects of Istio, Gateway API and Envoy
//! Gateway as well.

use keycloak_bff_testbed::{Cluster, Overlay};
use serde_json::{Value, json};

/// What a Deployment runs, as a pod of its own.
fn pod(deployment: &Value) -> Value {
    let (template, namespace) = (&deployment["spec"]["template"], &deployment["metadata"]["namespace"]);
    let metadata = json!({"name": "pod", "namespace": namespace, "labels": template["metadata"]["labels"]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

#[tokio::test]
async fn the_api_server_takes_every_overlay_and_restricts_none_of_its_pods() {
    // Of its own: in the shared one, others make namespaces of the same names.
    let cluster = Cluster::start().await;
    cluster.define_kinds().await;
    for name in Overlay::names() {
        let overlay = Overlay::build(&name);
        cluster.prepare_for(&overlay).await;
        for namespace in overlay.of_kind("Namespace") {
            let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
            assert_eq!(*level, "restricted", "{name}: {namespace}");
        }
        for object in &overlay.objects {
            let answer = cluster.dry_run_apply(object).await;
            let what = format!("{name}: {} {}", object["kind"], object["metadata"]["name"]);
            assert!(matches!(answer.status, 200 | 201), "{what}: {}", answer.body["message"]);
            assert_eq!(answer.warnings, Vec::<String>::new(), "{what}");
        }
        for deployment in overlay.of_kind("Deployment") {
            let answer = cluster.dry_run(&pod(deployment)).await;
            let what = format!("{name}: a pod of {}", deployment["metadata"]["name"]);
            assert_eq!(answer.status, 201, "{what}: {}", answer.body["message"]);
            assert_eq!(answer.warnings, Vec::<String>::new(), "{what}");
        }
    }

    // The cluster does look: at pods, at fields, at the fields of others.
    let overlay = Overlay::build("istio-gateway");
    let mut as_root = overlay.deployment().clone();
    as_root["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
    assert_eq!(cluster.dry_run(&pod(&as_root)).await.status, 403);
    for (kind, field) in
        [("Deployment", "replica"), ("AuthorizationPolicy", "rule"), ("EnvoyFilter", "patches")]
    {
        let mut misspelt = overlay.of_kind(kind)[0].clone();
        misspelt["spec"][field] = json!([]);
        let answer = cluster.dry_run_apply(&misspelt).await;
        assert!(answer.status >= 400 && answer.body.to_string().contains(field), "{kind}: {answer:?}");
    }
}
