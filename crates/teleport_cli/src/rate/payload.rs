//! Messages that show whether they are what was sent, and in order.

/// Bytes of the number in front.
const NUMBER: usize = 8;

/// Makes the message with that number; it has room for the number at least.
pub(super) fn fill(number: u64, payload: &mut [u8]) {
    let (front, filling) = payload.split_at_mut(NUMBER);
    front.copy_from_slice(&number.to_le_bytes());
    for (at, byte) in filling.iter_mut().enumerate() {
        *byte = expected(number, at);
    }
}

/// Whether this is the message with that number, all of it.
pub(super) fn is(number: u64, payload: &[u8], size: usize) -> bool {
    payload.len() == size
        && payload.split_at_checked(NUMBER).is_some_and(|(front, filling)| {
            front == number.to_le_bytes()
                && filling.iter().enumerate().all(|(at, &byte)| byte == expected(number, at))
        })
}

/// Differs between neighbours in a message, and between messages at one place.
const fn expected(number: u64, at: usize) -> u8 {
    (number as u8).wrapping_mul(31).wrapping_add((at as u8).wrapping_mul(7)).wrapping_add((at >> 8) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_number_length_or_byte_is_another_message() {
        let mut message = vec![0; 600];
        fill(1000, &mut message);
        assert!(is(1000, &message, 600));
        assert!(!is(1001, &message, 600));
        assert!(!is(1000, &message, 601) && !is(1000, &message[..599], 600) && !is(1000, &[], 600));
        message.swap(300, 301);
        assert!(!is(1000, &message, 600));
    }
}
