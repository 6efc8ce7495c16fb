//! What looking for one kind of service takes of DNS messages.
//!
//! A node answers with its PTR, SRV, TXT and address records in one message, so each message is read by itself and nothing
//! is kept: whoever floods the network with records fills no memory. A message that is not well formed is not read at all.

use std::collections::HashMap;
use std::net::IpAddr;

use simple_dns::rdata::{PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

/// The type of service looked for.
const SERVICE: &str = "_bandmesh._udp.local";

/// Longest query we send, below every path's limit.
const MAX_QUERY_BYTES: usize = 1200;

/// Addresses taken of one host.
const MAX_ADDRESSES: usize = 16;

/// What a message says of one instance of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) name: Name<'static>,
    /// Seconds for which its name may be remembered; 0: it is withdrawn.
    pub(super) ttl_s: u32,
    pub(super) port: u16,
    pub(super) addresses: Vec<IpAddr>,
    text: TXT<'static>,
}

impl Instance {
    /// The value of a key in the TXT record (RFC 6763, section 6).
    pub(super) fn property(&self, key: &str) -> Option<&str> {
        let is_it = |name: &[u8]| name.eq_ignore_ascii_case(key.as_bytes());
        let (_, value) = self.text.iter_raw().find(|(name, _)| is_it(name))?;
        std::str::from_utf8(value?).ok()
    }
}

/// The question for all instances. Those that are `known`, by how long they may be remembered yet, need not answer
/// (RFC 6762, section 7.1).
pub(super) fn query<'a>(known: impl IntoIterator<Item = (&'a Name<'static>, u32)>) -> Vec<u8> {
    let service = Name::new_unchecked(SERVICE);
    let mut packet = Packet::new_query(0);
    let (kind, class) = (QTYPE::TYPE(TYPE::PTR), QCLASS::CLASS(CLASS::IN));
    packet.questions.push(Question::new(service.clone(), kind, class, false));
    packet.answers.extend(known.into_iter().map(|(name, ttl_s)| {
        ResourceRecord::new(service.clone(), CLASS::IN, ttl_s, RData::PTR(PTR(name.clone())))
    }));
    loop {
        let bytes = packet.build_bytes_vec_compressed().unwrap_or_default();
        if bytes.len() <= MAX_QUERY_BYTES || packet.answers.pop().is_none() {
            return bytes;
        }
    }
}

/// The instances that a message tells all of: name, port, text and addresses. Of one withdrawn, whatever it says.
pub(super) fn read(message: &[u8]) -> Vec<Instance> {
    let Ok(packet) = Packet::parse(message) else { return Vec::new() };
    if !packet.has_flags(PacketFlag::RESPONSE) {
        return Vec::new();
    }
    Records::of(&packet).instances()
}

/// The records of a message that matter, by whose they are: looked up one by one, those of a message that is full of
/// them would take their number's square.
#[derive(Default)]
struct Records<'a> {
    pointers: HashMap<&'a Name<'a>, u32>,
    services: HashMap<&'a Name<'a>, &'a SRV<'a>>,
    texts: HashMap<&'a Name<'a>, (u32, &'a TXT<'a>)>,
    addresses: HashMap<&'a Name<'a>, Vec<IpAddr>>,
}

impl<'a> Records<'a> {
    fn of(packet: &'a Packet<'a>) -> Self {
        let service = Name::new_unchecked(SERVICE);
        let mut records = Self::default();
        for record in packet.answers.iter().chain(&packet.additional_records) {
            let ResourceRecord { name, class: CLASS::IN, ttl, rdata, .. } = record else { continue };
            match rdata {
                RData::PTR(pointer) if *name == service => drop(records.pointers.insert(&pointer.0, *ttl)),
                RData::SRV(srv) if name.is_subdomain_of(&service) => drop(records.services.insert(name, srv)),
                RData::TXT(text) if name.is_subdomain_of(&service) => {
                    records.texts.insert(name, (*ttl, text));
                }
                RData::A(it) => records.add_address(name, IpAddr::V4(it.address.into())),
                RData::AAAA(it) => records.add_address(name, IpAddr::V6(it.address.into())),
                _ => {}
            }
        }
        records
    }

    fn add_address(&mut self, host: &'a Name<'a>, ip: IpAddr) {
        let known = self.addresses.entry(host).or_default();
        if known.len() < MAX_ADDRESSES && !known.contains(&ip) {
            known.push(ip);
        }
    }

    fn instances(&self) -> Vec<Instance> {
        self.texts.iter().filter_map(|(name, (ttl_s, text))| self.instance(name, *ttl_s, text)).collect()
    }

    fn instance(&self, name: &Name<'_>, text_ttl_s: u32, text: &TXT<'_>) -> Option<Instance> {
        let ttl_s = self.pointers.get(name).copied().unwrap_or(text_ttl_s);
        let (name, text) = (name.clone().into_owned(), text.clone().into_owned());
        match self.services.get(&name) {
            _ if ttl_s == 0 => Some(Instance { name, ttl_s, port: 0, addresses: Vec::new(), text }),
            Some(SRV { port, target, .. }) => {
                let addresses = self.addresses.get(target).cloned().unwrap_or_default();
                Some(Instance { name, ttl_s, port: *port, addresses, text })
            }
            None => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use simple_dns::rdata::A;

    /// An announcement of `instances`, or their withdrawal.
    fn announcement(instances: &[&str], ttl_s: u32) -> Vec<u8> {
        let instances: Vec<_> = instances.iter().map(|it| (*it, vec!["v=1", "id=abc", "x"])).collect();
        message(&instances, ttl_s)
    }

    /// What a responder says of `instances` with their TXT records.
    pub(in super::super) fn message(instances: &[(&str, Vec<&str>)], ttl_s: u32) -> Vec<u8> {
        let mut packet = Packet::new_reply(0);
        for (instance, texts) in instances {
            let full = format!("{instance}.{SERVICE}");
            let name = Name::new(&full).unwrap().into_owned();
            let host = Name::new(instance).unwrap().into_owned();
            let text = texts.iter().fold(TXT::new(), |text, entry| text.with_string(entry).unwrap());
            let service = SRV { priority: 0, weight: 0, port: 7778, target: host.clone() };
            let address = A { address: u32::from_be_bytes([10, 0, 0, 1]) };
            for (of, data) in [
                (Name::new_unchecked(SERVICE), RData::PTR(PTR(name.clone()))),
                (name.clone(), RData::SRV(service)),
                (name, RData::TXT(text.into_owned())),
                (host, RData::A(address)),
            ] {
                packet.answers.push(ResourceRecord::new(of, CLASS::IN, ttl_s, data));
            }
        }
        packet.build_bytes_vec_compressed().unwrap()
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
        let names: Vec<_> = (0..100)
            .map(|number| Name::new(&format!("bandmesh-{number:020}.{SERVICE}")).unwrap().into_owned())
            .collect();
        let query = query(names.iter().map(|name| (name, 4480)));
        assert!(query.len() <= MAX_QUERY_BYTES);
        let asked = Packet::parse(&query).unwrap();
        assert_eq!(asked.questions[0].qname, Name::new_unchecked(SERVICE));
        assert!((10..30).contains(&asked.answers.len()), "{}", asked.answers.len());
        for (answer, name) in asked.answers.iter().zip(&names) {
            assert_eq!((answer.ttl, &answer.rdata), (4480, &RData::PTR(PTR(name.clone()))));
        }
        assert_eq!(read(&query), []);
    }

    #[test]
    fn a_name_that_goes_round_is_refused() {
        let mut bytes = announcement(&["alice"], 4500);
        let start = bytes.len() as u16;
        bytes[7] += 1;
        bytes.extend_from_slice(&(0xc000 | start).to_be_bytes());
        bytes.extend_from_slice(&[0; 10]);
        assert_eq!(read(&bytes), []);
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
