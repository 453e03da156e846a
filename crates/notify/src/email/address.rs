//! Mail addresses, also of domains that are not written in ASCII.

use lettre::Address;
use lettre::address::AddressError;
use lettre::message::Mailbox;

/// Parses an address. A domain such as `exämple.com` becomes `xn--exmple-cua.com` (RFC 5891): then a server
/// without SMTPUTF8 accepts it, too.
pub(super) fn mailbox(text: &str) -> Result<Mailbox, AddressError> {
    let mut mailbox: Mailbox = text.parse()?;
    if !mailbox.email.domain().is_ascii() {
        let domain = idna::domain_to_ascii(mailbox.email.domain());
        let domain = domain.map_err(|_| AddressError::InvalidDomain)?;
        mailbox.email = Address::new(mailbox.email.user(), domain)?;
    }
    Ok(mailbox)
}

/// Whether `text` is a valid mail address, such as `Comms <comms@example.com>`.
pub fn is_address(text: &str) -> bool {
    mailbox(text).is_ok()
}

/// Whether only servers with SMTPUTF8 (RFC 6531) accept this address: it has other letters than ASCII's before
/// the `@`.
pub fn needs_smtputf8(text: &str) -> bool {
    mailbox(text).is_ok_and(|mailbox| !mailbox.email.user().is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_become_ascii() {
        let check = |text: &str, expected: Option<&str>, utf8: bool| {
            let found = mailbox(text).ok().map(|mailbox| mailbox.email.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
            assert_eq!(
                (is_address(text), needs_smtputf8(text)),
                (expected.is_some(), utf8),
                "{text}"
            );
        };
        check("comms@example.com", Some("comms@example.com"), false);
        check("comms@exämple.com", Some("comms@xn--exmple-cua.com"), false);
        check("Comms <comms@BÜCHER.example>", Some("comms@xn--bcher-kva.example"), false);
        check("jörg@example.com", Some("jörg@example.com"), true);
        check("jörg@exämple.com", Some("jörg@xn--exmple-cua.com"), true);
        check("comms", None, false);
        check("comms@exa mple.com", None, false);
    }
}
