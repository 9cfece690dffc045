//! Applying manifests, with all that they need.

use super::api::SOON;
use super::{Answer, Cluster};
use crate::{Overlay, files, tools, wait};
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;

impl Cluster {
    /// Has the API server know the objects of Istio, Gateway API and Envoy Gateway.
    pub async fn define_kinds(&self) {
        let mut names = Vec::new();
        for file in fs::read_dir(tools::crds()).expect("the definitions are installed") {
            let path = file.expect("a file").path();
            let text = fs::read_to_string(&path).expect("a definition can be read");
            for definition in files::objects(&text, &path.display().to_string()) {
                let answer = self.create(&definition).await;
                assert_eq!(answer.status, 201, "{}: {}", path.display(), answer.body["message"]);
                names.extend(definition["metadata"]["name"].as_str().map(str::to_owned));
            }
        }
        for name in names {
            let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
            let is_established = async || {
                let definition = self.call(Method::GET, &path, None).await;
                let established =
                    |condition: &Value| condition["type"] == "Established" && condition["status"] == "True";
                let conditions = definition["status"]["conditions"].as_array();
                conditions.into_iter().flatten().any(established).then_some(())
            };
            wait::until(&format!("the kind {name}"), SOON, is_established).await;
        }
    }

    /// Makes what an overlay's objects must be in, and what its pods must run as.
    pub async fn prepare_for(&self, overlay: &Overlay) {
        for namespace in overlay.of_kind("Namespace") {
            let name = namespace["metadata"]["name"].as_str().expect("a name");
            self.create_namespace(name, &namespace["metadata"]["labels"]).await;
        }
        for name in overlay.namespaces() {
            self.create_namespace(name, &json!({})).await;
            // A controller makes it in a whole cluster.
            let default = json!({
                "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name},
            });
            self.create(&default).await;
        }
        for account in overlay.of_kind("ServiceAccount") {
            self.create(account).await;
        }
    }

    /// `kubectl apply --server-side --validate=strict`.
    pub async fn apply(&self, manifest: &Value) -> Answer {
        self.apply_with(manifest, "").await
    }

    /// What would become of [`apply`](Self::apply). Nothing is made.
    pub async fn dry_run_apply(&self, manifest: &Value) -> Answer {
        self.apply_with(manifest, "&dryRun=All").await
    }
}
