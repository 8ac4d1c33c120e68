//! Inbound connections by TPROXY, which keeps the client's address.

use super::{Builder, any, loopback_interface, tcp, tcp_to};
use crate::capture::rule::{Chain, Is, Match, Target};
use crate::capture::settings::{Inbound, OUTBOUND_MARK};

impl Builder<'_> {
    /// Packets are marked and given to the proxy; routes for the mark are made elsewhere.
    pub(super) fn inbound_by_routing(&mut self) {
        let mark = self.settings.tproxy_mark;
        let (inbound, divert) = (Chain::IstioInbound, Chain::IstioDivert);
        self.mangle(divert, any(), Target::Mark(mark));
        self.mangle(divert, any(), Target::Accept);
        let to_proxy = Target::Tproxy {
            port: self.settings.inbound_port,
            mark,
            family: self.family,
        };
        let not_local = tcp().not_to(self.loopback);
        self.mangle(Chain::IstioTproxy, not_local, to_proxy);
        self.mangle(Chain::Prerouting, tcp(), Target::Go(inbound));

        // The proxy's own packets: marked as captured, to the application, and anything else on loopback but what the proxy sends to the
        // pod's own address, which is captured once more as inbound.
        let lo = loopback_interface();
        self.mangle(inbound, tcp().marked(Is::So(mark)), Target::Return);
        let passthrough = Match {
            source: Some(self.passthrough),
            input: lo.clone(),
            ..tcp()
        };
        self.mangle(inbound, passthrough, Target::Return);
        let local = Match {
            input: lo.clone(),
            ..tcp().marked(Is::Not(OUTBOUND_MARK))
        };
        self.mangle(inbound, local, Target::Return);

        match &self.settings.inbound {
            Inbound::AllBut(ports) => {
                for port in ports {
                    self.mangle(inbound, tcp_to(port.get()), Target::Return);
                }
                self.divert(tcp());
            }
            Inbound::Only(ports) => {
                for port in ports {
                    self.divert(tcp_to(port.get()));
                }
            }
        }

        self.mangle(
            Chain::Prerouting,
            tcp().marked(Is::So(mark)),
            Target::SaveMark,
        );
        let local = Match {
            output: lo.clone(),
            ..tcp().marked(Is::So(mark))
        };
        self.mangle(Chain::Output, local, Target::Return);
        for owner in self.proxy_owners() {
            let to_self = Match {
                output: lo.clone(),
                owners: vec![Is::So(owner)],
                ..tcp().not_to(self.loopback)
            };
            self.mangle(Chain::Output, to_self, Target::Mark(OUTBOUND_MARK));
        }
        let connected = Match {
            connection_mark: Some(mark),
            ..tcp()
        };
        self.mangle(Chain::Output, connected, Target::RestoreMark);
    }

    /// Packets of connections that the proxy has go to it, new ones are offered to it.
    fn divert(&mut self, ports: Match) {
        let known = Match {
            states: Some("RELATED,ESTABLISHED"),
            ..ports.clone()
        };
        let inbound = Chain::IstioInbound;
        self.mangle(inbound, known, Target::Go(Chain::IstioDivert));
        self.mangle(inbound, ports, Target::Go(Chain::IstioTproxy));
    }
}
