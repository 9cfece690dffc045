//! A provider's settings for tests of its tokens.

use std::time::Duration;

use super::{ClientAuthentication, ProviderSettings, SIGNATURE_ALGORITHMS};
use crate::clock::Timestamp;

pub(super) const NOW: Timestamp = Timestamp::from_unix(1_700_000_000);
pub(super) const SKEW: u64 = 10;
pub(super) const ISSUER: &str = "https://id.example.com/realms/users";
pub(super) const CLIENT: &str = "bff";

pub(super) fn settings() -> ProviderSettings {
    ProviderSettings {
        name: "users".into(),
        issuer: ISSUER.into(),
        client_id: CLIENT.to_owned(),
        client_authentication: ClientAuthentication::Public,
        scopes: Vec::new(),
        signature_algorithms: SIGNATURE_ALGORITHMS.to_vec(),
        trusted_audiences: vec!["trusted".to_owned()],
        clock_skew: Duration::from_secs(SKEW),
        metadata_lifetime: Duration::ZERO,
        keys_lifetime: Duration::ZERO,
        concurrent_refreshes: 32,
    }
}
