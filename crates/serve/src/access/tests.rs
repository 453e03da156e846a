use super::*;
use monitor_core::clock::SimulatedClock;

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name: header::HeaderName = name.parse().expect("a name");
        (name, value.parse::<HeaderValue>().expect("a value"))
    };
    list.iter().map(pair).collect()
}

fn token(name: &str, secret: &str, right: Right) -> Token {
    Token { name: name.into(), sha256: Sha256::digest(secret).into(), right }
}

fn access(tokens: Vec<Token>, public_url: Option<&str>) -> Access {
    let now = "2026-01-01T12:00:00Z".parse().expect("a time");
    Access::new(tokens, public_url, Arc::new(SimulatedClock::at(now)))
}

fn status(access: &Access, method: Method, list: &[(&str, &str)]) -> Result<Caller, u16> {
    let peer = IpAddr::from([10, 0, 0, 1]);
    let admitted = access.admit(&Rule::default(), peer, &method, &headers(list));
    admitted.map_err(|failure| failure.status().as_u16())
}

#[test]
fn a_token_gives_its_rights_and_no_more() {
    let tokens =
        vec![token("office", "readable", Right::Read), token("comms", "acting", Right::Act)];
    let access = access(tokens, None);
    let check = |name, method, list: &[(&str, &str)], expected: Result<Option<&str>, u16>| {
        let found = status(&access, method, list).map(|caller| caller.token);
        assert_eq!(found, expected.map(|it| it.map(str::to_owned)), "{name}");
    };
    let (get, post) = (Method::GET, Method::POST);
    let bearer = |token| ("authorization", token);
    check("no token", get.clone(), &[], Err(401));
    check("wrong token", get.clone(), &[bearer("Bearer nothing")], Err(401));
    check("not a bearer", get.clone(), &[bearer("Basic acting")], Err(401));
    check("reader reads", get.clone(), &[bearer("Bearer readable")], Ok(Some("office")));
    check("reader acts", post.clone(), &[bearer("Bearer readable")], Err(403));
    check("actor acts", post.clone(), &[bearer("bearer acting")], Ok(Some("comms")));
    let cookie = ("cookie", "a=b; monitor_token=acting");
    check("cookie", get, &[cookie], Ok(Some("comms")));
    let from = |site| ("sec-fetch-site", site);
    check("own page", post.clone(), &[cookie, from("same-origin")], Ok(Some("comms")));
    check("other page", post.clone(), &[cookie, from("cross-site")], Err(403));
    check("sister page", post.clone(), &[cookie, from("same-site")], Err(403));
    let (host, ours) = (("host", "m.example:80"), ("origin", "http://m.example:80"));
    check("own origin", post.clone(), &[cookie, host, ours], Ok(Some("comms")));
    let other = ("origin", "http://evil.example");
    check("other origin", post.clone(), &[cookie, host, other], Err(403));
    check("no origin", post, &[cookie, host, ("origin", "null")], Err(403));
}

#[test]
fn without_tokens_only_this_machine_is_served_by_its_own_names() {
    let access = access(Vec::new(), Some("https://monitor.example.com/buzz"));
    for (host, expected) in [
        ("127.0.0.1:8080", true),
        ("localhost", true),
        ("[::1]:8080", true),
        ("monitor.example.com", true),
        ("rebound.example.com:8080", false),
        ("10.0.0.1:8080", false),
        ("localhost.evil.example", false),
    ] {
        let found = status(&access, Method::GET, &[("host", host)]);
        let wanted = Caller { token: None, right: Right::Act };
        assert_eq!(found, if expected { Ok(wanted) } else { Err(421) }, "{host}");
    }
    assert_eq!(status(&access, Method::GET, &[]), Err(421), "no host");
}

#[test]
fn a_proxy_may_change_the_host_if_the_public_url_is_set() {
    let access = access(Vec::new(), Some("https://monitor.example.com"));
    let list = [("host", "127.0.0.1:8080"), ("origin", "https://monitor.example.com")];
    assert!(status(&access, Method::POST, &list).is_ok());
}

#[test]
fn wrong_tokens_are_limited() {
    let access = access(vec![token("comms", "acting", Right::Act)], None);
    let wrong = [("authorization", "Bearer guess")];
    let found: Vec<_> =
        (0..12).map(|_| status(&access, Method::GET, &wrong).map(|it| it.token)).collect();
    assert!(found[..10].iter().all(|it| *it == Err(401)), "{found:?}");
    assert_eq!(found[10..], [Err(429), Err(429)]);
    let right = [("authorization", "Bearer acting")];
    assert!(status(&access, Method::GET, &right).is_ok(), "who knows the token is not locked out");
}

#[test]
fn says_who_acts() {
    let with = |token: Option<&str>| Caller { token: token.map(Into::into), right: Right::Act };
    for (token, name, expected) in [
        (Some("comms"), Some(" Anna "), "Anna (comms)"),
        (Some("comms"), Some("comms"), "comms"),
        (Some("comms"), Some(" "), "comms"),
        (None, Some("Anna"), "Anna"),
        (None, None, "somebody on this machine"),
    ] {
        assert_eq!(with(token).by(name), expected);
    }
}

#[test]
fn a_cookie_cannot_be_broken_out_of() {
    let good = cookie("abc-123", true).expect("a cookie");
    let good = good.to_str().expect("ASCII");
    assert!(good.starts_with("monitor_token=abc-123; ") && good.contains("; HttpOnly;"), "{good}");
    assert!(good.ends_with("; Secure"), "{good}");
    for bad in ["a; Domain=evil", "a\r\nSet-Cookie: b", "a b", "é"] {
        assert!(cookie(bad, false).is_none(), "{bad}");
    }
}
