//! The program that every zone and container runs: static, without a C library, over in three system calls.
//!
//! It writes what time it is (`CLOCK_MONOTONIC`, the same in all of them) and exits with 0, so that whoever
//! started it knows how long it took to get there. A C library's start would be a large part of what is
//! measured: on a virtual machine each of its CPUID instructions is a trip to the hypervisor.

/// Where it is in memory: anywhere above `vm.mmap_min_addr`.
const ADDRESS: u64 = 0x40_0000;
/// Bytes of an ELF header and of one program header (`elf(5)`, 64 bits).
const HEADER_BYTES: u64 = 64;
const SEGMENT_BYTES: u64 = 56;

/// x86-64, with the registers of the kernel's calling convention.
const CODE: [u8; 53] = [
    0x48, 0x83, 0xec, 0x10, // sub rsp, 16         a struct timespec
    0xb8, 0xe4, 0, 0, 0, // mov eax, 228           clock_gettime(
    0xbf, 0x01, 0, 0, 0, // mov edi, 1                 CLOCK_MONOTONIC,
    0x48, 0x89, 0xe6, // mov rsi, rsp                  &time)
    0x0f, 0x05, // syscall
    0xb8, 0x01, 0, 0, 0, // mov eax, 1             write(
    0xbf, 0x01, 0, 0, 0, // mov edi, 1                 stdout,
    0x48, 0x89, 0xe6, // mov rsi, rsp                  &time,
    0xba, 0x10, 0, 0, 0, // mov edx, 16                16)
    0x0f, 0x05, // syscall
    0xb8, 0xe7, 0, 0, 0, // mov eax, 231           exit_group(
    0x31, 0xff, // xor edi, edi                        0)
    0x0f, 0x05, // syscall
    0x0f, 0x0b, 0x90, 0x90, 0x90, // ud2, never reached
];

/// Its file.
pub fn elf() -> Vec<u8> {
    let start = HEADER_BYTES + SEGMENT_BYTES;
    let mut file = Vec::new();
    // 64 bits, little endian, version 1.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    let long = |file: &mut Vec<u8>, value: u64| file.extend(value.to_le_bytes());
    // An executable for x86-64.
    half(&mut file, 2);
    half(&mut file, 62);
    word(&mut file, 1);
    long(&mut file, ADDRESS + start);
    long(&mut file, HEADER_BYTES);
    long(&mut file, 0);
    word(&mut file, 0);
    // The sizes of headers: this one, one segment, no section.
    for value in [HEADER_BYTES as u16, SEGMENT_BYTES as u16, 1, 0, 0, 0] {
        half(&mut file, value);
    }
    // One segment: the whole file, to be read and run.
    word(&mut file, 1);
    word(&mut file, 5);
    let bytes = start + CODE.len() as u64;
    for value in [0, ADDRESS, ADDRESS, bytes, bytes, 0x1000] {
        long(&mut file, value);
    }
    file.extend(CODE);
    file
}

#[cfg(test)]
mod test {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn it_says_the_time_and_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, elf()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let before = super::super::now().unwrap();
        let output = Command::new(&path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = super::super::time(&output.stdout).unwrap();
        assert!((before..super::super::now().unwrap()).contains(&said), "{said}");
    }
}
