//! The text of Mastodon's HTML: paragraphs, line breaks and links.

use std::borrow::Cow;

/// The text without tags; `<br>` is a line break, `</p>` a blank line. Entities stay, because they are decoded
/// later, once for all formats. What follows a `<` that no `>` ends is text. Linear in the length.
pub(super) fn html_to_text(html: &str) -> Cow<'_, str> {
    if !html.contains('<') {
        return html.trim().into();
    }
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        text.push_str(before);
        let is_tag =
            tag[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
        if !is_tag {
            text.push('<');
            rest = &tag[1..];
            continue;
        }
        let Some(end) = tag.find('>') else {
            rest = tag;
            break;
        };
        match tag[1..end].trim_end_matches('/').trim().to_ascii_lowercase().as_str() {
            "br" => text.push('\n'),
            "/p" | "/blockquote" | "/ul" | "/ol" | "/pre" => text.push_str("\n\n"),
            "/li" => text.push('\n'),
            _ => {}
        }
        rest = &tag[end + 1..];
    }
    text.push_str(rest);
    text.trim().to_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_people_read() {
        let check = |html: &str, expected: &str| assert_eq!(html_to_text(html), expected, "{html}");
        check("plain", "plain");
        check("<p>one</p><p>two<br />three<br>four</p>", "one\n\ntwo\nthree\nfour");
        check("<p>3 &lt; 4 &amp; more</p>", "3 &lt; 4 &amp; more");
        check(
            r#"<p><span class="h-card"><a href="https://x.example/@ann" class="u-url mention">@<span>ann</span></a></span> hi</p>"#,
            "@ann hi",
        );
        check(
            r#"<a href="https://e.example/long"><span class="invisible">https://</span><span class="ellipsis">e.example/lo</span><span class="invisible">ng</span></a>"#,
            "https://e.example/long",
        );
        check("<ul><li>a</li><li>b</li></ul>", "a\nb");
        check("1 < 2 <b>bold</b> a<3", "1 < 2 bold a<3");
        check("cut <a href=", "cut <a href=");
        check("<!-- note -->x<P>y</P>", "xy");
        check("", "");
        check(&"<a".repeat(100_000), &"<a".repeat(100_000));
    }
}
