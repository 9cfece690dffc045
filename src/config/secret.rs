use std::{fs, path::PathBuf};

use deserr::Deserr;
use secrecy::SecretString;

use super::{
    Checker,
    errors::{At, ShapeErrors},
};
use crate::session::redis::Credential;

/// A secret: written into the file, or the name of a file or an environment variable that holds it. Exactly one.
#[derive(Clone, Default, Deserr)]
#[deserr(error = ShapeErrors, deny_unknown_fields)]
pub(super) struct SecretSource {
    #[deserr(default)]
    value: Option<String>,
    #[deserr(default)]
    file: Option<String>,
    #[deserr(default)]
    env: Option<String>,
}

impl SecretSource {
    /// A credential that may change while the program runs, if it is in a file.
    pub(super) fn credential(self, at: &At<'_>, checker: &mut Checker<'_>) -> Option<Credential> {
        let file = self.file.clone();
        // Read once in any case, so that what is missing is known at start.
        let secret = self.read(at, checker)?;
        Some(file.map_or(Credential::Fixed(secret), |file| Credential::File(file.into())))
    }

    /// The secret itself. The newline that editors and `kubectl create secret` leave at the end of a file is no part
    /// of it.
    pub(super) fn read(self, at: &At<'_>, checker: &mut Checker<'_>) -> Option<SecretString> {
        let secret = match (self.value, self.file, self.env) {
            (Some(value), None, None) => Ok(value),
            (None, Some(file), None) => match fs::read_to_string(PathBuf::from(&file)) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(format!("{file} cannot be read: {error}")),
            },
            (None, None, Some(variable)) => (checker.environment)(&variable)
                .ok_or_else(|| format!("the environment variable {variable} is not set")),
            _ => Err("must have exactly one of value, file, env".to_owned()),
        };
        match secret {
            Ok(secret) if secret.is_empty() => {
                checker.error(at, "is empty");
                None
            }
            Ok(secret) => Some(secret.into()),
            Err(message) => {
                checker.error(at, message);
                None
            }
        }
    }
}
