//! The power button, as the kernel's input layer reports it (evdev, linux/input.h).

/// Bytes of a `struct input_event` on a 64-bit machine: two words of time, type, code, value.
pub const EVENT_BYTES: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
const PRESSED: i32 = 1;

/// Whether the power button is pressed in these events; an incomplete one at the end is passed over.
#[must_use]
pub fn power_pressed(bytes: &[u8]) -> bool {
    bytes.chunks_exact(EVENT_BYTES).any(|event| {
        let kind = u16::from_ne_bytes([event[16], event[17]]);
        let code = u16::from_ne_bytes([event[18], event[19]]);
        let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
        (kind, code, value) == (EV_KEY, KEY_POWER, PRESSED)
    })
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![7; 16];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_press_counts_among_other_events() {
        let bytes = [event(0, 0, 0), event(EV_KEY, KEY_POWER, PRESSED)].concat();
        assert!(power_pressed(&bytes));
    }

    #[test]
    fn a_release_and_another_key_do_not_count() {
        let bytes = [event(EV_KEY, KEY_POWER, 0), event(EV_KEY, 30, PRESSED)].concat();
        assert!(!power_pressed(&bytes));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_never_a_panic(bytes: Vec<u8>) {
            prop_assert!(bytes.len() >= EVENT_BYTES || !power_pressed(&bytes));
        }
    }
}
