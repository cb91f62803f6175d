//! Runs in enough bits: a session holds 64-bit integers in 32 bits until one does not fit, and in 64 from then on.

use std::sync::Arc;

use super::options::IntegerBits;
use super::{Core, Session, SessionOptions, host};
use crate::events::event;
use crate::gpu::Input;
use crate::kernels::expr::Integers;
use crate::{Datum, Error, Result, Tensor};

/// The inputs of a call, by name.
type Feeds<'n, 'a> = [(&'n str, Input<'a>)];

impl Session {
    /// What `run` makes of the inputs, in as many bits as needed.
    pub(super) fn in_enough_bits<T>(
        &self,
        feeds: &Feeds,
        run: impl Fn(&Core, &Feeds) -> Result<T>,
    ) -> Result<T> {
        self.core.in_enough_bits(|core| {
            let read = core.lying_otherwise(feeds)?;
            run(core, &replaced(feeds, &read))
        })
    }

    /// The outputs of a run, and the values that the session keeps besides.
    pub(crate) fn values(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<Datum>> {
        self.in_enough_bits(&host(inputs), |core, given| core.values(&core.ordered(given, None)?))
    }

    /// The outputs of a run that does not block, with their names, in as many bits as needed.
    pub(super) async fn in_enough_bits_async(
        &self,
        feeds: &Feeds<'_, '_>,
    ) -> Result<(Vec<Arc<str>>, Vec<Datum>)> {
        let core = self.core.widest();
        match core.outputs_async(feeds).await {
            Err(error @ Error::TooWide { .. }) => core.widened(error)?.outputs_async(feeds).await,
            outcome => outcome,
        }
    }
}

impl Core {
    /// What `work` makes of the session, or of the one whose plans hold 64-bit integers in 64 bits.
    pub(super) fn in_enough_bits<T>(self: &Arc<Core>, work: impl Fn(&Arc<Core>) -> Result<T>) -> Result<T> {
        let core = self.widest();
        match work(core) {
            Err(error @ Error::TooWide { .. }) => work(&core.widened(error)?),
            outcome => outcome,
        }
    }

    /// In how many bits the plans hold 64-bit integers.
    pub(crate) fn integers(&self) -> Integers {
        self.options.bits.held_in()
    }

    /// The session whose plans hold what runs have met so far.
    pub(super) fn widest(self: &Arc<Core>) -> &Arc<Core> {
        self.wide.get().unwrap_or(self)
    }

    /// The same session with plans that hold 64-bit integers in 64 bits; the error where there is none.
    pub(super) fn widened(&self, error: Error) -> Result<Arc<Core>> {
        if self.options.bits != IntegerBits::Enough {
            return Err(error);
        }
        if let Some(wide) = self.wide.get() {
            return Ok(wide.clone());
        }
        let options = SessionOptions { bits: IntegerBits::Always64, ..self.options.clone() };
        let (graph, names) = (self.entry.graph.clone(), self.entry.names.clone());
        let core = Core::new(&self.device, graph, names, options, self.keep.clone())?;
        let (inputs, outputs) = (self.inputs.clone(), self.outputs.clone());
        let core = Core { inputs, outputs, before_passes: self.before_passes.clone(), ..core };
        event!(INFO, "integers of 64 bits");
        // Another thread may have made one in between.
        Ok(self.wide.get_or_init(|| Arc::new(core)).clone())
    }

    async fn outputs_async(self: &Arc<Core>, feeds: &Feeds<'_, '_>) -> Result<(Vec<Arc<str>>, Vec<Datum>)> {
        let read = self.lying_otherwise(feeds)?;
        let given = self.ordered(&replaced(feeds, &read), None)?;
        let names = given.entry.names.clone();
        Ok((names, self.values_async(given).await?))
    }

    /// Those inputs on the device whose integers lie in another number of bits than the plans read, from there.
    fn lying_otherwise(&self, feeds: &Feeds) -> Result<Vec<Option<Tensor>>> {
        let read = |(_, input): &(&str, Input)| match input {
            Input::Device(tensor) if !tensor.lies_as(self.integers()) => tensor.read().map(Some),
            _ => Ok(None),
        };
        feeds.iter().map(read).collect()
    }
}

/// The inputs, with these in their places.
fn replaced<'n, 'a>(feeds: &Feeds<'n, 'a>, read: &'a [Option<Tensor>]) -> Vec<(&'n str, Input<'a>)> {
    let given = |((name, input), read): (&(&'n str, Input<'a>), &'a Option<Tensor>)| match read {
        Some(tensor) => (*name, Input::Tensor(tensor)),
        None => (*name, *input),
    };
    feeds.iter().zip(read).map(given).collect()
}
