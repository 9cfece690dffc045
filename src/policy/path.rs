use std::{borrow::Cow, collections::BTreeSet};

use percent_encoding::percent_decode_str;

/// How often a path may be encoded: nobody does it more often in earnest.
const MAXIMUM_ENCODINGS: usize = 3;

/// A request's path, normalised once (RFC 3986 section 6.2.2), for rules to be matched on.
///
/// Servers differ in how they read `%2f`, `\`, `;x` or an encoded `%`: some decode once, some again and again, some
/// drop parameters before they decode, some after. Such a path is kept in every reading. A rule is believed only if
/// all readings lead to it, so that no spelling slips through one rule and is served as another path.
#[derive(Debug, PartialEq, Eq)]
pub struct Path<'a> {
    literal: Cow<'a, str>,
    others: BTreeSet<String>,
}

impl<'a> Path<'a> {
    /// Normalises `raw`, a path without query. `None` for one that no two servers would agree on: not absolute,
    /// malformed, encoded too often, with hidden control characters or hidden dot segments.
    pub fn normalise(raw: &'a str) -> Option<Self> {
        if !raw.starts_with('/') || raw.bytes().any(|byte| byte.is_ascii_control()) {
            return None;
        }
        let plain = !raw.contains(['%', ';', '\\']) && !raw.contains("//") && !raw.contains("/.");
        if plain {
            return Some(Self { literal: Cow::Borrowed(raw), others: BTreeSet::new() });
        }
        let decoded = decode_unreserved(raw)?;
        let literal = merge_slashes(&resolve_dots(&decoded));
        // `/a//../b`: the standard takes `..` for the end of the empty segment, a server that merges slashes first
        // for the end of `a`.
        if merge_slashes(&resolve_dots(&merge_slashes(&decoded))) != literal {
            return None;
        }
        let others = readings(&literal)?;
        Some(Self { literal: Cow::Owned(literal), others })
    }

    /// What `find` says of every reading, if it says the same of all.
    pub fn agreed<T: PartialEq>(&self, find: impl Fn(&str) -> T) -> Option<T> {
        let found = find(&self.literal);
        self.others.iter().all(|other| find(other) == found).then_some(found)
    }
}

/// Every way to read a normalised path: decoded never, once or often, its parameters dropped before any of the
/// decodings or not at all, backslashes taken for slashes or not. `None` if one of them hides what an honest client
/// writes openly.
fn readings(literal: &str) -> Option<BTreeSet<String>> {
    let mut all: BTreeSet<String> = BTreeSet::new();
    let mut latest: BTreeSet<String> = BTreeSet::from([literal.to_owned()]);
    for decodings in 0.. {
        let stripped: Vec<String> = latest.iter().map(|path| without_parameters(path)).collect();
        latest.extend(stripped);
        let mut decoded: BTreeSet<String> = BTreeSet::new();
        for path in &latest {
            if path.chars().any(char::is_control) {
                return None;
            }
            decoded.insert(percent_decode_str(path).decode_utf8().ok()?.into_owned());
        }
        let is_decoded = decoded == latest;
        all.append(&mut latest);
        if is_decoded {
            break;
        }
        if decodings == MAXIMUM_ENCODINGS {
            return None;
        }
        latest = decoded;
    }
    let with_slashes: Vec<String> = all.iter().map(|path| path.replace('\\', "/")).collect();
    all.extend(with_slashes);
    // The literal path has no dot segments left: whatever has some now was hidden.
    if all.iter().any(|path| path.split('/').any(|segment| matches!(segment, "." | ".."))) {
        return None;
    }
    let mut merged: BTreeSet<String> = all.iter().map(|path| merge_slashes(path)).collect();
    merged.remove(literal);
    Some(merged)
}

/// Decodes what needs no encoding (RFC 3986 section 2.3); `None` for a malformed encoding.
fn decode_unreserved(raw: &str) -> Option<String> {
    let mut decoded = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let digits = after.get(..2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            decoded.push(char::from(byte));
        } else {
            decoded.push('%');
            decoded.push_str(&digits.to_ascii_uppercase());
        }
        rest = &after[2..];
    }
    decoded.push_str(rest);
    Some(decoded)
}

/// Drops the parameters of each segment (`;x=y`), as servlet containers do.
fn without_parameters(path: &str) -> String {
    let segments: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    segments.join("/")
}

/// Resolves `.` and `..` (RFC 3986 section 5.2.4).
fn resolve_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let ends_in_slash = path.ends_with("/.") || path.ends_with("/..");
    if ends_in_slash && kept.last() != Some(&"") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn literal(raw: &str) -> Option<String> {
        Path::normalise(raw).map(|path| path.literal.into_owned())
    }

    #[test]
    fn paths_are_normalised() {
        for (raw, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/a//b", "/a/b"),
            ("//", "/"),
            ("/a/./b/../c", "/a/c"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/.hidden/..a", "/.hidden/..a"),
            ("/%61%2Db", "/a-b"),
            ("/%7euser", "/~user"),
            ("/public/%2e%2e/secret", "/secret"),
            ("/a%2fb", "/a%2Fb"),
            ("/caf%C3%A9", "/caf%C3%A9"),
        ] {
            assert_eq!(literal(raw).as_deref(), Some(expected), "{raw}");
        }
    }

    #[test]
    fn a_path_that_can_be_read_in_many_ways_is_kept_in_all_of_them() {
        for (raw, others) in [
            ("/a/b", &[][..]),
            ("/a%2fb", &["/a/b"]),
            ("/a;x/b", &["/a/b"]),
            ("/a\\b", &["/a/b"]),
            ("/a%252fb", &["/a%2fb", "/a/b"]),
            ("/a;x%2fb/c", &["/a/c", "/a/b/c", "/a;x/b/c"]),
            ("/caf%C3%A9", &["/café"]),
        ] {
            let others: BTreeSet<String> = others.iter().map(|&other| other.to_owned()).collect();
            assert_eq!(Path::normalise(raw).map(|path| path.others), Some(others), "{raw}");
        }
    }

    #[test]
    fn what_is_hidden_is_unreadable() {
        for raw in [
            "",
            "a",
            "*",
            "/%",
            "/%2",
            "/%zz",
            "/%+1",
            "/%00",
            "/a%0d%0ab",
            "/a%250ab",
            "/%25252525252541",
            "/%ff",
            "/a\u{0}",
            "/a//../b",
            "/a/..%2fb",
            "/a/..%252fb",
            "/a/..;x/b",
            "/a\\..\\b",
            "/a%5c..%5cb",
            "/a/%252e%252e/b",
        ] {
            assert_eq!(literal(raw), None, "{raw}");
        }
    }

    #[test]
    fn readings_that_disagree_are_not_believed() {
        let agreed =
            |raw: &str| Path::normalise(raw).unwrap().agreed(|reading| reading.starts_with("/public/"));
        assert_eq!(agreed("/public/a%2fb"), Some(true));
        assert_eq!(agreed("/public%2fa"), None);
        assert_eq!(agreed("/public;x/a"), None);
    }

    proptest! {
        #[test]
        fn normalising_is_stable_and_leaves_no_dot_segments(raw in "/[a-z./%25;\\\\]{0,24}") {
            if let Some(path) = Path::normalise(&raw) {
                let again = literal(&path.literal);
                prop_assert_eq!(again.as_deref(), Some(&*path.literal));
                for reading in path.others.iter().map(String::as_str).chain([&*path.literal]) {
                    prop_assert!(reading.starts_with('/'));
                    prop_assert!(!reading.split('/').any(|segment| segment == ".."), "{}", reading);
                }
            }
        }

        #[test]
        fn no_path_panics(raw in "\\PC*") {
            let _ = Path::normalise(&raw);
        }
    }
}
