//! Buffers that live as long as the daemon, and cost memory only as they fill.
//!
//! All buffers of a pool are one allocation, large enough to come from the
//! kernel as pages of zeros: a page becomes resident when it is first written.
//! Many small allocations would be zeroed one by one, and so be resident from
//! the start.

/// A buffer of a pool.
pub type Buffer = &'static mut [u8];

/// So many pairs of buffers of these sizes.
pub fn pairs(
    count: usize,
    first_bytes: usize,
    second_bytes: usize,
) -> impl Iterator<Item = (Buffer, Buffer)> {
    let pool = vec![0; count * (first_bytes + second_bytes)].leak();
    let split = move |pair: Buffer| pair.split_at_mut(first_bytes);
    pool.chunks_exact_mut(first_bytes + second_bytes).map(split)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pool_has_all_its_buffers_in_their_sizes() {
        let pairs: Vec<_> = super::pairs(3, 5, 7).map(|(a, b)| (a.len(), b.len())).collect();
        assert_eq!(pairs, [(5, 7); 3]);
    }
}
