use std::io;

use tracing::{Level, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// What is logged.
    pub levels: Targets,
    /// How it looks.
    pub format: LogFormat,
}

/// A text names no log levels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is neither a level (error, warn, info, debug, trace) nor a list such as info,flow=debug")]
pub struct LogLevelError;

/// Reads `info` or `info,flow=debug`: a level, and levels of single rooms of this program.
///
/// Other people's code is heard at `warn` and above only, whatever is asked for: at lower levels HTTP libraries print
/// what they carry, and what they carry here is secret.
///
/// # Errors
/// [`LogLevelError`] for anything else.
pub fn parse_levels(text: &str) -> Result<Targets, LogLevelError> {
    const OWN: &str = env!("CARGO_CRATE_NAME");
    let level = |text: &str| text.trim().parse::<Level>().map_err(|_| LogLevelError);
    let mut targets = Targets::new().with_default(LevelFilter::WARN);
    for part in text.split(',') {
        targets = match part.split_once('=') {
            Some((room, part)) if !room.trim().is_empty() => {
                targets.with_target(format!("{OWN}::{}", room.trim()), level(part)?)
            }
            Some(_) => return Err(LogLevelError),
            None => targets.with_target(OWN, level(part)?),
        };
    }
    Ok(targets)
}

/// Starts logging to standard error. A second call changes nothing.
pub fn init(settings: &LogSettings) {
    let layer = match settings.format {
        LogFormat::Text => fmt::layer().with_writer(io::stderr).with_ansi(false).boxed(),
        // There are no spans, so none are looked for at each line.
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true);
            layer.with_current_span(false).with_span_list(false).with_writer(io::stderr).boxed()
        }
    };
    let _ = tracing_subscriber::registry().with(layer.with_filter(settings.levels.clone())).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_for_our_own_code() {
        let levels = parse_levels("info,flow=debug").unwrap();
        for (target, level, enabled) in [
            ("keycloak_bff", Level::INFO, true),
            ("keycloak_bff::web", Level::DEBUG, false),
            ("keycloak_bff::flow::refresh", Level::DEBUG, true),
            ("hyper", Level::INFO, false),
            ("hyper", Level::WARN, true),
        ] {
            assert_eq!(levels.would_enable(target, &level), enabled, "{target} {level}");
        }
        let trace = parse_levels("trace").unwrap();
        assert!(
            !trace.would_enable("reqwest", &Level::DEBUG)
                && trace.would_enable("keycloak_bff", &Level::TRACE)
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "loud", "info,", "=debug", "flow=loud"] {
            assert_eq!(parse_levels(text).unwrap_err(), LogLevelError, "{text}");
        }
    }
}
