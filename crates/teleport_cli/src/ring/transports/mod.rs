//! One module per transport.
//!
//! A transport written in Rust is a [`RingNode`](super::child::RingNode), run in a process of its own by
//! `teleport ring-node`; any other program joins by speaking [`protocol`](super::protocol) over stdin and stdout.

pub(crate) mod disterl;
pub(crate) mod raw;
pub(crate) mod teleport;

use tokio::process::Command as Program;

use super::RingError;
use super::cluster::{Cluster, Dialect};
use crate::args::{ChaosOptions, RingOptions, Transport};

/// Starts the nodes of a transport that is part of this program.
pub(crate) async fn start_rust(
    options: &RingOptions,
    transport: Transport,
    chaos: Option<ChaosOptions>,
) -> Result<Cluster, RingError> {
    let own_path = std::env::current_exe()
        .map_err(|source| RingError::Setup { what: "find the path of this program", source })?;
    let node = |index: u16| {
        let mut program = Program::new(&own_path);
        program.arg("ring-node").args(["--transport", transport.name()]).args([
            "--index".to_owned(),
            index.to_string(),
            "--nodes".to_owned(),
            options.nodes.to_string(),
            "--workers".to_owned(),
            options.workers.to_string(),
            "--size".to_owned(),
            options.size.to_string(),
        ]);
        if let Some(congestion) = &options.congestion {
            program.args(["--congestion", congestion]);
        }
        if let Some(chaos) = chaos {
            program.args(["--chaos", &chaos.seed.to_string()]);
        }
        program
    };
    let label = transport.name().to_owned() + if chaos.is_some() { " chaos" } else { "" };
    let programs = (0..options.nodes).map(node).collect();
    Cluster::start(label, Dialect::Json, options.deadline, programs).await
}
