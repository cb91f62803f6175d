//! Runs that append to inputs in the caller's memory: see [`DeviceTensor::with_room`](crate::DeviceTensor::with_room).

use std::sync::Arc;

use super::Core;
use super::entry::{Given, Ordered};
use crate::Result;
use crate::gpu::{DeviceTensor, Executable};
use crate::plan::{Appended, OutputSource};
use crate::shape::Room;

/// The least rows by which memory grows.
const LEAST_GROWTH: usize = 16;

/// An executable, and the tensors that take the place of the caller's inputs of these numbers.
pub(crate) struct Appending {
    pub(crate) executable: Arc<Executable>,
    pub(crate) inputs: Vec<(usize, DeviceTensor)>,
}

/// An input to which a run may append.
struct Roomy {
    appended: Appended,
    axis: usize,
    tensor: DeviceTensor,
}

impl Roomy {
    fn room(&self) -> Option<(usize, Room)> {
        Some((self.appended.input, self.tensor.room(self.axis)?))
    }

    /// Takes a copy with room for `rows` rows in the tensor's place.
    fn copy(&mut self, rows: usize) -> Result<()> {
        self.tensor = self.tensor.with_room(self.axis, rows)?;
        Ok(())
    }
}

impl Core {
    /// The executable for inputs of these shapes, which appends to those that have room. An input to which it cannot append where
    /// it lies is replaced by a copy: somebody has appended to it before, or its memory is full. `elsewhere` tells of an output,
    /// by number, whether it is to lie in other memory.
    pub(crate) fn appending<G: Given>(
        &self,
        given: &Ordered<G>,
        elsewhere: &dyn Fn(usize) -> bool,
    ) -> Result<Appending> {
        let roomy = |appended: &Appended| {
            let tensor = given.inputs.get(appended.input)?.placed()?;
            let axis = appended.axis(tensor.shape().len())?;
            let lies_so = tensor.capacity(axis).is_some() && !elsewhere(appended.output);
            lies_so.then(|| Roomy { appended: *appended, axis, tensor: tensor.clone() })
        };
        let mut all: Vec<Roomy> = given.entry.appended().iter().filter_map(roomy).collect();
        if all.is_empty() {
            return Ok(Appending { executable: self.executable(given)?, inputs: Vec::new() });
        }
        for one in all.iter_mut().filter(|one| one.room().is_none()) {
            one.copy(one.tensor.capacity(one.axis).unwrap_or(0))?;
        }
        let mut executable = self.executable_with(given, rooms(&all))?;
        let mut is_full = false;
        for one in &mut all {
            if let Some(OutputSource::Device { shape, .. }) = executable.output(one.appended.output)
                && let Some(&rows) = shape.get(one.axis)
                && one.tensor.capacity(one.axis).is_some_and(|capacity| capacity < rows)
            {
                one.copy(rows + (rows / 4).max(LEAST_GROWTH))?;
                is_full = true;
            }
        }
        if is_full {
            executable = self.executable_with(given, rooms(&all))?;
        }
        for one in &mut all {
            if let Some(OutputSource::Appended { shape, .. }) = executable.output(one.appended.output)
                // Another thread may have appended to it meanwhile.
                && !one.tensor.claims(shape)
            {
                one.copy(one.tensor.capacity(one.axis).unwrap_or(0))?;
                one.tensor.claims(shape);
            }
        }
        let inputs = all.into_iter().map(|one| (one.appended.input, one.tensor)).collect();
        Ok(Appending { executable, inputs })
    }
}

fn rooms(all: &[Roomy]) -> Vec<(usize, Room)> {
    all.iter().filter_map(Roomy::room).collect()
}
