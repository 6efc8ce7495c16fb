//! As much of DNS messages (RFC 1035, section 4) as looking for one kind of service takes.
//!
//! A node answers with its PTR, SRV, TXT and address records in one message, so each message is read by itself and nothing
//! is kept: whoever floods the network with records fills no memory. What comes from the network is read totally and
//! bounded; anything odd ends the reading of its message.

use std::net::IpAddr;

/// The type of service looked for, as labels.
const SERVICE: [&str; 3] = ["_bandmesh", "_udp", "local"];

/// Longest query we send, below every path's limit.
const MAX_QUERY_BYTES: usize = 1200;

/// Longest name (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 255;

/// Addresses taken of one host.
const MAX_ADDRESSES: usize = 16;

const HEADER_BYTES: usize = 12;
const IS_RESPONSE: u8 = 0x80;
const CLASS_IN: u16 = 1;
/// In answers the top bit of the class says that other records of the name are void.
const CLASS_MASK: u16 = 0x7fff;
const A: u16 = 1;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// A name as on the wire, not compressed: each label after its length, and a zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(Vec<u8>);

impl Name {
    fn of(labels: &[&str]) -> Self {
        let mut bytes = Vec::new();
        for label in labels {
            // Ours are short.
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        Self(bytes)
    }

    fn is(&self, other: &Name) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }

    /// What comes before `parent` in this name.
    fn below(&self, parent: &Name) -> Option<&[u8]> {
        let split = self.0.len().checked_sub(parent.0.len())?;
        let (prefix, rest) = self.0.split_at_checked(split)?;
        (!prefix.is_empty() && rest.eq_ignore_ascii_case(&parent.0)).then_some(prefix)
    }
}

/// What a message says of one instance of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) name: Name,
    /// Seconds for which its name may be remembered; 0: it is withdrawn.
    pub(super) ttl_s: u32,
    pub(super) port: u16,
    pub(super) addresses: Vec<IpAddr>,
    text: Vec<u8>,
}

impl Instance {
    /// The value of a key in the TXT record (RFC 6763, section 6).
    pub(super) fn property(&self, key: &str) -> Option<&str> {
        let mut rest = &self.text[..];
        while let Some((&length, after)) = rest.split_first() {
            let (entry, after) = after.split_at_checked(length.into())?;
            rest = after;
            let Ok(entry) = std::str::from_utf8(entry) else { continue };
            if let Some((name, value)) = entry.split_once('=')
                && name.eq_ignore_ascii_case(key)
            {
                return Some(value);
            }
        }
        None
    }
}

/// The question for all instances. Those that are `known`, by how long they may be remembered yet, need not answer
/// (RFC 6762, section 7.1).
pub(super) fn query<'a>(known: impl IntoIterator<Item = (&'a Name, u32)>) -> Vec<u8> {
    let service = Name::of(&SERVICE);
    let mut answers = 0u16;
    let mut bytes = vec![0; HEADER_BYTES];
    bytes.extend_from_slice(&service.0);
    bytes.extend_from_slice(&PTR.to_be_bytes());
    bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
    // The service's name is right after the header: this refers to it.
    let reference = (0xc000 | HEADER_BYTES as u16).to_be_bytes();
    for (name, ttl_s) in known {
        let Some(prefix) = name.below(&service) else { continue };
        let length = prefix.len() + reference.len();
        if bytes.len() + 12 + length > MAX_QUERY_BYTES {
            break;
        }
        bytes.extend_from_slice(&reference);
        bytes.extend_from_slice(&PTR.to_be_bytes());
        bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
        bytes.extend_from_slice(&ttl_s.to_be_bytes());
        bytes.extend_from_slice(&(length as u16).to_be_bytes());
        bytes.extend_from_slice(prefix);
        bytes.extend_from_slice(&reference);
        answers += 1;
    }
    // One question, and the answers known.
    bytes[4..6].copy_from_slice(&1u16.to_be_bytes());
    bytes[6..8].copy_from_slice(&answers.to_be_bytes());
    bytes
}

/// The instances that a message tells all of: name, port, text and addresses. Of one withdrawn, whatever it says.
pub(super) fn read(message: &[u8]) -> Vec<Instance> {
    let Some(records) = Records::read(message) else { return Vec::new() };
    records.instances()
}

/// The records of a message that matter.
#[derive(Default)]
struct Records {
    pointers: Vec<(Name, u32)>,
    services: Vec<(Name, u16, Name)>,
    texts: Vec<(Name, u32, Vec<u8>)>,
    addresses: Vec<(Name, IpAddr)>,
}

impl Records {
    fn read(message: &[u8]) -> Option<Self> {
        let mut reader = Reader { message, at: 0 };
        let _id = reader.u16()?;
        let [flags, _] = reader.u16()?.to_be_bytes();
        if flags & IS_RESPONSE == 0 {
            return None;
        }
        let questions = reader.u16()?;
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?];
        for _ in 0..questions {
            reader.name()?;
            reader.u32()?;
        }
        let service = Name::of(&SERVICE);
        let mut records = Self::default();
        for _ in 0..counts.into_iter().map(u32::from).sum() {
            // Whoever fills the rest of a message with nonsense has said what came before.
            if records.add(&mut reader, &service).is_none() {
                break;
            }
        }
        Some(records)
    }

    fn add(&mut self, reader: &mut Reader<'_>, service: &Name) -> Option<()> {
        let name = reader.name()?;
        let kind = reader.u16()?;
        let class = reader.u16()? & CLASS_MASK;
        let ttl_s = reader.u32()?;
        let length = reader.u16()?.into();
        let data_at = reader.at;
        let data = reader.take(length)?;
        if class != CLASS_IN {
            return Some(());
        }
        let mut inside = Reader { message: reader.message, at: data_at };
        match kind {
            PTR if name.is(service) => self.pointers.push((inside.name()?, ttl_s)),
            SRV if name.below(service).is_some() => {
                inside.u32()?;
                let port = inside.u16()?;
                self.services.push((name, port, inside.name()?));
            }
            TXT if name.below(service).is_some() => self.texts.push((name, ttl_s, data.to_vec())),
            A => self.addresses.push((name, <[u8; 4]>::try_from(data).ok()?.into())),
            AAAA => self.addresses.push((name, <[u8; 16]>::try_from(data).ok()?.into())),
            _ => {}
        }
        Some(())
    }

    fn instances(self) -> Vec<Instance> {
        let Self { mut pointers, services, texts, mut addresses } = self;
        // A message may be full of records; looked up one by one they would take their number's square.
        pointers.sort();
        addresses.sort();
        addresses.dedup();
        let mut services: Vec<_> = services;
        services.sort();
        texts
            .into_iter()
            .filter_map(|(name, text_ttl_s, text)| {
                let at = services.partition_point(|(it, ..)| *it < name);
                let (port, host) = match services.get(at) {
                    Some((it, port, host)) if *it == name => (*port, host),
                    _ if text_ttl_s == 0 => return Some(Instance::withdrawn(name, text)),
                    _ => return None,
                };
                let ttl_s = match pointers.get(pointers.partition_point(|(it, _)| *it < name)) {
                    Some((it, ttl_s)) if *it == name => *ttl_s,
                    _ => text_ttl_s,
                };
                if ttl_s == 0 {
                    return Some(Instance::withdrawn(name, text));
                }
                let from = addresses.partition_point(|(it, _)| it < host);
                let own = addresses.iter().skip(from).take_while(|(it, _)| it == host);
                let addresses = own.map(|(_, ip)| *ip).take(MAX_ADDRESSES).collect();
                Some(Instance { name, ttl_s, port, addresses, text })
            })
            .collect()
    }
}

impl Instance {
    fn withdrawn(name: Name, text: Vec<u8>) -> Self {
        Self { name, ttl_s: 0, port: 0, addresses: Vec::new(), text }
    }
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// A name, which may go on at an earlier place of the message (RFC 1035, section 4.1.4).
    fn name(&mut self) -> Option<Name> {
        let mut name = Vec::new();
        let (mut at, mut end) = (self.at, None);
        loop {
            let length = *self.message.get(at)?;
            match length >> 6 {
                0 => {
                    let label = self.message.get(at..=at + usize::from(length))?;
                    name.extend_from_slice(label);
                    if name.len() > MAX_NAME_BYTES {
                        return None;
                    }
                    at += label.len();
                    if length == 0 {
                        self.at = end.unwrap_or(at);
                        return Some(Name(name));
                    }
                }
                3 => {
                    let low = *self.message.get(at + 1)?;
                    let target = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    end.get_or_insert(at + 2);
                    // Always backwards, or it could go round for ever.
                    at = (target < at).then_some(target)?;
                }
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put_record(bytes: &mut Vec<u8>, name: &Name, kind: u16, ttl_s: u32, data: &[u8]) {
        bytes.extend_from_slice(&name.0);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&CLASS_IN.to_be_bytes());
        bytes.extend_from_slice(&ttl_s.to_be_bytes());
        bytes.extend_from_slice(&(data.len() as u16).to_be_bytes());
        bytes.extend_from_slice(data);
    }

    /// An announcement of `instances`, or their withdrawal.
    fn announcement(instances: &[&str], ttl_s: u32) -> Vec<u8> {
        let text = b"\x03v=1\x06id=abc\x01x".to_vec();
        let instances: Vec<_> = instances.iter().map(|it| (*it, text.clone())).collect();
        message(&instances, ttl_s)
    }

    /// What a responder says of `instances` with their TXT records.
    pub(in super::super) fn message(instances: &[(&str, Vec<u8>)], ttl_s: u32) -> Vec<u8> {
        let service = Name::of(&SERVICE);
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[2] = IS_RESPONSE;
        bytes[7] = 4 * instances.len() as u8;
        for (instance, text) in instances {
            let name = Name::of(&[instance, SERVICE[0], SERVICE[1], SERVICE[2]]);
            let host = Name::of(&[instance, "local"]);
            put_record(&mut bytes, &service, PTR, ttl_s, &name.0);
            let srv = [&[0, 0, 0, 0, 0x1e, 0x62], &host.0[..]].concat();
            put_record(&mut bytes, &name, SRV, ttl_s, &srv);
            put_record(&mut bytes, &name, TXT, ttl_s, text);
            put_record(&mut bytes, &host, A, ttl_s, &[10, 0, 0, 1]);
        }
        bytes
    }

    #[test]
    fn every_instance_of_a_message_is_read_with_what_belongs_to_it() {
        let read = read(&announcement(&["alice", "bob"], 4500));
        assert_eq!(read.len(), 2);
        for instance in &read {
            assert_eq!((instance.port, instance.ttl_s), (7778, 4500));
            assert_eq!(instance.addresses, [IpAddr::from([10, 0, 0, 1])]);
            assert_eq!(instance.property("ID"), Some("abc"));
            assert_eq!(instance.property("x"), None);
        }
    }

    #[test]
    fn a_withdrawal_is_told_from_an_announcement() {
        let read = read(&announcement(&["alice"], 0));
        assert_eq!((read[0].ttl_s, read[0].property("id")), (0, Some("abc")));
    }

    #[test]
    fn a_query_names_who_need_not_answer_as_far_as_there_is_room() {
        let names: Vec<_> = (0..1000)
            .map(|number| Name::of(&[&format!("bandmesh-{number:020}"), "_bandmesh", "_udp", "local"]))
            .collect();
        let query = query(names.iter().map(|name| (name, 4480)));
        assert!(query.len() <= MAX_QUERY_BYTES);
        let answers = u16::from_be_bytes([query[6], query[7]]);
        assert!((10..30).contains(&answers), "{answers}");
        let mut reader = Reader { message: &query, at: HEADER_BYTES };
        assert!(reader.name().unwrap().is(&Name::of(&SERVICE)));
        reader.u32().unwrap();
        for name in names.iter().take(answers.into()) {
            assert!(reader.name().unwrap().is(&Name::of(&SERVICE)));
            reader.take(10).unwrap();
            assert_eq!(reader.name().unwrap(), *name);
        }
        assert_eq!(reader.at, query.len());
        assert_eq!(read(&query), []);
    }

    #[test]
    fn a_name_that_goes_round_is_refused() {
        let mut bytes = announcement(&["alice"], 4500);
        let start = bytes.len() as u16;
        bytes[7] += 1;
        bytes.extend_from_slice(&(0xc000 | start).to_be_bytes());
        bytes.extend_from_slice(&[0; 10]);
        // What came before counts.
        assert_eq!(read(&bytes).len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            read(&bytes);
        }

        #[test]
        fn any_damage_is_read_or_refused(at in 0usize..200, byte: u8, cut in 0usize..200) {
            let mut bytes = announcement(&["alice", "bob"], 4500);
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            read(&bytes);
        }
    }
}
