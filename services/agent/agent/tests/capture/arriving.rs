//! Where connections arrive, by whom they are made and where they go.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net;

use crate::both_variants;
use crate::namespace::{APP, Ip, Machine as _, Namespace, PATIENCE, PROXY, Pair, at};

both_variants! {
    redirects_both_ways,
    redirects_ipv6,
    leaves_alone_what_is_excluded,
    captures_only_what_is_included,
    goes_by_the_group_of_the_owner,
    goes_by_interface,
    sends_dns_to_the_agent,
}

/// A connection that arrived: where it was going by the kernel, and who it is from.
#[derive(Debug)]
struct Arrival {
    to: SocketAddr,
    from: SocketAddr,
}

/// Takes the next connection, or nothing within `patience`.
#[expect(clippy::disallowed_methods, reason = "real sockets, real time")]
fn accept(listener: &TcpListener, patience: Duration) -> Option<(TcpStream, Arrival)> {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + patience;
    loop {
        match listener.accept() {
            Ok((stream, from)) => {
                let to = match stream.local_addr().unwrap() {
                    local @ SocketAddr::V4(_) => rustix::net::sockopt::ip_original_dst(&stream)
                        .map_or(local, SocketAddr::from),
                    local @ SocketAddr::V6(_) => rustix::net::sockopt::ipv6_original_dst(&stream)
                        .map_or(local, |to| SocketAddr::new((*to.ip()).into(), to.port())),
                };
                return Some((stream, Arrival { to, from }));
            }
            Err(_) if Instant::now() > deadline => return None,
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// Connects from somewhere as somebody; the connection must arrive at this listener, for that address.
#[track_caller]
fn arrives(from: &Namespace, user: u32, to: &str, listener: &TcpListener) -> Arrival {
    let to = at(to);
    let connected = from.connect(user, to);
    let arrival = accept(listener, PATIENCE);
    let (_, arrival) = arrival.unwrap_or_else(|| panic!("{user} to {to}: {connected:?}"));
    assert!(connected.is_ok(), "{user} to {to}: {connected:?}");
    assert_eq!(arrival.to, to);
    arrival
}

/// The proxy's listeners.
struct Proxy {
    outbound: TcpListener,
    inbound: TcpListener,
}

impl Proxy {
    fn new(pod: &Namespace) -> Proxy {
        Proxy {
            outbound: pod.listen(at("15001")),
            inbound: pod.listen(at("15006")),
        }
    }
}

fn redirects_both_ways(variant: &'static str) {
    let pair = Pair::new(variant, Ip::V4);
    let (pod, peer) = (&pair.pod, &pair.peer);
    pair.captured("-b * -i * -d 15020");
    let proxy = Proxy::new(pod);
    let (service, application) = (peer.listen(at("80")), pod.listen(at("8080")));

    // Out: the application's are captured, wherever they go; the proxy's are not.
    arrives(pod, APP, "10.0.0.1:80", &proxy.outbound);
    arrives(pod, APP, "203.0.113.7:443", &proxy.outbound);
    arrives(pod, PROXY, "10.0.0.1:80", &service);
    // In: all but what is excluded and the tunnel's.
    let arrival = arrives(peer, APP, "10.0.0.2:8080", &proxy.inbound);
    assert_eq!(arrival.from.ip(), at("10.0.0.1:1").ip());
    for port in [15_020, 15_008] {
        let excluded = pod.listen(at(&port.to_string()));
        arrives(peer, APP, &format!("10.0.0.2:{port}"), &excluded);
    }
    // To itself: the application by itself, the proxy through inbound, and what comes from there to the application.
    arrives(pod, APP, "127.0.0.1:8080", &application);
    arrives(pod, APP, "10.0.0.2:8080", &application);
    arrives(pod, PROXY, "10.0.0.2:8080", &proxy.inbound);
    arrives(pod, PROXY, "127.0.0.1:8080", &application);
    let passthrough = pod.as_user(PROXY, PROXY, || {
        let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
        net::bind(&socket, &at("127.0.0.6:0")).unwrap();
        net::connect(&socket, &at("10.0.0.2:8080")).map(|()| socket)
    });
    assert!(passthrough.is_ok(), "{passthrough:?}");
    let (_, arrival) = accept(&application, PATIENCE).unwrap();
    assert_eq!(arrival.from.ip(), at("127.0.0.6:1").ip());
    // By group alone too.
    let by_group = pod.as_user(APP, PROXY, || {
        TcpStream::connect_timeout(&at("10.0.0.1:80"), PATIENCE)
    });
    assert!(by_group.is_ok());
    accept(&service, PATIENCE).unwrap();
}

fn redirects_ipv6(variant: &'static str) {
    for (version, flags) in [(Ip::V6, ""), (Ip::Both, " --dual-stack")] {
        let pair = Pair::new(variant, version);
        let (pod, peer) = (&pair.pod, &pair.peer);
        pair.captured(&format!("-b * -i *{flags}"));
        let outbound = pod.listen(at("[::]:15001"));
        let inbound = pod.listen(at("[::]:15006"));
        let application = pod.listen(at("[::]:8080"));
        arrives(pod, APP, "[fd00::1]:80", &outbound);
        arrives(peer, APP, "[fd00::2]:8080", &inbound);
        arrives(pod, APP, "[fd00::2]:8080", &application);
        arrives(pod, PROXY, "[fd00::2]:8080", &inbound);
        // The address from which the proxy reaches its application can be had.
        drop(pod.listen(at("[::6]:1")));
        if version == Ip::Both {
            // Mapped, as the listener is one for both.
            let (connected, arrival) = (
                pod.connect(APP, at("10.0.0.1:80")),
                accept(&outbound, PATIENCE),
            );
            assert!(connected.is_ok() && arrival.is_some());
        }
    }
}

fn leaves_alone_what_is_excluded(variant: &'static str) {
    let pair = Pair::new(variant, Ip::V4);
    let (pod, peer) = (&pair.pod, &pair.peer);
    peer.ip("address add 192.168.7.7/32 dev lo");
    pair.captured("-b 80,443 -i * -x 192.168.0.0/16 -o 25");
    let proxy = Proxy::new(pod);
    let (far, mail) = (peer.listen(at("80")), peer.listen(at("25")));
    arrives(pod, APP, "192.168.7.7:80", &far);
    arrives(pod, APP, "10.0.0.1:25", &mail);
    arrives(pod, APP, "10.0.0.1:80", &proxy.outbound);
    let (listed, other) = (pod.listen(at("8080")), &proxy.inbound);
    arrives(peer, APP, "10.0.0.2:8080", &listed);
    arrives(peer, APP, "10.0.0.2:443", other);
}

fn captures_only_what_is_included(variant: &'static str) {
    let pair = Pair::new(variant, Ip::V4);
    let (pod, peer) = (&pair.pod, &pair.peer);
    peer.ip("address add 192.168.7.7/32 dev lo");
    peer.ip("address add 192.168.7.8/32 dev lo");
    pair.captured("-i 192.168.7.8/32 -q 9999");
    let proxy = Proxy::new(pod);
    let far = peer.listen(at("80"));
    let application = pod.listen(at("8080"));
    arrives(pod, APP, "10.0.0.1:80", &far);
    arrives(pod, APP, "192.168.7.7:80", &far);
    arrives(pod, APP, "192.168.7.8:80", &proxy.outbound);
    arrives(pod, APP, "10.0.0.1:9999", &proxy.outbound);
    // No port was named, so none is captured.
    arrives(peer, APP, "10.0.0.2:8080", &application);
}

fn goes_by_the_group_of_the_owner(variant: &'static str) {
    let as_group = |pair: &Pair, group| {
        pair.pod
            .as_user(APP, group, || {
                TcpStream::connect_timeout(&at("10.0.0.1:80"), PATIENCE)
            })
            .unwrap()
    };
    for (flags, captured, free) in [
        ("--outbound-owner-groups 202,203", 202, 204),
        ("--outbound-owner-groups-exclude 202,203", 204, 202),
    ] {
        let pair = Pair::new(variant, Ip::V4);
        pair.captured(&format!("-i * {flags}"));
        let proxy = Proxy::new(&pair.pod);
        let far = pair.peer.listen(at("80"));
        as_group(&pair, captured);
        assert!(accept(&proxy.outbound, PATIENCE).is_some(), "{flags}");
        as_group(&pair, free);
        assert!(accept(&far, PATIENCE).is_some(), "{flags}");
    }
}

fn goes_by_interface(variant: &'static str) {
    let pair = Pair::new(variant, Ip::V4);
    pair.captured("-b * -i * -c eth+");
    let application = pair.pod.listen(at("8080"));
    arrives(&pair.peer, APP, "10.0.0.2:8080", &application);
    let far = pair.peer.listen(at("80"));
    arrives(&pair.pod, APP, "10.0.0.1:80", &far);

    let pair = Pair::new(variant, Ip::V4);
    pair.captured("-b * -i * -k eth0");
    let proxy = Proxy::new(&pair.pod);
    arrives(&pair.peer, APP, "10.0.0.2:8080", &proxy.outbound);
}

fn sends_dns_to_the_agent(variant: &'static str) {
    for (all, server) in [(true, "10.0.0.1"), (false, "10.0.0.1")] {
        let pair = Pair::new(variant, Ip::V4);
        let (pod, peer) = (&pair.pod, &pair.peer);
        peer.ip("address add 10.0.0.9/24 dev eth0");
        pair.name_server(server);
        let flag = if all { "--capture-all-dns" } else { "" };
        pair.captured(&format!("-b * -i * --redirect-dns {flag}"));
        let bind = |namespace: &Namespace, user, at: SocketAddr| {
            let socket = namespace
                .as_user(user, user, || UdpSocket::bind(at))
                .unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        // There and nowhere else, or its answers would come from another address than the questions went to.
        let agent = bind(pod, PROXY, at("127.0.0.1:15053"));
        let upstream = bind(peer, 0, at("10.0.0.1:53"));
        // An application's question goes to the agent, and the answer comes back as if from the server.
        let ask = |user, to: &str| {
            let socket = bind(pod, user, at("0.0.0.0:0"));
            socket.connect(at(to)).unwrap();
            socket.send(b"question").unwrap();
            socket
        };
        let answer = |server: &UdpSocket, asker: &UdpSocket| {
            let mut bytes = [0; 64];
            let (length, from) = server.recv_from(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"question");
            server.send_to(b"answer", from).unwrap();
            let length = asker.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"answer");
        };
        answer(&agent, &ask(APP, "10.0.0.1:53"));
        // The agent's own goes to the server.
        answer(&upstream, &ask(PROXY, "10.0.0.1:53"));
        // Another server is asked directly, unless all are meant. The answer comes from the address it was sent to.
        let other = bind(peer, 0, at("10.0.0.9:53"));
        answer(if all { &agent } else { &other }, &ask(APP, "10.0.0.9:53"));
        // So over TCP, which is no ordinary outbound connection.
        let agent = pod.listen(at("15053"));
        let mut stream = pod.connect(APP, at("10.0.0.1:53")).unwrap();
        let (mut accepted, arrival) = accept(&agent, PATIENCE).unwrap();
        assert_eq!(arrival.to, at("10.0.0.1:53"));
        accepted.set_nonblocking(false).unwrap();
        accepted.write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }
}
