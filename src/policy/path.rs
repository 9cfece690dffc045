use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// How often a path is decoded at most before it is called unreadable: nobody encodes a path that often in earnest.
const DECODING_ROUNDS: usize = 3;

/// A request's path, normalised once (RFC 3986 section 6.2.2), for rules to be matched on.
///
/// Servers differ in how they read `%2f`, `\`, `;x` or an encoded `%`. Such a path has two readings here: one by the
/// letter of the standard and one as the most generous server would read it. A rule is believed only if both readings
/// lead to it, so that no spelling slips through one rule and is served as another path.
#[derive(Debug, PartialEq, Eq)]
pub struct Path<'a> {
    literal: Cow<'a, str>,
    generous: Option<String>,
}

impl<'a> Path<'a> {
    /// Normalises `raw`, a path without query; `None` for one that no two servers would agree on: not absolute,
    /// malformed or control-character encodings, encoded again and again.
    pub fn normalise(raw: &'a str) -> Option<Self> {
        if !raw.starts_with('/') || raw.bytes().any(|byte| byte.is_ascii_control()) {
            return None;
        }
        let plain = !raw.contains(['%', ';', '\\']) && !raw.contains("//") && !raw.contains("/.");
        if plain {
            return Some(Self { literal: Cow::Borrowed(raw), generous: None });
        }
        let literal = resolve_dots(&decode_unreserved(raw)?);
        let generous = resolve_dots(&without_parameters(&decode_all(raw)?));
        let generous = (generous != literal).then_some(generous);
        Some(Self { literal: Cow::Owned(literal), generous })
    }

    /// What `find` says of every reading, if it says the same of all.
    pub fn agreed<T: PartialEq>(&self, find: impl Fn(&str) -> T) -> Option<T> {
        let found = find(&self.literal);
        match &self.generous {
            Some(generous) if find(generous) != found => None,
            _ => Some(found),
        }
    }
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

/// Decodes until nothing is encoded any more; `None` if that takes too long or brings control characters to light.
fn decode_all(raw: &str) -> Option<String> {
    let mut path = raw.to_owned();
    for _ in 0..DECODING_ROUNDS {
        let decoded = percent_decode_str(&path).decode_utf8().ok()?.into_owned();
        if decoded == path {
            let controls = decoded.chars().any(char::is_control);
            return (!controls).then_some(decoded.replace('\\', "/"));
        }
        path = decoded;
    }
    None
}

/// Drops the parameters of each segment (`;x=y`), as servlet containers do.
fn without_parameters(path: &str) -> String {
    let segments: Vec<&str> =
        path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    segments.join("/")
}

/// Resolves `.` and `..` (RFC 3986 section 5.2.4) and merges slashes.
fn resolve_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let ends_in_slash = matches!(segments.last(), Some(&("" | "." | "..")));
    for segment in segments {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            name => kept.push(name),
        }
    }
    let mut resolved = String::from("/");
    resolved.push_str(&kept.join("/"));
    if ends_in_slash && !kept.is_empty() {
        resolved.push('/');
    }
    resolved
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn readings(raw: &str) -> Option<(String, Option<String>)> {
        Path::normalise(raw).map(|path| (path.literal.into_owned(), path.generous))
    }

    #[test]
    fn paths_are_normalised() {
        for (raw, literal, generous) in [
            ("/", "/", None),
            ("/a/b", "/a/b", None),
            ("/a/b/", "/a/b/", None),
            ("/a//b", "/a/b", None),
            ("/a/./b/../c", "/a/c", None),
            ("/../../a", "/a", None),
            ("/a/..", "/", None),
            ("/%61%2Db", "/a-b", None),
            ("/%7euser", "/~user", None),
            ("/public/%2e%2e/secret", "/secret", None),
            ("/a%2fb", "/a%2Fb", Some("/a/b")),
            ("/public/..%2fsecret", "/public/..%2Fsecret", Some("/secret")),
            ("/public/..%252fsecret", "/public/..%252fsecret", Some("/secret")),
            ("/public/..;x/secret", "/public/..;x/secret", Some("/secret")),
            ("/public\\..\\secret", "/public\\..\\secret", Some("/secret")),
            ("/caf%C3%A9", "/caf%C3%A9", Some("/café")),
        ] {
            assert_eq!(readings(raw), Some((literal.to_owned(), generous.map(str::to_owned))), "{raw}");
        }
    }

    #[test]
    fn unreadable_paths_are_none() {
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
            "/%25252525252541",
            "/%ff",
            "/a\u{0}",
        ] {
            assert_eq!(readings(raw), None, "{raw}");
        }
    }

    #[test]
    fn readings_that_disagree_are_not_believed() {
        let path = Path::normalise("/public/..%2fsecret").unwrap();
        assert_eq!(path.agreed(|reading| reading.starts_with("/public/")), None);
        let path = Path::normalise("/public/a%2fb").unwrap();
        assert_eq!(path.agreed(|reading| reading.starts_with("/public/")), Some(true));
    }

    proptest! {
        #[test]
        fn normalising_is_stable(raw in "/[a-z./%25;\\\\]{0,24}") {
            if let Some(path) = Path::normalise(&raw) {
                let again = Path::normalise(&path.literal).map(|path| path.literal.into_owned());
                prop_assert_eq!(again.as_deref(), Some(&*path.literal));
                for reading in [Some(&*path.literal), path.generous.as_deref()].into_iter().flatten() {
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
