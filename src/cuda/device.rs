//! A GPU, or the emulator that stands in for one.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::buffer::DeviceBuffer;
use super::conv_plan::{Algorithm, MathMode, Traits};
#[cfg(feature = "cuda")]
use super::kernel;
use super::launch::Backend;
#[cfg(feature = "cuda")]
use super::launch::Driver;
#[cfg(feature = "emulator")]
use super::launch::Emulator;
use super::tune::Tuner;
use super::workspace::Pool;
use crate::element::Element;
use crate::error::Result;

/// When the emulator carries out an asynchronous copy: each timing hides the bugs that the other
/// one shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CopyTiming {
    /// As soon as it is issued: shows a tile that is overwritten while it is still being read.
    Eager,
    /// When it is waited for, and NaN until then: shows a tile that is read too early.
    Late,
}

/// An opened GPU with its stream and loaded kernels, or the emulator. A clone is the same device;
/// tensors of two devices do not mix, even if both are on one GPU.
#[derive(Clone)]
pub struct CudaDevice(Arc<Inner>);

struct Inner {
    name: String,
    pool: Pool,
    backend: Backend,
    wishes: Mutex<Wishes>,
    tuner: Tuner,
}

/// What the user of a device asks of the planner.
#[derive(Clone, Copy, Default)]
struct Wishes {
    math: MathMode,
    preferred: Option<Algorithm>,
    nth_plan: usize,
    workspace_limit: Option<usize>,
}

impl CudaDevice {
    /// The GPU with this ordinal; opened once per process.
    #[cfg(feature = "cuda")]
    pub(crate) fn open(ordinal: usize) -> Result<Self> {
        static OPENED: Mutex<Vec<(usize, CudaDevice)>> = Mutex::new(Vec::new());
        kernel::check_built()?;
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, device)) = opened.iter().find(|(o, _)| *o == ordinal) {
            return Ok(device.clone());
        }
        let device = Self::with_backend(
            format!("cuda:{ordinal}"),
            Backend::Driver(Driver::open(ordinal)?),
        );
        opened.push((ordinal, device.clone()));
        Ok(device)
    }

    /// Not in this build.
    #[cfg(not(feature = "cuda"))]
    pub(crate) fn open(ordinal: usize) -> Result<Self> {
        let why = format!("the feature `cuda` is off, so cuda:{ordinal} cannot be opened");
        Err(crate::Error::KernelsNotBuilt { why })
    }

    /// The GPU of a stream that the caller shares with other code; everything runs on that stream.
    ///
    /// # Errors
    /// [`Error::KernelsNotBuilt`](crate::Error::KernelsNotBuilt) when the crate was built without
    /// kernels, [`Error::Cuda`](crate::Error::Cuda) for what the driver reports.
    #[cfg(feature = "cuda")]
    pub fn from_stream(stream: Arc<cudarc::driver::CudaStream>) -> Result<Self> {
        kernel::check_built()?;
        let name = format!("cuda:{}", stream.context().ordinal());
        Ok(Self::with_backend(
            name,
            Backend::Driver(Driver::on_stream(stream)?),
        ))
    }

    /// An emulator that schedules warps as `seed` decides and copies as `timing` says.
    ///
    /// # Errors
    /// [`Error::KernelsNotBuilt`](crate::Error::KernelsNotBuilt) without the feature `emulator`.
    #[cfg_attr(
        not(feature = "emulator"),
        expect(unused_variables, reason = "the other build's")
    )]
    pub fn emulator(seed: u64, timing: CopyTiming) -> Result<Self> {
        #[cfg(feature = "emulator")]
        return Ok(Self::with_backend(
            "emulator".into(),
            Backend::Emulator(Emulator::new(seed, timing)),
        ));
        #[cfg(not(feature = "emulator"))]
        Err(crate::Error::KernelsNotBuilt {
            why: "the feature `emulator` is off".into(),
        })
    }

    /// The one emulator that everybody who asks for no other shares.
    pub(crate) fn shared_emulator() -> Result<Self> {
        static SHARED: Mutex<Option<CudaDevice>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some(device) => Ok(device.clone()),
            None => Ok(shared.insert(Self::emulator(0, CopyTiming::Eager)?).clone()),
        }
    }

    #[cfg(any(feature = "cuda", feature = "emulator"))]
    fn with_backend(name: String, backend: Backend) -> Self {
        CudaDevice(Arc::new(Inner {
            name,
            pool: Pool::default(),
            backend,
            wishes: Mutex::default(),
            tuner: Tuner::default(),
        }))
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.0.backend
    }

    /// `cuda:ORDINAL` or `emulator`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What may stand in for arithmetic in f32 from now on, in every clone of this device.
    ///
    /// ```
    /// use ndconv::{CopyTiming, CudaDevice, MathMode};
    /// # if let Ok(device) = CudaDevice::emulator(0, CopyTiming::Eager) {
    /// assert_eq!(device.math_mode(), MathMode::Strict);
    /// device.set_math_mode(MathMode::Tf32);
    /// assert_eq!(device.math_mode(), MathMode::Tf32);
    /// # }
    /// ```
    pub fn set_math_mode(&self, math: MathMode) {
        self.wishes().math = math;
    }

    /// What may stand in for arithmetic in f32.
    pub fn math_mode(&self) -> MathMode {
        self.wishes().math
    }

    /// Convolutions that this algorithm applies to use it from now on, in every clone of this
    /// device; all others, and with `None` all, what the planner picks.
    pub fn prefer(&self, algorithm: Option<Algorithm>) {
        self.wishes().preferred = algorithm;
    }

    /// Convolutions run by the nth of their plans from now on, counted around: for tests, which run
    /// them all.
    #[doc(hidden)]
    pub fn take_plan(&self, nth: usize) {
        self.wishes().nth_plan = nth;
    }

    /// From now on no convolution takes more than so many bytes of workspace beside its operands,
    /// in every clone of this device: one whose plan needs more runs by the next plan that does
    /// not, even against [`prefer`](CudaDevice::prefer). `None`, as in the beginning, is no limit.
    ///
    /// The limit is that of an operation; pieces are kept for later ones, see
    /// [`trim_workspace`](CudaDevice::trim_workspace). Sums of a weight gradient are taken in
    /// another order when they are cut differently, so that its last bits may change.
    ///
    /// ```
    /// use ndconv::{CopyTiming, CudaDevice};
    /// # if let Ok(device) = CudaDevice::emulator(0, CopyTiming::Eager) {
    /// device.set_workspace_limit(Some(64 << 20));
    /// assert_eq!(device.workspace_limit(), Some(64 << 20));
    /// # }
    /// ```
    pub fn set_workspace_limit(&self, bytes: Option<usize>) {
        self.wishes().workspace_limit = bytes;
    }

    /// Bytes of workspace that a convolution may take at most.
    pub fn workspace_limit(&self) -> Option<usize> {
        self.wishes().workspace_limit
    }

    /// From now on an emulator has so many bytes of memory; what is allocated already stays.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) on a GPU.
    #[doc(hidden)]
    pub fn set_emulated_memory(&self, bytes: Option<usize>) -> Result<()> {
        self.backend().set_emulated_memory(bytes)
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    pub(super) fn tuner(&self) -> &Tuner {
        &self.0.tuner
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.0.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn traits(&self) -> Traits {
        let wishes = *self.wishes();
        Traits {
            compute: self.backend().compute(),
            math: wishes.math,
            preferred: wishes.preferred,
            nth: wishes.nth_plan,
            workspace_limit: wishes.workspace_limit,
        }
    }

    /// Waits until everything asked for so far has been done.
    ///
    /// # Errors
    /// [`Error::Cuda`](crate::Error::Cuda) for what went wrong meanwhile.
    pub fn synchronize(&self) -> Result<()> {
        self.backend().synchronize()
    }

    /// Room for so many elements, whose values do not matter.
    pub(crate) fn uninitialised<T: Element>(&self, elements: usize) -> Result<DeviceBuffer> {
        DeviceBuffer::new(self, DeviceBuffer::bytes_for::<T>(elements)?)
    }
}

impl PartialEq for CudaDevice {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for CudaDevice {}

impl fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaDevice({})", self.name())
    }
}
