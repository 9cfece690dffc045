/// The `Cookie` lines of a request, left where they are. They are bytes: browsers send whatever a page wrote into
/// `document.cookie`, and one odd cookie must not hide the others.
#[derive(Clone, Debug, Default)]
pub struct Cookies<'a> {
    first: Option<&'a [u8]>,
    // Browsers send one line; HTTP/2 and odd clients may send more.
    more: Vec<&'a [u8]>,
}

/// One cookie of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestCookie<'a> {
    /// Its name, which is case-sensitive.
    pub name: &'a str,
    /// Its value, as it was sent.
    pub value: &'a str,
}

impl<'a> Cookies<'a> {
    /// Takes in one `Cookie` line.
    pub fn add_line(&mut self, line: &'a [u8]) {
        if self.first.is_none() {
            self.first = Some(line);
        } else {
            self.more.push(line);
        }
    }

    /// Whether there is no cookie at all.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The cookies of these lines whose names `is_wanted`.
    ///
    /// A cookie is what stands between two semicolons, and its name is compared as the browser saw it: whatever else
    /// is read into a line, a sibling host could have planted there in spite of the `__Host-` prefix.
    pub fn named(&self, is_wanted: impl Fn(&str) -> bool + Copy) -> impl Iterator<Item = RequestCookie<'a>> {
        let parts = self.lines().flat_map(|line| line.split(|byte| *byte == b';'));
        parts.filter_map(read).filter(move |cookie| is_wanted(cookie.name))
    }

    /// The value of the cookie `name`. Two different values under one name are none: which of them the browser
    /// meant cannot be known, and the wrong one might be another user's.
    pub fn unambiguous(&self, name: &str) -> Option<&'a str> {
        let mut values = self.named(|candidate| candidate == name).map(|cookie| cookie.value);
        let value = values.next()?;
        values.all(|other| other == value).then_some(value)
    }

    /// The lines without the cookies that are ours, as one line (RFC 9113 section 8.2.3); `None` if there is nothing
    /// of ours to take out.
    ///
    /// An Envoy that does not send raw headers joins two `Cookie` lines by a comma. So ours are looked for behind
    /// commas as well: better to take out too much here than to show an upstream a session id. A cookie that is not
    /// UTF-8 is left out too, because the reply could not hold it: Envoy 1.40 passes over `raw_value` there.
    pub fn without(&self, is_ours: impl Fn(&str) -> bool + Copy) -> Option<String> {
        let mut rest = String::new();
        let mut found = false;
        for part in self.lines().flat_map(|line| line.split(|byte| *byte == b';')) {
            let mut kept: Vec<&[u8]> = Vec::new();
            for segment in part.split(|byte| *byte == b',') {
                if read(segment).is_some_and(|cookie| is_ours(cookie.name)) {
                    found = true;
                } else {
                    kept.push(segment);
                }
            }
            let kept = kept.join(&b',');
            let kept = std::str::from_utf8(trim(&kept)).unwrap_or_default();
            if !kept.is_empty() {
                if !rest.is_empty() {
                    rest.push_str("; ");
                }
                rest.push_str(kept);
            }
        }
        found.then_some(rest)
    }

    fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

/// A cookie; `None` for what has no name or is no text, which no cookie of ours is.
fn read(part: &[u8]) -> Option<RequestCookie<'_>> {
    let part = std::str::from_utf8(trim(part)).ok()?;
    let (name, value) = part.split_once('=')?;
    Some(RequestCookie { name, value })
}

/// Without the white space of HTTP (RFC 9110 section 5.6.3) around it, and no other: a name that starts with another
/// kind of space is another name.
fn trim(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: &str = "__Host-session";

    fn cookies<'a>(lines: &[&'a [u8]]) -> Cookies<'a> {
        let mut cookies = Cookies::default();
        lines.iter().for_each(|line| cookies.add_line(line));
        cookies
    }

    fn is_ours(name: &str) -> bool {
        name == OURS
    }

    #[test]
    fn ours_is_found_and_taken_out_and_the_rest_is_left() {
        for (lines, value, rest) in [
            (&[&b"__Host-session=abc"[..]][..], Some("abc"), Some("")),
            (&[b"a=1; __Host-session=abc; b=2"], Some("abc"), Some("a=1; b=2")),
            (&[b"a=1", b"__Host-session=abc", b"b=2"], Some("abc"), Some("a=1; b=2")),
            (&["name=Müller; __Host-session=abc".as_bytes()], Some("abc"), Some("name=Müller")),
            (&[b"name=M\xfcller; __Host-session=abc; a=1"], Some("abc"), Some("a=1")),
            (&[b"a=1,2; b=\"x y\"; c"], None, None),
            (&[b"my__Host-session=abc"], None, None),
            (&[b"__host-session=abc"], None, None),
            (&[b"x=__Host-session=abc"], None, None),
            (&[b"", b";;; ;", b"a"], None, None),
        ] {
            let cookies = cookies(lines);
            assert_eq!(cookies.unambiguous(OURS), value, "{lines:?}");
            assert_eq!(cookies.without(is_ours).as_deref(), rest, "{lines:?}");
        }
    }

    #[test]
    fn what_a_sibling_host_may_plant_is_not_read_and_never_passed_on() {
        for line in [&b"a=1,__Host-session=abc"[..], b"a=1, __Host-session=abc,b=2"] {
            assert_eq!(cookies(&[line]).unambiguous(OURS), None);
            let rest = cookies(&[line]).without(is_ours).unwrap();
            assert!(!rest.contains(OURS));
        }
        let odd_space = "\u{2000}__Host-session=abc".as_bytes();
        assert_eq!(cookies(&[odd_space]).unambiguous(OURS), None);
    }

    #[test]
    fn two_values_under_one_name_are_none() {
        assert_eq!(cookies(&[b"__Host-session=a; __Host-session=b"]).unambiguous(OURS), None);
        assert_eq!(cookies(&[b"__Host-session=a; __Host-session=a"]).unambiguous(OURS), Some("a"));
        assert_eq!(cookies(&[b"__Host-session=a; __Host-session=b"]).without(is_ours).as_deref(), Some(""));
    }

    proptest! {
        #[test]
        fn nothing_of_ours_ever_passes(
            line in "[a-c=;, ]{0,20}(__Host-session=[a-z]{0,4}[;, ]{0,3}){0,3}[a-c=;, ]{0,20}"
        ) {
            let cookies = cookies(&[line.as_bytes()]);
            if let Some(rest) = cookies.without(is_ours) {
                let again = super::Cookies { first: Some(rest.as_bytes()), more: Vec::new() };
                prop_assert_eq!(again.unambiguous(OURS), None);
                prop_assert_eq!(again.without(is_ours), None);
            } else {
                prop_assert_eq!(cookies.unambiguous(OURS), None);
            }
        }

        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..64)) {
            let cookies = cookies(&[&line]);
            let _ = (cookies.unambiguous(OURS), cookies.without(is_ours));
        }
    }
}
