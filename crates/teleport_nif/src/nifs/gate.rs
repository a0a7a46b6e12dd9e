//! Before the virtual machine's name goes, and when it has gone.

use crate::atoms;
use crate::node::running;
use crate::terms::naming;
use rustler::types::atom::Atom;

#[rustler::nif(schedule = "DirtyIo")]
fn close_gate() -> Atom {
    // To peers a node that still drains goes with its name. What it does not read any more needs no decoder.
    for running in running::all() {
        if !running::is_current(&running)
            && let Some(node) = running.node()
        {
            node.take_nothing_in();
        }
    }
    naming::close();
    atoms::ok()
}

#[rustler::nif]
fn open_gate() -> Atom {
    naming::open();
    atoms::ok()
}
