//! The first bytes of a TLS connection: enough for a proxy that looks at the server name and passes the rest on.

/// A ClientHello of TLS 1.3 for a server name.
///
/// # Panics
/// For a name of 200 bytes or more.
pub fn client_hello(server_name: &str) -> Vec<u8> {
    assert!(server_name.len() < 200, "{server_name}");
    let name = prefixed(2, server_name.as_bytes());
    let entry = [&[0][..], &name].concat();
    let extensions = [
        extension(0x0000, &prefixed(2, &entry)),
        // Versions: 1.3. Groups: x25519. Signatures: ECDSA with SHA-256.
        extension(0x002b, &prefixed(1, &[0x03, 0x04])),
        extension(0x000a, &prefixed(2, &[0x00, 0x1d])),
        extension(0x000d, &prefixed(2, &[0x04, 0x03])),
        extension(
            0x0033,
            &prefixed(2, &[&[0x00, 0x1d][..], &prefixed(2, &[9; 32])].concat()),
        ),
    ]
    .concat();
    let body = [
        // TLS 1.2, as every ClientHello says; then what should be random.
        &[0x03, 0x03][..],
        &[7; 32],
        // No session, one cipher, no compression.
        &[0],
        &prefixed(2, &[0x13, 0x01]),
        &prefixed(1, &[0]),
        &prefixed(2, &extensions),
    ]
    .concat();
    let handshake = [&[0x01][..], &prefixed(3, &body)].concat();
    [&[0x16, 0x03, 0x01][..], &prefixed(2, &handshake)].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &prefixed(2, content)].concat()
}

/// Bytes with their length before them, in `width` bytes.
fn prefixed(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u32).to_be_bytes();
    [&length[4 - width..], bytes].concat()
}
