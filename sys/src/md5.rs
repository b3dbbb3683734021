//! MD5 over sixteen messages at a time, with the processor's vectors (AVX2 or AVX-512).
//!
//! One message's MD5 is a single chain of operations, about 0.7 GB/s whatever the processor; sixteen
//! chains beside each other take hardly longer than one. This knows the compression function alone:
//! padding, and which messages go together, are the caller's.
#![allow(unsafe_code)]

/// Messages at a time.
pub const LANES: usize = 16;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 64;
/// The state of a message before its first block (RFC 1321, 3.3).
pub const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

type Lane = [u32; LANES];
type Blocks = [[u8; BLOCK_BYTES]];

/// The sines of RFC 1321, 3.4.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

/// Whether this processor has the vectors that make it worth while.
#[must_use]
pub fn is_fast() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

/// Compresses as many blocks of each message as the shortest of them has into its state. Slow without
/// [`is_fast`].
pub fn compress(states: &mut [[u32; 4]; LANES], messages: &[&Blocks; LANES]) {
    let count = messages.iter().map(|blocks| blocks.len()).min().unwrap_or(0);
    let mut lanes: [Lane; 4] = std::array::from_fn(|word| states.map(|state| state[word]));
    let has_512 = std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq");
    if has_512 {
        // SAFETY: the function's one requirement is that the processor has the features it is
        // compiled for, which was just asked.
        unsafe { with_avx512(&mut lanes, messages, count) }
    } else if is_fast() {
        // SAFETY: as above, for AVX2.
        unsafe { with_avx2(&mut lanes, messages, count) }
    } else {
        blocks(&mut lanes, messages, count);
    }
    for (number, state) in states.iter_mut().enumerate() {
        *state = lanes.map(|lane| lane[number]);
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
fn with_avx512(states: &mut [Lane; 4], messages: &[&Blocks; LANES], count: usize) {
    blocks(states, messages, count);
}

#[target_feature(enable = "avx2")]
fn with_avx2(states: &mut [Lane; 4], messages: &[&Blocks; LANES], count: usize) {
    blocks(states, messages, count);
}

// Inlined into the functions above, where the compiler makes vectors of its loops over lanes.
#[inline(always)]
fn blocks(states: &mut [Lane; 4], messages: &[&Blocks; LANES], count: usize) {
    let messages: [&Blocks; LANES] = std::array::from_fn(|lane| &messages[lane][..count]);
    for at in 0..count {
        let mut words = [[0; LANES]; 16];
        for (lane, message) in messages.iter().enumerate() {
            for (word, bytes) in words.iter_mut().zip(message[at].as_chunks::<4>().0) {
                word[lane] = u32::from_le_bytes(*bytes);
            }
        }
        block(states, &words);
    }
}

/// One operation of a round (RFC 1321, 3.4), in all lanes.
#[inline(always)]
fn step<const ROUND: usize, const SHIFT: u32>(
    a: &mut Lane,
    (b, c, d): (&Lane, &Lane, &Lane),
    word: &Lane,
    sine: u32,
) {
    for lane in 0..LANES {
        let (x, y, z) = (b[lane], c[lane], d[lane]);
        let mixed = match ROUND {
            0 => (x & y) | (!x & z),
            1 => (x & z) | (y & !z),
            2 => x ^ y ^ z,
            _ => y ^ (x | !z),
        };
        let sum = a[lane].wrapping_add(mixed).wrapping_add(sine).wrapping_add(word[lane]);
        a[lane] = x.wrapping_add(sum.rotate_left(SHIFT));
    }
}

#[inline(always)]
fn block(states: &mut [Lane; 4], words: &[Lane; 16]) {
    let [mut a, mut b, mut c, mut d] = *states;
    // Words are taken in an order of `factor * i + first`; shifts repeat every four operations.
    macro_rules! round {
        ($round:literal, $factor:literal, $first:literal, [$s0:literal, $s1:literal, $s2:literal, $s3:literal]) => {
            let word = |i: usize| &words[($factor * i + $first) % 16];
            round!(@four $round, word, 0, $s0, $s1, $s2, $s3);
            round!(@four $round, word, 4, $s0, $s1, $s2, $s3);
            round!(@four $round, word, 8, $s0, $s1, $s2, $s3);
            round!(@four $round, word, 12, $s0, $s1, $s2, $s3);
        };
        (@four $round:literal, $word:ident, $i:literal, $s0:literal, $s1:literal, $s2:literal, $s3:literal) => {
            step::<$round, $s0>(&mut a, (&b, &c, &d), $word($i), SINES[16 * $round + $i]);
            step::<$round, $s1>(&mut d, (&a, &b, &c), $word($i + 1), SINES[16 * $round + $i + 1]);
            step::<$round, $s2>(&mut c, (&d, &a, &b), $word($i + 2), SINES[16 * $round + $i + 2]);
            step::<$round, $s3>(&mut b, (&c, &d, &a), $word($i + 3), SINES[16 * $round + $i + 3]);
        };
    }
    round!(0, 1, 0, [7, 12, 17, 22]);
    round!(1, 5, 1, [5, 9, 14, 20]);
    round!(2, 3, 5, [4, 11, 16, 23]);
    round!(3, 7, 0, [6, 10, 15, 21]);
    for (state, new) in states.iter_mut().zip([a, b, c, d]) {
        for lane in 0..LANES {
            state[lane] = state[lane].wrapping_add(new[lane]);
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    /// The last block of a message of so few bytes (RFC 1321, 3.1 and 3.2).
    fn padded(text: &[u8]) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[..text.len()].copy_from_slice(text);
        block[text.len()] = 0x80;
        block[56..].copy_from_slice(&(text.len() as u64 * 8).to_le_bytes());
        block
    }

    fn hex(state: [u32; 4]) -> String {
        state.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_have_their_digests_in_every_lane() {
        let known = [
            (&b""[..], "d41d8cd98f00b204e9800998ecf8427e"),
            (b"a", "0cc175b9c0f1b6a831c399e269772661"),
            (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
            (b"message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            (b"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
        ];
        let blocks: Vec<_> = (0..LANES).map(|lane| [padded(known[lane % 5].0)]).collect();
        let messages: [&Blocks; LANES] = std::array::from_fn(|lane| &blocks[lane][..]);
        let mut states = [START; LANES];
        compress(&mut states, &messages);
        for (lane, state) in states.into_iter().enumerate() {
            assert_eq!(hex(state), known[lane % 5].1, "lane {lane}");
        }
    }

    #[test]
    fn all_ways_to_compute_it_agree() {
        let data: Vec<Vec<[u8; BLOCK_BYTES]>> = (0..LANES)
            .map(|lane| (0..7).map(|at| [(lane * 31 + at * 7) as u8; BLOCK_BYTES]).collect())
            .collect();
        let messages: [&Blocks; LANES] = std::array::from_fn(|lane| &data[lane][..7]);
        let mut states = [START; LANES];
        compress(&mut states, &messages);
        let mut lanes: [Lane; 4] = START.map(|word| [word; LANES]);
        blocks(&mut lanes, &messages, 7);
        for (lane, state) in states.iter().enumerate() {
            assert_eq!(*state, lanes.map(|words| words[lane]));
        }
    }
}
