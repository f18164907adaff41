//! The memory of transfers: blocks of a fixed size from a bounded pool.
//!
//! Owns the bound on what all uploads together hold in memory. Blocks are taken one by one as bytes
//! arrive, so that a slow upload holds what it has received and no more. Must never hand out more
//! blocks than the budget.

use pli_seal::BLOCK;
use std::sync::{Arc, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The pool shared by all transfers of one process.
#[derive(Clone)]
pub(crate) struct BlockPool {
    free: Arc<Mutex<Vec<Box<[u8]>>>>,
    budget: Arc<Semaphore>,
}

/// One block; it goes back to its pool when dropped, also as the owner of sealed `Bytes`.
pub(crate) struct Block {
    bytes: Box<[u8]>,
    free: Arc<Mutex<Vec<Box<[u8]>>>>,
    _budget: OwnedSemaphorePermit,
    _share: OwnedSemaphorePermit,
}

/// What one transfer may hold of the pool.
pub(crate) struct Share {
    pool: BlockPool,
    permits: Arc<Semaphore>,
}

impl BlockPool {
    /// A pool of `bytes`, at least one block.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { free: Arc::default(), budget: Arc::new(Semaphore::new((bytes / BLOCK).max(1))) }
    }

    /// The share of one transfer: at most `bytes` of the pool at a time, at least one block.
    pub(crate) fn share(&self, bytes: usize) -> Share {
        Share { pool: self.clone(), permits: Arc::new(Semaphore::new((bytes / BLOCK).max(1))) }
    }
}

impl Share {
    /// Waits until this transfer is within its share; then a block at once, or `None` when the pool
    /// has none: the caller then seals what it holds, or waits with [`Share::block`].
    pub(crate) async fn block_now(&self) -> Option<Block> {
        let share = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        let budget = Arc::clone(&self.pool.budget).try_acquire_owned().ok()?;
        Some(self.pool.take(budget, share))
    }

    /// A block, as soon as the pool has one. `None` only when the pool is closed, which it never is.
    pub(crate) async fn block(&self) -> Option<Block> {
        let share = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        let budget = Arc::clone(&self.pool.budget).acquire_owned().await.ok()?;
        Some(self.pool.take(budget, share))
    }
}

impl BlockPool {
    fn take(&self, budget: OwnedSemaphorePermit, share: OwnedSemaphorePermit) -> Block {
        let kept = self.free.lock().ok().and_then(|mut free| free.pop());
        let bytes = kept.unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice());
        Block { bytes, free: Arc::clone(&self.free), _budget: budget, _share: share }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Ok(mut free) = self.free.lock() {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Block {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn never_more_than_the_budget() {
        let pool = BlockPool::new(3 * BLOCK);
        let (one, two) = (pool.share(2 * BLOCK), pool.share(8 * BLOCK));
        let a = one.block_now().await.unwrap();
        let _b = two.block_now().await.unwrap();
        let _c = two.block_now().await.unwrap();
        assert!(two.block_now().await.is_none(), "the pool is empty");
        drop(a);
        assert!(two.block_now().await.is_some(), "what was given back is lent again");
    }

    #[tokio::test]
    async fn never_more_than_the_share() {
        let pool = BlockPool::new(8 * BLOCK);
        let share = pool.share(BLOCK);
        let held = share.block().await.unwrap();
        let waiting = tokio::spawn(async move { share.block_now().await.is_some() });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "the second block waits for the first");
        drop(held);
        assert!(waiting.await.unwrap());
    }
}
