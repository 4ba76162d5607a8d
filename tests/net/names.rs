//! A name server that knows one name: the broker's, with the addresses that a story gives it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::site::CLOUD;

/// Of a question: `A` and `AAAA` (RFC 1035, RFC 3596).
const A: u8 = 1;
const AAAA: u8 = 28;

/// Bytes before the questions.
const HEADER: usize = 12;

/// Answers every question from now on with these addresses of its family, in their order.
pub(crate) async fn serve(addresses: &[IpAddr]) -> JoinHandle<()> {
    // Here, so that nobody can ask before there is somebody to be asked.
    let socket = UdpSocket::bind((CLOUD, 53)).await.expect("port 53 of a namespace of its own");
    let addresses = addresses.to_vec();
    tokio::spawn(async move {
        let mut question = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut question).await.expect("a question");
            if let Some(answer) = answer(&question[..length], &addresses) {
                // On a broken wire nobody hears it.
                let _ = socket.send_to(&answer, from).await;
            }
        }
    })
}

fn answer(question: &[u8], addresses: &[IpAddr]) -> Option<Vec<u8>> {
    let name = question.get(HEADER..)?.iter().position(|byte| *byte == 0)?;
    let end = HEADER + name + 5;
    let family = *question.get(end - 3)?;
    let fits: Vec<&IpAddr> = addresses
        .iter()
        .filter(|address| match address {
            IpAddr::V4(_) => family == A,
            IpAddr::V6(_) => family == AAAA,
        })
        .collect();
    let mut answer = question.get(..end)?.to_vec();
    let count = u8::try_from(fits.len()).expect("a handful");
    answer[2..HEADER].copy_from_slice(&[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0]);
    for address in fits {
        // The name of the question, class IN, for a second.
        answer.extend([0xc0, 12, 0, family, 0, 1, 0, 0, 0, 1]);
        match address {
            IpAddr::V4(address) => answer.extend([&[0, 4][..], &Ipv4Addr::octets(address)].concat()),
            IpAddr::V6(address) => answer.extend([&[0, 16][..], &Ipv6Addr::octets(address)].concat()),
        }
    }
    Some(answer)
}
