use url::{Host, Url};

/// An origin as a browser would write it: scheme, host and, if it is not the scheme's own, port.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn parse_origin(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("is not an origin such as https://app.example.com: {error}"))?;
    let canonical = url.origin().ascii_serialization();
    if canonical != text {
        return Err(format!("must be written exactly as browsers write it: {canonical}"));
    }
    check_scheme(&url)?;
    Ok(url)
}

/// `https`, or `http` on this machine: browsers drop Secure cookies of any other plain address, and codes and tokens
/// would travel for everyone to read.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn check_scheme(url: &Url) -> Result<(), String> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_this_machine(url) => Ok(()),
        "http" => Err("must be https; plain http is for localhost only".to_owned()),
        _ => Err("must be https".to_owned()),
    }
}

/// Whether a URL leads to this machine only: loopback addresses and the names that browsers resolve to them.
fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost" || domain.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether browsers would call two hosts the same site. Without the public suffix list this is a guess by the last two
/// labels, good enough for a warning.
pub(super) fn are_same_site(left: &Url, right: &Url) -> bool {
    let site = |url: &Url| {
        let host = url.host_str().unwrap_or_default().to_owned();
        let labels: Vec<&str> = host.rsplit('.').take(2).collect();
        labels.join(".")
    };
    left.scheme() == right.scheme() && site(left) == site(right)
}
