//! The budget for atoms, which knows nothing of the virtual machine and so can be tested without one.

#[path = "../src/terms/budget.rs"]
#[allow(unreachable_pub, dead_code, reason = "it is a module of the library")]
mod budget;
#[path = "../src/lock.rs"]
#[allow(unreachable_pub, dead_code, reason = "it is a module of the library")]
mod lock;

use budget::{Budget, Used};
use std::net::Ipv4Addr;
use teleport::NodeName;

fn name(name: &str) -> NodeName {
    name.parse().expect("a name of a node")
}

/// Spends new atoms in a message of that peer, which has an address of its own, by its name.
fn spend(budget: &Budget, peer: &NodeName, atoms: usize) -> bool {
    let place = peer.name().bytes().fold(0u32, |place, byte| place.wrapping_mul(31) + u32::from(byte));
    spend_at(budget, peer, place, atoms)
}

fn spend_at(budget: &Budget, peer: &NodeName, place: u32, atoms: usize) -> bool {
    let mut spending = budget.spending(peer, Ipv4Addr::from_bits(place).into());
    let is_enough = spending.take(atoms as u64);
    assert!(is_enough || spending.left() < atoms as u64);
    if is_enough {
        spending.keep();
    }
    is_enough
}

#[test]
fn each_peer_has_its_own() {
    let budget = Budget::new(3, 100);
    let (one, other) = (name("one@here"), name("other@here"));
    assert!(spend(&budget, &one, 3));
    assert!(!spend(&budget, &one, 1));
    assert!(spend(&budget, &other, 2));
    assert_eq!(budget.used_by(&one), Used { atoms: 3, refused: 1 });
    assert_eq!(budget.used_by(&other), Used { atoms: 2, refused: 0 });
    assert_eq!(budget.used(), Used { atoms: 5, refused: 1 });
    assert_eq!(budget.used_by(&name("nobody@here")), Used::default());
}

#[test]
fn all_together_have_one_too() {
    let budget = Budget::new(3, 4);
    let (one, other) = (name("one@here"), name("other@here"));
    assert!(spend(&budget, &one, 3));
    assert!(!spend(&budget, &other, 2));
    assert_eq!(budget.used_by(&other), Used { atoms: 0, refused: 1 });
    assert!(spend(&budget, &other, 1));
    assert_eq!(budget.used(), Used { atoms: 4, refused: 1 });
}

#[test]
fn however_many_names_an_address_has_it_leaves_a_quarter_to_others() {
    let budget = Budget::new(10, 40);
    for (number, fits) in [(0, true), (1, true), (2, true), (3, false)] {
        assert_eq!(spend_at(&budget, &name(&format!("n{number}@here")), 1, 10), fits);
    }
    assert!(spend_at(&budget, &name("honest@there"), 2, 10));
    assert_eq!(budget.used(), Used { atoms: 40, refused: 1 });
}

#[test]
fn a_message_that_is_refused_uses_nothing() {
    let budget = Budget::new(3, 100);
    let peer = name("one@here");
    assert!(!spend(&budget, &peer, 50));
    assert_eq!(budget.used_by(&peer), Used { atoms: 0, refused: 1 });
    assert!(spend(&budget, &peer, 3));
}

#[test]
fn the_table_of_accounts_does_not_grow_for_ever() {
    let budget = Budget::new(2, 1030);
    let first = name("n0@here");
    for number in 0..1024 {
        assert!(spend(&budget, &name(&format!("n{number}@here")), 1));
    }
    // From here on names share an account, and what all have left.
    for number in 0..5 {
        assert!(spend(&budget, &name(&format!("more{number}@here")), 1));
    }
    assert!(spend(&budget, &first, 1));
    assert!(!spend(&budget, &name("still_more@here"), 1));
    assert_eq!(budget.used_by(&name("another@here")), Used { atoms: 5, refused: 1 });
    assert_eq!(budget.used_by(&first), Used { atoms: 2, refused: 0 });
}
