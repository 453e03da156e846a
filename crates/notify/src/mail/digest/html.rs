//! Renders a digest as HTML for mail clients and browsers.

use maud::{Markup, Render, html};

use super::{COLUMNS, Content, Section};
use crate::curve::{self, Curve};
use crate::mail::html::{BUTTON, CALM, Text, alt_text, page, quote_block, row, section, small};

/// Renders a digest; `source` gives the address of the picture at a place.
pub fn render(content: &Content<'_>, source: &dyn Fn(usize) -> String) -> String {
    let mut place = 0;
    let rows = html! {
        (row("24px 24px 0", html! {
            h1 style="margin:0;font-size:24px;font-weight:600;line-height:1.25" { (Text(&content.title)) }
        }))
        (row("16px 24px 0", overview(content)))
        @for brand in &content.brands {
            (self::brand(brand, &mut place, source))
        }
        @if let Some(link) = &content.link {
            (row("28px 24px 0", html! { a href=(link) style=(BUTTON) { "See details" } }))
        }
        (row("24px", html! {
            @for rest in &content.rest { div style={ (small()) ";padding-top:4px" } { (Text(rest)) } }
        }))
    };
    page(&content.title, None, CALM, &rows)
}

fn overview(content: &Content<'_>) -> Markup {
    html! {
        table width="100%" cellpadding="0" cellspacing="0" style="font-size:14px;border-collapse:collapse" {
            tr { @for title in COLUMNS {
                th align="left" style={ (small()) ";font-weight:400;padding:0 8px 4px 0" } { (title) }
            } }
            "\n"
            @for cells in &content.overview {
                tr { @for (place, cell) in cells.iter().enumerate() {
                    td valign="top" style={ "border-top:1px solid #e3e7ea;padding:6px 8px 6px 0;"
                        @if place < 2 { "font-weight:600;" } } { (Text(cell)) }
                } }
                "\n"
            }
        }
    }
}

fn brand(brand: &Section<'_>, place: &mut usize, source: &dyn Fn(usize) -> String) -> Markup {
    let picture = brand.curve.as_ref().map(|curve| {
        let source = source(*place);
        *place += 1;
        row("12px 0 0", picture(curve, &source))
    });
    let tweets = |title: &str, tweets: &[(String, String)]| {
        html! {
            @if !tweets.is_empty() {
                (section(title, html! {
                    @for (text, caption) in tweets { (quote_block(&Text(text).render(), &Text(caption).render())) }
                }))
            }
        }
    };
    html! {
        (row("32px 24px 0", html! {
            h2 style="margin:0;font-size:20px;font-weight:600;border-top:1px solid #b0bec5;padding-top:16px" { (Text(&brand.brand)) }
            div { (Text(&brand.headline)) }
            @if let Some(corrected) = &brand.corrected { div { (Text(corrected)) } }
        }))
        @if let Some(picture) = picture { (picture) }
        @if !brand.incidents.is_empty() {
            (section("Alerts", html! {
                @for incident in &brand.incidents { div style="padding-top:4px" { (Text(incident)) } }
            }))
        }
        (tweets("Negative tweets worth reading", &brand.negative))
        (tweets("Positive tweets worth reading", &brand.positive))
    }
}

fn picture(curve: &Curve<'_>, source: &str) -> Markup {
    let style =
        format!("display:block;width:100%;max-width:{}px;height:auto;border:0", curve::WIDTH);
    html! { img src=(source) width=(curve::WIDTH) alt=(alt_text(curve)) style=(style); }
}
