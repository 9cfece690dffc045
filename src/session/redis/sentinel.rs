use std::io;

use redis::{AsyncConnectionConfig, ConnectionInfo};

use super::{
    RedisSettings,
    settings::{ConnectError, at_address},
};
use std::time::Duration;

/// How long a Sentinel may take to answer before the next one is asked.
const ANSWER: Duration = Duration::from_millis(500);

/// The server that some Sentinel says is the master of this name.
pub(super) async fn master(
    settings: &RedisSettings,
    sentinels: &[ConnectionInfo],
    name: &str,
) -> Result<ConnectionInfo, ConnectError> {
    let mut result = Err(io::Error::other("no Sentinel knows the master").into());
    for sentinel in sentinels {
        match ask(settings, sentinel, name).await {
            Ok(Some((host, port))) => {
                let like = sentinel.clone().set_redis_settings(sentinel.redis_settings().clone());
                return Ok(at_address(&like, host, port));
            }
            Ok(None) => {}
            Err(error) => result = Err(error),
        }
    }
    result
}

async fn ask(
    settings: &RedisSettings,
    sentinel: &ConnectionInfo,
    name: &str,
) -> Result<Option<(String, u16)>, ConnectError> {
    let client = settings.sentinel_client(sentinel).await?;
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(ANSWER)).set_response_timeout(Some(ANSWER));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut question = redis::cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(name);
    Ok(question.query_async(&mut connection).await?)
}
