//! A message kept as its protobuf bytes: what there are many of and few read.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A message in a tenth of the memory its fields would take.
///
/// In the log and in snapshots it is what the message is; two are equal when the messages are.
pub struct Packed<M> {
    bytes: Box<[u8]>,
    message: PhantomData<fn() -> M>,
}

impl<M: prost::Message + Default> Packed<M> {
    /// The message is only read.
    #[must_use]
    pub fn new(message: &M) -> Self {
        Self { bytes: message.encode_to_vec().into_boxed_slice(), message: PhantomData }
    }

    /// The message, about a microsecond later.
    #[must_use]
    pub fn get(&self) -> M {
        self.view()
    }
}

impl<M> Packed<M> {
    /// Some of its fields, in a fraction of the time: `V` has them under the numbers they have in the message, and in
    /// their types; all others are passed over.
    #[must_use]
    pub fn view<V: prost::Message + Default>(&self) -> V {
        V::decode(&*self.bytes).expect("the bytes were encoded from a message of which this shows fields")
    }
}

impl<M> Clone for Packed<M> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), message: PhantomData }
    }
}

impl<M> PartialEq for Packed<M> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<M: prost::Message + Default + fmt::Debug> fmt::Debug for Packed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}

impl<M: prost::Message + Default + Serialize> Serialize for Packed<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.get().serialize(serializer)
        } else {
            serializer.serialize_bytes(&self.bytes)
        }
    }
}

impl<'de, M: prost::Message + Default + Deserialize<'de>> Deserialize<'de> for Packed<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        M::deserialize(deserializer).map(|message| Self::new(&message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaskState;
    use crate::v1::TaskStatus;

    #[test]
    fn it_is_the_message_in_json_and_in_the_log() {
        let mut status = TaskStatus::new("t".into(), TaskState::Running);
        (status.message, status.timestamp) = (Some("m".to_owned()), Some(1.5));
        let packed = Packed::new(&status);
        assert_eq!(packed.get(), status);
        assert_eq!(serde_json::to_value(&packed).unwrap(), serde_json::to_value(&status).unwrap());
        let bytes = rmp_serde::to_vec_named(&packed).unwrap();
        assert_eq!(bytes, rmp_serde::to_vec_named(&status).unwrap());
        assert_eq!(rmp_serde::from_slice::<Packed<TaskStatus>>(&bytes).unwrap(), packed);
    }

    #[test]
    fn bytes_of_no_message_are_refused() {
        assert!(rmp_serde::from_slice::<Packed<TaskStatus>>(&[0xc4, 2, 0xff, 0xff]).is_err());
    }
}
