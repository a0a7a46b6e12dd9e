//! What is done on which thread, and when, which needs no virtual machine.

#[path = "../src/lock.rs"]
#[allow(unreachable_pub, dead_code, reason = "it is a module of the library")]
mod lock;
#[path = "../src/work/turns.rs"]
#[allow(unreachable_pub, dead_code, reason = "it is a module of the library")]
mod turns;
#[path = "../src/work/workers.rs"]
#[allow(unreachable_pub, dead_code, reason = "it is a module of the library")]
mod workers;
mod work {
    pub(crate) use crate::turns;
}

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::mpsc::channel;
use turns::Whose;
use workers::Workers;

/// A session of an address.
fn of(place: u8, session: u64) -> Whose {
    Whose { place: IpAddr::V4(Ipv4Addr::new(10, 0, 0, place)), session }
}

/// Threads are started when all jobs are there.
#[test]
fn what_is_short_waits_for_one_job_of_each_other_address() {
    let (workers, jobs) = Workers::<()>::new(1);
    let (done, order) = channel();
    let all = (0..1000).map(|job| (of(1, job % 10), job)).chain([(of(2, 1), 1000), (Whose::OWN, 1001)]);
    for (whose, job) in all {
        let done = done.clone();
        workers.short(whose, move |_| done.send(job).expect("the test waits for all"));
    }
    let node = Arc::new(());
    jobs.start(&node, "test").expect("there are threads");
    let order: Vec<u64> = (0..1002).map(|_| order.recv().expect("all are done")).collect();
    assert_eq!(order[..4], [0, 1000, 1001, 1]);
    let of_one: Vec<_> = order.iter().filter(|job| **job < 1000 && **job % 10 == 3).collect();
    assert!(of_one.is_sorted(), "a session's own are done in their order: {of_one:?}");
}
