use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt;
use http::{header, request::Parts};
use tokio::time::timeout;

/// How long a caller may take to send its form.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A body is not a form that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormError {
    /// It is no form, or did not arrive.
    NoForm,
    /// It is larger than any real one.
    TooLarge,
}

/// Reads a form of at most `maximum` bytes: its fields in their order, decoded.
pub(super) async fn read_form(
    parts: &Parts,
    body: Body,
    maximum: usize,
) -> Result<Vec<(String, String)>, FormError> {
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(FormError::NoForm);
    }
    let read = timeout(BODY_TIMEOUT, read(body.into_data_stream(), maximum)).await;
    let form = read.map_err(|_| FormError::NoForm)??;
    Ok(url::form_urlencoded::parse(&form).into_owned().collect())
}

async fn read(mut body: BodyDataStream, maximum: usize) -> Result<Vec<u8>, FormError> {
    let mut form = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| FormError::NoForm)?;
        if form.len() + chunk.len() > maximum {
            return Err(FormError::TooLarge);
        }
        form.extend_from_slice(&chunk);
    }
    Ok(form)
}
