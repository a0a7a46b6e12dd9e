//! Questions of the engine's, which know nothing of the virtual machine and so can be tested without one.

#[path = "../src/lock.rs"]
#[allow(unreachable_pub, dead_code, reason = "it is a module of the library")]
mod lock;
#[path = "../src/node/questions.rs"]
#[allow(unreachable_pub, dead_code, reason = "it is a module of the library")]
mod questions;

use questions::{Question, Questions};
use teleport::NodeName;

fn name(number: usize) -> NodeName {
    NodeName::new(&format!("peer{number}@127.0.0.1")).expect("a name")
}

#[test]
fn who_answers_is_told_once_and_asked_once_for_all_who_wait() {
    let questions = Questions::default();
    let ask = |number| questions.ask(Question::Cookie, &name(number), |asked| &mut asked.cookies);
    let ((mut first, tell), (mut second, again)) = (ask(1), ask(1));
    assert!(tell && !again);
    assert_eq!(questions.fetch(), (vec![(Question::Cookie, name(1))], false));
    questions.cookie_is(&name(1), &b"cookie".to_vec());
    assert_eq!(first.try_recv().as_deref(), Ok(&b"cookie"[..]));
    assert_eq!(second.try_recv().as_deref(), Ok(&b"cookie"[..]));
}

#[test]
fn what_is_asked_again_and_again_is_queued_once() {
    let questions = Questions::default();
    let ask = || questions.ask(Question::Cookie, &name(1), |asked| &mut asked.cookies);
    (0..1000).for_each(|_| drop(ask()));
    let _waiting = ask();
    assert_eq!(questions.fetch().0.len(), 1);
    (0..1000).for_each(|_| drop(ask()));
    assert_eq!(questions.fetch().0.len(), 0, "it has been fetched, and is waited for");
}

#[test]
fn what_nobody_waits_for_any_more_is_forgotten() {
    let questions = Questions::default();
    for number in 0..100_000 {
        drop(questions.ask(Question::Cookie, &name(number), |asked| &mut asked.cookies));
    }
    assert!(questions.len() < 100, "{}", questions.len());
}
