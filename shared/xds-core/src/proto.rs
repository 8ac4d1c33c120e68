//! The few bits of the protobuf wire format this crate writes by hand. Reading is in [`crate::wire`].

use bytes::{BufMut, BytesMut};

/// Key of a length-delimited field: `field << 3 | 2`. Every field number used here is below 16, so keys are one byte.
pub(crate) const fn key(field: u8) -> u8 {
    field << 3 | 2
}

/// Bytes a varint takes.
pub(crate) const fn varint_len(v: u64) -> usize {
    (((v | 1).ilog2() as usize) / 7) + 1
}

/// Bytes a length-delimited field with a one-byte key takes.
pub(crate) const fn field_len(body: usize) -> usize {
    1 + varint_len(body as u64) + body
}

/// Appends a varint.
pub(crate) fn put_varint(mut v: u64, out: &mut BytesMut) {
    while v >= 0x80 {
        out.put_u8(v as u8 | 0x80);
        v >>= 7;
    }
    out.put_u8(v as u8);
}

/// Appends a length-delimited field.
pub(crate) fn put_field(field: u8, body: &[u8], out: &mut BytesMut) {
    out.put_u8(key(field));
    put_varint(body.len() as u64, out);
    out.put_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_lengths_agree_with_what_is_written() {
        for v in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            let mut out = BytesMut::new();
            put_varint(v, &mut out);
            assert_eq!(out.len(), varint_len(v), "{v}");
        }
    }
}
