//! TPROXY: the proxy is handed a connection with both of its addresses, and can reach the application by the client's.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use crate::both_variants;
use crate::namespace::{APP, Ip, Machine as _, Namespace, PATIENCE, Pair, at};

both_variants! {
    keeps_the_clients_address,
    keeps_the_clients_address_over_ipv6,
}

/// A proxy that takes one connection, connects to where it was going with the address of the client, and carries bytes. It prints a line
/// when it listens. Its sockets may bear any address, and its packets the mark that says that they are captured already.
const PROXY: &str = r#"
import socket, sys, threading
family, any_address = (socket.AF_INET6, "::") if sys.argv[1] == "6" else (socket.AF_INET, "0.0.0.0")
def transparent(s):
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, 75, 1)
    else: s.setsockopt(socket.IPPROTO_IP, 19, 1)
listener = socket.socket(family, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
transparent(listener)
listener.bind((any_address, 15006))
listener.listen()
print("listening", flush=True)
client, source = listener.accept()
to = client.getsockname()
server = socket.socket(family, socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1337)
transparent(server)
server.bind((source[0], 0))
server.connect((to[0], to[1]))
def carry(a, b):
    while data := a.recv(4096): b.sendall(data)
    b.shutdown(socket.SHUT_WR)
threading.Thread(target=carry, args=(server, client)).start()
carry(client, server)
"#;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns when it listens.
fn proxy(pod: &Namespace, version: &str) -> Running {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", pod.name(), "python3", "-c", PROXY, version]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = [0; 10];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut line)
        .unwrap();
    assert_eq!(&line, b"listening\n");
    Running(child)
}

fn check(variant: &'static str, version: Ip, number: &str, client: &str, server: &str, any: &str) {
    let pair = Pair::new(variant, version);
    let (pod, peer) = (&pair.pod, &pair.peer);
    pair.captured("-m TPROXY -b * -i * -u 0 -d 15020");
    let _proxy = proxy(pod, number);
    let application = pod.listen(at(&format!("{any}:8080")));
    let mut stream = peer.connect(APP, at(&format!("{server}:8080"))).unwrap();
    let (accepted, from) = application.accept().unwrap();
    assert_eq!(from.ip(), at(&format!("{client}:1")).ip());
    // Both ways: the application's answers find the proxy, though they go to the client's address.
    let (mut near, mut bytes) = (accepted, [0; 4]);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    near.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"ping").unwrap();
    near.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    near.write_all(b"pong").unwrap();
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"pong");
    // What is excluded goes straight to the application, and so does loopback.
    let excluded = pod.listen(at(&format!("{any}:15020")));
    peer.connect(APP, at(&format!("{server}:15020"))).unwrap();
    assert_eq!(
        excluded.accept().unwrap().1.ip(),
        at(&format!("{client}:1")).ip()
    );
    pod.connect(APP, at(&format!("{server}:15020"))).unwrap();
    excluded.accept().unwrap();
}

fn keeps_the_clients_address(variant: &'static str) {
    check(variant, Ip::V4, "4", "10.0.0.1", "10.0.0.2", "0.0.0.0");
}

fn keeps_the_clients_address_over_ipv6(variant: &'static str) {
    check(variant, Ip::V6, "6", "[fd00::1]", "[fd00::2]", "[::]");
}
