//! Distinguishes public from private IP addresses; pure.
//!
//! **Invariant.** An address counts as private unless it is known to be public. An IPv6 address
//! that embeds an IPv4 address (mapped, NAT64 or 6to4) counts as that IPv4 address does.
//! Source: the IANA registries of special-purpose addresses (RFC 6890).

use std::net::{IpAddr, Ipv4Addr};

/// Whether an address is on the public internet: not an address of this machine, of a private
/// network or of a cloud's metadata service, and not a multicast or broadcast address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match v6.segments() {
            [0, 0, 0, 0, 0, 0xffff, a, b]
            | [0x64, 0xff9b, 0, 0, 0, 0, a, b]
            | [0x2002, a, b, ..] => {
                let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
                is_public_v4(Ipv4Addr::new(a, b, c, d))
            }
            // Teredo, and documentation.
            [0x2001, 0 | 0xdb8, ..] => false,
            [first, ..] => first & 0xe000 == 0x2000,
        },
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocols = (a, b, c) == (192, 0, 0);
    let benchmarks = a == 198 && (18..20).contains(&b);
    !(a == 0
        || a >= 224
        || v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_documentation()
        || shared
        || protocols
        || benchmarks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_public_from_private() {
        let check = |name, address: &str, expected| {
            let address = address.parse().expect("an address");
            assert_eq!(is_public(address), expected, "{name}: {address}");
        };
        check("public", "8.8.8.8", true);
        check("public, before the shared ones", "100.63.255.255", true);
        check("public, after the shared ones", "100.128.0.1", true);
        check("public, beside the private ones", "172.32.0.1", true);
        check("public, IPv6", "2606:4700::1111", true);
        check("this machine", "127.0.0.1", false);
        check("this machine, another name", "127.8.9.10", false);
        check("any", "0.0.0.0", false);
        check("this network", "0.1.2.3", false);
        check("private, 10", "10.1.2.3", false);
        check("private, 172", "172.31.255.255", false);
        check("private, 192", "192.168.1.1", false);
        check("carrier's NAT", "100.64.0.1", false);
        check("metadata", "169.254.169.254", false);
        check("protocols", "192.0.0.8", false);
        check("documentation", "203.0.113.7", false);
        check("benchmarks", "198.19.0.1", false);
        check("multicast", "224.0.0.1", false);
        check("broadcast", "255.255.255.255", false);
        check("this machine, IPv6", "::1", false);
        check("any, IPv6", "::", false);
        check("mapped", "::ffff:127.0.0.1", false);
        check("mapped metadata", "::ffff:169.254.169.254", false);
        check("mapped public", "::ffff:8.8.8.8", true);
        check("compatible", "::127.0.0.1", false);
        check("NAT64 of a private one", "64:ff9b::10.0.0.1", false);
        check("NAT64 of a public one", "64:ff9b::8.8.8.8", true);
        check("NAT64, local", "64:ff9b:1::1", false);
        check("6to4 of a private one", "2002:c0a8:101::1", false);
        check("Teredo", "2001::1", false);
        check("unique local", "fd00::1", false);
        check("link-local", "fe80::1", false);
        check("site-local", "fec0::1", false);
        check("multicast, IPv6", "ff02::1", false);
        check("documentation, IPv6", "2001:db8::1", false);
    }
}
