use deserr::Deserr;

use super::{
    Checker,
    errors::{At, ShapeErrors},
};
use crate::telemetry::{LogFormat, LogSettings, parse_levels};

/// What is logged, to standard error.
#[derive(Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct LogSection {
    #[deserr(default = "info".to_owned())]
    level: String,
    #[deserr(default = Format::Json)]
    format: Format,
}

#[derive(Clone, Copy, Deserr)]
#[deserr(error = ShapeErrors, rename_all = lowercase)]
enum Format {
    Text,
    Json,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Json }
    }
}

impl LogSection {
    pub(super) fn check(self, at: &At<'_>, checker: &mut Checker<'_>) -> Option<LogSettings> {
        let format = match self.format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        };
        match parse_levels(&self.level) {
            Ok(levels) => Some(LogSettings { levels, format }),
            Err(error) => {
                checker.error(&at.key("level"), error.to_string());
                None
            }
        }
    }
}
