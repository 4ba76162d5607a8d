//! What the kernel says, spelled by hand. That it says so, and when, is shown in a network of their own by tests/net.

use super::news::Known;

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).expect("short");
    let mut message = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], body].concat();
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("short");
    let mut attribute = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// `RTM_NEWLINK` is 16 and `RTM_DELLINK` 17.
fn link(kind: u16, index: u32, flags: u32) -> Vec<u8> {
    let header = [&[0, 0, 1, 0][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 4]].concat();
    message(kind, &[header, attribute(3, b"eth0\0")].concat())
}

/// `RTM_NEWADDR` is 20 and `RTM_DELADDR` 21.
fn address(kind: u16, flags: u8, scope: u8, last: u8, lifetime: u32) -> Vec<u8> {
    let header = [&[10, 64, flags, scope][..], &2_u32.to_ne_bytes()].concat();
    let cache = [lifetime.to_ne_bytes(), lifetime.to_ne_bytes(), [0; 4], [0; 4]].concat();
    let ip = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    message(kind, &[header, attribute(1, &ip), attribute(6, &cache)].concat())
}

/// `RTM_NEWROUTE` is 24 and `RTM_DELROUTE` 25; a route of IPv6 to a destination of so many bits.
fn route(kind: u16, way: u8, bits: u8, gateway: u8, expires: u32) -> Vec<u8> {
    let header = [10, bits, 0, 0, 254, 9, 0, way, 0, 0, 0, 0];
    let destination = if bits == 0 { Vec::new() } else { attribute(1, &[0x20; 16]) };
    let rest =
        [attribute(5, &[gateway; 16]), attribute(4, &2_u32.to_ne_bytes()), attribute(23, &expires.to_ne_bytes())];
    message(kind, &[&header[..], &destination, &rest.concat()].concat())
}

const UP: u32 = 0x1_1043;
const NO_CARRIER: u32 = 0x1003;

#[test]
fn what_is_said_again_with_another_lifetime_is_no_news() {
    let mut known = Known::default();
    for said in [address(20, 0, 0, 1, 600), address(20, 0, 0, 2, 600), route(24, 1, 0, 1, 600), link(16, 2, UP)] {
        assert!(known.judge(&said), "said for the first time");
    }
    // The link came last, and its news took what was known of the rest.
    for said in [address(20, 0, 0, 1, 599), address(20, 0, 0, 2, 599), route(24, 1, 0, 1, 599)] {
        assert!(known.judge(&said));
    }
    for lifetime in 0..10 {
        let all = [
            address(20, 0, 0, 1, lifetime),
            address(20, 0x20, 0, 2, lifetime),
            route(24, 1, 0, 1, lifetime),
            link(16, 2, UP),
        ];
        assert!(!known.judge(&all.concat()), "{lifetime}");
    }
    assert!(known.judge(&address(20, 0, 0, 3, 600)), "another address");
    assert!(known.judge(&route(24, 1, 0, 2, 600)), "another gateway");
}

#[test]
fn what_goes_is_news_and_so_is_what_comes_back() {
    let mut known = Known::default();
    assert!(known.judge(&address(20, 0, 0, 1, 600)) && known.judge(&route(24, 1, 0, 1, 600)));
    assert!(known.judge(&address(21, 0, 0, 1, 600)));
    // The kernel does not tell of each route that goes with an address.
    assert!(known.judge(&route(24, 1, 0, 1, 600)) && known.judge(&address(20, 0, 0, 1, 600)));
    assert!(known.judge(&route(25, 1, 0, 1, 600)) && known.judge(&route(24, 1, 0, 1, 600)));
    for flags in [UP, NO_CARRIER, UP] {
        assert!(known.judge(&link(16, 2, flags)) && !known.judge(&link(16, 2, flags)));
    }
    assert!(known.judge(&link(17, 2, UP)) && !known.judge(&link(17, 2, UP)));
}

#[test]
fn what_leads_to_no_broker_is_no_news() {
    let mut known = Known::default();
    let loopback = link(16, 1, UP | 0x8);
    // Of the link alone, of this machine alone, and not usable yet.
    let addresses = [address(20, 0, 253, 1, 0), address(21, 0, 254, 1, 0), address(20, 0x40, 0, 1, 600)];
    // Multicast, one of this machine, and narrow ones.
    let routes = [route(24, 5, 0, 1, 0), route(25, 2, 0, 1, 0), route(24, 1, 8, 1, 0), route(24, 1, 64, 1, 0)];
    for said in [loopback].into_iter().chain(addresses).chain(routes) {
        assert!(!known.judge(&said), "{said:?}");
    }
    assert!(!known.judge(&message(3, &[])), "the end of a list");
    assert!(known.judge(&address(20, 0, 0, 1, 600)), "it may be used from now on");
}

#[test]
fn what_cannot_be_read_is_news_and_ends() {
    let whole = [address(20, 0, 0, 1, 600), route(24, 1, 1, 1, 600), link(16, 2, UP)].concat();
    for cut in 1..whole.len() {
        // Nothing but that it returns: some beginnings are messages.
        Known::default().judge(&whole[..cut]);
        let mut bent = whole.clone();
        bent[cut] ^= 0xff;
        Known::default().judge(&bent);
    }
    let mut known = Known::default();
    let address = address(20, 0, 0, 1, 600);
    for said in [&[0; 16][..], &[1], &address[..18], &address[..30]] {
        assert!(known.judge(said) && known.judge(said), "{said:?}");
    }
    let long = message(24, &[&[2, 0, 0, 0, 254, 9, 0, 1, 0, 0, 0, 0][..], &attribute(9, &[7; 300])].concat());
    assert!(known.judge(&long) && known.judge(&long), "too long to be kept");
}

#[test]
fn what_is_known_is_bounded() {
    let mut known = Known::default();
    let many = |known: &mut Known| (0..2_000_u32).filter(|n| known.judge(&link(16, *n, UP))).count();
    assert_eq!((many(&mut known), many(&mut known)), (2_000, 2_000), "more than can be kept");
}
