use serde_json::Value;

use super::{
    ConfigError, File,
    errors::{PathStep, ShapeErrors},
};

/// Gives a file its shape. What does not fit is noted and taken out, so that everything else can still be checked and
/// all errors of a file come to light at once. `None` if nothing fits at all.
pub(super) fn read(mut yaml: Value, errors: &mut Vec<ConfigError>) -> Option<File> {
    loop {
        match deserr::deserialize::<File, Value, ShapeErrors>(yaml.clone()) {
            Ok(file) => return Some(file),
            Err(ShapeErrors(found)) => {
                for error in found {
                    let removed = remove(&mut yaml, &error.steps);
                    errors.push(ConfigError { path: error.path(), message: error.message });
                    if !removed {
                        return None;
                    }
                }
            }
        }
    }
}

/// Takes the value at the end of `steps` out. An element of a list takes its whole list along, because the others
/// would move up and be called by wrong numbers.
fn remove(value: &mut Value, steps: &[PathStep]) -> bool {
    let Some(last_key) = steps.iter().rposition(|step| matches!(step, PathStep::Key(_))) else {
        return false;
    };
    let mut parent = value;
    for step in &steps[..last_key] {
        let child = match step {
            PathStep::Key(key) => parent.get_mut(key),
            PathStep::Index(index) => parent.get_mut(index),
        };
        match child {
            Some(child) => parent = child,
            // Its list is gone already, for another error.
            None => return true,
        }
    }
    match (&steps[last_key], parent.as_object_mut()) {
        (PathStep::Key(key), Some(map)) => {
            map.remove(key);
            true
        }
        _ => false,
    }
}
