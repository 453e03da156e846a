//! The page in a real browser.
//!
//! `MONITOR_PICTURES_TO=folder` keeps pictures of it.

#[path = "driver.rs"]
mod driver;

use std::path::Path;

use chrono::TimeDelta;
use monitor_core::domain::{IncidentId, Transition};
use monitor_core::links::{Link, LinkAct};
use monitor_store::{MemoryStore, Store};
use serde_json::Value;

use super::{
    BRANDS, NASTY, Site, drift, full_store, hostile, links, put, start_of_week, step, week,
};
use crate::store_contract::fixtures::scored;
use driver::Browser;

/// Escape, as WebDriver writes it.
const ESCAPE: &str = "\u{e00c}";

/// The full store, with hostile tweets in the newest hour of one brand and an alert for two.
async fn crowded_store() -> MemoryStore {
    let store = full_store().await;
    let rows = hostile().into_iter().zip(0..).map(|(text, n)| {
        let at = start_of_week() + TimeDelta::minutes(8 * 1440 - 40 + n);
        scored(&format!("hostile-{n}"), &text, at, &[NASTY], 0.95)
    });
    put(&store, "hostile", rows.collect()).await;
    store.record_drift(&drift()).await.expect("stored");
    store
}

async fn ready(browser: &Browser, url: &str) {
    browser.open("about:blank").await;
    browser.open(url).await;
    browser.wait("document.documentElement.dataset.ready").await;
    // Charts are drawn when they come near.
    browser.run("scrollTo(0, document.body.scrollHeight)").await;
    browser.wait("document.querySelectorAll('.u-over').length === 4").await;
    browser.run("scrollTo(0, 0)").await;
}

/// The rules that the page breaks, each with the elements that break it.
async fn violations(browser: &Browser) -> Value {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/axe/axe.min.js");
    browser.run(&std::fs::read_to_string(file).expect("axe-core")).await;
    let script = "const found = await axe.run(document, {resultTypes: ['violations']}); \
                  return found.violations.map((it) => [it.id, it.nodes.map((node) => node.html.slice(0, 200))])";
    browser.run_async(script).await
}

/// Nothing that a tweet or a brand contains was run or became markup.
async fn nothing_foreign(browser: &Browser) {
    assert_eq!(browser.run("return window.hacked ?? null").await, Value::Null);
    let foreign = "return document.querySelectorAll('#app img, #app iframe, #app script, dialog img, dialog iframe, \
                   dialog script, dialog svg[onload], base, textarea').length";
    assert_eq!(browser.run(foreign).await, 0);
    assert_eq!(browser.complaints().await, [""; 0]);
}

async fn picture(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("MONITOR_PICTURES_TO") {
        browser.picture(&Path::new(&folder).join(name)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn shows_zooms_and_drills_down() {
    let site = Site::start(crowded_store().await, BRANDS).await;
    let browser = Browser::start("en").await;
    browser.resize(1440, 1000).await;
    ready(&browser, &site.url).await;
    assert_eq!(browser.run("return document.documentElement.lang").await, "en");
    assert_eq!(browser.run("return document.title").await, "(1) Monitor");
    let names = "return [...document.querySelectorAll('.brand h3')].map((it) => it.textContent)";
    assert_eq!(
        browser.run(names).await,
        serde_json::json!([NASTY, "united", "jetblue", "virgin america", "delta"])
    );
    assert_eq!(browser.run("return document.querySelector('#brands .empty')").await, Value::Null);
    nothing_foreign(&browser).await;

    // The charts have one time axis, which a drag over one of them zooms in all.
    let lefts = "return new Set([...document.querySelectorAll('.u-over')].map((it) => it.getBoundingClientRect().left)).size";
    assert_eq!(browser.run(lefts).await, 1, "aligned");
    assert_eq!(
        browser.run("return document.querySelector('[data-key=unzoom]')").await,
        Value::Null
    );
    browser.drag("[data-brand=united] .u-over", 0.7, 0.9).await;
    browser.wait("document.querySelector('[data-key=unzoom]')").await;
    browser.click("[data-key=unzoom]").await;
    browser.wait("!document.querySelector('[data-key=unzoom]')").await;

    // A click on a point opens its tweets; the table says the same as the chart.
    browser.run("document.querySelector('[data-brand=united] details').open = true").await;
    browser.wait("document.querySelectorAll('[data-brand=united] tbody tr').length > 100").await;
    browser.drag("[data-brand=united] .u-over", 0.5, 0.5).await;
    browser.wait("document.querySelectorAll('dialog .tweets > li').length > 0").await;
    assert_eq!(
        browser.run("return document.querySelector('dialog h2').textContent").await,
        "Tweets about united"
    );
    browser.press(ESCAPE).await;
    browser.wait("!document.querySelector('dialog')").await;

    // By keyboard alone.
    browser.run("document.querySelector('[data-brand=united] .chart').focus()").await;
    for key in ["\u{e011}", "\u{e014}", "\u{e014}"] {
        browser.press(key).await;
    }
    browser.wait("document.querySelector('[data-brand=united] .unseen').textContent.includes('negative')").await;
    browser.press("+").await;
    browser.wait("document.querySelector('[data-key=unzoom]')").await;
    nothing_foreign(&browser).await;
}

/// Of many brands a browser reads the charts that somebody sees.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn charts_are_read_when_they_come_near() {
    let site = Site::start(crowded_store().await, BRANDS).await;
    let browser = Browser::start("en").await;
    browser.resize(1440, 300).await;
    browser.open(&site.url).await;
    browser.wait("document.documentElement.dataset.ready").await;
    let drawn = "document.querySelectorAll('.u-over').length";
    let read = "performance.getEntriesByType('resource').map((it) => it.name).filter((it) => it.includes('/shares?'))";
    let asked = "return performance.getEntriesByType('resource').filter((it) => it.name.endsWith('/v1/brands')).length";
    assert_eq!(browser.run(asked).await, 1, "what the browser was told ahead is used");
    let begin = browser.run(&format!("return [{drawn}, {read}.length]")).await;
    assert_eq!(begin[0], begin[1], "each chart is drawn from one reading: {begin}");
    assert!(begin[0].as_u64() < Some(3), "only those near: {begin}");

    for row in 1..=4 {
        let chart = format!("document.querySelector('.brand:nth-child({row}) .chart')");
        browser.run(&format!("{chart}.scrollIntoView()")).await;
        browser.wait(&format!("{chart}.querySelector('.u-over')")).await;
    }
    browser.wait(&format!("{drawn} === 4 && {read}.length === 4")).await;
    // Another time is read of the brands that are seen now, and of the others when somebody looks.
    browser.run("performance.clearResourceTimings()").await;
    browser.run("document.querySelector('[data-key=period-day]').click()").await;
    browser.wait(&format!("{read}.length > 0")).await;
    let nasty = format!("{read}.filter((it) => it.includes('script')).length");
    assert_eq!(browser.run(&format!("return {nasty}")).await, 0, "out of sight");
    browser.run("document.querySelector('#brands').scrollIntoView()").await;
    browser.wait(&format!("{nasty} === 1")).await;
    nothing_foreign(&browser).await;
}

/// Share of voice is of the time shown, and adds up; drift says what has changed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn shows_share_of_voice_and_drift() {
    let site = Site::start(crowded_store().await, BRANDS).await;
    let browser = Browser::start("en").await;
    browser.resize(1440, 1000).await;
    ready(&browser, &site.url).await;
    let voice = "return [...document.querySelectorAll('table.voice tbody tr')].map((row) => \
                 [row.children[0].textContent, row.children[1].textContent, Number(row.children[2].textContent.replaceAll(',', ''))])";
    let shown = browser.run(voice).await;
    let rows = shown.as_array().expect("rows");
    let tweets = |row: &Value| row[2].as_u64().expect("a number");
    let all: u64 = rows.iter().map(tweets).sum();
    assert_eq!(rows.len(), BRANDS.len());
    assert_eq!(rows[0][0], "united");
    assert_eq!(rows[4], serde_json::json!(["delta", "0\u{a0}%", 0]));
    assert!(rows.is_sorted_by_key(|row| std::cmp::Reverse(tweets(row))), "{shown}");
    for row in rows {
        let share = (100.0 * tweets(row) as f64 / all as f64).round();
        assert_eq!(row[1], format!("{share}\u{a0}%"), "{shown}");
    }
    // A day has fewer tweets than a week, and another order is possible.
    browser.click("[data-key=period-day]").await;
    browser
        .wait(&format!(
            "(() => {{ {voice} }})().reduce((sum, row) => sum + row[2], 0) < {}",
            all / 2
        ))
        .await;

    let said = browser
        .run("return [...document.querySelectorAll('#behind .item')].find((it) => it.querySelector('h3').textContent === 'Drift of the tweets').innerText")
        .await;
    let said = said.as_str().expect("a text");
    for part in [
        "On Tue 24 Feb, tweets differed more",
        "Languages: changed\nFrench 1\u{a0}% → 30\u{a0}%",
        "Lengths: as usual",
        "What they write about: changed\n<script>alert('brand')</script> 0\u{a0}% → 25\u{a0}%",
        "the model has no list of words",
        "1,985 tweets of that day (UTC), compared with 7 days before",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    nothing_foreign(&browser).await;
}

/// The pages that links in mails lead to: the question, what became of it, and why it cannot be.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn pages_of_links_are_accessible_in_both_languages() {
    let site = Site::start(crowded_store().await, BRANDS).await;
    let until = "2026-01-02T00:00:00Z".parse().expect("a time");
    for (language, notification) in [("en", 1), ("fr", 2)] {
        let browser = Browser::start(language).await;
        let acts = [
            ("silence", LinkAct::Silence { brand: NASTY.into(), hours: 2, incident: 3 }),
            ("label", LinkAct::NotNegative { tweet: "hostile-0".into() }),
            ("acknowledge", LinkAct::Acknowledge { incident: 3 }),
        ];
        for (name, act) in acts {
            let link = Link { of: notification, who: "anna@example.com".into(), until, act };
            let url = format!("{}/act/{}", site.url, links().sign(&link));
            for (width, scheme) in [(400, "dark"), (1440, "light")] {
                browser.resize(width, 700).await;
                browser.colors(scheme).await;
                browser.open(&url).await;
                let what = format!("link-{name}-{width}-{scheme}-{language}");
                assert_eq!(browser.run("return document.documentElement.lang").await, language);
                let wide = "return document.documentElement.scrollWidth <= innerWidth";
                assert_eq!(browser.run(wide).await, true, "{what}");
                assert_eq!(violations(&browser).await, serde_json::json!([]), "{what}");
                picture(&browser, &format!("{what}.png")).await;
            }
            browser.click("button[type=submit]").await;
            browser.wait("!document.querySelector('form')").await;
            assert_eq!(violations(&browser).await, serde_json::json!([]), "{name}: done");
            picture(&browser, &format!("link-{name}-done-{language}.png")).await;
            browser.open(&url).await;
            browser.wait("!document.querySelector('form')").await;
            assert_eq!(violations(&browser).await, serde_json::json!([]), "{name}: used");
        }
        let expired = Link {
            of: 9,
            who: "anna@example.com".into(),
            until: "2025-12-31T00:00:00Z".parse().expect("a time"),
            act: LinkAct::Acknowledge { incident: 3 },
        };
        for (name, link) in [("expired", links().sign(&expired)), ("invalid", "x.y".into())] {
            browser.open(&format!("{}/act/{link}", site.url)).await;
            assert_eq!(browser.run("return document.querySelectorAll('form').length").await, 0);
            assert_eq!(violations(&browser).await, serde_json::json!([]), "{name}");
        }
    }
    let corrections = site.store.corrections().await.expect("corrections");
    assert_eq!(corrections.len(), 1, "what was said last of a tweet");
    let incident = site.store.incident(IncidentId(3)).await.expect("read").expect("one");
    assert_eq!(incident.acknowledged.expect("acknowledged").by, "anna@example.com (link)");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn hostile_tweets_are_text() {
    let site = Site::start(crowded_store().await, BRANDS).await;
    let browser = Browser::start("en").await;
    browser.resize(900, 1000).await;
    ready(&browser, &format!("{}/#incident-3", site.url)).await;
    browser.wait("document.querySelectorAll('dialog .tweets > li').length === 3").await;
    let shown = browser.run("return document.querySelector('dialog .text').textContent").await;
    assert_eq!(shown, hostile()[0]);
    nothing_foreign(&browser).await;
    browser.press(ESCAPE).await;
    browser.click("[data-key^=read-]").await;
    browser.wait("document.querySelectorAll('dialog .tweets > li').length > 20").await;
    let texts = browser
        .run("return [...document.querySelectorAll('dialog .text')].map((it) => it.textContent)")
        .await;
    let texts: Vec<&str> =
        texts.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for text in hostile() {
        let plain: String =
            text.chars()
                .map(|c| match c {
                    '\n' => '\n',
                    // Stored tweets have none.
                    '\0' => '\u{fffd}',
                    '\r' | '\u{7}' | '\u{1b}' | '\u{200f}' | '\u{202e}' | '\u{2066}'
                    | '\u{2069}' => ' ',
                    c => c,
                })
                .collect();
        assert!(texts.contains(&plain.as_str()), "{plain:?} in {texts:?}");
    }
    let wide = "return document.querySelector('dialog').scrollWidth <= document.querySelector('dialog').clientWidth";
    assert_eq!(browser.run(wide).await, true, "a long word is broken");
    nothing_foreign(&browser).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn people_act_and_the_page_lives() {
    let site = Site::start(crowded_store().await, BRANDS).await;
    let browser = Browser::start("en").await;
    browser.resize(1440, 1000).await;
    // As the link in a mail.
    ready(&browser, &format!("{}/#incident-3", site.url)).await;
    browser.wait("document.querySelector('dialog h2')?.textContent.startsWith('Alert 3')").await;
    browser.wait("document.querySelector('#card-3').classList.contains('chosen')").await;
    let text = "document.querySelector('dialog').innerText";
    for part in ["Why was I not told?", "quiet hours (route night)", "comms", "cancelled"] {
        browser.wait(&format!("{text}.includes({part:?})")).await;
    }

    browser.click("dialog [data-key=acknowledge-3]").await;
    browser.type_into("dialog.small [name=by]", "Anna").await;
    browser.type_into("dialog.small [name=note]", "on it").await;
    browser.click("dialog.small [type=submit]").await;
    browser.wait(&format!("{text}.includes('Acknowledged by Anna')")).await;
    let taken = site.store.incident(IncidentId(3)).await.expect("read").expect("one").acknowledged;
    let taken = taken.expect("acknowledged");
    assert_eq!((taken.by.as_str(), taken.note.as_str()), ("Anna", "on it"));

    // Something happens meanwhile: the page learns of it by itself, and keeps what was open.
    step(&site.store, "united", Transition::Opened, 191, 100).await;
    week(&site.store, "delta", 20.0, 0.3, (0, 0, 0.0)).await;
    site.clock.advance(std::time::Duration::from_secs(3));
    browser.wait("document.title === '(2) Monitor'").await;
    browser.wait("document.querySelectorAll('.u-over').length === 5").await;
    browser.wait("document.querySelector('#card-3').classList.contains('chosen')").await;
    browser.wait("document.querySelector('dialog h2')?.textContent.startsWith('Alert 3')").await;

    browser.click("dialog [data-key=silence-3]").await;
    browser.type_into("dialog.small [name=reason]", "known").await;
    assert_eq!(
        browser.run("return document.querySelector('dialog.small [name=by]').value").await,
        "Anna"
    );
    browser.click("dialog.small [type=submit]").await;
    browser.wait("!document.querySelector('dialog.small')").await;
    let silences = site.store.silences("2026-01-01T12:00:01Z".parse().expect("a time")).await;
    let silences = silences.expect("silences");
    assert_eq!((silences[0].brand.as_deref(), silences[0].who.as_str()), (Some(NASTY), "Anna"));

    browser.click("dialog [data-key=resolve-3]").await;
    browser.click("dialog.small [type=submit]").await;
    browser.wait("document.title === '(1) Monitor'").await;
    browser.wait(&format!("{text}.includes('Ended by Anna.')")).await;

    // A wrong label.
    browser.click("dialog [data-key=read]").await;
    browser.wait("document.querySelectorAll('dialog .tweets details').length > 0").await;
    browser.click("dialog:last-of-type .tweets summary").await;
    browser.click("dialog:last-of-type .tweets [data-label=POSITIVE]").await;
    browser.wait("document.querySelector('dialog:last-of-type .tweets').innerText.includes('Anna says: Positive')").await;
    let corrections = site.store.corrections().await.expect("corrections");
    assert_eq!((corrections.len(), corrections[0].by.as_str()), (1, "Anna"));
    browser.press(ESCAPE).await;
    browser.press(ESCAPE).await;

    // A random sample, by keys.
    // In focus, so that news does not take the form away meanwhile.
    let number =
        "const field = document.querySelector('[name=tweets]'); field.focus(); field.value = 3";
    browser.run(number).await;
    browser.click("#behind form [type=submit]").await;
    browser.click("[data-sample]").await;
    for (key, place) in [("1", 2), ("2", 3)] {
        browser.wait("document.querySelector('.labelling .text')").await;
        browser.run("document.activeElement.blur()").await;
        browser.run("document.querySelector('.labelling [data-label]').focus()").await;
        browser.press(key).await;
        browser
            .wait(&format!(
                "document.querySelector('.labelling .quiet')?.textContent === 'Tweet {place} of 3'"
            ))
            .await;
    }
    let sample = site.store.samples().await.expect("samples").remove(0);
    assert_eq!((sample.labelled, sample.tweets), (2, 3));
    assert_eq!(browser.complaints().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn is_accessible_in_both_languages_and_colours_at_every_width() {
    let site = Site::start(crowded_store().await, BRANDS).await;
    for language in ["en", "fr"] {
        let browser = Browser::start(language).await;
        for (width, scheme) in [(400, "light"), (900, "dark"), (1440, "light")] {
            let name = format!("{width}-{scheme}-{language}");
            browser.resize(width, 1400).await;
            browser.colors(scheme).await;
            ready(&browser, &site.url).await;
            let words =
                browser.run("return document.querySelector('#attention h2').textContent").await;
            assert_eq!(words, if language == "fr" { "À traiter" } else { "Needs attention" });
            let wide = "return document.documentElement.scrollWidth <= innerWidth";
            assert_eq!(browser.run(wide).await, true, "{name}: nothing is cut off");
            browser
                .run("for (const it of document.querySelectorAll('.brand details')) it.open = true")
                .await;
            assert_eq!(violations(&browser).await, serde_json::json!([]), "{name}");
            browser
                .run(
                    "for (const it of document.querySelectorAll('.brand details')) it.open = false",
                )
                .await;
            picture(&browser, &format!("page-{name}.png")).await;
            browser.run("document.querySelector('#voice').scrollIntoView()").await;
            picture(&browser, &format!("below-{name}.png")).await;
            browser.open(&format!("{}/#incident-3", site.url)).await;
            browser.wait("document.querySelectorAll('dialog .tweets > li').length === 3").await;
            assert_eq!(violations(&browser).await, serde_json::json!([]), "{name}: an incident");
            picture(&browser, &format!("incident-{name}.png")).await;
            browser.press(ESCAPE).await;
            browser.click("[data-key^=read-]").await;
            browser.wait("document.querySelectorAll('dialog .tweets > li').length > 20").await;
            assert_eq!(violations(&browser).await, serde_json::json!([]), "{name}: tweets");
            picture(&browser, &format!("tweets-{name}.png")).await;
        }
        assert_eq!(browser.complaints().await, [""; 0]);
    }
}

/// Both languages have every word, and the page asks for no other.
#[test]
fn every_word_is_there_in_both_languages() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/serve/src/assets/");
    let read = |name: &str| std::fs::read_to_string(format!("{folder}{name}")).expect("the file");
    let keys = |text: &str| {
        // A word is `key: 'text'` or `key: (n) => ...`, behind the start of a line or a comma.
        let mut keys: Vec<String> = Vec::new();
        for line in text.lines().filter(|line| line.starts_with("  ")) {
            let mut quoted = false;
            let mut word = String::new();
            let mut depth = 0;
            for c in line.chars() {
                match c {
                    '\'' | '`' => quoted = !quoted,
                    '(' if !quoted => depth += 1,
                    ')' if !quoted => depth -= 1,
                    ':' if !quoted && depth == 0 && !word.is_empty() => {
                        keys.push(std::mem::take(&mut word));
                    }
                    c if !quoted && (c.is_alphanumeric() || c == '_') => word.push(c),
                    _ if !quoted => word.clear(),
                    _ => {}
                }
            }
        }
        keys
    };
    let english = read("words.js");
    let english = &english[..english.find("\n};").expect("the end of the words")];
    let (english, french) = (keys(english), keys(&read("words_fr.js")));
    assert!(english.len() > 120, "{english:?}");
    assert_eq!(english, french);
}
