//! Inflates compressed documents, within the limits.

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::DecodeError;
use crate::limits::Limits;
use crate::tags;

/// Deflate never expands by more than this factor, so a larger claim is a lie that needs no memory to be found out.
const MAX_RATIO: usize = 1032;

/// The term of a document, with the version byte stripped or skipped.
pub(crate) enum Body<'a> {
    /// The document itself; the term begins at byte 1.
    Plain(&'a [u8]),
    /// A compressed term, inflated; it begins at byte 0.
    Inflated(Vec<u8>),
}

/// Checks the version byte and inflates a compressed term.
pub(crate) fn body<'a>(document: &'a [u8], limits: &Limits) -> Result<Body<'a>, DecodeError> {
    match document {
        [tags::VERSION, tags::COMPRESSED, rest @ ..] => inflate(rest, limits).map(Body::Inflated),
        [tags::VERSION, ..] => Ok(Body::Plain(document)),
        _ => Err(DecodeError::Version { found: document.first().copied() }),
    }
}

fn inflate(rest: &[u8], limits: &Limits) -> Result<Vec<u8>, DecodeError> {
    let Some((size, deflated)) = rest.split_first_chunk() else {
        return Err(DecodeError::Truncated { offset: 2, needed: 4, left: rest.len() });
    };
    let declared = u32::from_be_bytes(*size) as usize;
    if declared > limits.max_inflated {
        return Err(DecodeError::TooLarge { size: declared, limit: limits.max_inflated });
    }
    let damaged = DecodeError::Inflate { declared };
    if declared > deflated.len().saturating_mul(MAX_RATIO) {
        return Err(damaged);
    }
    let mut inflated = Vec::with_capacity(declared);
    let mut inflater = Decompress::new(true);
    loop {
        let (consumed, produced) = (inflater.total_in() as usize, inflated.len());
        if produced == declared && inflated.capacity() == produced {
            // The checksum may still be unread; it must not need room for more than one byte of data.
            inflated.reserve_exact(1);
        }
        let status = inflater.decompress_vec(&deflated[consumed..], &mut inflated, FlushDecompress::Finish);
        if inflated.len() > declared {
            return Err(damaged);
        }
        let consumed_all = inflater.total_in() as usize;
        match status {
            Ok(Status::StreamEnd) if inflated.len() == declared && consumed_all == deflated.len() => {
                return Ok(inflated);
            }
            Ok(Status::StreamEnd) if inflated.len() == declared => {
                return Err(DecodeError::Trailing {
                    offset: consumed_all + 6,
                    left: deflated.len() - consumed_all,
                });
            }
            Ok(Status::StreamEnd) | Err(_) => return Err(damaged),
            Ok(_) if consumed_all == consumed && inflated.len() == produced => return Err(damaged),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn compressed(term: &[u8], declared: u32) -> Vec<u8> {
        let mut document = vec![tags::VERSION, tags::COMPRESSED];
        document.extend_from_slice(&declared.to_be_bytes());
        let mut encoder = flate2::write::ZlibEncoder::new(document, flate2::Compression::best());
        encoder.write_all(term).unwrap();
        encoder.finish().unwrap()
    }

    fn inflating() -> Limits {
        Limits { max_inflated: 64 << 20, ..Limits::default() }
    }

    fn inflated(document: &[u8], limits: &Limits) -> Result<Vec<u8>, DecodeError> {
        match body(document, limits)? {
            Body::Inflated(term) => Ok(term),
            Body::Plain(_) => panic!("is compressed"),
        }
    }

    #[test]
    fn inflates_into_exactly_the_declared_size() {
        let limits = inflating();
        for len in [0, 1, 5, 1000, 1 << 20] {
            let term = vec![tags::NIL_EXT; len];
            let size = len as u32;
            assert_eq!(inflated(&compressed(&term, size), &limits), Ok(term.clone()));
            let off_by_one = DecodeError::Inflate { declared: len + 1 };
            assert_eq!(inflated(&compressed(&term, size + 1), &limits), Err(off_by_one));
            if len > 0 {
                let off_by_one = DecodeError::Inflate { declared: len - 1 };
                assert_eq!(inflated(&compressed(&term, size - 1), &limits), Err(off_by_one));
            }
        }
    }

    #[test]
    fn a_size_over_the_limit_or_beyond_what_deflate_can_do_is_refused_without_inflating() {
        let limits = Limits { max_inflated: 1000, ..Limits::default() };
        let over = compressed(&[tags::NIL_EXT; 1001], 1001);
        assert_eq!(inflated(&over, &limits), Err(DecodeError::TooLarge { size: 1001, limit: 1000 }));
        let by_default = DecodeError::TooLarge { size: 1, limit: 0 };
        assert_eq!(inflated(&compressed(&[tags::NIL_EXT], 1), &Limits::default()), Err(by_default));
        let lie = [&[131, 80, 0, 0xff, 0xff, 0xff][..], &[0; 10]].concat();
        assert_eq!(inflated(&lie, &inflating()), Err(DecodeError::Inflate { declared: 0xff_ffff }));
    }

    #[test]
    fn damaged_cut_and_trailing_data_are_refused() {
        let limits = inflating();
        let good = compressed(&[tags::NIL_EXT; 300], 300);
        for cut in 2..good.len() {
            assert!(inflated(&good[..cut], &limits).is_err(), "cut at {cut}");
        }
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(inflated(&flipped, &limits), Err(DecodeError::Inflate { declared: 300 }));
        let trailing = [&good[..], b"xyz"].concat();
        assert_eq!(inflated(&trailing, &limits), Err(DecodeError::Trailing { offset: good.len(), left: 3 }));
    }
}
