//! Who asked what, whom we asked, what we know.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::message::{Question, aged, failure, read_query, read_response, with_id};
use crate::randomness::Randomness;

/// Answers kept; the one that is over first goes.
const KEPT: usize = 4096;
/// Larger ones are not.
const LARGEST: usize = 4096;
/// Questions that wait for a server; one more is answered with a failure.
const WAITING: usize = 1024;
/// Nothing is kept longer, whatever its server says; the absence of a name not for long.
const LONGEST_SECS: u32 = 86_400;
const LONGEST_ABSENT_SECS: u32 = 900;
/// How long one server may take, and how many times servers are asked.
const TRY_MS: u64 = 1_500;
const TRIES: usize = 4;
/// A server that was silent is asked after the others for so long.
const SILENT_MS: u64 = 30_000;

/// Who asked: for the shell to find again.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Client(pub SocketAddr);

/// What to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// To whoever asked.
    Answer(Client, Vec<u8>),
    /// To a server, from a socket of its own: the port is a part of what makes forging hard.
    Ask(IpAddr, Vec<u8>),
}

/// See the module. All methods say what to send.
#[derive(Clone, Debug)]
pub struct Stub {
    servers: Vec<IpAddr>,
    silent_until: BTreeMap<IpAddr, u64>,
    known: BTreeMap<Question, Known>,
    /// By our id.
    waiting: BTreeMap<u16, Waiting>,
    randomness: Randomness,
}

#[derive(Clone, Debug)]
struct Known {
    response: Vec<u8>,
    ttls: Vec<usize>,
    since_ms: u64,
    until_ms: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    question: Question,
    query: Vec<u8>,
    /// With the ids of their queries.
    clients: Vec<(Client, u16)>,
    /// In turn, the last one now.
    asked: Vec<IpAddr>,
    until_ms: u64,
}

impl Stub {
    /// One that knows nothing.
    #[must_use]
    pub fn new(seed: [u8; 16]) -> Self {
        Self {
            servers: Vec::new(),
            silent_until: BTreeMap::new(),
            known: BTreeMap::new(),
            waiting: BTreeMap::new(),
            randomness: Randomness::new(seed),
        }
    }

    /// The network's servers, best first. Others may know other names: nothing is kept.
    pub fn serve(&mut self, servers: Vec<IpAddr>) {
        if self.servers != servers {
            self.known.clear();
            self.silent_until.clear();
            self.servers = servers;
        }
    }

    /// How many answers are kept.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known.len()
    }

    /// A program of this machine asks.
    pub fn handle_query(&mut self, client: Client, query: &[u8], now_ms: u64) -> Option<Output> {
        // What is no question gets no answer.
        let (id, question) = read_query(query)?;
        if let Some(known) = self.known.get(&question).filter(|known| known.until_ms > now_ms) {
            let secs = u32::try_from(now_ms.saturating_sub(known.since_ms) / 1000).unwrap_or(u32::MAX);
            return Some(Output::Answer(client, aged(&known.response, id, &known.ttls, secs)));
        }
        if let Some(waiting) = self.waiting.values_mut().find(|waiting| waiting.question == question) {
            if !waiting.clients.contains(&(client, id)) && waiting.clients.len() < WAITING {
                waiting.clients.push((client, id));
            }
            return None;
        }
        let Some(server) = self.server(&[], now_ms).filter(|_| self.waiting.len() < WAITING) else {
            return Some(Output::Answer(client, failure(query)));
        };
        let own = self.free_id();
        let waiting = Waiting {
            question,
            query: query.to_vec(),
            clients: vec![(client, id)],
            asked: vec![server],
            until_ms: now_ms + TRY_MS,
        };
        self.waiting.insert(own, waiting);
        Some(Output::Ask(server, with_id(query, own)))
    }

    /// A server answers.
    pub fn handle_response(&mut self, server: IpAddr, bytes: &[u8], now_ms: u64) -> Vec<Output> {
        let Some(response) = read_response(bytes) else { return Vec::new() };
        let expected = self.waiting.get(&response.id).is_some_and(|waiting| {
            // Signatures are in an answer or not; what was asked is the same.
            let asked = &waiting.question;
            waiting.asked.last() == Some(&server) && asked.is_same_name(&response.question)
        });
        if !expected {
            return Vec::new();
        }
        let failed = !matches!(response.code, 0 | 3);
        if failed && let Some(again) = self.again(response.id, now_ms) {
            return vec![again];
        }
        let Some(waiting) = self.waiting.remove(&response.id) else { return Vec::new() };
        self.silent_until.remove(&server);
        let most = if response.code == 0 { LONGEST_SECS } else { LONGEST_ABSENT_SECS };
        let ttl = response.ttl_secs.map_or(0, |ttl| ttl.min(most));
        if ttl > 0 && !response.truncated && bytes.len() <= LARGEST {
            self.keep(waiting.question, bytes, response.ttls, now_ms, ttl);
        }
        waiting.clients.into_iter().map(|(client, id)| Output::Answer(client, with_id(bytes, id))).collect()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> u64 {
        self.waiting.values().map(|waiting| waiting.until_ms).min().unwrap_or(u64::MAX)
    }

    /// Lets time pass: other servers are asked, or whoever asked is told that nobody answers.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Vec<Output> {
        let late: Vec<u16> =
            self.waiting.iter().filter(|(_, waiting)| waiting.until_ms <= now_ms).map(|(id, _)| *id).collect();
        let mut outputs = Vec::new();
        for id in late {
            if let Some(server) = self.waiting.get(&id).and_then(|waiting| waiting.asked.last()) {
                self.silent_until.insert(*server, now_ms + SILENT_MS);
            }
            match self.again(id, now_ms) {
                Some(output) => outputs.push(output),
                None => {
                    let Some(waiting) = self.waiting.remove(&id) else { continue };
                    let answer = failure(&waiting.query);
                    outputs.extend(
                        waiting.clients.into_iter().map(|(client, id)| Output::Answer(client, with_id(&answer, id))),
                    );
                }
            }
        }
        outputs
    }

    /// The next server, if there is one to ask.
    fn again(&mut self, id: u16, now_ms: u64) -> Option<Output> {
        let asked = &self.waiting.get(&id)?.asked;
        if asked.len() >= TRIES {
            return None;
        }
        let server = self.server(asked, now_ms)?;
        let mut waiting = self.waiting.remove(&id)?;
        let own = self.free_id();
        waiting.asked.push(server);
        waiting.until_ms = now_ms + TRY_MS;
        let query = with_id(&waiting.query, own);
        self.waiting.insert(own, waiting);
        Some(Output::Ask(server, query))
    }

    /// Those that were asked least, not silent a moment ago, in their order.
    fn server(&self, asked: &[IpAddr], now_ms: u64) -> Option<IpAddr> {
        let silent = |server: &IpAddr| self.silent_until.get(server).is_some_and(|until| *until > now_ms);
        let rank = |server: &&IpAddr| (asked.iter().filter(|one| one == server).count(), silent(server));
        self.servers.iter().min_by_key(rank).copied()
    }

    fn free_id(&mut self) -> u16 {
        // A few thousand are taken at most.
        loop {
            let id = u16::try_from(self.randomness.next_u32() >> 16).unwrap_or(0);
            if !self.waiting.contains_key(&id) {
                return id;
            }
        }
    }

    fn keep(&mut self, question: Question, response: &[u8], ttls: Vec<usize>, now_ms: u64, ttl: u32) {
        if self.known.len() >= KEPT {
            self.known.retain(|_, known| known.until_ms > now_ms);
            if self.known.len() >= KEPT {
                let first =
                    self.known.iter().min_by_key(|(_, known)| known.until_ms).map(|(question, _)| question.clone());
                self.known.remove(&first.unwrap_or_else(|| question.clone()));
            }
        }
        let until_ms = now_ms + u64::from(ttl) * 1000;
        self.known.insert(question, Known { response: response.to_vec(), ttls, since_ms: now_ms, until_ms });
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::{query, response};
    use super::*;

    fn client(port: u16) -> Client {
        Client(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn stub() -> Stub {
        let mut stub = Stub::new([1; 16]);
        stub.serve(vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
        stub
    }

    fn asked(output: Option<Output>) -> (IpAddr, Vec<u8>) {
        match output {
            Some(Output::Ask(server, query)) => (server, query),
            other => panic!("nobody is asked: {other:?}"),
        }
    }

    #[test]
    fn an_answer_serves_all_who_wait_and_those_who_come_while_it_holds() {
        let mut stub = stub();
        let (server, sent) = asked(stub.handle_query(client(1), &query(7, "a.b"), 0));
        assert_eq!(stub.handle_query(client(2), &query(8, "A.b"), 5), None, "it is asked already");
        assert!(stub.handle_response([10, 0, 0, 2].into(), &response(&sent, 0, 60), 9).is_empty(), "it was not asked");
        assert!(stub.handle_response(server, &response(&query(1, "x.y"), 0, 60), 9).is_empty());
        let answers = stub.handle_response(server, &response(&sent, 0, 60), 10);
        let ids: Vec<u8> = answers
            .iter()
            .map(|answer| match answer {
                Output::Answer(_, bytes) => bytes[1],
                Output::Ask(..) => panic!("asked again"),
            })
            .collect();
        assert_eq!(ids, [7, 8]);
        let Some(Output::Answer(to, bytes)) = stub.handle_query(client(3), &query(9, "a.b"), 30_010) else { panic!() };
        assert_eq!((to, read_response(&bytes).unwrap().ttl_secs), (client(3), Some(30)));
        asked(stub.handle_query(client(3), &query(9, "a.b"), 60_010));
        stub.serve(vec![[10, 0, 0, 3].into()]);
        assert_eq!(stub.known(), 0);
    }

    #[test]
    fn a_silent_server_is_left_for_the_next_and_nobody_waits_for_ever() {
        let mut stub = stub();
        let (first, _) = asked(stub.handle_query(client(1), &query(7, "a.b"), 0));
        assert_eq!((first, stub.poll_timeout()), ([10, 0, 0, 1].into(), TRY_MS));
        let outputs = stub.handle_timeout(TRY_MS);
        let [Output::Ask(second, _)] = &outputs[..] else { panic!("{outputs:?}") };
        assert_eq!(*second, IpAddr::from([10, 0, 0, 2]));
        let (other, _) = asked(stub.handle_query(client(1), &query(7, "c.d"), TRY_MS));
        assert_eq!(other, IpAddr::from([10, 0, 0, 2]));
        let mut answered = 0;
        for round in 2..=6 {
            for output in stub.handle_timeout(TRY_MS * round) {
                if let Output::Answer(_, bytes) = output {
                    assert_eq!(read_response(&bytes).unwrap().code, 2);
                    answered += 1;
                }
            }
        }
        assert_eq!((answered, stub.poll_timeout()), (2, u64::MAX));
    }

    #[test]
    fn failures_go_to_the_next_server_and_are_not_kept_and_absence_is() {
        let mut stub = stub();
        let (server, sent) = asked(stub.handle_query(client(1), &query(7, "a.b"), 0));
        let outputs = stub.handle_response(server, &response(&sent, 2, 60), 1);
        let [Output::Ask(next, sent)] = &outputs[..] else { panic!("{outputs:?}") };
        assert_ne!(*next, server);
        assert_eq!(stub.handle_response(*next, &response(sent, 3, 60), 2).len(), 1);
        assert!(matches!(stub.handle_query(client(1), &query(8, "a.b"), 3), Some(Output::Answer(..))));
        let mut alone = Stub::new([2; 16]);
        let Some(Output::Answer(_, bytes)) = alone.handle_query(client(1), &query(7, "a.b"), 0) else { panic!() };
        assert_eq!(read_response(&bytes).unwrap().code, 2);
        assert_eq!(alone.handle_query(client(1), b"nonsense", 0), None);
    }

    #[test]
    fn a_flood_of_names_keeps_the_cache_as_large_as_it_may_be() {
        let mut stub = stub();
        for number in 0..KEPT + 50 {
            let (server, sent) = asked(stub.handle_query(client(1), &query(1, &format!("n{number}.x")), 0));
            stub.handle_response(server, &response(&sent, 0, 60), 0);
        }
        assert_eq!(stub.known(), KEPT);
    }
}
