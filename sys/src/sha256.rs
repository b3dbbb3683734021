//! SHA-256 over sixteen messages at a time, with the processor's vectors (AVX-512).
//!
//! The processor's own SHA instructions take one message, each step waiting for the last; sixteen messages
//! beside each other keep its vectors busy. This knows the compression function alone (FIPS 180-4, 6.2.2): padding,
//! and which messages go together, are the caller's.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm_set_epi8, _mm512_add_epi32, _mm512_broadcast_i32x4, _mm512_loadu_si512,
    _mm512_ror_epi32, _mm512_set1_epi32, _mm512_shuffle_epi8, _mm512_shuffle_i32x4,
    _mm512_srli_epi32, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

/// Messages at a time.
pub const LANES: usize = 16;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 64;
/// The state of a message before its first block (FIPS 180-4, 5.3.3).
pub const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// One word of each message.
type Lane = [u32; LANES];
type Blocks = [[u8; BLOCK_BYTES]];

/// FIPS 180-4, 4.2.2.
#[rustfmt::skip]
const CONSTANTS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// Whether this processor has the vectors that make it worth while: with fewer, its SHA instructions are faster.
#[must_use]
pub fn is_fast() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
}

/// Compresses as many blocks of each message as the shortest of them has into its state.
///
/// # Panics
/// Without [`is_fast`].
pub fn compress(states: &mut [[u32; 8]; LANES], messages: &[&Blocks; LANES]) {
    assert!(is_fast(), "only for processors with these vectors");
    let mut lanes: [Lane; 8] = std::array::from_fn(|word| states.map(|state| state[word]));
    // SAFETY: the function's one requirement is that the processor has the features it is compiled
    // for, which was just asked.
    unsafe { all(&mut lanes, messages) }
    for (number, state) in states.iter_mut().enumerate() {
        *state = lanes.map(|lane| lane[number]);
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
fn all(states: &mut [Lane; 8], messages: &[&Blocks; LANES]) {
    let count = messages.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    let messages: [&Blocks; LANES] = messages.map(|blocks| &blocks[..count]);
    // SAFETY: the load reads 64 bytes from wherever they stand, and a lane has as many.
    let load = |lane: &Lane| unsafe { _mm512_loadu_si512(lane.as_ptr().cast()) };
    let mut vectors = states.each_ref().map(load);
    for at in 0..count {
        block(&mut vectors, turned(messages.map(|message| &message[at])));
    }
    for (state, vector) in states.iter_mut().zip(vectors) {
        // SAFETY: the store writes 64 bytes to wherever they stand, and a lane has as many.
        unsafe { _mm512_storeu_si512(state.as_mut_ptr().cast(), vector) };
    }
}

/// The words of a block of each message: the first one of all, the second one of all, and so on.
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
#[inline]
fn turned(blocks: [&[u8; BLOCK_BYTES]; LANES]) -> [__m512i; 16] {
    let swap =
        _mm512_broadcast_i32x4(_mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3));
    let rows = blocks.map(|block| {
        // SAFETY: the load reads 64 bytes from wherever they stand, and a block has as many.
        let row = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
        // A word's first byte is its highest.
        _mm512_shuffle_epi8(row, swap)
    });
    // Squares of two words, then of four; `fours[4 * i + j]` has in its quarter q the words 4 * q + j of the
    // messages 4 * i to 4 * i + 3.
    let twos: [__m512i; 16] = std::array::from_fn(|at| {
        let (above, below) = (rows[at & !1], rows[at | 1]);
        if at % 2 == 0 {
            _mm512_unpacklo_epi32(above, below)
        } else {
            _mm512_unpackhi_epi32(above, below)
        }
    });
    let fours: [__m512i; 16] = std::array::from_fn(|at| {
        let (above, below) = (twos[at & !3 | at >> 1 & 1], twos[at & !3 | at >> 1 & 1 | 2]);
        if at % 2 == 0 {
            _mm512_unpacklo_epi64(above, below)
        } else {
            _mm512_unpackhi_epi64(above, below)
        }
    });
    // The same with quarters: those with even numbers and those with odd ones apart, twice.
    let mut words = fours;
    for j in 0..4 {
        let (first, last) = ((fours[j], fours[4 + j]), (fours[8 + j], fours[12 + j]));
        let even = |(x, y)| _mm512_shuffle_i32x4::<0x88>(x, y);
        let odd = |(x, y)| _mm512_shuffle_i32x4::<0xdd>(x, y);
        words[j] = even((even(first), even(last)));
        words[4 + j] = even((odd(first), odd(last)));
        words[8 + j] = odd((even(first), even(last)));
        words[12 + j] = odd((odd(first), odd(last)));
    }
    words
}

/// Of three bits by their place in a table of truth (`vpternlogd`): this one or that one, by the first.
const CHOICE: i32 = 0xca;
/// Most of them.
const MAJORITY: i32 = 0xe8;
/// An odd number of them.
const PARITY: i32 = 0x96;

/// A sum of rotations (FIPS 180-4, 4.1.2).
#[target_feature(enable = "avx512f")]
#[inline]
fn mixed<const A: i32, const B: i32, const C: i32>(x: __m512i) -> __m512i {
    let (a, b) = (_mm512_ror_epi32::<A>(x), _mm512_ror_epi32::<B>(x));
    _mm512_ternarylogic_epi32::<PARITY>(a, b, _mm512_ror_epi32::<C>(x))
}

/// As [`mixed`], with a shift for the last.
#[target_feature(enable = "avx512f")]
#[inline]
fn shifted<const A: i32, const B: i32, const C: u32>(x: __m512i) -> __m512i {
    let (a, b) = (_mm512_ror_epi32::<A>(x), _mm512_ror_epi32::<B>(x));
    _mm512_ternarylogic_epi32::<PARITY>(a, b, _mm512_srli_epi32::<C>(x))
}

/// The words of the next sixteen rounds, made of those of the last (FIPS 180-4, 6.2.2, 1).
#[target_feature(enable = "avx512f")]
#[inline]
fn schedule(words: &mut [__m512i; 16]) {
    for at in 0..16 {
        let near = shifted::<7, 18, 3>(words[(at + 1) % 16]);
        let far = shifted::<17, 19, 10>(words[(at + 14) % 16]);
        let sum = _mm512_add_epi32(words[at], words[(at + 9) % 16]);
        words[at] = _mm512_add_epi32(sum, _mm512_add_epi32(near, far));
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
#[inline]
fn block(states: &mut [__m512i; 8], mut words: [__m512i; 16]) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *states;
    // A round (FIPS 180-4, 6.2.2, 3): `$d` and `$h` are what the next one calls `e` and `a`.
    macro_rules! round {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $word:expr, $constant:expr) => {
            let given = _mm512_add_epi32($word, _mm512_set1_epi32($constant.cast_signed()));
            let choice = _mm512_ternarylogic_epi32::<CHOICE>($e, $f, $g);
            let sum = _mm512_add_epi32(_mm512_add_epi32($h, given), choice);
            let sum = _mm512_add_epi32(sum, mixed::<6, 11, 25>($e));
            let majority = _mm512_ternarylogic_epi32::<MAJORITY>($a, $b, $c);
            $d = _mm512_add_epi32($d, sum);
            $h = _mm512_add_epi32(_mm512_add_epi32(sum, majority), mixed::<2, 13, 22>($a));
        };
    }
    for sixteen in 0..4 {
        if sixteen > 0 {
            schedule(&mut words);
        }
        // Each round moves every letter by one; after eight they are where they were.
        for at in [0, 8] {
            let constant = |i: usize| CONSTANTS[16 * sixteen + at + i];
            round!(a b c d e f g h words[at], constant(0));
            round!(h a b c d e f g words[at + 1], constant(1));
            round!(g h a b c d e f words[at + 2], constant(2));
            round!(f g h a b c d e words[at + 3], constant(3));
            round!(e f g h a b c d words[at + 4], constant(4));
            round!(d e f g h a b c words[at + 5], constant(5));
            round!(c d e f g h a b words[at + 6], constant(6));
            round!(b c d e f g h a words[at + 7], constant(7));
        }
    }
    for (state, new) in states.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *state = _mm512_add_epi32(*state, new);
    }
}

#[cfg(test)]
mod test {
    use super::*;

    /// The last block of a message of so few bytes (FIPS 180-4, 5.1.1).
    fn padded(text: &[u8]) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[..text.len()].copy_from_slice(text);
        block[text.len()] = 0x80;
        block[56..].copy_from_slice(&(text.len() as u64 * 8).to_be_bytes());
        block
    }

    fn hex(state: [u32; 8]) -> String {
        state.iter().map(|word| format!("{word:08x}")).collect()
    }

    #[test]
    fn messages_have_their_digests_in_every_lane() {
        if !is_fast() {
            return;
        }
        let known = [
            (&b""[..], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ];
        let blocks: Vec<_> = (0..LANES).map(|lane| [padded(known[lane % 2].0)]).collect();
        let messages: [&Blocks; LANES] = std::array::from_fn(|lane| &blocks[lane][..]);
        let mut states = [START; LANES];
        compress(&mut states, &messages);
        for (lane, state) in states.into_iter().enumerate() {
            assert_eq!(hex(state), known[lane % 2].1, "lane {lane}");
        }
    }
}
