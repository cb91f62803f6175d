//! Buffers: every allocation on the device is made here, so that each failure is a typed error and every byte is counted.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};

use super::device::Gpu;
use crate::{Error, Result};

/// Bytes that are allocated now, and the most that ever were. An account may be a part of another, which then counts its bytes
/// too.
#[derive(Debug, Default)]
pub(crate) struct Account {
    now: AtomicU64,
    peak: AtomicU64,
    whole: Option<Arc<Account>>,
}

impl Account {
    pub(crate) fn part_of(whole: &Arc<Account>) -> Arc<Account> {
        Arc::new(Account { whole: Some(whole.clone()), ..Account::default() })
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.add(bytes);
        }
    }

    fn remove(&self, bytes: u64) {
        self.now.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.remove(bytes);
        }
    }
}

/// A buffer that is counted while somebody holds it.
#[derive(Clone, Debug)]
pub(crate) struct Buffer(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    buffer: wgpu::Buffer,
    /// The account that counts the buffer, and its bytes; `None` for a buffer of the caller's.
    account: Option<(Arc<Account>, u64)>,
}

impl Buffer {
    /// A buffer of the caller's, which no account counts.
    pub(crate) fn of_host(buffer: wgpu::Buffer) -> Buffer {
        Buffer(Arc::new(Counted { buffer, account: None }))
    }

    /// The buffer, for a binding. It is counted only while this [`Buffer`] lives.
    pub(super) fn raw(&self) -> wgpu::Buffer {
        self.0.buffer.clone()
    }

    /// Whether both are one buffer.
    pub(crate) fn is(&self, other: &Buffer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether nobody else holds the buffer.
    pub(crate) fn is_only(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Deref for Buffer {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.0.buffer
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some((account, bytes)) = &self.account {
            account.remove(*bytes);
        }
    }
}

/// What a session keeps on a device, and can give up when memory is short.
pub(crate) trait Resident: std::fmt::Debug + Send + Sync {
    /// Drops the memory of runs that are not in flight.
    fn drop_idle(&self);
    /// The time at which each of its plans was last used, by [`Gpu::tick`].
    fn uses(&self) -> Vec<u64>;
    /// Drops the plan that was last used at time `used`.
    fn drop_plan(&self, used: u64);
}

impl Gpu {
    /// A point in time, later than all before.
    pub(crate) fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers `resident`, which gives up what it can when memory is short.
    pub(crate) fn admit(&self, resident: Weak<dyn Resident>) {
        let mut residents = self.residents.lock().unwrap_or_else(PoisonError::into_inner);
        residents.retain(|resident| resident.strong_count() > 0);
        residents.push(resident);
    }

    /// Makes `needed` bytes fit the memory limit: drops idle frames first, those of the least recently used session before
    /// others', and then the least recently used plans.
    pub(crate) fn make_room(&self, what: &str, needed: &dyn Fn() -> u64) -> Result<()> {
        let limit = self.memory_limit.load(Ordering::Relaxed);
        let fits = || limit == u64::MAX || self.account.now().saturating_add(needed()) <= limit;
        if fits() {
            return Ok(());
        }
        let residents = self.residents.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut residents: Vec<Arc<dyn Resident>> = residents.iter().filter_map(Weak::upgrade).collect();
        residents.sort_by_key(|resident| resident.uses().into_iter().max());
        for resident in &residents {
            resident.drop_idle();
            if fits() {
                return Ok(());
            }
        }
        let mut plans = Vec::new();
        for resident in &residents {
            plans.extend(resident.uses().into_iter().map(|used| (used, resident)));
        }
        plans.sort_by_key(|(used, _)| *used);
        for (used, resident) in plans {
            resident.drop_plan(used);
            if fits() {
                return Ok(());
            }
        }
        Err(Error::MemoryLimit { what: what.into(), bytes: needed(), in_use: self.account.now(), limit })
    }

    pub(crate) fn largest_buffer(&self) -> u64 {
        self.device.limits().max_buffer_size
    }

    /// A buffer of `size` bytes (at least 16), and whether it is mapped for writing.
    pub(super) fn buffer(
        &self,
        account: &Arc<Account>,
        what: &str,
        size: u64,
        usage: wgpu::BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<Buffer> {
        let size = buffer_size(size);
        let limit = self.device.limits().max_buffer_size;
        if size > limit {
            return Err(Error::Limit { what: what.into(), value: size, limit, in_bytes: true });
        }
        // Room was made before; this check holds where another thread has taken it since.
        let in_use = self.account.now();
        let limit = self.memory_limit.load(Ordering::Relaxed);
        if in_use.saturating_add(size) > limit {
            return Err(Error::MemoryLimit { what: what.into(), bytes: size, in_use, limit });
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation };
        let buffer = self.attempt(what, size, || self.device.create_buffer(&descriptor))?;
        self.counters.buffers.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes.fetch_add(size, Ordering::Relaxed);
        account.add(size);
        Ok(Buffer(Arc::new(Counted { buffer, account: Some((account.clone(), size)) })))
    }

    /// A read-only buffer with the bytes that `fill` writes: `fill` gets a sink for consecutive bytes.
    pub(super) fn filled_buffer(
        &self,
        account: &Arc<Account>,
        what: &str,
        size: u64,
        usage: wgpu::BufferUsages,
        fill: impl FnOnce(&mut dyn FnMut(u64, &[u8])) -> Result<()>,
    ) -> Result<Buffer> {
        let buffer = self.buffer(account, what, size, usage, true)?;
        {
            let range = buffer.slice(..).get_mapped_range_mut();
            let mut range =
                range.map_err(|error| self.failure(format!("mapping the buffer for {what}: {error}")))?;
            let mut sink = |offset: u64, bytes: &[u8]| {
                let start = offset as usize;
                range.slice(start..start + bytes.len()).copy_from_slice(bytes);
            };
            fill(&mut sink)?;
        }
        self.attempt(what, size, || buffer.unmap())?;
        Ok(buffer)
    }
}

/// Bytes of the buffer that is made for `size` bytes.
pub(super) fn buffer_size(size: u64) -> u64 {
    size.max(16).next_multiple_of(16)
}
