//! What the encoders of this version write, as inputs of the targets.

use bytes::BytesMut;
use teleport_etf::{Atom, Binary, Map, Term};
use teleport_proto::wire::control::{ControlFrame, Need, TransferFrame};
use teleport_proto::wire::envelope::Lane;
use teleport_proto::wire::pool::{Class, FRAGMENT_HEADER_LEN, FragmentHeader};

use super::{handshake, peers};

/// Inputs that their targets call good: the target's name, the file's name below `fuzz/seeds/<target>`, the bytes.
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let all = [
        ("batches", batches()),
        ("control", control()),
        ("etf_apart", documents()),
        ("fragments", fragments()),
        ("handshake", handshake::frames()),
    ];
    let named = |(target, inputs): (&'static str, Vec<Vec<u8>>)| {
        let numbered = inputs.into_iter().enumerate();
        numbered.map(move |(n, input)| (target, format!("made_{:02}", n + 1), input))
    };
    all.into_iter().flat_map(named).collect()
}

/// Each frame alone as far as that is good, and all of them.
fn batches() -> Vec<Vec<u8>> {
    let frames = frames(Class::Express);
    let first = [&[0], &frames[0][..]].concat();
    vec![first, [&[0], &frames.concat()[..]].concat(), [&[7], &frames.concat()[..]].concat()]
}

/// The heads of all fragments, by one connection and by turns by two.
fn fragments() -> Vec<Vec<u8>> {
    const WHOLE: u8 = 4;
    let heads: Vec<Vec<u8>> = frames(Class::Bulk)
        .iter()
        .filter_map(|frame| {
            let header = FragmentHeader::decode(frame.first_chunk()?).ok()?;
            Some(frame[..FRAGMENT_HEADER_LEN + usize::from(header.envelope_len)].to_vec())
        })
        .collect();
    let by = |how: fn(usize) -> u8| {
        heads.iter().enumerate().flat_map(|(n, head)| [&[how(n)], &head[..]].concat()).collect()
    };
    vec![by(|_| WHOLE), by(|n| WHOLE + (n % 2) as u8), by(|n| if n % 5 == 1 { 0 } else { WHOLE })]
}

/// What an acceptor says in an exchange; and every kind of frame, as far as it is good at any time.
fn control() -> Vec<Vec<u8>> {
    let said = peers::exchange().said;
    let need = Need { needed: 0, wanted: 1 << 40, waived: 0 };
    let others = [
        ControlFrame::Tick(7),
        ControlFrame::TickAnswer(u64::MAX),
        ControlFrame::Transfer(TransferFrame::Wanted { express: 1, bulk: 2 }),
        ControlFrame::Transfer(TransferFrame::RetireNoted { connection: 9 }),
        ControlFrame::Transfer(TransferFrame::AccountClosed { account: 9 }),
        ControlFrame::Transfer(TransferFrame::Delivered { watermark: 1, above: Default::default() }),
        ControlFrame::Transfer(TransferFrame::Needed { lane: Lane::Ordinary, express: need, bulk: need }),
        ControlFrame::Goodbye,
    ];
    let mut stream = BytesMut::new();
    others.iter().for_each(|frame| frame.encode(&mut stream));
    vec![[&[255], &said[..]].concat(), [&[1], &said[..]].concat(), [&[255], &stream[..]].concat()]
}

/// Terms with binaries around the size that is large, in every container.
fn documents() -> Vec<Vec<u8>> {
    let large = || Term::from(Binary::from(vec![7; 8]));
    let small = || Term::from(Binary::from(vec![7; 7]));
    let atom = || Term::Atom(Atom::from_static("ok"));
    let terms = [
        large(),
        Term::Tuple(vec![atom(), small(), large()]),
        Term::list(vec![small(), Term::from(300), Term::Tuple(vec![large()]), Term::from(1.5)]),
        Term::improper_list(vec![large(), atom()], large()),
        Term::Map(Map::from_iter([(atom(), large()), (large(), Term::charlist("text"))])),
        Term::list(vec![Term::Tuple(vec![atom(), Term::list(vec![large(); 3])]); 2]),
    ];
    let header = [0, 8, 255, 255];
    let document = |term: &Term| Some([&header, &term.encode().ok()?.into_contiguous()[..]].concat());
    terms.iter().filter_map(document).collect()
}

fn frames(class: Class) -> Vec<Vec<u8>> {
    let frames = peers::exchange().frames;
    frames.into_iter().filter(|(of, _)| *of == class).map(|(_, frame)| frame).collect()
}
