//! Names: what the mesh knows is answered here, everything else is asked of the system's servers.
//!
//! Start at [`Table::answer`].

mod resolver;
mod table;
#[cfg(test)]
mod tests;

pub use resolver::Resolver;
pub use table::{Own, Table};

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// How long an answer may be kept. Unit: seconds.
const TTL: u32 = 30;
/// What every client takes over UDP. Unit: bytes.
const PLAIN_UDP: u16 = 512;
/// The largest answer over UDP, whatever a client offers: larger ones would be cut into pieces on the way. Unit: bytes.
const MAX_UDP: u16 = 4096;
/// Length of a message's header. Unit: bytes.
const HEADER: usize = 12;

/// What the question came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Answers are cut to what the client takes.
    Udp,
    /// Answers may have 64 KiB.
    Tcp,
}

/// What to do with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Send this.
    Reply(Vec<u8>),
    /// Ask the system's servers.
    Forward,
    /// It is no question: say nothing.
    Drop,
}

/// Answers a question; `table` is `None` while no table has come.
///
/// `random` orders the addresses: clients that take the first one spread over all.
pub fn answer(question: &[u8], table: Option<&Table>, transport: Transport, random: u64) -> Answer {
    let message = match Message::from_vec(question) {
        Ok(message) => message,
        Err(_) => return malformed(question),
    };
    if message.metadata.message_type != MessageType::Query {
        return Answer::Drop;
    }
    if message.metadata.op_code != OpCode::Query {
        return reply(refusal(&message, ResponseCode::NotImp), &message, transport);
    }
    let [query] = &*message.queries else {
        return reply(
            refusal(&message, ResponseCode::FormErr),
            &message,
            transport,
        );
    };
    let Some(table) = table else {
        return failure(question, transport);
    };
    let family = match query.query_type() {
        RecordType::A => Family::V4,
        RecordType::AAAA => Family::V6,
        _ => return Answer::Forward,
    };
    if query.query_class() != DNSClass::IN {
        return Answer::Forward;
    }
    let name = query.name().to_lowercase().to_ascii();
    let Some(found) = table.find(name.trim_end_matches('.')) else {
        return Answer::Forward;
    };
    let mut response = refusal(&message, ResponseCode::NoError);
    response.metadata.authoritative = true;
    let mut owner = query.name().clone();
    if let Some(canonical) = &found.canonical {
        let Ok(target) = Name::from_ascii(format!("{canonical}.")) else {
            return Answer::Forward;
        };
        let alias = RData::CNAME(CNAME(target.clone()));
        response.add_answer(Record::from_rdata(owner, TTL, alias));
        owner = target;
    }
    let mut addresses: Vec<&IpAddr> = found
        .addresses
        .iter()
        .filter(|ip| ip.is_ipv4() == (family == Family::V4))
        .collect();
    shuffle(&mut addresses, random);
    for ip in addresses {
        let data = match ip {
            IpAddr::V4(ip) => RData::A(A(*ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(*ip)),
        };
        response.add_answer(Record::from_rdata(owner.clone(), TTL, data));
    }
    reply(response, &message, transport)
}

/// "I cannot answer now": no server did, or there is no table yet.
pub fn failure(question: &[u8], transport: Transport) -> Answer {
    match Message::from_vec(question) {
        Ok(message) => reply(
            refusal(&message, ResponseCode::ServFail),
            &message,
            transport,
        ),
        Err(_) => malformed(question),
    }
}

/// An answer of a system's server, cut to what the client takes. `None` if it is no answer to the question.
pub fn relay(question: &[u8], answer: Vec<u8>, transport: Transport) -> Option<Vec<u8>> {
    if answer.len() < HEADER || question.get(..2) != answer.get(..2) || answer[2] & 0x80 == 0 {
        return None;
    }
    let asked = Message::from_vec(question).ok()?;
    if answer.len() <= limit(&asked, transport) {
        return Some(answer);
    }
    let response = Message::from_vec(&answer).ok()?;
    match reply(response, &asked, transport) {
        Answer::Reply(cut) => Some(cut),
        Answer::Forward | Answer::Drop => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// A response without answers.
fn refusal(message: &Message, code: ResponseCode) -> Message {
    let mut response = Message::error_msg(message.metadata.id, message.metadata.op_code, code);
    response.metadata.recursion_desired = message.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.add_queries(message.queries.iter().take(1).cloned());
    if message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP);
        response.set_edns(edns);
    }
    response
}

fn malformed(question: &[u8]) -> Answer {
    // A header without the bit of answers is worth one; anything less is noise.
    if question.len() < HEADER || question[2] & 0x80 != 0 {
        return Answer::Drop;
    }
    let id = u16::from_be_bytes([question[0], question[1]]);
    let response = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    response.to_vec().map_or(Answer::Drop, Answer::Reply)
}

fn limit(asked: &Message, transport: Transport) -> usize {
    match transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => asked
            .edns
            .as_ref()
            .map_or(PLAIN_UDP, Edns::max_payload)
            .clamp(PLAIN_UDP, MAX_UDP)
            .into(),
    }
}

/// Encodes, leaving out answers that do not fit, which the client is told.
fn reply(mut response: Message, asked: &Message, transport: Transport) -> Answer {
    let limit = limit(asked, transport);
    loop {
        let Ok(bytes) = response.to_vec() else {
            return Answer::Drop;
        };
        if bytes.len() <= limit {
            return Answer::Reply(bytes);
        }
        response.metadata.truncation = true;
        response.additionals.clear();
        response.authorities.clear();
        // Halving ends soon, and what a client does with a cut answer is to ask again over TCP.
        let keep = response.answers.len() / 2;
        if response.answers.is_empty() {
            return Answer::Drop;
        }
        response.answers.truncate(keep);
    }
}

/// Fisher and Yates, with numbers from one seed.
fn shuffle<T>(items: &mut [T], mut random: u64) {
    for last in (1..items.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let pick = (random % (last as u64 + 1)) as usize;
        items.swap(last, pick);
    }
}
