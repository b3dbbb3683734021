//! Maps: what programs and we both know.
#![allow(unsafe_code)]

use super::{Attribute, bpf, bpf_descriptor, information};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Commands of bpf(2).
const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
const MAP_NEXT_KEY: libc::c_long = 4;
const MAP_BY_ID: libc::c_long = 14;
/// `BPF_MAP_TYPE_HASH`, and `BPF_F_NO_PREALLOC`: memory for the entries there are, not for all there may be.
const HASH: u32 = 1;
const NO_PREALLOCATION: u32 = 1;

/// A hash map of the kernel's: keys and values are bytes of fixed length.
#[derive(Debug)]
pub struct Map {
    descriptor: OwnedFd,
    key_bytes: usize,
    value_bytes: usize,
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Map {
    /// Makes one that is empty; memory is taken as entries come.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub fn hash(name: &CStr, key: u32, value: u32, entries_max: u32) -> io::Result<Self> {
        let mut attribute = Attribute::new()
            .word(0, HASH)
            .word(4, key)
            .word(8, value)
            .word(12, entries_max)
            .word(16, NO_PREALLOCATION)
            .name(28, name);
        // SAFETY: the attribute of this command holds no pointer.
        let descriptor = unsafe { bpf_descriptor(MAP_CREATE, &mut attribute)? };
        Ok(Self { descriptor, key_bytes: key as usize, value_bytes: value as usize })
    }

    pub(super) fn by_id(id: u32) -> io::Result<(Self, String)> {
        let mut attribute = Attribute::new().word(0, id);
        // SAFETY: the attribute of this command holds no pointer.
        let descriptor = unsafe { bpf_descriptor(MAP_BY_ID, &mut attribute)? };
        let known = information(descriptor.as_fd(), &mut [])?;
        let (key_bytes, value_bytes) = (known.word(8) as usize, known.word(12) as usize);
        Ok((Self { descriptor, key_bytes, value_bytes }, known.name(24)))
    }

    /// Bytes of a value.
    #[must_use]
    pub const fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    fn element(&self, key: &[u8], value: *const u8) -> Attribute {
        assert_eq!(key.len(), self.key_bytes, "a key is as long as the map says");
        Attribute::new().descriptor(0, self.as_fd()).pointer(8, key.as_ptr()).pointer(16, value)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// What bpf(2) says.
    ///
    /// # Panics
    /// If the key is not as long as the map's are, as with all that takes a key.
    pub fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.value_bytes];
        let mut attribute = self.element(key, value.as_mut_ptr());
        // SAFETY: the kernel reads `key_bytes` of the key and writes `value_bytes` of the value: both
        // buffers have that length, as checked and as made, and outlive the call.
        match unsafe { bpf(MAP_LOOKUP, &mut attribute) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sets the value of a key: whoever looks sees the old one or the new one, whole.
    ///
    /// # Errors
    /// What bpf(2) says: E2BIG when the map is full.
    ///
    /// # Panics
    /// If the value is not as long as the map's are.
    pub fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!(value.len(), self.value_bytes, "a value is as long as the map says");
        let mut attribute = self.element(key, value.as_ptr());
        // SAFETY: the kernel reads `key_bytes` and `value_bytes`, the lengths just checked.
        unsafe { bpf(MAP_UPDATE, &mut attribute) }.map(drop)
    }

    /// Removes a key; false if it was not there.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub fn remove(&self, key: &[u8]) -> io::Result<bool> {
        let mut attribute = self.element(key, std::ptr::null());
        // SAFETY: the kernel reads `key_bytes` of the key, which `element` checked.
        match unsafe { bpf(MAP_DELETE, &mut attribute) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All keys. While others add and remove some may be missed or told twice.
    ///
    /// # Errors
    /// What bpf(2) says.
    pub fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        loop {
            let mut next = vec![0; self.key_bytes];
            let before = keys.last().map_or(std::ptr::null(), Vec::as_ptr);
            let mut attribute = Attribute::new()
                .descriptor(0, self.as_fd())
                .pointer(8, before)
                .pointer(16, next.as_mut_ptr());
            // SAFETY: the kernel reads `key_bytes` of the key before, if there is one (null is the start),
            // and writes as many of the next; both buffers were made that long.
            match unsafe { bpf(MAP_NEXT_KEY, &mut attribute) } {
                Ok(_) => keys.push(next),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(error) => return Err(error),
            }
        }
    }
}
