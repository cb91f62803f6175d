//! Iterations: a plan that runs several times in one submission. What one iteration makes is copied, on the device, to where the
//! next one takes it, and to the lists to which each iteration adds an element.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::allocate::Buffer;
use super::device::Gpu;
use super::executable::{Executable, RECORDED};
use super::frame::{Frame, Frames};
use super::tensor::{DeviceTensor, Input, bytes};
use super::words;
use crate::kernels::Storage;
use crate::kernels::expr::Integers;
use crate::ops::Graph;
use crate::plan::OutputSource;
use crate::tensor::checked_count;
use crate::{DType, Error, Result, Tensor, heap};

/// Where an input of a plan comes from, from one iteration to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Feed {
    /// All iterations take the same.
    Same,
    /// The number of the iteration, as an int64 scalar; from the last to the first if it counts down.
    Number { down: bool },
    /// What the iteration before has made as the output of this number.
    Carried(usize),
}

/// A tensor along whose first axis each iteration writes an element.
#[derive(Debug)]
pub(crate) struct IterationList {
    whole: DeviceTensor,
    /// The bytes of an element.
    each: u64,
    /// Whether the first iteration writes the last element.
    pub(crate) reverse: bool,
}

/// The iterations of one submission: `count` of `all`, from `first` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) all: usize,
}

/// The most dispatches of a submission of several iterations.
const MOST_DISPATCHES: usize = 1 << 10;

/// The most workgroups of such a submission: the driver of a GPU with a display may reset it after two seconds.
const MOST_WORKGROUPS: u64 = 1 << 16;

impl Executable {
    /// The number of iterations that a submission may have.
    pub(crate) fn iterations_at_once(&self) -> usize {
        let calls = &self.plan.program.calls;
        let groups: u64 = calls.iter().map(|call| call.grid.map(u64::from).iter().product::<u64>()).sum();
        let by_groups = usize::try_from(MOST_WORKGROUPS / groups.max(1)).unwrap_or(usize::MAX);
        (MOST_DISPATCHES / calls.len().max(1)).min(by_groups).max(1)
    }

    /// Whether each iteration takes tensors like those of the first: what it carries has the dtype and the shape of what it takes.
    pub(crate) fn is_steady(&self, inputs: &[Input<'_>], feeds: &[Feed]) -> bool {
        inputs.iter().zip(feeds).all(|(input, feed)| match feed {
            Feed::Carried(output) => {
                self.made(*output, inputs).is_some_and(|made| made == (input.dtype(), input.shape().to_vec()))
            }
            Feed::Same | Feed::Number { .. } => true,
        })
    }

    /// Whether planning knows that output `i` is true.
    pub(crate) fn is_true(&self, i: usize) -> bool {
        match self.plan.program.outputs.get(i) {
            Some(OutputSource::Known(tensor)) => tensor.dtype() == DType::Bool && tensor.bytes() == [1],
            _ => false,
        }
    }

    /// The dtype and the shape of an output.
    pub(crate) fn made(&self, output: usize, inputs: &[Input<'_>]) -> Option<(DType, Vec<usize>)> {
        match self.plan.program.outputs.get(output)? {
            OutputSource::Device { dtype, shape, .. } | OutputSource::Appended { dtype, shape, .. } => {
                Some((*dtype, shape.clone()))
            }
            OutputSource::Known(tensor) => Some((tensor.dtype(), tensor.shape().to_vec())),
            OutputSource::Input(i) => inputs.get(*i).map(|input| (input.dtype(), input.shape().to_vec())),
        }
    }

    /// Runs the iterations of a stretch, of which the first takes `inputs`. `lists`: by output, what its elements become. Returns
    /// what the inputs that are carried would be in the next iteration, in their order.
    pub(crate) fn iterate(
        self: &Arc<Self>,
        frames: &Frames,
        graph: &Graph,
        (inputs, feeds): (&[Input<'_>], &[Feed]),
        lists: &[Option<IterationList>],
        stretch: Stretch,
    ) -> Result<Vec<DeviceTensor>> {
        let frame = frames.take(self)?;
        let outcome = self.iterate_in(&frame, graph, (inputs, feeds), lists, stretch);
        self.give_back(frames, frame, outcome)
    }

    fn iterate_in(
        &self,
        frame: &Frame,
        graph: &Graph,
        (inputs, feeds): (&[Input<'_>], &[Feed]),
        lists: &[Option<IterationList>],
        stretch: Stretch,
    ) -> Result<Vec<DeviceTensor>> {
        heap::ask("the pass", (self.dispatch_count() * stretch.count) as u64 * RECORDED)?;
        let slots = self.slots(frame, inputs, feeds, lists)?;
        let numbers = self.numbers(feeds, stretch)?;
        let (carried, results) = self.carried(inputs, feeds)?;
        let kept = self.kept(lists)?;
        let wiring = self.wiring(frame)?;
        let _words = wiring.words.hold(&self.gpu, self.program())?;
        for ((i, input), slot) in inputs.iter().enumerate().zip(&slots) {
            if let (Some(tensor), Some(slot)) = (input.host(), slot) {
                let name = graph.inputs.get(i).map_or("?", |id| graph.value(*id).name.as_str());
                self.gpu.write_tensor(name, slot, tensor, self.integers())?;
            }
        }
        let mut given = Vec::new();
        for (input, slot) in inputs.iter().zip(&slots) {
            if let (Input::Device(from), Some(slot)) = (input, slot) {
                given.push((from, slot, bytes(self.integers(), input.dtype(), input.shape())?));
            }
        }
        let number = self.integers().storage(DType::I64).unwrap_or(Storage::Word).offset(1);
        let submission = self.gpu.attempt("the run", 0, || {
            let mut encoder = self.gpu.encoder();
            given.iter().for_each(|(from, slot, bytes)| {
                from.copy_to(&mut encoder, slot, 0, (*bytes).min(slot.size()));
            });
            for k in 0..stretch.count {
                for (slot, numbers) in slots.iter().zip(&numbers) {
                    if let (Some(slot), Some(numbers)) = (slot, numbers) {
                        encoder.copy_buffer_to_buffer(numbers, k as u64 * number, slot, 0, number);
                    }
                }
                self.record_calls(wiring, &mut encoder, frame.timestamps(k == 0, k + 1 == stretch.count));
                for ListedOutput { from, list } in &kept {
                    let at = stretch.first + k;
                    let at = if list.reverse { stretch.all - 1 - at } else { at };
                    if let (Some(whole), 1..) = (list.whole.counted(), list.each) {
                        let from = source(from, frame, &slots);
                        from.inspect(|from| {
                            encoder.copy_buffer_to_buffer(from, 0, whole, at as u64 * list.each, list.each);
                        });
                    }
                }
                let last = k + 1 == stretch.count;
                // First, what the copies after these overwrite.
                for one in carried.iter().filter(|one| one.aside.is_some()) {
                    if let (Some(from), Some(aside)) = (source(&one.from, frame, &slots), &one.aside) {
                        copy(&mut encoder, from, aside, one.bytes);
                    }
                }
                for one in &carried {
                    let from = one.aside.as_ref().or_else(|| source(&one.from, frame, &slots));
                    let to = if last { one.result.as_ref() } else { slots[one.input].as_ref() };
                    if let (Some(from), Some(to)) = (from, to) {
                        copy(&mut encoder, from, to, one.bytes);
                    }
                }
            }
            self.copy_reports(&mut encoder, frame, wiring);
            self.gpu.submit(encoder)
        })?;
        let counters = &self.gpu.counters;
        counters.passes.fetch_add(stretch.count as u64, Ordering::Relaxed);
        counters.submits.fetch_add(1, Ordering::Relaxed);
        counters.dispatches.fetch_add((self.dispatch_count() * stretch.count) as u64, Ordering::Relaxed);
        self.wait_for_reports(frame, graph, submission)?;
        Ok(results)
    }

    /// For each input, the buffer in which each iteration finds it: the frame's, or one of its own where only a copy reads it.
    fn slots(
        &self,
        frame: &Frame,
        inputs: &[Input<'_>],
        feeds: &[Feed],
        lists: &[Option<IterationList>],
    ) -> Result<Vec<Option<Buffer>>> {
        let outputs = || self.plan.program.outputs.iter().enumerate();
        let is_copied = |i: usize| {
            let passes_on = |source: &OutputSource| matches!(source, OutputSource::Input(of) if *of == i);
            let is_carried =
                |o: usize| feeds.iter().enumerate().any(|(to, feed)| *feed == Feed::Carried(o) && to != i);
            outputs().any(|(o, source)| {
                passes_on(source) && (is_carried(o) || lists.get(o).is_some_and(Option::is_some))
            })
        };
        let mut slots = Vec::with_capacity(inputs.len());
        for (i, input) in inputs.iter().enumerate() {
            let read = self.sizes.inputs.get(i).is_some_and(|size| *size > 0);
            slots.push(match frame.inputs.get(i).cloned().flatten().filter(|_| read) {
                Some(buffer) => Some(buffer),
                None if is_copied(i) => {
                    Some(self.gpu.buffer_for(self.integers(), input.dtype(), input.shape())?)
                }
                None => None,
            });
        }
        Ok(slots)
    }

    /// For each input that is the number of the iteration, the numbers of this stretch.
    fn numbers(&self, feeds: &[Feed], stretch: Stretch) -> Result<Vec<Option<Buffer>>> {
        let Stretch { first, count, all } = stretch;
        let list = |down: bool| {
            let number = |k: usize| if down { all - 1 - k } else { k } as i64;
            let numbers: Vec<i64> = (first..first + count).map(number).collect();
            let numbers = Tensor::from_slice(&[count], &numbers)?;
            let tensor = DeviceTensor::upload(&self.gpu, &numbers, self.integers())?;
            Ok(tensor.counted().cloned())
        };
        let each = |feed: &Feed| match feed {
            Feed::Number { down } => list(*down),
            Feed::Same | Feed::Carried(_) => Ok(None),
        };
        feeds.iter().map(each).collect()
    }

    /// How each carried input reaches the next iteration, and the tensors that it becomes after the last.
    fn carried(&self, inputs: &[Input<'_>], feeds: &[Feed]) -> Result<(Vec<Carry>, Vec<DeviceTensor>)> {
        let (mut all, mut results) = (Vec::new(), Vec::new());
        for (input, feed) in feeds.iter().enumerate() {
            let Feed::Carried(output) = *feed else { continue };
            let given = &inputs[input];
            let from = self.origin(output)?;
            if matches!(from, Origin::Slot(of) if of == input) {
                results.push(match given {
                    Input::Device(tensor) => DeviceTensor::clone(tensor),
                    Input::Tensor(tensor) => DeviceTensor::on_host(Tensor::clone(tensor)),
                    Input::Container(_) => return Err(Error::Gpu("a container is carried".into())),
                });
                continue;
            }
            let result = self.gpu.buffer_for(self.integers(), given.dtype(), given.shape())?;
            let aside = match from {
                Origin::Slot(of) if matches!(feeds.get(of), Some(Feed::Carried(_))) => {
                    Some(self.gpu.buffer_for(self.integers(), given.dtype(), given.shape())?)
                }
                _ => None,
            };
            let bytes = result.size();
            let (dtype, shape) = (given.dtype(), given.shape());
            results.push(DeviceTensor::of_buffer(&self.gpu, result.clone(), self.integers(), dtype, shape));
            all.push(Carry { input, from, bytes, aside, result: Some(result) });
        }
        Ok((all, results))
    }

    /// The outputs that become elements of lists.
    fn kept<'l>(&self, lists: &'l [Option<IterationList>]) -> Result<Vec<ListedOutput<'l>>> {
        let mut kept = Vec::new();
        for (output, list) in lists.iter().enumerate() {
            if let Some(list) = list {
                kept.push(ListedOutput { from: self.origin(output)?, list });
            }
        }
        Ok(kept)
    }

    /// Where an output lies after each iteration.
    fn origin(&self, output: usize) -> Result<Origin> {
        let lost = || Error::Gpu("an iteration has no such output".into());
        match self.plan.program.outputs.get(output).ok_or_else(lost)? {
            OutputSource::Device { .. } => Ok(Origin::Output(output)),
            OutputSource::Input(i) => Ok(Origin::Slot(*i)),
            OutputSource::Appended { .. } => Err(lost()),
            OutputSource::Known(tensor) => {
                let tensor = DeviceTensor::upload(&self.gpu, tensor, self.integers())?;
                Ok(Origin::Fixed(tensor.counted().cloned().ok_or_else(lost)?))
            }
        }
    }
}

/// Where a value lies after an iteration.
#[derive(Debug)]
enum Origin {
    /// The frame's output of this number.
    Output(usize),
    /// The slot of this input.
    Slot(usize),
    /// A constant.
    Fixed(Buffer),
}

fn source<'b>(origin: &'b Origin, frame: &'b Frame, slots: &'b [Option<Buffer>]) -> Option<&'b Buffer> {
    match origin {
        Origin::Output(i) => frame.outputs.get(*i)?.as_ref(),
        Origin::Slot(i) => slots.get(*i)?.as_ref(),
        Origin::Fixed(buffer) => Some(buffer),
    }
}

/// An input that is carried from one iteration to the next.
#[derive(Debug)]
struct Carry {
    input: usize,
    from: Origin,
    bytes: u64,
    /// Where it waits until the other inputs are replaced.
    aside: Option<Buffer>,
    result: Option<Buffer>,
}

/// An output whose values a list keeps.
#[derive(Debug)]
struct ListedOutput<'l> {
    from: Origin,
    list: &'l IterationList,
}

fn copy(encoder: &mut wgpu::CommandEncoder, from: &Buffer, to: &Buffer, bytes: u64) {
    let bytes = bytes.min(from.size()).min(to.size());
    encoder.copy_buffer_to_buffer(from, 0, to, 0, bytes);
}

impl IterationList {
    /// A list for `count` iterations, each of which makes a tensor of this dtype and shape; `None` if these end within a word.
    pub(crate) fn new(
        gpu: &Arc<Gpu>,
        count: usize,
        integers: Integers,
        (dtype, shape): (DType, &[usize]),
        reverse: bool,
    ) -> Result<Option<IterationList>> {
        let storage = integers.storage(dtype).unwrap_or(Storage::Word);
        let elements = checked_count(shape).unwrap_or(0);
        let each = storage.offset(elements);
        if !words::end_with_word(storage, elements) {
            return Ok(None);
        }
        let shape = [&[count], shape].concat();
        let buffer = gpu.buffer_for(integers, dtype, &shape)?;
        let whole = DeviceTensor::of_buffer(gpu, buffer, integers, dtype, &shape);
        Ok(Some(IterationList { whole, each, reverse }))
    }

    /// Elements that are there already, in the order of the iterations.
    pub(crate) fn begin(&self, gpu: &Arc<Gpu>, elements: &[DeviceTensor]) -> Result<()> {
        let Some(whole) = self.whole.counted().filter(|_| self.each > 0 && !elements.is_empty()) else {
            return Ok(());
        };
        let count = self.whole.shape().first().copied().unwrap_or(0);
        let mut placed = Vec::with_capacity(elements.len());
        for element in elements {
            placed.push(element.clone().on_device(gpu, self.whole.integers())?);
        }
        gpu.attempt("a list of iterations", 0, || {
            let mut encoder = gpu.encoder();
            for (i, element) in placed.iter().enumerate() {
                let at = if self.reverse { count - 1 - i } else { i };
                if let Some(from) = element.counted() {
                    encoder.copy_buffer_to_buffer(from, 0, whole, at as u64 * self.each, self.each);
                }
            }
            gpu.submit(encoder);
        })
    }

    /// The list.
    pub(crate) fn finish(self) -> DeviceTensor {
        self.whole
    }
}
