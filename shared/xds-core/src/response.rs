//! Responses, ready for the wire: a small header of this stream's own and slices everybody shares.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::proto::{field_len, put_field};
use crate::set::Joined;
use crate::{Encoded, LARGE, Layers, Nonce, Set, TypeId};

/// One response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its type.
    pub type_id: TypeId,
    /// Its nonce; carries the revision.
    pub nonce: Nonce,
    /// Resources in it.
    pub resources: usize,
    /// Names in `removed_resources` (delta only).
    pub removed: usize,
    /// Size of the message, the gRPC prefix not counted. Unit: bytes.
    pub bytes: usize,
    /// The gRPC frame: the five-byte prefix, then the message, in pieces to be written one after the other.
    pub pieces: VecDeque<Bytes>,
}

impl Response {
    /// The pieces joined, for tests and debug output; streams write [`Response::pieces`].
    pub fn to_bytes(&self) -> Bytes {
        self.pieces.iter().flatten().copied().collect()
    }
}

/// What goes into a response.
pub(crate) struct Content<'a> {
    pub(crate) delta: bool,
    pub(crate) type_id: TypeId,
    pub(crate) nonce: Nonce,
    pub(crate) version: &'a str,
    /// Sets sent whole.
    pub(crate) whole: &'a [Arc<Set>],
    /// More resources, in name order.
    pub(crate) puts: &'a [Arc<Encoded>],
    /// Where most of `puts` come from.
    pub(crate) from: &'a Layers,
    pub(crate) removed: &'a [Arc<str>],
}

impl Content<'_> {
    /// Size of the resources. Unit: bytes.
    fn body_len(&self) -> usize {
        self.whole
            .iter()
            .map(|s| s.joined(self.delta).total)
            .sum::<usize>()
            + self
                .puts
                .iter()
                .map(|e| e.entry_bytes(self.delta).len())
                .sum::<usize>()
    }

    /// The response, or its size if that exceeds `limit`.
    pub(crate) fn build(self, limit: usize) -> Result<Response, usize> {
        let nonce = self.nonce.to_string();
        let fields = [(1, self.version), (4, self.type_id.url()), (5, &*nonce)];
        let removed = self.removed.iter().map(|name| (6, &**name));
        let fields = || fields.into_iter().chain(removed.clone());
        let head = fields()
            .map(|(_, text)| field_len(text.len()))
            .sum::<usize>();
        let bytes = head + self.body_len();
        let limit = limit.min(u32::MAX as usize);
        if bytes > limit {
            return Err(bytes);
        }

        let mut first = BytesMut::with_capacity(5 + head);
        first.put_u8(0); // not compressed
        first.put_u32(bytes as u32);
        fields().for_each(|(number, text)| put_field(number, text.as_bytes(), &mut first));
        let mut out = Pieces {
            open: first,
            done: VecDeque::new(),
        };
        for set in self.whole {
            let joined = set.joined(self.delta);
            out.slice(joined.small.clone());
            joined
                .large
                .iter()
                .for_each(|&i| out.slice(set.items()[i as usize].entry(self.delta)));
        }
        self.write_puts(&mut out);
        Ok(Response {
            type_id: self.type_id,
            nonce: self.nonce,
            resources: self.whole.iter().map(|s| s.len()).sum::<usize>() + self.puts.len(),
            removed: self.removed.len(),
            bytes,
            pieces: out.finish(),
        })
    }

    /// Writes single resources. When they are most of a set, neighbours are sent as one slice of what the set's other streams use.
    fn write_puts(&self, out: &mut Pieces) {
        let mut run: Option<Run<'_>> = None;
        let sets: SmallVec<[(&Set, usize); 2]> =
            if self.puts.len() >= 16 && self.puts.len() * 2 >= self.from.len() {
                self.from.sets().iter().map(|s| (&**s, 0)).collect()
            } else {
                SmallVec::new()
            };
        let mut cursors = sets;
        for e in self.puts {
            let mut found = None;
            for (set, at) in &mut cursors {
                *at += set.items()[*at..]
                    .iter()
                    .take_while(|x| x.name() < e.name())
                    .count();
                if set.items().get(*at).is_some_and(|x| Arc::ptr_eq(x, e)) {
                    found = Some((set.joined(self.delta), *at));
                }
            }
            match found {
                Some((joined, i)) if joined.at[i] != joined.at[i + 1] => match &mut run {
                    Some(run) if std::ptr::eq(run.joined, joined) && run.to == joined.at[i] => {
                        run.to = joined.at[i + 1];
                    }
                    _ => {
                        out.run(run.take());
                        run = Some(Run {
                            joined,
                            from: joined.at[i],
                            to: joined.at[i + 1],
                        });
                    }
                },
                _ => {
                    out.run(run.take());
                    out.slice(e.entry(self.delta));
                }
            }
        }
        out.run(run);
    }
}

/// Neighbours in a joined buffer.
struct Run<'a> {
    joined: &'a Joined,
    from: u32,
    to: u32,
}

/// Pieces in the making: small ones are copied together, others stay as they are.
struct Pieces {
    open: BytesMut,
    done: VecDeque<Bytes>,
}

impl Pieces {
    fn run(&mut self, run: Option<Run<'_>>) {
        if let Some(run) = run {
            self.slice(run.joined.small.slice(run.from as usize..run.to as usize));
        }
    }

    fn slice(&mut self, bytes: Bytes) {
        if bytes.len() < LARGE {
            self.open.extend_from_slice(&bytes);
            return;
        }
        self.close();
        self.done.push_back(bytes);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push_back(std::mem::take(&mut self.open).freeze());
        }
    }

    fn finish(mut self) -> VecDeque<Bytes> {
        self.close();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DeltaDiscoveryResponse, DiscoveryResponse};
    use prost::Message;

    fn layers(sizes: &[usize]) -> Layers {
        let e = |(i, n): (usize, &usize)| {
            Arc::new(Encoded::new(
                format!("r{i:03}"),
                TypeId::Cds,
                "x".repeat(*n).as_bytes(),
            ))
        };
        Layers::new([Arc::new(Set::new(
            sizes.iter().enumerate().map(e).collect(),
        ))])
    }

    fn content<'a>(
        delta: bool,
        whole: &'a [Arc<Set>],
        puts: &'a [Arc<Encoded>],
        from: &'a Layers,
    ) -> Content<'a> {
        let nonce = Nonce {
            revision: 7,
            counter: 1,
        };
        Content {
            delta,
            type_id: TypeId::Cds,
            nonce,
            version: "v",
            whole,
            puts,
            from,
            removed: &[],
        }
    }

    fn message(r: &Response) -> Bytes {
        let all = r.to_bytes();
        assert_eq!(all[0], 0);
        assert_eq!(
            u32::from_be_bytes(all[1..5].try_into().unwrap()) as usize,
            all.len() - 5
        );
        assert_eq!(r.bytes, all.len() - 5);
        all.slice(5..)
    }

    #[test]
    fn a_full_push_is_a_header_and_one_shared_slice() {
        let l = layers(&[300; 100]);
        let r = content(false, l.sets(), &[], &l).build(usize::MAX).unwrap();
        assert_eq!(r.pieces.len(), 2);
        assert_eq!(
            r.pieces[1].as_ptr(),
            l.sets()[0].joined(false).small.as_ptr()
        );
        let m = DiscoveryResponse::decode(message(&r)).unwrap();
        assert_eq!(
            (m.version_info.as_str(), m.nonce.as_str(), m.resources.len()),
            ("v", "7-1", 100)
        );
        assert_eq!((r.resources, m.type_url.as_str()), (100, TypeId::Cds.url()));
    }

    #[test]
    fn large_resources_are_slices_of_their_own() {
        let l = layers(&[10, 5000, 10, 6000]);
        let r = content(true, l.sets(), &[], &l).build(usize::MAX).unwrap();
        assert_eq!(r.pieces.len(), 3); // header with the small ones, two large
        assert_eq!(
            DeltaDiscoveryResponse::decode(message(&r))
                .unwrap()
                .resources
                .len(),
            4
        );
    }

    #[test]
    fn one_small_change_is_one_piece() {
        let l = layers(&[300; 100]);
        let one = [l.get("r042").unwrap().clone()];
        let r = content(true, &[], &one, &l).build(usize::MAX).unwrap();
        assert_eq!(r.pieces.len(), 1);
        let m = DeltaDiscoveryResponse::decode(message(&r)).unwrap();
        assert_eq!(m.resources[0].name, "r042");
    }

    #[test]
    fn most_of_a_set_goes_as_slices_of_neighbours() {
        let l = layers(&[300; 100]);
        let puts: Vec<_> = l
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != 50)
            .map(|(_, e)| e.clone())
            .collect();
        let r = content(false, &[], &puts, &l).build(usize::MAX).unwrap();
        assert_eq!(r.pieces.len(), 3);
        assert_eq!(
            DiscoveryResponse::decode(message(&r))
                .unwrap()
                .resources
                .len(),
            99
        );
    }

    #[test]
    fn removed_names_are_listed() {
        let l = layers(&[]);
        let removed = ["a".into(), "b".into()];
        let r = Content {
            removed: &removed,
            ..content(true, &[], &[], &l)
        }
        .build(usize::MAX)
        .unwrap();
        assert_eq!(
            DeltaDiscoveryResponse::decode(message(&r))
                .unwrap()
                .removed_resources,
            ["a", "b"]
        );
        assert_eq!(r.removed, 2);
    }

    #[test]
    fn a_response_over_the_limit_is_not_built() {
        let l = layers(&[300; 100]);
        assert!(content(false, l.sets(), &[], &l).build(1000).unwrap_err() > 30_000);
    }
}
