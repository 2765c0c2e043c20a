//! Decisions taken from bytes. Knows numbers; knows nothing of what is decided.

/// Bytes of an input, one decision each. When none are left every die shows zero, which always means the plainest choice.
pub struct Dice<'a>(&'a [u8]);

impl<'a> Dice<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next byte.
    pub fn roll(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of so many.
    pub fn below(&mut self, count: usize) -> usize {
        if count < 2 { 0 } else { usize::from(self.roll()) % count }
    }

    /// One of these; the first when no dice are left.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
