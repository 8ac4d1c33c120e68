//! Questions of applications to name servers, answered by the agent.

use ipnet::IpNet;

use super::{Builder, DNS, any, udp_to};
use crate::capture::rule::{Chain, Is, Match, Ports, Table, Target};

/// Where the agent answers DNS.
const AGENT_DNS: u16 = 15_053;
/// Connections of the agent's own questions, and of the application's.
const AGENT_ZONE: u16 = 1;
const APPLICATION_ZONE: u16 = 2;

impl Builder<'_> {
    /// Whether the family has questions to capture.
    pub(super) fn captures_dns(&self) -> bool {
        let none = self.servers.as_ref().is_some_and(Vec::is_empty);
        self.dns && !none
    }

    /// Questions go to the agent; its own do not.
    pub(super) fn redirect_dns(&mut self) {
        let servers: Vec<Option<IpNet>> = match &self.servers {
            None => vec![None],
            Some(nets) => nets.iter().copied().map(Some).collect(),
        };
        let (output, inbound) = (Chain::IstioOutputDns, Chain::IstioInbound);
        let raw = Table::Raw;
        for &server in &servers {
            let destination = server.map(Is::So);
            for ports in [Ports::TcpTo(Is::So(DNS)), Ports::UdpTo(DNS)] {
                let question = Match {
                    destination,
                    ports: Some(ports),
                    ..any()
                };
                self.nat(output, question, Target::Redirect(AGENT_DNS));
            }
        }

        // Two tables of connections: an answer to the agent's question is not taken for one to the application's.
        self.add(raw, Chain::Output, any(), Target::Go(output));
        for owner in self.proxy_owners() {
            let own = |ports| Match {
                ports: Some(ports),
                owners: vec![Is::So(owner)],
                ..any()
            };
            let (question, answer) = (own(Ports::UdpTo(DNS)), own(Ports::UdpFrom(AGENT_DNS)));
            self.add(raw, output, question, Target::Zone(AGENT_ZONE));
            self.add(raw, output, answer, Target::Zone(APPLICATION_ZONE));
        }
        for &server in &servers {
            let question = Match {
                destination: server.map(Is::So),
                ..udp_to(DNS)
            };
            self.add(raw, output, question, Target::Zone(APPLICATION_ZONE));
        }
        self.add(raw, Chain::Prerouting, any(), Target::Go(inbound));
        for &server in &servers {
            let answer = Match {
                source: server,
                ports: Some(Ports::UdpFrom(DNS)),
                ..any()
            };
            self.add(raw, inbound, answer, Target::Zone(AGENT_ZONE));
        }
    }
}
