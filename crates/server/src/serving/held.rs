//! `Held`: a tensor that stays on its device from one run to the next, and `Value`: one that lies there or on the host.

use std::sync::Arc;

use sardonyx::{DType, Device, DeviceTensor, Error, Input, Tensor};

use super::batch;
use super::devices::Slot;
use super::place::Unrun;
use crate::{Failure, Reason};

/// A tensor on a device of the server. It is lost with the device.
#[derive(Clone, Debug)]
pub struct Held {
    slot: Arc<Slot>,
    /// Of the slot's devices, the one that has the tensor.
    generation: u64,
    tensor: Arc<dyn HoldsTensor>,
}

/// A tensor behind a trait object, for the reason that `HoldsDevice` names.
trait HoldsTensor: std::fmt::Debug + Send + Sync {
    fn tensor(&self) -> &DeviceTensor;
}

impl HoldsTensor for DeviceTensor {
    fn tensor(&self) -> &DeviceTensor {
        self
    }
}

/// A tensor that a run takes or makes.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Host(Tensor),
    Held(Held),
}

impl Held {
    /// A tensor that a run on the slot's device of this generation has made.
    pub(super) fn new(slot: &Arc<Slot>, generation: u64, tensor: DeviceTensor) -> Held {
        Held { slot: slot.clone(), generation, tensor: Arc::new(tensor) }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.tensor().dtype()
    }

    /// The dimensions.
    pub fn shape(&self) -> &[usize] {
        self.tensor().shape()
    }

    pub(super) fn tensor(&self) -> &DeviceTensor {
        self.tensor.tensor()
    }

    /// Whether the tensor is on the slot's device of this generation.
    ///
    /// # Errors
    /// If it was on an earlier one.
    fn is_on(&self, slot: &Arc<Slot>, generation: u64) -> Result<bool, Failure> {
        match Arc::ptr_eq(&self.slot, slot) {
            true if self.generation != generation => Err(lost()),
            here => Ok(here),
        }
    }

    /// Copies the tensor to the host, in a turn of its device.
    pub(super) fn fetch(&self) -> Result<Tensor, Unrun> {
        let _turn = self.slot.turn();
        self.tensor().read().map_err(|error| self.failed(error))
    }

    /// The device that has the tensor.
    fn device(&self) -> Result<Device, Failure> {
        let (generation, device) = self.slot.device(super::place::PATIENCE)?;
        if generation == self.generation { Ok(device) } else { Err(lost()) }
    }

    /// The rows of all `parts`, and `padding` rows of zeros, on this tensor's device.
    fn joined(&self, parts: &[Value], padding: usize) -> Result<Held, Unrun> {
        let device = self.device()?;
        let near = parts.iter().map(|part| part.near(&self.slot, self.generation));
        let near = near.collect::<Result<Vec<_>, _>>()?;
        let _turn = self.slot.turn();
        let joined = || {
            let mut tensors = Vec::with_capacity(near.len() + 1);
            for part in &near {
                tensors.push(match part {
                    Value::Host(tensor) => DeviceTensor::new(&device, tensor)?,
                    Value::Held(held) => held.tensor().clone(),
                });
            }
            if padding > 0 {
                let shape = [&[padding], self.shape().get(1..).unwrap_or_default()].concat();
                tensors.push(DeviceTensor::zeros(&device, self.dtype(), &shape)?);
            }
            DeviceTensor::joined(&tensors.iter().collect::<Vec<_>>())
        };
        let joined = joined().map_err(|error| self.failed(error))?;
        Ok(Held::new(&self.slot, self.generation, joined))
    }

    /// Why a copy on the device has made nothing. A device that is lost is replaced.
    fn failed(&self, error: Error) -> Unrun {
        match error {
            Error::DeviceLost(_) => {
                self.slot.replace(self.generation);
                lost().into()
            }
            error => error.into(),
        }
    }
}

fn lost() -> Failure {
    Failure::new(
        Reason::Unavailable,
        "the device was lost, and with it what an earlier run had left there; begin the sequence again, or send the request again",
    )
}

impl Value {
    /// The element type.
    pub(super) fn dtype(&self) -> DType {
        match self {
            Value::Host(tensor) => tensor.dtype(),
            Value::Held(held) => held.dtype(),
        }
    }

    /// Bytes of numbers that lie on the host.
    pub(super) fn bytes_on_host(&self) -> u64 {
        match self {
            Value::Host(tensor) => tensor.bytes().len() as u64,
            Value::Held(_) => 0,
        }
    }

    /// The input of a run on the device that has the tensor.
    pub(super) fn given(&self) -> Input<'_> {
        match self {
            Value::Host(tensor) => tensor.into(),
            Value::Held(held) => held.tensor().into(),
        }
    }

    /// The tensor on the host. The caller has a turn of the device.
    pub(super) fn read(&self) -> sardonyx::Result<Tensor> {
        match self {
            Value::Host(tensor) => Ok(tensor.clone()),
            Value::Held(held) => held.tensor().read(),
        }
    }

    /// The tensor, or, if it is on another device than the slot's of this generation, its copy on the host.
    pub(super) fn near(&self, slot: &Arc<Slot>, generation: u64) -> Result<Value, Unrun> {
        match self {
            Value::Held(held) if !held.is_on(slot, generation)? => Ok(Value::Host(held.fetch()?)),
            here => Ok(here.clone()),
        }
    }

    /// The rows of all `parts`, and `padding` rows of zeros: on the device of the first part that is on one.
    pub(super) fn joined(parts: &[Value], padding: usize) -> Result<Value, Unrun> {
        let mut host = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Value::Host(tensor) => host.push(tensor.clone()),
                Value::Held(home) => return home.joined(parts, padding).map(Value::Held),
            }
        }
        Ok(Value::Host(batch::stack(&host, padding)?))
    }

    /// The parts that belong to requests of so many `rows` each.
    pub(super) fn separated(self, rows: &[usize]) -> Result<Vec<Value>, Unrun> {
        match self {
            Value::Host(tensor) => Ok(batch::split(tensor, rows)?.into_iter().map(Value::Host).collect()),
            Value::Held(held) => {
                let _turn = held.slot.turn();
                let parts = held.tensor().separated(rows).map_err(|error| held.failed(error))?;
                let part = |part| Value::Held(Held::new(&held.slot, held.generation, part));
                Ok(parts.into_iter().map(part).collect())
            }
        }
    }
}
