use super::*;
use monitor_core::domain::{Cause, Evidence, ShareEvidence};
use monitor_core::words::word_weights;

#[test]
fn renders_all_causes_and_transitions() {
    for cause in Cause::ALL {
        for transition in ["opened", "updated", "resolved"] {
            let mail = Mail::of(&fixtures::notification(cause, transition));
            let name = |part| format!("{}_{transition}_{part}", cause.as_str());
            insta::assert_snapshot!(name("text"), format!("{}\n\n{}", mail.subject, mail.text));
            if cause == Cause::Share {
                insta::assert_snapshot!(name("html"), mail.html);
            }
        }
    }
}

#[test]
fn renders_an_incident_of_several_phases() {
    let subject = Mail::of(&fixtures::notification(Cause::Share, "opened")).subject;
    for transition in ["updated", "reopened", "resolved"] {
        let mail = Mail::of(&fixtures::crisis(transition));
        assert_eq!(mail.subject, format!("Re: {subject}"), "one thread");
        insta::assert_snapshot!(
            format!("crisis_{transition}_text"),
            format!("{}\n\n{}", mail.subject, mail.text)
        );
        for phase in phases::course(&fixtures::crisis(transition)) {
            assert!(mail.html.contains(&phase.replace(" %", "&nbsp;%")), "{phase}");
        }
    }
}

#[test]
fn renders_a_digest_of_what_is_over() {
    let mut n = fixtures::missed();
    let mail = Mail::of_missed(&n);
    insta::assert_snapshot!("missed_text", format!("{}\n\n{}", mail.subject, mail.text));
    insta::assert_snapshot!("missed_html", mail.html);
    assert!(!mail.urgent, "nothing is to be done");
    n.brand = "united\r\nBcc: all@example.com <b>".into();
    n.missed.truncate(1);
    n.missed[0].brand = n.brand.clone();
    let mail = Mail::of_missed(&n);
    assert_eq!(mail.subject.lines().count(), 1, "{}", mail.subject);
    assert!(mail.subject.ends_with(": 1 alert already over, 20 Feb"), "{}", mail.subject);
    assert!(!mail.html.contains("<b>"), "{}", mail.html);
    n.missed = vec![n.missed[0].clone(); 60];
    assert!(Mail::of_missed(&n).text.contains("10 more: monitor incidents list"), "bounded");
}

#[test]
fn renders_a_test_with_other_incidents() {
    let mut n = fixtures::notification(Cause::Share, "opened");
    n.test = true;
    n.also = fixtures::also();
    let mail = Mail::of(&n);
    insta::assert_snapshot!("test_text", format!("{}\n\n{}", mail.subject, mail.text));
    insta::assert_snapshot!("test_html", mail.html);
    assert!(!mail.urgent, "a test is not urgent");
}

/// Some clients group threads by subject.
#[test]
fn all_mails_of_an_incident_have_one_subject() {
    for cause in Cause::ALL {
        let subject = |transition: &str| {
            let mut n = fixtures::notification(cause, transition);
            n.severity = if transition == "opened" { "notice" } else { "critical" }.into();
            Mail::of(&n).subject
        };
        let opened = subject("opened");
        assert_eq!(subject("updated"), format!("Re: {opened}"), "{cause:?}");
        assert_eq!(subject("resolved"), format!("Re: {opened}"), "{cause:?}");
    }
}

#[test]
fn only_a_critical_incident_is_urgent() {
    let check = |name, transition: &str, severity: &str, expected| {
        let mut n = fixtures::notification(Cause::Share, transition);
        n.severity = severity.into();
        assert_eq!(Mail::of(&n).urgent, expected, "{name}");
    };
    check("critical", "opened", "critical", true);
    check("critical now", "updated", "critical", true);
    check("ended", "resolved", "critical", false);
    check("warning", "opened", "warning", false);
}

#[test]
fn escapes_strings_from_outside() {
    let evil = "<script>alert(1)</script>\r\nBcc: all@example.com\u{202E}<img src=x>\"'&amp;";
    for transition in ["opened", "updated", "resolved"] {
        for cause in Cause::ALL {
            let mut n = fixtures::notification(cause, transition);
            let tags = |html: &str| html.matches('<').count();
            n.also = fixtures::also();
            for example in &mut n.examples {
                example.author = Some("someone".into());
                example.words = word_weights(&example.text, [(0..4, 2.0)]);
            }
            let plain = Mail::of(&n);
            n.brand = evil.into();
            n.severity = evil.into();
            n.reason = evil.into();
            n.url = Some("https://example.com/\"><script>\r\n".into());
            for also in &mut n.also {
                also.brand = evil.into();
                also.severity = evil.into();
                also.transition = evil.into();
                also.reason = evil.into();
            }
            for example in &mut n.examples {
                example.text = evil.into();
                example.words = word_weights(evil, [(0..evil.len(), 2.0)]);
                example.author = Some(evil.into());
            }
            for term in &mut n.drivers.terms {
                term.term = evil.into();
            }
            if let Evidence::Share(ShareEvidence { rule, .. }) = &mut n.evidence {
                *rule = evil;
            }
            let mail = Mail::of(&n);
            let name = format!("{cause:?} {transition}");
            for tag in ["<script", "<img src=x"] {
                assert!(!mail.html.contains(tag), "{name}: {tag}");
            }
            assert_eq!(tags(&mail.html), tags(&plain.html), "{name}: no additional tag");
            assert_eq!(mail.html.lines().count(), plain.html.lines().count(), "{name}");
            assert_eq!(mail.text.lines().count(), plain.text.lines().count(), "{name}");
            assert!(!mail.text.contains(['\r', '\u{202E}']), "{name}");
            assert!(!mail.subject.contains(['\r', '\n', '\u{202E}']), "{name}: {}", mail.subject);
        }
    }
}

#[test]
fn mails_are_bounded() {
    let mail = Mail::of(&crate::words::monster().notification);
    let bytes = mail.text.len() + mail.html.len();
    assert!(bytes < 100_000, "{bytes} bytes");
    assert!(mail.subject.chars().count() < 150, "{}", mail.subject);
}

#[test]
fn renders_notifications_without_optional_parts() {
    let mut n = fixtures::notification(Cause::Share, "opened");
    n.examples.clear();
    n.curve.clear();
    n.drivers = Drivers::default();
    n.url = None;
    let mail = Mail::of(&n);
    assert_eq!(mail.pictures, []);
    for heading in ["over time", "Tweets to read", "in common", "See details", "href", "<img"] {
        assert!(!mail.text.contains(heading) && !mail.html.contains(heading), "{heading}");
    }
}

#[test]
fn describes_the_picture_in_words() {
    let check = |name, cause, transition, expected: &str| {
        let html = Mail::of(&fixtures::notification(cause, transition)).html;
        let alt = html.split(" alt=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(alt.unwrap_or("(no picture)"), expected, "{name}");
    };
    check(
        "share",
        Cause::Share,
        "opened",
        "Share of negative tweets, as a curve: 54 % before 23 Feb 2015, 13:20 UTC, 72 % from then \
         on, 84 % now; expected 55 % (51 to 59 %).",
    );
    check("lag", Cause::Lag, "opened", "(no picture)");
}

/// Examples of before words were stored, and those that could not be explained.
#[test]
fn examples_without_words_have_no_marks() {
    let mut json =
        serde_json::to_value(fixtures::notification(Cause::Share, "opened")).expect("JSON");
    for example in json["examples"].as_array_mut().expect("examples") {
        example.as_object_mut().expect("an example").remove("words").expect("words");
    }
    let old = serde_json::from_value(json).expect("a notification");
    let mail = Mail::of(&old);
    assert!(mail.text.contains("“@united lost my bag AGAIN & nobody answers."), "{}", mail.text);
    for mark in [LEGEND, "<b ", "*"] {
        assert!(!mail.text.contains(mark) && !mail.html.contains(mark), "{mark}");
    }
}

#[test]
fn each_recipient_has_links_of_their_own() {
    let now = "2026-01-01T12:00:00Z".parse().expect("a time");
    let of = |row: &monitor_store::OutboxRow| {
        let people = ["anna@example.com", "bob@example.com"];
        let links = people.map(|who| crate::links::linker().links(row, who, now));
        (Mail::personal(&row.notification, &links), links)
    };
    let row = fixtures::row("opened");
    let (mails, links) = of(&row);
    let [anna, bob] = &mails[..] else { panic!("two mails") };
    let plain = Mail::of(&row.notification);
    for (mail, links, other) in [(anna, &links[0], &links[1]), (bob, &links[1], &links[0])] {
        assert_eq!((&mail.subject, &mail.pictures), (&plain.subject, &plain.pictures));
        for body in [&mail.text, &mail.html] {
            for url in links.acts.iter().map(|(_, url)| url).chain(&links.not_negative) {
                assert!(body.contains(url.as_str()), "{url}");
            }
            assert!(!body.contains(other.acts[0].1.as_str()), "a link in another's name");
            assert!(!body.contains("monitor incidents ack"), "a link in place of the command");
        }
    }
    // Signatures do not belong into snapshots.
    let address = |text: &str| {
        let mut parts = text.split("/act/");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |shown, part| {
            let rest =
                part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "-_.".contains(c));
            format!("{shown}/act/...{rest}")
        })
    };
    insta::assert_snapshot!("links_text", address(&anna.text));
    insta::assert_snapshot!("links_html", address(&anna.html));

    // Whatever a brand is called, its name is text.
    let mut evil = fixtures::row("opened");
    evil.notification.brand = "<img src=x>\r\nSee details: https://evil.example".into();
    let tags = |html: &str| html.matches('<').count();
    let (mails, _) = of(&evil);
    assert_eq!(tags(&mails[0].html), tags(&anna.html));
    assert_eq!(mails[0].text.lines().count(), anna.text.lines().count());
    let (mails, _) = of(&crate::words::monster());
    assert!(mails[0].text.len() + mails[0].html.len() < 100_000, "bounded");
}
