//! Numbers as people read them in mails, pages, reports and logs.

/// A share in 0..=1 as a percentage without decimals, such as `12 %`.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// An interval of shares in 0..=1 as percentages without decimals, such as `10 to 14 %`.
pub fn percent_interval(low: f64, high: f64) -> String {
    format!("{:.0} to {}", low * 100.0, percent(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_shares() {
        let check = |share, expected| assert_eq!(percent(share), expected);
        check(0.0, "0 %");
        check(0.124, "12 %");
        check(0.126, "13 %");
        check(1.0, "100 %");
        assert_eq!(percent_interval(0.1, 0.14), "10 to 14 %");
    }
}
