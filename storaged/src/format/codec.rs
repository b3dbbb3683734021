//! The smallest pieces of a value: numbers, byte strings, texts.

use thiserror::Error;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("it ends {missing} bytes too early")]
    Short {
        /// How many are missing.
        missing: usize,
    },
    /// They go on.
    #[error("it has {extra} bytes too many")]
    Long {
        /// How many.
        extra: usize,
    },
    /// A version that this build does not know.
    #[error("it has version {found}, this build reads up to {known}")]
    Version {
        /// Which it has.
        found: u8,
        /// The newest that is known.
        known: u8,
    },
    /// A number that means nothing.
    #[error("{what} can't be {found}")]
    Number {
        /// What it numbers.
        what: &'static str,
        /// The number.
        found: u64,
    },
    /// A text that is not UTF-8.
    #[error("a text in it is not UTF-8")]
    Text,
    /// A key that is not of its keyspace's form.
    #[error("its key is malformed")]
    Key,
}

/// Appends pieces to a value.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty value with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Appends to these bytes.
    #[must_use]
    pub fn appending(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The value.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// One byte.
    pub fn u8(&mut self, number: u8) {
        self.0.push(number);
    }

    /// Four bytes.
    pub fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Bytes whose number is known from elsewhere.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Bytes with their number before them.
    ///
    /// # Panics
    /// When there are 4 GiB of them: every caller's limits are far below.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).expect("a piece of a value is below 4 GiB"));
        self.raw(bytes);
    }

    /// A list of pairs of texts.
    ///
    /// # Panics
    /// As [`Writer::bytes`].
    pub fn pairs(&mut self, pairs: &[(String, String)]) {
        self.u32(u32::try_from(pairs.len()).expect("a list in a value is below 4 Gi entries"));
        for (name, value) in pairs {
            self.bytes(name.as_bytes());
            self.bytes(value.as_bytes());
        }
    }
}

/// Takes pieces from a value.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes not taken yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// That many bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, left) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| DecodeError::Short { missing: count - self.0.len() })?;
        self.0 = left;
        Ok(taken)
    }

    /// That many bytes, by value.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N)?);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Four bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Bytes with their number before them.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = self.u32()? as usize;
        self.raw(count)
    }

    /// A text with its number of bytes before it.
    ///
    /// # Errors
    /// When it is short or not UTF-8.
    pub fn text(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Text)
    }

    /// A list of pairs of texts.
    ///
    /// # Errors
    /// When it is short or not UTF-8.
    pub fn pairs(&mut self) -> Result<Vec<(String, String)>, DecodeError> {
        let count = self.u32()?;
        // Grown as they come: the count may be a lie.
        let mut pairs = Vec::new();
        for _ in 0..count {
            pairs.push((self.text()?, self.text()?));
        }
        Ok(pairs)
    }

    /// The version at the start of a value.
    ///
    /// # Errors
    /// When it is 0 or above the newest that is known.
    pub fn version(&mut self, known: u8) -> Result<u8, DecodeError> {
        let found = self.u8()?;
        if found == 0 || found > known {
            return Err(DecodeError::Version { found, known });
        }
        Ok(found)
    }

    /// The end of a value.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn end(&self) -> Result<(), DecodeError> {
        match self.0.len() {
            0 => Ok(()),
            extra => Err(DecodeError::Long { extra }),
        }
    }
}
