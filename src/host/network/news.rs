//! Judges what rtnetlink says: which of it is news to somebody who wants to reach a broker.
//!
//! Knows the shape of the messages (rtnetlink(7), <linux/rtnetlink.h>) as far as that takes, and opens nothing. What it
//! cannot read counts as news.
//!
//! The kernel says much again that it has said before: a router's advertisement refreshes the lifetimes of addresses and
//! routes every few minutes, so does a DHCP lease, and a scan of a wireless link repeats the link. So what was said is kept,
//! without its lifetimes. A loss, or a link that goes up or down, takes more with it than is told (routes of IPv4, for one);
//! from then on all counts as news again. The price is one hint too many, never one too few.

use std::collections::{HashMap, HashSet};

/// The most links, and the most addresses and routes, that are kept. Beyond them the oldest knowledge is dropped as a whole.
const MOST_KNOWN: usize = 512;
/// The most bytes of one that is kept; a longer one (a route over dozens of gateways) is always news.
const LONGEST_KNOWN: usize = 256;

/// Bytes of a message's header, `struct nlmsghdr`.
const HEADER: usize = 16;

// Types of messages.
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;

/// `IFF_UP` and `IFF_RUNNING`: switched on, and with a carrier.
const UP: u32 = 0x1 | 0x40;
const LOOPBACK: u32 = 0x8;
/// `IFA_F_DADFAILED` and `IFA_F_TENTATIVE`: nobody may use this address, or not yet; that it may be, is told.
const UNUSABLE: u8 = 0x08 | 0x40;
/// `RT_SCOPE_LINK`. Beyond it lie the scopes of this machine alone.
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;
/// `RTM_F_CLONED`: an entry of the kernel's cache.
const CLONED: u32 = 0x200;
/// `IFA_CACHEINFO` and `IFA_FLAGS`.
const LIFETIME_OF_ADDRESS: &[u16] = &[6, 8];
/// `RTA_CACHEINFO` and `RTA_EXPIRES`.
const LIFETIME_OF_ROUTE: &[u16] = &[12, 23];
/// The most bits of a destination that a route may have to matter: 0 for the default route, 1 for the halves into which a VPN
/// divides it, 3 for all of IPv6 that is given out (`2000::/3`). Narrower ones lead to neighbours, containers and cellars, and
/// a broker there is reached over a link whose addresses tell.
const WIDE: u8 = 3;

/// What the kernel has said so far, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By number: whether the link is up.
    links: HashMap<u32, bool>,
    /// Addresses and routes: type, header and attributes, without what tells of lifetimes.
    there: HashSet<Vec<u8>>,
}

impl Known {
    /// All may have changed.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether there is news in these bytes, which hold one message or more.
    pub(super) fn judge(&mut self, mut said: &[u8]) -> bool {
        let mut is_news = false;
        while !said.is_empty() {
            let (Some(length), Some(kind)) = (number(said, 0), short(said, 4)) else { return true };
            let length = length as usize;
            if length < HEADER {
                return true;
            }
            let body = said.get(HEADER..length.min(said.len())).unwrap_or_default();
            is_news |= self.is_news(kind, body).unwrap_or(true);
            said = said.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        is_news
    }

    /// `None`: the message is cut or strange.
    fn is_news(&mut self, kind: u16, body: &[u8]) -> Option<bool> {
        Some(match kind {
            NEW_LINK | DEL_LINK => {
                let (index, flags) = (number(body, 4)?, number(body, 8)?);
                flags & LOOPBACK == 0 && self.link(index, kind == NEW_LINK && flags & UP == UP)
            }
            NEW_ADDRESS | DEL_ADDRESS => {
                let (flags, scope) = (*body.get(2)?, *body.get(3)?);
                scope < SCOPE_LINK
                    && match kind {
                        DEL_ADDRESS => self.gone(),
                        _ if flags & UNUSABLE != 0 => false,
                        _ => self.there(kind, identity(body, 8, 2..3, LIFETIME_OF_ADDRESS)?),
                    }
            }
            NEW_ROUTE | DEL_ROUTE => {
                let (bits, way, flags) = (*body.get(1)?, *body.get(7)?, number(body, 8)?);
                bits <= WIDE
                    && way == UNICAST
                    && flags & CLONED == 0
                    && match kind {
                        DEL_ROUTE => self.gone(),
                        _ => self.there(kind, identity(body, 12, 8..12, LIFETIME_OF_ROUTE)?),
                    }
            }
            _ => false,
        })
    }

    fn link(&mut self, index: u32, is_up: bool) -> bool {
        if self.links.len() >= MOST_KNOWN {
            self.links.clear();
        }
        let is_news = self.links.insert(index, is_up) != Some(is_up);
        if is_news {
            self.there.clear();
        }
        is_news
    }

    fn there(&mut self, kind: u16, mut identity: Vec<u8>) -> bool {
        if identity.len() > LONGEST_KNOWN {
            return true;
        }
        if self.there.len() >= MOST_KNOWN {
            self.there.clear();
        }
        identity.extend(kind.to_ne_bytes());
        self.there.insert(identity)
    }

    fn gone(&mut self) -> bool {
        self.there.clear();
        true
    }
}

/// What tells one address or route from another: the header of so many bytes without its flags, and the attributes but
/// these.
fn identity(body: &[u8], header: usize, flags: std::ops::Range<usize>, but: &[u16]) -> Option<Vec<u8>> {
    let mut identity = body.get(..header)?.to_vec();
    identity[flags].fill(0);
    for attribute in Attributes(&body[header..]) {
        let (kind, value) = attribute?;
        if !but.contains(&kind) {
            identity.extend(kind.to_ne_bytes());
            identity.extend(value);
        }
    }
    Some(identity)
}

/// The attributes of a message, `struct rtattr` each: type and value. `None` at the end of one that is cut.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Option<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let next = short(self.0, 0).zip(short(self.0, 2)).and_then(|(length, kind)| {
            let length = usize::from(length);
            let value = self.0.get(4..length)?;
            self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, value))
        });
        if next.is_none() {
            self.0 = &[];
        }
        Some(next)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
