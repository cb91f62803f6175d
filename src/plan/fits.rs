//! Which plans can run in the memory of another: those of other sizes that dispatch the same kernels on the same tensors.

use super::Plan;
use super::program::{Call, OutputSource, Program, TensorId};

impl Plan {
    /// Whether a run of this plan can use the buffers and the bind groups of `larger`: each call has the same kernel and the same
    /// tensors, and no tensor takes more bytes than there. The params and the tables may have other words.
    pub(crate) fn fits_in(&self, larger: &Plan) -> bool {
        let (own, other) = (&self.program, &larger.program);
        let outputs = || own.outputs.iter().zip(&other.outputs);
        let calls = || own.calls.iter().zip(&other.calls);
        let tables = || own.table_bytes().into_iter().zip(other.table_bytes());
        self.divided.is_none()
            && larger.divided.is_none()
            && own.integers == other.integers
            && own.weights == other.weights
            && own.inputs == other.inputs
            && own.callers == other.callers
            && own.calls.len() == other.calls.len()
            && own.outputs.len() == other.outputs.len()
            && own.faults.len() == other.faults.len()
            && own.constants.len() == other.constants.len()
            && tables().all(|(own, other)| own <= other)
            && outputs().all(|(own, other)| match (own, other) {
                (OutputSource::Device { tensor, .. }, OutputSource::Device { tensor: other, .. }) => {
                    tensor == other
                }
                (OutputSource::Known(_), OutputSource::Known(_)) => true,
                (OutputSource::Input(i), OutputSource::Input(other)) => i == other,
                (OutputSource::Appended { input, .. }, OutputSource::Appended { input: other, .. }) => {
                    input == other
                }
                _ => false,
            })
            && own.inputs.iter().flatten().all(|&tensor| own.lies_within(other, tensor))
            && calls().all(|(call, other_call)| own.is_like(call, other, other_call))
    }
}

impl Program {
    /// The bytes of each table on the device; `None` where no kernel reads it.
    fn table_bytes(&self) -> Vec<Option<u64>> {
        let tables = self.constants.iter().zip(self.constant_storages());
        tables.map(|(table, storage)| Some(storage?.bytes(table.len()))).collect()
    }

    fn is_like(&self, call: &Call, other: &Program, other_call: &Call) -> bool {
        call.kernel == other_call.kernel
            && call.tensors == other_call.tensors
            && call.params.len() == other_call.params.len()
            && call.tensors.iter().all(|&tensor| self.lies_within(other, tensor))
    }

    /// Whether a tensor lies at the same place in both programs, and is not larger here.
    fn lies_within(&self, other: &Program, id: TensorId) -> bool {
        let ((root, skip), (other_root, other_skip)) = (self.root(id), other.root(id));
        let (own, of_other) = (self.tensor(id), other.tensor(id));
        let same = |id: TensorId| {
            let (own, other) = (self.tensor(id), other.tensor(id));
            (own.scalar, own.storage) == (other.scalar, other.storage) && own.bytes() <= other.bytes()
        };
        root == other_root
            && skip == other_skip
            && self.tensor(root).place == other.tensor(root).place
            && own.place == of_other.place
            && same(id)
            && same(root)
    }
}
