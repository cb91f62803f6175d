//! `SharedMemory`: the regions of POSIX shared memory that clients of the same machine have registered for their tensors.
//!
//! Tensors are read and written by system calls and never mapped: a client may write to a region, or cut it off, at any time.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::{Errno, pread, pwrite};
use rustix::shm;

use crate::{Failure, Parameter, Parameters, Reason, parameters, raw};

/// How many regions may be registered at once: each keeps a file open.
const REGIONS: usize = 256;

/// The regions of POSIX shared memory that clients have registered.
///
/// ```
/// use sardonyx_server::shared_memory::SharedMemory;
/// let memory = SharedMemory::new(vec!["/accept_".into()]);
/// assert!(memory.register("cat", "/private", 0, 16).is_err());
/// assert!(memory.status("").is_ok_and(|regions| regions.is_empty()));
/// ```
#[derive(Debug, Default)]
pub struct SharedMemory {
    prefixes: Vec<String>,
    open: Mutex<BTreeMap<String, Arc<Open>>>,
}

/// What a client has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The name under which requests speak of it.
    pub name: String,
    /// The key of the shared memory, such as `/input`.
    pub key: String,
    /// Where it begins in the shared memory, in bytes.
    pub offset: u64,
    /// Its size in bytes.
    pub byte_size: u64,
}

/// Where a tensor lies in what a client has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The name that the client has registered.
    pub name: String,
    /// The tensor's first byte.
    pub offset: u64,
    /// The tensor's size in bytes.
    pub byte_size: u64,
}

impl Region {
    /// Takes from a tensor's `parameters` where it lies; `None` if it is not in shared memory.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if a parameter is missing, or has a value that its name does not allow.
    pub fn of(parameters: &mut Parameters) -> Result<Option<Region>, Failure> {
        let byte_size = parameters::number(parameters, BYTE_SIZE)?;
        let offset = parameters::number(parameters, OFFSET)?;
        match parameters.remove(REGION) {
            None if byte_size.is_some() || offset.is_some() => {
                Err(Failure::invalid(format!("'{BYTE_SIZE}' or '{OFFSET}' is given without '{REGION}'")))
            }
            None => Ok(None),
            Some(Parameter::Text(name)) => {
                let byte_size = byte_size
                    .ok_or_else(|| Failure::invalid(format!("parameter '{BYTE_SIZE}' is missing")))?;
                Ok(Some(Region { name, offset: offset.unwrap_or(0), byte_size }))
            }
            Some(_) => Err(Failure::invalid(format!("parameter '{REGION}' is a text"))),
        }
    }

    /// The parameters of an output of `bytes` bytes that lies here.
    pub fn parameters(&self, bytes: usize) -> Parameters {
        // A slice's length fits.
        let mut parameters = Parameters::from([
            (REGION.to_owned(), Parameter::Text(self.name.clone())),
            (BYTE_SIZE.to_owned(), Parameter::Int(bytes as i64)),
        ]);
        if self.offset > 0 {
            parameters.insert(OFFSET.to_owned(), Parameter::Int(self.offset as i64));
        }
        parameters
    }
}

const REGION: &str = "shared_memory_region";
const BYTE_SIZE: &str = "shared_memory_byte_size";
const OFFSET: &str = "shared_memory_offset";

#[derive(Debug)]
struct Open {
    registered: Registered,
    file: OwnedFd,
}

impl SharedMemory {
    /// No region, and the right to register those whose key begins with one of `prefixes`; none, and shared memory is off.
    pub fn new(prefixes: Vec<String>) -> SharedMemory {
        SharedMemory { prefixes, open: Mutex::default() }
    }

    /// Whether clients may register regions.
    pub fn is_on(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// Registers `byte_size` bytes from `offset` on of the shared memory with this `key` under `name`.
    ///
    /// # Errors
    /// [`Reason::Forbidden`] if shared memory is off or the key is not allowed; [`Reason::Invalid`] if the key or the name is none, the
    /// name is taken, or the bytes do not lie in the shared memory; [`Reason::NotFound`] if there is none with this key;
    /// [`Reason::Unavailable`] if too much is registered.
    pub fn register(&self, name: &str, key: &str, offset: u64, byte_size: u64) -> Result<(), Failure> {
        self.allow(key)?;
        if name.is_empty() || name.len() > 128 {
            return Err(Failure::invalid("the name of a region has 1 to 128 bytes"));
        }
        let end = offset.checked_add(byte_size).filter(|end| *end <= i64::MAX as u64);
        let (Some(end), 1..) = (end, byte_size) else {
            return Err(Failure::invalid("'byte_size' is 0, or 'offset' and 'byte_size' are too large"));
        };
        let missing = || {
            Failure::new(
                Reason::NotFound,
                format!("there is no shared memory with key '{key}' that can be used"),
            )
        };
        let file = shm::open(key, shm::OFlags::RDWR | no_link(), Mode::empty()).map_err(|_| missing())?;
        let stat = fstat(&file).map_err(|_| missing())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(missing());
        }
        let size = stat.st_size;
        if u64::try_from(size).is_ok_and(|size| end > size) {
            return Err(Failure::invalid(format!(
                "the region ends at byte {end}, and the shared memory has {size} bytes"
            )));
        }
        let mut open = self.all();
        if open.contains_key(name) {
            return Err(Failure::invalid(format!(
                "region '{name}' is registered already; unregister it first"
            )));
        }
        if open.len() == REGIONS {
            return Err(Failure::new(
                Reason::Unavailable,
                format!("{REGIONS} regions are registered; unregister one first"),
            ));
        }
        let registered = Registered { name: name.into(), key: key.into(), offset, byte_size };
        open.insert(name.into(), Arc::new(Open { registered, file }));
        Ok(())
    }

    /// Forgets what is registered under `name`, or everything if it is empty. Requests that are being answered may still use it. A name
    /// that is not registered is none to forget.
    pub fn unregister(&self, name: &str) {
        match name {
            "" => self.all().clear(),
            name => drop(self.all().remove(name)),
        }
    }

    /// What is registered under `name`, or everything in the order of the names if it is empty.
    ///
    /// # Errors
    /// [`Reason::NotFound`] if nothing is registered under `name`.
    pub fn status(&self, name: &str) -> Result<Vec<Registered>, Failure> {
        match name {
            "" => Ok(self.all().values().map(|open| open.registered.clone()).collect()),
            name => Ok(vec![self.open(name)?.registered.clone()]),
        }
    }

    /// A copy of what lies in `region` now. It blocks while the bytes are copied.
    ///
    /// # Errors
    /// [`Reason::NotFound`] if nothing is registered under its name; [`Reason::Invalid`] if it is not in what is registered, or the
    /// client has made the shared memory smaller; [`Reason::Unavailable`] if there is no memory for the copy.
    pub fn read(&self, region: &Region) -> Result<Bytes, Failure> {
        let (open, start) = self.locate(region)?;
        let size =
            usize::try_from(region.byte_size).map_err(|_| Failure::invalid("the tensor is too large"))?;
        let mut bytes = raw::reserved(size)?;
        bytes.resize(size, 0);
        let mut done = 0;
        while done < size {
            done += transferred(pread(&open.file, &mut bytes[done..], start + done as u64), region)?;
        }
        Ok(bytes.into())
    }

    /// Writes `bytes` to the beginning of `region`. It blocks while the bytes are copied.
    ///
    /// # Errors
    /// As [`SharedMemory::read`]; [`Reason::Invalid`] if there are more bytes than the region has.
    pub fn write(&self, region: &Region, bytes: &[u8]) -> Result<(), Failure> {
        let (open, start) = self.locate(region)?;
        if bytes.len() as u64 > region.byte_size {
            let text = format!("it takes {} bytes, and '{BYTE_SIZE}' is {}", bytes.len(), region.byte_size);
            return Err(Failure::invalid(text));
        }
        // Writing beyond the end would make the shared memory larger.
        let size = fstat(&open.file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
        if start + bytes.len() as u64 > size {
            return Err(shrunk(region));
        }
        let mut done = 0;
        while done < bytes.len() {
            done += transferred(pwrite(&open.file, &bytes[done..], start + done as u64), region)?;
        }
        Ok(())
    }

    fn allow(&self, key: &str) -> Result<(), Failure> {
        if !self.is_on() {
            return Err(Failure::new(
                Reason::Forbidden,
                "shared memory is off; the server's operator can allow keys",
            ));
        }
        // One name in the folder of shared memory, so that no key leads out of it.
        let name = key.strip_prefix('/').unwrap_or("");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 254 || name.starts_with('.') || !name.chars().all(plain) {
            return Err(Failure::invalid(
                "a key of shared memory is '/', and then letters, digits, '_', '-' and '.'",
            ));
        }
        if !self.prefixes.iter().any(|prefix| key.starts_with(prefix.as_str())) {
            return Err(Failure::new(
                Reason::Forbidden,
                format!("key '{key}' is not one that the server's operator allows"),
            ));
        }
        Ok(())
    }

    fn open(&self, name: &str) -> Result<Arc<Open>, Failure> {
        let unknown = || Failure::new(Reason::NotFound, format!("region '{name}' is not registered"));
        self.all().get(name).cloned().ok_or_else(unknown)
    }

    /// What is registered, and where `region` begins in its shared memory.
    fn locate(&self, region: &Region) -> Result<(Arc<Open>, u64), Failure> {
        let open = self.open(&region.name)?;
        let Registered { offset, byte_size, .. } = open.registered;
        if region.offset.checked_add(region.byte_size).is_none_or(|end| end > byte_size) {
            let Region { name, offset, byte_size: wanted } = region;
            let text =
                format!("{wanted} bytes at {offset} do not lie in region '{name}' of {byte_size} bytes");
            return Err(Failure::invalid(text));
        }
        Ok((open, offset + region.offset))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Open>>> {
        // Each change is one call, so that a panic leaves no half of one.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where shared memory lies in a folder, a symbolic link there would lead to keys that are not allowed, and out of the folder.
fn no_link() -> shm::OFlags {
    match cfg!(target_os = "linux") {
        true => shm::OFlags::from_bits_retain(OFlags::NOFOLLOW.bits()),
        false => shm::OFlags::empty(),
    }
}

/// The bytes that a call has moved.
fn transferred(moved: Result<usize, Errno>, region: &Region) -> Result<usize, Failure> {
    match moved {
        Ok(0) => Err(shrunk(region)),
        Ok(moved) => Ok(moved),
        Err(Errno::INTR) => Ok(0),
        Err(_) => {
            Err(Failure::new(Reason::Unavailable, format!("region '{}' cannot be used now", region.name)))
        }
    }
}

fn shrunk(region: &Region) -> Failure {
    let name = &region.name;
    Failure::invalid(format!(
        "the shared memory of region '{name}' has become smaller since it was registered"
    ))
}

#[cfg(test)]
mod tests {
    use rustix::fs::ftruncate;

    use super::*;

    /// Shared memory of the test's own, removed at its end.
    struct Memory {
        key: String,
        file: OwnedFd,
    }

    impl Memory {
        fn new(name: &str, bytes: &[u8]) -> Memory {
            let key = format!("/sardonyx-test-{name}-{}", std::process::id());
            let flags = shm::OFlags::RDWR | shm::OFlags::CREATE | shm::OFlags::EXCL;
            let file = shm::open(&key, flags, Mode::RUSR | Mode::WUSR).unwrap();
            ftruncate(&file, bytes.len() as u64).unwrap();
            assert_eq!(pwrite(&file, bytes, 0).unwrap(), bytes.len());
            Memory { key, file }
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            shm::unlink(&self.key).unwrap();
        }
    }

    fn region(offset: u64, byte_size: u64) -> Region {
        Region { name: "cat".into(), offset, byte_size }
    }

    fn allowed() -> SharedMemory {
        SharedMemory::new(vec!["/sardonyx-test-".into()])
    }

    #[test]
    fn reads_copies_and_writes() {
        let memory = Memory::new("copies", b"0123456789");
        let shared = allowed();
        shared.register("cat", &memory.key, 2, 6).unwrap();
        let read = shared.read(&region(1, 4)).unwrap();
        assert_eq!(&read[..], b"3456");
        shared.write(&region(1, 4), b"ab").unwrap();
        assert_eq!(&read[..], b"3456");
        assert_eq!(&shared.read(&region(0, 6)).unwrap()[..], b"2ab567");
        let registered = Registered { name: "cat".into(), key: memory.key.clone(), offset: 2, byte_size: 6 };
        assert_eq!(shared.status("").unwrap(), std::slice::from_ref(&registered));
        assert_eq!(shared.status("cat").unwrap(), [registered]);
        shared.unregister("dog");
        shared.unregister("cat");
        assert_eq!(shared.read(&region(0, 1)).unwrap_err().reason, Reason::NotFound);
        assert_eq!(shared.status("cat").unwrap_err().reason, Reason::NotFound);
    }

    #[test]
    fn nothing_outside_of_a_region() {
        let memory = Memory::new("bounds", b"0123456789");
        let shared = allowed();
        assert!(shared.register("cat", &memory.key, 5, 6).unwrap_err().text.contains("has 10 bytes"));
        assert!(shared.register("cat", &memory.key, u64::MAX, 2).is_err());
        assert!(shared.register("cat", &memory.key, 0, 0).is_err());
        shared.register("cat", &memory.key, 5, 4).unwrap();
        assert!(shared.register("cat", &memory.key, 0, 4).unwrap_err().text.contains("registered already"));
        for (offset, bytes) in [(0, 5), (1, 4), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(shared.read(&region(offset, bytes)).unwrap_err().reason, Reason::Invalid);
            assert_eq!(shared.write(&region(offset, bytes), b"x").unwrap_err().reason, Reason::Invalid);
        }
        assert!(shared.write(&region(0, 2), b"abc").is_err());
    }

    #[test]
    fn memory_that_the_client_cuts_off() {
        let memory = Memory::new("cut", b"0123456789");
        let shared = allowed();
        shared.register("cat", &memory.key, 0, 10).unwrap();
        ftruncate(&memory.file, 4).unwrap();
        assert!(shared.read(&region(0, 10)).unwrap_err().text.contains("has become smaller"));
        assert!(shared.write(&region(2, 4), b"abcd").unwrap_err().text.contains("has become smaller"));
        assert_eq!(fstat(&memory.file).unwrap().st_size, 4);
        assert_eq!(&shared.read(&region(0, 4)).unwrap()[..], b"0123");
    }

    #[test]
    fn only_keys_that_are_allowed() {
        let memory = Memory::new("keys", b"0");
        let reason = |shared: SharedMemory, key: &str| shared.register("cat", key, 0, 1).unwrap_err().reason;
        assert_eq!(reason(SharedMemory::default(), &memory.key), Reason::Forbidden);
        assert_eq!(reason(SharedMemory::new(vec!["/other-".into()]), &memory.key), Reason::Forbidden);
        for key in ["", "/", "cat", "/a/b", "/../etc/passwd", "/..", "/a\0b", "//a"] {
            assert_eq!(reason(SharedMemory::new(vec!["/".into()]), key), Reason::Invalid, "{key}");
        }
        assert_eq!(reason(allowed(), "/sardonyx-test-missing"), Reason::NotFound);
    }

    #[test]
    fn a_link_is_no_shared_memory() {
        let memory = Memory::new("link-target", b"0");
        let link = format!("/dev/shm/sardonyx-test-link-{}", std::process::id());
        std::os::unix::fs::symlink(format!("/dev/shm{}", memory.key), &link).unwrap();
        let failure = allowed().register("cat", link.strip_prefix("/dev/shm").unwrap(), 0, 1).unwrap_err();
        std::fs::remove_file(&link).unwrap();
        assert_eq!(failure.reason, Reason::NotFound);
    }

    #[test]
    fn parameters_of_a_tensor() {
        let mut given = region(8, 16).parameters(12);
        let expected = [
            (BYTE_SIZE, Parameter::Int(12)),
            (OFFSET, Parameter::Int(8)),
            (REGION, Parameter::Text("cat".into())),
        ];
        assert_eq!(given, expected.map(|(name, value)| (name.to_owned(), value)).into());
        assert_eq!(Region::of(&mut given.clone()).unwrap(), Some(region(8, 12)));
        given.remove(BYTE_SIZE);
        assert_eq!(
            Region::of(&mut given.clone()).unwrap_err().text,
            "parameter 'shared_memory_byte_size' is missing"
        );
        given.remove(REGION);
        assert!(Region::of(&mut given).unwrap_err().text.contains("without 'shared_memory_region'"));
        assert_eq!(Region::of(&mut Parameters::new()).unwrap(), None);
        let mut given = Parameters::from([(OFFSET.to_owned(), Parameter::Int(-1))]);
        assert_eq!(
            Region::of(&mut given).unwrap_err().text,
            "parameter 'shared_memory_offset' is a whole number from 0 on"
        );
    }
}
