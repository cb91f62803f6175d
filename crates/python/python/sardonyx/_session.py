"""`Session`: what its native class does not do."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from . import _native
from ._outputs import Outputs


class Session(_native.Session):
    """A model made ready on a device. Several threads may run it at once.

    The first run for a signature of input shapes makes a plan and creates everything that it needs on the device; further runs
    create nothing. `prepare` does that work before there are data.
    """

    async def run_async(self, inputs: Mapping[str, Any], outputs: Iterable[str] | None = None) -> Outputs:
        """As `run`, without blocking the event loop. Cancelling the task cancels what has not been submitted."""
        # Most programs await nothing.
        import asyncio

        if outputs is not None or self.device.is_reference:
            # The reference computes everything in the call, and only whole runs are futures.
            names = None if outputs is None else list(outputs)
            return await asyncio.to_thread(self.run, inputs, names)
        loop, run = asyncio.get_running_loop(), self._start(inputs)
        try:
            while True:
                woken = asyncio.Event()
                made = run.poll(lambda woken=woken: loop.call_soon_threadsafe(woken.set))
                if made is not None:
                    return made
                await woken.wait()
        finally:
            run.cancel()
