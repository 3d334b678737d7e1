//! Long documents as segments: each written on its own, several of them a piece.

use super::json::{Json, Place};
use super::pool::Piece;

/// About how much a piece holds, in units of one task: some hundred kilobytes.
const PIECE: usize = 256;
/// Bytes of a task, roughly.
const UNIT: usize = 1024;

/// What is to be written, in order.
#[derive(Default)]
pub(crate) struct Document {
    segments: Vec<Segment>,
}

type Write = Box<dyn FnOnce(&mut Json) + Send>;

struct Segment {
    weight: usize,
    place: Place,
    write: Write,
}

impl Document {
    /// Adds a segment as heavy as so many tasks. `place` says whether something of the same list
    /// stands before it.
    pub(crate) fn add(&mut self, weight: usize, place: Place, write: impl FnOnce(&mut Json) + Send + 'static) {
        self.segments.push(Segment { weight: weight.max(1), place, write: Box::new(write) });
    }

    /// Adds one segment for every few items of a list.
    pub(crate) fn list<T: Send + 'static>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        write: impl FnMut(&mut Json, T) + Clone + Send + 'static,
    ) {
        let mut items = items.into_iter().peekable();
        let mut place = Place::First;
        while items.peek().is_some() {
            let some: Vec<T> = items.by_ref().take(PIECE).collect();
            let mut each = write.clone();
            self.add(some.len(), place, move |json| some.into_iter().for_each(|item| each(json, item)));
            place = Place::Next;
        }
    }

    /// Adds another document's segments. `place` says of the first of them what [`add`](Self::add) says.
    pub(crate) fn append(&mut self, other: Self, place: Place) {
        let start = self.segments.len();
        self.segments.extend(other.segments);
        if let Some(first) = self.segments.get_mut(start) {
            first.place = place;
        }
    }

    /// The segments, gathered.
    pub(crate) fn into_pieces(self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        let (mut gathered, mut weight) = (Vec::new(), 0);
        for segment in self.segments {
            weight += segment.weight;
            gathered.push(segment);
            if weight >= PIECE {
                pieces.push(piece(std::mem::take(&mut gathered), weight));
                weight = 0;
            }
        }
        if !gathered.is_empty() {
            pieces.push(piece(gathered, weight));
        }
        pieces
    }
}

fn piece(segments: Vec<Segment>, weight: usize) -> Piece {
    Box::new(move || {
        let mut json = Json::with_capacity(weight * UNIT);
        for segment in segments {
            json.set_place(segment.place);
            (segment.write)(&mut json);
        }
        json.into_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_over_many_pieces_is_one_list() {
        let mut document = Document::default();
        document.add(1, Place::First, |json| {
            json.begin();
            json.key("list").begin_array();
        });
        document.list(0..1000_u64, Json::integer);
        document.add(1, Place::First, |json| {
            json.end_array();
            json.end();
        });
        let pieces = document.into_pieces();
        assert!(pieces.len() > 2);
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece()).collect();
        let read: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read["list"].as_array().unwrap().len(), 1000);
    }
}
