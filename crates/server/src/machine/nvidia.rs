//! GPUs of NVIDIA, as the library tells that comes with their driver (NVML). It is opened where there is one: a server without such a
//! GPU does without it.
#![allow(unsafe_code)] // The library is one of C.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::ptr::null_mut;

use libloading::Library;

use super::Gpu;

/// The file's name on each system.
const FILE: &str = if cfg!(windows) { "nvml.dll" } else { "libnvidia-ml.so.1" };

/// The code of a call that has done its work.
const SUCCESS: c_int = 0;

/// The letters of a GPU's name at most, with the one that ends it.
const UUID: usize = 96;

/// What the library calls a GPU.
type Device = *mut c_void;

type Init = unsafe extern "C" fn() -> c_int;
type Count = unsafe extern "C" fn(*mut c_uint) -> c_int;
type ByIndex = unsafe extern "C" fn(c_uint, *mut Device) -> c_int;
type Uuid = unsafe extern "C" fn(Device, *mut c_char, c_uint) -> c_int;
type OfDevice<T> = unsafe extern "C" fn(Device, *mut T) -> c_int;

/// Percent of the time in which the GPU has run something, and in which it has moved memory.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Utilization {
    gpu: c_uint,
    _memory: c_uint,
}

/// Bytes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Memory {
    total: c_ulonglong,
    _free: c_ulonglong,
    used: c_ulonglong,
}

/// The library, begun.
#[derive(Debug)]
pub(super) struct Nvml(Library);

impl Nvml {
    /// `None` if there is no library, or no driver for it.
    pub(super) fn open() -> Option<Nvml> {
        // SAFETY: the library's own beginnings do nothing but set it up.
        let library = unsafe { Library::new(FILE) }.ok()?;
        let nvml = Nvml(library);
        // SAFETY: `nvmlInit_v2` has this form, and may be called at any time, by any thread.
        let begun = unsafe { nvml.0.get::<Init>(b"nvmlInit_v2\0").ok()?() };
        (begun == SUCCESS).then_some(nvml)
    }

    /// All GPUs that the library has.
    pub(super) fn gpus(&self) -> Vec<Gpu> {
        let mut count = 0;
        // SAFETY: the function has this form, and writes the number.
        let known = unsafe {
            self.0.get::<Count>(b"nvmlDeviceGetCount_v2\0").is_ok_and(|get| get(&mut count) == SUCCESS)
        };
        let count = if known { count } else { 0 };
        (0..count).filter_map(|index| self.gpu(index)).collect()
    }

    fn gpu(&self, index: c_uint) -> Option<Gpu> {
        let mut device: Device = null_mut();
        // SAFETY: the function has this form, and writes the pointer, which stays what it is as long as the library is there.
        let found =
            unsafe { self.0.get::<ByIndex>(b"nvmlDeviceGetHandleByIndex_v2\0").ok()?(index, &mut device) };
        if found != SUCCESS {
            return None;
        }
        let mut uuid = [0 as c_char; UUID];
        // SAFETY: the function has this form, and writes a text of at most so many letters, with its end.
        let named = unsafe {
            self.0.get::<Uuid>(b"nvmlDeviceGetUUID\0").ok()?(device, uuid.as_mut_ptr(), UUID as c_uint)
        };
        let name = match named {
            // SAFETY: the last letter is 0 whatever the library has written.
            SUCCESS => unsafe {
                uuid[UUID - 1] = 0;
                CStr::from_ptr(uuid.as_ptr()).to_string_lossy().into_owned()
            },
            _ => format!("GPU-{index}"),
        };
        // SAFETY: each of the functions writes a value of this type for a GPU.
        unsafe {
            let utilization: Option<Utilization> = self.of(device, b"nvmlDeviceGetUtilizationRates\0");
            let memory: Option<Memory> = self.of(device, b"nvmlDeviceGetMemoryInfo\0");
            let milliwatts: Option<c_uint> = self.of(device, b"nvmlDeviceGetPowerUsage\0");
            let milliwatts_limit: Option<c_uint> = self.of(device, b"nvmlDeviceGetEnforcedPowerLimit\0");
            let millijoules: Option<c_ulonglong> = self.of(device, b"nvmlDeviceGetTotalEnergyConsumption\0");
            Some(Gpu {
                name,
                utilization: utilization.map(|share| f64::from(share.gpu.min(100)) / 100.0),
                memory_total: memory.map(|memory| memory.total),
                memory_used: memory.map(|memory| memory.used),
                watts: milliwatts.map(|power| f64::from(power) / 1e3),
                watts_limit: milliwatts_limit.map(|power| f64::from(power) / 1e3),
                joules: millijoules.map(|energy| energy as f64 / 1e3),
            })
        }
    }

    /// What the function `name` writes for a GPU; `None` if it cannot tell.
    ///
    /// # Safety
    /// The function writes a `T`, and `device` is one of the library's.
    unsafe fn of<T: Default>(&self, device: Device, name: &[u8]) -> Option<T> {
        let mut value = T::default();
        // SAFETY: as the caller promises.
        let told = unsafe { self.0.get::<OfDevice<T>>(name).ok()?(device, &mut value) };
        (told == SUCCESS).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_of_what_the_library_writes() {
        // As nvml.h has them: two unsigned ints, and three unsigned long longs.
        assert_eq!((size_of::<Utilization>(), size_of::<Memory>()), (8, 24));
    }
}
