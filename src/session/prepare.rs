//! Preparing: plans, pipelines, weights and memory are made before there are data, in the calling thread or in another.

use std::sync::Arc;

use super::entry::{Entry, Given, Ordered};
use super::segmented::{Course, read_together};
use super::{Core, Session};
use crate::budget::Budget;
use crate::facts::InputFact;
use crate::gpu::{Executable, Input, Later};
use crate::interrupt::GoOn;
use crate::plan::Plan;
use crate::{DType, Datum, Error, Interrupt, Result, Tensor};

/// What is known of an input before a run: its shape, or, where its value decides shapes, the value.
///
/// ```
/// use sardonyx::{Known, Tensor};
/// let pixels = Known::from([1, 3, 224, 224]);
/// let target = Known::from(&Tensor::from_slice(&[2], &[1i64, -1])?);
/// # Ok::<(), sardonyx::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Known {
    /// The sizes of its dimensions.
    Shape(Vec<usize>),
    /// The elements.
    Value(Tensor),
    /// A sequence, an optional or a map. Planning does not look into it.
    Container(Datum),
}

impl From<&Datum> for Known {
    fn from(datum: &Datum) -> Known {
        match datum {
            Datum::Tensor(tensor) => Known::Value(tensor.clone()),
            container => Known::Container(container.clone()),
        }
    }
}

impl<const N: usize> From<[usize; N]> for Known {
    fn from(shape: [usize; N]) -> Known {
        Known::Shape(shape.to_vec())
    }
}

impl From<&[usize]> for Known {
    fn from(shape: &[usize]) -> Known {
        Known::Shape(shape.to_vec())
    }
}

impl From<&Tensor> for Known {
    fn from(value: &Tensor) -> Known {
        Known::Value(value.clone())
    }
}

/// An input whose shape or value the caller has given.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    dtype: DType,
    known: Known,
}

impl Given for Declared {
    fn dtype(&self) -> DType {
        match &self.known {
            Known::Shape(_) => self.dtype,
            Known::Value(value) => value.dtype(),
            // No plan takes it, as no plan takes strings.
            Known::Container(_) => DType::String,
        }
    }

    fn shape(&self) -> &[usize] {
        match &self.known {
            Known::Shape(shape) => shape,
            Known::Value(value) => value.shape(),
            Known::Container(_) => &[],
        }
    }

    fn value(&self) -> Option<&Tensor> {
        match &self.known {
            Known::Shape(_) | Known::Container(_) => None,
            Known::Value(value) => Some(value),
        }
    }

    fn container(&self) -> Option<&Datum> {
        match &self.known {
            Known::Container(datum) => Some(datum),
            _ => None,
        }
    }
}

impl Session {
    /// Makes everything ready for runs on inputs of these shapes: the plan, its pipelines, the weights on the device, and the
    /// memory of one run. The first run on these shapes then costs as much as every further one. An input whose value decides
    /// shapes (the target of `Reshape`, for example) is given by value.
    ///
    /// # Errors
    /// As [`Session::run`]. On the CPU reference there is nothing to prepare, and only the shapes are checked.
    ///
    /// ```no_run
    /// # fn f(session: &sardonyx::Session) -> sardonyx::Result<()> {
    /// session.prepare(&[("image", [1, 3, 224, 224])])?;
    /// # Ok(()) }
    /// ```
    pub fn prepare<K: Into<Known> + Clone>(&self, inputs: &[(&str, K)]) -> Result<()> {
        self.core.in_enough_bits(|core| {
            let given = core.declared(inputs)?;
            if core.plans.is_none() {
                return Ok(());
            }
            given.survey(core, &mut |entry, inputs| core.prepared(entry, inputs)).map(drop)
        })
    }

    /// Like [`Session::prepare`], but in a thread: the calling task is woken when everything is ready. Dropping the future
    /// ends the work; what has not been compiled by then is not compiled.
    ///
    /// # Errors
    /// As [`Session::prepare`].
    ///
    /// ```no_run
    /// # async fn f(session: &sardonyx::Session) -> sardonyx::Result<()> {
    /// session.prepare_async(&[("image", [1, 3, 224, 224])]).await?;
    /// # Ok(()) }
    /// ```
    pub async fn prepare_async<K: Into<Known> + Clone>(&self, inputs: &[(&str, K)]) -> Result<()> {
        let core = self.core.widest();
        match core.prepare_async(core.declared(inputs)?).await {
            Err(error @ Error::TooWide { .. }) => {
                let wide = core.widened(error)?;
                wide.prepare_async(wide.declared(inputs)?).await
            }
            outcome => outcome,
        }
    }
}

impl Core {
    async fn prepare_async(self: &Arc<Core>, given: Ordered<Declared>) -> Result<()> {
        if self.plans.is_none() {
            return Ok(());
        }
        if given.entry.segmented().is_none() {
            return self.executable_async(&given).await.map(drop);
        }
        let core = self.clone();
        let prepare = move |go_on: &GoOn| {
            let mut each = |entry: &Arc<Entry>, inputs: &[InputFact]| {
                go_on()?;
                core.prepared(entry, inputs)
            };
            given.survey(&core, &mut each).map(drop)
        };
        self.in_background(prepare).await
    }
}

/// Tells a thread, when dropped, that nobody waits for it any more.
struct RaiseOnDrop(Interrupt);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

impl Core {
    pub(super) fn declared<K: Into<Known> + Clone>(&self, inputs: &[(&str, K)]) -> Result<Ordered<Declared>> {
        let declared = |(name, known): &(&str, K)| {
            let dtype = self.declared_dtype(name);
            let given = Declared { dtype, known: known.clone().into() };
            (name.to_string(), given)
        };
        let given: Vec<(String, Declared)> = inputs.iter().map(declared).collect();
        let given: Vec<(&str, Declared)> =
            given.iter().map(|(name, given)| (&name[..], given.clone())).collect();
        self.ordered(&given, None)
    }

    /// The outputs of a run. A run of several segments is a thread's work: between two of them, it waits for the device.
    pub(super) async fn values_async(self: &Arc<Self>, given: Ordered<Input<'_>>) -> Result<Vec<Datum>> {
        let Some(plans) = &self.plans else { return self.values(&given) };
        if given.entry.segmented().is_none() {
            let executable = self.executable_async(&given).await?;
            let tensors = executable.run_async(&plans.frames, &given.entry.graph, &given.inputs).await?;
            return Ok(tensors.into_iter().map(Datum::Tensor).collect());
        }
        let (core, entry, inputs) = (self.clone(), given.entry.clone(), given.placed());
        let run = move |go_on: &GoOn| {
            let budget = core.options.reference_limits.as_ref().map(Budget::new);
            let course = Course { go_on, times: None, budget: budget.as_ref() };
            let outputs = core.outputs_of(&entry, &inputs, &course)?;
            read_together(&outputs.iter().collect::<Vec<_>>())
        };
        self.in_background(run).await
    }

    /// Has a thread do `work`, which ends early where nobody waits for it any more.
    async fn in_background<T: Send + 'static>(
        &self,
        work: impl FnOnce(&GoOn) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (promise, later) = Later::new();
        let (dropped, interrupt) = (Interrupt::new(), self.device.interrupt().clone());
        let (job, _raise) = (dropped.clone(), RaiseOnDrop(dropped.clone()));
        self.gpu()?.prepare_in_background(job, move || {
            promise.keep(work(&move || dropped.check().and_then(|()| interrupt.check())));
        })?;
        later.await.unwrap_or_else(|| Err(Error::Gpu("the thread of the work has ended".into())))
    }

    /// The plan for these inputs, which is made ready with the memory of one run.
    fn prepared(&self, entry: &Arc<Entry>, inputs: &[InputFact]) -> Result<Plan> {
        let executable = self.executable(&Ordered { entry: entry.clone(), inputs: inputs.to_vec() })?;
        executable.prepare(&self.plans()?.frames)?;
        Ok(executable.plan.clone())
    }

    /// The executable for inputs of these shapes, and the memory of one run of it: from the cache, or made by a thread.
    pub(super) async fn executable_async(
        self: &Arc<Self>,
        given: &Ordered<impl Given>,
    ) -> Result<Arc<Executable>> {
        let signature = given.signature()?;
        let plans = self.plans()?;
        self.interrupt()?;
        if let Some(executable) = plans.find(&given.entry, &signature) {
            return Ok(executable);
        }
        let (plans, entry, known) = (plans.clone(), given.entry.clone(), given.input_facts());
        let make = move |go_on: &GoOn| {
            let executable = plans.make(&entry, &known, signature, go_on)?;
            executable.prepare(&plans.frames)?;
            Ok(executable)
        };
        self.in_background(make).await
    }
}
