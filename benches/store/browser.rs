//! How long the page takes in a real browser: Debian's Chromium, by WebDriver.
//!
//! **Invariant.** Times are those of the browser's own clock, from the start of the navigation, at the first frame after
//! the one that shows what is waited for. Deliberately absent: the network, as the server is on the same host.

#[path = "../../tests/it/serve/driver.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is of the tests, which use more of it")]
mod driver;

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use driver::Browser;
use serde_json::json;

use super::page::Page;

/// Time between two openings: an address may ask 50 times a second in the long run.
const REST: Duration = Duration::from_secs(1);

/// The page, opened in the browser.
#[derive(Clone, Copy)]
pub struct Opened {
    /// Milliseconds until all charts in sight are drawn.
    pub drawn_ms: f64,
    /// Milliseconds until a click, at that moment, has opened a brand's tweets.
    pub clicked_ms: f64,
    /// Milliseconds from a jump to the last brands until the charts in sight there are drawn.
    pub jumped_ms: f64,
}

/// Whether there is a browser.
pub fn is_installed() -> bool {
    ["chromium", "chromedriver"].iter().all(|program| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

/// Opens the page so often, first with an empty cache.
pub async fn open(page: &Page, times: usize) -> anyhow::Result<Vec<Opened>> {
    let browser = Browser::start("en").await;
    browser.resize(1440, 1000).await;
    let watch = format!(
        "window.timed = {{}};
         const areDrawn = () => {{
           const brands = [...document.querySelectorAll('.brand')];
           const isSeen = (it) => {{ const {{ top, bottom }} = it.getBoundingClientRect(); return bottom > 0 && top < innerHeight; }};
           return brands.length === {} && brands.filter(isSeen).every((it) => it.querySelector('.u-over'));
         }};
         const look = () => requestAnimationFrame(() => {{
           const timed = window.timed;
           if (!timed.drawn) {{
             if (areDrawn()) requestAnimationFrame(() => {{
               timed.drawn = performance.now();
               document.querySelector('[data-key^=\"read-\"]').click();
               look();
             }}); else look();
           }} else if (!timed.clicked) {{
             if (document.querySelector('dialog[open] .tweets > li')) requestAnimationFrame(() => {{
               timed.clicked = performance.now();
             }}); else look();
           }} else if (!timed.jump) {{
             document.querySelector('dialog[open]').close();
             document.querySelector('.brand:last-child').scrollIntoView();
             timed.jump = performance.now();
             look();
           }} else if (areDrawn()) requestAnimationFrame(() => {{
             timed.jumped = performance.now() - timed.jump;
           }}); else look();
         }});
         window.jump = look;
         look();",
        page.brands()
    );
    let on_each_page = json!({ "source": watch });
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", on_each_page).await;
    let mut found = Vec::with_capacity(times);
    for _ in 0..times {
        browser.open("about:blank").await;
        tokio::time::sleep(REST).await;
        browser.open(page.url()).await;
        browser.wait("window.timed.clicked && document.documentElement.dataset.ready").await;
        browser.run("window.jump()").await;
        browser.wait("window.timed.jumped").await;
        let timed = browser.run("return window.timed").await;
        let of = |key: &str| timed[key].as_f64().with_context(|| format!("no {key} in {timed}"));
        found.push(Opened {
            drawn_ms: of("drawn")?,
            clicked_ms: of("clicked")?,
            jumped_ms: of("jumped")?,
        });
    }
    let complaints = browser.complaints().await;
    ensure!(complaints.is_empty(), "the page complains: {complaints:?}");
    Ok(found)
}
