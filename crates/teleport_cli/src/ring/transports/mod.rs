//! One module per transport.
//!
//! A transport written in Rust is a [`RingNode`](super::node::RingNode), run in a process of its own by
//! `teleport ring-node`; any other program joins by speaking [`protocol`](super::protocol) over stdin and stdout.

pub(crate) mod disterl;
pub(crate) mod raw;
pub(crate) mod teleport;

use super::protocol::Command;
use super::rounds::Ring;
use crate::args::{ChaosOptions, RingOptions, Transport};
use crate::bench::tls::Certificates;
use crate::bench::{BenchError, own_program};

/// Starts the nodes of a transport that is part of this program. Their certificates go when what is returned beside them does.
pub(crate) async fn start_rust(
    options: &RingOptions,
    transport: Transport,
    chaos: Option<ChaosOptions>,
) -> Result<(Ring, Option<Certificates>), BenchError> {
    let certificates = (transport == Transport::Tls).then(|| options.tls.certificates()).transpose()?;
    let node = |index: u16| {
        let mut arguments = vec![
            "ring-node".to_owned(),
            format!("--transport={}", transport.name()),
            format!("--index={index}"),
            format!("--nodes={}", options.nodes),
            format!("--workers={}", options.workers),
            format!("--size={}", options.size),
        ];
        arguments.extend(options.congestion.as_ref().map(|name| format!("--congestion={name}")));
        arguments.extend(certificates.iter().flat_map(Certificates::arguments));
        arguments.extend(chaos.map(|chaos| format!("--chaos={}", chaos.seed)));
        own_program(&arguments)
    };
    let label = transport.name().to_owned() + if chaos.is_some() { " chaos" } else { "" };
    let programs = (0..options.nodes).map(node).collect::<Result<_, _>>()?;
    let ring = Ring::start(label, Command::to_json, options.deadline, programs).await?;
    Ok((ring, certificates))
}
