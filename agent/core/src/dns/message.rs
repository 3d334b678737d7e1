//! Just as much of DNS messages (RFC 1035) as a cache needs: the question, the result, where the times to live are.

/// A header's length.
const HEADER: usize = 12;
const SOA: u16 = 6;
const OPT: u16 = 41;
/// Pointers and labels of one name; a loop is longer.
const HOPS: usize = 128;

/// What is asked, in a form that is the same for the same question.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Question {
    /// In lower case, labels with lengths.
    name: Vec<u8>,
    kind: u16,
    class: u16,
    /// Recursion desired, checking disabled, and the wish for signatures: other answers.
    flags: (bool, bool, bool),
}

impl Question {
    /// The same name, type and class.
    pub(super) fn is_same_name(&self, other: &Self) -> bool {
        (&self.name, self.kind, self.class) == (&other.name, other.kind, other.class)
    }
}

/// A query of one question.
pub(super) fn read_query(bytes: &[u8]) -> Option<(u16, Question)> {
    let (id, flags, counts) = header(bytes)?;
    // No response, an ordinary query, one question, nothing answered.
    if flags & 0xf800 != 0 || counts[..3] != [1, 0, 0] {
        return None;
    }
    let (question, _) = question(bytes)?;
    Some((id, question))
}

/// What a cache has to know of a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Response {
    pub(super) id: u16,
    pub(super) question: Question,
    /// 0 is success, 3 no such name; others are not kept.
    pub(super) code: u8,
    pub(super) truncated: bool,
    /// For how long it may be kept; `None`: not at all.
    pub(super) ttl_secs: Option<u32>,
    /// Where its times to live are.
    pub(super) ttls: Vec<usize>,
}

pub(super) fn read_response(bytes: &[u8]) -> Option<Response> {
    let (id, flags, counts) = header(bytes)?;
    if flags & 0x8000 == 0 || counts[0] != 1 {
        return None;
    }
    let (mut question, mut at) = question(bytes)?;
    let (mut ttls, mut least, mut negative) = (Vec::new(), None::<u32>, None);
    let answers = usize::from(counts[1]);
    let authorities = usize::from(counts[2]);
    let all = answers + authorities + usize::from(counts[3]);
    for number in 0..all {
        at = skip_name(bytes, at)?;
        let kind = number16(bytes, at)?;
        let ttl = number32(bytes, at + 4)?;
        let length = usize::from(number16(bytes, at + 8)?);
        let data = at + 10;
        if kind == OPT {
            question.flags.2 = ttl & 0x8000 != 0;
        } else {
            ttls.push(at + 4);
            // The highest bit is nobody's (RFC 2181 section 8).
            let ttl = if ttl > i32::MAX.cast_unsigned() { 0 } else { ttl };
            if number < answers {
                least = Some(least.map_or(ttl, |least| least.min(ttl)));
            } else if kind == SOA && number < answers + authorities {
                // The last of its numbers is for how long there is no such name (RFC 2308).
                let minimum = number32(bytes, (data + length).checked_sub(4)?)?;
                negative = Some(ttl.min(minimum));
            }
        }
        at = data + length;
        if at > bytes.len() {
            return None;
        }
    }
    let code = u8::try_from(flags & 0xf).unwrap_or(0);
    let ttl_secs = match code {
        0 if answers > 0 => least,
        0 | 3 => negative,
        _ => None,
    };
    Some(Response { id, question, code, truncated: flags & 0x0200 != 0, ttl_secs, ttls })
}

/// With another id, and all times to live less by so much.
pub(super) fn aged(bytes: &[u8], id: u16, ttls: &[usize], secs: u32) -> Vec<u8> {
    let mut bytes = with_id(bytes, id);
    for at in ttls {
        if let Some(ttl) = number32(&bytes, *at)
            && let Some(place) = bytes.get_mut(*at..*at + 4)
        {
            place.copy_from_slice(&ttl.saturating_sub(secs).to_be_bytes());
        }
    }
    bytes
}

/// With another id.
pub(super) fn with_id(bytes: &[u8], id: u16) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(place) = bytes.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
    bytes
}

/// No server answers: SERVFAIL, with the question.
pub(super) fn failure(query: &[u8]) -> Vec<u8> {
    let mut bytes = query.to_vec();
    if let Some((_, end)) = question(query) {
        bytes.truncate(end);
    }
    if let Some(header) = bytes.get_mut(..HEADER) {
        header[2] = (header[2] & 0x01) | 0x80;
        header[3] = 0x80 | 2;
        header[6..].fill(0);
    }
    bytes
}

fn header(bytes: &[u8]) -> Option<(u16, u16, [u16; 4])> {
    let counts = [number16(bytes, 4)?, number16(bytes, 6)?, number16(bytes, 8)?, number16(bytes, 10)?];
    Some((number16(bytes, 0)?, number16(bytes, 2)?, counts))
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn question(bytes: &[u8]) -> Option<(Question, usize)> {
    let end = skip_name(bytes, HEADER)?;
    // A question's name is the first: nothing it could point to.
    let name = bytes.get(HEADER..end)?;
    if name.iter().any(|byte| *byte & 0xc0 == 0xc0) {
        return None;
    }
    let flags = number16(bytes, 2)?;
    // The wish for signatures is in the additional record of a query, which follows at once.
    let signed = number16(bytes, 6)? == 0
        && number16(bytes, 8)? == 0
        && number16(bytes, 10)? > 0
        && number16(bytes, end + 5) == Some(OPT)
        && number32(bytes, end + 9).is_some_and(|ttl| ttl & 0x8000 != 0);
    let question = Question {
        name: name.to_ascii_lowercase(),
        kind: number16(bytes, end)?,
        class: number16(bytes, end + 2)?,
        flags: (flags & 0x0100 != 0, flags & 0x0010 != 0, signed),
    };
    Some((question, end + 4))
}

/// Where a name ends.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..HOPS {
        let length = *bytes.get(at)?;
        match length >> 6 {
            0 if length == 0 => return Some(at + 1),
            0 => at += 1 + usize::from(length),
            3 => return bytes.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn query(id: u16, name: &str) -> Vec<u8> {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, 1, 0, 1]);
        bytes
    }

    /// An address for the name, or with a code of 3 none.
    pub(in super::super) fn response(query: &[u8], code: u8, ttl: u32) -> Vec<u8> {
        let mut bytes = query.to_vec();
        bytes[2] |= 0x80;
        bytes[3] = 0x80 | code;
        let (answers, authorities) = if code == 0 { (1, 0) } else { (0, 1) };
        (bytes[7], bytes[9]) = (answers, authorities);
        bytes.extend([0xc0, 12, 0, if code == 0 { 1 } else { 6 }, 0, 1]);
        bytes.extend(ttl.to_be_bytes());
        if code == 0 {
            bytes.extend([0, 4, 10, 0, 0, 9]);
        } else {
            bytes.extend([0, 22, 0, 0]);
            bytes.extend([0; 16]);
            bytes.extend(ttl.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn answers_and_their_absence_say_how_long_they_hold() {
        let asked = query(7, "a.Example");
        let (id, question) = read_query(&asked).unwrap();
        let read = read_response(&response(&asked, 0, 60)).unwrap();
        assert_eq!((read.id, read.code, read.ttl_secs, &read.question), (id, 0, Some(60), &question));
        assert_eq!(read_query(&query(8, "A.eXample")).unwrap().1, question);
        assert_eq!(read_response(&response(&asked, 3, 30)).unwrap().ttl_secs, Some(30));
        assert_eq!(read_response(&response(&asked, 2, 30)).unwrap().ttl_secs, None);
        let aged = aged(&response(&asked, 0, 60), 9, &read.ttls, 25);
        assert_eq!((read_response(&aged).unwrap().ttl_secs, read_response(&aged).unwrap().id), (Some(35), 9));
        let failed = read_response(&failure(&asked)).unwrap();
        assert_eq!((failed.code, failed.question), (2, question));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..100), cut in 0usize..60) {
            let _ = (read_query(&bytes), read_response(&bytes), failure(&bytes));
            let mut whole = response(&query(1, "a.example"), 0, 60);
            whole.truncate(cut);
            whole.extend(bytes);
            let _ = (read_query(&whole), read_response(&whole), failure(&whole));
        }
    }
}
