use std::{convert::Infallible, fmt, ops::ControlFlow};

use deserr::{DeserializeError, ErrorKind, IntoValue, MergeWithError, ValueKind, ValuePointerRef};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The path of the key, such as `frontends[0].cookie.name`; empty for the file itself.
    pub path: String,
    /// What is wrong. Never repeats a secret.
    pub message: String,
}

/// What does not have the shape of its section, and where it stands, so that it can be taken out and the rest still
/// be checked.
#[derive(Debug, Default)]
pub(super) struct ShapeErrors(pub(super) Vec<ShapeError>);

#[derive(Debug)]
pub(super) struct ShapeError {
    pub(super) steps: Vec<PathStep>,
    pub(super) message: String,
}

#[derive(Clone, Debug)]
pub(super) enum PathStep {
    Key(String),
    Index(usize),
}

impl ShapeError {
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                PathStep::Key(key) if path.is_empty() => path.push_str(key),
                PathStep::Key(key) => path.push_str(&format!(".{key}")),
                PathStep::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn single(path: &str, message: String) -> Self {
        Self(vec![ConfigError { path: path.to_owned(), message }])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// A value has the right type and is wrong all the same; the text says why.
pub(super) struct Wrong(pub(super) &'static str);

impl DeserializeError for ShapeErrors {
    fn error<V: IntoValue>(
        before: Option<Self>,
        error: ErrorKind<'_, V>,
        location: ValuePointerRef<'_>,
    ) -> ControlFlow<Self, Self> {
        let mut errors = before.unwrap_or_default();
        let mut steps = steps_of(location);
        let message = match error {
            // The value itself is not repeated: it might be a secret in the wrong place.
            ErrorKind::IncorrectValueKind { actual, accepted } => {
                let accepted: Vec<&str> = accepted.iter().map(|kind| kind_name(*kind)).collect();
                format!("must be {}, not {}", accepted.join(" or "), kind_name(actual.kind()))
            }
            ErrorKind::MissingField { field } => {
                steps.push(PathStep::Key(field.to_owned()));
                "is missing".to_owned()
            }
            ErrorKind::UnknownKey { key, accepted } => {
                steps.push(PathStep::Key(key.to_owned()));
                format!("unknown key; expected one of {}", accepted.join(", "))
            }
            ErrorKind::UnknownValue { accepted, .. } => format!("must be one of {}", accepted.join(", ")),
            ErrorKind::BadSequenceLen { expected, .. } => format!("must have {expected} elements"),
            ErrorKind::Unexpected { msg } => msg,
        };
        errors.0.push(ShapeError { steps, message });
        ControlFlow::Continue(errors)
    }
}

impl MergeWithError<ShapeErrors> for ShapeErrors {
    fn merge(before: Option<Self>, other: Self, _at: ValuePointerRef<'_>) -> ControlFlow<Self, Self> {
        let mut errors = before.unwrap_or_default();
        errors.0.extend(other.0);
        ControlFlow::Continue(errors)
    }
}

impl MergeWithError<Wrong> for ShapeErrors {
    fn merge(before: Option<Self>, other: Wrong, at: ValuePointerRef<'_>) -> ControlFlow<Self, Self> {
        let message = other.0.to_owned();
        Self::error::<Infallible>(before, ErrorKind::Unexpected { msg: message }, at)
    }
}

fn steps_of(location: ValuePointerRef<'_>) -> Vec<PathStep> {
    let (before, step) = match location {
        ValuePointerRef::Origin => return Vec::new(),
        ValuePointerRef::Key { key, prev } => (*prev, PathStep::Key(key.to_owned())),
        ValuePointerRef::Index { index, prev } => (*prev, PathStep::Index(index)),
    };
    let mut steps = steps_of(before);
    steps.push(step);
    steps
}

const fn kind_name(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Null => "nothing",
        ValueKind::Boolean => "true or false",
        ValueKind::Integer => "a whole number",
        ValueKind::NegativeInteger => "a negative number",
        ValueKind::Float => "a number with a fraction",
        ValueKind::String => "a text",
        ValueKind::Sequence => "a list",
        ValueKind::Map => "a map",
    }
}

/// Where a value stands in the file, while it is checked.
#[derive(Clone)]
pub(super) struct At<'a> {
    above: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(super) const fn root() -> Self {
        Self { above: None, step: Step::Root }
    }

    pub(super) const fn key(&'a self, key: &'a str) -> Self {
        Self { above: Some(self), step: Step::Key(key) }
    }

    pub(super) const fn index(&'a self, index: usize) -> Self {
        Self { above: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(above) = self.above else { return Ok(()) };
        write!(f, "{above}")?;
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) if matches!(above.step, Step::Root) => write!(f, "{key}"),
            Step::Key(key) => write!(f, ".{key}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}
