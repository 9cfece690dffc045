/// The `Cookie` lines of a request, left where they are.
#[derive(Clone, Debug, Default)]
pub struct Cookies<'a> {
    first: Option<&'a str>,
    // Browsers send one line; HTTP/2 and odd clients may send more.
    more: Vec<&'a str>,
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
    pub fn add_line(&mut self, line: &'a str) {
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

    /// The cookies of our own that these lines hold, by what `is_ours` says of a name.
    pub fn ours(&self, is_ours: impl Fn(&str) -> bool + Copy) -> impl Iterator<Item = RequestCookie<'a>> {
        self.lines().flat_map(move |line| pieces(line, is_ours)).filter_map(|piece| match piece {
            Piece::Ours(cookie) => Some(cookie),
            Piece::Other(_) => None,
        })
    }

    /// The value of the cookie `name`. Two different values under one name are none: which of them the browser
    /// meant cannot be known, and the wrong one might be another user's.
    pub fn unambiguous(&self, name: &str) -> Option<&'a str> {
        let mut values = self.ours(|candidate| candidate == name).map(|cookie| cookie.value);
        let value = values.next()?;
        values.all(|other| other == value).then_some(value)
    }

    /// The lines without the cookies that are ours, as one line (RFC 9113 section 8.2.3); `None` if there is nothing
    /// of ours to take out.
    pub fn without(&self, is_ours: impl Fn(&str) -> bool + Copy) -> Option<String> {
        self.ours(is_ours).next()?;
        let mut rest = String::new();
        for piece in self.lines().flat_map(|line| pieces(line, is_ours)) {
            if let Piece::Other(text) = piece {
                if !rest.is_empty() {
                    rest.push_str("; ");
                }
                rest.push_str(text);
            }
        }
        Some(rest)
    }

    fn lines(&self) -> impl Iterator<Item = &'a str> {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

enum Piece<'a> {
    Ours(RequestCookie<'a>),
    Other(&'a str),
}

/// Cuts a line into cookies of ours and everything else.
///
/// An Envoy that does not send raw headers joins two `Cookie` lines by a comma. Other people's values may hold commas,
/// so the line is cut there only where the name of one of our cookies follows, and after our cookie's value, whose
/// alphabet has no comma.
fn pieces<'a>(line: &'a str, is_ours: impl Fn(&str) -> bool + Copy) -> impl Iterator<Item = Piece<'a>> {
    line.split(';').flat_map(move |part| {
        let mut rest = Some(part);
        std::iter::from_fn(move || {
            loop {
                let text = rest?;
                if let Some((name, value)) = text.split_once('=')
                    && is_ours(name.trim())
                {
                    let (value, after) = match value.split_once(',') {
                        Some((value, after)) => (value, Some(after)),
                        None => (value, None),
                    };
                    rest = after;
                    return Some(Piece::Ours(RequestCookie { name: name.trim(), value: value.trim() }));
                }
                let cut = text.char_indices().filter(|(_, character)| *character == ',').find(|(at, _)| {
                    text[at + 1..].split_once('=').is_some_and(|(name, _)| is_ours(name.trim()))
                });
                let other = match cut {
                    Some((at, _)) => {
                        rest = Some(&text[at + 1..]);
                        &text[..at]
                    }
                    None => {
                        rest = None;
                        text
                    }
                };
                if !other.trim().is_empty() {
                    return Some(Piece::Other(other.trim()));
                }
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: &str = "__Host-session";

    fn cookies<'a>(lines: &[&'a str]) -> Cookies<'a> {
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
            (&["__Host-session=abc"][..], Some("abc"), Some("")),
            (&["a=1; __Host-session=abc; b=2"], Some("abc"), Some("a=1; b=2")),
            (&["a=1", "__Host-session=abc", "b=2"], Some("abc"), Some("a=1; b=2")),
            // Envoy without raw headers: two lines joined by a comma.
            (&["a=1,__Host-session=abc"], Some("abc"), Some("a=1")),
            (&["__Host-session=abc,b=x,y"], Some("abc"), Some("b=x,y")),
            (&["a=1,2; b=\"x y\"; c"], None, None),
            (&["my__Host-session=abc"], None, None),
            (&["__host-session=abc"], None, None),
            (&["x=__Host-session=abc"], None, None),
            (&["", ";;; ;", "a"], None, None),
        ] {
            let cookies = cookies(lines);
            assert_eq!(cookies.unambiguous(OURS), value, "{lines:?}");
            assert_eq!(cookies.without(is_ours).as_deref(), rest, "{lines:?}");
        }
    }

    #[test]
    fn two_values_under_one_name_are_none() {
        assert_eq!(cookies(&["__Host-session=a; __Host-session=b"]).unambiguous(OURS), None);
        assert_eq!(cookies(&["__Host-session=a; __Host-session=a"]).unambiguous(OURS), Some("a"));
        assert_eq!(cookies(&["__Host-session=a; __Host-session=b"]).without(is_ours).as_deref(), Some(""));
    }

    proptest! {
        #[test]
        fn nothing_of_ours_ever_passes(line in "[a-c=;, ]{0,20}(__Host-session=[a-z]{0,4}[;, ]{0,3}){0,3}[a-c=;, ]{0,20}") {
            let cookies = cookies(&[line.as_str()]);
            if let Some(rest) = cookies.without(is_ours) {
                prop_assert_eq!(super::Cookies { first: Some(&rest), more: Vec::new() }.ours(is_ours).next(), None);
            }
        }

        #[test]
        fn no_line_panics(line in "\\PC*") {
            let cookies = cookies(&[line.as_str()]);
            let _ = (cookies.unambiguous(OURS), cookies.without(is_ours));
        }
    }
}
