//! The test bed: starts the real Envoy, Keycloak, Chromium and keycloak-bff on loopback, and acts as their users.
//!
//! It knows nothing of the program's inside. Whatever goes wrong here ends in a panic that says what was missing.

pub mod certificates;
pub mod chromium;
pub mod cookies;
pub mod demo;
pub mod deployment;
pub mod envoy;
pub mod files;
pub mod gate;
pub mod keycloak;
pub mod kubernetes;
pub mod make;
pub mod mesh;
pub mod overlay;
pub mod ports;
pub mod process;
pub mod program;
pub mod provider;
pub mod raw;
pub mod redis;
pub mod redis_cluster;
pub mod replicas;
pub mod response;
pub mod stand;
pub mod tools;
pub mod upstream;
pub mod user_agent;
pub mod wait;

pub use deployment::Deployment;
pub use gate::Gate;
pub use keycloak::Keycloak;
pub use kubernetes::Cluster;
pub use overlay::Overlay;
pub use provider::Provider;
pub use redis::Redis;
pub use redis_cluster::{RedisCluster, RedisSentinels};
pub use replicas::Replicas;
pub use response::Response;
pub use stand::Stand;
pub use user_agent::UserAgent;
